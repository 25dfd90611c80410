"""Calibration after training: one temperature, and the thresholds from which the recogniser names a character.

All are chosen on the validation split.
"""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

if TYPE_CHECKING:  # evaluation uses this module too, and needs no Keras
    import keras

MIN_PROBABILITY = 1e-12  # zero has no logarithm
TEMPERATURES = (0.05, 20.0)  # range of the search
KEPT = 0.97  # fraction of the validation pictures that the recogniser must still name
# Fraction of the validation frames, labelled with one character each, that may get a second name. Some of them do show
# a second character: with 0.06, four in a hundred crops of a single figure get a second name.
SECOND_NAMES = 0.06


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Find the temperature with the lowest negative log-likelihood (Guo et al. 2017, arXiv:1706.04599).

    Dividing all logits by one number changes the probabilities and leaves their order. It is above 1 for an
    overconfident network.
    """
    logits = np.log(np.maximum(probabilities, MIN_PROBABILITY))

    def loss(log_temperature: float) -> float:
        return -log_softmax(logits / np.exp(log_temperature), axis=1)[np.arange(len(labels)), labels].mean()

    found = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


def with_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Divide the logits of probabilities, `float (..., num_classes)` that add up to 1, by a temperature above 0."""
    return softmax(np.log(np.maximum(probabilities, MIN_PROBABILITY)) / temperature, axis=-1)


def fold_temperature(model: "keras.Model", temperature: float) -> None:
    """Divide the weights of the layer `probabilities` by a temperature, in place.

    Whoever reads the network then gets calibrated probabilities without knowing of the temperature.
    """
    layer = model.get_layer("probabilities")
    layer.set_weights([weights / temperature for weights in layer.get_weights()])


def threshold_keeping(scores: np.ndarray, fraction: float = KEPT) -> float:
    """Choose the threshold, one of the scores, that a fraction of them reaches.

    `scores` are `float (n,)`, n at least 1; `fraction` is above 0 and at most 1.
    """
    kept = int(np.ceil(round(fraction * len(scores), 9)))  # rounded first: 0.97 * 100 is 97.00000000000001
    return float(np.sort(scores)[len(scores) - kept])


def second_threshold(class_maps: np.ndarray, labels: np.ndarray) -> float:
    """Choose the score from which a further character in a picture of one character is named.

    Some of the pictures do show a second character, so fewer than `SECOND_NAMES` of them get a wrong name.
    """
    own = class_maps[np.arange(len(labels)), :, :, labels][..., None]
    elsewhere = own < own.max(axis=(1, 2), keepdims=True) / 2  # another name in the same place is no second character
    highest = np.where(elsewhere, class_maps, 0.0).max(axis=(1, 2))
    highest[np.arange(len(labels)), labels] = 0.0
    return float(np.quantile(highest.max(axis=1), 1 - SECOND_NAMES, method="higher"))


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What is chosen on the validation split after a training."""

    temperature: float  # folded into the weights of the last layer
    threshold: float  # probability from which a character is named, 0 to 1
    # Score of the class map from which a further character is named; None without a class map.
    second_threshold: float | None = None

    def __str__(self) -> str:
        """Say what was chosen, in a line."""
        second = f", further ones from a score of {self.second_threshold:.2f}" if self.second_threshold else ""
        return f"temperature {self.temperature:.2f}; a character is named from probability {self.threshold:.2f}{second}"


def calibrate(
    model: "keras.Model", outputs: np.ndarray | dict[str, np.ndarray], labels: np.ndarray, num_characters: int
) -> Calibration:
    """Fold the temperature into a network and choose the thresholds.

    Args:
        model: The trained network, changed in place.
        outputs: What it answers to the validation pictures before the change: probabilities, `float (n, num_classes)`,
            or a dictionary of them and `class_map`, `float (n, rows, columns, num_characters)`.
        labels: The characters of the pictures, `int (n,)`.
        num_characters: A further probability is that of nobody.
    """
    probabilities, second = outputs, None
    if isinstance(outputs, dict):
        probabilities, second = outputs["probabilities"], second_threshold(outputs["class_map"], labels)
    temperature = fit_temperature(probabilities, labels)
    fold_temperature(model, temperature)
    known = with_temperature(probabilities, temperature)[:, :num_characters]
    return Calibration(temperature, threshold_keeping(known.max(axis=1)), second)
