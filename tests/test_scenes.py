"""Boxes follow their pictures, composites know both characters, the targets say so, and a network trains on them."""

import dataclasses

import keras
import numpy as np
import pytest

from lib.training import augmentation, losses, networks, scenes
from lib.training.recipe import Recipe
from lib.training.scenes import Character, Scene
from tests import small_data

UNKNOWN_BOX = np.full(4, np.nan)


def marked(box, size=48, label=0):
    """Draw a white box on black, and give its scene."""
    picture = np.zeros((size, size, 3), "uint8")
    left, top, right, bottom = (round(side * size) for side in box)
    picture[top:bottom, left:right] = 255
    return scenes.of_one(picture, label, np.array(box))


def known(scene):
    return [(each.label, each.exact) for each in scene.characters]


def bright_box(picture):
    rows, columns = np.where(picture[:, :, 0] > 127)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / len(picture)


def moved(scene, **amounts):
    recipe = Recipe(network="cnn", **{"shift": 0.0, "flip": False} | amounts)
    return lambda seed: scene.moved(*augmentation.augment(scene.picture, recipe, np.random.default_rng(seed)))


@pytest.mark.parametrize("seed", range(8))
def test_a_box_follows_its_picture_through_shift_flip_and_zoom(seed):
    scene = moved(marked((0.4, 0.35, 0.6, 0.7)), shift=0.1, flip=True, zoom=0.25)(seed)
    assert scene.characters[0].box == pytest.approx(bright_box(scene.picture), abs=1.5 / 48)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("change", ["shrink_and_paste", "background_swap"])
def test_a_box_follows_a_picture_that_is_shrunk_or_cropped_to_its_figure(change, seed):
    scene = moved(marked((0.25, 0.25, 0.75, 1.0)), **{change: 1.0})(seed)
    left, top, right, bottom = (round(side * 48) for side in scene.characters[0].box)
    assert scene.picture[top + 1 : bottom - 1, left + 1 : right - 1].mean() > 240


def test_without_augmentation_everything_stays():
    scene = marked((0.25, 0.25, 0.75, 0.75))
    same = moved(scene)(0)
    np.testing.assert_array_equal(same.picture, scene.picture)
    assert same.characters[0].box == pytest.approx(scene.characters[0].box)


def test_a_character_mostly_outside_keeps_its_label_and_loses_its_place():
    inside, outside = np.array([0.5, 0.5, 1.1, 1.0]), np.array([0.9, 0.1, 1.5, 0.6])
    both = (Character(0, inside, exact=True), Character(1, outside, exact=True))
    scene = Scene(np.zeros((8, 8, 3), "uint8"), both).clipped()
    assert known(scene) == [(0, True), (1, False)]
    np.testing.assert_array_equal(scene.characters[1].box, scenes.WHOLE)


@pytest.mark.parametrize("seed", range(20))  # some of them one above the other
def test_side_by_side_each_is_on_its_side(seed):
    first = marked((0.2, 0.2, 0.8, 0.8))
    second = scenes.of_one(first.picture, 1, UNKNOWN_BOX)
    pair = scenes.side_by_side(first, second, np.random.default_rng(seed))
    assert known(pair) == [(0, True), (1, False)]
    assert pair.picture.shape == first.picture.shape
    a, b = (each.box for each in pair.characters)
    assert a[2] <= b[0] + 1e-9 or a[3] <= b[1] + 1e-9


def test_one_character_twice_has_one_label_somewhere():
    pair = scenes.side_by_side(marked((0.2, 0.2, 0.8, 0.8)), marked((0.2, 0.2, 0.8, 0.8)), np.random.default_rng(0))
    assert known(pair) == [(0, False)]


def test_a_stranger_beside_a_character_adds_no_label():
    stranger = Scene(np.full((48, 48, 3), 9, "uint8"))
    pair = scenes.side_by_side(marked((0.2, 0.2, 0.8, 0.8)), stranger, np.random.default_rng(0))
    assert known(pair) == [(0, True)]


@pytest.mark.parametrize("seed", range(6))
def test_a_cropped_part_contains_the_box(seed):
    part = scenes.crop_around(marked((0.3, 0.1, 0.6, 0.5)), np.random.default_rng(seed))
    assert part.characters[0].box == pytest.approx(bright_box(part.picture), abs=0.06)


