"""The executed copies in `docs/study/` are those of today's notebooks, small, and without frames and paths."""

import base64
import io
import re

import nbformat
import numpy as np
import pytest
from PIL import Image

from lib import paths
from lib.errors import UserError
from lib.pipeline import copies, graph, inputs
from lib.serving import site

STORED = sorted(paths.STUDY.glob("*.ipynb"))


def test_no_copy_is_stale():
    made = {path.stem: nbformat.read(path, as_version=4).metadata["study"]["digest"] for path in STORED}
    now = {name: copies.digest(paths.NOTEBOOKS / f"{name}.ipynb") for name in copies.EXECUTED}
    assert made == now, "run `make study`"


def test_the_copies_fit_into_the_repository():
    assert sum(path.stat().st_size for path in paths.STUDY.iterdir()) <= 4_000_000


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_a_copy_has_outputs_no_mistake_and_no_path_of_a_machine(path):
    book = nbformat.read(path, as_version=4)
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    assert outputs
    assert [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"] == []
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.:/])/(home|root|Users|tmp|work)/", text)
    assert not re.search(r"<\w[\w.]* at 0x", text)  # an address in memory, another in each execution


def test_the_comparison_is_that_of_the_published_records():
    text = (paths.STUDY / "04_compare.ipynb").read_text(encoding="utf-8")
    assert 'data_name = \\"published\\"' in text


@pytest.fixture
def elsewhere(monkeypatch):
    """Notebooks outside of the repository depend on no module of it."""
    monkeypatch.setattr(inputs, "code_digests", lambda notebook: {})


def executed(tmp_path, source="1 + 1", **metadata):
    """Write a notebook and its execution; returns both paths."""
    cells = [
        nbformat.v4.new_markdown_cell("# Title\n\n*Why?* Text.", id="title"),
        nbformat.v4.new_code_cell("number = 1  # any", id="parameters", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("1 + 1", id="sum"),
        nbformat.v4.new_code_cell("print(2)", id="terminal", metadata={"tags": ["terminal"]}),
    ]
    kept = {"kernelspec": {"name": "python3", "display_name": "Python 3"}, "language_info": {"name": "python"}}
    book = nbformat.v4.new_notebook(cells=cells, metadata=kept)
    nbformat.write(book, tmp_path / "page.ipynb")
    picture = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(picture, "PNG")
    data = {"image/png": base64.b64encode(picture.getvalue()).decode(), "text/plain": "<Chart>"}
    book.cells[2].outputs = [nbformat.v4.new_output("display_data", data), nbformat.v4.new_output("stream", text="2")]
    button = {copies.WIDGET: {"model_id": "1"}, "text/plain": "VBox()"}
    book.cells[2].outputs.append(nbformat.v4.new_output("display_data", button))
    book.cells[2].source = source
    book.cells.insert(2, nbformat.v4.new_code_cell("number = 2", metadata={"tags": ["injected-parameters"]}))
    book.metadata["papermill"] = {"output_path": "/home/somebody"}
    nbformat.write(book, tmp_path / "done.ipynb")
    return tmp_path / "page.ipynb", tmp_path / "done.ipynb"


def test_a_copy_has_todays_text_the_outputs_and_smaller_pictures(tmp_path, elsewhere):
    notebook, done = executed(tmp_path)
    book = copies.copy(notebook, done)
    assert [cell.id for cell in book.cells] == ["title", "parameters", "injected-parameters", "sum"]
    picture, said, button = book.cells[3].outputs
    assert said.text == "2" and picture.data.keys() == {"image/png"}
    assert button.data == {"text/markdown": copies.NEEDS_KERNEL}  # a widget is nothing without its kernel
    before = nbformat.read(done, as_version=4).cells[3].outputs[0].data["image/png"]
    assert len(picture.data["image/png"]) < len(before)
    assert "papermill" not in book.metadata


def test_outputs_of_other_code_are_rejected(tmp_path):
    with pytest.raises(UserError, match=r"was made from another page\.ipynb"):
        copies.copy(*executed(tmp_path, source="1 + 2"))


def test_a_notebook_that_was_not_executed_is_named(tmp_path):
    notebook, _ = executed(tmp_path)
    with pytest.raises(UserError, match="`make study` executes it"):
        copies.copy(notebook, tmp_path / "missing.ipynb")


def test_prose_and_code_of_a_notebook_change_its_digest(tmp_path, elsewhere):
    notebook, _ = executed(tmp_path)
    before = copies.digest(notebook)
    for cell in (0, 2):
        book = nbformat.read(notebook, as_version=4)
        book.cells[cell].source += " # more"
        nbformat.write(book, tmp_path / "changed.ipynb")
        assert copies.digest(tmp_path / "changed.ipynb") != before


def test_copies_become_web_pages(tmp_path, elsewhere):
    notebook, done = executed(tmp_path)
    (tmp_path / "copies").mkdir()
    nbformat.write(copies.copy(notebook, done), tmp_path / "copies" / "page.ipynb")
    site.write_study(tmp_path / "site", tmp_path / "copies")
    assert "Title" in (tmp_path / "site" / "page.html").read_text(encoding="utf-8")


PRINTED = """
data: data/processed/x/manifest.csv
data/raw/x/source.json: | .venv/.installed
data/processed/x/manifest.csv: data/raw/x/source.json notebooks/01_prepare.ipynb lib/__init__.py lib/paths.py
VARIABLE := outputs/x: y
outputs/x/run/run.json: data/processed/x/manifest.csv notebooks/02_train.ipynb lib/paths.py lib/errors.py
outputs/x/another/run.json: data/processed/x/manifest.csv notebooks/02_train.ipynb lib/paths.py lib/errors.py
"""


def test_the_graph_is_that_of_the_rules():
    found = graph.rules(PRINTED, "run")
    assert list(found) == ["data/processed/x/manifest.csv", "data/raw/x/source.json", "outputs/x/run/run.json"]
    run = found["outputs/x/run/run.json"]
    assert (run.needs, run.notebook, run.modules) == (["data/processed/x/manifest.csv"], "02_train", 2)
    assert found["data/processed/x/manifest.csv"].goals == ["data"]


def test_make_prints_every_step_of_the_pipeline(monkeypatch):
    monkeypatch.setenv("MAKEFLAGS", " -- DATA=kaggle RUNS=cnn4 SIZE=96")  # of a make around it
    notebooks = {rule.notebook for rule in graph.rules(graph.database()).values()}
    assert all("/sample/" in name for name in graph.rules(graph.database()))
    assert notebooks == {"", "01_prepare", "02_train", "03_evaluate", "05_robustness"}


def test_the_page_of_the_copies_names_each_with_what_it_found():
    page = (paths.STUDY / "README.md").read_text(encoding="utf-8")
    found = {name: nbformat.read(paths.STUDY / f"{name}.ipynb", as_version=4) for name in copies.EXECUTED}
    assert page == copies._contents(found)
    assert page.index("pipeline.png") < page.index("01_prepare.ipynb")
    assert (paths.DOCS / "study" / "pipeline.png").is_file()
