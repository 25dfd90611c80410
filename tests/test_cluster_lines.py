"""The lines of progress of several runs: how a worker reads and reports them, and how they stand on a terminal."""

import re
import sys
from types import SimpleNamespace

from lib.pipeline import cluster


def screen(text):
    """Give the lines of a terminal after a text with cursor movements."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[A|\r|\n|[^\x1b\r\n]+", text):
        column = 0 if part in "\r\n" else column
        row += {"\n": 1, "\x1b[A": -1}.get(part, 0)
        lines += [""] * (row + 1 - len(lines))
        if part.isprintable():
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + len(part) :]
            column += len(part)
    return [line.rstrip() for line in lines]


def test_on_a_terminal_a_run_has_one_line_which_stays_when_it_has_ended(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    lines = {}
    for run, text in (("cnn4", "epoch 1/2"), ("cnn6", "epoch 1/3"), ("cnn4", "epoch 2/2  loss 1.000")):
        cluster._show(lines, run, text)
    shown = capsys.readouterr().out
    assert screen(shown)[:2] == ["cnn4: epoch 2/2  lo", "cnn6: epoch 1/3"]
    cluster._show(lines, "cnn6", "done")
    lines.pop("cnn6").close()
    cluster._show(lines, "cnn4", "failed")
    lines.pop("cnn4").close()
    assert screen(shown + capsys.readouterr().out) == ["cnn6: done", "cnn4: failed", ""]


def test_where_there_is_no_terminal_each_epoch_is_a_line(capsys):
    lines = {}
    cluster._show(lines, "cnn4", "epoch 1/2")
    cluster._show(lines, "cnn4", "done")
    assert (capsys.readouterr().out, lines) == ("cnn4: epoch 1/2\ncnn4: done\n", {})


STEP = """
import sys
print("Training cnn4")
print("epoch  5/44  loss 1.234  val loss 1.346  macro F1 0.912    90 s  59 min left")
sys.exit("error: the disk is full" if sys.argv[2] == "failing" else 0)
"""


def run_a_step(tmp_path, run):
    """Run a step that prints a line of progress, as `tests/test_progress.py` has it, and keeps no saved state."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "__init__.py").touch()
    (tmp_path / "lib" / "pipeline.py").write_text(STEP)
    reported = []
    worker = SimpleNamespace(
        state=SimpleNamespace(
            nthreads=1,
            total_resources={cluster.TRAININGS: 1},
            tasks={"task": SimpleNamespace(state="executing")},
        ),
        get_current_task=lambda: "task",
        log_event=lambda topic, event: reported.append((topic, event)),
    )
    job = cluster.Job(run, ("train",), tmp_path / run, {}, {})
    return cluster._run_step("train", job, tmp_path, "topic", worker), reported


def test_an_epoch_is_reported_from_its_line(tmp_path):
    # The saved state may be gone by then: a training that has ended deletes it.
    error, [(topic, event)] = run_a_step(tmp_path, "cnn4")
    assert (error, topic) == ("", "topic")
    assert event[:3] == ("cnn4", 5, 0.912)
    assert event[3].startswith("epoch  5/44  loss 1.234")


def test_a_step_that_fails_says_why(tmp_path):
    assert run_a_step(tmp_path, "failing")[0] == "failing: the disk is full"
