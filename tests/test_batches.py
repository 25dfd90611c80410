"""Batches depend on seed, epoch and position only."""

import keras
import numpy as np
import pytest

from lib.training import batches
from lib.training.recipe import Recipe
from tests import small_data

UNCHANGED = {"shift": 0.0, "flip": False}
AUGMENTED = {
    "zoom": 0.2,
    "rotate": 10.0,
    "colour_jitter": 0.3,
    "random_erasing": 0.4,
    "background_swap": 0.5,
    "shrink_and_paste": 0.5,
    "quality_jitter": 0.5,
    "style_jitter": 0.5,
}


@pytest.fixture
def pictures():
    return np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype="uint8")


def make(pictures, rows=None, training=True, **settings):
    labels = np.arange(len(pictures)) % 3
    rows = np.arange(len(pictures)) if rows is None else np.array(rows)
    recipe = Recipe(network="springfield", **{"batch_size": 8} | settings)
    return batches.Batches(pictures, labels, rows, 3, recipe, training)


def epoch(made):
    return [made[position] for position in range(len(made))]


def test_validation_shows_the_given_rows_in_order_and_unchanged(pictures):
    shown, labels = make(pictures, [5, 2], training=False, **AUGMENTED)[0]
    np.testing.assert_array_equal(shown, pictures[[5, 2]])
    np.testing.assert_array_equal(labels.argmax(axis=1), [2, 2])


def test_the_last_batch_holds_the_remainder(pictures):
    # 20 pictures in batches of 8: 8, 8 and 4.
    assert [len(shown) for shown, _ in epoch(make(pictures))] == [8, 8, 4]


def test_shuffling_uses_each_picture_once_in_a_new_order_each_epoch(pictures):
    made = make(pictures, **UNCHANGED)
    first = np.concatenate([shown for shown, _ in epoch(made)])
    made.begin(1)
    second = np.concatenate([shown for shown, _ in epoch(made)])
    assert not np.array_equal(first, second)
    for shown in (first, second):
        assert sorted(map(bytes, shown)) == sorted(map(bytes, pictures))


def test_a_resumed_epoch_has_the_same_pixels(pictures):
    continued = make(pictures, **AUGMENTED, seed=7)
    for number in range(4):
        continued.begin(number)
        epoch(continued)
    resumed = make(pictures, **AUGMENTED, seed=7)
    resumed.begin(3)
    # Backwards: a batch must not depend on those made before.
    for position in reversed(range(len(resumed))):
        np.testing.assert_array_equal(resumed[position][0], continued[position][0])


def test_another_seed_gives_other_pixels(pictures):
    first, second = (make(pictures, **AUGMENTED, seed=seed)[0][0] for seed in (1, 2))
    assert not np.array_equal(first, second)


def test_augmentation_does_not_change_the_source(pictures):
    before = pictures.copy()
    epoch(make(pictures, **AUGMENTED))
    np.testing.assert_array_equal(pictures, before)


@pytest.mark.parametrize(("progressive_size", "side"), [(8, 8), (64, 16)])  # no picture is enlarged
def test_pictures_are_small_in_the_progressive_epochs(pictures, progressive_size, side):
    made = make(pictures, progressive_size=progressive_size, progressive_fraction=0.5, epochs=4)
    sizes = []
    for number in range(4):
        made.begin(number)
        sizes.append(made[0][0].shape[1:3])
    assert sizes == [(side, side), (side, side), (16, 16), (16, 16)]


def test_fit_sees_each_epoch_by_its_own_number(pictures):
    # Threads make batches ahead of time: none may belong to the previous epoch.
    made = make(pictures, **AUGMENTED, seed=3)
    seen = []

    class Mean(keras.Model):
        def call(self, shown):
            return keras.ops.ones((keras.ops.shape(shown)[0], 3)) / 3

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return keras.ops.mean(keras.ops.cast(x, "float32"))

    model = Mean()
    model.compile(optimizer="sgd", loss=None, run_eagerly=True)
    record = keras.callbacks.LambdaCallback(
        on_epoch_begin=made.begin, on_train_batch_end=lambda n, logs: seen.append(logs["loss"])
    )
    model.fit(made, epochs=3, shuffle=False, verbose=0, callbacks=[record])
    expected = []
    for number in range(3):
        made.begin(number)
        # Keras reports the running mean over the pictures of the epoch.
        sizes, means = np.array([(len(shown), shown.mean()) for shown, _ in epoch(made)]).T
        expected += list(np.cumsum(sizes * means) / np.cumsum(sizes))
    np.testing.assert_allclose(seen, expected, rtol=1e-5)


def test_drawings_are_added_to_the_training_pictures_only():
    data = small_data.dataset()
    recipe = Recipe(network="cnn", drawings_per_character=2, shift=0.0, flip=False)
    train, validation = batches.for_training(data, recipe), batches.for_validation(data, recipe)
    # 16 training pictures, and 2 drawings of each of 3 characters.
    assert (len(train.rows), len(validation.rows)) == (16 + 6, 8)
    np.testing.assert_array_equal(train.labels[train.rows[16:]], [0, 0, 1, 1, 2, 2])


def of_fraction(data, fraction, **settings):
    return batches.training_rows(data, Recipe(network="cnn", train_fraction=fraction, **settings))


def test_a_fraction_of_each_character_is_trained_on_and_smaller_ones_are_part_of_larger_ones():
    data = small_data.dataset()
    np.testing.assert_array_equal(of_fraction(data, 1.0), data.rows("train"))
    half, quarter, least = (of_fraction(data, fraction) for fraction in (0.5, 0.25, 0.001))
    # 6, 5 and 5 training pictures of the three characters: half of 5 is rounded to the even 2.
    np.testing.assert_array_equal(np.bincount(data.labels[half]), [3, 2, 2])
    np.testing.assert_array_equal(np.bincount(data.labels[least]), [1, 1, 1])
    assert set(least) < set(quarter) < set(half) < set(data.rows("train"))
    assert set(half) != set(of_fraction(data, 0.5, seed=1))


def test_a_fraction_of_the_pictures_keeps_near_duplicates_together():
    data = small_data.dataset()
    # Of each character two groups: the even ones of its pictures and the odd ones.
    data.table["group"] = data.table.image // 3 % 2 * 3 + data.labels
    of_bart = data.table.group[of_fraction(data, 0.5)][data.labels[of_fraction(data, 0.5)] == 0]
    assert of_bart.nunique() == 1
