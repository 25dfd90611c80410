"""Runs on a Dask cluster: each run is one task, which calls the steps of `lib.pipeline` on a worker as make does.

A worker that sees the outputs folder works there, with its locks, and continues what another worker left. Any other
worker gets the code and the prepared pictures once, and sends the run folder back.
"""

import contextlib
import dataclasses
import functools
import itertools
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil

from lib import machine, paths, plan, records
from lib.errors import UserError
from lib.scheduler import distributed

CHECK_SECONDS = 0.5  # between two looks whether a task is still wanted
LAST_LINES = 40  # of a failed step
EPOCH = re.compile(r"epoch +(\d+)/\d+ .* macro F1 (\d\.\d+|nan) ")  # begins a line of `lib.training.progress`
PASSED_ON = ("KERAS_BACKEND", "MLFLOW_TRACKING_URI")  # to a step, besides the variables of make
NOT_PASSED_ON = (*plan.VARIABLES, "MAKEFLAGS", "MFLAGS", "GOALS", "GIVEN")  # what a worker may have inherited
TRAININGS = "trainings"  # the resource of a worker of which each task takes one

Files = dict[str, bytes]  # contents by path below a folder


@dataclasses.dataclass(frozen=True)
class Job:
    """Steps of one run, with the variables of make that define it.

    Attributes:
        elsewhere: Variables that differ for a worker that has the prepared pictures alone.
    """

    run: str
    steps: tuple[str, ...]
    folder: Path
    variables: dict[str, str]
    elsewhere: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a task ended: its error, if any, and the files of the run folder, unless the worker shares it."""

    error: str | None = None
    files: Files = dataclasses.field(default_factory=dict)


# ---------------------------------------------------------------- the client


def variables() -> dict[str, str]:
    """Give the environment variables that a step reads, as they are here."""
    names = (*plan.VARIABLES, *PASSED_ON)
    return {name: os.environ[name] for name in names if os.environ.get(name)}


class Trainings:
    """Runs jobs on a cluster, as many at once as the workers have room for.

    Args:
        client: From `scheduler.connect`.
        folder: That of the runs. A worker that sees it works there.
        needed: What another worker needs of the repository, such as the folder of the prepared pictures.
    """

    def __init__(self, client: "distributed.Client", folder: Path, needed: list[Path]):
        self._client, self._folder = client, folder
        self._needed = _files([paths.ROOT / "lib", paths.NOTEBOOKS, *paths.DATA.glob("*.*"), *needed])
        self._events: queue.SimpleQueue = queue.SimpleQueue()  # tasks that ended, and what they report
        self._running: dict[distributed.Future, Job] = {}
        self._stopped: set[str] = set()
        self._lines = _Lines(sys.stdout.isatty())

    def run(
        self, jobs: Iterable[Job], stop: Callable[[Job, int, float], bool] = lambda job, epoch, score: False
    ) -> Iterator[tuple[Job, str | None]]:
        """Run jobs; the next one is asked for when a worker has room for it.

        Args:
            jobs: What is to be run.
            stop: Called after each epoch with the job, the epoch from 1 and its validation score; if it returns true,
                the job is stopped.

        Yields:
            Each job when it has ended, with its error, or None.

        Raises:
            UserError: No worker has memory for a training.
        """
        self._client.register_plugin(_Room(), name=TRAININGS)
        if not self._room():
            raise UserError(
                f"No worker has the {machine.TRAINING_BYTES / 1e9:.0f} GB of memory that a training may take. Start "
                "fewer workers on each machine: `dask worker ADDRESS --nworkers 1`."
            )
        waiting, bundle = iter(jobs), None
        with _marker(self._folder) as marker:
            known = {"root": paths.ROOT, "marker": marker, "code": version(), "needed": _digest(self._needed)}
            task = functools.partial(execute, **known)
            self._client.subscribe_topic(marker.name, lambda event: self._events.put(event[1]))
            while True:
                # A job more than there is room for waits, where all workers are gone, for one to come.
                while len(self._running) < max(1, self._room()) and (job := next(waiting, None)):
                    self._submit(task, job)
                if not self._running:
                    return
                event = self._events.get()
                if isinstance(event, dict):
                    self._epoch(event, stop)
                    continue
                job = self._running.pop(event)
                if job.run in self._stopped:
                    outcome = Outcome()
                elif event.status == "error":
                    outcome = Outcome(f"{job.run}: {event.exception()}")
                elif event.status == "cancelled" and bundle and self._client.status == "running":
                    outcome = bundle = None  # the only worker that held the bundle is gone
                else:
                    outcome = event.result()  # raises where the scheduler is gone
                if outcome is None:
                    if not bundle:
                        (bundle,) = self._client.scatter([_contents(self._needed, paths.ROOT)], hash=False)
                    self._submit(task, job, bundle)
                    continue
                try:
                    _receive(outcome.files, job.folder)
                except (UserError, OSError) as problem:
                    outcome = Outcome(f"{job.run}: {problem}")
                self._lines.end(job.run, "failed" if outcome.error else "done")
                yield job, outcome.error

    def _submit(self, task: Callable, job: Job, bundle: "distributed.Future | None" = None) -> None:
        future = self._client.submit(task, job, bundle, pure=False, resources={TRAININGS: 1})
        self._running[future] = job
        future.add_done_callback(self._events.put)

    def _room(self) -> int:
        """Count the trainings that the workers have room for."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        return int(sum(worker["resources"].get(TRAININGS, 0) for worker in workers))

    def _epoch(self, event: dict[str, Any], stop: Callable[[Job, int, float], bool]) -> None:
        for future, job in self._running.items():
            if job.run == event["run"]:
                self._lines.show(job.run, event["line"])
                if job.run not in self._stopped and stop(job, event["epoch"], event["score"]):
                    self._stopped.add(job.run)
                    future.cancel()


