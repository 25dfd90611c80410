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


def wait_for(path: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 180
    while not path.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return make_checkout(tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("drawn"))


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
    return {"variables": variables, "umask": 0o077}


@pytest.fixture(scope="module")
def flagship(checkout, hostile):
    """The flagship recipe, trained undisturbed, and in a hostile home, where another make is refused, then this killed.

    Gives the two run folders, what the three makes said, with the one that continued and evaluated, and the number of
    epochs that the killed training had finished.
    """
    recipe = checkout.folder / "notebooks" / "params" / "small.yaml"
    recipe.write_text(FLAGSHIP)
    whole, killed = (checkout.folder / outputs / "tiny-bounded" / "small" for outputs in ("whole", "killed"))
    arguments = ["train", "RUNS=small", "EPOCHS=", "RESIZE=bounded"]
    start = time.monotonic()
    made = checkout.make(*arguments, "OUTPUTS=whole")
    duration = time.monotonic() - start
    assert made.returncode == 0, made.stderr
    arguments.append("OUTPUTS=killed")
    with checkout.start(*arguments, **hostile) as make:
        wait_for(killed / records.TRAINING_STATE, make)
        stop_with_children(make)  # still at work for another make, however long that takes
        other = checkout.make(*arguments)
        kill_with_children(make)
    moments = random.Random(KILL_SEED)
    for _ in range(KILLS - 1):
        if (killed / records.RUN_RECORD).exists():
            assert_same_training(killed, whole)
            shutil.rmtree(killed)
        moment = moments.uniform(0, duration)
        with checkout.start(*arguments, **hostile) as make:
            with contextlib.suppress(subprocess.TimeoutExpired):
                make.wait(timeout=moment)
            kill_with_children(make)
        print(f"killed after {moment:.1f} s, with {epochs_done(killed)} epochs done")
    done = epochs_done(killed)
    continued = checkout.make("evaluate", *arguments, **hostile)
    assert continued.returncode == 0, continued.stderr
    yield whole, killed, (made, other, continued), done
    recipe.unlink()


def test_two_makes_at_once_the_second_says_so_and_stops(flagship):
    _, killed, (_, other, _), _ = flagship
    assert other.returncode == 2
    assert f"Another process is working on {killed}" in other.stderr


def test_the_flagship_recipe_survives_a_kill_from_training_to_evaluation(flagship):
    whole, killed, (made, _, continued), done = flagship
    # The stages of progressive resizing are counted through.
    assert [line.split()[1] for line in made.stdout.splitlines() if line.startswith("epoch")] == [
        "1/4",
        "2/4",
        "3/4",
        "4/4",
    ]
    if KILLS == 1:
        assert 1 <= done < 4 and "Continuing after epoch" in continued.stdout
    assert_same_training(killed, whole)
    assert (killed / records.LITERT_MODEL).read_bytes() == (whole / records.LITERT_MODEL).read_bytes()
    assert records.read_metrics(killed)["test_pictures"] > 0
    run = records.read_run(killed)
    network = Recogniser.load(killed)
    assert (run["recipe"]["optimizer"], run["recipe"]["export_weights"]) == ("muon", "int8")
    assert (network.flip_tta_threshold, network.resize_mode, network.picture_size) == (0.8, "bounded", 64)


def test_a_users_settings_change_no_answer(checkout, flagship, tmp_path):
    whole, killed, *_ = flagship
    data = dataset.load(checkout.folder / "data" / "processed" / "tiny-bounded")
    test = data.rows("test")
    probabilities = Recogniser.load(whole).predict_pixels(data.images[test])
    paths = data.table.path[data.table.split == "test"]
    answers = metrics.Predictions(paths, data.labels[test], probabilities, data.characters, data.groups("test"))
    records.write_csv(tmp_path / "expected.csv", metrics.predictions_table(answers))
    assert (killed / records.PREDICTIONS).read_bytes() == (tmp_path / "expected.csv").read_bytes()
