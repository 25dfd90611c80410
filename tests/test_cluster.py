"""Trainings on a real scheduler and two real worker processes, of which one is killed."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from lib import records, scheduler
from lib.errors import UserError
from lib.pipeline import cluster
from tests import dask_processes
from tests.checkout import make_checkout
from tests.noise_pictures import prepare
from tests.patience import PATIENCE, until

pytestmark = pytest.mark.slow

# In place of 02_train: what a cluster sees of a training, in a second and without TensorFlow. That a real one goes on
# from its last epoch, bit for bit, is for `test_pipeline_killed.py`.
TRAINING = """
import time
import numpy as np
import pandas as pd
from lib import paths, records
from lib.data import dataset
from lib.training.recipe import Recipe
from tests import small_model

data, settings = dataset.load(paths.PROCESSED / data_name), Recipe.load(recipe, **overrides)
folder = records.folder_to_train(outputs, data_name, run)
state, done = folder / records.TRAINING_STATE, 0
if state.exists():
    done = int(np.load(state)["epoch"])
    print(f"Continuing after epoch {done}.")
for epoch in range(done + 1, settings.epochs + 1):
    np.savez(state, epoch=epoch)
    print(f"epoch {epoch}/{settings.epochs}  loss 1.000  val loss 1.000  macro F1 0.{epoch}00  1 s", flush=True)
    time.sleep(1)
scores = np.arange(1, settings.epochs + 1) / 10
columns = {"epoch": range(1, settings.epochs + 1), "loss": 1.0, "accuracy": scores, "val_loss": 1.0}
history = pd.DataFrame(columns | {"val_accuracy": scores, "val_macro_f1": scores})
records.write_csv(folder / records.HISTORY, history)
(folder / records.KERAS_MODEL).write_bytes(b"")
model = small_model.model(tuple(data.characters), data.preparation.picture_size)
(folder / records.LITERT_MODEL).write_bytes(model)
record = {"name": run, "data_name": data_name, "format_version": records.FORMAT_VERSION, "finished": True}
record |= {"recipe": settings.model_dump()}
record |= {"characters": data.characters, "manifest_sha256": data.manifest_sha256, "num_parameters": 12}
record |= {"conv_layers": 0, "epochs": settings.epochs, "best_epoch": settings.epochs, "seconds": 1.0}
record |= {"best_val_macro_f1": scores[-1], "seconds_per_epoch": 1.0, "train_pictures": len(data.rows("train"))}
record |= {"calibration": {"temperature": 1.0, "threshold": 0.5, "second_threshold": None}}
records.write_run(folder, record)
state.unlink()
"""


# In place of 03_evaluate.
EVALUATION = """
import pandas as pd
from lib import records

folder = records.folder(outputs, data_name, run)
tables = (records.PREDICTIONS, records.PER_CHARACTER, records.CONFUSION)
for name in tables:
    records.write_csv(folder / name, pd.DataFrame({"character": []}))
scores = {"accuracy": 0.5, "macro_f1": 0.5, "lowest_character": "bart_simpson", "lowest_f1": 0.5, "test_pictures": 9}
records.write_record(folder / records.METRICS_RECORD, scores, records.digests(folder, *tables))
"""


def replace_cells(notebook, source):
    """Put a cell in place of all that come after the parameters of a notebook."""
    book = nbformat.read(notebook, as_version=4)
    (parameters,) = [cell for cell in book.cells if "parameters" in cell.metadata.get("tags", [])]
    book.cells = [parameters, nbformat.v4.new_code_cell(source.strip())]
    nbformat.write(book, notebook)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the checkout with a sweep of two learning rates and prepared pictures."""
    copy = make_checkout(tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("drawn"))
    sweep = "recipe: cnn4\nmethod: grid\nparameters: {learning_rate: [0.001, 0.002]}\n"
    (copy.folder / "notebooks" / "params" / "sweeps" / "rates.yaml").write_text(sweep)
    for stem, source in (("02_train", TRAINING), ("03_evaluate", EVALUATION)):
        replace_cells(copy.folder / "notebooks" / f"{stem}.ipynb", source)
    made = copy.make("data")
    assert made.returncode == 0, made.stderr
    return copy


@pytest.fixture(scope="module")
def workers(checkout, tmp_path_factory):
    with dask_processes.started(tmp_path_factory.mktemp("dask"), checkout.folder) as cluster:
        yield cluster


def executed(notebook):
    cells = json.loads(notebook.read_text())["cells"]
    return "".join("".join(output.get("text", "")) for cell in cells for output in cell.get("outputs", []))


def test_a_sweep_survives_the_kill_of_a_worker_and_a_trial_that_fails(checkout, workers):
    killed, failing = (checkout.out / f"cnn4-learning_rate-{rate}" for rate in ("0.001", "0.002"))
    # A folder where the network is to be written: its training fails.
    (failing / records.KERAS_MODEL).mkdir(parents=True)
    arguments = ("sweep", "SWEEP=notebooks/params/sweeps/rates.yaml", "RUNS=", "EPOCHS=6", f"CLUSTER={workers.address}")
    with checkout.start(*arguments, output=subprocess.PIPE) as make:
        until((killed / records.TRAINING_STATE).exists, make)
        workers.kill_a_worker(doing=killed.name)
        out, err = make.communicate()
    assert make.returncode == 2, err
    # The other worker goes on from the last finished epoch.
    assert "Continuing after epoch" in executed(killed / "train.ipynb")
    history = pd.read_csv(killed / records.HISTORY)
    assert list(history.epoch) == [1, 2, 3, 4, 5, 6]
    assert f"{killed.name}: epoch 6/6" in out
    assert f"error: {failing.name}: 02_train failed in code cell" in err
    trials = pd.read_csv(checkout.out / "sweeps" / "rates" / "trials.csv").set_index("run")
    assert trials.state.to_dict() == {killed.name: "complete", failing.name: "fail"}
    assert trials["validation macro F1"][killed.name] == pytest.approx(history.val_macro_f1.max())
    # The test split had no part in it.
    assert not list(checkout.out.glob("*/metrics.json"))


