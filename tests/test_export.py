import json
import zipfile

import keras
import numpy as np
import pytest

from lib.errors import UserError
from lib import records
from lib.training import export, networks


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network of random weights, saved, and pictures to ask it about."""
    folder = tmp_path_factory.mktemp("run")
    keras.utils.set_random_seed(0)
    model = networks.build_springfield(num_characters=3, picture_size=32, width=4)
    model.save(folder / records.KERAS_MODEL)
    pictures = np.random.default_rng(0).integers(0, 256, (50, 32, 32, 3), dtype="uint8")
    return model, folder, pictures


def exported(trained, weights="float16"):
    _, folder, _ = trained
    path = folder / f"{weights}.tflite"
    metadata = export.describe("tiny", ["bart", "homer", "lisa"], 32, "stretch", flip_tta_threshold=0.8)
    export.to_litert(folder / records.KERAS_MODEL, path, metadata, weights)
    return path


@pytest.mark.parametrize(("weights", "tolerance"), [("float32", 1e-5), ("float16", 1e-2)])
def test_the_export_answers_as_the_network_does(trained, weights, tolerance):
    model, _, pictures = trained
    expected = model.predict(pictures, verbose=0)
    np.testing.assert_allclose(export.answers(exported(trained, weights), pictures), expected, atol=tolerance)


def test_the_file_alone_says_how_to_use_it(trained):
    with zipfile.ZipFile(exported(trained)) as archive:
        metadata = json.loads(archive.read(export.METADATA))
    assert metadata["characters"] == ["bart", "homer", "lisa"]
    assert (metadata["picture_size"], metadata["resize_mode"], metadata["colour_order"]) == (32, "stretch", "RGB")
    assert metadata["flip_tta_threshold"] == 0.8


def test_answers_that_differ_are_counted(trained):
    model, _, pictures = trained
    path = exported(trained)
    favourite = int(export.answers(path, pictures).argmax(axis=1)[0])
    other = keras.models.clone_model(model)
    weights = model.get_weights()
    weights[-1] = np.eye(3, dtype="float32")[favourite - 1] * 1000  # the last bias: always another character
    other.set_weights(weights)
    assert export.count_mismatches(other, path, pictures) >= 1
    assert export.count_mismatches(model, path, pictures) <= 1


# In a thousand pictures one may differ, and one may in any number however small.
@pytest.mark.parametrize(("differ", "stored_as"), [([1], "int8"), ([2, 1], "float16"), ([9, 2, 0], "float32")])
def test_weights_are_as_small_as_the_answers_allow(trained, tmp_path, monkeypatch, differ, stored_as):
    _, folder, pictures = trained
    asked, counts = [], iter(differ)
    monkeypatch.setattr(export, "count_mismatches", lambda *_: next(counts))
    monkeypatch.setattr(export, "to_litert", lambda *given: asked.append(given[-1]))
    found = export.export_verified(folder / records.KERAS_MODEL, tmp_path / "m.tflite", {}, pictures, pictures, "int8")
    assert found == (stored_as, differ[-1])
    assert asked == list(export.WEIGHTS[: len(differ)])


def test_an_export_that_answers_differently_whatever_its_weights_is_refused(trained, tmp_path, monkeypatch):
    _, folder, pictures = trained
    monkeypatch.setattr(export, "count_mismatches", lambda *_: 2)
    path, facts = tmp_path / "m.tflite", export.describe("x", ["a"], 32, "pad")
    with pytest.raises(UserError, match=r"names 2 of 50 test pictures differently"):
        export.export_verified(folder / records.KERAS_MODEL, path, facts, pictures, pictures)
    assert not path.exists()


def test_int8_is_rounded_with_care(trained, tmp_path):
    model, folder, pictures = trained
    careful, facts = tmp_path / "careful.tflite", export.describe("x", ["a"], 32, "pad")
    export._to_int8(folder / records.KERAS_MODEL, careful, facts, pictures[:30])
    expected = model.predict_on_batch(pictures[30:])
    errors = [
        np.abs(export.answers(path, pictures[30:]) - expected).mean() for path in (careful, exported(trained, "int8"))
    ]
    assert errors[0] < errors[1]


def test_unknown_weights_are_refused(trained):
    with pytest.raises(ValueError, match="Received: weights='float8'"):
        exported(trained, "float8")


def test_a_failed_export_leaves_nothing(trained, tmp_path):
    with pytest.raises(ValueError):
        export.to_litert(tmp_path / "missing.keras", tmp_path / "model.tflite", {})
    assert list(tmp_path.iterdir()) == []
