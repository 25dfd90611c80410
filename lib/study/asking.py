"""A widget whose front end asks questions and gets answers, each with a number, so that none is mixed up."""

import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anywidget
import cv2
import numpy as np

from lib.characters import display_name
from lib.data import dataset, pictures
from lib.data.dataset import Dataset
from lib.errors import UserError, in_words

log = logging.getLogger(__name__)

Reply = tuple[dict[str, Any], list[bytes]]
FAILED = "Something went wrong; the log of the notebook says what."
JPEG_QUALITY = 88
TOP = 5  # characters that are shown as answers
MOST_NEAR = 6  # near-duplicates of a picture


class Asking(anywidget.AnyWidget):
    """Answers messages `{"id": …, "ask": <name>, …}` with what the function of that name returns.

    Args:
        script: Name of the front end, a `.js` file beside this module; what all share comes before it.
        questions: Functions of the message by name, which return the answer and the pictures with it.
    """

    _css = Path(__file__).parent / "asking.css"

    def __init__(self, script: str, **questions: Callable[[dict[str, Any]], Reply]):
        parts = (Path(__file__).parent / f"{part}.js" for part in ("asking", script))
        self._esm = "\n".join(part.read_text(encoding="utf-8") for part in parts)
        self._questions = questions
        super().__init__()
        self.on_msg(self._on_question)

    def _on_question(self, _: Any, question: dict[str, Any], __: Sequence[Any]) -> None:
        try:
            answer, shown = self._questions[question["ask"]](question)
        except (UserError, OSError) as problem:
            answer, shown = {"problem": in_words(problem)}, []
        except Exception:
            log.exception("A question of the widget failed.")
            answer, shown = {"problem": FAILED}, []
        self.send({"id": question.get("id")} | answer, shown)


def picture(data: Dataset, raw: Path, position: int, side: int) -> np.ndarray:
    """Read a picture as it is in the source, RGB, or as it was prepared where that is gone or was changed.

    Args:
        data: The prepared pictures.
        raw: Folder of the unchanged ones.
        position: Its row of the manifest.
        side: The longest side, pixels.
    """
    row = data.table.iloc[position]
    with contextlib.suppress(UserError):
        return pictures.decode_full(dataset.original(raw, row), longest=side)
    return data.images[row.image]


def top(characters: list[str], probabilities: np.ndarray) -> list[tuple[str, str, float]]:
    """Give the `TOP` most probable characters, the highest first: label, display name and probability."""
    order = np.argsort(-probabilities, kind="stable")[:TOP]
    return [(characters[at], display_name(characters[at]), float(probabilities[at])) for at in order]


def partners(pairs: np.ndarray, position: int) -> np.ndarray:
    """Give what makes a pair with a position, of int `(num_pairs, 2)`."""
    touching = pairs[(pairs == position).any(axis=1)]
    return touching[touching != position]


def jpeg(picture: np.ndarray) -> bytes:
    """Encode an RGB picture, uint8 `(height, width, 3)`, for the front end."""
    return cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
