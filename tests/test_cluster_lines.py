"""The lines of progress of several runs: how a worker reads and reports them, and how they stand on a terminal."""

import re
from types import SimpleNamespace

from lib import cluster


def screen(text: str) -> list[str]:
    """Give the lines of a terminal after a text with cursor movements."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[\d*[AKJ]|\r|\n|[^\x1b\r\n]+", text):
        if part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part.endswith("A") and part[0] == "\x1b":
            row -= int(part[2:-1])
        elif part == "\x1b[K":
            lines[row] = ""
        elif part == "\x1b[J":
            lines[row:] = [""]
        elif part != "\r":
            lines[row] = part
    return lines


def test_a_run_has_one_line_which_stays_when_it_has_ended(capsys):
    lines = cluster._Lines(on_terminal=True)
    lines.show("cnn4", "epoch 1/2")
    lines.show("cnn6", "epoch 1/3")
    lines.show("cnn4", "epoch 2/2")
    shown = capsys.readouterr().out
    assert screen(shown) == ["cnn4: epoch 2/2", "cnn6: epoch 1/3", ""]
    lines.end("cnn4", "done")
    lines.show("cnn6", "epoch 2/3")
    assert screen(shown + capsys.readouterr().out) == ["cnn4: done", "cnn6: epoch 2/3", ""]


def test_a_line_is_cut_at_the_edge_of_the_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    lines = cluster._Lines(on_terminal=True)
    lines.show("cnn4", "epoch 1/2  loss 1.000  macro F1 0.500")
    assert screen(capsys.readouterr().out) == ["cnn4: epoch 1/2  lo", ""]


def test_where_there_is_no_terminal_each_epoch_is_a_line(capsys):
    lines = cluster._Lines(on_terminal=False)
    lines.show("cnn4", "epoch 1/2")
    lines.show("cnn4", "epoch 2/2")
    lines.end("cnn4", "done")
    assert capsys.readouterr().out == "cnn4: epoch 1/2\ncnn4: epoch 2/2\ncnn4: done\n"


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
    assert (error, topic) == (None, "topic")
    assert (event["run"], event["epoch"], event["score"]) == ("cnn4", 5, 0.912)
    assert event["line"].startswith("epoch  5/44  loss 1.234")


def test_a_step_that_fails_says_why(tmp_path):
    assert run_a_step(tmp_path, "failing")[0] == "failing: the disk is full"
