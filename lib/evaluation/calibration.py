"""Whether a network's percentages mean something, and whether it knows whom it does not know."""

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.stats import rankdata

BINS = 15
TEMPERATURES = (0.05, 20.0)
SMALLEST = 1e-12  # a probability of nothing has no logarithm


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Find the temperature at which a network's answers are least surprised by the truth.

    Guo et al. 2017 (arXiv:1706.04599): logits are divided by one number, chosen on validation by the negative
    log-likelihood. Which answer is most probable does not change.

    Args:
        probabilities: `float (n, num_classes)`, rows that add up to 1.
        labels: The right classes, `int (n,)`.

    Returns:
        The temperature; above 1 for a network that is too sure of itself.

    Raises:
        ValueError: The shapes do not fit together, or there is no answer.
    """
    labels = np.asarray(labels)
    if len(probabilities) != len(labels) or not len(labels):
        raise ValueError(
            f"`labels` must have one entry an answer, and one at least. Received: {len(labels)} labels for "
            f"{len(probabilities)} answers"
        )
    logits = np.log(np.maximum(probabilities, SMALLEST))
    right = logits[np.arange(len(labels)), labels]

    def surprise(log_temperature: float) -> float:
        temperature = np.exp(log_temperature)
        scaled = logits / temperature
        highest = scaled.max(axis=1)
        log_sum = highest + np.log(np.exp(scaled - highest[:, None]).sum(axis=1))
        return float(np.mean(log_sum - right / temperature))

    found = minimize_scalar(surprise, bounds=np.log(TEMPERATURES), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


def with_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Divide the logits behind probabilities by a temperature.

    Args:
        probabilities: `float (..., num_classes)`, adding up to 1 along the last axis.
        temperature: Above 0.

    Returns:
        The new probabilities, of the same shape.
    """
    logits = np.log(np.maximum(probabilities, SMALLEST)) / temperature
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def reliability(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> pd.DataFrame:
    """Compare what a network promises with what it keeps, for answers of about the same confidence.

    Args:
        confidence: Probability of the named character, `float (n,)`, 0 to 1.
        correct: Whether it was right, `bool (n,)`.
        bins: Number of bins of equal width.

    Returns:
        One row a bin: `low`, `high`, `count`, mean `confidence` and `accuracy`, NaN where the bin is empty.
    """
    edges = np.linspace(0, 1, bins + 1)
    place = _bins(confidence, bins)
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(place, weights=confidence, minlength=bins) / counts
        accuracy = np.bincount(place, weights=np.asarray(correct, float), minlength=bins) / counts
    return pd.DataFrame(
        {"low": edges[:-1], "high": edges[1:], "count": counts, "confidence": mean, "accuracy": accuracy}
    )


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> float:
    """Give the mean distance between confidence and accuracy over bins, weighted by their counts (arXiv:1706.04599).

    Args:
        confidence: `float (n,)`, 0 to 1.
        correct: `bool (n,)`.
        bins: Number of bins of equal width.

    Returns:
        0 to 1. Never quite 0 for few answers, whose accuracy varies by chance.
    """
    gaps = np.bincount(_bins(confidence, bins), np.asarray(correct, float) - confidence, bins)
    return float(np.abs(gaps).sum() / len(confidence))


def calibration_error_interval(
    confidence: np.ndarray,
    correct: np.ndarray,
    groups: np.ndarray | None = None,
    bins: int = BINS,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Say how far chance moves the calibration error: a percentile bootstrap over groups of near-duplicates.

    Args:
        confidence: `float (n,)`, 0 to 1.
        correct: `bool (n,)`.
        groups: Near-duplicates share a number and are drawn together, `int (n,)`; by default each picture is alone.
        bins: As in `expected_calibration_error`.
        level: Share of the resamples that the interval holds.
        resamples: How many.
        seed: What chance follows from.

    Returns:
        Lower and upper end. Resampling adds noise of its own to every bin, which can only raise the error, so the
        interval lies a little high.
    """
    rng = np.random.default_rng(seed)
    place = _bins(confidence, bins)
    _, group = np.unique(np.arange(len(confidence)) if groups is None else groups, return_inverse=True)
    number = group.max() + 1
    # What each group adds to the gap of each bin: a resample is then one product.
    gaps = np.zeros((number, bins))
    np.add.at(gaps, (group, place), np.asarray(correct, float) - confidence)
    sizes = np.bincount(group)
    errors = []
    for _ in range(resamples):
        times = np.bincount(rng.integers(0, number, number), minlength=number)
        errors.append(np.abs(times @ gaps).sum() / (times @ sizes))
    tail = (1 - level) / 2
    low, high = np.quantile(errors, (tail, 1 - tail))
    return float(low), float(high)


def coverage_curve(confidence: np.ndarray, correct: np.ndarray) -> pd.DataFrame:
    """Say how accurate the answers are if only the surest are given (El-Yaniv and Wiener 2010).

    Args:
        confidence: `float (n,)`.
        correct: `bool (n,)`.

    Returns:
        One row a distinct confidence, from the surest: `threshold`, `coverage` (share of the answers that are given)
        and `accuracy` among them.
    """
    order = np.argsort(-np.asarray(confidence), kind="stable")
    sorted_confidence = np.asarray(confidence)[order]
    given = np.arange(1, len(order) + 1)
    accuracy = np.cumsum(np.asarray(correct, float)[order]) / given
    # Answers of equal confidence are given or kept back together.
    last = np.append(np.flatnonzero(np.diff(sorted_confidence)), len(order) - 1)
    return pd.DataFrame(
        {"threshold": sorted_confidence[last], "coverage": given[last] / len(order), "accuracy": accuracy[last]}
    )


def threshold_keeping(scores: np.ndarray, share: float = 0.97) -> float:
    """Choose the threshold at which a share of known pictures is named: those with a score of at least it.

    Args:
        scores: Scores of pictures of known characters, `float (n,)`; higher is surer.
        share: Share to keep, above 0 and up to 1.

    Returns:
        One of the scores.

    Raises:
        ValueError: There is no score, or the share is out of range.
    """
    if not len(scores) or not 0 < share <= 1:
        raise ValueError(
            f"`scores` must not be empty and `share` must be above 0 and at most 1. Received: {len(scores)} scores, "
            f"share={share!r}"
        )
    # The smallest number of pictures that is at least the share; rounding must not add one.
    kept = int(np.ceil(round(share * len(scores), 9)))
    return float(np.sort(scores)[len(scores) - kept])


def auroc(known: np.ndarray, unknown: np.ndarray) -> float:
    """Give the probability that a picture of a known character has a higher score than one of a stranger; ties half.

    Args:
        known: Scores, `float (n,)`.
        unknown: Scores, `float (m,)`.

    Returns:
        0 to 1; one half for a score that says nothing.
    """
    ranks = rankdata(np.concatenate([known, unknown]))
    known_ranks = ranks[: len(known)].sum()
    return float((known_ranks - len(known) * (len(known) + 1) / 2) / (len(known) * len(unknown)))


def false_positive_rate(known: np.ndarray, unknown: np.ndarray, true_positive_rate: float = 0.95) -> float:
    """Give the share of strangers that are named at the threshold that names a share of the known (FPR at 95 % TPR)."""
    return float(np.mean(np.asarray(unknown) >= threshold_keeping(known, true_positive_rate)))


def _bins(confidence: np.ndarray, bins: int) -> np.ndarray:
    """Number the bin of each confidence; exactly 1 belongs to the last."""
    return np.minimum((np.asarray(confidence) * bins).astype(int), bins - 1)
