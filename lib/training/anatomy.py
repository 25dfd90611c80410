"""A recipe taken apart, for reading: the layers of its network, its learning rates, each augmentation by itself."""

import math
import re

import keras
import numpy as np
import pandas as pd

from lib.training import augmentation, optimizers
from lib.training.recipe import Recipe

# What `augment` reads, in the order of the recipe.
_names = list(Recipe.model_fields)
AUGMENTATIONS = tuple(_names[_names.index("shift") : _names.index("style_jitter") + 1])
RATE_POINTS = 400  # of a drawn schedule
# A recipe's value of these is how often they act; of the others, how much.
FREQUENCIES = ("background_swap", "shrink_and_paste", "quality_jitter", "style_jitter")


def network_layers(model: keras.Model, picture_size: int) -> pd.DataFrame:
    """List the layers of a network that compute, with their share of the work on a picture `picture_size` pixels wide.

    Returns:
        One row for each layer with kernels (a convolution, a dense layer) and each pooling, in order: `layer` (what it
        is), `height`, `width`, `channels` (of its output), `parameters`, `multiplications` (of one picture) and
        `compute` (share of all multiplications, 0 to 1). Normalisation, activation and dropout cost little and are
        left out.
    """
    measured = [layer for layer in model.layers if _kernel_size(layer) or "Pooling" in type(layer).__name__]
    to_each = keras.Model(model.inputs, [layer.output for layer in measured])
    rows = []
    for layer, shape in zip(measured, to_each.compute_output_shape((None, picture_size, picture_size, 3)), strict=True):
        *_, height, width, channels = (1, 1, *shape[1:])
        multiplications = _kernel_size(layer) * height * width
        rows.append((_describe(layer), height, width, channels, layer.count_params(), multiplications))
    table = pd.DataFrame(rows, columns=["layer", "height", "width", "channels", "parameters", "multiplications"])
    return table.assign(compute=table.multiplications / table.multiplications.sum())


def _kernel_size(layer: keras.Layer) -> int:
    """Count the weights of a layer that are multiplied with its inputs, at each place of a picture."""
    return sum(math.prod(weights.shape) for weights in layer.weights if len(weights.shape) > 1)


def _describe(layer: keras.Layer) -> str:
    """Say what a layer is by the name of its class: `SeparableConv2D` is a separable convolution."""
    name = " ".join(re.findall("[A-Z][a-z]+", type(layer).__name__)).lower().replace("conv", "convolution")
    if kernel := getattr(layer, "kernel_size", ()):
        stride = f", stride {layer.strides[0]}" if layer.strides[0] > 1 else ""
        return f"{name} {'×'.join(map(str, kernel))}{stride}"
    return f"{name}, softmax" if layer.name == "probabilities" else name


def first_loss(model: keras.Model, pictures: np.ndarray, targets: np.ndarray | dict[str, np.ndarray]) -> float:
    """Compute the loss, in nats, of a network that was not trained yet: the cross-entropy of one batch.

    In training mode, where batch normalisation uses the batch: it has no averages yet. A copy computes it, since that
    mode changes the averages and the random state of dropout. `pictures` are `uint8 (n, height, width, 3)`, `targets`
    one-hot labels, `float32 (n, num_outputs)`, or a dictionary with them as `probabilities`.
    """
    copy = keras.Model.from_config(model.get_config())  # `clone_model` would compile it too
    copy.set_weights(model.get_weights())
    answers, right = copy(pictures, training=True), targets
    if isinstance(targets, dict):
        answers, right = answers["probabilities"], targets["probabilities"]
    return float(keras.ops.mean(keras.losses.categorical_crossentropy(right, answers)))


def learning_rates(recipe: Recipe, steps_per_epoch: int) -> pd.DataFrame:
    """Evaluate the learning-rate schedule of a recipe at up to `RATE_POINTS` steps, evenly spaced over the training.

    Returns:
        Columns `epoch` (finished epochs, fractional) and `learning_rate`.
    """
    rate = optimizers.learning_rate(recipe, steps_per_epoch)
    steps = np.unique(np.linspace(0, recipe.epochs * steps_per_epoch - 1, RATE_POINTS).round())
    values = [float(rate(step)) if callable(rate) else rate for step in steps]
    return pd.DataFrame({"epoch": steps / steps_per_epoch, "learning_rate": values})


def each_augmentation(picture: np.ndarray, recipe: Recipe, variants: int = 5) -> tuple[list[np.ndarray], list[str]]:
    """Apply each augmentation of a recipe by itself to a picture, RGB `uint8 (height, width, 3)`, to see what it does.

    What acts on a fraction of the pictures acts on each of these.

    Returns:
        Pictures row by row, first the unchanged one and then its variants, and a title for each, which names the
        augmentation once a row. Augmentations that the recipe does not use are left out.
    """
    off = {name: type(Recipe.model_fields[name].default)(0) for name in AUGMENTATIONS}
    pictures, titles = [], []
    for name in AUGMENTATIONS:
        value = getattr(recipe, name)
        if value:
            alone = recipe.model_copy(update=off | {name: 1.0 if name in FREQUENCIES else value})
            rng = np.random.default_rng(0)
            pictures += [picture, *(augmentation.augment(picture, alone, rng)[0] for _ in range(variants))]
            titles += ["unchanged", f"{name.replace('_', ' ')} {value:g}", *[""] * (variants - 1)]
    return pictures, titles
