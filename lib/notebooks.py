"""Run a notebook the way make does: parameters checked, one process a folder, the product whole or not at all.

papermill by itself trains the defaults when a parameter is misspelt, and leaves a half-run notebook under the name
of a finished one. Here a mistake is a sentence, and a failed notebook is kept under another name for reading.
"""

import argparse
import ast
import contextlib
import difflib
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import papermill
import yaml
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from lib import paths, records
from lib.errors import UserError, report_error

TRACEBACK_LINES = 12
PARENT_CHECK_SECONDS = 0.5
# Mistakes of the surroundings, not of the code: their text is enough.
PLAIN_ERRORS = {"UserError", "UnreadablePicture", "OSError", "PermissionError", "FileNotFoundError"}
ANSI_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def read_parameters(path: Path) -> dict[str, Any]:
    """Read a parameter file.

    Args:
        path: A YAML file of one `name: value` a line.

    Returns:
        The values by name; empty for an empty file.

    Raises:
        UserError: The file is missing or is not a list of names and values.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"There is no parameter file {path}.") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as problem:
        raise UserError(f"{path} is not a YAML file: {problem}") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise UserError(f"{path} must hold one `name: value` a line, for example `epochs: 40`.")
    return values


def defaults(notebook: Path) -> dict[str, Any]:
    """Read the parameters of a notebook with their default values."""
    found = papermill.inspect_notebook(str(notebook))
    return {name: ast.literal_eval(parameter["default"]) for name, parameter in found.items()}


def values(notebook: str, namespace: dict[str, Any]) -> dict[str, Any]:
    """Take down the parameters of a running notebook, for its records.

    Args:
        notebook: Its name, such as "02_train".
        namespace: The notebook's `globals()`.

    Returns:
        Each parameter with the value that it has now.
    """
    return {name: namespace[name] for name in defaults(paths.NOTEBOOKS / f"{notebook}.ipynb")}


def checked(values: dict[str, Any], known: dict[str, Any], origin: str) -> dict[str, Any]:
    """Hold given parameters to those that a notebook has.

    Args:
        values: Values by name; a value for a number may be text, as on a command line.
        known: The notebook's parameters with their defaults, which give the types.
        origin: Where the values come from, for the message.

    Returns:
        The values, of the types of their defaults.

    Raises:
        UserError: A name is unknown or a value has the wrong type.
    """
    result = {}
    for name, value in values.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean `{near[0]}`?" if near else f" Known: {', '.join(known)}."
            raise UserError(f"{origin}: there is no parameter `{name}`.{hint}")
        result[name] = _typed(name, value, type(known[name]), origin)
    return result


def _typed(name: str, value: Any, expected: type, origin: str) -> Any:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    if expected is float and type(value) is int:
        return float(value)
    if type(value) is expected:
        return value
    hint = ""
    if expected is float and isinstance(value, str):
        try:
            # YAML 1.1 reads 1e-3 as text.
            hint = f" Write {Decimal(value):f} instead." if "e" in value.lower() else ""
        except ValueError:
            hint = ""
    raise UserError(f"{origin}: `{name}` must be {names[expected]}, not {value!r}.{hint}")


def run(notebook: Path, product: Path, values: dict[str, Any]) -> None:
    """Run a notebook from top to bottom and keep it, with its outputs, as `product`.

    Args:
        notebook: The notebook, stored without outputs.
        product: Where the executed notebook goes when every cell has succeeded. A failed one is kept beside it
            as `<name>.failed.ipynb`.
        values: Checked parameters.

    Raises:
        UserError: A cell failed; the text names it and shows the last lines.
    """
    failed = product.with_suffix(".failed.ipynb")
    product.parent.mkdir(parents=True, exist_ok=True)
    temporary = product.parent / f"{records.TEMPORARY}{product.name}"
    log = temporary.with_suffix(".log")
    # The kernel imports the `lib` beside this notebook, also where another checkout's is installed.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(paths.ROOT), os.environ.get("PYTHONPATH")]))
    # A kernel of the user's own named python3 would be another Python, without the packages.
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    try:
        with _native_messages_to(log):
            _execute(notebook, temporary, values)
    except PapermillExecutionError as problem:
        temporary.replace(failed)
        raise UserError(_explain(problem, notebook, failed)) from None
    except DeadKernelError:
        temporary.replace(failed)
        last = log.replace(failed.with_suffix(".log"))
        raise UserError(
            f"{notebook.stem}: the kernel was killed or ran out of memory. What it had done is in {failed}, its last "
            f"messages in {last}; the same command goes on from the last finished epoch."
        ) from None
    finally:
        log.unlink(missing_ok=True)
    temporary.replace(product)
    failed.unlink(missing_ok=True)
    failed.with_suffix(".log").unlink(missing_ok=True)


@contextlib.contextmanager
def _native_messages_to(log: Path) -> Iterator[None]:
    """Send the kernel's own standard error to a file.

    TensorFlow's libraries greet there on every import, at any log level; a crash of theirs says why there too.
    What cells print comes by another way and is not touched.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    try:
        with log.open("wb") as file:
            os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


