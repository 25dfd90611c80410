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
from lib.training.recipe import Recipe


class Training:
    """One training: its checkpoint, its remaining stages, and the callbacks of `fit`.

    Example:
        training = Training(folder, model, data, recipe)
        for stage in training.stages():
            model.fit(train, callbacks=training.callbacks(train, validation), **stage)

    Args:
        folder: Folder of the run, which holds the checkpoint.
        model: A compiled network. It is restored to the last finished epoch of the same training, if there is one.
        data: The prepared pictures. Without any for validation, the weights of the last epoch count as the best.
        recipe: The recipe. A training is the same if recipe, pictures, network and Keras backend are.
    """

    def __init__(self, folder: Path, model: keras.Model, data: Dataset, recipe: Recipe):
        inputs = [recipe.training_part(), data.manifest_sha256, data.preparation.model_dump(), model.to_json()]
        key = records.digest([*inputs, keras.backend.backend()])
        self.model, self.recipe = model, recipe
        monitor = "val_macro_f1" if len(data.rows("validation")) else None
        self.checkpoint = Checkpoint(folder, key, monitor=monitor, patience=recipe.patience)
        epoch = self.checkpoint.restore(model)
        print(f"Continuing after epoch {epoch}." if epoch else "Starting at epoch 1.")

    def stages(self) -> Iterator[dict[str, int]]:
        """Yield arguments of `fit` for each remaining stage, one stage for each picture size.

        Within one `fit`, Keras expects all batches to have the shape of the first.
        """
        for end in sorted({batches.progressive_epochs(self.recipe), self.recipe.epochs}):
            if self.checkpoint.epoch < end and not self.checkpoint.finished_early:
                yield {"initial_epoch": self.checkpoint.epoch, "epochs": end}

    def callbacks(self, *data: batches.Batches) -> list[keras.callbacks.Callback]:
        """Make the callbacks of `fit`: one that starts each epoch of the batches, the checkpoint, the progress.

        Args:
            *data: The batches of training and of validation.
        """

        def begin(epoch: int, logs: dict[str, float] | None = None) -> None:
            for each in data:
                each.begin(epoch)

        _make_metrics(self.model, data[0][0])
        begin(self.checkpoint.epoch)  # `fit` takes the shape of the pictures from a batch before the first epoch
        start = keras.callbacks.LambdaCallback(on_epoch_begin=begin)
        return [start, self.checkpoint, Progress(self.recipe.epochs, self.checkpoint.epoch_seconds)]


class Checkpoint(keras.callbacks.Callback):
    """Checkpointing and early stopping whose state survives a `kill -9`.

    Call `restore`, then pass it to `fit` with `initial_epoch=checkpoint.epoch`.

    Args:
        folder: Folder of the state; made if missing.
        key: Digest of everything that determines the training. A state with another key is ignored.
        monitor: Name of the score that selects the weights, higher is better; of equal scores the first wins. With
            None, the last epoch is the best.
        patience: Epochs without a better score before the training stops; 0 never stops.

    Attributes:
        epoch: Number of finished epochs.
        best_epoch: The epoch with the best score, counted from 1; 0 if none is finished.
        best_score: Its score.
        best_weights: Its weights, as `model.get_weights` returns them.
        epoch_seconds: Duration of each finished epoch, including validation.
    """

    def __init__(self, folder: Path, key: str, monitor: str | None = "val_macro_f1", patience: int = 0):
        super().__init__()
        self.path = Path(folder) / records.TRAINING_STATE
        self.key = key
        self.monitor = monitor
        self.patience = patience
        self.epoch = 0
        self.best_epoch = 0
        self.best_score = -np.inf
        self.epoch_seconds: list[float] = []
        self.rows: list[dict[str, float]] = []
        self.best_weights: list[np.ndarray] = []

    @property
    def history(self) -> pd.DataFrame:
        """A row for each finished epoch: `epoch` from 1, the scores that `fit` reports, `learning_rate`."""
        return pd.DataFrame(self.rows)

    @property
    def seconds(self) -> float:
        """Duration of the finished epochs together, over all processes."""
        return sum(self.epoch_seconds)

    @property
    def finished_early(self) -> bool:
        """Whether patience has run out."""
        return bool(self.patience) and self.epoch - self.best_epoch >= self.patience

    def restore(self, model: keras.Model) -> int:
        """Restore a compiled model to its last finished epoch.

        Args:
            model: Built and compiled as when the state was saved.

        Returns:
            The number of finished epochs, 0 if there is no state of this training.
        """
        model.optimizer.build(model.trainable_variables)
        if not self.path.exists():
            return 0
        try:
            meta, arrays = _read(self.path)
            if meta["key"] != self.key:
                return 0
            saved = [
                (variable, arrays[f"{prefix}{number}"].reshape(variable.shape))
                for prefix, variables in _variables(model).items()
                for number, variable in enumerate(variables)
            ]
            self.best_weights = [arrays[f"best{number}"] for number in range(meta["best_weights"])]
        except Exception as problem:  # numpy and zipfile raise many kinds for damaged bytes
            kept = self.path.replace(self.path.with_suffix(".damaged.npz"))
            reason = " ".join(str(problem).split()) or type(problem).__name__
            print(f"The saved training {self.path} is damaged ({reason}); it is kept as {kept.name}.")
            return 0
        for variable, value in saved:
            variable.assign(value)
        self.epoch, self.best_epoch = meta["epoch"], meta["best_epoch"]
        self.best_score, self.epoch_seconds, self.rows = meta["best_score"], meta["epoch_seconds"], meta["rows"]
        return self.epoch

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start the clock."""
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
        score = self.epoch if self.monitor is None else scores[self.monitor]
        if score > self.best_score:
            self.best_score, self.best_epoch = score, self.epoch
            self.best_weights = model.get_weights()
        self.epoch_seconds.append(time.perf_counter() - self._started)
        self._save(model)
        if self.finished_early:
            model.stop_training = True

    def _save(self, model: keras.Model) -> None:
        meta: dict[str, Any] = {
            "key": self.key,
            "epoch": self.epoch,
            "best_epoch": self.best_epoch,
            "best_score": self.best_score,
            "best_weights": len(self.best_weights),
            "epoch_seconds": self.epoch_seconds,
            "rows": self.rows,
        }
        arrays = {f"best{number}": weights for number, weights in enumerate(self.best_weights)}
        for prefix, variables in _variables(model).items():
            arrays |= {f"{prefix}{number}": np.asarray(v) for number, v in enumerate(variables)}
        with records.atomic_write(self.path) as temporary:
            np.savez(temporary, meta=json.dumps(meta), **arrays)

    def delete(self) -> None:
        """Delete the state, once the training is recorded."""
        self.path.unlink(missing_ok=True)


def _make_metrics(model: keras.Model, batch: tuple) -> None:
    """Make the variables of the metrics: Keras makes them in the first step, and then traces that step once more."""
    pictures, targets = keras.tree.map_structure(lambda array: array[:1], batch)
    answers = model(pictures)
    model.compute_loss(pictures, targets, answers)
    model.compute_metrics(pictures, targets, answers)
    model.reset_metrics()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read a whole checkpoint, so that damage at its end is found before anything is restored."""
    with np.load(path, allow_pickle=False) as state:
        arrays = dict(state)
    return json.loads(str(arrays.pop("meta"))), arrays


def _variables(model: keras.Model) -> dict[str, list]:
    """Give all that changes during training; the random state of dropout is among the variables of the model."""
    return {"model": model.variables, "optimizer": model.optimizer.variables}
