"""What a network answered to the pictures of a split."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Predictions(NamedTuple):
    """What a network answered; the contents of `predictions.csv`.

    Without `groups` each picture is in its own, which makes intervals too narrow where there are near-duplicates.
    """

    paths: Sequence[str]
    actual: np.ndarray  # labels, int (num_pictures,), 0 to num_characters - 1
    probabilities: np.ndarray  # float (num_pictures, num_characters); rows sum to one, or less with that of nobody
    characters: Sequence[str]  # names in label order
    groups: np.ndarray | None = None  # int (num_pictures,), the same number for near-duplicates

    @property
    def predicted(self) -> np.ndarray:
        """The label of the highest probability of each picture, the first of equals, int `(num_pictures,)`."""
        return self.probabilities.argmax(axis=1)

    def at(self, rows: np.ndarray) -> "Predictions":
        """Choose the answers to some pictures, by their positions or as a mask."""
        groups = None if self.groups is None else self.groups[rows]
        paths = np.asarray(self.paths, object)[rows].tolist()
        return self._replace(
            paths=paths, actual=self.actual[rows], probabilities=self.probabilities[rows], groups=groups
        )
