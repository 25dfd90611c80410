"""The archive's own boxes, `boxes.csv`: where in a frame its character is, as shares of the picture.

One box a frame, face and shoulders as a rule; a frame with two figures still has one box, and about one box in
thirty is wrong.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from lib.data.pictures import Framing
from lib.errors import UserError

COLUMNS = ("left", "top", "right", "bottom")


def read(path: Path) -> dict[str, np.ndarray]:
    """Read the boxes.

    Args:
        path: A CSV file with the columns `path`, `left`, `top`, `right`, `bottom`; shares of the picture, 0 to 1.

    Returns:
        From a frame's path, such as `bart_simpson/pic_0001.jpg`, to its box, `float64 (4,)`.

    Raises:
        UserError: The file is missing, is no such table, or holds a box that is empty or leaves the picture.
    """
    try:
        table = pd.read_csv(path, usecols=["path", *COLUMNS])
    except (OSError, ValueError) as problem:
        raise UserError(f"The boxes cannot be read from {path}: {problem}.") from None
    values = table[list(COLUMNS)].to_numpy(float)
    left, top, right, bottom = values.T
    valid = (left >= 0) & (top >= 0) & (right <= 1) & (bottom <= 1) & (left < right) & (top < bottom)
    if not valid.all():
        raise UserError(
            f"{path} holds boxes that are empty or leave the picture; expected 0 <= left < right <= 1 and "
            f"0 <= top < bottom <= 1. Received: {values[~valid][0].tolist()} for {table.path[~valid].iloc[0]}"
        )
    return dict(zip(table.path, values, strict=True))


def to_square(box: np.ndarray, framing: Framing, shape: tuple[int, int], size: int) -> np.ndarray:
    """Bring a box from a picture to the square that a network sees.

    Args:
        box: Left, top, right, bottom as shares of the picture, 0 to 1.
        framing: How the picture becomes the square; see `lib.data.pictures.framing`.
        shape: Height and width of the picture, pixels.
        size: Side of the square, pixels.

    Returns:
        The same as shares of the square, `float64 (4,)`.
    """
    return _rescaled(box, framing, shape, size, inverse=False)


def from_square(box: np.ndarray, framing: Framing, shape: tuple[int, int], size: int) -> np.ndarray:
    """Bring a box from the square that a network sees back to the picture, clipped to it; see `to_square`."""
    return np.clip(_rescaled(box, framing, shape, size, inverse=True), 0, 1)


def _rescaled(box: np.ndarray, framing: Framing, shape: tuple[int, int], size: int, inverse: bool) -> np.ndarray:
    height, width = shape
    left, top, right, bottom = framing.box
    # Shares of the picture → pixels of the picture → pixels of the square → shares of the square, one axis each.
    scale = np.array([framing.inner[0] / (right - left), framing.inner[1] / (bottom - top)])
    padding = np.array([(size - framing.inner[0]) // 2, (size - framing.inner[1]) // 2])
    whole, origin = np.array([width, height]), np.array([left, top])
    corners = np.asarray(box, float).reshape(2, 2)
    if inverse:
        return (((corners * size - padding) / scale + origin) / whole).reshape(4)
    return (((corners * whole - origin) * scale + padding) / size).reshape(4)
