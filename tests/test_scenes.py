"""Scenes: boxes follow their pictures, composites know both characters, and the targets say so."""

import numpy as np
import pytest

from lib.training import augmentation, scenes
from lib.training.recipe import Recipe
from lib.training.scenes import Scene

UNKNOWN_BOX = np.full(4, np.nan)


def marked(box, size=48, label=0):
    """Draw a white box on black, and give its scene."""
    picture = np.zeros((size, size, 3), "uint8")
    left, top, right, bottom = (round(side * size) for side in box)
    picture[top:bottom, left:right] = 255
    return scenes.of_one(picture, label, np.array(box))


def bright_box(picture):
    rows, columns = np.where(picture[:, :, 0] > 127)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / len(picture)


def moved(scene, **amounts):
    recipe = Recipe(network="cnn", **{"shift": 0.0, "flip": False} | amounts)
    return lambda seed: scene.moved(*augmentation.augment_located(scene.picture, recipe, np.random.default_rng(seed)))


@pytest.mark.parametrize("seed", range(8))
def test_a_box_follows_its_picture_through_shift_flip_and_zoom(seed):
    scene = moved(marked((0.4, 0.35, 0.6, 0.7)), shift=0.1, flip=True, zoom=0.25)(seed)
    assert scene.boxes[0] == pytest.approx(bright_box(scene.picture), abs=1.5 / 48)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("change", ["shrink_and_paste", "background_swap"])
def test_a_box_follows_a_picture_that_is_shrunk_or_cropped_to_its_figure(change, seed):
    scene = moved(marked((0.25, 0.25, 0.75, 1.0)), **{change: 1.0})(seed)
    left, top, right, bottom = (round(side * 48) for side in scene.boxes[0])
    assert scene.picture[top + 1 : bottom - 1, left + 1 : right - 1].mean() > 240


def test_without_augmentation_everything_stays():
    scene = marked((0.25, 0.25, 0.75, 0.75))
    same = moved(scene)(0)
    np.testing.assert_array_equal(same.picture, scene.picture)
    assert same.boxes[0] == pytest.approx(scene.boxes[0])


def test_a_character_mostly_outside_keeps_its_label_and_loses_its_place():
    inside, outside = np.array([0.5, 0.5, 1.1, 1.0]), np.array([0.9, 0.1, 1.5, 0.6])
    scene = Scene(np.zeros((8, 8, 3), "uint8"), (0, 1), (inside, outside), (True, True)).clipped()
    assert (scene.labels, scene.exact) == ((0, 1), (True, False))
    np.testing.assert_array_equal(scene.boxes[1], scenes.WHOLE)


@pytest.mark.parametrize("seed", range(20))  # some of them one above the other
def test_side_by_side_each_is_on_its_side(seed):
    first = marked((0.2, 0.2, 0.8, 0.8))
    second = scenes.of_one(first.picture, 1, UNKNOWN_BOX)
    pair = scenes.side_by_side(first, second, np.random.default_rng(seed))
    assert (pair.labels, pair.exact) == ((0, 1), (True, False))
    assert pair.picture.shape == first.picture.shape
    a, b = pair.boxes
    assert a[2] <= b[0] + 1e-9 or a[3] <= b[1] + 1e-9


def test_one_character_twice_has_one_label_somewhere():
    pair = scenes.side_by_side(marked((0.2, 0.2, 0.8, 0.8)), marked((0.2, 0.2, 0.8, 0.8)), np.random.default_rng(0))
    assert (pair.labels, pair.exact) == ((0,), (False,))


def test_a_stranger_beside_a_character_adds_no_label():
    stranger = Scene(np.full((48, 48, 3), 9, "uint8"))
    assert scenes.side_by_side(marked((0.2, 0.2, 0.8, 0.8)), stranger, np.random.default_rng(0)).labels == (0,)


@pytest.mark.parametrize("seed", range(6))
def test_a_cropped_part_contains_the_box(seed):
    part = scenes.crop_around(marked((0.3, 0.1, 0.6, 0.5)), np.random.default_rng(seed))
    assert part.boxes[0] == pytest.approx(bright_box(part.picture), abs=0.06)


@pytest.mark.parametrize("seed", range(6))
def test_a_pasted_figure_hides_little_and_is_where_its_box_says(seed):
    scene = marked((0.0, 0.0, 0.4, 1.0))
    red = np.zeros((48, 48, 3), "uint8")
    red[10:40, 15:35, 0] = 200
    other = scenes.of_one(red, 1, np.array([15, 10, 35, 40]) / 48)
    pasted = scenes.paste_beside(scene, other, (red[:, :, 0] > 0).astype("uint8"), np.random.default_rng(seed))
    assert pasted.labels == (0, 1)
    rows, columns = np.where((pasted.picture[:, :, 0] == 200) & (pasted.picture[:, :, 1] == 0))
    found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / 48
    assert pasted.boxes[1] == pytest.approx(found, abs=1.5 / 48)
    hidden = ((scene.picture == 255) & (pasted.picture != 255)).any(axis=2).sum()
    assert hidden <= scenes.MAX_HIDDEN * (scene.picture[:, :, 0] == 255).sum() + 48


def test_a_figure_without_a_place_is_not_pasted():
    scene = marked((0.4, 0.4, 0.6, 0.6))
    other, mask = scenes.of_one(scene.picture, 1, UNKNOWN_BOX), np.ones((48, 48), "uint8")
    assert any(scenes.paste_beside(scene, other, mask, np.random.default_rng(seed)) is scene for seed in range(20))


@pytest.mark.parametrize("seed", range(10))
def test_a_part_beside_a_character_does_not_show_it(seed):
    picture = np.zeros((96, 96, 3), "uint8")
    picture[:, :48] = 255  # the character
    part = scenes.beside(picture, np.array([0.0, 0.0, 0.5, 1.0]), np.random.default_rng(seed))
    assert part.shape == picture.shape and part.mean() < 10
    assert scenes.beside(picture, np.array([0.2, 0, 0.8, 1]), np.random.default_rng(seed)) is None  # no room


def test_the_probability_is_divided_among_all_characters_or_is_nobodys():
    black = np.zeros((48, 48, 3), "uint8")
    both = Scene(black, (0, 2), (scenes.WHOLE, scenes.WHOLE), (True, True))
    assert scenes.target(both, 3).tolist() == [0.5, 0, 0.5, 0]
    assert scenes.target(Scene(black), 3).tolist() == [0, 0, 0, 1]


def test_a_cell_holds_the_fraction_that_the_box_covers():
    # Two cells of four: the box covers the upper left one and half of the upper right one.
    cells = scenes.cell_target(marked((0.0, 0.0, 0.75, 0.5), label=1), 2, 2)
    assert cells[:, :, 1].tolist() == [[1, 0.5], [0, 0]]
    assert (cells[:, :, 0] == 0).all()


def test_a_character_without_a_box_is_somewhere():
    cells = scenes.cell_target(scenes.of_one(np.zeros((48, 48, 3), "uint8"), 0, UNKNOWN_BOX), 2, 3)
    assert (cells[:, :, 0] == scenes.SOMEWHERE).all() and (cells[:, :, 1] == 0).all()
