import cv2
import keras
import numpy as np
import pytest

from lib.data import dataset
from lib.training import augmentation, batches

ALL = augmentation.Augmentation(
    shift=0.1,
    flip=True,
    zoom=0.2,
    rotate=10,
    colour_jitter=0.3,
    random_erasing=0.4,
    background_swap=0.5,
    shrink_and_paste=0.5,
    quality_jitter=0.5,
    style_jitter=0.5,
)


@pytest.fixture
def pictures():
    return np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype="uint8")


def make(pictures, **settings):
    labels = np.arange(len(pictures)) % 3
    return batches.Batches(pictures, labels, num_characters=3, batch_size=8, **settings)


def epoch(made):
    return [made[position] for position in range(len(made))]


def test_without_shuffling_and_augmentation_pictures_come_as_they_are(pictures):
    shown, labels = epoch(make(pictures))[0]
    np.testing.assert_array_equal(shown, pictures[:8])
    np.testing.assert_array_equal(labels.argmax(axis=1), [0, 1, 2, 0, 1, 2, 0, 1])


def test_the_last_batch_holds_the_rest(pictures):
    # 20 pictures in batches of 8: 8, 8 and 4.
    assert [len(shown) for shown, _ in epoch(make(pictures))] == [8, 8, 4]


def test_only_the_named_rows_are_shown(pictures):
    shown, labels = make(pictures, rows=[5, 2])[0]
    np.testing.assert_array_equal(shown, pictures[[5, 2]])
    np.testing.assert_array_equal(labels.argmax(axis=1), [2, 2])


def test_shuffling_shows_each_picture_once_and_in_another_order_each_epoch(pictures):
    made = make(pictures, shuffle=True)
    first = np.concatenate([shown for shown, _ in epoch(made)])
    made.begin(1)
    second = np.concatenate([shown for shown, _ in epoch(made)])
    assert not np.array_equal(first, second)
    for shown in (first, second):
        assert sorted(map(bytes, shown)) == sorted(map(bytes, pictures))


def test_a_restart_at_an_epoch_shows_the_same_pixels(pictures):
    going_on = make(pictures, shuffle=True, augmentation=ALL, seed=7)
    for number in range(4):
        going_on.begin(number)
        epoch(going_on)
    restarted = make(pictures, shuffle=True, augmentation=ALL, seed=7)
    restarted.begin(3)
    # Backwards: what a batch holds must not depend on which was asked for before.
    for position in reversed(range(len(restarted))):
        np.testing.assert_array_equal(restarted[position][0], going_on[position][0])


def test_another_seed_shows_other_pixels(pictures):
    assert not np.array_equal(
        make(pictures, augmentation=ALL, seed=1)[0][0], make(pictures, augmentation=ALL, seed=2)[0][0]
    )


def test_a_shift_moves_by_at_most_its_share_and_repeats_the_edge():
    # A column of 100 at x = 8 of 20; a tenth of 20 pixels is 2.
    picture = np.zeros((20, 20, 3), dtype="uint8")
    picture[:, 8] = 100
    rng = np.random.default_rng(0)
    places = set()
    for _ in range(200):
        shifted = augmentation.augment(picture, augmentation.Augmentation(shift=0.1), rng)
        places.add(int(np.flatnonzero(shifted[0, :, 0])[0]))
    assert places == {6, 7, 8, 9, 10}


def test_a_flip_mirrors_about_half_of_the_pictures(pictures):
    rng = np.random.default_rng(0)
    changed = [augmentation.augment(pictures[0], augmentation.Augmentation(flip=True), rng) for _ in range(400)]
    mirrored = [np.array_equal(picture, pictures[0][:, ::-1]) for picture in changed]
    same = [np.array_equal(picture, pictures[0]) for picture in changed]
    assert sum(mirrored) + sum(same) == 400
    # Four standard deviations of a fair coin thrown 400 times are 40.
    assert 160 < sum(mirrored) < 240


def test_a_resampled_flip_is_the_flip_to_the_pixel(pictures):
    resampled = augmentation.Augmentation(flip=True, zoom=1e-9)
    for seed in range(20):
        plain = augmentation.augment(pictures[0], augmentation.Augmentation(flip=True), np.random.default_rng(seed))
        changed = augmentation.augment(pictures[0], resampled, np.random.default_rng(seed))
        np.testing.assert_array_equal(changed, plain)


def test_a_turn_goes_round_the_middle():
    # A dot in the very middle of 21 pixels stays there, whatever the angle.
    picture = np.zeros((21, 21, 3), dtype="uint8")
    picture[9:12, 9:12] = 255
    for seed in range(20):
        turned = augmentation.augment(
            picture, augmentation.Augmentation(rotate=40, zoom=0.3), np.random.default_rng(seed)
        )
        rows, columns = np.nonzero(turned[:, :, 0] > 100)
        assert abs(rows.mean() - 10) < 0.3 and abs(columns.mean() - 10) < 0.3


@pytest.mark.parametrize(
    "change", ["zoom", "rotate", "colour_jitter", "random_erasing", "shrink_and_paste", "quality_jitter"]
)
def test_every_change_changes_and_keeps_shape_and_type(pictures, change):
    amount = {"rotate": 20.0}.get(change, 1.0 if change in ("shrink_and_paste", "quality_jitter") else 0.4)
    changed = augmentation.augment(pictures[0], augmentation.Augmentation(**{change: amount}), np.random.default_rng(1))
    assert (changed.shape, changed.dtype) == (pictures[0].shape, pictures[0].dtype)
    assert not np.array_equal(changed, pictures[0])


