"""Runs on a Dask cluster: each run is one task, which calls the steps of `lib.pipeline` on a worker as make does.

A worker that sees the outputs folder works there, with its locks, and continues what another worker left. Where not all
workers do, they get the code and the prepared pictures once, and send the run folder back.
"""

import collections
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
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import psutil
from tqdm import tqdm

from lib import machine, paths, records, scheduler
from lib.data import boxes, clipart, corrections
from lib.errors import UserError
from lib.pipeline import plan
from lib.scheduler import distributed

CHECK_SECONDS = 0.5  # between two looks whether a task is still wanted
LAST_LINES = 40  # of a failed step
EPOCH = re.compile(r"epoch +(\d+)/\d+ .* macro F1 (\d\.\d+|nan) ")  # begins a line of `lib.training.progress`
PASSED_ON = (*plan.VARIABLES, "KERAS_BACKEND", "MLFLOW_TRACKING_URI")  # to a step; empty ones too
TRAININGS = "trainings"  # the resource of a worker of which each task takes one
COMMITTED = (boxes.KAGGLE_BOXES, corrections.KAGGLE, clipart.CLIPART)  # files of `data` that a training reads
DONE, FAILED, STOPPED = "done", "failed", "stopped"  # how a job ends


@dataclasses.dataclass(frozen=True)
class Job:
    """Steps of one run, with the variables of make that define it."""

    run: str
    steps: tuple[str, ...]
    folder: Path
    variables: dict[str, str]
    elsewhere: dict[str, str]  # that differ for a worker that has the prepared pictures alone


# ---------------------------------------------------------------- the client


def variables() -> dict[str, str]:
    """Give the environment variables that a step reads, as they are here, but for the flags of make."""
    return {name: os.environ.get(name, "") for name in PASSED_ON} | {"MAKEFLAGS": ""}


def run(
    client: "distributed.Client",
    folder: Path,
    needed: list[Path],
    jobs: Iterable[Job],
    stop: Callable[[Job, int, float], bool] = lambda job, epoch, score: False,
) -> Iterator[tuple[Job, str, str]]:
    """Run jobs, as many at once as the workers have room for, and show a line for each.

    Args:
        client: From `scheduler.connect`.
        folder: That of the runs. A worker that sees it works there.
        needed: What another worker needs of the repository, such as the folder of the prepared pictures.
        jobs: What is to be run; the next one is asked for when a worker has room for it.
        stop: Called after each epoch with the job, the epoch from 1 and its validation score; if it returns true, the
            job is stopped.

    Yields:
        Each job when it has ended, how, and its error, if it has failed.

    Raises:
        UserError: No worker has memory for a training, or the runs cannot be sent back.
    """
    client.register_plugin(_Room(), name=TRAININGS)
    if not _room(client):
        raise UserError(
            f"No worker has the {machine.TRAINING_BYTES / 1e9:.0f} GB of memory that a training may take. Start "
            "fewer workers on each machine: `dask worker ADDRESS --nworkers 1`."
        )
    events: queue.SimpleQueue = queue.SimpleQueue()  # tasks that ended, and what they report
    running: dict[str, tuple[Job, distributed.Future]] = {}
    lines: dict[str, tqdm] = {}
    with contextlib.ExitStack() as stack:
        # Of pictures that are there too: a shared folder of runs does not make those of a worker the same.
        markers, copy = [stack.enter_context(_marker(place)) for place in (folder, *needed[:1])], ""
        if not all(client.run(functools.partial(_sees, markers)).values()):
            if not folder.is_relative_to(paths.ROOT):
                places = " and ".join(str(marker.parent) for marker in markers)
                raise UserError(f"Not all workers share {places}; results are sent back below {paths.ROOT} alone.")
            files = _contents([paths.ROOT / "lib", paths.NOTEBOOKS, *COMMITTED, *needed], paths.ROOT)
            copy = stack.enter_context(scheduler.files_on_workers(client, files))
        task = functools.partial(execute, paths.ROOT, markers, scheduler.version(), copy)

        def submit(job: Job) -> "distributed.Future":
            begun = _contents([job.folder], job.folder) if copy else {}
            future = client.submit(task, job, begun, pure=False, resources={TRAININGS: 1})
            running[job.run] = job, future
            return future

        client.subscribe_topic(markers[0].name, lambda event: events.put(event[1]))
        for job, event in scheduler.in_turn(jobs, submit, lambda: _room(client), events):
            if job is None:
                name, epoch, score, line = event
                if name in running:
                    _show(lines, name, line)
                    if stop(running[name][0], epoch, score):
                        running.pop(name)[1].cancel()
                continue
            end, error = STOPPED, ""
            if running.pop(job.run, None):
                error = _receive(job, event)
                end = FAILED if error else DONE
            _show(lines, job.run, end)
            if job.run in lines:
                lines.pop(job.run).close()
            yield job, end, error


def _show(lines: dict[str, tqdm], run: str, text: str) -> None:
    """Show a text in the line of a run on a terminal, elsewhere in a line of its own."""
    if not sys.stdout.isatty():
        print(f"{run}: {text}", flush=True)
        return
    if run not in lines:
        lines[run] = tqdm(bar_format="{desc}", file=sys.stdout)
    width = shutil.get_terminal_size().columns - 1
    lines[run].set_description_str(f"{run}: {text}"[:width].ljust(width))  # over what tqdm leaves of another line


