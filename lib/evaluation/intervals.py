"""How sure the scores are: bootstrap intervals over groups of near-duplicates, and paired differences."""

import numpy as np

RESAMPLES = 1000


def bootstrap_intervals(
    actual: np.ndarray,
    predicted: np.ndarray,
    num_characters: int,
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> dict[str, list[float]]:
    """Say within which bounds other test pictures of the same kind would put the scores.

    The cluster bootstrap: near-copies are not independent, so whole groups are drawn with replacement, as
    many as there are, a thousand times, and the interval runs from the 2.5th to the 97.5th percentile of the
    scores (Field and Welsh, "Bootstrapping clustered data", J. R. Statist. Soc. B 69, 2007, 369-390). It
    speaks of the choice of test pictures only, not of how another training would end. Where every answer is
    right it is `[1, 1]`, which says that the test is too easy or too small, not that the network never errs.

    Args:
        actual: Labels, int `(num_pictures,)`.
        predicted: Labels, int `(num_pictures,)`.
        num_characters: How many characters there are.
        groups: Near-duplicate group of each picture, `(num_pictures,)`; None: each picture for itself.
        seed: The same seed, the same interval.

    Returns:
        `accuracy_interval` and `macro_f1_interval`, each `[low, high]`.

    Raises:
        ValueError: No pictures, shapes that do not match, or labels out of range.
    """
    accuracies, macro_f1s = resampled_scores(actual, predicted, num_characters, groups, seed)
    return {"accuracy_interval": percentile_interval(accuracies), "macro_f1_interval": percentile_interval(macro_f1s)}


def resampled_scores(
    actual: np.ndarray, predicted: np.ndarray, num_characters: int, groups: np.ndarray | None, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy and macro F1, each `(RESAMPLES,)`, of test sets drawn anew from whole groups."""
    actual, predicted = np.asarray(actual), np.asarray(predicted)
    if groups is None:
        groups = np.arange(len(actual))
    _, group = np.unique(groups, return_inverse=True)
    num_groups = group.max() + 1
    # Both scores follow from three counts per character that add up over groups: rightly given, there, given.
    counts = np.zeros((num_groups, 3, num_characters))
    right = actual == predicted
    np.add.at(counts, (group[right], 0, actual[right]), 1)
    np.add.at(counts, (group, 1, actual), 1)
    np.add.at(counts, (group, 2, predicted), 1)
    counts = counts.reshape(num_groups, 3 * num_characters)
    random = np.random.default_rng(seed)
    # One resample at a time: a matrix of all the draws would grow with pictures times RESAMPLES.
    totals = [
        np.bincount(random.integers(num_groups, size=num_groups), minlength=num_groups) @ counts
        for _ in range(RESAMPLES)
    ]
    hits, there, given = np.moveaxis(np.reshape(totals, (RESAMPLES, 3, num_characters)), 1, 0)
    f1 = 2 * hits / np.maximum(there + given, 1)  # harmonic mean of hits / given and hits / there
    return hits.sum(axis=1) / there.sum(axis=1), f1.mean(axis=1, where=there > 0)


def percentile_interval(scores: np.ndarray) -> list[float]:
    return np.percentile(scores, [2.5, 97.5]).tolist()
