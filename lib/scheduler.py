"""A connection to a Dask cluster, on this machine or at an address; needs the extra `cluster`."""

import contextlib
import logging
import sys
from collections.abc import Iterator

import psutil

from lib import machine
from lib.errors import UserError, import_extra

distributed = import_extra("distributed", "cluster")

LOCAL = "local"
CONNECT_SECONDS = 15
WORKER_SECONDS = 60  # until the first worker is there
# Of a terminal, which sends it to workers too: this process ends them, and they would print a traceback each.
IGNORE_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"


@contextlib.contextmanager
def connect(address: str, workers: int, threads: int = 0) -> Iterator["distributed.Client"]:
    """Start a cluster on this machine, or connect to a scheduler.

    Args:
        address: `local`, or the address of a scheduler, such as `tcp://scheduler:8786`.
        workers: Worker processes of a local cluster.
        threads: Threads of each; by default the cores are divided among them.

    Raises:
        UserError: Nothing answers there, no worker comes, or the scheduler or every worker of a task is gone during the
            block.
    """
    with contextlib.ExitStack() as stack:
        try:
            if address == LOCAL:
                address = stack.enter_context(
                    distributed.LocalCluster(
                        n_workers=workers,
                        threads_per_worker=threads or max(1, machine.cores() // workers),
                        memory_limit=max(psutil.virtual_memory().total // workers, machine.TRAINING_BYTES),
                        dashboard_address="127.0.0.1:0",
                        silence_logs=logging.ERROR,
                        preload=IGNORE_CTRL_C,
                    )
                )
            client = stack.enter_context(distributed.Client(address, timeout=CONNECT_SECONDS))
        except (OSError, ValueError) as problem:
            raise UserError(
                f"No Dask scheduler answers at {address!r}: {problem}. Expected `local`, or an address such as "
                "tcp://192.168.1.2:8786, which `dask scheduler` prints."
            ) from None
        print(f"Dask shows its work at {client.dashboard_link}", file=sys.stderr, flush=True)
        try:
            client.wait_for_workers(1, timeout=WORKER_SECONDS)
        except TimeoutError:
            raise UserError(
                f"The scheduler at {client.scheduler.address} has no workers. Start one on each machine: "
                f"`dask worker {client.scheduler.address}`."
            ) from None
        try:
            yield client
        except (distributed.KilledWorker, distributed.CancelledError, OSError) as problem:
            if isinstance(problem, OSError) and client.status == "running":
                raise  # of a file
            reason = str(problem) or "its scheduler is gone."
            raise UserError(f"The cluster at {address} has failed: {reason} The same command continues.") from None
