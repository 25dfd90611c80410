"""A copy of the checkout with a tiny folder of pictures, and make in it, for the tests of the pipeline."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import psutil

from lib import paths, records
from lib.drawing import sample

CHARACTERS = ["bart_simpson", "homer_simpson", "lisa_simpson"]


class Checkout:
    """A copy of this checkout, and make in it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.out = folder / "outputs" / "tiny"
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"], cwd=paths.ROOT, capture_output=True, text=True, check=True
        )
        for name in listed.stdout.splitlines():
            if (paths.ROOT / name).is_file() and not name.startswith("outputs/"):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(paths.ROOT / name, folder / name)

    def command(self, *arguments: str) -> list[str]:
        tiny = [f"DATA={self.folder / 'tiny'}", "MIN_PICTURES=5", "RUNS=cnn4 cnn6", "EPOCHS=2"]
        given = {argument.partition("=")[0] for argument in arguments}
        tiny = [setting for setting in tiny if setting.partition("=")[0] not in given]
        return ["make", f"PYTHON={sys.executable}", "ENVIRONMENT=", *tiny, *arguments]

    def environment(self, **variables: str) -> dict[str, str]:
        """Give the environment in which make calls a step on the tiny pictures."""
        return os.environ | {"DATA": str(self.folder / "tiny"), "MIN_PICTURES": "5"} | variables

    def make(
        self, *arguments: str, variables: dict[str, str] | None = None, umask: int = -1
    ) -> subprocess.CompletedProcess:
        with self.start(*arguments, variables=variables, umask=umask, output=subprocess.PIPE) as process:
            try:
                out, err = process.communicate()
            except BaseException:  # such as the end of a test's time: what make had said tells where it was
                kill_with_children(process)
                print(*process.communicate(), sep="\n")
                raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    @contextlib.contextmanager
    def start(
        self,
        *arguments: str,
        variables: dict[str, str] | None = None,
        umask: int = -1,
        output: int = subprocess.DEVNULL,
    ) -> Iterator[subprocess.Popen]:
        """Start make, to be waited for or killed; a test that fails meanwhile kills it."""
        # While pytest is named there, ipykernel keeps messages of native libraries out of a notebook.
        environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
        environment |= variables or {}
        with subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            text=True,
            env={name: value for name, value in environment.items() if value},
            umask=umask,
        ) as process:
            try:
                yield process
            except BaseException:
                kill_with_children(process)
                raise

    def first_line(self, *arguments: str) -> str:
        """Give the first line that make says, and kill it then: what it goes on to make is not looked at."""
        with self.start(*arguments, output=subprocess.PIPE) as make:
            line = next(iter(make.stderr), "")
            kill_with_children(make)
        return line


def make_checkout(folder: Path, drawn: Path) -> Checkout:
    """Copy the checkout to a folder, with 20 pictures of each of three characters of the sample beside it."""
    copy = Checkout(folder)
    only = {name: each.model_copy(update={"sample": name in CHARACTERS}) for name, each in sample.FEATURES.items()}
    with mock.patch.dict(sample.FEATURES, only):  # the others would take most of the time
        sample.draw_sample(drawn, seed=3, pictures_per_character=20)
    for character in CHARACTERS:
        shutil.copytree(drawn / character, folder / "tiny" / character)
    return copy


def kill_with_children(process: subprocess.Popen) -> None:
    """Kill make and all that it started, kernels included: those have sessions of their own."""
    if process.poll() is None:
        _signal_family(process, signal.SIGKILL)
        process.wait()


def stop_with_children(process: subprocess.Popen) -> None:
    """Let make and all that it started stand still where they are, with the locks that they hold."""
    _signal_family(process, signal.SIGSTOP)


def _signal_family(process: subprocess.Popen, number: int) -> None:
    parent = psutil.Process(process.pid)
    for each in [*reversed(parent.children(recursive=True)), parent]:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.send_signal(number)


def epochs_done(run_folder: Path) -> int:
    """Say after how many epochs a training that has not ended would continue."""
    with contextlib.suppress(FileNotFoundError), np.load(run_folder / records.TRAINING_STATE) as state:
        return json.loads(str(state["meta"]))["epoch"]
    return 0


def assert_same_training(run_folder: Path, expected: Path) -> None:
    """Check that two trainings went the same way and ended with the same weights, bit for bit."""
    assert (run_folder / records.HISTORY).read_bytes() == (expected / records.HISTORY).read_bytes()
    for one, other in zip(_saved_weights(run_folder), _saved_weights(expected), strict=True):
        np.testing.assert_array_equal(one, other)


def _saved_weights(run_folder: Path) -> list[np.ndarray]:
    import keras

    return keras.saving.load_model(run_folder / records.KERAS_MODEL, compile=False).get_weights()
