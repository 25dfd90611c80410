"""Runs on a Dask cluster: each run is one task, which calls the steps of `lib.pipeline` on a worker as make does.

A worker that sees the outputs folder works there, with its locks, and continues what another worker left. Any other
worker gets the code and the prepared pictures once, and sends the run folder back.
"""

import contextlib
import dataclasses
import functools
import io
import itertools
import json
import os
import queue
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from lib import machine, paths, plan, records
from lib.errors import UserError
from lib.scheduler import distributed

CHECK_SECONDS = 0.5  # between two looks whether a task is still wanted
LAST_LINES = 40  # of a failed step
PASSED_ON = ("KERAS_BACKEND", "MLFLOW_TRACKING_URI")  # to a step, besides the variables of make
NOT_PASSED_ON = (*plan.VARIABLES, "MAKEFLAGS", "MFLAGS", "GOALS", "GIVEN")  # what a worker may have inherited
THREAD_VARIABLES = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")


@dataclasses.dataclass(frozen=True)
class Job:
    """Steps of one run.

    Attributes:
        run: Its name.
        steps: Names of steps of `lib.pipeline`, in order.
        folder: Its folder.
        variables: Variables of make that define it.
        elsewhere: Those that differ for a worker that has the prepared pictures alone.
    """

    run: str
    steps: tuple[str, ...]
    folder: Path
    variables: dict[str, str]
    elsewhere: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Context:
    """What the tasks of one command have in common.

    Attributes:
        root: The repository of the client.
        marker: A file in the outputs folder, by which a worker knows that it shares the folder.
        version: Digest of the code.
        bundle: Digest of what a worker needs that does not share the folder.
        topic: Where tasks report their epochs.
    """

    root: Path
    marker: Path
    version: str
    bundle: str
    topic: str


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a task returns: an error or None; the run folder as a tar file, unless the worker shares it."""

    error: str | None = None
    archive: bytes | None = None
    needs_bundle: bool = False


# ---------------------------------------------------------------- the client


def local_workers(jobs: int) -> int:
    """Say how many trainings fit on this machine side by side: by cores, by memory, and by the number of jobs."""
    return max(1, min(jobs, machine.cores(), psutil.virtual_memory().total // machine.TRAINING_BYTES))


@contextlib.contextmanager
def files(client: "distributed.Client", name: str, contents: dict[str, bytes]) -> Iterator[str]:
    """Put files on every worker, also on those that come later; yields the name for `folder`."""
    client.register_plugin(_Files(name, contents), name=name)
    try:
        yield name
    except distributed.KilledWorker as problem:
        raise UserError(f"{problem} The same command continues.") from None
    finally:
        client.unregister_worker_plugin(name)


def folder(name: str) -> Path:
    """Give the folder of `files` on the worker that this is called on."""
    return Path(distributed.get_worker().local_directory) / name


def here() -> str:
    """Give the address of the worker that this is called on."""
    return distributed.get_worker().address


def variables() -> dict[str, str]:
    """Give the environment variables that a step reads, as they are here."""
    names = (*plan.VARIABLES, *PASSED_ON)
    return {name: os.environ[name] for name in names if os.environ.get(name)}


class Trainings:
    """Runs jobs on a cluster, as many at once as the workers have room for.

    Args:
        client: From `connect`.
        needed: Folders of the repository that a worker needs which does not share them, such as the prepared pictures.
    """

    def __init__(self, client: "distributed.Client", needed: list[Path]):
        self._client = client
        self._needed = [paths.ROOT / "lib", paths.NOTEBOOKS, *paths.DATA.glob("*.*"), *needed]
        self._events: queue.SimpleQueue = queue.SimpleQueue()
        self._running: dict[distributed.Future, Job] = {}
        self._stopped: set[str] = set()
        self._lines = _Lines(sys.stdout.isatty())

    def run(
        self, jobs: Iterable[Job], stop: Callable[[Job, int, float], bool] = lambda job, epoch, score: False
    ) -> Iterator[tuple[Job, str | None]]:
        """Run jobs; the next one is asked for when a worker has room for it.

        Args:
            jobs: The jobs.
            stop: Called after each epoch with the job, the epoch from 1 and its validation score; if it returns true,
                the job is stopped.

        Yields:
            Each job when it has ended, with its error, or None.

        Raises:
            UserError: No worker has memory for a training.
        """
        self._client.register_plugin(_Room(), name=_Room.NAME)
        if not self._room():
            raise UserError(
                f"No worker has the {machine.TRAINING_BYTES / 1e9:.0f} GB of memory that a training may take. Start "
                "fewer workers on each machine: `dask worker ADDRESS --nworkers 1`."
            )
        topic = f"study-{uuid.uuid4().hex}"
        self._client.subscribe_topic(topic, lambda event: self._events.put(event[1]))
        waiting, bundle = iter(jobs), None
        with _marker() as marker:
            context = Context(paths.ROOT, marker, version(), _digest(self._needed), topic)
            while True:
                # A job more than there is room for waits, where all workers are gone, for one to come.
                while len(self._running) < max(1, self._room()) and (job := next(waiting, None)):
                    self._submit(job, context)
                if not self._running:
                    return
                event = self._events.get()
                if isinstance(event, dict):
                    self._epoch(event, stop)
                    continue
                job = self._running.pop(event)
                if event.status == "finished":
                    outcome = event.result()
                elif event.status == "error":
                    outcome = Outcome(f"{job.run}: {event.exception()}")
                elif job.run in self._stopped:
                    outcome = Outcome()
                else:  # cancelled, since the only worker that held the bundle is gone
                    outcome, bundle = Outcome(needs_bundle=True), None
                if outcome.needs_bundle:
                    bundle = bundle or self._client.scatter(_pack(self._needed), hash=False)
                    self._submit(job, context, bundle)
                    continue
                if outcome.archive:
                    _receive(outcome.archive, job.folder)
                self._lines.end(job.run, "failed" if outcome.error else "done")
                yield job, outcome.error

    def _submit(self, job: Job, context: Context, bundle: "distributed.Future | None" = None) -> None:
        resources = {_Room.NAME: machine.TRAINING_BYTES}
        future = self._client.submit(execute, job, context, bundle, pure=False, resources=resources)
        self._running[future] = job
        future.add_done_callback(self._events.put)

    def _room(self) -> int:
        """Count the trainings that the workers have room for."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        return sum(_fitting(worker["resources"].get(_Room.NAME, 0), worker["nthreads"]) for worker in workers)

    def _epoch(self, event: dict[str, Any], stop: Callable[[Job, int, float], bool]) -> None:
        for future, job in self._running.items():
            if job.run == event["run"]:
                self._lines.show(job.run, event["line"])
                if job.run not in self._stopped and stop(job, event["epoch"], event["score"]):
                    self._stopped.add(job.run)
                    future.cancel()


