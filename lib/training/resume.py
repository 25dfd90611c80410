"""A killed training continues from its last epoch, and ends as if it had not been killed.

Keras' `BackupAndRestore` restores weights, optimiser and epoch, but not the best score that checkpointing and early
stopping remember, so that a resumed run can overwrite a better model. Here one callback keeps all of it in one file,
written atomically at the end of each epoch.
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
from lib.training.progress import Progress
from lib.training.recipe import Recipe

STATE_FILE = "state.npz"


class Training:
    """The course of one training: where it stands, the stages that are left, and the callbacks of `fit`.

    Example:
        training = Training(folder, model, data, recipe)
        for stage in training.stages():
            model.fit(train, callbacks=training.callbacks(train, validation), **stage)

    Args:
        folder: Folder of the run, where the state is kept.
        model: Compiled; it is restored to the last finished epoch of the same training, if there is one.
        data: The pictures that it trains on.
        recipe: The recipe; with the pictures, the network and the backend it decides what may be continued.
    """

    def __init__(self, folder: Path, model: keras.Model, data: Dataset, recipe: Recipe):
        decisive = [recipe.training_part(), data.manifest_sha256, data.preparation.model_dump(), model.to_json()]
        key = records.digest([*decisive, keras.backend.backend()])
        self.recipe = recipe
        self.checkpoint = Checkpoint(folder, key, monitor="val_macro_f1", patience=recipe.patience)
        epoch = self.checkpoint.restore(model)
        print(f"Continuing after epoch {epoch}." if epoch else "Starting at epoch 1.")

    def stages(self) -> Iterator[dict[str, int]]:
        """Yield the epochs of each stage that is left, as arguments of `fit`: one stage for each picture size.

        Keras expects the shape of the first batches to stay the same within one `fit`.
        """
        for end in sorted({batches.progressive_epochs(self.recipe), self.recipe.epochs}):
            if self.checkpoint.epoch < self.checkpoint.last_epoch(end):
                yield {"initial_epoch": self.checkpoint.epoch, "epochs": end}

    def callbacks(self, *data: batches.Batches) -> list[keras.callbacks.Callback]:
        """Make the callbacks of `fit`: the order of the batches, the checkpoint, a line for each epoch.

        Args:
            *data: The batches of training and of validation.
        """

        def begin(epoch: int, logs: dict[str, float] | None = None) -> None:
            for each in data:
                each.begin(epoch)

        begin(self.checkpoint.epoch)
        order = keras.callbacks.LambdaCallback(on_epoch_begin=begin)
        return [order, self.checkpoint, Progress(self.recipe.epochs, self.checkpoint.epoch_seconds)]


class Checkpoint(keras.callbacks.Callback):
    """Keep the history, the best weights by a validation score, and the patience, across a `kill -9`.

    Pass it to `fit` with `initial_epoch=checkpoint.epoch`, after `restore`.

    Args:
        folder: Where the state is kept; made if need be.
        key: A digest of everything that decides the run. A state with another key belongs to another training and is not used.
        monitor: The score to choose the weights by; the first highest wins.
        patience: Epochs without a better score after which training stops; 0 never stops.

    Attributes:
        epoch: Finished epochs.
        best_epoch: The epoch, counted from 1, with the best score; 0 before the first.
        epoch_seconds: Time spent in each finished epoch, validation included.
    """

    def __init__(self, folder: Path, key: str, monitor: str = "val_macro_f1", patience: int = 0):
        super().__init__()
        self.path = Path(folder) / STATE_FILE
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
        """One row a finished epoch: `epoch` from 1, the scores that `fit` reports, `learning_rate`."""
        return pd.DataFrame(self.rows)

    @property
    def seconds(self) -> float:
        """Time spent in the finished epochs, over all processes."""
        return sum(self.epoch_seconds)

    @property
    def finished_early(self) -> bool:
        """Whether patience has run out."""
        return bool(self.patience) and self.epoch - self.best_epoch >= self.patience

    def restore(self, model: keras.Model) -> int:
        """Restore a compiled model to its last finished epoch.

        Args:
            model: Built and compiled as it was when the state was written.

        Returns:
            The number of finished epochs, 0 where there is no state of this run.
        """
        model.optimizer.build(model.trainable_variables)
        if not self.path.exists():
            return 0
        with np.load(self.path, allow_pickle=False) as state:
            meta = json.loads(str(state["meta"]))
            if meta["key"] != self.key:
                return 0
            for prefix, variables in _variables(model).items():
                for number, variable in enumerate(variables):
                    variable.assign(state[f"{prefix}{number}"])
            self.best_weights = [state[f"best{number}"] for number in range(meta["best_weights"])]
        self.epoch, self.best_epoch = meta["epoch"], meta["best_epoch"]
        self.best_score, self.epoch_seconds, self.rows = meta["best_score"], meta["epoch_seconds"], meta["rows"]
        return self.epoch

    def last_epoch(self, epochs: int) -> int:
        """Tell `fit` where to end: at the present epoch when patience had run out before the kill."""
        return self.epoch if self.finished_early else epochs

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Record the epoch, keep the weights if they are the best so far, and save everything.

        Raises:
            UserError: The loss is not finite; the state stays that of the epoch before.
        """
        model = self.model
        scores = {name: float(value) for name, value in (logs or {}).items()}
        if not all(np.isfinite(value) for name, value in scores.items() if name.endswith("loss")):
            raise UserError(
                f"Training diverged: the loss of epoch {epoch + 1} is not a finite number. Lower `learning_rate` in the recipe, "
                "or set `precision: float32`."
            )
        self.epoch = epoch + 1
        self.rows.append({"epoch": self.epoch, **scores, "learning_rate": float(model.optimizer.learning_rate)})
        if scores[self.monitor] > self.best_score:
            self.best_score, self.best_epoch = scores[self.monitor], self.epoch
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
        """Remove the state of a run that is finished."""
        self.path.unlink(missing_ok=True)


def _variables(model: keras.Model) -> dict[str, list]:
    """Everything that changes during training; the dropout layers' random state is among the model's variables."""
    return {"model": model.variables, "optimizer": model.optimizer.variables}