@pytest.mark.parametrize("seed", range(6))
def test_a_pasted_figure_hides_little_and_is_where_its_box_says(seed):
    scene = marked((0.0, 0.0, 0.4, 1.0))
    red = np.zeros((48, 48, 3), "uint8")
    red[10:40, 15:35, 0] = 200
    other = scenes.of_one(red, 1, np.array([15, 10, 35, 40]) / 48)
    pasted = scenes.paste_beside(scene, other, (red[:, :, 0] > 0).astype("uint8"), np.random.default_rng(seed))
    assert known(pasted) == [(0, True), (1, True)]
    rows, columns = np.where((pasted.picture[:, :, 0] == 200) & (pasted.picture[:, :, 1] == 0))
    found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / 48
    assert pasted.characters[1].box == pytest.approx(found, abs=1.5 / 48)
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
    both = Scene(black, tuple(Character(label, scenes.WHOLE, exact=True) for label in (0, 2)))
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


# ---------------------------------------------------------------- batches

SIZE, NUM_CHARACTERS = 32, 3
EVERYTHING = {"composites": 0.5, "nobody": 0.5, "captions": 0.5}


def recipe(**settings):
    return Recipe(network="springfield", class_map=True, batch_size=8, width=16, dropout=0.0, **settings)


def batches_of(images, labels, places, settings, training=True, seconds=None):
    white = np.full((2, SIZE, SIZE, 3), 255, "uint8")
    given = (images, labels, np.arange(len(images)), NUM_CHARACTERS, settings, training)
    seconds = np.full(len(images), -1) if seconds is None else seconds
    return scenes.SceneBatches(*given, places=places, seconds=seconds, nobody=white, figure=lambda number: white[0] * 0)


def make(rows=20, training=True, **settings):
    images = np.random.default_rng(0).integers(0, 256, (rows, SIZE, SIZE, 3), dtype="uint8")
    places = np.full((rows, 4), np.nan)
    places[::2] = (0.2, 0.2, 0.8, 0.8)
    return batches_of(images, np.arange(rows) % NUM_CHARACTERS, places, recipe(**settings), training)


def epoch(made):
    parts = [made[position] for position in range(len(made))]
    targets = {name: np.concatenate([part[1][name] for part in parts]) for name in parts[0][1]}
    return np.concatenate([pictures for pictures, _ in parts]), targets


def test_validation_shows_every_picture_once_as_it_is():
    made = make(training=False)
    pictures, targets = epoch(made)
    np.testing.assert_array_equal(pictures, made.images)
    assert targets["probabilities"].sum(axis=0).tolist() == [7, 7, 6, 0]
    assert targets["class_map"].shape == (20, 2, 2, NUM_CHARACTERS)


def test_composites_divide_the_probability():
    _, targets = epoch(make(composites=1.0))
    assert {0.5, 1.0} == set(targets["probabilities"].max(axis=1))


def test_a_second_character_that_a_reviewer_saw_is_learnt_and_is_somewhere(monkeypatch):
    monkeypatch.setattr(scenes, "FIGURES", 2)
    data = small_data.dataset(SIZE)
    train, test = (data.table.path[data.table.split == split].iloc[0] for split in ("train", "test"))
    seen = {train: "lisa_simpson", data.table.path[1]: "somebody else", data.table.path[2]: data.table.character[2]}
    seconds = data.table.path.map(seen | {test: "bart_simpson"}).fillna("")
    data = dataclasses.replace(data, table=data.table.assign(second_character=seconds))
    made = scenes.for_training(data, recipe(drawings_per_character=0, composites=1.0))
    assert made.seconds[made.rows].tolist() == [2] + [-1] * (len(made.rows) - 1)
    scene = made._augmented(made.rows[0], np.random.default_rng(0))
    assert [each.label for each in scene.characters] == [0, 2] and not scene.characters[1].exact
    assert scenes.target(scene, NUM_CHARACTERS).tolist() == [0.5, 0, 0.5, 0]
    assert (scenes.cell_target(scene, NUM_CHARACTERS, 2)[:, :, 2] == scenes.SOMEWHERE).all()
    # The score of an epoch counts one label a picture.
    everyone = dataclasses.replace(data, table=data.table.assign(second_character="bart_simpson"))
    _, targets = scenes.for_validation(everyone, recipe())[0]
    assert (everyone.second_labels == 0).any() and (targets["probabilities"].max(axis=1) == 1).all()


