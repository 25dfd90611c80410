"""Calibration: whether a network is right as often as its probabilities say.

Everywhere `confidence` holds the probability of each answer (float, `(num_pictures,)`, 0 to 1) and `correct` whether it
is right (bool, `(num_pictures,)`). Bins have equal width.
"""

import numpy as np
import pandas as pd

from lib.evaluation import intervals

BINS = 15


def reliability(confidence: np.ndarray, correct: np.ndarray) -> pd.DataFrame:
    """Compare confidence with accuracy, bin by bin.

    Returns:
        One row per bin that has answers: `answers`, and their mean `confidence` and `accuracy`.
    """
    table = pd.DataFrame({"confidence": confidence, "accuracy": np.asarray(correct, float)})
    binned = table.groupby(_bins(confidence))
    return binned.mean().assign(answers=binned.size()).reset_index(drop=True)


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Average the distance between confidence and accuracy over bins, weighted by answers (Guo et al. 2017).

    Returns:
        0 to 1. For few answers it never reaches 0, because their accuracy varies by chance; see `error_by_chance`.
    """
    gaps = np.bincount(_bins(confidence), np.asarray(correct, float) - confidence)
    return float(np.abs(gaps).sum() / len(confidence))


def calibration_error_interval(
    confidence: np.ndarray, correct: np.ndarray, groups: np.ndarray | None = None, seed: int = 0
) -> list[float]:
    """Estimate the range of calibration errors on other pictures, as `lib.evaluation.intervals` does.

    Returns:
        95 % interval, `[low, high]`. It lies a little high: resampling adds noise to each bin, which only raises the
        error.
    """
    group, draws = intervals.drawn_groups(groups, len(confidence), seed)
    sizes = np.bincount(group)
    # What each group adds to the gap of each bin; a resample is then one product.
    gaps = np.zeros((len(sizes), BINS))
    np.add.at(gaps, (group, _bins(confidence)), np.asarray(correct, float) - confidence)
    return intervals.percentile_interval([np.abs(draw @ gaps).sum() / (draw @ sizes) for draw in draws])


def error_by_chance(confidence: np.ndarray, seed: int = 0) -> tuple[float, list[float]]:
    """Compute the calibration error that a perfectly calibrated network with these confidences would have.

    Each of its answers is right with the probability that it has. The answers are drawn independently.

    Returns:
        The mean over `intervals.RESAMPLES` draws, and the range of 95 % of them, `[low, high]`.
    """
    draws = np.random.default_rng(seed).random((intervals.RESAMPLES, len(confidence))) < confidence
    errors = [expected_calibration_error(confidence, right) for right in draws]
    return float(np.mean(errors)), intervals.percentile_interval(errors)


def coverage_curve(confidence: np.ndarray, correct: np.ndarray) -> pd.DataFrame:
    """Compute the accuracy of the confident answers for each fraction answered (El-Yaniv and Wiener 2010).

    Returns:
        One row per distinct confidence, the highest first: `threshold`, `coverage` (fraction of the pictures with at
        least this confidence) and `accuracy` on them.
    """
    table = pd.DataFrame({"threshold": confidence, "accuracy": np.asarray(correct, float)})
    table = table.sort_values("threshold", ascending=False, kind="stable", ignore_index=True)
    answered = np.arange(1, len(table) + 1)
    table = table.assign(coverage=answered / len(table), accuracy=table.accuracy.cumsum() / answered)
    # Answers of equal confidence are given, or not given, together.
    return table.drop_duplicates("threshold", keep="last", ignore_index=True)


def _bins(confidence: np.ndarray) -> np.ndarray:
    """Number the bin of each confidence; 1 belongs to the last bin."""
    return np.minimum((np.asarray(confidence) * BINS).astype(int), BINS - 1)
