"""Some characters left out of a set of prepared pictures, to be asked about afterwards as unknown ones."""

import dataclasses

import numpy as np

from lib import records
from lib.data.dataset import SPLIT_FRACTIONS, Dataset
from lib.errors import UserError


def choose(data: Dataset, number: int, seed: int) -> list[str]:
    """Choose at most `number` characters, the most frequent first: one of each band of about equal frequency; two stay.

    Raises:
        UserError: There are fewer than three characters, or `number` is below 1.
    """
    if number < 1 or len(data.characters) < 3:
        raise UserError(
            f"At least one character is left out, not {number}, and two stay; the pictures have "
            f"{len(data.characters)}. Use pictures of at least three characters."
        )
    number = min(number, len(data.characters) - 2)
    frames = data.table.character[data.table.split.isin(list(SPLIT_FRACTIONS))]
    by_frequency = frames.value_counts().sort_index().sort_values(ascending=False, kind="stable").index
    rng = np.random.default_rng(seed)
    return [str(rng.choice(band)) for band in np.array_split(by_frequency.to_numpy(), number)]


def without(data: Dataset, left_out: list[str]) -> Dataset:
    """Take the pictures of some characters out of all splits.

    The digest is one of its own, so that no training continues that of all characters.
    """
    split = data.table.split.where(~data.table.character.isin(left_out), "")
    digest = records.digest([data.manifest_sha256, sorted(left_out)])
    return dataclasses.replace(data, table=data.table.assign(split=split), manifest_sha256=digest)


def rows(data: Dataset, left_out: list[str], split: str) -> np.ndarray:
    """Return the rows of `images` that show one of these characters, of a split of `data`: `int64 (n,)`."""
    return data.table.image[data.table.character.isin(left_out) & (data.table.split == split)].to_numpy()
