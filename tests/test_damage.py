"""Every file that one stage hands to the next, damaged in ten ways: noticed in one message, or without effect."""

import hashlib
import random
import shutil

import numpy as np
import pandas as pd
import pytest

from lib import records
from lib.data import archives, boxes, clipart, dataset, manifest, sources
from lib.data.preparation import Preparation
from lib.errors import UserError
from lib.evaluation import metrics, strangers
from lib.inference.recogniser import Recogniser
from tests import small_model
from tests.noise_pictures import noise, write

RANDOM = random.Random(0)


def flipped(contents: bytes, place: float) -> bytes:
    position = int(place * (len(contents) - 1))
    return contents[:position] + bytes([contents[position] ^ 4]) + contents[position + 1 :]


DAMAGE = {
    "gone": lambda contents: None,
    "empty": lambda contents: b"",
    "half": lambda contents: contents[: len(contents) // 2],
    "cut by a byte": lambda contents: contents[:-1],
    "a byte too many": lambda contents: contents + b"\0",
    "first bit": lambda contents: flipped(contents, 0),
    "a bit inside": lambda contents: flipped(contents, 0.4),
    "a bit near the end": lambda contents: flipped(contents, 0.9),
    "zeros": lambda contents: bytes(len(contents)),
    "random": lambda contents: RANDOM.randbytes(len(contents)),
}


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    """A fetched source, its prepared pictures, and an evaluated run."""
    folder = tmp_path_factory.mktemp("intact")
    for number in range(12):
        write(folder / "source" / ("bart", "lisa")[number % 2] / f"{number:02}.png", noise(number))
    sources.fetch(str(folder / "source"), "raw", folder)
    prepared(folder)
    run = small_model.write_run(folder / "run")
    table = pd.DataFrame({"epoch": [1], "loss": [0.5], "accuracy": [0.9], "val_loss": [0.6], "val_accuracy": [0.8]})
    records.write_csv(run / records.HISTORY, table)
    answers = metrics.predictions_table(metrics.Predictions(["a", "b"], np.array([0, 1]), np.eye(2), ["bart", "lisa"]))
    records.write_csv(run / records.PREDICTIONS, answers)
    model = records.file_sha256(run / records.LITERT_MODEL)
    record = records.read_json(run / records.RUN_RECORD) | {"model_sha256": model, "recipe": {"seed": 0}}
    records.write_record(run / records.RUN_RECORD, record, records.digests(run, records.HISTORY))
    found = {"named": 0.97, "named_strangers": {"clip-art": 0.03}, "declined_though_right": {"captioned": 0.06}}
    records.write_record(run / records.STRANGERS, found, {})
    records.write_record(run / records.METRICS_RECORD, {"macro_f1": 0.5}, records.digests(run, records.PREDICTIONS))
    return folder


def prepared(folder):
    return manifest.prepare(folder / "raw", folder / "processed", Preparation(min_pictures=3)).to_csv()


def loaded(folder):
    data = dataset.load(folder / "processed")
    duplicates = dataset.train_duplicates(data.table, folder / "processed")
    return hashlib.sha256(data.images.tobytes()).hexdigest(), data.table.to_csv(), data.preparation, duplicates.tolist()


def answered(folder):
    return Recogniser.load(folder / "run").predict_pixels(np.full((1, 16, 16, 3), 90, np.uint8)).tolist()


HANDED_OVER = {
    "raw/bart/00.png": prepared,
    f"raw/{sources.RECORD}": prepared,
    f"raw/{archives.SUMS}": prepared,
    f"processed/{dataset.IMAGES}": loaded,
    f"processed/{dataset.MANIFEST}": loaded,
    f"processed/{dataset.SETTINGS}": loaded,
    f"processed/{dataset.NEAR_DUPLICATES}": loaded,
    f"run/{records.LITERT_MODEL}": answered,
    f"run/{records.RUN_RECORD}": lambda folder: records.read_run(folder / "run"),
    f"run/{records.METRICS_RECORD}": lambda folder: records.read_metrics(folder / "run"),
    f"run/{records.STRANGERS}": lambda folder: strangers.table(
        records.read_record(folder / "run/strangers.json")
    ).to_csv(),
    f"run/{records.HISTORY}": lambda folder: metrics.read_history(folder / "run" / records.HISTORY).to_csv(),
    f"run/{records.PREDICTIONS}": lambda folder: str(metrics.read_predictions(folder / "run" / records.PREDICTIONS)),
}


@pytest.mark.parametrize("name", HANDED_OVER)
def test_damage_is_noticed_or_without_effect(name, intact, tmp_path):
    read = HANDED_OVER[name]
    whole, damaged = tmp_path / "whole", tmp_path / "damaged"
    shutil.copytree(intact, whole)
    expected = read(whole)
    contents = (intact / name).read_bytes()
    for how, damage in DAMAGE.items():
        shutil.rmtree(damaged, ignore_errors=True)
        shutil.copytree(intact, damaged)
        changed = damage(contents)
        (damaged / name).unlink() if changed is None else (damaged / name).write_bytes(changed)
        try:
            found = read(damaged)
        except UserError as problem:
            assert "\n" not in str(problem), how
            assert str((damaged / name).parent) in str(problem), how
        else:
            assert found == expected, how


@pytest.mark.parametrize(("module", "name"), [(boxes, "KAGGLE_BOXES"), (clipart, "CLIPART")])
def test_a_file_of_the_repository_that_is_not_as_it_was_committed_is_named(module, name, tmp_path, monkeypatch):
    read = (lambda: boxes.read(None)) if module is boxes else lambda: clipart.load.__wrapped__("test", 16, "bounded")
    contents = getattr(module, name).read_bytes()
    monkeypatch.setattr(module, name, tmp_path / "file")
    for damage in DAMAGE.values():
        (tmp_path / "file").unlink(missing_ok=True)
        if (changed := damage(contents)) is not None:
            (tmp_path / "file").write_bytes(changed)
        with pytest.raises(UserError, match=r"file is missing, damaged or another one\. Bring it back by `git"):
            read()


@pytest.mark.parametrize(
    ("column", "value"), [("split", "tset"), ("split", "train"), ("character", ""), ("character", "a\0b")]
)
def test_a_manifest_edited_by_hand_is_refused(column, value, intact, tmp_path):
    shutil.copytree(intact / "processed", tmp_path / "processed")
    path = tmp_path / "processed" / dataset.MANIFEST
    table = pd.read_csv(path, keep_default_na=False)
    table.loc[table.split == "test", column] = value
    table.to_csv(path, index=False)
    with pytest.raises(UserError, match=r"manifest\.csv is damaged"):
        dataset.load(tmp_path / "processed")


def test_a_copy_that_lost_a_picture_and_its_digests_is_named(intact, tmp_path):
    shutil.copytree(intact, tmp_path / "copy")
    for name in ("bart/00.png", archives.SUMS):
        (tmp_path / "copy/raw" / name).unlink()
    with pytest.raises(
        UserError,
        match=r"SHA256SUMS was changed, added or lost since .* move .*raw away and run",
    ):
        prepared(tmp_path / "copy")


def test_pixels_in_another_order_are_refused(intact, tmp_path):
    shutil.copytree(intact / "processed", tmp_path / "processed")
    path = tmp_path / "processed" / dataset.IMAGES
    np.save(path, np.asfortranarray(np.load(path)))
    with pytest.raises(UserError, match=r"images\.npy is damaged"):
        dataset.load(tmp_path / "processed")


def test_an_original_that_changed_since_it_was_copied_is_refused(intact, tmp_path):
    shutil.copytree(intact, tmp_path / "copy")
    row = dataset.load(intact / "processed").table.iloc[0]
    assert dataset.original(tmp_path / "copy" / "raw", row) == (intact / "raw" / row.path).read_bytes()
    (tmp_path / "copy" / "raw" / row.path).write_bytes(b"x")
    with pytest.raises(UserError, match=r"00\.png is missing or was changed"):
        dataset.original(tmp_path / "copy" / "raw", row)
