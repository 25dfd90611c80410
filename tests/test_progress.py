"""What is shown while a network trains."""

import os
import pty
import select

import pytest

from lib.machine import TERMINAL_VARIABLE
from lib.training import progress as module
from lib.training.progress import Progress

SCORES = {"loss": 1.2345, "val_loss": 1.3456, "val_macro_f1": 0.9123}


def lines(epochs, seconds, numbers, capsys):
    """The lines printed after the epochs `numbers`, of `seconds` each."""
    progress = Progress(epochs, [seconds])
    for number in numbers:
        progress.on_epoch_begin(number - 1)
        progress.on_epoch_end(number - 1, SCORES)
    return capsys.readouterr().out.splitlines()


def test_a_line_holds_scores_duration_and_remaining_time(capsys):
    (line,) = lines(44, 90.4, [5], capsys)
    # 39 epochs of 90.4 s are 58.8 minutes.
    assert line == "epoch  5/44  loss 1.234  val loss 1.346  macro F1 0.912    90 s  59 min left"


@pytest.mark.parametrize("epochs", [44, 200])
def test_lines_are_aligned_and_fit_eighty_columns(epochs, capsys):
    lengths = {len(line) for line in lines(epochs, 512.0, [1, 9, 10, epochs], capsys)}
    assert len(lengths) == 1 and max(lengths) <= 80


@pytest.mark.parametrize(
    ("seconds", "left"), [(0.2, "1 s left"), (4, "20 s left"), (144, "12 min left"), (1440, "2.0 h left")]
)
def test_the_remaining_time_has_a_suitable_unit(seconds, left, capsys):
    assert lines(6, seconds, [1], capsys)[0].endswith(f" {left}")  # five epochs remain


def test_progress_within_an_epoch_is_drawn_on_the_terminal_and_cleared(monkeypatch):
    terminal, its_end = pty.openpty()
    monkeypatch.setenv(TERMINAL_VARIABLE, os.ttyname(its_end))
    monkeypatch.setattr(module, "UPDATE_SECONDS", -1)
    progress = Progress(6, [1.0])
    progress.set_params({"steps": 20})
    progress.on_epoch_begin(4)
    progress.on_train_batch_end(4, {"loss": 0.5})
    progress.on_epoch_end(4, SCORES)
    expected = b"\r\x1b[Kepoch 5/6: 25%, loss 0.500\r\x1b[K"
    drawn = b""
    while len(drawn) < len(expected) and select.select([terminal], [], [], 10)[0]:  # it hands over in parts
        drawn += os.read(terminal, 1_000)
    assert drawn == expected


def test_a_terminal_that_is_gone_stops_no_training(monkeypatch):
    monkeypatch.setenv(TERMINAL_VARIABLE, "/dev/pts/none")
    progress = Progress(6, [1.0])
    progress.on_epoch_begin(4)
    progress.on_epoch_end(4, SCORES)
