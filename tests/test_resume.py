"""A training that was killed resumes, and ends as one that was not."""

import pickle

import keras
import numpy as np
import pytest

from lib import records
from lib.errors import UserError
from lib.training import batches, optimizers, resume
from lib.training.recipe import Recipe
from tests import small_data

# Everything that has a state: dropout, momentum, schedule, shuffling, augmentation, two stages.
RECIPE = Recipe(
    network="springfield",  # its name only: `network` below is faster
    optimizer="sgd",
    learning_rate=0.01,
    schedule="cosine",
    epochs=4,
    batch_size=8,
    progressive_fraction=0.5,
    progressive_size=8,
)


class Killed(Exception):
    """Stands for `kill -9`."""


def network(num_characters):
    """A small network for pictures of any size, with dropout."""
    layers = [
        keras.Input((None, None, 3)),
        keras.layers.Rescaling(1 / 255),
        keras.layers.Conv2D(8, 3, activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(num_characters, activation="softmax"),
    ]
    return keras.Sequential(layers)


def train(folder, recipe=RECIPE, kill_after=None):
    """Train as the notebook does; returns the network and its training."""
    data = small_data.dataset()
    keras.utils.clear_session()  # the names of layers are part of the key
    keras.utils.set_random_seed(1)
    model = network(len(data.characters))
    train, validation = batches.for_training(data, recipe), batches.for_validation(data, recipe)
    f1 = keras.metrics.F1Score(average="macro", name="macro_f1")
    model.compile(optimizers.build(recipe, len(train)), "categorical_crossentropy", metrics=["accuracy", f1])
    training = resume.Training(folder, model, data, recipe)

    def kill(epoch, logs):
        if epoch == kill_after:
            raise Killed

    killer = keras.callbacks.LambdaCallback(on_epoch_begin=kill)
    for stage in training.stages():
        callbacks = [*training.callbacks(train, validation), killer]
        model.fit(train, validation_data=validation, callbacks=callbacks, shuffle=False, verbose=0, **stage)
    return model, training


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network that was trained without interruption, and its training."""
    return train(tmp_path_factory.mktemp("trained"))


def test_a_killed_training_ends_as_one_that_was_not_killed(tmp_path, trained, capsys):
    expected, expected_training = trained
    for kill_after in (1, 3):  # in the first stage and in the second
        with pytest.raises(Killed):
            train(tmp_path, kill_after=kill_after)
    resumed, training = train(tmp_path)
    said = capsys.readouterr().out.splitlines()
    # Over all stages and processes, each epoch is trained once and counted through.
    assert [" ".join(line.split()[:2]) for line in said if line.startswith("epoch")] == [
        f"epoch {n}/4" for n in (1, 2, 3, 4)
    ]
    assert training.history.equals(expected_training.history)
    assert training.best_epoch == expected_training.best_epoch
    for one, other in zip(resumed.variables, expected.variables, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(training.best_weights, expected_training.best_weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_early_stopping_is_remembered(tmp_path):
    # At this rate nothing improves after the first epoch.
    recipe = RECIPE.model_copy(update={"patience": 1, "learning_rate": 1e-8})
    _, training = train(tmp_path, recipe)
    stopped_after = training.epoch
    _, again = train(tmp_path, recipe)
    assert again.epoch == stopped_after < recipe.epochs
    assert list(again.stages()) == []


def test_a_diverged_training_is_an_error_and_keeps_the_state_of_the_previous_epoch(tmp_path, saved_state):
    state = tmp_path / records.TRAINING_STATE
    state.write_bytes(saved_state)
    training = resume.Training(tmp_path, compiled(), small_data.dataset(), RECIPE)
    training.on_epoch_begin(1)
    with pytest.raises(UserError, match=r"the loss of epoch 2 is not a finite number\. Lower `learning_rate`"):
        training.on_epoch_end(1, {"loss": float("nan"), "val_loss": 1.0, "val_macro_f1": 0.5})
    assert state.read_bytes() == saved_state


def test_the_best_weights_are_those_of_the_first_epoch_with_the_best_score(trained):
    _, training = trained
    scores = training.history.val_macro_f1
    assert training.best_epoch == int(scores.idxmax()) + 1  # epochs count from 1
    assert training.best_score == scores.max()


def test_the_state_can_be_deleted(tmp_path, saved_state):
    (tmp_path / records.TRAINING_STATE).write_bytes(saved_state)
    resume.Training(tmp_path, compiled(), small_data.dataset(), RECIPE).delete()
    assert list(tmp_path.iterdir()) == []


def with_a_flipped_bit(contents, position):
    return contents[:position] + bytes([contents[position] ^ 1]) + contents[position + 1 :]


DAMAGED = {
    "empty": lambda contents: b"",
    "cut in half": lambda contents: contents[: len(contents) // 2],
    "one bit": lambda contents: with_a_flipped_bit(contents, contents.index(b"\x93NUMPY") + 200),  # in the first array
    "random": lambda contents: np.random.default_rng(0).bytes(len(contents)),
    "a pickle": lambda contents: pickle.dumps({"meta": "{}"}),
    "no zip": lambda contents: b"\x93NUMPY" + contents,
}


@pytest.fixture(scope="module")
def saved_state(tmp_path_factory):
    """The state of a small network after one epoch, which an untrained one restores."""
    folder = tmp_path_factory.mktemp("state")
    training = resume.Training(folder, compiled(), small_data.dataset(), RECIPE)
    training.on_epoch_begin(0)
    training.on_epoch_end(0, {"loss": 1.0, "val_macro_f1": 0.5})
    return (folder / records.TRAINING_STATE).read_bytes()


def compiled():
    keras.utils.clear_session()  # the names of layers are part of the key
    model = network(3)
    model.compile(keras.optimizers.SGD(momentum=0.9), "categorical_crossentropy")
    return model


# Parameters of the export do not restart a training.
@pytest.mark.parametrize(("changes", "epoch"), [({}, 1), ({"export_weights": "int8"}, 1), ({"seed": 1}, 0)])
def test_a_training_continues_and_one_with_another_recipe_starts_afresh(changes, epoch, tmp_path, saved_state, capsys):
    (tmp_path / records.TRAINING_STATE).write_bytes(saved_state)
    recipe = RECIPE.model_copy(update=changes)
    assert resume.Training(tmp_path, compiled(), small_data.dataset(), recipe).epoch == epoch
    assert capsys.readouterr().out == ("Continuing after epoch 1.\n" if epoch else "Starting at epoch 1.\n")


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_state_is_said_kept_aside_and_changes_nothing(damage, tmp_path, saved_state, capsys):
    contents = DAMAGED[damage](saved_state)
    (tmp_path / records.TRAINING_STATE).write_bytes(contents)
    model = compiled()
    before = [np.array(variable) for variable in model.variables]
    assert resume.Training(tmp_path, model, small_data.dataset(), RECIPE).epoch == 0
    assert "is damaged" in capsys.readouterr().out
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"state.damaged.npz": contents}


def test_the_step_is_traced_once(tmp_path, monkeypatch):
    traced = []
    step = keras.Model.train_step
    monkeypatch.setattr(keras.Model, "train_step", lambda self, data: [traced.append(1), step(self, data)][1])
    train(tmp_path, RECIPE.model_copy(update={"epochs": 1}))
    assert len(traced) == 1
