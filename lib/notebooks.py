"""Run a notebook the way make does: parameters checked, one process per folder, output written atomically.

papermill alone trains the defaults when a parameter is misspelt, and leaves a half-run notebook under the name of a
finished one. Here a mistake is one clear message, and a failed notebook is kept under another name for reading.
"""

import ast
import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import papermill
import pydantic
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from lib import machine, paths, records
from lib.errors import UserError
from lib.settings import Settings

TRACEBACK_LINES = 12
# Errors of the user or of the system, not of the code: their text is enough.
PLAIN_ERRORS = {"UserError", "UnreadablePicture", "OSError", "PermissionError", "FileNotFoundError"}
ANSI_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def defaults(notebook: Path) -> dict[str, Any]:
    """Read the parameters of a notebook with their default values.

    Raises:
        UserError: It is no notebook, or a parameter is no plain value.
    """
    try:
        found = papermill.inspect_notebook(str(notebook))
        return {name: ast.literal_eval(parameter["default"]) for name, parameter in found.items()}
    except OSError:
        raise
    except Exception as problem:  # nbformat and papermill raise many kinds
        reason = " ".join(str(problem).split())
        raise UserError(
            f"{notebook} cannot be read: {reason}. Repair it in JupyterLab, or restore it by `git checkout`."
        ) from None


def checked(values: dict[str, Any], known: dict[str, Any], notebook: str) -> dict[str, Any]:
    """Check values by name against a notebook's parameters with their defaults; papermill only warns of an unknown one.

    Raises:
        UserError: Names are unknown or values have the wrong type; one line for each.
    """
    fields = {name: (type(default), default) for name, default in known.items()}
    parameters = pydantic.create_model("Parameters", __base__=Settings, **fields)
    return parameters.check(values, dict.fromkeys(values, notebook)).model_dump(include=set(values))


def run(notebook: Path, product: Path, parameters: dict[str, Any]) -> None:
    """Run a notebook from top to bottom and keep it as `product`; one that fails as `<name>.failed.ipynb` beside it.

    Raises:
        UserError: A parameter is unknown or of a wrong type, or a cell failed; the text shows its last lines.
    """
    parameters = checked(parameters, defaults(notebook), notebook.name)
    failed = product.with_suffix(".failed.ipynb")
    product.parent.mkdir(parents=True, exist_ok=True)
    temporary = product.parent / f"{records.TEMPORARY}{product.name}"
    log = temporary.with_suffix(".log")
    try:
        # TensorFlow's libraries greet on standard error at every import; a crash of theirs says there why. What cells
        # print comes by another way.
        with _environment(), machine.stderr_to(log):
            _execute(notebook, temporary, parameters)
    except PapermillExecutionError as problem:
        temporary.replace(failed)
        raise UserError(_explain(problem, notebook, failed)) from None
    except DeadKernelError:
        temporary.replace(failed)
        last = log.replace(failed.with_suffix(".log"))
        raise UserError(
            f"{notebook.stem}: the kernel was killed or ran out of memory. What it had done is in {failed}, its last "
            f"messages in {last}; the same command continues from the last finished epoch."
        ) from None
    except OSError as problem:
        if problem.filename or not problem.strerror:
            raise
        raise UserError(f"{product} cannot be written: {problem.strerror}. Make room there and try again.") from None
    finally:
        log.unlink(missing_ok=True)
    temporary.replace(product)
    failed.unlink(missing_ok=True)
    failed.with_suffix(".log").unlink(missing_ok=True)


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """Set what the kernel finds in its environment, for the time of the block."""
    before = os.environ.copy()
    # The kernel imports the `lib` beside this notebook, also where another checkout's is installed.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(paths.ROOT), before.get("PYTHONPATH")]))
    # A kernel of the user's own named python3 would be another Python, without the packages.
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    os.environ[records.STARTED_BY_MAKE] = "1"
    # Neither the user's IPython profile and start-up file nor the locale decides what a notebook computes.
    os.environ["IPYTHONDIR"] = str(paths.SETTINGS / "ipython")
    os.environ["PYTHONUTF8"] = "1"
    os.environ.pop("PYTHONSTARTUP", None)
    with contextlib.suppress(OSError):  # not a terminal, or one that has no name in this container
        os.environ[machine.TERMINAL_VARIABLE] = os.ttyname(1)
    try:
        yield
    finally:
        if machine.TERMINAL_VARIABLE in os.environ:
            print(machine.LINE_START, end="", flush=True)  # over the progress of a cell that failed
        os.environ.clear()
        os.environ.update(before)


def _execute(notebook: Path, output: Path, parameters: dict[str, Any]) -> None:
    """Execute, once more where the kernel could not start: two that start at once can pick the same port."""
    for last_try in (False, True):
        try:
            papermill.execute_notebook(
                str(notebook),
                str(output),
                parameters=parameters,
                kernel_name="python3",
                cwd=str(paths.ROOT),
                extra_arguments=["--IPKernelApp.capture_fd_output=False"],  # native messages go to the log instead
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
    traceback = ANSI_COLOUR.sub("", "\n".join(problem.traceback)).splitlines()[-TRACEBACK_LINES:]
    source = problem.source.strip().splitlines()[0]
    lines = [f"{notebook.stem} failed in code cell {problem.exec_count}, which begins `{source}`."]
    lines += [f"    {line}" for line in traceback if line.strip()]
    return "\n".join([*lines, f"    The notebook, as far as it came, is {failed}."])
