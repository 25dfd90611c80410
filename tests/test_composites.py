import numpy as np
import pytest

from lib.data.batches import Augmentation
from lib.training import composites, located


def marked(box, size=48):
    """Draw a white box on black, and give its scene."""
    picture = np.zeros((size, size, 3), "uint8")
    left, top, right, bottom = (round(side * size) for side in box)
    picture[top:bottom, left:right] = 255
    return composites.single(picture, 0, np.array(box))


def bright_box(picture):
    rows, columns = np.where(picture[:, :, 0] > 127)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / len(picture)


@pytest.mark.parametrize("seed", range(8))
def test_a_box_follows_its_picture_through_shift_flip_and_zoom(seed):
    scene = marked((0.4, 0.35, 0.6, 0.7))
    change = Augmentation(shift=0.1, flip=True, zoom=0.25)
    moved = scene.moved(*located.augment(scene.picture, change, np.random.default_rng(seed)))
    assert moved.boxes[0] == pytest.approx(bright_box(moved.picture), abs=1.5 / 48)


@pytest.mark.parametrize("seed", range(8))
def test_a_box_follows_a_picture_that_is_shrunk_or_cut_out(seed):
    scene = marked((0.25, 0.25, 0.75, 1.0))
    picture, matrix = located._shrink_and_paste(scene.picture, np.random.default_rng(seed))
    moved = scene.moved(picture, located._to_shares(matrix, len(picture)))
    left, top, right, bottom = (round(side * 48) for side in moved.boxes[0])
    assert picture[top + 1 : bottom - 1, left + 1 : right - 1].mean() > 240


def test_what_is_not_augmented_stays():
    scene = marked((0.25, 0.25, 0.75, 0.75))
    picture, matrix = located.augment(scene.picture, Augmentation(), np.random.default_rng(0))
    assert (picture == scene.picture).all()
    assert matrix == pytest.approx(np.eye(2, 3))


@pytest.mark.parametrize("seed", range(20))  # some of them one above the other
def test_side_by_side_each_is_on_its_side(seed):
    first, second = marked((0.2, 0.2, 0.8, 0.8)), marked((0.2, 0.2, 0.8, 0.8))
    second = composites.single(second.picture, 1)
    pair = composites.side_by_side(first, second, np.random.default_rng(seed))
    assert pair.labels == (0, 1)
    assert pair.exact == (True, False)
    assert pair.picture.shape == first.picture.shape
    a, b = pair.boxes
    assert a[2] <= b[0] + 1e-9 or a[3] <= b[1] + 1e-9


def test_one_character_twice_has_one_name_somewhere():
    pair = composites.side_by_side(marked((0.2, 0.2, 0.8, 0.8)), marked((0.2, 0.2, 0.8, 0.8)), np.random.default_rng(0))
    assert pair.labels == (0,)
    assert pair.exact == (False,)


@pytest.mark.parametrize("seed", range(6))
def test_a_part_keeps_the_box(seed):
    scene = marked((0.3, 0.1, 0.6, 0.5))
    part = composites.crop_around(scene, np.random.default_rng(seed))
    assert (part.boxes[0] > -0.05).all() and (part.boxes[0] < 1.05).all()
    assert part.boxes[0] == pytest.approx(bright_box(part.picture), abs=0.06)


def test_a_stranger_beside_a_character_adds_no_name():
    scene = composites.side_by_side(
        marked((0.2, 0.2, 0.8, 0.8)), composites.Scene(np.full((48, 48, 3), 9, "uint8")), np.random.default_rng(0)
    )
    assert scene.labels == (0,)


@pytest.mark.parametrize("seed", range(6))
def test_a_pasted_figure_leaves_the_other_visible_and_is_where_its_box_says(seed):
    scene = marked((0.0, 0.0, 0.4, 1.0))
    red = np.zeros((48, 48, 3), "uint8")
    red[10:40, 15:35, 0] = 200
    other = composites.single(red, 1, np.array([15, 10, 35, 40]) / 48)
    pasted = composites.paste_beside(scene, other, (red[:, :, 0] > 0).astype("uint8"), np.random.default_rng(seed))
    assert pasted.labels == (0, 1)
    is_red = (pasted.picture[:, :, 0] == 200) & (pasted.picture[:, :, 1] == 0)
    rows, columns = np.where(is_red)
    found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / 48
    assert pasted.boxes[1] == pytest.approx(found, abs=1.5 / 48)
    hidden = ((scene.picture == 255) & (pasted.picture != 255)).any(axis=2).sum()
    assert hidden <= 0.35 * (scene.picture[:, :, 0] == 255).sum() + 48


def test_a_figure_for_which_there_is_no_place_is_not_pasted():
    scene = marked((0.4, 0.4, 0.6, 0.6))
    everywhere = composites.single(scene.picture, 1)
    # A figure of up to three quarters of the side mostly hides a small box in the middle.
    huge = np.ones((48, 48), "uint8")
    placed = [composites.paste_beside(scene, everywhere, huge, np.random.default_rng(seed)) for seed in range(20)]
    assert all(each.labels in ((0,), (0, 1)) for each in placed)
    assert any(each is scene for each in placed)


def test_targets_share_the_answer_among_all_and_give_it_to_nobody_where_there_is_none():
    black = np.zeros((48, 48, 3), "uint8")
    box = composites.WHOLE
    assert composites.target(composites.Scene(black, (0, 2), (box, box), (True, True)), 3).tolist() == [0.5, 0, 0.5, 0]
    assert composites.target(composites.Scene(black), 3).tolist() == [0, 0, 0, 1]


def test_cells_hold_the_share_that_the_box_covers():
    # Two cells of four across: the box covers the left one and half of the right one, in the upper row alone.
    scene = composites.single(np.zeros((48, 48, 3), "uint8"), 1, np.array([0.0, 0.0, 0.75, 0.5]))
    cells = composites.cell_target(scene, 2, 2)
    assert cells[:, :, 1].tolist() == [[1, 0.5], [0, 0]]
    assert (cells[:, :, 0] == 0).all()


def test_a_character_without_a_box_is_somewhere():
    cells = composites.cell_target(composites.single(np.zeros((48, 48, 3), "uint8"), 0), 2, 3)
    assert (cells[:, :, 0] == composites.SOMEWHERE).all()
    assert (cells[:, :, 1] == 0).all()
