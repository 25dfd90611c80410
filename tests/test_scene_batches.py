import keras
import numpy as np
import pytest

from lib.data.batches import Augmentation
from lib.evaluation import calibration
from lib.training import composites, heads, networks, scene_batches

SIZE, NUM_CHARACTERS = 32, 3


def make(rows=20, **mixture):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (rows, SIZE, SIZE, 3), dtype="uint8")
    boxes = np.full((rows, 4), np.nan)
    boxes[::2] = (0.2, 0.2, 0.8, 0.8)
    return scene_batches.SceneBatches(
        images,
        np.arange(rows) % NUM_CHARACTERS,
        np.arange(rows),
        boxes,
        np.full((2, SIZE, SIZE, 3), 255, "uint8"),
        num_characters=NUM_CHARACTERS,
        mixture=scene_batches.Mixture(**mixture),
        augmentation=Augmentation(shift=0.1, flip=True),
        batch_size=8,
    )


def whole_epoch(batches):
    parts = [batches[position] for position in range(len(batches))]
    return np.concatenate([pictures for pictures, _ in parts]), {
        name: np.concatenate([targets[name] for _, targets in parts]) for name in parts[0][1]
    }


def test_without_a_mixture_every_picture_has_one_name():
    pictures, targets = whole_epoch(make())
    assert pictures.shape == (20, SIZE, SIZE, 3)
    assert targets["probabilities"].sum(axis=0).tolist() == [7, 7, 6, 0]
    assert targets["class_map"].shape == (20, 2, 2, NUM_CHARACTERS)


def test_composites_share_the_answer():
    _, targets = whole_epoch(make(composite_share=1.0, stranger_share=0.0))
    assert {0.5, 1.0} >= set(targets["probabilities"].max(axis=1))
    assert (targets["probabilities"] == 0.5).any()


def test_nobody_is_the_last_answer_and_has_no_place():
    pictures, targets = whole_epoch(make(outlier_share=0.5))
    assert len(pictures) == 30
    nobody = targets["probabilities"][:, -1] == 1
    assert nobody.sum() == 10
    assert (targets["class_map"][nobody] == 0).all()


def test_a_batch_follows_from_seed_epoch_and_position():
    first, second = (
        make(composite_share=0.5, outlier_share=0.5, caption_share=0.5),
        make(composite_share=0.5, outlier_share=0.5, caption_share=0.5),
    )
    for batches in (first, second):
        batches.begin(3)
    assert (first[1][0] == second[1][0]).all()
    second.begin(4)
    assert first[1][0].shape != second[1][0].shape or (first[1][0] != second[1][0]).any()


def test_a_network_with_both_heads_learns_where_a_square_is():
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    images = np.zeros((48, SIZE, SIZE, 3), "uint8")
    boxes = np.zeros((48, 4))
    labels = rng.integers(0, 2, 48)
    for image, label, number in zip(images, labels, range(48), strict=True):
        left = 0 if rng.random() < 0.5 else SIZE // 2
        image[:, left : left + SIZE // 2, label] = 255
        boxes[number] = (left / SIZE, 0, left / SIZE + 0.5, 1)
    body = heads.body_of(networks.build("springfield", num_characters=2, picture_size=SIZE, width=4))
    model = heads.with_heads(body, 2, dropout=0.0)
    assert {name: output.shape for name, output in model.output.items()} == {
        "probabilities": (None, 3),
        "class_map": (None, 2, 2, 2),
    }
    model.compile("adam", loss={"probabilities": "categorical_crossentropy", "class_map": heads.CellLoss()})
    model.optimizer.learning_rate = 0.01
    batches = scene_batches.SceneBatches(
        images,
        labels,
        np.arange(48),
        boxes,
        images[:0],
        num_characters=2,
        mixture=scene_batches.Mixture(),
        augmentation=Augmentation(),
        batch_size=16,
    )
    model.fit(batches, epochs=25, verbose=0)
    places = model.predict(images, verbose=0)["class_map"]
    columns = places[np.arange(48), :, :, labels].mean(axis=1).argmax(axis=1)
    assert (columns == (boxes[:, 0] > 0)).mean() > 0.9


def test_a_network_without_pooling_has_no_body():
    with pytest.raises(ValueError, match="global average pooling"):
        heads.body_of(networks.build("cnn", conv_layers=4, num_characters=2, picture_size=32))


def test_a_folded_temperature_is_that_of_the_probabilities():
    body = heads.body_of(networks.build("springfield", num_characters=2, picture_size=SIZE, width=4))
    model = heads.with_heads(body, 4)
    pictures = np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), dtype="uint8")
    before = model.predict_on_batch(pictures)
    heads.fold_temperature(model, 0.5)
    after = model.predict_on_batch(pictures)
    expected = calibration.with_temperature(before["probabilities"], 0.5)
    assert after["probabilities"] == pytest.approx(expected, abs=1e-4)
    assert (after["class_map"] == before["class_map"]).all()
    with pytest.raises(ValueError, match="above 0"):
        heads.fold_temperature(model, 0)


def loss_of(target, prediction):
    return float(heads.CellLoss(somewhere_weight=1.0)(np.float32(target)[None], np.float32(prediction)[None]))


def test_a_character_that_is_somewhere_costs_by_its_surest_cell():
    somewhere = np.full((2, 2, 1), composites.SOMEWHERE)
    unsure, sure = np.full((2, 2, 1), 0.1), np.full((2, 2, 1), 0.1)
    sure[0, 1] = 0.9
    assert loss_of(somewhere, unsure) == pytest.approx(-np.log(0.1) / 4, rel=1e-3)
    assert loss_of(somewhere, sure) == pytest.approx(-np.log(0.9) / 4, rel=1e-3)


def test_unknown_cells_cost_nothing():
    assert loss_of(np.full((2, 2, 1), composites.UNKNOWN), np.full((2, 2, 1), 0.7)) == 0


def test_a_share_costs_cross_entropy():
    assert loss_of([[[0.5]]], [[[0.5]]]) == pytest.approx(np.log(2), rel=1e-4)
