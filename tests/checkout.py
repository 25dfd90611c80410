"""A copy of the checkout with a tiny folder of pictures, and make in it, for the tests of the pipeline."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from lib import paths
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
        # While pytest is named there, ipykernel keeps messages of native libraries out of a notebook.
        environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
        environment |= variables or {}
        command = self.command(*arguments)
        return subprocess.run(
            command,
            cwd=self.folder,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env={name: value for name, value in environment.items() if value},
            umask=umask,
        )


def make_checkout(folder: Path, drawn: Path) -> Checkout:
    """Copy the checkout to a folder, with 20 pictures of each of three characters of the sample beside it."""
    copy = Checkout(folder)
    sample.draw_sample(drawn, seed=3, pictures_per_character=20)
    for character in CHARACTERS:
        shutil.copytree(drawn / character, folder / "tiny" / character)
    return copy


def kill_with_children(process: subprocess.Popen) -> None:
    """Kill make and all that it started, kernels included: those have sessions of their own."""
    family = [process.pid]
    for pid in family:
        children = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()
        family.extend(map(int, children))
    for pid in reversed(family):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
