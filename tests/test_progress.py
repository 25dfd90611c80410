"""What is shown while a network trains."""

import pytest

from lib.machine import PROGRESS_VARIABLE
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


def test_progress_within_an_epoch_is_written_to_the_file_that_the_runner_names(tmp_path, monkeypatch):
    monkeypatch.setenv(PROGRESS_VARIABLE, str(tmp_path / "progress"))
    progress = Progress(6, [1.0])
    progress.set_params({"steps": 20})
    progress.on_epoch_begin(4)
    progress.on_train_batch_end(4, {"loss": 0.5})
    assert (tmp_path / "progress").read_text() == "epoch 5/6: 25%, loss 0.500"
    progress.on_epoch_end(4, SCORES)
    assert (tmp_path / "progress").read_text() == ""