def test_the_source_pictures_stay_as_they_were(pictures):
    before = pictures.copy()
    epoch(make(pictures, augmentation=ALL))
    np.testing.assert_array_equal(pictures, before)


def test_labels_that_do_not_match_are_refused(pictures):
    with pytest.raises(ValueError, match=r"one entry a picture, 20. Received: 3"):
        batches.Batches(pictures, [0, 1, 2], num_characters=3)


def test_no_rows_are_refused(pictures):
    with pytest.raises(ValueError, match="at least one picture"):
        make(pictures, rows=[])


def test_a_painted_backdrop_leaves_the_figure():
    picture = np.full((32, 32, 3), (90, 140, 220), dtype="uint8")
    # 10 of 32 wide: too slender to be enlarged to the whole picture.
    picture[8:, 11:21] = 0
    picture[9:, 12:20] = (250, 220, 20)
    only = augmentation.Augmentation(background_swap=1.0)
    for seed in range(5):
        changed = augmentation.augment(picture, only, np.random.default_rng(seed))
        np.testing.assert_array_equal(changed[8:, 11:21], picture[8:, 11:21])
        assert (changed[:6] != picture[:6]).any()


def test_a_backdrop_that_would_cover_the_figure_is_left(pictures):
    plain = np.full((16, 16, 3), 77, dtype="uint8")
    changed = augmentation.augment(plain, augmentation.Augmentation(background_swap=1.0), np.random.default_rng(0))
    np.testing.assert_array_equal(changed, plain)


def test_pictures_are_small_in_the_small_epochs(pictures):
    made = make(pictures, progressive_size=8, progressive_epochs=2)
    sizes = []
    for number in range(4):
        made.begin(number)
        sizes.append(made[0][0].shape[1:3])
    assert sizes == [(8, 8), (8, 8), (16, 16), (16, 16)]


def test_fit_sees_each_epoch_by_its_own_number(pictures):
    # Batches are made by threads that run ahead: none may be a leftover of the epoch before.
    made = make(pictures, shuffle=True, augmentation=ALL, seed=3)
    seen = []

    class Mean(keras.Model):
        def call(self, shown):
            return keras.ops.ones((keras.ops.shape(shown)[0], 3)) / 3

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return keras.ops.mean(keras.ops.cast(x, "float32"))

    model = Mean()
    model.compile(optimizer="sgd", loss=None, run_eagerly=True)
    take_down = keras.callbacks.LambdaCallback(
        on_epoch_begin=made.begin, on_train_batch_end=lambda n, logs: seen.append(logs["loss"])
    )
    model.fit(made, epochs=3, shuffle=False, verbose=0, callbacks=[take_down])
    expected = []
    for number in range(3):
        made.begin(number)
        means = [(len(shown), shown.mean()) for shown, _ in epoch(made)]
        # Keras reports the running mean over the epoch's pictures.
        sizes, values = np.array(means).T
        expected += list(np.cumsum(sizes * values) / np.cumsum(sizes))
    np.testing.assert_allclose(seen, expected, rtol=1e-5)


def test_joined_arrays_are_taken_from_by_their_common_places(pictures):
    joined = dataset.ConcatArrays(pictures[:12], pictures[12:])
    assert len(joined) == 20
    # 12 is the first of the second array; the order asked for is the order given.
    np.testing.assert_array_equal(joined[np.array([19, 0, 12, 11])], pictures[[19, 0, 12, 11]])


def test_an_empty_array_joins_without_effect(pictures):
    joined = dataset.ConcatArrays(pictures, pictures[:0])
    np.testing.assert_array_equal(joined[np.arange(20)], pictures)


def test_arrays_of_two_sizes_are_not_joined(pictures):
    with pytest.raises(ValueError, match="one shape"):
        dataset.ConcatArrays(pictures, pictures[:, :8])


def test_batches_come_from_joined_arrays_as_from_one(pictures):
    apart = make(dataset.ConcatArrays(pictures[:5], pictures[5:]), shuffle=True, augmentation=ALL)
    for (shown, labels), (same, same_labels) in zip(
        epoch(apart), epoch(make(pictures, shuffle=True, augmentation=ALL)), strict=True
    ):
        np.testing.assert_array_equal(shown, same)
        np.testing.assert_array_equal(labels, same_labels)


@pytest.mark.parametrize("seed", range(40))
def test_restyling_keeps_shape_and_type_and_changes_the_picture(seed):
    rng = np.random.default_rng(seed)
    picture = cv2.GaussianBlur(rng.integers(0, 256, (48, 48, 3), dtype="uint8"), (0, 0), 2)
    restyled = augmentation.augment(picture, augmentation.Augmentation(style_jitter=1.0), rng)
    assert restyled.shape == picture.shape and restyled.dtype == picture.dtype
    assert not np.array_equal(restyled, picture)


def test_a_figure_is_trimmed_to_when_its_background_is_painted_over():
    # A dark figure of 20 × 24 in the middle of a plain 48 × 48: painted over and trimmed, its edges reach the border.
    picture = np.full((48, 48, 3), 200, dtype="uint8")
    picture[14:38, 14:34] = 20
    shown = [batches._repaint(picture.copy(), np.random.default_rng(seed)) for seed in range(12)]
    reaching = [bool((p[0] < 60).all() and (p[-1] < 60).all()) for p in shown]
    assert any(reaching) and not all(reaching)