def _execute(notebook: Path, output: Path, values: dict[str, Any]) -> None:
    """Execute, once more where the kernel could not start: two that start at once can pick the same port."""
    for last_try in (False, True):
        try:
            papermill.execute_notebook(
                str(notebook),
                str(output),
                parameters=values,
                kernel_name="python3",
                cwd=str(paths.ROOT),
                progress_bar=False,
                stdout_file=sys.stdout,
            )
            return
        except RuntimeError as problem:
            if last_try or "Kernel died before replying" not in str(problem):
                raise


def _explain(problem: PapermillExecutionError, notebook: Path, failed: Path) -> str:
    if problem.ename in PLAIN_ERRORS:
        return problem.evalue
    lines = ANSI_COLOUR.sub("", "\n".join(problem.traceback)).splitlines()[-TRACEBACK_LINES:]
    source = problem.source.strip().splitlines()[0]
    return "\n".join(
        [
            f"{notebook.stem} failed in code cell {problem.exec_count}, which begins `{source}`.",
            *(f"    {line}" for line in lines),
            f"The notebook, as far as it came, is {failed}.",
        ]
    )


def _end_with(parent: int) -> None:
    """End this process when its make is gone: `kill -9` of make alone must not leave a training behind."""
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_SECONDS)
    os._exit(1)


def main(arguments: list[str] | None = None) -> int:
    """Run a notebook from the command line.

    Args:
        arguments: As on the command line; those of the process by default.

    Returns:
        Exit status: 0, 2 for a mistake, 130 for Ctrl-C.
    """
    parser = argparse.ArgumentParser(prog="python -m lib.notebooks", description=__doc__.splitlines()[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("product", type=Path, help="where the executed notebook goes")
    parser.add_argument(
        "-f", dest="files", type=Path, action="append", default=[], help="a YAML file of parameters; a later one wins"
    )
    parser.add_argument(
        "-p", dest="pairs", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="wins over the file"
    )
    parser.add_argument("--lock", type=Path, help="the folder that one process at a time may work on")
    options = parser.parse_args(arguments)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    try:
        known = defaults(options.notebook)
        values: dict[str, Any] = {}
        for file in options.files:
            values |= checked(read_parameters(file), known, str(file))
        pairs = {name: _from_text(value, known.get(name)) for name, value in options.pairs}
        values |= checked(pairs, known, "command line")
        with records.lock(options.lock or options.product.parent):
            run(options.notebook, options.product, values)
    except (UserError, OSError) as problem:
        return report_error(problem)
    except KeyboardInterrupt:
        print("Interrupted. The same command goes on from the last finished epoch.", file=sys.stderr)
        return 130
    return 0


def _from_text(text: str, default: Any) -> Any:
    """Read a value from the command line: text where the parameter is text, else what YAML makes of it."""
    return text if isinstance(default, str) else yaml.safe_load(text)


if __name__ == "__main__":
    sys.exit(main())
