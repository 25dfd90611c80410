"""Clip-art without known characters, `data/clipart.zip`: 1,500 public-domain pictures of Debian's openclipart-png."""

import functools
import zipfile
from collections.abc import Sequence

import numpy as np

from lib import paths, records
from lib.data import pictures

CLIPART = paths.DATA / "clipart.zip"
SHA256 = "00caf788c8f3d3a003a4b7b5abf3561e6ad88affa0a792581292ba439313cc15"
SPLIT_ENDS = {"train": 0.6, "validation": 0.8, "test": 1.0}


@functools.cache
def load(split: str, picture_size: int, resize_mode: str) -> np.ndarray:
    """Decode the clip-art of a split: `"train"`, which networks see as nobody, or one that no training uses.

    Returns:
        `uint8 (n, picture_size, picture_size, 3)`, RGB, as `pictures.decode` makes them, sorted by name.

    Raises:
        UserError: The file is missing, damaged or another one.
    """
    with zipfile.ZipFile(records.committed(CLIPART, SHA256)) as archive:
        names = sorted(archive.namelist())
        contents = [archive.read(names[number]) for number in split_by_name(names)[split]]
    return np.stack([pictures.decode(each, picture_size, resize_mode) for each in contents])


def split_by_name(names: Sequence[str]) -> dict[str, np.ndarray]:
    """Divide pictures into train, validation and test, 60/20/20, with all variants of a drawing in one of them.

    Names that differ only in a number at the end are variants of one drawing.

    Returns:
        For each split, the positions of its pictures in `names`, `int64 (n,)`.
    """
    stems = [name.rsplit(".", 1)[0].rstrip("0123456789_-") for name in names]
    drawings = sorted(set(stems))
    order = np.random.default_rng(0).permutation(len(drawings))
    rank = dict(zip((drawings[number] for number in order), np.arange(len(drawings)) / len(drawings), strict=True))
    split = np.searchsorted(list(SPLIT_ENDS.values()), [rank[stem] for stem in stems], side="right")
    return {name: np.flatnonzero(split == number) for number, name in enumerate(SPLIT_ENDS)}
