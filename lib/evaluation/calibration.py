"""Calibration: whether a network is right as often as its probabilities say."""

import numpy as np
import pandas as pd

from lib.evaluation import intervals

BINS = 15


def reliability(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> pd.DataFrame:
    """Compare confidence with accuracy, bin by bin.

    Args:
        confidence: Probability of the predicted character, float `(num_pictures,)`, 0 to 1.
        correct: bool `(num_pictures,)`.
        bins: Number of bins of equal width.

    Returns:
        One row per bin that has answers: `answers`, and their mean `confidence` and `accuracy`.
    """
    table = pd.DataFrame({"confidence": confidence, "accuracy": np.asarray(correct, float)})
    binned = table.groupby(_bins(confidence, bins))
    return binned.mean().assign(answers=binned.size()).reset_index(drop=True)


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> float:
    """Average the distance between confidence and accuracy over bins, weighted by answers (Guo et al. 2017).

    Args:
        confidence: float `(num_pictures,)`, 0 to 1.
        correct: bool `(num_pictures,)`.
        bins: Number of bins of equal width.

    Returns:
        0 to 1. For few answers it never reaches 0, because their accuracy varies by chance.
    """
    gaps = np.bincount(_bins(confidence, bins), np.asarray(correct, float) - confidence)
    return float(np.abs(gaps).sum() / len(confidence))


def calibration_error_interval(
    confidence: np.ndarray,
    correct: np.ndarray,
    groups: np.ndarray | None = None,
    bins: int = BINS,
    seed: int = 0,
) -> list[float]:
    """Estimate the range of calibration errors on other pictures: a bootstrap over groups of near-duplicates.

    Args:
        confidence: float `(num_pictures,)`, 0 to 1.
        correct: bool `(num_pictures,)`.
        groups: Near-duplicate group of each picture, int `(num_pictures,)`; None puts each in a group of its own.
        bins: Number of bins of equal width.
        seed: Seed of the bootstrap.

    Returns:
        95 % interval, `[low, high]`. It lies a little high: resampling adds noise to each bin, which only raises the
        error.
    """
    _, group = np.unique(np.arange(len(confidence)) if groups is None else groups, return_inverse=True)
    sizes = np.bincount(group)
    # What each group adds to the gap of each bin; a resample is then one product.
    gaps = np.zeros((len(sizes), bins))
    np.add.at(gaps, (group, _bins(confidence, bins)), np.asarray(correct, float) - confidence)
    random = np.random.default_rng(seed)
    draws = (
        np.bincount(random.integers(len(sizes), size=len(sizes)), minlength=len(sizes))
        for _ in range(intervals.RESAMPLES)
    )
    return intervals.percentile_interval(np.array([np.abs(draw @ gaps).sum() / (draw @ sizes) for draw in draws]))


def coverage_curve(confidence: np.ndarray, correct: np.ndarray) -> pd.DataFrame:
    """Compute the accuracy of the confident answers for each fraction answered (El-Yaniv and Wiener 2010).

    Args:
        confidence: float `(num_pictures,)`.
        correct: bool `(num_pictures,)`.

    Returns:
        One row per distinct confidence, the highest first: `threshold`, `coverage` (fraction of the pictures with at
        least this confidence) and `accuracy` on them.
    """
    order = np.argsort(-np.asarray(confidence), kind="stable")
    ordered, answered = np.asarray(confidence)[order], np.arange(1, len(order) + 1)
    accuracy = np.cumsum(np.asarray(correct, float)[order]) / answered
    # Answers of equal confidence are given, or not given, together.
    last = np.append(np.flatnonzero(np.diff(ordered)), len(order) - 1)
    columns = {"threshold": ordered[last], "coverage": answered[last] / len(order), "accuracy": accuracy[last]}
    return pd.DataFrame(columns)


def _bins(confidence: np.ndarray, bins: int) -> np.ndarray:
    """Number the bin of each confidence; 1 belongs to the last bin."""
    return np.minimum((np.asarray(confidence) * bins).astype(int), bins - 1)
