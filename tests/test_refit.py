"""A run trained once more on all frames, by its module and by make's publishing."""

import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest

from lib import paths, records
from lib.data import dataset
from lib.data.preparation import TEST_SET
from lib.errors import UserError
from lib.inference.recogniser import read_metadata
from lib.pipeline import publishing
from lib.training import export, fit, refit
from lib.training.recipe import Recipe
from tests import small_data

RECIPE = Recipe(
    network="cnn",
    conv_layers=4,
    dense_units=16,
    schedule="one_cycle",
    epochs=4,
    precision="float32",
    batch_size=8,
)


def with_test_set(data):
    """Make the last four pictures the archive's own test set."""
    table = data.table.assign(split=[*data.table.split[:-4], *[TEST_SET] * 4])
    return dataclasses.replace(data, table=table)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run, and its pictures."""
    data = with_test_set(small_data.dataset())
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    folder.mkdir()
    _, training = fit.train(data, folder, RECIPE)
    exported = export.save(folder, "tiny", data, RECIPE, training.best_weights)
    record = export.run_record("tiny", "drawn", data, training, exported) | {"exported_weights": "float32"}
    files = records.digests(folder, records.KERAS_MODEL, records.LITERT_MODEL)
    records.write_record(folder / records.RUN_RECORD, record, files)
    return folder, data


@pytest.fixture
def loaded(run, monkeypatch):
    """The folder of the run; whoever loads its pictures gets them."""
    folder, data = run
    monkeypatch.setattr(dataset, "load", lambda processed, digest: data)
    return folder


def test_all_frames_are_in_train_and_the_archives_own_test_set_is_the_test():
    data = with_test_set(small_data.dataset())
    # 16 in train, 8 in validation, 4 in test and 4 in the archive's own test set.
    everything = dataset.for_refit(data)
    assert len(everything.rows("train")) == 28 and not len(everything.rows("validation"))
    assert everything.rows("test").tolist() == data.rows(TEST_SET).tolist() == [28, 29, 30, 31]
    assert dataset.as_trained(data, {"name": "tiny"}) is data
    assert len(dataset.as_trained(data, {"name": "tiny", "refit_of": "0"}).rows("test")) == 4


def test_a_network_that_has_seen_everything_is_not_scored():
    with pytest.raises(UserError, match="tiny was trained once more on all frames, and there are no other pictures"):
        dataset.as_trained(small_data.dataset(), {"name": "tiny", "refit_of": "0"})


def test_a_refit_divides_the_rate_after_as_many_steps(loaded, monkeypatch):
    record = records.read_run(loaded)
    record["recipe"] |= {"schedule": "step", "drop_every": 3}
    monkeypatch.setattr(records, "read_run", lambda folder: record)
    monkeypatch.setattr(fit, "train", lambda data, folder, recipe: pytest.fail(f"{recipe.epochs} {recipe.drop_every}"))
    with pytest.raises(pytest.fail.Exception, match="2 2"):  # of 4 and 3, of 28 pictures instead of 16
        refit.refit(loaded)


def test_a_refit_keeps_the_thresholds_and_is_not_repeated(loaded, run):
    folder = refit.refit(loaded)
    before, after = records.read_run(loaded), records.read_run(folder)
    assert after["calibration"] == before["calibration"]
    assert after["exported_weights"] == before["exported_weights"] == "float32"
    assert (after["train_pictures"], before["train_pictures"]) == (28, 16)
    assert (after["epochs"], before["epochs"]) == (2, 4)  # of 28 and of 16 pictures: in as many steps
    assert after["refit_of"] == before["model_sha256"] != after["model_sha256"]
    metadata = [read_metadata((each / records.LITERT_MODEL).read_bytes(), each) for each in (loaded, folder)]
    assert metadata[0] == metadata[1]  # threshold, characters and all that readers need
    assert not (folder / records.TRAINING_STATE).exists()
    written = (folder / records.LITERT_MODEL).stat().st_mtime_ns
    refit.refit(loaded)
    assert (folder / records.LITERT_MODEL).stat().st_mtime_ns == written


def test_publishing_puts_the_refitted_network_in_place_and_says_so(loaded, tmp_path, monkeypatch):
    folder = refit.refit(loaded)
    monkeypatch.setattr(paths, "PUBLISHED", tmp_path)
    target = tmp_path / "tiny"
    target.mkdir()
    for name in (records.RUN_RECORD, records.LITERT_MODEL):
        (target / name).write_bytes((loaded / name).read_bytes())
    publishing.publish_refit(folder, target)
    record, of_refit = records.read_run(target), records.read_run(folder)
    assert record["model_sha256"] == of_refit["model_sha256"] == records.file_sha256(target / records.LITERT_MODEL)
    assert record["refit"]["train_pictures"] == 28 and record["train_pictures"] == 16
    assert records.verified(target / records.LITERT_MODEL)
    # A run that was trained again since has another network.
    publishing.check_refit(loaded)
    again = tmp_path / "again"
    shutil.copytree(loaded, again)
    other = records.read_record(again / records.RUN_RECORD)
    records.write_record(again / records.RUN_RECORD, other | {"model_sha256": "0"}, other.pop("files"))
    with pytest.raises(UserError, match=r"repeats an earlier training of the run\. Run `make refit` first\."):
        publishing.check_refit(again)


def test_without_validation_the_last_epoch_is_kept(run, tmp_path):
    everything = dataset.for_refit(run[1])
    recipe = RECIPE.model_copy(update={"epochs": 2})
    model, training = fit.train(everything, tmp_path, recipe)
    assert training.best_epoch == 2
    history = training.history
    assert isinstance(history, pd.DataFrame) and "val_loss" not in history
    for kept, last in zip(training.best_weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, last)
