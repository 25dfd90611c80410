"""A run folder with a real LiteRT network, made in milliseconds and without TensorFlow.

The network names the character whose colour is nearest to the mean colour of the picture, so that a test knows the
right answer: `colours(3)` are red, green and blue.
"""

import colorsys
import io
import json
import zipfile
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from PIL import Image

from lib import records

CHARACTERS = ("homer_simpson", "krusty_the_clown", "marge_simpson")
SHARPNESS = 10.0  # how fast the probability falls with the distance from a colour
# As format 1 spelt the keys of the metadata.
FORMAT_1_KEYS = {"resize_mode": "fit", "flip_tta_threshold": "second_look"}


def colours(n: int) -> np.ndarray:
    """Give the colours of n characters, `float32 (n, 3)`, 0 to 1, of evenly spaced hues."""
    return np.array([colorsys.hsv_to_rgb(i / n, 1, 1) for i in range(n)], np.float32)


def picture(colour: tuple[int, int, int], width: int = 40, height: int = 30, form: str = "PNG") -> bytes:
    """Give the bytes of a picture of one colour."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(file, form)
    return file.getvalue()


def write_run(
    run_dir: Path,
    characters: tuple[str, ...] = CHARACTERS,
    picture_size: int = 16,
    run: dict | None = None,
    metrics: dict | None = None,
    metadata: dict | None = None,
) -> Path:
    """Write the files of a run folder that the recogniser and the page read.

    Args:
        run_dir: Folder to make.
        characters: Labels.
        picture_size: Pixels a side.
        run: Replaces entries of `run.json`.
        metrics: Contents of `metrics.json`; None writes none.
        metadata: Replaces entries of the model file's metadata.

    Returns:
        `run_dir`.
    """
    run_dir.mkdir(parents=True)
    record = {"name": run_dir.name, "format_version": records.FORMAT_VERSION, "finished": True}
    record |= {"num_parameters": 4 * len(characters), "recipe": {}}
    (run_dir / "run.json").write_text(json.dumps(record | (run or {})))
    if metrics is not None:
        (run_dir / "metrics.json").write_text(json.dumps(metrics))
    entries = {"run": run_dir.name} | (metadata or {})
    (run_dir / "model.tflite").write_bytes(model(characters, picture_size, entries))
    return run_dir


def model(characters: tuple[str, ...] = CHARACTERS, picture_size: int = 16, metadata: dict | None = None) -> bytes:
    """Give the bytes of a model file: the network, and its metadata in an appended zip archive."""
    entries = metadata_for(characters, picture_size) | (metadata or {})
    if entries["format_version"] == 1:
        entries = {FORMAT_1_KEYS.get(key, key): value for key, value in entries.items()}
    file = io.BytesIO()
    file.write(network(len(characters), picture_size))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("metadata.json", json.dumps(entries))
    return file.getvalue()


def metadata_for(characters: tuple[str, ...], picture_size: int) -> dict:
    """Give the metadata of a model file."""
    return {
        "format_version": records.FORMAT_VERSION,
        "run": "small",
        "characters": list(characters),
        "picture_size": picture_size,
        "resize_mode": "stretch",
        "colour_order": "RGB",
        "value_range": [0, 255],
        "flip_tta_threshold": 0.0,
    }


def network(n: int, picture_size: int, cells: int = 0) -> bytes:
    """Give a LiteRT flatbuffer: the mean over height and width, a dense layer, the softmax.

    |mean - colour|² is smallest where 2 colour·mean - |colour|² is largest, which a dense layer computes.

    Args:
        n: Number of characters.
        picture_size: Pixels a side.
        cells: If set, the network gives a class map of so many cells a side too, and one more probability at the end,
            for nobody, whose colour is black.
    """
    classes = np.concatenate([colours(n), np.zeros((1 if cells else 0, 3), np.float32)])
    weights = SHARPNESS * 2 * classes / 255
    bias = -SHARPNESS * (classes**2).sum(axis=1)
    float32, int32 = schema.TensorType.FLOAT32, schema.TensorType.INT32
    buffers: list[bytes] = [b""]  # by convention the first is empty: "no data"

    def tensor(name: str, shape: list[int], kind: int, data: np.ndarray | None = None):
        result = schema.TensorT()
        result.name, result.type, result.buffer = name, kind, 0
        result.shape, result.shapeSignature = [abs(side) for side in shape], shape
        if data is not None:
            result.buffer = len(buffers)
            buffers.append(data.tobytes())
        return result

    graph = schema.SubGraphT()
    graph.tensors = [
        tensor("pictures", [-1, picture_size, picture_size, 3], float32),
        tensor("axes", [2], int32, np.array([1, 2], np.int32)),
        tensor("mean", [-1, 3], float32),
        tensor("weights", [len(classes), 3], float32, weights.astype(np.float32)),
        tensor("bias", [len(classes)], float32, bias.astype(np.float32)),
        tensor("logits", [-1, len(classes)], float32),
        tensor("probabilities", [-1, len(classes)], float32),
    ]
    graph.inputs, graph.outputs = [0], [6]
    softmax = schema.SoftmaxOptionsT()
    softmax.beta = 1.0
    operators = [  # code, options type, options, inputs, outputs
        ("MEAN", "ReducerOptions", schema.ReducerOptionsT(), [0, 1], [2]),
        ("FULLY_CONNECTED", "FullyConnectedOptions", schema.FullyConnectedOptionsT(), [2, 3, 4], [5]),
        ("SOFTMAX", "SoftmaxOptions", softmax, [5], [6]),
    ]
    if cells:
        graph.tensors += [
            tensor("pooled", [-1, cells, cells, 3], float32),
            tensor("kernel", [n, 1, 1, 3], float32, weights[:n].astype(np.float32)),
            tensor("map bias", [n], float32, bias[:n].astype(np.float32)),
            tensor("map logits", [-1, cells, cells, n], float32),
            tensor("class_map", [-1, cells, cells, n], float32),
        ]
        graph.outputs = [11, 6]  # in an order of its own, as LiteRT's converter has it
        pool, convolution = schema.Pool2DOptionsT(), schema.Conv2DOptionsT()
        pool.filterHeight = pool.filterWidth = pool.strideH = pool.strideW = picture_size // cells
        pool.padding = convolution.padding = schema.Padding.VALID
        convolution.strideH = convolution.strideW = convolution.dilationHFactor = convolution.dilationWFactor = 1
        operators += [
            ("AVERAGE_POOL_2D", "Pool2DOptions", pool, [0], [7]),
            ("CONV_2D", "Conv2DOptions", convolution, [7, 8, 9], [10]),
            ("LOGISTIC", "NONE", None, [10], [11]),
        ]
    result = schema.ModelT()
    result.version, result.operatorCodes, graph.operators = 3, [], []
    for index, (code, options_type, options, inputs, outputs) in enumerate(operators):
        operator_code = schema.OperatorCodeT()
        operator_code.builtinCode = operator_code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, code)
        operator_code.version = 1
        result.operatorCodes.append(operator_code)
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = index, inputs, outputs
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, options_type)
        operator.builtinOptions = options
        graph.operators.append(operator)
    result.subgraphs = [graph]
    result.buffers = []
    for data in buffers:
        buffer = schema.BufferT()
        buffer.data = list(data)
        result.buffers.append(buffer)
    builder = flatbuffers.Builder(1024)
    builder.Finish(result.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
