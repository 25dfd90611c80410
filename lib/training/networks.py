"""What the networks are.

Each takes RGB pictures of 0 to 255 and gives a probability per character; scaling is a layer, so that a saved
network cannot be fed the wrong range.
"""

import keras
from keras import layers

from lib.training.recipe import Recipe

# Filters of the successive pairs of convolutions, as in the original project.
CNN_FILTERS = (32, 64, 256)
# Residual blocks of springfield's stages. A block of the first stage takes twice the time of one of the third, for a
# sixteenth of its weights; most are where they are cheap and the picture is still 12 pixels wide.
SPRINGFIELD_BLOCKS = (1, 2, 3, 1)


def build(recipe: Recipe, num_characters: int, picture_size: int | None) -> keras.Model:
    """Build the network of a recipe.

    Args:
        recipe: Names the network and its settings.
        num_characters: Width of the softmax.
        picture_size: Height and width of the pictures, pixels; None leaves them open, for progressive resizing.

    Returns:
        The network, built but not compiled.
    """
    if recipe.network == "cnn":
        return build_cnn(recipe.conv_layers, num_characters, picture_size, recipe.dense_units, recipe.dropout)
    return build_springfield(num_characters, picture_size, recipe.width, recipe.dropout)


def build_cnn(
    conv_layers: int,
    num_characters: int,
    picture_size: int = 64,
    dense_units: int = 512,
    dropout: float = 0.25,
) -> keras.Model:
    """Build the plain convolutional network of the study.

    Pairs of 3×3 convolutions with ReLU, the first keeping the size ("same") and the second not ("valid"), each
    pair followed by 2×2 max pooling and dropout; then one dense layer, dropout of one half, and the softmax.

    Args:
        conv_layers: 4 or 6.
        num_characters: Width of the softmax.
        picture_size: Height and width of the pictures, pixels.
        dense_units: Width of the dense layer.
        dropout: Share of activations dropped after each pair, 0 to 1.

    Returns:
        A network from `(batch_size, picture_size, picture_size, 3)` to `(batch_size, num_characters)`.

    Raises:
        ValueError: `conv_layers` is neither 4 nor 6.
    """
    if conv_layers not in (4, 6):
        raise ValueError(f"`conv_layers` must be 4 or 6. Received: conv_layers={conv_layers!r}")
    pictures = keras.Input((picture_size, picture_size, 3), name="pictures")
    x = layers.Rescaling(1 / 255)(pictures)
    for filters in CNN_FILTERS[: conv_layers // 2]:
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.Conv2D(filters, 3, padding="valid", activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
        x = layers.Dropout(dropout)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(dense_units, activation="relu")(x)
    x = layers.Dropout(0.5)(x)
    # A softmax in bfloat16 has three significant digits: too few for a probability.
    outputs = layers.Dense(num_characters, activation="softmax", dtype="float32", name="probabilities")(x)
    return keras.Model(pictures, outputs, name=f"cnn{conv_layers}")


def build_springfield(
    num_characters: int,
    picture_size: int | None = 64,
    width: int = 32,
    dropout: float = 0.2,
) -> keras.Model:
    """Build the small residual network that does better than cnn6 with a fifth of its parameters.

    A convolution at half the resolution, then four stages of pre-activation residual blocks (He et al. 2016,
    arXiv:1603.05027), each stage at half the size of the one before; global average pooling, the softmax. Halving
    first makes a picture cost less than in the 4-conv network, at four times its depth; pooling over all places
    leaves the size of the picture free. Batch normalisation opens each block and is left out inside: what keeps deep
    residual networks trainable is that it tames the branch (De and Smith 2020, arXiv:2002.10444), and on a processor
    each one costs nearly as much as a convolution.

    Args:
        num_characters: Width of the softmax.
        picture_size: Height and width of the pictures, pixels; None leaves them open, for a training in which they
            grow.
        width: Filters of the first stage; the stages have 1, 2, 4 and 8 times as many.
        dropout: Share of the pooled features dropped, 0 to 1.

    Returns:
        A network from `(batch_size, picture_size, picture_size, 3)` to `(batch_size, num_characters)`.
    """
    pictures = keras.Input((picture_size, picture_size, 3), name="pictures")
    x = layers.Rescaling(1 / 127.5, offset=-1)(pictures)
    x = _convolution(x, width, strides=2)
    for stage, blocks in enumerate(SPRINGFIELD_BLOCKS):
        for block in range(blocks):
            x = _residual_block(x, width * 2**stage, strides=2 if stage and not block else 1)
    x = _normalised(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(dropout)(x)
    outputs = layers.Dense(num_characters, activation="softmax", dtype="float32", name="probabilities")(x)
    return keras.Model(pictures, outputs, name="springfield")


def conv_layers_of(model: keras.Model) -> int:
    """Count the convolutions on the longest path, as the depth of a network is counted: shortcuts do not add."""
    return sum(isinstance(layer, layers.Conv2D) and layer.kernel_size != (1, 1) for layer in model.layers)


def _convolution(x, filters: int, strides: int, kernel_size: int = 3):
    return layers.Conv2D(
        filters, kernel_size, strides=strides, padding="same", use_bias=False, kernel_initializer="he_normal"
    )(x)


def _normalised(x):
    # Statistics over the last 50 batches: short runs have few thousand steps, the default 0.99 lags behind them.
    return layers.ReLU()(layers.BatchNormalization(momentum=0.95)(x))


def _residual_block(x, filters: int, strides: int):
    activated = _normalised(x)
    same_shape = strides == 1 and x.shape[-1] == filters
    shortcut = x if same_shape else _convolution(activated, filters, strides, kernel_size=1)
    y = _convolution(activated, filters, strides)
    y = _convolution(layers.ReLU()(y), filters, strides=1)
    return layers.Add()([shortcut, y])
