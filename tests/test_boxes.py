"""Boxes of characters: the table, and boxes in the square that a network sees."""

import cv2
import numpy as np
import pandas as pd
import pytest

from lib.data import boxes, dataset, pictures
from tests.noise_pictures import noise, prepare, write, write_two_characters


def test_the_archives_boxes_are_complete_and_within_the_pictures():
    every = pd.read_csv(boxes.KAGGLE_BOXES)
    found = np.array(list(boxes.read(every).values()))
    assert found.shape == (6_100, 4) and found.min() >= 0 and found.max() <= 1
    assert (found[:, :2] < found[:, 2:]).all()


def test_other_pictures_of_the_same_names_have_no_boxes():
    every = pd.read_csv(boxes.KAGGLE_BOXES)
    of_bart = every[every.path.str.startswith("bart_simpson/")]
    assert boxes.read(of_bart[:50]) == {}  # such as the drawn sample
    assert boxes.read(of_bart).keys() == {*of_bart.path}


@pytest.mark.parametrize("shape", [(96, 128), (240, 80), (100, 100)])
def test_a_box_covers_the_same_part_of_the_square_as_of_the_picture(shape):
    picture = np.random.default_rng(0).integers(0, 60, (*shape, 3), dtype="uint8")  # noise: no border to crop
    height, width = shape
    box = np.array([0.25, 0.4, 0.75, 0.9])
    left, top, right, bottom = np.rint(box * [width, height, width, height]).astype(int)
    picture[top:bottom, left:right] = 255
    square = pictures.resize_framed(picture, 64, "bounded")
    rows, columns = np.where(square.pixels.min(axis=2) > 200)
    expected = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / 64
    assert square.framing.to_square(box) == pytest.approx(expected, abs=1.5 / 64)


def test_a_prepared_picture_whose_borders_were_cropped_has_no_box(tmp_path, monkeypatch):
    folder = write_two_characters(tmp_path / "raw")
    write(
        folder / "bart" / "border.png",
        cv2.copyMakeBorder(noise(300), 9, 9, 9, 90, cv2.BORDER_CONSTANT, value=[255] * 3),
    )
    prepare(folder, tmp_path / "processed", resize_mode="bounded", picture_size=96)
    data = dataset.load(tmp_path / "processed")
    box = np.array([0.2, 0.3, 0.6, 0.7])
    monkeypatch.setattr(boxes, "read", lambda table: dict.fromkeys(data.table.path, box))
    found = dict(zip(data.table.path, boxes.of_dataset(data)[data.table.image], strict=True))
    assert np.isnan(found.pop("bart/border.png")).all()
    assert np.array(list(found.values())) == pytest.approx(np.tile(box, (40, 1)))


def test_a_box_in_the_square_and_back_is_where_it_was():
    framing = pictures.Framing((10, 5, 90, 65), (64, 48), (70, 100), 64)
    box = np.array([0.3, 0.3, 0.6, 0.7])
    assert framing.from_square(framing.to_square(box)) == pytest.approx(box)
