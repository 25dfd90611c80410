"""What is shown while a network trains: a line for each epoch, and one that moves within it."""

import os
import time
from pathlib import Path

import keras

from lib.machine import PROGRESS_VARIABLE

SECONDS_BETWEEN_UPDATES = 0.5


class Progress(keras.callbacks.Callback):
    """Print a line for each epoch, and keep a line on the present one for whoever runs the notebook.

    Args:
        epochs: Epochs in the whole training.
        epoch_seconds: Time of each finished epoch; the list grows as the training goes on.
    """

    def __init__(self, epochs: int, epoch_seconds: list[float]):
        super().__init__()
        self.epochs = epochs
        self.epoch_seconds = epoch_seconds
        self._file = os.environ.get(PROGRESS_VARIABLE)
        self._updated = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Remember the epoch."""
        self._epoch = epoch + 1

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Say how far the epoch is."""
        steps, now = self.params.get("steps"), time.monotonic()
        if self._file and steps and now - self._updated > SECONDS_BETWEEN_UPDATES:
            self._updated = now
            line = f"epoch {self._epoch}/{self.epochs}: {(batch + 1) / steps:.0%}, loss {float(logs['loss']):.3f}"
            Path(self._file).write_text(line, encoding="utf-8")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Print the scores of the epoch and the time that is left."""
        if self._file:
            Path(self._file).write_text("", encoding="utf-8")
        seconds = self.epoch_seconds[-1]
        left = seconds * (self.epochs - self._epoch) / 60
        width = len(str(self.epochs))
        print(
            f"epoch {self._epoch:{width}}/{self.epochs}  loss {logs['loss']:.3f}  "
            f"validation loss {logs['val_loss']:.3f}, macro F1 {logs['val_macro_f1']:.3f}  "
            f"{seconds:.0f} s, {left:.0f} min left"
        )
