"""Where the character is in the frames of the Kaggle archive, `data/kaggle_boxes.csv`, and boxes in prepared pictures.

The archive's own annotation: one box a frame, face and shoulders as a rule. A frame with two figures has one box too,
and about one box in thirty is wrong.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from lib import paths
from lib.data import pictures
from lib.data.dataset import Dataset
from lib.data.pictures import Framing
from lib.errors import UserError

KAGGLE_BOXES = paths.DATA / "kaggle_boxes.csv"
COLUMNS = ("left", "top", "right", "bottom")


def read(path: Path = KAGGLE_BOXES) -> dict[str, np.ndarray]:
    """Read a table of boxes.

    Args:
        path: CSV with the columns `path`, `left`, `top`, `right`, `bottom`; fractions of the picture, 0 to 1.

    Returns:
        For each path, such as `bart_simpson/pic_0001.jpg`, its box, `float64 (4,)`.

    Raises:
        UserError: The file is missing or not such a table, or a box is empty or extends out of the picture.
    """
    try:
        table = pd.read_csv(path, usecols=["path", *COLUMNS])
        values = table[list(COLUMNS)].to_numpy(float)
    except (OSError, ValueError) as problem:
        raise UserError(f"The boxes cannot be read from {path}: {problem}.") from None
    left, top, right, bottom = values.T
    valid = (left >= 0) & (top >= 0) & (right <= 1) & (bottom <= 1) & (left < right) & (top < bottom)
    if not valid.all():
        raise UserError(
            f"{path}: a box must have 0 <= left < right <= 1 and 0 <= top < bottom <= 1. "
            f"Received: {values[~valid][0].tolist()} for {table.path[~valid].iloc[0]}"
        )
    return dict(zip(table.path, values, strict=True))


def of_dataset(data: Dataset) -> np.ndarray:
    """Give the box of each prepared picture; only those of the Kaggle archive have boxes.

    Returns:
        `float64 (num_images, 4)`: left, top, right, bottom as fractions of the prepared picture; NaN where unknown.
    """
    by_path = read()
    found = np.full((len(data.images), 4), np.nan)
    size, resize_mode = data.preparation.picture_size, data.preparation.resize_mode
    for row in data.table[data.table.path.isin(by_path) & (data.table.image >= 0)].itertuples():
        if resize_mode == "bounded" and pictures.figure_box(data.images[row.image]) is not None:
            continue  # uniform borders were cropped, by as much as nothing recorded
        inner = pictures.inner_size((row.width, row.height), size, resize_mode)
        whole = Framing((0, 0, row.width, row.height), inner, (row.height, row.width), size)
        found[row.image] = whole.to_square(by_path[row.path])
    return found