# As `make train evaluate CLUSTER=…` calls it, but that no worker finds the marker of the shared folder.
ELSEWHERE = """
import contextlib, pathlib, sys
from lib.pipeline import cluster, commands
cluster._marker = lambda folder: contextlib.nullcontext(pathlib.Path("missing-marker"))
sys.exit(commands.main(["cluster"]))
"""


def test_a_worker_that_shares_no_folder_sends_the_run_back(checkout, workers):
    variables = {"CLUSTER": workers.address, "EPOCHS": "1"}
    made = run_here(checkout, ELSEWHERE, variables | {"GOALS": "train"})
    assert made.returncode == 0, made.stderr
    assert "cnn4: done" in made.stdout
    folder = checkout.out / "cnn4"
    assert records.read_run(folder)["recipe"]["epochs"] == 1
    # A finished training is not repeated where only its scores are missing.
    before = (folder / records.RUN_RECORD).read_bytes()
    with scheduler.connect(workers.address, 1) as client:
        places = client.run(lambda dask_worker: dask_worker.local_directory).values()
    for left in [left for place in places for left in Path(place).glob("study-*/outputs")]:  # of the call before
        shutil.rmtree(left)
    made = run_here(checkout, ELSEWHERE, variables | {"GOALS": "train evaluate"})
    assert made.returncode == 0 and "epoch 1/1" not in made.stdout, made.stderr
    assert (folder / records.RUN_RECORD).read_bytes() == before
    assert records.read_metrics(folder)["macro_f1"] >= 0
    # What came back is up to date by its content.
    made = checkout.make("train", "evaluate", "RUNS=cnn4", "EPOCHS=1", f"CLUSTER={workers.address}")
    assert (made.returncode, "epoch 1/1" in made.stdout) == (0, False), made.stderr


def run_here(checkout, code, variables):
    """Run Python in the checkout with the variables of make in the environment."""
    environment = checkout.environment(RUNS="cnn4", **variables)
    return subprocess.run(
        [sys.executable, "-c", code], cwd=checkout.folder, env=environment, capture_output=True, text=True
    )


def test_pictures_are_decoded_on_the_workers_as_here(checkout, workers, tmp_path):
    raw = tmp_path / "raw"
    shutil.copytree(checkout.folder / "tiny", raw)
    (raw / "bart_simpson" / "damaged.jpg").write_bytes(b"notes")
    here, there = (
        prepare(raw, tmp_path / name, cluster=address) for name, address in (("here", ""), ("there", workers.address))
    )
    pd.testing.assert_frame_equal(here, there)
    assert (here.exclusion_reason == "unreadable").sum() == 1
    for name in ("images.npy", "near_duplicates.npy"):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()


def test_another_version_of_the_project_on_a_worker_is_said(workers):
    here = cluster.paths.ROOT
    job = cluster.Job("cnn4", ("train",), here, {}, {})
    with scheduler.connect(workers.address, 1) as client:
        task = client.submit(cluster.execute, here, [here], "another", "", job, {})
        assert "has another version of this project" in str(task.exception())


def test_a_worker_that_comes_after_all_others_died_gets_their_trainings(tmp_path):
    with dask_processes.started(tmp_path, workers=1) as alone, scheduler.connect(alone.address, 1) as client:
        client.register_plugin(cluster._Room(), name=cluster.TRAININGS)
        training = client.submit(time.sleep, 2, resources={cluster.TRAININGS: 1})
        while not any(client.processing().values()):
            time.sleep(0.02)
        alone.kill_a_worker()
        alone.start_worker()
        training.result(timeout=PATIENCE)


def test_ctrl_c_in_a_terminal_is_left_to_the_command_that_started_the_workers():
    with scheduler.connect(scheduler.LOCAL, 1) as client:
        assert set(client.run(signal.getsignal, signal.SIGINT).values()) == {signal.SIG_IGN}


def test_no_worker_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(scheduler, "WORKER_SECONDS", 0.5)
    message = "No Dask scheduler with a worker answers at .*`dask worker ADDRESS` on each machine"
    with (
        dask_processes.started(tmp_path, workers=0) as alone,
        pytest.raises(UserError, match=message),
        scheduler.connect(alone.address, 1),
    ):
        pass


def test_without_dask_the_message_says_what_to_install(checkout):
    code = "import sys; sys.modules['distributed'] = None; "
    code += "from lib.pipeline import commands; sys.exit(commands.main(['cluster']))"
    made = run_here(checkout, code, {"CLUSTER": "local", "OUTPUTS": "other"})
    assert made.returncode == 2
    assert made.stderr.startswith("error: This needs the package distributed, which is not installed.")
    assert "pip install -e '.[cluster]'" in made.stderr


def test_scores_of_another_training_are_removed_when_files_are_received(tmp_path):
    for name in (records.RUN_RECORD, *records.SCORES):
        (tmp_path / name).write_text("old")
    # Of the same training, or of one that failed.
    for files in ({records.RUN_RECORD: b"old"}, {"train.failed.ipynb": b""}):
        cluster._replace(tmp_path, files)
        assert all((tmp_path / name).exists() for name in records.SCORES)
    cluster._replace(tmp_path, {records.RUN_RECORD: b"new", records.METRICS_RECORD: b"new"})
    assert (tmp_path / records.METRICS_RECORD).read_text() == "new"
    assert not (tmp_path / records.ROBUSTNESS).exists() and not (tmp_path / records.STRANGERS).exists()
