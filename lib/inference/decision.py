"""Whether an answer is given at all: the one rule that every reader of a model file follows.

The rule travels in the metadata of the file: how a picture is scored, and the score from which it is named.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lib.errors import UserError

# From probabilities `float (n, num_classes)` and the number of known characters to scores `float (n,)`; columns after
# those of the characters are answers such as "nobody".
SCORES = {
    "largest_probability": lambda probabilities, known: probabilities[:, :known].max(axis=1),
    "known_probability": lambda probabilities, known: probabilities[:, :known].sum(axis=1),
}


@dataclass(frozen=True)
class Decision:
    """When a picture shows a known character.

    Attributes:
        score: One of `SCORES`.
        threshold: Score from which a picture is named, 0 to 1; 0 names every picture.
    """

    score: str = "largest_probability"
    threshold: float = 0.0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: There is no such score, or the threshold is not within 0 to 1.
        """
        if self.score not in SCORES or not 0 <= self.threshold <= 1:
            raise ValueError(
                f"`score` must be one of {', '.join(SCORES)} and `threshold` within 0 and 1. Received: "
                f"score={self.score!r}, threshold={self.threshold!r}"
            )

    def scores(self, probabilities: np.ndarray, num_characters: int) -> np.ndarray:
        """Score pictures, `float (n, num_classes)` to `float (n,)`; higher is surer to be known."""
        return SCORES[self.score](np.asarray(probabilities), num_characters)

    def is_known(self, probabilities: np.ndarray, num_characters: int) -> np.ndarray:
        """Decide for each picture whether it is named, `bool (n,)`."""
        return self.scores(probabilities, num_characters) >= self.threshold

    def metadata(self) -> dict[str, Any]:
        """Write it down for a model file."""
        return {"score": self.score, "threshold": self.threshold}


def from_metadata(metadata: dict[str, Any]) -> Decision:
    """Read the rule from a model file's metadata.

    Args:
        metadata: The whole record; files of older formats have no `decision`.

    Returns:
        The rule; for older files the one that names every picture.

    Raises:
        UserError: The record is damaged, or of a newer version.
    """
    record = metadata.get("decision")
    if record is None:
        return Decision()
    try:
        return Decision(str(record["score"]), float(record["threshold"]))
    except (TypeError, KeyError, ValueError) as problem:
        raise UserError(
            f"The model file does not say when to decline: {problem}. Train again, or use the version of this project "
            "that wrote it."
        ) from None
