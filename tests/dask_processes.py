"""A real Dask scheduler and real workers on this machine, each a process that a test may kill."""

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from lib import paths
from tests.patience import until


class Cluster:
    """A scheduler and its workers.

    Attributes:
        address: Of the scheduler.
        scheduler: Its process.
        workers: The worker processes.
        start_worker: Starts one more.
    """

    def __init__(
        self,
        address: str,
        scheduler: subprocess.Popen,
        workers: list[subprocess.Popen],
        start_worker: Callable[[], subprocess.Popen],
    ):
        self.address, self.scheduler, self.workers, self.start_worker = address, scheduler, workers, start_worker

    def kill_a_worker(self, doing: str = "") -> None:
        """Kill the first worker, or the one that has a child process with these words in its command."""
        worker = next(worker for worker in self.workers if doing in commands_below(worker.pid))
        worker.send_signal(signal.SIGKILL)
        worker.wait()


def commands_below(pid: int) -> str:
    """Give the commands of the children of a process, a line each."""
    return subprocess.run(["ps", "--ppid", str(pid), "-o", "args="], capture_output=True, text=True).stdout


@contextlib.contextmanager
def started(folder: Path, code: Path = paths.ROOT, workers: int = 2) -> Iterator[Cluster]:
    """Start a scheduler and workers of one thread each, and end them by their ids.

    Args:
        folder: Their working files.
        code: Folder of the project that the workers import.
        workers: Number of workers.
    """
    scheduler_file = folder / "scheduler.json"
    environment = os.environ | {"PYTHONPATH": str(code), "DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE": "False"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": code, "env": environment}
    found = ["--scheduler-file", str(scheduler_file)]
    with contextlib.ExitStack() as stack:

        def start(module: str, *arguments: str) -> subprocess.Popen:
            command = [sys.executable, "-m", f"distributed.cli.{module}", *arguments, *found]
            process = stack.enter_context(subprocess.Popen(command, **quiet))
            stack.callback(process.kill)
            return process

        scheduler = start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        until(scheduler_file.exists, scheduler)
        one_thread = ["--no-nanny", "--nthreads", "1", "--memory-limit", "4GB", "--no-dashboard"]
        one_thread += ["--local-directory", str(folder / "work")]
        start_worker = functools.partial(start, "dask_worker", *one_thread)
        processes = [start_worker() for _ in range(workers)]
        text = until(scheduler_file.read_text, scheduler)
        yield Cluster(json.loads(text)["address"], scheduler, processes, start_worker)
