import numpy as np
import pytest

from lib.data import boxes, pictures
from lib.errors import UserError


def test_boxes_are_read_by_path(tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text("path,left,top,right,bottom\nbart_simpson/pic_0001.jpg,0.1,0.2,0.5,0.9\n")
    read = boxes.read(path)
    assert read["bart_simpson/pic_0001.jpg"].tolist() == [0.1, 0.2, 0.5, 0.9]


@pytest.mark.parametrize("row", ["a.jpg,0.5,0.2,0.5,0.9", "a.jpg,0.1,0.2,1.2,0.9", "a.jpg,,0.2,0.5,0.9"])
def test_a_box_that_is_none_is_rejected(tmp_path, row):
    path = tmp_path / "boxes.csv"
    path.write_text(f"path,left,top,right,bottom\n{row}\n")
    with pytest.raises(UserError, match="empty or leave"):
        boxes.read(path)


def test_a_missing_table_is_told(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        boxes.read(tmp_path / "boxes.csv")


@pytest.mark.parametrize("shape", [(96, 128), (240, 80), (100, 100)])
def test_a_box_covers_the_same_part_of_the_square_as_of_the_picture(shape):
    picture = np.random.default_rng(0).integers(0, 60, (*shape, 3), dtype="uint8")  # busy: no margin to crop
    height, width = shape
    box = np.array([0.25, 0.4, 0.75, 0.9])
    left, top, right, bottom = np.rint(box * [width, height, width, height]).astype(int)
    picture[top:bottom, left:right] = 255
    square = pictures.resize(picture, 64, "bounded")
    rows, columns = np.where(square.min(axis=2) > 200)
    framing = pictures.framing(picture, 64, "bounded")
    expected = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / 64
    assert boxes.to_square(box, framing, shape, 64) == pytest.approx(expected, abs=1.5 / 64)


def test_there_and_back_is_where_it_was():
    framing = pictures.Framing((10, 5, 90, 65), (64, 48))
    box = np.array([0.3, 0.3, 0.6, 0.7])
    there = boxes.to_square(box, framing, (70, 100), 64)
    assert boxes.from_square(there, framing, (70, 100), 64) == pytest.approx(box)