def test_where_a_second_character_was_seen_nothing_is_taken_for_nobody(monkeypatch):
    images = np.zeros((4, SIZE, SIZE, 3), "uint8")
    places = np.tile([0.4, 0.4, 0.6, 0.6], (4, 1))
    made = batches_of(images, np.zeros(4, int), places, recipe(), seconds=np.array([1, 1, 1, -1]))
    asked = []
    monkeypatch.setattr(scenes, "CLIPART_FRACTION", 0)
    monkeypatch.setattr(scenes, "BACKGROUND_FRACTION", 1)
    monkeypatch.setattr(scenes, "beside", lambda picture, box, rng: asked.append(picture) or picture)
    images[3] = 255
    for number in range(20):
        made._nobody(np.random.default_rng(number))
    assert len(asked) == 20 and all(picture.min() == 255 for picture in asked)


def test_nobody_is_the_last_output_and_has_no_place():
    pictures, targets = epoch(make(nobody=0.5))
    nobody = targets["probabilities"][:, -1] == 1
    assert (len(pictures), nobody.sum()) == (30, 10)
    assert (targets["class_map"][nobody] == 0).all()


def test_a_batch_depends_on_seed_epoch_and_position():
    first, second = make(**EVERYTHING), make(**EVERYTHING)
    for made in (first, second):
        made.begin(3)
    np.testing.assert_array_equal(first[1][0], second[1][0])
    second.begin(4)
    assert (first[1][0] != second[1][0]).any()


def test_small_pictures_have_fewer_cells():
    pictures, targets = make(progressive_fraction=0.5, progressive_size=16)[0]
    assert pictures.shape[1:] == (16, 16, 3)
    assert targets["class_map"].shape[1:3] == (1, 1)


LABELS = np.repeat([0, 1, 2], [900, 90, 10])


@pytest.mark.parametrize(
    ("power", "shown"),
    [
        (1.0, [900, 90, 10]),
        (0.0, [333, 333, 333]),
        (0.5, [703, 222, 74]),  # the roots 30, 9.487 and 3.162 sum to 42.65
    ],
)
def test_characters_are_shown_in_proportion_to_a_power(power, shown):
    drawn = scenes.balanced(LABELS, power, np.random.default_rng(0))
    assert np.bincount(LABELS[drawn]).tolist() == shown


def test_each_picture_of_a_rare_character_is_shown_about_equally_often():
    drawn = scenes.balanced(LABELS, 0.5, np.random.default_rng(0))
    assert set(np.bincount(drawn, minlength=1000)[990:]) <= {7, 8}


def test_a_network_with_a_class_map_learns_where_a_square_is():
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    images, places, labels = np.zeros((48, SIZE, SIZE, 3), "uint8"), np.zeros((48, 4)), rng.integers(0, 2, 48)
    for image, place, label in zip(images, places, labels, strict=True):
        left = int(rng.integers(2)) * SIZE // 2
        image[:, left : left + SIZE // 2, label] = 255
        place[:] = (left / SIZE, 0, left / SIZE + 0.5, 1)
    made = batches_of(images, labels, places, recipe(shift=0.0, flip=False))
    model = networks.build(recipe(), NUM_CHARACTERS, SIZE)
    assert {name: output.shape for name, output in model.output.items()} == {
        "probabilities": (None, 4),
        "class_map": (None, 2, 2, 3),
    }
    model.compile(keras.optimizers.Adam(0.01), **losses.for_recipe(recipe()))
    model.fit(made, epochs=25, shuffle=False, verbose=0)
    maps = model.predict_on_batch(images)["class_map"]
    columns = maps[np.arange(48), :, :, labels].mean(axis=1).argmax(axis=1)
    assert (columns == (places[:, 0] > 0)).mean() > 0.9


def loss_of(target, prediction):
    return float(losses.ClassMapLoss()(np.float32(target)[None], np.float32(prediction)[None]))


def test_a_character_that_is_somewhere_counts_by_its_most_certain_cell():
    somewhere = np.full((2, 2, 1), scenes.SOMEWHERE)
    certain = np.full((2, 2, 1), 0.1)
    certain[0, 1] = 0.9
    expected = -losses.SOMEWHERE_WEIGHT * np.log(0.9) / 4
    assert loss_of(somewhere, certain) == pytest.approx(expected, rel=1e-3)


def test_a_known_cell_counts_by_its_cross_entropy():
    assert loss_of([[[0.5]]], [[[0.5]]]) == pytest.approx(np.log(2), rel=1e-4)


def test_macro_f1_ignores_classes_without_pictures():
    metric = losses.MacroF1(name="macro_f1")
    metric.update_state(np.eye(3)[[0, 0, 1]], np.eye(3)[[0, 1, 1]])
    assert float(metric.result()) == pytest.approx(2 / 3)
