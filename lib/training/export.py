"""A trained network → the LiteRT file that the recogniser loads.

The file is a LiteRT flatbuffer followed by a zip archive that holds `metadata.json` (TensorFlow Lite's convention for
associated files). Interpreters and zip readers both open it as it is.
"""

import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from lib import machine, records
from lib.data.dataset import Dataset
from lib.errors import UserError
from lib.training import batches, networks, optimizers, quantization
from lib.training.calibration import Calibration, calibrate, fold_temperature
from lib.training.recipe import Recipe
from lib.training.resume import Training

# From the smallest to the most precise.
WEIGHTS = ("int8", "float16", "float32")
# Fraction of the pictures on which the export may differ; one picture always may, since rounding can break a tie.
MISMATCH_TOLERANCE = 0.001
QUANTISATION_PICTURES = 128  # training pictures that the quantisation is fitted to
BATCH = 256  # pictures
SHARED_OBJECT = re.compile(rb'(?<="shared_object_id": )\d+')  # which Keras gives the memory address as number


def to_litert(model: keras.Model, exported_path: Path, metadata: dict[str, Any], weights: str) -> None:
    """Convert a network, in a process of its own if Keras' backend is not TensorFlow, which the converter needs.

    Args:
        model: Of `networks.build`, in float32.
        exported_path: The `.tflite` file to write, atomically.
        metadata: What the recogniser needs to know; it becomes `metadata.json`.
        weights: How weights are stored: "float16", "float32", or "int8", which computes in integers too.
    """
    with records.atomic_write(exported_path) as temporary:
        if keras.backend.backend() == "tensorflow":
            _convert(model, temporary, weights)
        else:
            with tempfile.TemporaryDirectory() as folder:
                model_path = Path(folder) / records.KERAS_MODEL
                model.save(model_path)
                command = [sys.executable, "-m", __name__, str(model_path), str(temporary), weights]
                subprocess.run(command, env=os.environ | {"KERAS_BACKEND": "tensorflow"}, check=True)
        with zipfile.ZipFile(temporary, "a", zipfile.ZIP_DEFLATED) as archive:
            # With the earliest time that a zip can hold: equal trainings give equal files.
            archive.writestr(
                zipfile.ZipInfo(records.MODEL_METADATA), json.dumps(metadata, ensure_ascii=False, indent=2)
            )


def _convert(model: keras.Model, exported_path: Path, weights: str) -> None:
    """Write the flatbuffer without metadata; Keras' backend must be TensorFlow."""
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")  # it reports where intermediate files are written
    settings: dict[str, Any] = {"target_spec": {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}}
    if weights != "float32":
        settings["optimizations"] = [tf.lite.Optimize.DEFAULT]
    if weights == "float16":
        settings["target_spec"]["supported_types"] = [tf.float16]
    model.export(exported_path, format="litert", verbose=False, **settings)


def export_verified(
    model: keras.Model,
    exported_path: Path,
    metadata: dict[str, Any],
    pictures: np.ndarray,
    calibration: np.ndarray,
    weights: str,
) -> tuple[str, int]:
    """Convert a network as `to_litert` does, and check on `pictures` that the export gives the same answers.

    A more precise format than `weights` is used if this one changes more answers than `MISMATCH_TOLERANCE` allows.
    Weights in int8 are fitted to `calibration`, about a hundred training pictures: quantised by GPTQ first, since the
    converter would round to the nearest value.

    Returns:
        How weights are stored, and the number of pictures whose answer differs.

    Raises:
        UserError: Even 32-bit weights change too many answers.
    """
    for candidate in WEIGHTS[WEIGHTS.index(weights) :]:
        converted = model
        if candidate == "int8":
            converted = keras.models.clone_model(model)
            converted.set_weights(model.get_weights())
            quantization.round_kernels(converted, calibration)
        to_litert(converted, exported_path, metadata, candidate)
        mismatches = count_mismatches(model, exported_path, pictures)
        if mismatches <= max(1, MISMATCH_TOLERANCE * len(pictures)):
            return candidate, mismatches
    exported_path.unlink()
    raise UserError(
        f"The exported network must agree with the trained one on all but {MISMATCH_TOLERANCE:.1%} of the test "
        f"pictures, but differs on {mismatches} of {len(pictures)}, even with float32 weights. LiteRT's converter does "
        "not support this network; change its layers in lib/training/networks.py."
    )


@dataclasses.dataclass(frozen=True)
class Exported:
    """A trained network and its export."""

    model: keras.Model  # with its best weights, in float32
    path: Path  # of the LiteRT file
    weights: str  # how the file stores them, one of `WEIGHTS`
    mismatches: int  # number of test pictures on which the answers of file and network differ
    calibration: Calibration

    def __str__(self) -> str:
        """Summarise the export in a line."""
        size = self.path.stat().st_size
        return f"{self.path.name}: {size:,} bytes, weights as {self.weights}, {self.mismatches} answers differ"


