"""A server in a process of its own, as `make dashboard` starts it, for tests and benchmarks."""

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

from lib import paths
from tests.patience import PATIENCE, until

NOTEBOOK = paths.NOTEBOOKS / "dashboard.ipynb"


class Visit:
    """A page that was handed out, and its kernel."""

    def __init__(self, server: "Running", answer: httpx.Response):
        assert answer.status_code == 200, answer.text
        self.server, self.answer, self.html = server, answer, answer.text
        self.kernel_id = re.search(r'"kernelId": "([^"]+)"', self.html)[1]

    @property
    def channels(self) -> str:
        """Address of a new connection to the kernel."""
        return self.server.channels(self.kernel_id)

    def is_alive(self) -> bool:
        """Whether the kernel is still there."""
        return self.server.client.get(f"/api/kernels/{self.kernel_id}").status_code == 200


def command(port: int, notebook: Path, leave_seconds: float = 20) -> list[str]:
    """Give the command of a server with a page of its own, and how long a kernel outlives its page."""
    script = f"""
import pathlib, sys
from lib.serving import kernels, server
server.NOTEBOOK, kernels.LEAVE_SECONDS = pathlib.Path({str(notebook)!r}), {leave_seconds}
sys.exit(server.main())"""
    return [sys.executable, "-c", script, "--port", str(port)]


class Running:
    """A server in a process of its own, on a free port.

    Args:
        folder: Where its log and temporary files go.
        notebook: The page.
        leave_seconds: How long a kernel outlives its page.
        **environment: Added to its environment, such as `OUTPUTS` and `MODEL_DIR`, which say who answers.
    """

    def __init__(self, folder: Path, notebook: Path = NOTEBOOK, leave_seconds: float = 20, **environment: str):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}/"
        self.log = folder / "server.log"
        self._command = command(self.port, notebook, leave_seconds)
        self._folder, self._environment = folder, os.environ | {"TMPDIR": str(folder)} | environment
        self.start()

    def start(self) -> None:
        """Start, or start again on the same port, and wait until it answers."""
        with self.log.open("a") as log:
            self.process = subprocess.Popen(self._command, env=self._environment, stderr=log, cwd=self._folder)
        self.client = httpx.Client(base_url=self.address, timeout=PATIENCE)
        until(self._answers)

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(httpx.TransportError):
            return self.client.get("/health").status_code in (200, 503)
        return False

    def health(self) -> dict:
        """Give what `/health` says."""
        return self.client.get("/health").json()

    @contextlib.contextmanager
    def visit(self, path: str = "/") -> Iterator["Visit"]:
        """Get a page; leave it afterwards."""
        visit = Visit(self, self.client.get(path))
        try:
            yield visit
        finally:
            self.client.post(f"/voila/api/shutdown/{visit.kernel_id}")

    def channels(self, kernel_id: str) -> str:
        """Address of a new connection to a kernel."""
        return f"ws{self.address[4:]}api/kernels/{kernel_id}/channels?session_id={uuid.uuid4().hex}"

    def kernels(self) -> list[psutil.Process]:
        """Give the processes that the server started."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def raw(self, path: str, **headers: str) -> tuple[int, str]:
        """Ask for a path exactly as written; clients would tidy it up."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.putrequest("GET", path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and give the exit status."""
        self.client.close()
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@contextlib.contextmanager
def running(folder: Path, *arguments: Any, **environment: str) -> Iterator[Running]:
    """Keep a server running during the block; see `Running`."""
    started = Running(folder, *arguments, **environment)
    try:
        yield started
    finally:
        started.stop()
