"""How often each character is shown, and what a network is told of how often it is: two cures for rare characters."""

import numpy as np


def balanced_rows(labels: np.ndarray, power: float, rng: np.random.Generator) -> np.ndarray:
    """Draw the pictures of an epoch so that rare characters are shown more often, and frequent ones less.

    A character with `n` of the pictures is shown in proportion to `n ** power` (Mahajan et al. 2018, arXiv:1805.00932,
    take one half). The epoch keeps its length. Every picture of a rare character is shown equally often, give or take
    one; of a frequent one another part each epoch.

    Args:
        labels: One label a picture, `int (n,)`.
        power: 1 shows characters as they are, 0 all equally often.
        rng: Where chance comes from.

    Returns:
        Places in `labels`, `int64 (about n,)`, sorted by label.

    Raises:
        ValueError: `power` is not within 0 to 1.
    """
    if not 0 <= power <= 1:
        raise ValueError(f"`power` must be within 0 and 1. Received: power={power!r}")
    labels = np.asarray(labels)
    known, counts = np.unique(labels, return_counts=True)
    wanted = counts.astype(float) ** power
    wanted *= counts.sum() / wanted.sum()
    drawn = []
    for label, count, number in zip(known, counts, np.rint(wanted).astype(int), strict=True):
        places = np.flatnonzero(labels == label)
        whole, rest = divmod(max(1, number), count)
        drawn += [places] * whole + [rng.choice(places, rest, replace=False)]
    return np.concatenate(drawn)


def log_priors(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Give the logarithm of each character's share, for logit adjustment (Menon et al. 2021, arXiv:2007.07314).

    Added, times a factor of about 1, to the logits in the loss alone, they let a network be judged as if all characters
    were equally frequent. A character without a picture counts as one picture.

    Args:
        labels: One label a picture as it is shown, `int (n,)`.
        num_classes: Number of labels.

    Returns:
        `float32 (num_classes,)`.
    """
    counts = np.maximum(np.bincount(labels, minlength=num_classes), 1)
    return np.log(counts / counts.sum()).astype("float32")