@contextlib.contextmanager
def _marker() -> Iterator[Path]:
    with tempfile.NamedTemporaryFile(dir=_made(paths.OUTPUTS), prefix=".cluster-") as file:
        yield Path(file.name)


def _fitting(memory: float, threads: int) -> int:
    return min(int(memory // machine.TRAINING_BYTES), threads)


class _Room(distributed.WorkerPlugin):
    """Declares the memory of a worker as a resource, of which each training takes its part."""

    NAME = "training-memory"

    async def setup(self, worker: "distributed.Worker") -> None:
        memory = worker.memory_manager.memory_limit or psutil.virtual_memory().total
        await worker.set_resources(**{self.NAME: memory})


class _Files(distributed.WorkerPlugin):
    """Files in the local directory of each worker."""

    def __init__(self, name: str, contents: dict[str, bytes]):
        self._name, self._contents = name, contents

    def setup(self, worker: "distributed.Worker") -> None:
        for name, content in self._contents.items():
            (_made(Path(worker.local_directory) / self._name) / name).write_bytes(content)


class _Lines:
    """One line a run on a terminal, rewritten after each epoch; elsewhere a line for each epoch."""

    def __init__(self, on_terminal: bool):
        self._on_terminal = on_terminal
        self._shown: dict[str, str] = {}

    def show(self, run: str, text: str) -> None:
        """Show how far a run is."""
        if not self._on_terminal:
            print(f"{run}: {text}", flush=True)
            return
        above = f"\x1b[{len(self._shown)}A" if self._shown else ""
        self._shown[run] = text
        width = shutil.get_terminal_size().columns - 1
        rows = "".join(f"\r\x1b[K{f'{name}: {line}'[:width]}\n" for name, line in self._shown.items())
        print(f"{above}{rows}", end="", flush=True)

    def end(self, run: str, text: str) -> None:
        """Show how a run ended. Its line stays, and no longer moves."""
        others = {name: line for name, line in self._shown.items() if name != run}
        if self._shown:
            print(f"\x1b[{len(self._shown)}A\x1b[J", end="")
        print(f"{run}: {text}", flush=True)
        self._shown = {}
        for name, line in others.items():
            self.show(name, line)


# ---------------------------------------------------------------- the worker


def execute(job: Job, context: Context, bundle: bytes | None) -> Outcome:
    """Run the steps of a job on the worker that this is called on.

    Args:
        job: The job.
        context: What all jobs have in common.
        bundle: A tar file of what the steps need, if an earlier outcome asked for it.
    """
    worker = distributed.get_worker()
    if context.version != version():
        return Outcome(f"{job.run}: the worker {worker.address} has another version of this project than the client.")
    root, folder, shared = context.root, job.folder, context.marker.exists()
    if not shared:
        if not job.folder.is_relative_to(context.root):
            return Outcome(
                f"{job.run}: the worker {worker.address} does not share {job.folder}. Expected OUTPUTS below "
                "the repository, from where results are sent back."
            )
        root = Path(worker.local_directory) / f"study-{context.bundle}"
        if not root.exists():
            if bundle is None:
                return Outcome(needs_bundle=True)
            _unpack(bundle, root)
        folder = root / job.folder.relative_to(context.root)
        job = dataclasses.replace(job, variables=job.variables | job.elsewhere)
    errors = (_call(step, job, context, root, folder, worker) for step in job.steps)
    error = next((error for error in errors if error), None)
    return Outcome(error, None if shared or not folder.exists() else _pack([folder], folder))


def _call(step: str, job: Job, context: Context, root: Path, folder: Path, worker: "distributed.Worker") -> str | None:
    """Run one step in a process of its own; returns what it reported when it failed."""
    together = max(1, _fitting(worker.state.total_resources.get(_Room.NAME, 0), worker.state.nthreads))
    threads = str(max(1, worker.state.nthreads // together))
    environment = {name: value for name, value in os.environ.items() if name not in NOT_PASSED_ON}
    environment |= job.variables | dict.fromkeys(THREAD_VARIABLES, threads) | {"PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "lib.pipeline", step, job.run],
        cwd=root,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    ending = threading.Thread(target=_end_with_task, args=(process, worker, worker.get_current_task()), daemon=True)
    ending.start()
    last: deque[str] = deque(maxlen=LAST_LINES)
    for line in process.stdout:
        last.append(line.rstrip())
        if line.startswith("epoch"):
            rows = _epochs(folder)
            row = {"run": job.run, "epoch": len(rows), "score": rows[-1]["val_macro_f1"], "line": line.strip()}
            worker.log_event(context.topic, row)
    if process.wait() == 0:
        return None
    said = list(itertools.dropwhile(lambda line: not line.startswith("error:"), last)) or list(last)
    lines = [line.removeprefix("error: ") for line in said] or [f"{step} ended with status {process.returncode}."]
    return "\n".join([f"{job.run}: {lines[0]}", *lines[1:]])


def _end_with_task(process: subprocess.Popen, worker: "distributed.Worker", key: str) -> None:
    """End a step whose task is cancelled, also by the end of its client."""
    while process.poll() is None:
        task = worker.state.tasks.get(key)
        if task is None or task.state == "cancelled":
            process.terminate()
        time.sleep(CHECK_SECONDS)


def _epochs(folder: Path) -> list[dict[str, float]]:
    """Read the scores of the finished epochs from the saved state of a training."""
    with np.load(folder / records.TRAINING_STATE, allow_pickle=False) as state:
        return json.loads(str(state["meta"]))["rows"]


# ---------------------------------------------------------------- what travels


@functools.cache
def version() -> str:
    """Hash the code of `lib`: client and workers must have the same."""
    modules = sorted((paths.ROOT / "lib").rglob("*.py"))
    return records.digest([[path.relative_to(paths.ROOT).as_posix(), records.file_sha256(path)] for path in modules])


def _files(places: list[Path]) -> list[Path]:
    """List the files of folders, without those that a step or an interpreter left."""
    found = [path for place in places for path in ([place] if place.is_file() else sorted(place.rglob("*")))]
    return [path for path in found if path.is_file() and "__pycache__" not in path.parts and path.name[0] != "."]


def _digest(places: list[Path]) -> str:
    """Hash what a bundle would hold; arrays by their size and time, since their manifest is hashed."""
    described = []
    for path in _files(places):
        status = path.stat()
        content = [status.st_size, status.st_mtime] if path.suffix == ".npy" else records.file_sha256(path)
        described.append([path.relative_to(paths.ROOT).as_posix(), content])
    return records.digest(described)


def _pack(places: list[Path], root: Path = paths.ROOT) -> bytes:
    """Give a tar file of folders and files, with their paths below `root`."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for path in _files(places):
            archive.add(path, path.relative_to(root).as_posix())
    return file.getvalue()


def _unpack(contents: bytes, folder: Path) -> None:
    """Unpack a tar file into a folder, which appears when it is complete."""
    with tempfile.TemporaryDirectory(dir=_made(folder.parent), prefix=records.TEMPORARY) as temporary:
        whole = Path(temporary) / folder.name
        with tarfile.open(fileobj=io.BytesIO(contents)) as archive:
            archive.extractall(whole, filter="data")
        with contextlib.suppress(OSError):  # another task of this worker was faster
            whole.rename(folder)


def _receive(contents: bytes, folder: Path) -> None:
    """Put the files of a run folder into its place, those last by which a folder counts as finished."""
    with records.lock(folder), tempfile.TemporaryDirectory(dir=folder.parent, prefix=records.TEMPORARY) as temporary:
        whole = Path(temporary) / folder.name
        _unpack(contents, whole)
        last = (records.RUN_RECORD, records.METRICS_RECORD, records.ROBUSTNESS)
        for path in sorted(_files([whole]), key=lambda path: path.name in last):
            target = folder / path.relative_to(whole)
            _made(target.parent)
            path.replace(target)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
