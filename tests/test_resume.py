import keras
import numpy as np
import pytest

from lib.errors import UserError
from lib.training import augmentation, batches, networks, optimizers, resume

EPOCHS = 4


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), dtype="uint8")


def train(folder, pictures, epochs=EPOCHS, key="key", patience=0):
    """Train a tiny network with everything that has a state: dropout, momentum, schedule, shuffling."""
    keras.utils.set_random_seed(1)
    model = networks.build_cnn(conv_layers=4, num_characters=3, picture_size=16, dense_units=8)
    rate = optimizers.learning_rate("cosine", 0.01, EPOCHS, steps_per_epoch=3)
    f1 = keras.metrics.F1Score(average="macro", name="macro_f1")
    model.compile(optimizers.optimizer("sgd", rate), "categorical_crossentropy", metrics=["accuracy", f1])
    checkpoint = resume.Checkpoint(folder, key, patience=patience)
    first = checkpoint.restore(model)
    labels = np.arange(len(pictures)) % 3
    shown = batches.Batches(
        pictures,
        labels,
        num_characters=3,
        batch_size=8,
        shuffle=True,
        augmentation=augmentation.Augmentation(shift=0.1, flip=True),
    )
    held_out = batches.Batches(pictures, labels, num_characters=3)
    model.fit(
        shown,
        validation_data=held_out,
        epochs=checkpoint.last_epoch(epochs),
        initial_epoch=first,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_begin=shown.begin), checkpoint],
        shuffle=False,
        verbose=0,
    )
    return model, checkpoint


def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(tmp_path, pictures):
    whole, whole_state = train(tmp_path / "whole", pictures)
    train(tmp_path / "killed", pictures, epochs=2)
    resumed, resumed_state = train(tmp_path / "killed", pictures)
    assert resumed_state.history.equals(whole_state.history)
    for one, other in zip(resumed.variables, whole.variables, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(resumed_state.best_weights, whole_state.best_weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert resumed_state.best_epoch == whole_state.best_epoch


def test_a_state_of_other_parameters_is_not_used(tmp_path, pictures):
    train(tmp_path, pictures, epochs=2, key="one")
    _, checkpoint = train(tmp_path, pictures, epochs=1, key="other")
    assert list(checkpoint.history.epoch) == [1]


def test_patience_survives_a_stop(tmp_path, pictures):
    _, checkpoint = train(tmp_path, pictures, patience=1)
    stopped_at = checkpoint.epoch
    _, again = train(tmp_path, pictures, patience=1)
    assert again.epoch == stopped_at < EPOCHS
    assert again.finished_early


def test_a_diverged_training_says_so_and_keeps_the_state_of_before(tmp_path, pictures):
    _, checkpoint = train(tmp_path, pictures, epochs=1)
    state = checkpoint.path.read_bytes()
    checkpoint.on_epoch_begin(1)
    with pytest.raises(UserError, match=r"in epoch 2 the loss is no number any more\. Lower `learning_rate`"):
        checkpoint.on_epoch_end(1, {"loss": float("nan"), "val_loss": 1.0, "val_macro_f1": 0.5})
    assert checkpoint.path.read_bytes() == state


def test_the_best_weights_are_those_of_the_best_epoch(tmp_path, pictures):
    _, checkpoint = train(tmp_path, pictures)
    scores = checkpoint.history.val_macro_f1
    # The first highest wins; epochs count from 1.
    assert checkpoint.best_epoch == int(scores.idxmax()) + 1
    assert checkpoint.best_score == scores.max()


def test_the_state_is_removed_when_the_run_is_finished(tmp_path, pictures):
    _, checkpoint = train(tmp_path, pictures, epochs=1)
    checkpoint.delete()
    assert list(tmp_path.iterdir()) == []