def _receive(job: Job, future: "distributed.Future") -> str:
    """Put the files that a task sends back into the run folder, and give its error, if any."""
    if future.status == "error":
        return f"{job.run}: {future.exception()}"
    error, files = future.result()  # raises where the scheduler is gone
    try:
        if files:  # the worker does not share the folder
            _replace(job.folder, files)
    except (UserError, OSError) as problem:
        return f"{job.run}: {problem}"
    return error


def _replace(folder: Path, files: dict[str, bytes]) -> None:
    """Write the files of a run folder, those last by which a folder counts as finished."""
    last = (records.RUN_RECORD, *records.SCORES)
    run = folder / records.RUN_RECORD
    with records.lock(folder):
        if run.exists() and files.get(run.name, run.read_bytes()) != run.read_bytes():
            records.remove_scores(folder)
        for name in sorted(files, key=last.__contains__):
            with records.atomic_write(folder / name) as temporary:
                temporary.write_bytes(files[name])


def _room(client: "distributed.Client") -> int:
    """Count the trainings that the workers have room for."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return int(sum(worker["resources"].get(TRAININGS, 0) for worker in workers))


@contextlib.contextmanager
def _marker(folder: Path) -> Iterator[Path]:
    """Make a file by which a worker knows that it shares a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".cluster-") as file:
        yield Path(file.name)


def _sees(markers: list[Path]) -> bool:
    return all(marker.exists() for marker in markers)


class _Room(distributed.WorkerPlugin):
    """Declares how many trainings a worker has memory and threads for."""

    async def setup(self, worker: "distributed.Worker") -> None:
        memory = worker.memory_manager.memory_limit or psutil.virtual_memory().total
        await worker.set_resources(**{TRAININGS: min(memory // machine.TRAINING_BYTES, worker.state.nthreads)})
        if worker.status == distributed.Status.running:
            # The scheduler looks at tasks that wait for room when a worker comes or resumes, not when it declares room.
            worker.status = distributed.Status.paused
            worker.status = distributed.Status.running


# ---------------------------------------------------------------- the worker


def execute(
    root: Path, markers: list[Path], code: str, copy: str, job: Job, begun: dict[str, bytes]
) -> tuple[str, dict[str, bytes]]:
    """Run the steps of a job on the worker that this is called on.

    Args:
        root: The client's repository.
        markers: From `_marker`, in the folders that may be shared; epochs are reported under the name of the first.
        code: The `version` of the client's code.
        copy: From `files_on_workers`: what a worker needs that does not share the folder of the runs.
        job: What is to be done.
        begun: What the run folder has already, for a worker that does not share it.

    Returns:
        The error, if any, and the files of the run folder, unless the worker shares it.

    Raises:
        UserError: The worker has other code, or neither shares the folder nor has a copy.
    """
    worker = scheduler.this_worker(code)
    shared = _sees(markers)
    if not shared:
        there = Path(worker.local_directory, copy)
        if not copy or not there.exists():
            places = " and ".join(str(marker.parent) for marker in markers if not marker.exists())
            raise UserError(f"The worker {worker.address} does not share {places}, as the first ones did.")
        folder, root = there / job.folder.relative_to(root), there
        job = dataclasses.replace(job, folder=folder, variables=job.variables | job.elsewhere)
        finished, here = begun.get(records.RUN_RECORD), folder / records.RUN_RECORD
        if finished and (not here.exists() or here.read_bytes() != finished):
            shutil.rmtree(folder, ignore_errors=True)  # of an earlier call
        for name, contents in begun.items():
            if not (folder / name).exists():  # it is newer here where this worker began the task
                with records.atomic_write(folder / name) as temporary:
                    temporary.write_bytes(contents)
    errors = (_run_step(step, job, root, markers[0].name, worker) for step in job.steps)
    return next(filter(None, errors), ""), {} if shared else _contents([job.folder], job.folder)


def _run_step(step: str, job: Job, root: Path, topic: str, worker: "distributed.Worker") -> str:
    """Run one step in a process of its own; returns what it reported if it failed."""
    threads = max(1, int(worker.state.nthreads // worker.state.total_resources[TRAININGS]))
    process = subprocess.Popen(
        [sys.executable, "-m", "lib.pipeline", step, job.run],
        cwd=root,
        env=os.environ | job.variables | machine.thread_limits(threads) | {"PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    ending = threading.Thread(target=_end_with_task, args=(process, worker, worker.get_current_task()), daemon=True)
    ending.start()
    last: collections.deque[str] = collections.deque(maxlen=LAST_LINES)
    for line in process.stdout:
        last.append(line.rstrip())
        if epoch := EPOCH.match(line):
            worker.log_event(topic, (job.run, int(epoch[1]), float(epoch[2]), line.strip()))
    if process.wait() == 0:
        return ""
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


def _contents(places: list[Path], root: Path) -> dict[str, bytes]:
    """Read the files of folders, by their paths below `root`, without those that a step or an interpreter left."""
    found = [path for place in places for path in ([place] if place.is_file() else place.rglob("*"))]
    left = {"__pycache__", "node_modules"}
    found = [path for path in found if path.is_file() and left.isdisjoint(path.parts) and path.name[0] != "."]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}
