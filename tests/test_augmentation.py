"""Augmentation changes pictures at random and leaves characters recognisable."""

import cv2
import numpy as np
import pytest

from lib.training import augmentation
from lib.training.recipe import Recipe


def recipe(**amounts):
    """A recipe with no other augmentation than the given one."""
    return Recipe(network="cnn", **({"shift": 0.0, "flip": False} | amounts))


def augment(picture, recipe, rng):
    return augmentation.augment(picture, recipe, rng)[0]


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype="uint8")


def test_without_augmentation_a_picture_is_unchanged(picture):
    np.testing.assert_array_equal(augment(picture, recipe(), np.random.default_rng(0)), picture)


@pytest.mark.parametrize(
    ("name", "amount"),
    [
        ("zoom", 0.4),
        ("rotate", 20.0),
        ("colour_jitter", 0.4),
        ("random_erasing", 0.4),
        ("shrink_and_paste", 1.0),
        ("quality_jitter", 1.0),
    ],
)
def test_each_augmentation_changes_pixels_but_not_shape_and_type(picture, name, amount):
    changed = augment(picture, recipe(**{name: amount}), np.random.default_rng(1))
    assert (changed.shape, changed.dtype) == (picture.shape, picture.dtype)
    assert not np.array_equal(changed, picture)


@pytest.mark.parametrize("seed", range(40))
def test_each_style_changes_pixels_but_not_shape_and_type(seed):
    rng = np.random.default_rng(seed)
    picture = cv2.GaussianBlur(rng.integers(0, 256, (48, 48, 3), dtype="uint8"), (0, 0), 2)
    changed = augment(picture, recipe(style_jitter=1.0), rng)
    assert (changed.shape, changed.dtype) == (picture.shape, picture.dtype)
    assert not np.array_equal(changed, picture)


def test_a_shift_moves_by_at_most_its_fraction_and_repeats_the_edge():
    # A column of 100 at x = 8 of 20; a tenth of 20 pixels is 2.
    picture = np.zeros((20, 20, 3), dtype="uint8")
    picture[:, 8] = 100
    rng = np.random.default_rng(0)
    shifted = [augment(picture, recipe(shift=0.1), rng) for _ in range(200)]
    assert {int(np.flatnonzero(each[0, :, 0])[0]) for each in shifted} == {6, 7, 8, 9, 10}


def test_a_flip_mirrors_about_half_of_the_pictures(picture):
    rng = np.random.default_rng(0)
    changed = [augment(picture, recipe(flip=True), rng) for _ in range(400)]
    mirrored = sum(np.array_equal(each, picture[:, ::-1]) for each in changed)
    unchanged = sum(np.array_equal(each, picture) for each in changed)
    assert mirrored + unchanged == 400
    # Four standard deviations of 400 tosses of a fair coin are 40.
    assert 160 < mirrored < 240


@pytest.mark.parametrize("seed", range(20))
def test_a_flip_with_interpolation_equals_the_flip_without(picture, seed):
    plain = augment(picture, recipe(flip=True), np.random.default_rng(seed))
    interpolated = augment(picture, recipe(flip=True, zoom=1e-9), np.random.default_rng(seed))
    np.testing.assert_array_equal(interpolated, plain)


@pytest.mark.parametrize("seed", range(20))
def test_rotation_and_zoom_keep_the_centre(seed):
    # A dot in the centre of 21 pixels stays there, whatever the angle.
    picture = np.zeros((21, 21, 3), dtype="uint8")
    picture[9:12, 9:12] = 255
    changed = augment(picture, recipe(rotate=40.0, zoom=0.3), np.random.default_rng(seed))
    rows, columns = np.nonzero(changed[:, :, 0] > 100)
    assert abs(rows.mean() - 10) < 0.3 and abs(columns.mean() - 10) < 0.3


@pytest.mark.parametrize("seed", range(5))
def test_a_swapped_background_leaves_the_figure(seed):
    picture = np.full((32, 32, 3), (90, 140, 220), dtype="uint8")
    # 10 of 32 pixels wide: too thin to be enlarged.
    picture[8:, 11:21] = 0
    picture[9:, 12:20] = (250, 220, 20)
    changed = augment(picture, recipe(background_swap=1.0), np.random.default_rng(seed))
    np.testing.assert_array_equal(changed[8:, 11:21], picture[8:, 11:21])
    assert (changed[:6] != picture[:6]).any()


def test_a_background_that_includes_the_figure_is_not_swapped():
    plain = np.full((16, 16, 3), 77, dtype="uint8")
    changed = augment(plain, recipe(background_swap=1.0), np.random.default_rng(0))
    np.testing.assert_array_equal(changed, plain)


def test_half_of_the_figures_on_a_swapped_background_are_enlarged_to_the_whole_picture():
    # A dark figure of 20 × 24 pixels in the middle of 48 × 48; enlarged, it reaches all edges.
    picture = np.full((48, 48, 3), 200, dtype="uint8")
    picture[14:38, 14:34] = 20
    changed = [augment(picture, recipe(background_swap=1.0), np.random.default_rng(seed)) for seed in range(40)]
    enlarged = sum((each[0] < 60).all() and (each[-1] < 60).all() for each in changed)
    assert 10 < enlarged < 30
