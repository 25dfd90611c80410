"""What a kill leaves, and a second make: nothing is lost, and nothing is half made."""

import contextlib
import json
import os
import random
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from lib import records
from lib.inference.recogniser import Recogniser
from tests.checkout import kill_with_children, make_checkout

# How often the kill test kills; more on request, `KILLS=10 make test`.
KILLS = int(os.environ.get("KILLS", "1"))
KILL_SEED = int(os.environ.get("KILL_SEED", "0"))
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return make_checkout(tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("drawn"))


def saved_weights(run_folder: Path) -> list[np.ndarray]:
    import keras

    return keras.saving.load_model(run_folder / "model.keras", compile=False).get_weights()


def assert_the_same(run_folder: Path, expected: Path) -> None:
    assert (run_folder / "history.csv").read_bytes() == (expected / "history.csv").read_bytes()
    for one, other in zip(saved_weights(run_folder), saved_weights(expected), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_killed_training_ends_as_if_it_had_not_been_killed(checkout):
    arguments = ["train", "RUNS=cnn4", "EPOCHS=12"]
    started = time.monotonic()
    assert checkout.make(*arguments, "OUTPUTS=whole").returncode == 0
    duration = time.monotonic() - started
    whole, killed = (checkout.folder / outputs / "tiny" / "cnn4" for outputs in ("whole", "killed"))
    moments = random.Random(KILL_SEED)
    for _ in range(KILLS):
        if (killed / "run.json").exists():
            assert_the_same(killed, whole)
            shutil.rmtree(killed)
        moment = moments.uniform(0, duration)
        with subprocess.Popen(checkout.command(*arguments, "OUTPUTS=killed"), cwd=checkout.folder, **QUIET) as make:
            with contextlib.suppress(subprocess.TimeoutExpired):
                make.wait(timeout=moment)
            kill_with_children(make)
        print(f"killed after {moment:.1f} of {duration:.1f} s, with {epochs_done(killed)} epochs done")
    made = checkout.make(*arguments, "OUTPUTS=killed")
    assert made.returncode == 0, made.stderr
    assert_the_same(killed, whole)


FLAGSHIP = """extends: springfield
width: 16
epochs: 4
progressive_size: 32
drawings_per_character: 4
"""


def test_the_flagship_recipe_survives_a_kill_from_training_to_evaluation(checkout):
    recipe = checkout.folder / "notebooks" / "params" / "small.yaml"
    recipe.write_text(FLAGSHIP)
    whole, killed = (checkout.folder / outputs / "tiny-bounded" / "small" for outputs in ("whole", "killed"))
    arguments = ["train", "RUNS=small", "EPOCHS=", "RESIZE=bounded"]
    made = checkout.make(*arguments, "OUTPUTS=whole")
    assert made.returncode == 0, made.stderr
    # The stages of progressive resizing are counted through.
    assert [line.split()[1] for line in made.stdout.splitlines() if line.startswith("epoch")] == [
        "1/4",
        "2/4",
        "3/4",
        "4/4",
    ]
    with subprocess.Popen(checkout.command(*arguments, "OUTPUTS=killed"), cwd=checkout.folder, **QUIET) as make:
        wait_for(killed / "state.npz", make)
        kill_with_children(make)
    assert 1 <= epochs_done(killed) < 4
    made = checkout.make("evaluate", *arguments, "OUTPUTS=killed")
    assert made.returncode == 0, made.stderr
    assert "Continuing after epoch" in made.stdout
    assert_the_same(killed, whole)
    assert (killed / "model.tflite").read_bytes() == (whole / "model.tflite").read_bytes()  # so answers are, too
    assert records.read_metrics(killed)["test_pictures"] > 0
    run = records.read_run(killed)
    network = Recogniser.load(killed)
    assert (run["recipe"]["optimizer"], run["recipe"]["export_weights"]) == ("muon", "int8")
    assert (network.flip_tta_threshold, network.resize_mode, network.picture_size) == (0.8, "bounded", 64)
    recipe.unlink()


def epochs_done(run_folder: Path) -> int:
    with contextlib.suppress(FileNotFoundError), np.load(run_folder / "state.npz") as state:
        return json.loads(str(state["meta"]))["epoch"]
    return 0


def wait_for(path: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 180
    while not path.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


def test_two_makes_at_once_the_second_says_so_and_stops(checkout):
    folder = checkout.folder / "twice" / "tiny" / "cnn4"
    arguments = ["train", "RUNS=cnn4", "EPOCHS=50", "OUTPUTS=twice"]
    with subprocess.Popen(
        checkout.command(*arguments), cwd=checkout.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as first:
        wait_for(folder / "state.npz", first)
        second = checkout.make(*arguments)
        assert first.poll() is None
        kill_with_children(first)
    assert second.returncode == 2
    assert f"Another process is working on {folder}" in second.stderr
