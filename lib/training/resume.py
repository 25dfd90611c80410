"""A killed training resumes after its last finished epoch, with the same result as one that was never killed.

Keras' `BackupAndRestore` restores weights, optimiser and epoch, but not the best score of checkpointing and early
stopping, so that a resumed training can overwrite a better model. Here one callback saves all of it to one file,
atomically, at the end of each epoch.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from lib import records
from lib.data.dataset import Dataset
from lib.errors import UserError
from lib.training import batches
from lib.training.progress import Progress, scores_by_name
from lib.training.recipe import EXPORT_PARAMETERS, Recipe

STATE = ("epoch", "best_epoch", "best_score", "epoch_seconds", "rows")  # of a training, besides arrays


class Training(keras.callbacks.Callback):
    """One training: its remaining stages, and a callback of `fit` whose state survives a `kill -9`.

    Example:
        training = Training(folder, model, data, recipe)
        for stage in training.stages():
            model.fit(train, callbacks=training.callbacks(train, validation), **stage)

    Args:
        folder: Folder of the state.
        model: A compiled network. It is restored to the last finished epoch of the same training, if there is one.
        data: The prepared pictures. Without any for validation, the weights of the last epoch count as the best.
        recipe: The recipe. A training is the same if recipe, pictures, network and Keras backend are.
    """

    def __init__(self, folder: Path, model: keras.Model, data: Dataset, recipe: Recipe):
        super().__init__()
        self.set_model(model)
        self.recipe = recipe
        self._path = folder / records.TRAINING_STATE
        settings = recipe.model_dump(exclude=EXPORT_PARAMETERS)
        inputs = [settings, data.manifest_sha256, data.preparation.model_dump(), model.to_json()]
        self._key = records.digest([*inputs, keras.backend.backend()])
        self._has_validation = bool(len(data.rows("validation")))
        self._batches: tuple[batches.Batches, ...] = ()
        self.epoch = 0  # number of finished epochs
        self.best_epoch = 0  # the first one with the best validation macro F1, counted from 1; 0 if none is finished
        self.best_score = -np.inf
        self.best_weights: list[np.ndarray] = []  # as `model.get_weights` returns them
        self.epoch_seconds: list[float] = []  # duration of each finished epoch, including validation
        self.rows: list[dict[str, float]] = []
        model.optimizer.build(model.trainable_variables)
        if self._path.exists():
            self._restore()
        print(f"Continuing after epoch {self.epoch}." if self.epoch else "Starting at epoch 1.")

    def stages(self) -> Iterator[dict[str, int]]:
        """Yield arguments of `fit` for each remaining stage, one stage for each picture size.

        Within one `fit`, Keras expects all batches to have the shape of the first.
        """
        for end in sorted({batches.progressive_epochs(self.recipe), self.recipe.epochs}):
            if self.epoch < end and not self._has_run_out_of_patience():
                yield {"initial_epoch": self.epoch, "epochs": end}

    def callbacks(self, *data: batches.Batches) -> list[keras.callbacks.Callback]:
        """Give the callbacks of `fit`: this one, which also starts each epoch of these batches, and the progress."""
        self._batches = data
        _make_metrics(self.model, data[0][0])
        self._begin(self.epoch)  # `fit` takes the shape of the pictures from a batch before the first epoch
        return [self, Progress(self.recipe.epochs, self.epoch_seconds)]

    @property
    def history(self) -> pd.DataFrame:
        """A row for each finished epoch: `epoch` from 1, the scores that `fit` reports, `learning_rate`."""
        return pd.DataFrame(self.rows)

    @property
    def seconds(self) -> float:
        """Duration of the finished epochs together, over all processes."""
        return sum(self.epoch_seconds)

    def delete(self) -> None:
        """Delete the state, once the training is recorded."""
        self._path.unlink(missing_ok=True)

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start the epoch of the batches, and the clock."""
        # There Keras takes dropout from a global random state, which is not among the variables. With TensorFlow a seed
        # would empty caches, which takes a second.
        if keras.backend.backend() == "torch":
            keras.utils.set_random_seed((self.recipe.seed + epoch) % 2**32)
        self._begin(epoch)
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Record the scores, keep the weights if they are the best so far, and save the state.

        Raises:
            UserError: The loss is not finite; the saved state is still that of the previous epoch.
        """
        model = self.model
        scores = scores_by_name(logs or {})
        if not all(np.isfinite(value) for name, value in scores.items() if name.endswith("loss")):
            raise UserError(
                f"Training diverged: the loss of epoch {epoch + 1} is not a finite number. Lower `learning_rate` in "
                "the recipe, or set `precision: float32`."
            )
        self.epoch = epoch + 1
        self.rows.append({"epoch": self.epoch, **scores, "learning_rate": float(model.optimizer.learning_rate)})
        score = scores["val_macro_f1"] if self._has_validation else self.epoch
        if score > self.best_score:
            self.best_score, self.best_epoch = score, self.epoch
            self.best_weights = model.get_weights()
        self.epoch_seconds.append(time.perf_counter() - self._started)
        self._save()
        if self._has_run_out_of_patience():
            model.stop_training = True

    def _begin(self, epoch: int) -> None:
        for each in self._batches:
            each.begin(epoch)

    def _has_run_out_of_patience(self) -> bool:
        return bool(self.recipe.patience) and self.epoch - self.best_epoch >= self.recipe.patience

    def _save(self) -> None:
        meta = {"key": self._key, "best_weights": len(self.best_weights)}
        meta |= {name: getattr(self, name) for name in STATE}
        arrays = {f"best{number}": weights for number, weights in enumerate(self.best_weights)}
        arrays |= {name: np.asarray(variable) for name, variable in _variables(self.model).items()}
        with records.atomic_write(self._path) as temporary:
            np.savez(temporary, meta=json.dumps(meta), **arrays)

    def _restore(self) -> None:
        """Restore the last finished epoch; nothing, where the state is that of another training, or damaged."""
        try:
            with np.load(self._path, allow_pickle=False) as state:
                arrays = dict(state)  # all of it, so that damage at its end is found before anything is restored
            meta = json.loads(str(arrays.pop("meta")))
            if meta["key"] != self._key:
                return
            values = {name: meta[name] for name in STATE}
            values["best_weights"] = [arrays[f"best{number}"] for number in range(meta["best_weights"])]
            saved = [(each, arrays[name].reshape(each.shape)) for name, each in _variables(self.model).items()]
        except Exception as problem:  # numpy and zipfile raise many kinds for damaged bytes
            kept = self._path.replace(self._path.with_suffix(".damaged.npz"))
            reason = " ".join(str(problem).split()) or type(problem).__name__
            print(f"The saved training {self._path} is damaged ({reason}); it is kept as {kept.name}.")
            return
        for variable, value in saved:
            variable.assign(value)
        for name, value in values.items():
            setattr(self, name, value)


def _make_metrics(model: keras.Model, batch: tuple) -> None:
    """Make the variables of the metrics: Keras makes them in the first step, and then traces that step once more."""
    pictures, targets = keras.tree.map_structure(lambda array: array[:1], batch)
    answers = model(pictures)
    model.compute_loss(pictures, targets, answers)
    model.compute_metrics(pictures, targets, answers)
    model.reset_metrics()


def _variables(model: keras.Model) -> dict[str, Any]:
    """Give all that changes during training; the random state of dropout is among the variables of the model."""
    every = {"model": model.variables, "optimizer": model.optimizer.variables}
    return {f"{kind}{number}": each for kind, variables in every.items() for number, each in enumerate(variables)}
