"""Bootstrap intervals of the scores, over groups of near-duplicates.

The cluster bootstrap: near-duplicates are not independent, so whole groups are drawn with replacement, as many as there
are, `RESAMPLES` times. An interval runs from the 2.5th to the 97.5th percentile of the scores (Field and Welsh,
"Bootstrapping clustered data", J. R. Statist. Soc. B 69, 2007, 369-390). It covers the choice of test pictures only,
not the outcome of another training.
"""

from collections.abc import Iterator

import numpy as np
from scipy.stats import binomtest

from lib.evaluation.predictions import Predictions

RESAMPLES = 1000


def resampled_scores(answers: Predictions, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Score test sets that are drawn from whole groups with replacement.

    Returns:
        Accuracy and macro F1 of each resample, both `(RESAMPLES,)`. The same seed draws the same groups. Where every
        answer is right all are 1: the test is too easy or too small, which does not mean that the network never errs.
    """
    actual, predicted, num_characters = answers.actual, answers.predicted, len(answers.characters)
    group, draws = drawn_groups(answers.groups, len(actual), seed)
    # Both scores follow from three counts per character that add up over groups: correct, actual, predicted.
    counts = np.zeros((group.max() + 1, 3, num_characters))
    correct = actual == predicted
    np.add.at(counts, (group[correct], 0, actual[correct]), 1)
    np.add.at(counts, (group, 1, actual), 1)
    np.add.at(counts, (group, 2, predicted), 1)
    totals = [draw @ counts.reshape(len(counts), 3 * num_characters) for draw in draws]
    hits, support, answers = np.moveaxis(np.reshape(totals, (RESAMPLES, 3, num_characters)), 1, 0)
    f1 = 2 * hits / np.maximum(support + answers, 1)  # harmonic mean of hits / answers and hits / support
    return hits.sum(axis=1) / support.sum(axis=1), f1.mean(axis=1, where=support > 0)


def drawn_groups(groups: np.ndarray | None, num_pictures: int, seed: int) -> tuple[np.ndarray, Iterator[np.ndarray]]:
    """Draw groups of pictures with replacement, as many as there are.

    Returns:
        The group of each picture, numbered from 0; and how often each group is in a resample, `RESAMPLES` times. One
        resample at a time: a matrix of all of them would grow with pictures times `RESAMPLES`.
    """
    _, group = np.unique(np.arange(num_pictures) if groups is None else groups, return_inverse=True)
    number, random = group.max() + 1, np.random.default_rng(seed)
    return group, (np.bincount(random.integers(number, size=number), minlength=number) for _ in range(RESAMPLES))


def of_fraction(fraction: float, number: int | None) -> tuple[float, float]:
    """Give the 95 % interval of a fraction of so many independent pictures (Wilson 1927); NaN where it is not known."""
    if not number:
        return np.nan, np.nan
    return tuple(binomtest(round(fraction * number), number).proportion_ci(method="wilson"))


def percentile_interval(scores: np.ndarray) -> list[float]:
    """Give the 2.5th and the 97.5th percentile of resampled scores."""
    return np.percentile(scores, [2.5, 97.5]).tolist()
