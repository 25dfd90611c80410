"""The flagship recipe under a kill and a second make: nothing is lost, and nothing is half made."""

import subprocess
import time
from pathlib import Path

import pytest

from lib import records
from lib.inference.recogniser import Recogniser
from tests.checkout import assert_same_training, epochs_done, kill_with_children, make_checkout, stop_with_children

pytestmark = pytest.mark.slow

FLAGSHIP = """extends: springfield
width: 16
epochs: 4
progressive_size: 32
drawings_per_character: 4
"""


def wait_for(path: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 180
    while not path.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return make_checkout(tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("drawn"))


@pytest.fixture(scope="module")
def flagship(checkout):
    """The flagship recipe, trained once without a pause, and once until another make came, and then killed.

    Gives the two run folders, what the first make and the other one said, and make's arguments for the second run.
    """
    recipe = checkout.folder / "notebooks" / "params" / "small.yaml"
    recipe.write_text(FLAGSHIP)
    whole, killed = (checkout.folder / outputs / "tiny-bounded" / "small" for outputs in ("whole", "killed"))
    arguments = ["train", "RUNS=small", "EPOCHS=", "RESIZE=bounded"]
    made = checkout.make(*arguments, "OUTPUTS=whole")
    assert made.returncode == 0, made.stderr
    arguments.append("OUTPUTS=killed")
    with checkout.start(*arguments) as make:
        wait_for(killed / records.TRAINING_STATE, make)
        stop_with_children(make)  # still at work for another make, however long that takes
        other = checkout.make(*arguments)
        kill_with_children(make)
    yield whole, killed, made, other, arguments
    recipe.unlink()


def test_two_makes_at_once_the_second_says_so_and_stops(flagship):
    _, killed, _, other, _ = flagship
    assert other.returncode == 2
    assert f"Another process is working on {killed}" in other.stderr


def test_the_flagship_recipe_survives_a_kill_from_training_to_evaluation(checkout, flagship):
    whole, killed, made, _, arguments = flagship
    # The stages of progressive resizing are counted through.
    assert [line.split()[1] for line in made.stdout.splitlines() if line.startswith("epoch")] == [
        "1/4",
        "2/4",
        "3/4",
        "4/4",
    ]
    assert 1 <= epochs_done(killed) < 4
    made = checkout.make("evaluate", *arguments)
    assert made.returncode == 0, made.stderr
    assert "Continuing after epoch" in made.stdout
    assert_same_training(killed, whole)
    assert (killed / "model.tflite").read_bytes() == (whole / "model.tflite").read_bytes()  # so answers are, too
    assert records.read_metrics(killed)["test_pictures"] > 0
    run = records.read_run(killed)
    network = Recogniser.load(killed)
    assert (run["recipe"]["optimizer"], run["recipe"]["export_weights"]) == ("muon", "int8")
    assert (network.flip_tta_threshold, network.resize_mode, network.picture_size) == (0.8, "bounded", 64)
