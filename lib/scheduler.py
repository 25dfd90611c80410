"""A connection to a Dask cluster, on this machine or at an address, and what its tasks share; needs `cluster`."""

import contextlib
import functools
import hashlib
import logging
import queue
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil

from lib import machine, paths, records
from lib.errors import UserError, import_extra

distributed = import_extra("distributed", "cluster")

LOCAL = "local"
CONNECT_SECONDS = 15
WORKER_SECONDS = 60  # until the first worker is there
OTHER_CODE = "The worker {} has another version of this project than this machine. Install the same one on both."
# Of a terminal, which sends it to workers too: this process ends them, and they would print a traceback each.
IGNORE_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"


@contextlib.contextmanager
def connect(address: str, workers: int) -> Iterator["distributed.Client"]:
    """Start a cluster of so many workers here, where the address is `local`, or connect to the scheduler at it.

    Raises:
        UserError: Nothing answers there, no worker comes, or the scheduler or every worker of a task is gone during the
            block.
    """
    with contextlib.ExitStack() as stack:
        try:
            scheduler: Any = address
            if address == LOCAL:
                scheduler = stack.enter_context(
                    distributed.LocalCluster(
                        n_workers=workers,
                        threads_per_worker=max(1, machine.cores() // workers),
                        memory_limit=max(psutil.virtual_memory().total // workers, machine.TRAINING_BYTES),
                        dashboard_address="127.0.0.1:0",
                        silence_logs=logging.ERROR,
                        preload=IGNORE_CTRL_C,
                    )
                )
            client = stack.enter_context(distributed.Client(scheduler, timeout=CONNECT_SECONDS))
            print(f"Dask shows its work at {client.dashboard_link}", file=sys.stderr, flush=True)
            client.wait_for_workers(1, timeout=WORKER_SECONDS)
        except (OSError, ValueError, TypeError, RuntimeError) as problem:
            raise UserError(
                f"No Dask scheduler with a worker answers at {address!r}: {problem}. Expected `local`, or an address "
                "such as tcp://192.168.1.2:8786, from `dask scheduler`, and `dask worker ADDRESS` on each machine."
            ) from None
        codes = client.run(version, on_error="return")  # an error where a worker's is too old to say
        if others := [worker for worker, code in codes.items() if code != version()]:
            raise UserError(OTHER_CODE.format(", ".join(others)))
        try:
            yield client
        except (distributed.KilledWorker, distributed.CancelledError, OSError) as problem:
            if isinstance(problem, OSError) and client.status == "running":
                raise  # of a file
            reason = str(problem) or "its scheduler is gone."
            raise UserError(f"The cluster at {address} has failed: {reason} The same command continues.") from None


def in_turn(
    tasks: Iterable[Any], submit: Callable[[Any], Any], room: Callable[[], int], events: queue.SimpleQueue
) -> Iterator[tuple[Any, Any]]:
    """Submit tasks as there is room for them, so that neither tasks nor results pile up.

    Args:
        tasks: Asked for the next one when there is room.
        submit: From a task to its future.
        room: Says how many may be submitted at a time.
        events: Where futures are put that have ended. What else is put there is handed on, with None for the task.

    Yields:
        Each task with its future, in the order in which they end.
    """
    waiting, running = iter(tasks), {}
    while True:
        # One more than there is room for waits, where all workers are gone, for one to come.
        while len(running) < max(1, room()) and (task := next(waiting, None)) is not None:
            future = submit(task)
            running[future] = task
            future.add_done_callback(events.put)
        if not running:
            return
        event = events.get()
        yield running.pop(event, None), event


# ---------------------------------------------------------------- the same code and files on every worker


@functools.cache
def version() -> str:
    """Hash the code of `lib`: client and workers must have the same."""
    code = paths.ROOT / "lib"
    return records.digest(records.digests(code, *(str(path.relative_to(code)) for path in code.rglob("*.py"))))


def this_worker(code: str) -> "distributed.Worker":
    """Give the worker that this task is run by.

    Raises:
        UserError: Its code differs from the `version` of the client's.
    """
    worker = distributed.get_worker()
    if code != version():
        raise UserError(OTHER_CODE.format(worker.address))
    return worker


@contextlib.contextmanager
def files_on_workers(client: "distributed.Client", files: dict[str, bytes]) -> Iterator[str]:
    """Put files, given by their paths, on every worker, also on those that come during the block.

    Yields:
        The name of their folder, which is made of their digest, in the `local_directory` of each worker.
    """
    name = f"study-{records.digest({path: hashlib.sha256(content).hexdigest() for path, content in files.items()})}"
    # Under a name of its own, since another client may send the same files, and end earlier.
    client.register_plugin(_Files(name, files), name=client.id)
    try:
        yield name
    finally:
        if client.status == "running":  # else its scheduler is gone
            client.unregister_worker_plugin(client.id)


class _Files(distributed.WorkerPlugin):
    def __init__(self, name: str, files: dict[str, bytes]):
        self._name, self._files = name, files

    def setup(self, worker: "distributed.Worker") -> None:
        folder, making = (Path(worker.local_directory, prefix + self._name) for prefix in ("", records.TEMPORARY))
        if folder.exists():
            return
        for file, content in self._files.items():
            (making / file).parent.mkdir(parents=True, exist_ok=True)
            (making / file).write_bytes(content)
        making.rename(folder)
