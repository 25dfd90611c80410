import json
import logging
import zipfile

import keras
import numpy as np
import pytest

from lib import records
from lib.errors import UserError
from lib.training import export, networks, quantization
from lib.training.calibration import Calibration
from lib.training.recipe import Recipe
from tests import small_data

RECIPE = Recipe(network="cnn", conv_layers=4, dense_units=64, flip_tta_threshold=0.8)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A network with random weights, the folder of its files, and pictures."""
    folder = tmp_path_factory.mktemp("run")
    keras.utils.set_random_seed(0)
    weights = networks.build(RECIPE, num_characters=3, picture_size=32).get_weights()
    keras.utils.clear_session()  # as in a process of its own: layers are named alike
    exported = export.save(folder, "tiny", small_data.dataset(32), RECIPE, weights, Calibration(1.0, 0.25, None))
    pictures = np.random.default_rng(0).integers(0, 256, (50, 32, 32, 3), dtype="uint8")
    return exported.model, folder, pictures


def converted(saved, weights="float16"):
    """Convert the network once for each way to store weights; returns the path."""
    model, folder, _ = saved
    path = folder / (records.LITERT_MODEL if weights == "float16" else f"{weights}.tflite")
    if not path.exists():
        export.to_litert(model, path, {}, weights)
    return path


@pytest.mark.parametrize(("weights", "tolerance"), [("float32", 1e-5), ("float16", 1e-2)])
def test_the_export_gives_the_probabilities_of_the_network(saved, weights, tolerance):
    model, _, pictures = saved
    expected = model.predict_on_batch(pictures)
    np.testing.assert_allclose(export.answers(converted(saved, weights), pictures), expected, atol=tolerance)


def test_the_file_contains_all_that_is_needed_to_use_it(saved):
    assert metadata_of(converted(saved)) == {
        "format_version": 2,
        "run": "tiny",
        "characters": small_data.CHARACTERS,
        "picture_size": 32,
        "resize_mode": small_data.dataset().preparation.resize_mode,
        "colour_order": "RGB",
        "value_range": [0, 255],
        "flip_tta_threshold": 0.8,
        "nobody": False,
        "temperature": 1.0,
        "threshold": 0.25,
    }


def test_different_answers_are_counted(saved):
    model, _, pictures = saved
    path = converted(saved)
    named = export.answers(path, pictures).argmax(axis=1)
    other = keras.models.clone_model(model)
    weights = model.get_weights()
    weights[-1] = np.array([0, 1000, 0], "float32")  # the last bias: always the second character
    other.set_weights(weights)
    assert export.count_mismatches(other, path, pictures) == (named != 1).sum()
    assert export.count_mismatches(model, path, pictures) <= 1


# One answer may differ in any number of pictures, however small.
@pytest.mark.parametrize(("mismatches", "stored_as"), [([1], "int8"), ([2, 1], "float16"), ([9, 2, 0], "float32")])
def test_weights_are_as_small_as_the_answers_allow(saved, tmp_path, monkeypatch, mismatches, stored_as):
    model, _, pictures = saved
    tried, counts = [], iter(mismatches)
    monkeypatch.setattr(export, "count_mismatches", lambda *_: next(counts))
    monkeypatch.setattr(quantization, "round_kernels", lambda *_: None)
    monkeypatch.setattr(export, "to_litert", lambda *arguments: tried.append(arguments[-1]))
    found = export.export_verified(model, tmp_path / "m.tflite", {}, pictures, pictures, "int8")
    assert found == (stored_as, mismatches[-1])
    assert tried == list(export.WEIGHTS[: len(mismatches)])


def test_an_export_with_different_answers_is_rejected_and_deleted(saved, tmp_path, monkeypatch):
    model, _, pictures = saved
    monkeypatch.setattr(export, "count_mismatches", lambda *_: 2)
    monkeypatch.setattr(export, "to_litert", lambda _, exported_path, *__: exported_path.write_bytes(b"a network"))
    path = tmp_path / "m.tflite"
    with pytest.raises(UserError, match=r"all but 0\.1% of the test pictures, but differs on 2 of 50"):
        export.export_verified(model, path, {}, pictures, pictures, "float32")
    assert not path.exists()


def test_int8_weights_are_quantised_with_calibration_and_without_warnings(saved, tmp_path, monkeypatch, recwarn):
    model, _, pictures = saved
    logged = []
    monkeypatch.setattr(logging.getLogger("tensorflow"), "handle", logged.append)
    monkeypatch.setattr(export, "count_mismatches", lambda *_: 0)
    path = tmp_path / "m.tflite"
    export.export_verified(model, path, {}, pictures[30:], pictures[:30], "int8")
    expected = model.predict_on_batch(pictures[30:])
    calibrated, nearest = (
        np.abs(export.answers(each, pictures[30:]) - expected).mean() for each in (path, converted(saved, "int8"))
    )
    assert calibrated < nearest
    warned = [str(each.message) for each in recwarn if not issubclass(each.category, DeprecationWarning)]
    assert [record.getMessage() for record in logged] + warned == []


def test_a_failed_export_leaves_no_file(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_convert", lambda model, path, weights: path.write_bytes(b"a network"))
    with pytest.raises(TypeError):
        export.to_litert(saved[0], tmp_path / "model.tflite", {"not": {"json"}}, "float16")
    assert list(tmp_path.iterdir()) == []


def test_equal_networks_give_equal_files(saved, tmp_path):
    model, folder, _ = saved
    keras.utils.clear_session()  # as in a process of its own: layers are named alike
    again = networks.build(RECIPE, num_characters=3, picture_size=32)
    again.set_weights(model.get_weights())
    again.save(tmp_path / records.KERAS_MODEL)
    export._make_reproducible(tmp_path / records.KERAS_MODEL)
    export.to_litert(again, tmp_path / records.LITERT_MODEL, metadata_of(converted(saved)), "float16")
    for name in (records.KERAS_MODEL, records.LITERT_MODEL):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
        with zipfile.ZipFile(folder / name) as archive:
            assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    loaded = keras.saving.load_model(tmp_path / records.KERAS_MODEL, compile=False)
    np.testing.assert_array_equal(loaded.get_weights()[0], model.get_weights()[0])


def metadata_of(path):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(records.MODEL_METADATA))
