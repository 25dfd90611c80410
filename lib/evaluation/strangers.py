"""How well a network knows whom it does not know: what is left out, and the scores that can tell.

Every score is high for a picture of a known character. `calibration.auroc`, `calibration.false_positive_rate` and
`calibration.threshold_keeping` compare them.
"""

from collections.abc import Mapping

import faiss
import numpy as np

from lib.evaluation import calibration

NEIGHBOURS = 10


def choose_left_out(counts: Mapping[str, int], number: int = 10, seed: int = 0) -> list[str]:
    """Choose the characters that a network is trained without, to be asked about afterwards.

    Args:
        counts: Training pictures of each character.
        number: How many to leave out; one from each of so many classes of frequency.
        seed: What the choice follows from.

    Returns:
        Characters, sorted by name: frequent ones and rare ones alike.

    Raises:
        ValueError: There are not so many characters.
    """
    if not 0 < number < len(counts):
        raise ValueError(f"`number` must be 1 to {len(counts) - 1}. Received: number={number!r}")
    by_frequency = sorted(counts, key=lambda character: (-counts[character], character))
    rng = np.random.default_rng(seed)
    return sorted(str(rng.choice(stratum)) for stratum in np.array_split(np.array(by_frequency), number))


def largest_probability(probabilities: np.ndarray, num_characters: int, temperature: float = 1.0) -> np.ndarray:
    """Give the largest calibrated probability of a known character (Hendrycks and Gimpel 2017, arXiv:1610.02136).

    Args:
        probabilities: `float (n, num_classes)`; columns from `num_characters` on are no characters.
        num_characters: Known characters.
        temperature: Of `calibration.fit_temperature`.

    Returns:
        `float (n,)`, 0 to 1.
    """
    return calibration.with_temperature(probabilities, temperature)[:, :num_characters].max(axis=1)


def known_probability(probabilities: np.ndarray, num_characters: int, temperature: float = 1.0) -> np.ndarray:
    """Give the probability that it is any known character: all that "nobody" leaves; arguments as above."""
    return calibration.with_temperature(probabilities, temperature)[:, :num_characters].sum(axis=1)


def negative_energy(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Give the log-sum-exp of the known characters' logits, minus the energy of Liu et al. 2020 (arXiv:2010.03759).

    Args:
        logits: Before the softmax, `float (n, num_characters)`: a softmax forgets their sum.
        temperature: Above 0.

    Returns:
        `float (n,)`.
    """
    scaled = logits / temperature
    highest = scaled.max(axis=1)
    return temperature * (highest + np.log(np.exp(scaled - highest[:, None]).sum(axis=1)))


class NearestFeatures:
    """Cosine similarity to the nearest training pictures (Sun et al. 2022, arXiv:2204.06507).

    Args:
        features: Pooled features of training pictures of known characters, `float (n, channels)`.
        neighbours: How many are averaged.
    """

    def __init__(self, features: np.ndarray, neighbours: int = NEIGHBOURS):
        self.neighbours = min(neighbours, len(features))
        self._index = faiss.IndexFlatIP(features.shape[1])
        self._index.add(_unit(features))

    def similarity(self, features: np.ndarray) -> np.ndarray:
        """Give the mean similarity to the nearest ones, `float (n,)`, -1 to 1."""
        return self._index.search(_unit(features), self.neighbours)[0].mean(axis=1)


def compare(known: Mapping[str, np.ndarray], unknown: Mapping[str, np.ndarray], keep: float = 0.97) -> dict[str, dict]:
    """Hold scores against one another.

    Args:
        known: From the name of a score to its values for pictures of known characters, on which thresholds are set.
        unknown: The same for pictures of strangers.
        keep: Share of the known that a threshold shall keep.

    Returns:
        From the name of a score to `threshold`, `named` (share of the strangers that are named at it), `auroc` and
        `fpr_at_95_tpr`.
    """
    table = {}
    for name, scores in known.items():
        threshold = calibration.threshold_keeping(scores, keep)
        table[name] = {
            "threshold": threshold,
            "named": float(np.mean(unknown[name] >= threshold)),
            "auroc": calibration.auroc(scores, unknown[name]),
            "fpr_at_95_tpr": calibration.false_positive_rate(scores, unknown[name]),
        }
    return table


def _unit(features: np.ndarray) -> np.ndarray:
    norms = np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    return np.ascontiguousarray(features / norms, dtype="float32")
