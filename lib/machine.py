"""The machine that this process runs on: cores, processor, how trainings share it, and how their commands end."""

import contextlib
import os
import platform
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
import psutil

from lib.errors import UserError, report_error

# A training of cnn6, the largest network of the study, takes 1.5 GB at its peak.
TRAINING_BYTES = 3_000_000_000
SLOT_SECONDS = 1.0
TERMINAL_VARIABLE = "STUDY_TERMINAL"  # names the terminal on which a training draws its line of progress
LINE_START = "\r\x1b[K"  # clears the line of a terminal
PARENT_CHECK_SECONDS = 0.5
EXIT_INTERRUPTED = 130


def cores() -> int:
    """Count the processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor_name() -> str:
    """Name the processor as the system does, or at least its architecture."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def jobs() -> int:
    """Read from make's flags how many of its recipes may run at once: 1 without `-j`."""
    found = re.search(r"(?:^|\s)-j(\d*)", os.environ.get("MAKEFLAGS", ""))
    return int(found[1] or cores()) if found else 1


def trainings_at_once(wanted: int) -> int:
    """Say how many trainings fit on this machine side by side: by cores, by memory, and by how many are wanted."""
    return max(1, min(wanted, cores(), psutil.virtual_memory().total // TRAINING_BYTES))


def thread_limits(threads: int) -> dict[str, str]:
    """Give the environment variables by which TensorFlow uses so many threads."""
    return dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), str(threads))


@contextlib.contextmanager
def training_slot(folder: Path) -> Iterator[dict[str, str]]:
    """Wait until a training may start beside those that `make -j` runs; gives variables that limit its threads.

    As many run at once as make asks for, as there are cores, and as fit into memory; the cores are divided among them.
    The folder keeps the lock files of their slots.
    """
    if jobs() == 1:
        yield {}
        return
    slots = trainings_at_once(jobs())
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        for number in range(slots):
            with lock(folder / f".slot-{number}.lock", timeout=0) as held:
                if held:
                    yield thread_limits(max(1, cores() // slots))
                    return
        time.sleep(SLOT_SECONDS)


@contextlib.contextmanager
def lock(path: Path, timeout: float = -1) -> Iterator[bool]:
    """Lock a file, which is made, and removed afterwards; the lock ends with its process.

    Gives whether it is locked, after waiting for at most `timeout` seconds, endlessly if that is negative.
    """
    guard = filelock.FileLock(path)
    with contextlib.suppress(filelock.Timeout):
        guard.acquire(timeout=timeout)
    try:
        yield guard.is_locked
    finally:
        if guard.is_locked:
            with contextlib.suppress(OSError):  # such as one of another user, in a folder of both
                path.unlink()  # while it is locked, since filelock keeps no lock on a file without a name
            guard.release()


@contextlib.contextmanager
def stderr_to(file: Path) -> Iterator[None]:
    """Send standard error to a file during the block, also that of C++ code and of processes that are started."""
    sys.stderr.flush()
    terminal = os.dup(2)
    try:
        with file.open("wb") as opened:
            os.dup2(opened.fileno(), 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


def run_command(command: Callable[..., None], *arguments: str) -> int:
    """Run a command that may train for hours: it ends with its parent, and tells mistakes without a traceback.

    Returns the exit status: 0, 2 for a mistake, 130 for Ctrl-C.
    """
    end_with_parent()
    try:
        command(*arguments)
    except (UserError, OSError) as problem:
        return report_error(problem)
    except KeyboardInterrupt:
        print("Interrupted. The same command continues, a training after its last finished epoch.", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def end_with_parent() -> None:
    """End this process when its parent is gone: `kill -9` of make alone must not leave a training running."""

    def watch(parent: int) -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, args=(os.getppid(),), daemon=True).start()
