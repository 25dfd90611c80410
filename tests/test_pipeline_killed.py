"""The flagship recipe under a second make, a kill and a hostile home: nothing is lost, half made or different."""

import contextlib
import os
import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from lib import records
from lib.data import dataset
from lib.evaluation import metrics
from lib.inference.recogniser import Recogniser
from tests.checkout import assert_same_training, epochs_done, kill_with_children, make_checkout, stop_with_children
from tests.patience import until

pytestmark = pytest.mark.slow

# How often the training is killed; more, at random moments, on request: `KILLS=10 make test`.
KILLS = int(os.environ.get("KILLS", "1"))
KILL_SEED = int(os.environ.get("KILL_SEED", "5"))

FLAGSHIP = """extends: springfield
width: 16
epochs: 4
progressive_size: 32
drawings_per_character: 4
"""
TRAIN = ("train", "RUNS=small", "EPOCHS=", "RESIZE=bounded")
RUN_FOLDER = Path("tiny-bounded", "small")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    copy = make_checkout(tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("drawn"))
    (copy.folder / "notebooks" / "params" / "small.yaml").write_text(FLAGSHIP)
    return copy


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A hostile home: another order of axes, float type and backend, figures and code of the user's own."""
    home = tmp_path_factory.mktemp("home")
    files = {
        ".keras/keras.json": '{"image_data_format": "channels_first", "floatx": "float16", "backend": "jax"}',
        ".config/matplotlib/matplotlibrc": "figure.dpi: 1000\nfont.size: 99\nno such setting\n",
        ".ipython/profile_default/startup/00.py": "raise SystemExit('code of the user')",
        ".ipython/profile_default/ipython_config.py": "c.InteractiveShellApp.exec_lines = ['1 / 0']",
        "jupyter/jupyter_config.py": "raise SystemExit('settings of the user')",
        "startup.py": "raise SystemExit('start-up of the user')",
    }
    for name, contents in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(contents)
    variables = {"HOME": str(home), "LC_ALL": "C", "LANG": "", "PYTHONSTARTUP": str(home / "startup.py")}
    variables |= {"JUPYTER_CONFIG_DIR": str(home / "jupyter"), "XDG_CONFIG_HOME": ""}
    variables |= {"PYTHONWARNINGS": "error", "PYTHONIOENCODING": "ascii"}
    return {"variables": variables, "umask": 0o077}


# A fixture for each training, so that each has the time of a test before it is taken to hang.
@pytest.fixture(scope="module")
def whole(checkout):
    """Give the run folder of the flagship recipe, trained undisturbed, what make said, and after how many seconds."""
    start = time.monotonic()
    made = checkout.make(*TRAIN, "OUTPUTS=whole")
    assert made.returncode == 0, made.stderr
    return checkout.folder / "whole" / RUN_FOLDER, made, time.monotonic() - start


@pytest.fixture(scope="module")
def killed(checkout, hostile):
    """Give the run folder of the same, killed in a hostile home after an epoch, and what a second make said to that."""
    folder = checkout.folder / "killed" / RUN_FOLDER
    with checkout.start(*TRAIN, "OUTPUTS=killed", **hostile) as make:
        until((folder / records.TRAINING_STATE).exists, make)
        stop_with_children(make)  # still at work for another make, however long that takes
        other = checkout.make(*TRAIN, "OUTPUTS=killed")
        kill_with_children(make)
    return folder, other


@pytest.fixture(scope="module")
def continued(checkout, hostile, killed, whole):
    """Give what make said that continued the killed training and evaluated, and how many epochs it found finished."""
    folder, _ = killed
    undisturbed, _, duration = whole
    moments = random.Random(KILL_SEED)
    for _ in range(KILLS - 1):
        if (folder / records.RUN_RECORD).exists():
            assert_same_training(folder, undisturbed)
            shutil.rmtree(folder)
        moment = moments.uniform(0, duration)
        with checkout.start(*TRAIN, "OUTPUTS=killed", **hostile) as make:
            with contextlib.suppress(subprocess.TimeoutExpired):
                make.wait(timeout=moment)
            kill_with_children(make)
        print(f"killed after {moment:.1f} s, with {epochs_done(folder)} epochs done")
    done = epochs_done(folder)
    made = checkout.make("evaluate", *TRAIN, "OUTPUTS=killed", **hostile)
    assert made.returncode == 0, made.stderr
    return made, done


def test_two_makes_at_once_the_second_says_so_and_stops(killed):
    folder, other = killed
    assert other.returncode == 2
    assert f"Another process is working on {folder}" in other.stderr


def test_the_epochs_are_counted_through_all_stages_of_progressive_resizing(whole):
    _, made, _ = whole
    lines = [line.split() for line in made.stdout.splitlines() if line.startswith("epoch")]
    assert [words[1] for words in lines] == ["1/4", "2/4", "3/4", "4/4"]


def test_the_flagship_recipe_survives_a_kill_from_training_to_evaluation(whole, killed, continued):
    undisturbed, _, _ = whole
    folder, _ = killed
    made, done = continued
    if KILLS == 1:
        assert 1 <= done < 4 and "Continuing after epoch" in made.stdout
    assert_same_training(folder, undisturbed)
    assert (folder / records.LITERT_MODEL).read_bytes() == (undisturbed / records.LITERT_MODEL).read_bytes()
    assert records.read_metrics(folder)["test_pictures"] > 0
    run = records.read_run(folder)
    network = Recogniser.load(folder)
    assert (run["recipe"]["optimizer"], run["recipe"]["export_weights"]) == ("muon", "int8")
    assert (network.flip_tta_threshold, network.resize_mode, network.picture_size) == (0.8, "bounded", 64)


def test_a_users_settings_change_no_answer(checkout, whole, killed, continued, tmp_path):
    data = dataset.load(checkout.folder / "data" / "processed" / "tiny-bounded")
    test = data.rows("test")
    probabilities = Recogniser.load(whole[0]).predict_pixels(data.images[test])
    paths = data.table.path[data.table.split == "test"]
    answers = metrics.Predictions(paths, data.labels[test], probabilities, data.characters, data.groups("test"))
    records.write_csv(tmp_path / "expected.csv", metrics.predictions_table(answers))
    assert (killed[0] / records.PREDICTIONS).read_bytes() == (tmp_path / "expected.csv").read_bytes()
