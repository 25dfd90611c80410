"""Executed copies of the notebooks in `docs/study/`, for readers on a code host.

`make study` runs the notebooks on the drawn sample and on the published records. A copy has the text of today's
notebook and the outputs of its last execution, and holds the `digest` of what it was made from, so that a test notices
which are to be written again. No copy shows a film frame, since none was made from any.
"""

import base64
import io
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from PIL import Image

from lib import paths, records
from lib.errors import UserError
from lib.evaluation import plots
from lib.pipeline import graph, inputs

RUN = "cnn6"  # made after cnn4, so that its report on corruptions can compare the two
# Where the executed notebook of each copy is.
EXECUTED = {
    "01_prepare": paths.PROCESSED / "sample" / "prepare.ipynb",
    "02_train": paths.OUTPUTS / "sample" / RUN / "train.ipynb",
    "03_evaluate": paths.OUTPUTS / "sample" / RUN / "evaluate.ipynb",
    "04_compare": paths.PUBLISHED / "compare.ipynb",
    "05_robustness": paths.OUTPUTS / "sample" / RUN / "robustness.ipynb",
    "predict": paths.OUTPUTS / "sample" / "predict.ipynb",
}
COLOURS = 96  # of a picture's palette: a quarter of the bytes, and the difference is hard to see
WIDGET = "application/vnd.jupyter.widget-view+json"
NEEDS_KERNEL = "*A button or a form is here in a running notebook; `make lab` opens it.*"
TERMINAL = "terminal"  # tag of a cell whose output is for the terminal
PAGE = f"""# The study, executed

Written by `make study`: the notebooks with their outputs, on the drawn sample; the comparison is that of the \
published records of the real archive. 06_review, 07_unknown, explore and dashboard have no copy: they need real \
pictures, a training of hours, or a visitor. The [glossary](../glossary.md) has the terms; pictures have \
{COLOURS} colours here, to save space.

![The files of the pipeline, each with the notebook that makes it](pipeline.png)

| notebook | question | found |
|---|---|---|
"""


def digest(notebook: Path) -> str:
    """Hash what a copy is made from: the cells of its notebook, prose included, and the modules that decide outputs."""
    cells = [(cell.cell_type, cell.source) for cell in nbformat.read(notebook, as_version=4).cells]
    return records.digest([cells, inputs.code_digests(notebook)])


def copy(notebook: Path, executed: Path) -> NotebookNode:
    """Join a notebook with the outputs that cells of the same ids have in `executed`, without times and paths.

    Raises:
        UserError: The notebook was executed with other code, or not at all.
    """
    if not executed.is_file():
        raise UserError(f"{notebook.name} was not executed: there is no {executed}. `make study` executes it.")
    result = nbformat.read(notebook, as_version=4)
    done = nbformat.read(executed, as_version=4)
    by_id = {cell.id: cell for cell in done.cells}
    injected = [cell for cell in done.cells if "injected-parameters" in cell.metadata.get("tags", [])]
    cells = []
    for cell in result.cells:
        tags = cell.metadata.get("tags", [])
        if TERMINAL in tags:
            continue
        if cell.cell_type == "code":
            ran = by_id.get(cell.id)
            if ran is None or ran.source != cell.source:
                raise UserError(f"{executed} was made from another {notebook.name}. Delete it and run `make study`.")
            cell.outputs = list(map(_for_readers, ran.outputs))
            cell.execution_count = ran.execution_count
        cells.append(cell)
        if "parameters" in tags:
            cells += [nbformat.v4.new_code_cell(each.source, id="injected-parameters") for each in injected]
    result.cells = cells
    result.metadata = {key: result.metadata[key] for key in ("kernelspec", "language_info")}
    result.metadata["study"] = {"digest": digest(notebook)}
    return result


def _for_readers(output: NotebookNode) -> NotebookNode:
    """Write the picture of an output with a palette, and leave out what only the kernel knew."""
    if WIDGET in output.get("data", {}):  # without its kernel it would be an empty place
        return nbformat.v4.new_output("display_data", {"text/markdown": NEEDS_KERNEL})
    if "data" in output and "image/png" in output.data:
        picture = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"]))).convert("RGB")
        contents = io.BytesIO()
        picture.quantize(COLOURS, dither=Image.Dither.NONE).save(contents, "PNG", optimize=True)
        output.data = {"image/png": base64.b64encode(contents.getvalue()).decode()}
        output.metadata = {}
    if "text/html" in output.get("data", {}):
        output.data.pop("text/plain", None)  # of a table, an address in memory, which differs each time
    return output


def write() -> list[Path]:
    """Write all copies, the picture of the pipeline, and the page that opens them; returns the paths of the copies.

    Raises:
        UserError: A notebook was not executed.
    """
    found = {name: copy(paths.NOTEBOOKS / f"{name}.ipynb", executed) for name, executed in EXECUTED.items()}
    texts = {paths.STUDY / f"{name}.ipynb": nbformat.writes(notebook) + "\n" for name, notebook in found.items()}
    for path, text in texts.items():
        records.write_text(path, text)
    plots.save(graph.draw(graph.rules(graph.database(), RUN)), paths.STUDY / "pipeline.png")
    records.write_text(paths.STUDY / "README.md", _contents(found))
    return list(texts)


def _contents(found: dict[str, NotebookNode]) -> str:
    """Write the page that opens the copies: the pipeline, then each notebook with its question and what it found."""
    rows = []
    for name, notebook in found.items():
        title, question = notebook.cells[0].source.removeprefix("# ").split("\n\n")[:2]
        outputs = (out.get("data", {}) for cell in notebook.cells for out in cell.get("outputs", []))
        texts = [data.get("text/markdown", "") for data in outputs]
        conclusions = [text.removeprefix("**Found:** ") for text in texts if text.startswith("**Found:**")]
        rows.append(f"| [{title}]({name}.ipynb) | {question.split('*')[1]} | {(conclusions or ['–'])[-1]} |\n")
    return PAGE + "".join(rows)
