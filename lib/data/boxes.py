"""Where the character is in the frames of the Kaggle archive, `data/kaggle_boxes.csv`, and boxes in prepared pictures.

The archive's own annotation: one box a frame, face and shoulders as a rule. A frame with two figures has one box too,
and about one box in thirty is wrong.
"""

import numpy as np
import pandas as pd

from lib import paths, records
from lib.data import pictures
from lib.data.dataset import Dataset
from lib.data.pictures import Framing

KAGGLE_BOXES = paths.DATA / "kaggle_boxes.csv"
LEAST_FRACTION = 0.9  # of a character's frames with a box that are here where they are the archive's
SHA256 = "81958cea760e6855c3d991b771ca75ae214d7c3d4f7373fab92baa51b3eff1cc"


def read(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Read the boxes of the pictures of a manifest.

    A name is not enough: the drawn sample and other people's pictures have such names too. A character's boxes are
    those of pictures that are here only where nearly all frames with a box are.

    Returns:
        For each path its box, `float64 (4,)`: left, top, right, bottom as fractions of the picture.

    Raises:
        UserError: The table is missing, damaged or another one.
    """
    boxed = pd.read_csv(records.committed(KAGGLE_BOXES, SHA256))
    here = boxed.path.isin(table.path)
    boxed = boxed[here.groupby(boxed.path.str.partition("/")[0]).transform("mean") > LEAST_FRACTION]
    return dict(zip(boxed.path, boxed[["left", "top", "right", "bottom"]].to_numpy(), strict=True))


def of_dataset(data: Dataset) -> np.ndarray:
    """Give the box of each prepared picture; only those of the Kaggle archive have boxes.

    Returns:
        `float64 (num_images, 4)`: left, top, right, bottom as fractions of the prepared picture; NaN where unknown.
    """
    by_path = read(data.table)
    found = np.full((len(data.images), 4), np.nan)
    size, resize_mode = data.preparation.picture_size, data.preparation.resize_mode
    for row in data.table[data.table.path.isin(by_path) & (data.table.image >= 0)].itertuples():
        if resize_mode == "bounded" and pictures.figure_box(data.images[row.image]) is not None:
            continue  # uniform borders were cropped, by as much as nothing recorded
        inner = pictures.inner_size((row.width, row.height), size, resize_mode)
        whole = Framing((0, 0, row.width, row.height), inner, (row.height, row.width), size)
        found[row.image] = whole.to_square(by_path[row.path])
    return found
