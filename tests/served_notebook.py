"""A notebook served as a page of its own, as `make review` and `make explore` do, for tests and benchmarks."""

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import nbformat

from lib import paths
from lib.study import serve
from tests.patience import PATIENCE, until


def notebook_of(folder: Path, *lines: str) -> Path:
    """Write a notebook of one code cell to a folder."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("\n".join(lines))])
    book.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(book, folder / "page.ipynb")
    return folder / "page.ipynb"


@contextlib.contextmanager
def served(notebook: Path, folder: Path, *through: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """Serve a notebook, by a command that calls the server's, and end it with its kernel; gives process and address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}/"
    with (folder / "server.log").open("a") as log:
        environment = os.environ | {"PYTHONPATH": str(paths.ROOT)}
        command = [*through, *serve.command(notebook, port)]
        process = subprocess.Popen(command, stderr=log, stdout=log, env=environment, cwd=folder)
    try:
        until(lambda: _answers(process, f"{address}voila/static/none"))
        yield process, address
    finally:
        process.terminate()
        process.wait(60)


def _answers(process: subprocess.Popen, address: str) -> bool:
    assert process.poll() is None
    with contextlib.suppress(httpx.TransportError):
        httpx.get(address, timeout=PATIENCE)
        return True
    return False
