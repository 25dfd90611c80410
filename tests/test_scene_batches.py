"""Batches of scenes, and the network with a class map that trains on them."""

import keras
import numpy as np
import pytest

from lib.training import losses, networks, scene_batches, scenes
from lib.training.recipe import Recipe

SIZE, NUM_CHARACTERS = 32, 3
EVERYTHING = {"composites": 0.5, "nobody": 0.5, "captions": 0.5}


def recipe(**settings):
    return Recipe(network="springfield", class_map=True, batch_size=8, width=16, dropout=0.0, **settings)


def make(rows=20, training=True, **settings):
    images = np.random.default_rng(0).integers(0, 256, (rows, SIZE, SIZE, 3), dtype="uint8")
    places = np.full((rows, 4), np.nan)
    places[::2] = (0.2, 0.2, 0.8, 0.8)
    return scene_batches.SceneBatches(
        images,
        np.arange(rows) % NUM_CHARACTERS,
        np.arange(rows),
        places,
        np.full((2, SIZE, SIZE, 3), 255, "uint8"),
        np.zeros((2, SIZE, SIZE, 3), "uint8"),
        num_characters=NUM_CHARACTERS,
        recipe=recipe(**settings),
        training=training,
    )


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
    drawn = scene_batches.balanced(LABELS, power, np.random.default_rng(0))
    assert np.bincount(LABELS[drawn]).tolist() == shown


def test_each_picture_of_a_rare_character_is_shown_about_equally_often():
    drawn = scene_batches.balanced(LABELS, 0.5, np.random.default_rng(0))
    assert set(np.bincount(drawn, minlength=1000)[990:]) <= {7, 8}


def test_a_network_with_a_class_map_learns_where_a_square_is():
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    images, places, labels = np.zeros((48, SIZE, SIZE, 3), "uint8"), np.zeros((48, 4)), rng.integers(0, 2, 48)
    for image, place, label in zip(images, places, labels, strict=True):
        left = int(rng.integers(2)) * SIZE // 2
        image[:, left : left + SIZE // 2, label] = 255
        place[:] = (left / SIZE, 0, left / SIZE + 0.5, 1)
    made = scene_batches.SceneBatches(
        images,
        labels,
        np.arange(48),
        places,
        images[:1],
        images[:1],
        num_characters=2,
        recipe=recipe(shift=0.0, flip=False),
        training=True,
    )
    model = networks.build(recipe(), 2, SIZE)
    assert {name: output.shape for name, output in model.output.items()} == {
        "probabilities": (None, 3),
        "class_map": (None, 2, 2, 2),
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
