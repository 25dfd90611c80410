"""What is shown during a training: a line for each finished epoch, and one that moves within the current epoch."""

import contextlib
import os
import time

import keras

from lib.machine import LINE_START, TERMINAL_VARIABLE

UPDATE_SECONDS = 0.5
LABELS = {"loss": "loss", "val_loss": "val loss", "val_macro_f1": "macro F1", "macro_f1": "macro F1 in training"}


class Progress(keras.callbacks.Callback):
    """Print a line for each epoch, and draw how far the current one is on the terminal of make.

    Args:
        epochs: Epochs of the whole training, over all calls of `fit`.
        epoch_seconds: Duration of each finished epoch; another callback appends to it before this one is called.
    """

    def __init__(self, epochs: int, epoch_seconds: list[float]):
        super().__init__()
        self.epochs = epochs
        self.epoch_seconds = epoch_seconds
        self._terminal = os.environ.get(TERMINAL_VARIABLE)

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Remember the epoch, which `on_train_batch_end` does not receive."""
        self._epoch = epoch + 1
        self._updated = time.monotonic()  # not now: the line of the epoch before is still on its way

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Draw the fraction of the epoch that is done and the loss so far."""
        now = time.monotonic()
        if self._terminal and now - self._updated > UPDATE_SECONDS:
            self._updated = now
            done = (batch + 1) / self.params["steps"]
            self._draw(f"epoch {self._epoch}/{self.epochs}: {done:.0%}, loss {float(logs['loss']):.3f}")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Print the scores of the epoch, its duration and the remaining time, in at most 80 columns."""
        if self._terminal:
            self._draw("")
        scores = scores_by_name(logs or {})
        seconds = self.epoch_seconds[-1]
        remaining = _duration(seconds * (self.epochs - self._epoch))
        of_validation = ("val_loss", "val_macro_f1") if "val_loss" in scores else ("macro_f1",)
        shown = "  ".join(f"{LABELS[name]} {scores[name]:.3f}" for name in ("loss", *of_validation))
        number = str(self._epoch).rjust(len(str(self.epochs)))
        print(f"epoch {number}/{self.epochs}  {shown}  {seconds:4.0f} s  {remaining:>6} left", flush=True)

    def _draw(self, line: str) -> None:
        """Draw a line where the output of the kernel does not go; a terminal that is closed or stopped is let be."""
        with contextlib.suppress(OSError):
            opened = os.open(self._terminal, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
            with os.fdopen(opened, "wb", buffering=0) as terminal:
                terminal.write(f"{LINE_START}{line}".encode())


def scores_by_name(logs: dict[str, float]) -> dict[str, float]:
    """Name scores alike for all networks: Keras adds the name of the output where a network has several."""
    losses = ("probabilities_loss", "val_probabilities_loss")  # parts of `loss` and `val_loss`
    return {name.replace("probabilities_", ""): float(value) for name, value in logs.items() if name not in losses}


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
