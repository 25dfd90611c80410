import io

import cv2
import numpy as np
import pytest
from PIL import Image

from lib.evaluation import corruptions

EVERY = [(kind, strength) for kind in corruptions.KINDS for strength in corruptions.STRENGTHS]


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (72, 96, 3), dtype="uint8")


@pytest.mark.parametrize(("kind", "strength"), EVERY)
def test_a_corruption_gives_another_picture_and_leaves_the_original(picture, kind, strength):
    before = picture.copy()
    changed = corruptions.corrupt(picture, kind, strength, seed=1)
    np.testing.assert_array_equal(picture, before)
    assert changed.dtype == np.uint8 and changed.ndim == 3 and changed.shape[2] == 3
    assert changed.shape != picture.shape or (changed != picture).any()


@pytest.mark.parametrize(("kind", "strength"), EVERY)
def test_the_same_seed_corrupts_in_the_same_way(picture, kind, strength):
    first, second = (corruptions.corrupt(picture, kind, strength, seed=5) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_on_white_the_picture_takes_a_fraction_of_the_page(picture):
    # A half, a quarter and a tenth of the page.
    for strength, ratio in zip(corruptions.STRENGTHS, (2, 4, 10), strict=True):
        page = corruptions.corrupt(picture, "small_on_white", strength, seed=0)
        assert page.size / picture.size == pytest.approx(ratio, rel=0.03)


def test_the_place_on_the_stripes_depends_on_the_seed(picture):
    places = set()
    for seed in range(6):
        poster = corruptions.corrupt(picture, "small_on_stripes", "strong", seed)
        places.add(cv2.minMaxLoc(cv2.matchTemplate(poster, picture, cv2.TM_SQDIFF))[2])
    assert len(places) == 6


def test_jpeg_compression_matches_that_of_another_library(picture):
    picture = cv2.GaussianBlur(picture, (0, 0), 2)
    saved = io.BytesIO()
    Image.fromarray(picture).save(saved, "JPEG", quality=20)
    expected = np.asarray(Image.open(saved)).astype(int)
    assert np.abs(corruptions.corrupt(picture, "jpeg_at_low_quality", "slight", 0) - expected).mean() < 1


def test_the_strongest_desaturation_is_grey(picture):
    grey = corruptions.corrupt(picture, "faded_to_grey", "strong", seed=0)
    assert (grey.max(axis=2) == grey.min(axis=2)).all()


def test_a_cut_out_keeps_the_figure_and_whitens_the_background():
    picture = np.full((60, 60, 3), (40, 90, 200), dtype="uint8")
    picture[20:55, 22:38] = (250, 220, 20)
    cut = corruptions.corrupt(picture, "cut_out_on_white", "medium", seed=0)
    assert (cut[:15] == 255).all()
    np.testing.assert_array_equal(cut[25:50, 26:34], picture[25:50, 26:34])
