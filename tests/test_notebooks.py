"""How notebooks are stored, and how `lib.notebooks` runs them."""

import errno
import os
import pty
import re
import shutil
import subprocess
import sys

import nbformat
import papermill
import pytest

from lib import notebooks, paths, records
from lib.errors import UserError
from tests.patience import until

STORED = sorted(paths.NOTEBOOKS.glob("*.ipynb"))
PIPELINE = [path for path in STORED if re.match(r"\d\d_", path.name)]
MOST_LINES = 15


def stem(path):
    return path.stem


def cells(path, kind):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def is_parameters(cell):
    return "parameters" in cell.metadata.get("tags", [])


@pytest.mark.parametrize("path", STORED, ids=stem)
def test_a_notebook_opens_with_its_title_and_question(path):
    first = nbformat.read(path, as_version=4).cells[0]
    assert first.cell_type == "markdown"
    assert re.match(r"# .+\n\n.+", first.source)


@pytest.mark.parametrize("path", PIPELINE, ids=stem)
def test_the_first_code_cell_holds_the_parameters_each_explained(path):
    first, *others = cells(path, "code")
    assert is_parameters(first)
    assert not any(map(is_parameters, others))
    for line in first.source.splitlines():
        assert re.fullmatch(r"\w+ = [^#=]+  # [^=]+", line), line


@pytest.mark.parametrize("path", PIPELINE, ids=stem)
def test_papermill_understands_every_parameter(path):
    first = cells(path, "code")[0]
    assert list(papermill.inspect_notebook(str(path))) == [line.split(" = ")[0] for line in first.source.splitlines()]


@pytest.mark.parametrize("path", STORED, ids=stem)
def test_code_cells_are_short_and_stored_without_outputs(path):
    for cell in cells(path, "code"):
        assert cell.outputs == [] and cell.execution_count is None
        assert is_parameters(cell) or len(cell.source.splitlines()) <= MOST_LINES


@pytest.mark.parametrize("path", PIPELINE, ids=stem)
def test_pipeline_notebooks_define_nothing_that_belongs_in_lib(path):
    for cell in cells(path, "code"):
        assert not re.search(r"^\s*(def|class) ", cell.source, re.MULTILINE)


@pytest.mark.parametrize("path", STORED, ids=stem)
def test_prose_quotes_no_score(path):
    for cell in cells(path, "markdown"):
        assert not re.search(r"\b0?\.\d{2,}|\b\d+\.\d+ ?%", cell.source)


def test_no_path_is_pushed_onto_the_search_path():
    sources = [*paths.ROOT.glob("lib/**/*.py"), *STORED]
    assert [source.name for source in sources if "sys.path" in source.read_text(encoding="utf-8")] == []


KNOWN = {"epochs": 40, "rate": 0.1, "flip": True, "run": "cnn4", "overrides": {}}


def test_parameters_of_the_right_types_pass():
    given = {"epochs": 3, "rate": 1, "flip": False, "run": "x", "overrides": {"seed": 1}}
    assert notebooks.checked(given, KNOWN, "x.ipynb") == given


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"epoch": 3}, "x.ipynb: there is no parameter `epoch`. Did you mean epochs?"),
        ({"zzz": 3}, "Known: epochs, rate, flip, run, overrides."),
        ({"epochs": "abc"}, "`epochs` must be a whole number, not 'abc'."),
        ({"epochs": True}, "`epochs` must be a whole number, not True."),
        ({"rate": None}, "`rate` must be a number, not None."),
        ({"flip": 1}, "`flip` must be true or false, not 1."),
        ({"run": 4}, "`run` must be text, not 4."),
        ({"overrides": 4}, "`overrides` must be a list of names and values, not 4."),
    ],
)
def test_a_wrong_parameter_is_named(values, says):
    with pytest.raises(UserError) as problem:
        notebooks.checked(values, KNOWN, "x.ipynb")
    assert says in str(problem.value)


@pytest.fixture
def notebook(tmp_path):
    """A notebook of a parameters cell and the cells that the test names."""

    def write(*sources):
        parameters = nbformat.v4.new_code_cell("number = 1  # any", metadata={"tags": ["parameters"]})
        book = nbformat.v4.new_notebook(cells=[parameters, *map(nbformat.v4.new_code_cell, sources)])
        book.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        nbformat.write(book, tmp_path / "book.ipynb")
        return tmp_path / "book.ipynb"

    return write


def test_a_notebook_runs_with_its_parameters_from_the_repository(notebook, tmp_path, capfd):
    book = notebook("import os, lib\nprint(number + 1, os.getcwd(), os.environ.get('STUDY_TERMINAL'))")
    product = tmp_path / "out" / "done.ipynb"
    notebooks.run(book, product, {"number": 41})
    assert capfd.readouterr().out == f"42 {paths.ROOT} None\n"  # no progress is drawn in a file
    assert [p.name for p in product.parent.iterdir()] == ["done.ipynb"]


