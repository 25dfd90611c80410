"""A run that was killed goes on where it was, and ends as if it had not been killed.

Keras' `BackupAndRestore` brings back weights, optimiser and epoch, but not the best score that checkpointing and
early stopping remember, so that a resumed run can overwrite a better model. Here one callback keeps all of it in
one file, written by rename at the end of each epoch.
"""

import json
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from lib import records
from lib.errors import UserError

STATE_FILE = "state.npz"


class Checkpoint(keras.callbacks.Callback):
    """Keeps the history, the best weights by a validation score, and the patience, across a `kill -9`.

    Pass it to `fit` with `initial_epoch=checkpoint.epoch`, after `restore`.

    Args:
        folder: Where the state is kept; made if need be.
        key: A digest of everything that decides the run. A state with another key is another run's and is not used.
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
        """Bring a compiled model to where its run was.

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
        """Take down the epoch, keep the weights if they are the best so far, and save everything.

        Raises:
            UserError: The loss is no number any more; the state stays that of the epoch before.
        """
        model = self.model
        scores = {name: float(value) for name, value in (logs or {}).items()}
        if not all(np.isfinite(value) for name, value in scores.items() if name.endswith("loss")):
            raise UserError(
                f"Training diverged: in epoch {epoch + 1} the loss is no number any more. Lower `learning_rate` in the "
                "parameter file, or set `precision: float32`."
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
