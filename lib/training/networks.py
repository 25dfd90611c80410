"""The networks.

Each maps RGB pictures with values 0 to 255 to a probability for each character. Rescaling is a layer of the network,
so that a saved network cannot be given the wrong range.
"""

import math

import keras
import numpy as np
from keras import layers

from lib.training.recipe import Recipe

# Filters of the successive pairs of convolutions, as in the original project.
CNN_FILTERS = (32, 64, 256)
# Residual blocks in each stage of springfield. A block of the first stage takes twice the time of one of the third and
# has a sixteenth of its weights; most blocks are where they are cheap and feature maps are still 12 pixels wide.
SPRINGFIELD_BLOCKS = (1, 2, 3, 1)
STRIDE = 16  # pixels that a cell of springfield's last feature map is wide
# Before training, a cell shows a character with probability .01 (Lin et al. 2017, arXiv:1708.02002, section 4.1).
CELL_BIAS = -math.log(99)


def build(recipe: Recipe, num_characters: int, picture_size: int | None) -> keras.Model:
    """Build the network of a recipe.

    Args:
        recipe: Its fields from `network` to `dense_dropout`, and `class_map`, are used.
        num_characters: Number of characters.
        picture_size: Height and width of the pictures, pixels; None allows any size, for progressive resizing.

    Returns:
        A network, not compiled, from `(batch_size, picture_size, picture_size, 3)` to `(batch_size, num_characters)`.
        With a class map, to a dictionary: `probabilities`, `(batch_size, num_characters + 1)`, the last of which is
        "nobody", and `class_map`, `(batch_size, cells, cells, num_characters)`: how much of a cell, a square of
        `STRIDE` pixels, the character covers.
    """
    keras.config.set_image_data_format("channels_last")  # whatever the user's keras.json says
    keras.config.set_floatx("float32")
    builders = {"cnn": _cnn, "springfield": _springfield}
    return builders[recipe.network](recipe, num_characters, picture_size)


def _cnn(recipe: Recipe, num_characters: int, picture_size: int) -> keras.Model:
    """Build the plain convolutional network of the study.

    Pairs of 3×3 convolutions with ReLU, the first with "same" padding and the second with "valid", each pair followed
    by 2×2 max pooling and dropout; then a dense layer with a dropout of its own, and the softmax.
    """
    pictures = keras.Input((picture_size, picture_size, 3), name="pictures")
    x = layers.Rescaling(1 / 255)(pictures)
    for filters in CNN_FILTERS[: recipe.conv_layers // 2]:
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.Conv2D(filters, 3, padding="valid", activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
        x = layers.Dropout(recipe.dropout)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(recipe.dense_units, activation="relu")(x)
    x = layers.Dropout(recipe.dense_dropout)(x)
    # bfloat16 has three significant digits, too few for a probability.
    outputs = layers.Dense(num_characters, activation="softmax", dtype="float32", name="probabilities")(x)
    return keras.Model(pictures, outputs, name=f"cnn{recipe.conv_layers}")


def _springfield(recipe: Recipe, num_characters: int, picture_size: int | None) -> keras.Model:
    """Build the small residual network, which scores higher than cnn6 with a fifth of its parameters.

    A convolution with stride 2, then four stages of pre-activation residual blocks (He et al. 2016,
    arXiv:1603.05027), each stage at half the resolution of the one before; global average pooling; the softmax. The
    first stride makes a picture cost less than in the 4-conv network, at four times its depth. Global pooling allows
    any picture size. Each block begins with batch normalisation and has none inside: deep residual networks train
    because it scales the branch down (De and Smith 2020, arXiv:2002.10444), and on a CPU a batch normalisation costs
    nearly as much as a convolution.

    The sigmoids of the class map are independent: there may be two characters in a picture, or none.
    """
    pictures = keras.Input((picture_size, picture_size, 3), name="pictures")
    x = layers.Rescaling(1 / 127.5, offset=-1)(pictures)
    x = _convolution(x, recipe.width, strides=2)
    for stage, blocks in enumerate(SPRINGFIELD_BLOCKS):
        for block in range(blocks):
            x = _residual_block(x, recipe.width * 2**stage, strides=2 if stage and not block else 1)
    features = _normalise(x)
    pooled = layers.Dropout(recipe.dropout)(layers.GlobalAveragePooling2D()(features))
    answer = layers.Dense(
        num_characters + recipe.class_map, activation="softmax", dtype="float32", name="probabilities"
    )
    if not recipe.class_map:
        return keras.Model(pictures, answer(pooled), name="springfield")
    cells = layers.Conv2D(
        num_characters,
        kernel_size=1,
        activation="sigmoid",
        dtype="float32",
        bias_initializer=keras.initializers.Constant(CELL_BIAS),
        name="class_map",
    )
    outputs = {
        "probabilities": answer(pooled),
        "class_map": cells(layers.SpatialDropout2D(recipe.dropout)(features)),
    }
    return keras.Model(pictures, outputs, name="springfield")


def with_features(model: keras.Model) -> keras.Model:
    """Make a springfield network with a class map tell what its answers are computed from.

    Returns:
        A network that shares its weights, from pictures to a dictionary: `features`, `(batch_size, d)`, which the
        last layer gets; `logits`, `(batch_size, num_characters + 1)`, before the softmax; and `class_map`. Weights
        that change afterwards change the features, and not the logits.
    """
    answer = model.get_layer("probabilities")
    logits = layers.Dense(answer.units, dtype="float32", name="logits")
    outputs = {"features": answer.input, "logits": logits(answer.input), "class_map": model.output["class_map"]}
    result = keras.Model(model.inputs, outputs)
    logits.set_weights(answer.get_weights())
    return result


def probabilities(outputs: np.ndarray | dict[str, np.ndarray]) -> np.ndarray:
    """Return the probabilities among the outputs of a network, `float32 (n, num_characters)`, or with "nobody" last."""
    return np.asarray(outputs["probabilities"] if isinstance(outputs, dict) else outputs)


def conv_layers_of(model: keras.Model) -> int:
    """Count the convolutions of any kind, without those of 1×1, such as in shortcuts."""
    kinds = layers.Conv2D | layers.SeparableConv2D | layers.DepthwiseConv2D
    return sum(isinstance(layer, kinds) and layer.kernel_size != (1, 1) for layer in model.layers)


def _convolution(x, filters: int, strides: int, kernel_size: int = 3):
    return layers.Conv2D(
        filters, kernel_size, strides=strides, padding="same", use_bias=False, kernel_initializer="he_normal"
    )(x)


def _normalise(x):
    # A short training has a few thousand steps: the default momentum of 0.99 would lag behind.
    return layers.ReLU()(layers.BatchNormalization(momentum=0.95)(x))


def _residual_block(x, filters: int, strides: int):
    activated = _normalise(x)
    same_shape = strides == 1 and x.shape[-1] == filters
    shortcut = x if same_shape else _convolution(activated, filters, strides, kernel_size=1)
    y = _convolution(activated, filters, strides)
    y = _convolution(layers.ReLU()(y), filters, strides=1)
    return layers.Add()([shortcut, y])