def save(
    folder: Path,
    run: str,
    data: Dataset,
    recipe: Recipe,
    best_weights: list[np.ndarray],
    chosen: Calibration | None = None,
) -> Exported:
    """Write `model.keras` and `model.tflite` of a run into its folder.

    The network is saved with its best weights in float32, which every machine supports. The answers of the export are
    compared with the network's on the test pictures, without their labels. `chosen` are temperature and thresholds; by
    default they are chosen on the validation split.

    Raises:
        UserError: The export changes too many answers, however its weights are stored.
    """
    keras.config.set_dtype_policy("float32")
    model = networks.build(recipe, len(data.characters), data.preparation.picture_size)
    model.set_weights(best_weights)
    if chosen is None:
        rows = data.rows("validation")
        chosen = calibrate(model, outputs(model, data.images[rows]), data.labels[rows], len(data.characters))
    else:
        fold_temperature(model, chosen.temperature)
    path = folder / records.LITERT_MODEL
    with records.atomic_write(folder / records.KERAS_MODEL) as temporary:
        model.save(temporary)
        _make_reproducible(temporary)
    metadata = {
        "format_version": records.FORMAT_VERSION,
        "run": run,
        "characters": data.characters,
        "picture_size": data.preparation.picture_size,
        "resize_mode": data.preparation.resize_mode,
        "colour_order": "RGB",
        "value_range": [0, 255],
        "flip_tta_threshold": recipe.flip_tta_threshold,
        "nobody": recipe.class_map,  # whether the last probability is that of nobody
        **{name: value for name, value in dataclasses.asdict(chosen).items() if value is not None},
    }
    train = data.rows("train")
    to_quantise = data.images[train[:: max(1, len(train) // QUANTISATION_PICTURES)]]
    test = data.images[data.rows("test")]
    weights, mismatches = export_verified(model, path, metadata, test, to_quantise, recipe.export_weights)
    return Exported(model, path, weights, mismatches, chosen)


def _make_reproducible(path: Path) -> None:
    """Write a `.keras` file again without time and memory addresses: equal trainings give equal files."""
    with zipfile.ZipFile(path) as archive:
        contents = {info.filename: archive.read(info) for info in archive.infolist()}
    about = json.loads(contents["metadata.json"])
    contents["metadata.json"] = json.dumps(about | {"date_saved": ""}).encode()
    numbers: dict[bytes, int] = {}
    contents["config.json"] = SHARED_OBJECT.sub(
        lambda found: b"%d" % numbers.setdefault(found[0], len(numbers)), contents["config.json"]
    )
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name), content)


def run_record(run: str, data_name: str, data: Dataset, training: Training, exported: Exported) -> dict[str, Any]:
    """Describe a finished training of the run `run` on the pictures `data_name`, for `run.json`."""
    recipe = training.recipe
    return {
        "name": run,
        "data_name": data_name,
        "format_version": records.FORMAT_VERSION,
        "finished": True,
        "recipe": recipe.model_dump(),
        "characters": data.characters,
        "picture_size": data.preparation.picture_size,
        "resize_mode": data.preparation.resize_mode,
        "manifest_sha256": data.manifest_sha256,
        "num_parameters": exported.model.count_params(),
        "conv_layers": networks.conv_layers_of(exported.model),
        "epochs": training.epoch,
        "best_epoch": training.best_epoch,
        "best_val_macro_f1": training.best_score,
        "seconds": training.seconds,
        "seconds_per_epoch": training.seconds / training.epoch,
        "epoch_seconds": training.epoch_seconds,
        "train_pictures": len(batches.training_rows(data, recipe)),
        "calibration": dataclasses.asdict(exported.calibration),
        "exported_weights": exported.weights,
        "export_differs_on": exported.mismatches,
        "model_sha256": records.file_sha256(exported.path),
        "backend": keras.backend.backend(),
        "dtype": optimizers.precision(recipe.precision),
        **records.provenance(),
    }


def answers(exported_path: Path, pictures: np.ndarray) -> np.ndarray:
    """Run an exported network on `uint8 (n, picture_size, picture_size, 3)`; gives `float32 (n, num_outputs)`."""
    run = Interpreter(model_path=str(exported_path), num_threads=machine.cores()).get_signature_runner()
    found = _in_batches(lambda part: run(pictures=part.astype("float32")), pictures)
    return min(found.values(), key=np.ndim)  # a class map has more axes


def outputs(model: keras.Model, pictures: np.ndarray) -> np.ndarray | dict[str, np.ndarray]:
    """Run a network on `uint8 (n, picture_size, picture_size, 3)`, RGB; gives its outputs: one array, or one a name."""
    # `predict` uses tf.data, whose autotuner can sleep for seconds at the end; see lib.training.batches.
    return _in_batches(model.predict_on_batch, pictures)


def _in_batches(function: Callable[[np.ndarray], Any], pictures: np.ndarray) -> Any:
    found = [function(pictures[start : start + BATCH]) for start in range(0, len(pictures), BATCH)]
    return keras.tree.map_structure(lambda *parts: np.concatenate(parts), *found)


def count_mismatches(model: keras.Model, exported_path: Path, pictures: np.ndarray) -> int:
    """Count the pictures to which a network and its export give different answers."""
    expected = networks.probabilities(outputs(model, pictures))
    return int((answers(exported_path, pictures).argmax(axis=1) != expected.argmax(axis=1)).sum())


if __name__ == "__main__":
    _convert(keras.saving.load_model(sys.argv[1], compile=False), Path(sys.argv[2]), sys.argv[3])
