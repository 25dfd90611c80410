"""The lines of progress of several runs, as they stand on a terminal."""

import re

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