def test_messages_of_native_libraries_are_not_in_the_notebook(notebook, tmp_path, capfd, monkeypatch):
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # with it, ipykernel captures nothing
    # C++ code writes to the file descriptor, not to `sys.stderr`. A pipe holds 64 kB: whoever captures must read this.
    book = notebook("import os\nos.write(2, b'native message' * 50_000);")
    notebooks.run(book, tmp_path / "done.ipynb", {})
    assert [cell.outputs for cell in cells(tmp_path / "done.ipynb", "code")] == [[], []]
    assert "native message" not in capfd.readouterr().err


def test_a_failed_notebook_is_kept_and_its_cell_and_last_line_are_named(notebook, tmp_path):
    book = notebook("ok = 1", "numbers = []\nnumbers[7]")
    product = tmp_path / "out" / "done.ipynb"
    with pytest.raises(UserError) as problem:
        notebooks.run(book, product, {})
    said = str(problem.value)
    assert "book failed in code cell" in said and "`numbers = []`" in said
    assert "IndexError: list index out of range" in said
    assert [p.name for p in product.parent.iterdir()] == ["done.failed.ipynb"]


def test_a_mistake_of_the_user_is_told_without_traceback(notebook, tmp_path):
    book = notebook("from lib.errors import UserError\nraise UserError('There is no picture in x.')")
    with pytest.raises(UserError, match=r"^There is no picture in x\.$"):
        notebooks.run(book, tmp_path / "done.ipynb", {})


def test_a_killed_kernel_is_no_success(notebook, tmp_path):
    book = notebook("import os\nos._exit(0)")
    with pytest.raises(UserError, match="the kernel was killed or ran out of memory"):
        notebooks.run(book, tmp_path / "done.ipynb", {})
    assert not (tmp_path / "done.ipynb").exists()


def test_a_wrong_parameter_stops_before_anything_runs(notebook, tmp_path):
    with pytest.raises(UserError, match=r"book\.ipynb: `number` must be a whole number, not 'abc'\."):
        notebooks.run(notebook("raise RuntimeError"), tmp_path / "done.ipynb", {"number": "abc"})


@pytest.mark.parametrize(
    ("old", "new"), [("{", "<<<<<<< HEAD\n{"), ('"cells"', '"sells"'), ("number = 1", "number = 2 * 3")]
)
def test_a_notebook_that_cannot_be_read_is_named(notebook, tmp_path, old, new):
    book = notebook()
    book.write_text(book.read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=r"book\.ipynb cannot be read: [^\n]+ Repair it in JupyterLab, or restore"):
        notebooks.run(book, tmp_path / "product.ipynb", {})


def test_a_full_disk_is_told_with_the_notebook_that_could_not_be_written(notebook, tmp_path, monkeypatch):
    def execute(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    with pytest.raises(UserError, match=r"done\.ipynb cannot be written: No space left on device\. Make room there"):
        notebooks.run(notebook("1"), tmp_path / "done.ipynb", {})


def test_a_kernel_that_could_not_start_is_tried_once_more(notebook, tmp_path, monkeypatch):
    tries = []

    def fail_first(notebook, output, **settings):
        tries.append(1)
        if len(tries) == 1:
            raise RuntimeError("Kernel died before replying to kernel_info")
        shutil.copy(notebook, output)

    monkeypatch.setattr(papermill, "execute_notebook", fail_first)
    notebooks.run(notebook("pass"), tmp_path / "done.ipynb", {})
    assert len(tries) == 2 and (tmp_path / "done.ipynb").exists()


# As a step of make runs a notebook.
STEP = """
import pathlib, sys
from lib import machine, notebooks, records
machine.end_with_parent()
notebook, product = map(pathlib.Path, sys.argv[1:])
with records.lock(product.parent):
    notebooks.run(notebook, product, {})
"""


def test_the_runner_ends_when_its_make_is_killed(notebook, tmp_path):
    book = notebook(f"import time, pathlib\npathlib.Path('{tmp_path}/started').touch()\ntime.sleep(600)")
    runner = [sys.executable, "-c", STEP, str(book), str(tmp_path / "run" / "done.ipynb")]
    # A shell stands for make: it starts the runner as its child and waits.
    make = subprocess.Popen(["sh", "-c", '"$@"; true', "sh", *runner], cwd=paths.ROOT)
    until((tmp_path / "started").exists, make)
    make.kill()
    make.wait()
    # The lock is free as soon as the runner has ended; `lock` waits for it, and raises when it is not.
    with records.lock(tmp_path / "run"):
        pass


def test_a_notebook_learns_on_which_terminal_to_draw_its_progress(notebook, tmp_path):
    book = notebook("import os\nprint('on', os.environ['STUDY_TERMINAL'])")
    command = [sys.executable, "-c", STEP, str(book), str(tmp_path / "out" / "done.ipynb")]
    terminal, its_end = pty.openpty()
    subprocess.run(command, cwd=paths.ROOT, stdout=its_end, stderr=subprocess.DEVNULL, check=True)
    assert os.read(terminal, 10_000).decode() == f"on {os.ttyname(its_end)}\r\n\r\x1b[K"
