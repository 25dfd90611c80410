"""Losses and metrics of a recipe, as arguments of `compile`."""

from typing import Any

import keras
from keras import ops

from lib.training.recipe import Recipe
from lib.training.scenes import SOMEWHERE

SOMEWHERE_WEIGHT = 2.0  # of a character whose place is unknown, in cells


def for_recipe(recipe: Recipe) -> dict[str, Any]:
    """Choose `loss` and `metrics` for `compile`.

    Cross-entropy of the probabilities, accuracy and macro F1, in which a rare character counts as much as a frequent
    one; and the loss of the class map, if the network has one.
    """
    cross_entropy = keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing)
    metrics = ["accuracy", MacroF1(name="macro_f1")]
    if not recipe.class_map:
        return {"loss": cross_entropy, "metrics": metrics}
    return {
        "loss": {"probabilities": cross_entropy, "class_map": ClassMapLoss()},
        "metrics": {"probabilities": metrics, "class_map": []},
    }


class MacroF1(keras.metrics.F1Score):
    """Mean F1 of the characters that have pictures: "nobody" has none in the validation split."""

    def result(self):
        """Compute the score from the counts of all batches."""
        has_pictures = ops.cast(self.true_positives + self.false_negatives > 0, self.dtype)
        return ops.sum(super().result() * has_pictures) / ops.maximum(ops.sum(has_pictures), 1)


class ClassMapLoss(keras.losses.Loss):
    """Binary cross-entropy between a class map and `scenes.cell_target`.

    A character whose place is unknown counts once for all its cells, by the most certain of them (multiple-instance
    learning).
    """

    def call(self, y_true, y_pred):
        """Compute the loss of each picture, `(batch_size,)`: the mean over cells of the sum over characters."""
        y_pred = ops.clip(ops.cast(y_pred, "float32"), 1e-6, 1 - 1e-6)
        y_true = ops.cast(y_true, y_pred.dtype)
        is_fraction = ops.cast(y_true >= 0, y_pred.dtype)
        fraction = ops.maximum(y_true, 0.0)
        of_cell = -(fraction * ops.log(y_pred) + (1 - fraction) * ops.log(1 - y_pred)) * is_fraction
        is_candidate = ops.cast(ops.equal(y_true, SOMEWHERE), y_pred.dtype)
        most_certain = ops.max(y_pred * is_candidate, axis=(1, 2))
        of_character = -ops.log(ops.maximum(most_certain, 1e-6)) * ops.max(is_candidate, axis=(1, 2))
        total = ops.sum(of_cell, axis=(1, 2, 3)) + SOMEWHERE_WEIGHT * ops.sum(of_character, axis=-1)
        return total / ops.cast(ops.shape(y_pred)[1] * ops.shape(y_pred)[2], y_pred.dtype)
