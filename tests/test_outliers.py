import zipfile

import cv2
import numpy as np
import pytest

from lib.data import sample_figures
from lib.errors import UserError
from lib.training import outliers


@pytest.mark.parametrize("make", [outliers.pattern, outliers.text, outliers.scenery, outliers.figure])
def test_pictures_of_nobody_differ_and_follow_from_their_seed(make):
    made = [make(32, np.random.default_rng(seed)) for seed in range(12)]
    assert all(picture.shape == (32, 32, 3) and picture.dtype == np.uint8 for picture in made)
    assert len({picture.tobytes() for picture in made}) > 6
    assert (made[3] == make(32, np.random.default_rng(3))).all()


def test_a_caption_changes_part_of_a_copy():
    picture = np.full((96, 96, 3), 120, "uint8")
    for seed in range(10):
        captioned = outliers.caption(picture, np.random.default_rng(seed))
        assert 0.005 < (captioned != picture).any(axis=2).mean() < 0.75
    assert (picture == 120).all()


def test_an_invented_figure_has_a_skin_and_hair_of_no_character():
    skins = {row.skin for row in sample_figures.FEATURES.values()}
    for seed in range(30):
        features = outliers.stranger(np.random.default_rng(seed))
        assert features.skin not in skins
        assert features.hair not in outliers.SIGNATURES


def test_a_background_comes_from_beside_the_box():
    picture = np.zeros((96, 96, 3), "uint8")
    picture[:, :48] = 255  # the character
    for seed in range(10):
        part = outliers.background(picture, np.array([0.0, 0.0, 0.5, 1.0]), np.random.default_rng(seed))
        assert part.shape == picture.shape
        assert part.mean() < 10


def test_a_box_that_leaves_no_room_has_no_background():
    assert (
        outliers.background(np.zeros((96, 96, 3), "uint8"), np.array([0.2, 0, 0.8, 1]), np.random.default_rng(0))
        is None
    )


def test_variants_of_a_drawing_are_in_one_split():
    names = [f"animals/{name}_{number}.png" for name in "abcdefghij" for number in range(3)]
    split = outliers.split_by_name(names)
    assert sorted(np.concatenate(list(split.values()))) == list(range(30))
    of = {place: name for name, places in split.items() for place in places}
    assert all(of[3 * n] == of[3 * n + 1] == of[3 * n + 2] for n in range(10))
    assert len(split["train"]) == 18


def test_an_archive_is_read_without_what_is_no_picture(tmp_path):
    path = tmp_path / "strangers.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("b.png", cv2.imencode(".png", np.zeros((40, 40, 3), "uint8"))[1].tobytes())
        archive.writestr("readme.txt", "no picture")
    pictures, names = outliers.read_zip(path, 32)
    assert pictures.shape == (1, 32, 32, 3)
    assert names == ["b.png"]
    with pytest.raises(UserError, match="cannot be read"):
        outliers.read_zip(tmp_path / "missing.zip", 32)
