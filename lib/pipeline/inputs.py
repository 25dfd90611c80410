"""What a product was made from: digests of code, parameters and data, kept beside it.

Make decides by time what might be stale; a step decides by these digests. Comments, docstrings, file times and the
prose of a notebook change none of them.
"""

import ast
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lib import paths, records
from lib.errors import UserError

MISSING = "it is missing"

# The packages of `lib` that notebooks import from, from left to right, as data flows; no module imports from a package
# to its right.
PACKAGES = ("drawing", "data", "training", "inference", "evaluation", "study", "serving")
# What lies to the right of a step's own package only shows what the step has made, and decides no product.
PACKAGE_OF_STEP = {
    "01_prepare": "data",
    "02_train": "training",
    "03_evaluate": "evaluation",
    "05_robustness": "evaluation",
}


def files(notebook: Path) -> list[Path]:
    """List the files of `lib` that decide what a notebook writes; of one that is no step, those of all packages count.

    Returns:
        Paths of the modules that its cells import and of those that these import, with the tables (YAML) beside
        them, sorted.
    """
    packages = PACKAGES[: PACKAGES.index(PACKAGE_OF_STEP.get(notebook.stem, PACKAGES[-1])) + 1]
    waiting, found = set(_imported("\n".join(_code_cells(notebook)), notebook)), set()
    while waiting:
        path = waiting.pop()
        package = path.relative_to(paths.ROOT).parts[1]
        if path not in found and (package in packages or package.endswith(".py")):
            found.add(path)
            waiting |= _imported(path.read_text(encoding="utf-8", errors="replace"), path)
    tables = {table for path in found if path.parent.name in packages for table in path.parent.glob("*.yaml")}
    return sorted(found | tables)


@functools.cache
def _imported(source: str, origin: Path) -> set[Path]:
    """Find the modules of `lib` that a source imports, inside functions too."""
    names = set()
    for node in _statements(_tree(source, origin)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    places = [paths.ROOT.joinpath(*name.split(".")) for name in names if name.split(".")[0] == "lib"]
    found = {place.with_suffix(".py") for place in places} | {place / "__init__.py" for place in places}
    return {path for path in found if path.is_file()}


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Walk the statements of a tree, and not their expressions, which hold most of its nodes."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield child
            yield from _statements(child)


def _tree(source: str, origin: Path) -> ast.Module:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError) as problem:
        raise UserError(f"{origin} is no Python: {problem}. Mend it, or take back your change of it.") from None


def _code_cells(notebook: Path) -> list[str]:
    """Give the sources of the code cells, without that of the parameters, whose values are inputs of their own."""
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        return [
            _python("".join(cell["source"])) for cell in code if "parameters" not in cell["metadata"].get("tags", [])
        ]
    except (ValueError, LookupError, TypeError, SyntaxError) as problem:
        raise UserError(
            f"{notebook} cannot be read: {problem}. Repair it in JupyterLab, or take back your changes by "
            f"`git checkout {notebook.relative_to(paths.ROOT)}`."
        ) from None


@functools.cache
def _python(source: str) -> str:
    """Give the source of a cell; what only IPython knows, such as `%matplotlib inline`, as calls of Python."""
    try:
        ast.parse(source)
    except SyntaxError:
        from IPython.core.inputtransformer2 import TransformerManager  # slow to import, and few notebooks need it

        source = TransformerManager().transform_cell(source)
        ast.parse(source)
    return source


def code_digests(notebook: Path, *more: Path) -> dict[str, str]:
    """Hash the code that decides what a notebook writes, and `more` modules.

    Returns:
        A digest of each of its `files`, by its path below the repository, and of the notebook's code cells.
    """
    sources = {path: path.read_text(encoding="utf-8", errors="replace") for path in (*files(notebook), *more)}
    found = {path: _digest(path, source) for path, source in sources.items()}
    found[notebook] = _cells_digest(tuple(_code_cells(notebook)))
    return {path.relative_to(paths.ROOT).as_posix(): digest for path, digest in found.items()}


@functools.cache
def _cells_digest(cells: tuple[str, ...]) -> str:
    """Hash the syntax trees of code cells."""
    return records.digest([_plain(ast.parse(cell)) for cell in cells])


@functools.cache
def _digest(path: Path, source: str) -> str:
    """Hash the values of a table, or the syntax tree of a module without its docstrings."""
    if path.suffix == ".yaml":
        return records.digest(records.read_yaml(path))
    tree = _tree(source, path)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and len(node.body) > 1:
                del node.body[0]
    return records.digest(_plain(tree))


def _plain(node: Any) -> Any:
    """Give a syntax tree as lists, the same in every version of Python: what is empty is left out."""
    if isinstance(node, ast.AST):
        fields = ((name, _plain(value)) for name, value in ast.iter_fields(node) if value not in (None, []))
        return [type(node).__name__, *fields]
    return [_plain(each) for each in node] if isinstance(node, list) else repr(node)


def changed(product: Path, inputs: dict[str, Any] | None = None, beside: tuple[str, ...] = ()) -> list[str]:
    """Say why a product is stale.

    Args:
        product: The file that a step writes last.
        inputs: Digests or values by name, as they are now; None asks about the files alone.
        beside: Names of other files of the folder that belong to it.

    Returns:
        A reason for each input that differs from what the product was made from; empty if it is up to date.
    """
    if not product.is_file():
        return [MISSING]
    made_from = _read(product.parent).get(product.name)
    if made_from is None:
        return [f"{product.name} has no record of its inputs"]
    files = {name: _sha256(product.with_name(name)) for name in (product.name, *beside) if name in made_from}
    if replaced := [name for name, digest in files.items() if made_from[name] != digest]:
        return [f"{name} was changed by something else" for name in replaced]
    now = made_from if inputs is None else inputs | files
    names = sorted(name for name in now.keys() | made_from.keys() if now.get(name) != made_from.get(name))
    return [f"{name} changed" for name in names]


def write(product: Path, inputs: dict[str, Any], beside: tuple[str, ...] = ()) -> None:
    """Record what a product was made from, with the digests of the product itself and of what belongs to it."""
    kept = {name: value for name, value in _read(product.parent).items() if (product.parent / name).exists()}
    record = inputs | {name: _sha256(product.with_name(name)) for name in (product.name, *beside)}
    records.write_json(product.parent / records.INPUTS, kept | {product.name: record})


def _sha256(path: Path) -> str:
    """Hash a file; empty if there is none."""
    return records.file_sha256(path) if path.is_file() else ""


def _read(folder: Path) -> dict[str, Any]:
    """Read the record of a folder; one that is missing or damaged says nothing, so that the step runs."""
    try:
        found = records.read_json(folder / records.INPUTS)
    except UserError:
        return {}
    return {name: made_from for name, made_from in found.items() if isinstance(made_from, dict)}