@contextlib.contextmanager
def _marker(folder: Path) -> Iterator[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".cluster-") as file:
        yield Path(file.name)


class _Room(distributed.WorkerPlugin):
    """Declares how many trainings a worker has memory and threads for."""

    async def setup(self, worker: "distributed.Worker") -> None:
        memory = worker.memory_manager.memory_limit or psutil.virtual_memory().total
        await worker.set_resources(**{TRAININGS: min(memory // machine.TRAINING_BYTES, worker.state.nthreads)})
        if worker.status == distributed.Status.running:
            # The scheduler looks at tasks that wait for room when a worker comes or resumes, not when it declares room.
            worker.status = distributed.Status.paused
            worker.status = distributed.Status.running


class _Lines:
    """One line a run on a terminal, rewritten after each epoch; elsewhere a line for each epoch."""

    def __init__(self, on_terminal: bool):
        self._on_terminal = on_terminal
        self._shown: dict[str, str] = {}

    def show(self, run: str, text: str) -> None:
        """Show how far a run is."""
        if self._on_terminal:
            self._draw(self._shown | {run: text})
        else:
            print(f"{run}: {text}", flush=True)

    def end(self, run: str, text: str) -> None:
        """Show how a run ended, above the lines that still move."""
        self._draw({name: line for name, line in self._shown.items() if name != run}, f"{run}: {text}\n")

    def _draw(self, lines: dict[str, str], ended: str = "") -> None:
        clear = f"\x1b[{len(self._shown)}A\x1b[J" if self._shown else ""
        width = shutil.get_terminal_size().columns - 1
        rows = "".join(f"{f'{run}: {text}'[:width]}\n" for run, text in lines.items())
        print(f"{clear}{ended}{rows}", end="", flush=True)
        self._shown = lines


# ---------------------------------------------------------------- the worker


def execute(job: Job, bundle: Files | None, root: Path, marker: Path, code: str, needed: str) -> Outcome | None:
    """Run the steps of a job on the worker that this is called on.

    Args:
        job: From the client, as are its repository `root`, the `version` of its `code`, and the digest of what is
            `needed`.
        bundle: What a worker needs that does not share the folder of the runs, if an earlier call asked for it.
        marker: A file in the folder of the runs, by which a worker knows that it shares it; epochs are reported under
            its name.

    Returns:
        The outcome; None if the worker needs the bundle.
    """
    worker = distributed.get_worker()
    if code != version():
        return Outcome(f"{job.run}: the worker {worker.address} has another version of this project than the client.")
    shared = marker.exists()
    if not shared:
        if not job.folder.is_relative_to(root):
            return Outcome(
                f"{job.run}: the worker {worker.address} does not share {job.folder}. Expected OUTPUTS below "
                "the repository, from where results are sent back."
            )
        copy = place(worker, f"study-{needed}", bundle)
        if not copy.exists():
            return None
        folder, root = copy / job.folder.relative_to(root), copy
        job = dataclasses.replace(job, folder=folder, variables=job.variables | job.elsewhere)
    error = next(filter(None, (_run_step(step, job, root, marker.name, worker) for step in job.steps)), None)
    return Outcome(error, {} if shared else _contents(_files([job.folder]), job.folder))


def _run_step(step: str, job: Job, root: Path, topic: str, worker: "distributed.Worker") -> str | None:
    """Run one step in a process of its own; returns what it reported when it failed."""
    threads = max(1, int(worker.state.nthreads // worker.state.total_resources[TRAININGS]))
    environment = {name: value for name, value in os.environ.items() if name not in NOT_PASSED_ON}
    environment |= job.variables | machine.thread_limits(threads) | {"PYTHONUNBUFFERED": "1"}
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
        if epoch := EPOCH.match(line):
            row = {"run": job.run, "epoch": int(epoch[1]), "score": float(epoch[2]), "line": line.strip()}
            worker.log_event(topic, row)
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


# ---------------------------------------------------------------- what travels


@functools.cache
def version() -> str:
    """Hash the code of `lib`: client and workers must have the same."""
    return _digest([*(paths.ROOT / "lib").rglob("*.py")])


def place(worker: "distributed.Worker", name: str, files: Files | None = None) -> Path:
    """Name a folder of a worker, by a name with a digest; if it is missing, it is made of the files, at once."""
    folder = Path(worker.local_directory) / name
    if files and not folder.exists():
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=records.TEMPORARY) as temporary:
            for file, content in files.items():
                path = Path(temporary, name, file)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            with contextlib.suppress(OSError):  # another task of this worker was faster
                Path(temporary, name).rename(folder)
    return folder


@contextlib.contextmanager
def files_on_workers(client: "distributed.Client", name: str, files: Files) -> Iterator[None]:
    """Have each worker make the folder `place(worker, name)`, also those that come later."""
    # Under a name of its own, since another client may send the same files, and end earlier.
    client.register_plugin(_Files(name, files), name=client.id)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the scheduler is gone
            client.unregister_worker_plugin(client.id)


class _Files(distributed.WorkerPlugin):
    def __init__(self, name: str, files: Files):
        self._name, self._files = name, files

    def setup(self, worker: "distributed.Worker") -> None:
        place(worker, self._name, self._files)


def _files(places: list[Path]) -> list[Path]:
    """List the files of folders, without those that a step or an interpreter left."""
    found = [path for place in places for path in ([place] if place.is_file() else sorted(place.rglob("*")))]
    made = {"__pycache__", "node_modules"}
    return [path for path in found if path.is_file() and made.isdisjoint(path.parts) and path.name[0] != "."]


def _digest(files: list[Path]) -> str:
    return records.digest(records.digests(paths.ROOT, *(path.relative_to(paths.ROOT).as_posix() for path in files)))


def _contents(files: list[Path], root: Path) -> Files:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def _receive(files: Files, folder: Path) -> None:
    """Put the files of a run folder into its place, those last by which a folder counts as finished."""
    last = (records.RUN_RECORD, *records.SCORES)
    run = folder / records.RUN_RECORD
    with records.lock(folder) if files else contextlib.nullcontext():
        if run.exists() and files.get(run.name, run.read_bytes()) != run.read_bytes():
            records.remove_scores(folder)
        for name in sorted(files, key=last.__contains__):
            with records.atomic_write(folder / name) as temporary:
                temporary.write_bytes(files[name])
