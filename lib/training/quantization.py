"""Kernels → the 255 values a channel that int8 has, chosen so that what each layer gives stays what it was.

To round every weight to the nearest value is to forget what the weights are multiplied with: inputs that are
neighbours in a picture are nearly alike, so that one weight can make good what the rounding of another did. That is
GPTQ (Frantar et al. 2023, arXiv:2210.17323): weights are rounded one after the other, and the error of each is
handed on to those that are still free.
"""

import math

import keras
import numpy as np

LARGEST = 127  # int8, without -128, as LiteRT has weights
LEAST_WEIGHTS = 1024  # LiteRT's converter leaves smaller kernels as they are
# Products of all pairs of inputs are summed. The first dense layer of cnn has 12,544 inputs, which would take
# gigabytes; such kernels are left to the converter, which rounds to the nearest.
MOST_INPUTS = 4608
ROWS = 16_000  # inputs that a layer is judged by
BATCH = 32
DAMPING = 0.01  # of the mean square of an input, so that the sums can be inverted


def round_kernels(model: keras.Model, pictures: np.ndarray, seed: int = 0) -> None:
    """Round the kernels of convolutions and dense layers, in place and from the first layer to the last.

    Args:
        model: A functional network, in float32.
        pictures: Some pictures that it learnt from, `uint8 (n, picture_size, picture_size, 3)`, RGB; a hundred do.
        seed: Chooses the places in the pictures at which convolutions are judged.
    """
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if not isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
            continue
        shape = layer.kernel.shape
        if math.prod(shape) >= LEAST_WEIGHTS and math.prod(shape[:-1]) <= MOST_INPUTS:
            inputs = _inputs(layer, keras.Model(model.inputs, layer.input), pictures, rng)
            layer.kernel.assign(rounded(keras.ops.convert_to_numpy(layer.kernel), inputs))


def rounded(kernel: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """Round a kernel so that its products with `inputs` change little.

    Args:
        kernel: `float32 (..., filters)`.
        inputs: What it is multiplied with, `float32 (n, num_inputs)`, one column for each weight of a filter.

    Returns:
        A kernel of the same shape. Each filter's values are whole multiples, -127 to 127, of its largest absolute
        value over 127, which stays, so that who rounds it again finds it as it is.
    """
    weights = kernel.reshape(-1, kernel.shape[-1]).astype("float64")
    largest = np.abs(weights).max(axis=0)
    unit = np.where(largest > 0, largest, 1.0) / LARGEST
    ends = np.where(np.abs(weights) == largest, np.sign(weights) * largest, 0.0)
    moments = (inputs.T @ inputs).astype("float64") / len(inputs)
    moments += np.eye(len(moments)) * (DAMPING * np.trace(moments) / len(moments) or 1.0)
    # Row i says how an error of weight i is best made good by the weights after it.
    remedy = np.linalg.cholesky(np.linalg.inv(moments)).T
    values = np.empty_like(weights)
    for i, row in enumerate(weights):
        nearest = np.clip(np.rint(row / unit), -LARGEST, LARGEST) * unit
        values[i] = np.where(ends[i] == 0, nearest, ends[i])
        weights[i + 1 :] -= np.outer(remedy[i, i + 1 :], (row - values[i]) / remedy[i, i])
    return values.reshape(kernel.shape).astype("float32")


def _inputs(
    layer: keras.layers.Layer, before: keras.Model, pictures: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Collect what a layer's kernel is multiplied with, `float32 (at most ROWS, num_inputs)`."""
    parts = []
    for start in range(0, len(pictures), BATCH):
        seen = before.predict_on_batch(pictures[start : start + BATCH])
        if isinstance(layer, keras.layers.Conv2D):
            seen = keras.ops.image.extract_patches(seen, layer.kernel_size, layer.strides, padding=layer.padding)
        rows = keras.ops.convert_to_numpy(seen).reshape(-1, math.prod(layer.kernel.shape[:-1]))
        kept = min(len(rows), math.ceil(ROWS * BATCH / len(pictures)))
        parts.append(rows[rng.choice(len(rows), kept, replace=False)])
    return np.concatenate(parts)
