"""The whole study on a tiny set of pictures, through make and papermill, as a user runs it.

The tests work on a copy of the checkout, so that nothing of the user's data and runs is touched.
"""

import contextlib
import json
import os
import signal
import subprocess

import pandas as pd
import pytest

from lib import records
from lib.evaluation import corruptions
from tests.checkout import CHARACTERS, make_checkout

PRODUCTS = [
    *("run.json", "history.csv", "model.keras", "model.tflite", "train.ipynb", "evaluate.ipynb", "recipe.json"),
    *("predictions.csv", "per_character.csv", "confusion.csv", "metrics.json"),
]
FIGURES = ["confusion_matrix", "learning_curves", "per_character", "predictions", "worst_mistakes"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    copy = make_checkout(tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("drawn"))
    for name, old, new in (  # less work, where nothing asks how much
        ("notebooks/params/cnn4.yaml", "dense_units: 512", "dense_units: 16"),
        ("notebooks/params/cnn6.yaml", "dense_units: 1024", "dense_units: 16"),
        ("lib/evaluation/strangers.py", "DRAWN = 200", "DRAWN = 20"),
    ):
        path = copy.folder / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
    return copy


@pytest.fixture(scope="module")
def trained(checkout):
    """The same after `make train evaluate` of two runs side by side, with what that printed."""
    return checkout, checkout.make("-j2", "train", "evaluate")


def test_one_command_makes_every_product(trained):
    checkout, made = trained
    assert made.returncode == 0, made.stdout + made.stderr
    for run in ("cnn4", "cnn6"):
        assert [name for name in PRODUCTS if not (checkout.out / run / name).is_file()] == []
        assert [name for name in FIGURES if not (checkout.out / run / "figures" / f"{name}.png").is_file()] == []
    left_over = [p for p in checkout.folder.rglob(f"{records.TEMPORARY}*") if ".venv" not in p.parts]
    assert left_over == []


def test_it_ends_with_the_places_of_the_reports_and_one_table(trained):
    _, made = trained
    lines = made.stdout.strip().splitlines()
    assert "  outputs/tiny/cnn4/evaluate.ipynb" in lines
    assert " ".join(lines[-3].split()) == "run conv layers parameters epochs seconds accuracy macro F1"
    assert [line.split()[:2] for line in lines[-2:]] == [["cnn4", "4"], ["cnn6", "6"]]


def test_a_second_call_does_nothing(trained):
    checkout, _ = trained
    assert checkout.make("-q", "train", "evaluate").returncode == 0


def test_the_table_is_of_the_runs_that_are_asked_for(trained):
    checkout, _ = trained
    one = checkout.make("evaluate", "RUNS=cnn4")
    assert "cnn4" in one.stdout and "cnn6" not in one.stdout and steps_run(one) == []
    both = checkout.make("train", "evaluate")
    assert "cnn6" in (checkout.out / "summary.txt").read_text() and "cnn6" in both.stdout and steps_run(both) == []


def test_the_records_have_what_others_rely_on(trained):
    checkout, _ = trained
    run, metrics = (json.loads((checkout.out / "cnn4" / name).read_text()) for name in ("run.json", "metrics.json"))
    assert run["characters"] == metrics["characters"] == CHARACTERS
    assert (run["epochs"], run["conv_layers"], run["picture_size"], run["recipe"]["epochs"]) == (2, 4, 64, 2)
    assert {"accuracy", "macro_f1", "log_loss", "test_pictures", "threshold"} <= metrics.keys()
    assert metrics["near_duplicates_in_train"] == 0
    table = pd.read_csv(checkout.out / "cnn4" / "per_character.csv")
    assert list(table.columns) == ["character", "precision", "recall", "f1", "support"]
    assert table.support.sum() == metrics["test_pictures"]


def test_the_chosen_epoch_is_the_best_on_validation(trained):
    checkout, _ = trained
    history = pd.read_csv(checkout.out / "cnn4" / "history.csv")
    run = json.loads((checkout.out / "cnn4" / "run.json").read_text())
    assert run["best_val_macro_f1"] == history.val_macro_f1.max()
    assert run["best_epoch"] == history.epoch[history.val_macro_f1.idxmax()]


def steps_run(made):
    """Name the steps that make ran and did not merely find up to date."""
    return [line for line in made.stderr.splitlines() if line.startswith(("Preparing", "Training", "Evaluating"))]


@pytest.fixture
def edited(trained):
    """Append to a file of the checkout for one test, which makes it newer than every product."""
    checkout, _ = trained
    before = []

    def edit(name, text=""):
        path = checkout.folder / name
        before.append((path, path.read_text(encoding="utf-8")))
        path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")
        return checkout

    yield edit
    for path, text in before:
        path.write_text(text, encoding="utf-8")


def test_a_touched_module_notebook_or_recipe_makes_nothing_again(edited):
    edited("lib/training/batches.py", "\n# A comment.\n")
    edited("notebooks/02_train.ipynb")
    edited("notebooks/params/cnn4.yaml", "# A comment.\n")
    checkout = edited("lib/evaluation/metrics.py")
    made = checkout.make("evaluate")
    assert (made.returncode, steps_run(made)) == (0, [])
    assert checkout.make("-q", "evaluate").returncode == 0


def test_ctrl_c_when_a_step_has_touched_its_product_removes_nothing(edited):
    checkout = edited("notebooks/02_train.ipynb")
    record = checkout.out / "cnn4" / "run.json"
    before = record.stat().st_mtime_ns
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    command = checkout.command("train", "RUNS=cnn4")
    with subprocess.Popen(command, cwd=checkout.folder, start_new_session=True, **quiet) as make:
        while record.stat().st_mtime_ns == before:
            # On a busy machine make may end between two looks.
            assert make.poll() is None or record.stat().st_mtime_ns != before
        with contextlib.suppress(ProcessLookupError):
            os.killpg(make.pid, signal.SIGINT)
    assert record.is_file()


def test_reports_are_web_pages(trained):
    checkout, _ = trained
    made = checkout.make("report", "RUN=cnn4")
    assert made.returncode == 0, made.stderr
    assert made.stdout.split() == ["outputs/tiny/cnn4/train.html", "outputs/tiny/cnn4/evaluate.html"]
    assert "Classification report" in (checkout.out / "cnn4" / "evaluate.html").read_text()


def test_executed_notebooks_hold_no_errors_or_warnings(trained):
    checkout, _ = trained
    for path in [*checkout.out.glob("*/*.ipynb"), checkout.folder / "data" / "processed" / "tiny" / "prepare.ipynb"]:
        for cell in json.loads(path.read_text())["cells"]:
            said = [o for o in cell.get("outputs", []) if o.get("name") == "stderr" or o["output_type"] == "error"]
            assert said == [], path.name


def test_compare_puts_the_runs_side_by_side(trained):
    checkout, _ = trained
    made = checkout.make("compare")
    assert made.returncode == 0, made.stderr
    table = pd.read_csv(checkout.out / "comparison.csv")
    assert sorted(table.run) == ["cnn4", "cnn6"]
    assert "95 % interval" in made.stdout and "Time to cnn6's last validation score" in made.stdout
    assert (checkout.out / "comparison.png").stat().st_size > 10_000


def test_robustness_scores_every_kind_of_change(trained):
    checkout, _ = trained
    done = checkout.make("robustness", "RUNS=cnn4", variables={"HOME": ""})  # as in some containers: no home at all
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(checkout.out / "cnn4" / "robustness.csv", keep_default_na=False)
    assert table.kind[0] == "unchanged"
    assert len(table) == 1 + len(corruptions.KINDS) * len(corruptions.STRENGTHS)
    assert table.macro_f1.between(0, 1).all()
    assert (checkout.out / "cnn4" / "figures" / "robustness.png").stat().st_size > 0


def test_a_run_is_trained_once_more_on_all_frames(trained):
    checkout, _ = trained
    made = checkout.make("refit", "RUNS=cnn4")
    assert made.returncode == 0, made.stderr
    run, once_more = (records.read_run(checkout.out / name) for name in ("cnn4", "cnn4/refit"))
    assert once_more["refit_of"] == run["model_sha256"] and once_more["calibration"] == run["calibration"]
    assert once_more["train_pictures"] == 60 > run["train_pictures"]
    # There is no set of pictures that it has not seen.
    assert not (checkout.out / "cnn4" / "refit" / records.METRICS_RECORD).exists()


@pytest.fixture(scope="module")
def published(trained):
    """The committed records, with those of cnn4."""
    checkout, _ = trained
    done = checkout.make("publish", "RUNS=cnn4")
    assert done.returncode == 0, done.stderr
    return checkout.folder / "outputs" / "published"


def test_publishing_copies_the_records_and_no_picture_of_a_frame(published):
    assert records.read_run(published / "cnn4")["name"] == "cnn4"
    kept = {path.name for path in (published / "cnn4").rglob("*") if path.is_file()}
    assert {"run.json", "metrics.json", "history.csv", "per_character.csv", "confusion.csv"} <= kept
    assert not kept & {"model.tflite", "model.keras", "predictions.png", "worst_mistakes.png", "evaluate.ipynb"}


def test_a_record_of_other_pictures_is_not_overwritten(checkout, published):
    refused = checkout.make("publish", "RUNS=cnn4", "EXCLUDE_KAGGLE_TEST=1")
    assert refused.returncode == 2
    assert "published records of cnn4 are of other pictures than tiny-no-kaggle-test" in refused.stderr


def test_the_committed_records_are_compared_and_not_made_again(checkout, published):
    made = checkout.make("compare", "DATA=published")
    assert made.returncode == 0, made.stderr
    assert "cnn4" in pd.read_csv(published / "comparison.csv").run.tolist()


# Last, since what they make again, the tests above would have to make once more.


def test_changed_code_of_the_evaluation_evaluates_again_and_trains_nothing(edited):
    checkout = edited("lib/evaluation/metrics.py", "\nADDED = 1\n")
    said = checkout.first_line("evaluate", "RUNS=cnn4")
    assert said == "Evaluating cnn4 again: lib/evaluation/metrics.py changed\n"


def test_a_changed_recipe_trains_that_run_alone(edited):
    checkout = edited("notebooks/params/cnn4.yaml", "batch_size: 16\n")
    # The other run is looked at first.
    assert checkout.first_line("train", "RUNS=cnn6 cnn4") == "Training cnn4 again: parameters changed\n"
