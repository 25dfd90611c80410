"""Bootstrap intervals of the scores, over groups of near-duplicates."""

import numpy as np

RESAMPLES = 1000


def bootstrap_intervals(
    actual: np.ndarray,
    predicted: np.ndarray,
    num_characters: int,
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> dict[str, list[float]]:
    """Estimate the range of scores that other test pictures of the same kind would give.

    The cluster bootstrap: near-duplicates are not independent, so whole groups are drawn with replacement, as many as
    there are, `RESAMPLES` times. The interval runs from the 2.5th to the 97.5th percentile of the scores (Field and
    Welsh, "Bootstrapping clustered data", J. R. Statist. Soc. B 69, 2007, 369-390). It covers the choice of test
    pictures only, not the outcome of another training. Where every answer is right it is `[1, 1]`: the test is too
    easy or too small, which does not mean that the network never errs.

    Args:
        actual: Labels, int `(num_pictures,)`.
        predicted: Labels, int `(num_pictures,)`.
        num_characters: Number of characters.
        groups: Near-duplicate group of each picture, `(num_pictures,)`; None puts each picture in its own group.
        seed: Seed of the bootstrap.

    Returns:
        `accuracy_interval` and `macro_f1_interval`, each `[low, high]`.
    """
    accuracies, macro_f1s = resampled_scores(actual, predicted, num_characters, groups, seed)
    return {"accuracy_interval": percentile_interval(accuracies), "macro_f1_interval": percentile_interval(macro_f1s)}


def resampled_scores(
    actual: np.ndarray, predicted: np.ndarray, num_characters: int, groups: np.ndarray | None, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Score test sets that are drawn from whole groups with replacement.

    Args:
        actual: Labels, int `(num_pictures,)`.
        predicted: Labels, int `(num_pictures,)`.
        num_characters: Number of characters.
        groups: Near-duplicate group of each picture, `(num_pictures,)`; None puts each picture in its own group.
        seed: Seed of the draws; the same seed draws the same groups.

    Returns:
        Accuracy and macro F1 of each resample, both `(RESAMPLES,)`.
    """
    _, group = np.unique(np.arange(len(actual)) if groups is None else groups, return_inverse=True)
    num_groups = group.max() + 1
    # Both scores follow from three counts per character that add up over groups: correct, actual, predicted.
    counts = np.zeros((num_groups, 3, num_characters))
    correct = actual == predicted
    np.add.at(counts, (group[correct], 0, actual[correct]), 1)
    np.add.at(counts, (group, 1, actual), 1)
    np.add.at(counts, (group, 2, predicted), 1)
    counts = counts.reshape(num_groups, 3 * num_characters)
    random = np.random.default_rng(seed)
    # One resample at a time: a matrix of all the draws would grow with pictures times RESAMPLES.
    totals = [
        np.bincount(random.integers(num_groups, size=num_groups), minlength=num_groups) @ counts
        for _ in range(RESAMPLES)
    ]
    hits, support, answers = np.moveaxis(np.reshape(totals, (RESAMPLES, 3, num_characters)), 1, 0)
    f1 = 2 * hits / np.maximum(support + answers, 1)  # harmonic mean of hits / answers and hits / support
    return hits.sum(axis=1) / support.sum(axis=1), f1.mean(axis=1, where=support > 0)


def percentile_interval(scores: np.ndarray) -> list[float]:
    """Give the 2.5th and the 97.5th percentile of resampled scores."""
    return np.percentile(scores, [2.5, 97.5]).tolist()
