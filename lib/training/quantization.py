"""Kernels → the 255 values per filter that int8 has, quantised so that layer outputs are preserved (GPTQ).

Rounding each weight to the nearest value ignores what the weights are multiplied with. The inputs of a layer are
strongly correlated, as neighbouring pixels are, so one weight can compensate for the rounding error of another. GPTQ
(Frantar et al. 2023, arXiv:2210.17323) rounds the weights one after the other and adds the error of each to those that
are not rounded yet.
"""

import math

import keras
import numpy as np

INT8_MAX = 127  # LiteRT stores weights symmetrically, without -128
MIN_WEIGHTS = 1024  # LiteRT's converter leaves smaller kernels in floating point
# The matrix of second moments has this many rows. The first dense layer of cnn has 12,544 inputs, whose matrix would
# take gigabytes; larger kernels are left to the converter, which rounds to the nearest value.
MAX_INPUTS = 4608
MAX_ROWS = 16_000  # samples of a layer's inputs
BATCH = 32
DAMPING = 0.01  # of the mean square of the inputs, so that the matrix can be inverted


def round_kernels(model: keras.Model, pictures: np.ndarray) -> None:
    """Quantise the kernels of a functional network in float32 in place, from the first layer to the last.

    Those of grouped, separable and other layers are left to the converter. `pictures` are about a hundred training
    pictures, `uint8 (n, picture_size, picture_size, 3)`, RGB.
    """
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if not isinstance(layer, keras.layers.Conv2D | keras.layers.Dense) or getattr(layer, "groups", 1) > 1:
            continue
        shape = layer.kernel.shape
        if math.prod(shape) >= MIN_WEIGHTS and math.prod(shape[:-1]) <= MAX_INPUTS:
            inputs = _inputs(layer, keras.Model(model.input, layer.input), pictures, rng)
            layer.kernel.assign(rounded(keras.ops.convert_to_numpy(layer.kernel), inputs))


def rounded(kernel: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """Round a kernel, `float32 (..., filters)`, so that its products with `inputs` change little.

    The values of each filter become multiples, from -127 to 127, of a 127th of its largest absolute value. That value
    itself is kept, so that the converter finds the same scale and changes nothing. `inputs` are samples of what the
    kernel is multiplied with, `float32 (n, num_inputs)`, a column for each weight of a filter.
    """
    weights = kernel.reshape(-1, kernel.shape[-1]).astype("float64")
    largest = np.abs(weights).max(axis=0)
    scale = np.where(largest > 0, largest, 1.0) / INT8_MAX
    kept = np.where(np.abs(weights) == largest, np.sign(weights) * largest, 0.0)
    moments = (inputs.T @ inputs).astype("float64") / len(inputs)
    moments += np.eye(len(moments)) * (DAMPING * np.trace(moments) / len(moments) or 1.0)
    # Row i holds how the weights after i best compensate for an error of weight i.
    compensation = np.linalg.cholesky(np.linalg.inv(moments)).T
    values = np.empty_like(weights)
    for i, row in enumerate(weights):
        nearest = np.clip(np.rint(row / scale), -INT8_MAX, INT8_MAX) * scale
        values[i] = np.where(kept[i] == 0, nearest, kept[i])
        weights[i + 1 :] -= np.outer(compensation[i, i + 1 :], (row - values[i]) / compensation[i, i])
    return values.reshape(kernel.shape).astype("float32")


def _inputs(
    layer: keras.layers.Layer, before: keras.Model, pictures: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Sample what the kernel of a layer is multiplied with, `float32 (at most MAX_ROWS, num_inputs)`."""
    parts = []
    for start in range(0, len(pictures), BATCH):
        x = before(pictures[start : start + BATCH], training=False)
        if isinstance(layer, keras.layers.Conv2D):
            steps = {"strides": layer.strides, "dilation_rate": layer.dilation_rate}
            x = keras.ops.image.extract_patches(x, layer.kernel_size, **steps, padding=layer.padding)
        rows = keras.ops.convert_to_numpy(x).reshape(-1, math.prod(layer.kernel.shape[:-1]))
        count = min(len(rows), math.ceil(MAX_ROWS * BATCH / len(pictures)))
        parts.append(rows[rng.choice(len(rows), count, replace=False)])
    return np.concatenate(parts)
