"""The outputs of a network that knows whom it does not know, and where it sees whom.

`probabilities`: a softmax over the known characters and, last, "nobody". `class_map`: for each cell of the last feature
map and each character, how much of the cell the character covers, by sigmoids of their own: two characters can be in
one picture, and none.
"""

import keras
import numpy as np
from keras import layers, ops

# Before training no cell shows anyone: 1 in 100 as prior (Lin et al. 2017, arXiv:1708.02002, section 4.1).
CELL_PRIOR = -float(np.log(99))


def with_heads(body: keras.Model, num_characters: int, dropout: float = 0.2) -> keras.Model:
    """Put both outputs on a body.

    Args:
        body: From pictures to the last feature map, `(batch_size, cells, cells, channels)`.
        num_characters: Known characters.
        dropout: Share of the features dropped before either output, 0 to 1.

    Returns:
        A network from pictures to a dictionary: `probabilities`, `(batch_size, num_characters + 1)`, and `class_map`,
        `(batch_size, cells, cells, num_characters)`, 0 to 1 each.
    """
    features = body.output
    pooled = layers.GlobalAveragePooling2D(name="pooled")(features)
    answer = layers.Dense(num_characters + 1, activation="softmax", dtype="float32", name="probabilities")
    cells = layers.Conv2D(
        num_characters,
        1,
        activation="sigmoid",
        dtype="float32",
        bias_initializer=keras.initializers.Constant(CELL_PRIOR),
        name="class_map",
    )
    outputs = {
        "probabilities": answer(layers.Dropout(dropout)(pooled)),
        "class_map": cells(layers.SpatialDropout2D(dropout)(features)),
    }
    return keras.Model(body.input, outputs, name=body.name)


def body_of(network: keras.Model) -> keras.Model:
    """Take the part of a network before its global average pooling.

    Raises:
        ValueError: The network does not end in global average pooling, dropout and a dense layer.
    """
    for layer in reversed(network.layers):
        if isinstance(layer, layers.GlobalAveragePooling2D):
            return keras.Model(network.input, layer.input, name=network.name)
    raise ValueError(f"`network` must have a global average pooling layer. Received: {network.name!r}, without one")


def fold_temperature(model: keras.Model, temperature: float) -> None:
    """Divide the logits of `probabilities` by a temperature, once and for all, in the weights of the last layer.

    Whoever reads the network then gets calibrated probabilities, and needs not know that there was a temperature.

    Args:
        model: With a dense layer `probabilities`; changed in place.
        temperature: Of `calibration.fit_temperature`.

    Raises:
        ValueError: The temperature is not above 0.
    """
    if not temperature > 0:
        raise ValueError(f"`temperature` must be above 0. Received: temperature={temperature!r}")
    layer = model.get_layer("probabilities")
    layer.set_weights([weights / temperature for weights in layer.get_weights()])


class CellLoss(keras.losses.Loss):
    """Cross-entropy between a class map and what its cells should show.

    Targets are those of `composites.cell_target`: shares from 0 to 1; where a character is somewhere among cells marked
    `SOMEWHERE`, the cell that is surest counts for all of them (multiple-instance learning); cells marked `UNKNOWN` do
    not count.

    Args:
        somewhere_weight: What a character counts whose place is not known, against one cell of a known one.
    """

    def __init__(self, somewhere_weight: float = 2.0, name: str = "cell_loss"):
        super().__init__(name=name, reduction="sum_over_batch_size")
        self.somewhere_weight = somewhere_weight

    def call(self, y_true, y_pred):
        """Give the loss of each picture, `(batch_size,)`: the mean over cells, the sum over characters."""
        y_pred = ops.clip(ops.cast(y_pred, "float32"), 1e-6, 1 - 1e-6)
        y_true = ops.cast(y_true, y_pred.dtype)
        is_share = ops.cast(y_true >= 0, y_pred.dtype)
        share = ops.maximum(y_true, 0.0)
        cell_loss = -(share * ops.log(y_pred) + (1 - share) * ops.log(1 - y_pred)) * is_share
        num_cells = ops.cast(ops.shape(y_pred)[1] * ops.shape(y_pred)[2], y_pred.dtype)
        located = ops.sum(cell_loss, axis=(1, 2, 3)) / num_cells
        marked = ops.cast(ops.equal(y_true, -1.0), y_pred.dtype)
        surest = ops.max(y_pred * marked, axis=(1, 2))
        any_marked = ops.max(marked, axis=(1, 2))
        somewhere = -ops.log(ops.maximum(surest, 1e-6)) * any_marked
        return located + self.somewhere_weight * ops.sum(somewhere, axis=-1) / num_cells
