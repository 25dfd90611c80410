"""Read what `manifest.prepare` wrote: the arrays, labels and splits that the rest of the study works on."""

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pandas as pd

from lib import records
from lib.data.preparation import Preparation
from lib.errors import UserError

IMAGES = "images.npy"
NEAR_DUPLICATES = "near_duplicates.npy"
SETTINGS = "settings.json"
MANIFEST = "manifest.csv"
TEST_SET = "kaggle_test"  # the folder of the archive's own test set, and its split
SPLIT_FRACTIONS = {"train": 0.70, "validation": 0.15, "test": 0.15}
UNREADABLE = "unreadable"
TWO_LABELS = "same picture under two labels"
EXACT_COPY = "exact copy"
TOO_FEW = "too few pictures of the character"
IN_TEST_SET = "matches the archive's test set"
REASONS = (UNREADABLE, TWO_LABELS, EXACT_COPY, TOO_FEW, IN_TEST_SET)
COLUMNS = {
    "path": str,
    "character": str,
    "width": "int64",
    "height": "int64",
    "sha256": str,
    "group": "int64",
    "split": str,
    "exclusion_reason": str,
    "image": "int64",
    "detail": str,
}


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Prepared pictures with their labels and splits.

    Attributes:
        images: Memory-mapped and read-only, `uint8 (num_images, picture_size, picture_size, 3)`, RGB.
        table: The manifest, one row for each file of the source.
        preparation: The settings that the pictures were prepared with.
        manifest_sha256: Digest of the manifest, 64 hexadecimal digits.
    """

    images: np.ndarray
    table: pd.DataFrame
    preparation: Preparation
    manifest_sha256: str

    @functools.cached_property
    def characters(self) -> list[str]:
        """Characters in label order, which is alphabetical."""
        return characters(self.table)

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """Label of each row of `images`, `int64 (num_images,)`; -1 where the picture is in no split."""
        return labels(self.table, len(self.images))

    def rows(self, split: str) -> np.ndarray:
        """Give the rows of `images` that are in a split, `int64 (n,)`, in the order of the table."""
        return self.table.image[self.table.split == split].to_numpy()

    def groups(self, split: str) -> np.ndarray:
        """Give the near-duplicate group of each picture of a split, `int64 (n,)`, in the order of `rows`."""
        return self.table.group[self.table.split == split].to_numpy()


def load(processed: Path, expected_sha256: str | None = None) -> Dataset:
    """Open prepared pictures.

    Args:
        processed: A folder that `manifest.prepare` wrote.
        expected_sha256: If set, what the digest of the manifest must be, because a run was trained on it.

    Returns:
        The pictures with their labels and splits.

    Raises:
        UserError: Something is missing, damaged or inconsistent, or is not what was expected.
    """
    digest = manifest_sha256(processed)
    if expected_sha256 not in (None, digest):
        raise UserError(
            f"The pictures in {processed} were prepared again since the run was trained. Train again with `make train`."
        )
    table = read_manifest(processed / MANIFEST)
    images = _open_array(processed / IMAGES, memory_mapped=True)
    rows = np.sort(table.image[table.image >= 0].to_numpy())
    preparation = read_preparation(processed)
    size = preparation.picture_size
    if images.dtype != np.uint8 or images.shape != (len(rows), size, size, 3):
        raise _damaged(processed / IMAGES, f"it must hold {len(rows)} pictures of {size} × {size}")
    if not np.array_equal(rows, np.arange(len(rows))):
        raise _damaged(processed / MANIFEST, "its rows of images are not numbered one by one")
    return Dataset(images, table, preparation, digest)


def read_preparation(processed: Path) -> Preparation:
    """Read the settings that pictures were prepared with."""
    path = processed / SETTINGS
    values = records.read_json(path, missing=str(_missing(path)))
    try:
        return Preparation.check(values)
    except UserError as problem:
        raise _damaged(path, str(problem)) from None


def manifest_sha256(processed: Path) -> str:
    """Digest of `manifest.csv`, 64 hexadecimal digits: what a run was trained on."""
    try:
        return records.file_sha256(processed / MANIFEST)
    except FileNotFoundError:
        raise _missing(processed / MANIFEST) from None


def characters(table: pd.DataFrame) -> list[str]:
    """List the characters in label order, which is that of their names."""
    return sorted(table.character[table.split.isin(list(SPLIT_FRACTIONS))].unique())


def labels(table: pd.DataFrame, num_images: int) -> np.ndarray:
    """Give each row of the images its label.

    Args:
        table: The manifest.
        num_images: Rows of the images.

    Returns:
        `int64 (num_images,)`: the place of the character in `characters`, -1 where the picture is in no split.
    """
    used = table[table.split != ""]
    label_of = {character: label for label, character in enumerate(characters(table))}
    by_image = np.full(num_images, -1, np.int64)
    by_image[used.image.to_numpy()] = used.character.map(label_of).to_numpy(np.int64)
    return by_image


def counts(table: pd.DataFrame) -> pd.DataFrame:
    """Count pictures: index characters, columns train, validation, test and, where there is one, kaggle_test."""
    used = table[table.split != ""]
    found = pd.crosstab(used.character, used.split)
    columns = [name for name in (*SPLIT_FRACTIONS, TEST_SET) if name in found]
    return found.reindex(index=characters(table), columns=columns, fill_value=0)


def exclusion_counts(table: pd.DataFrame) -> pd.DataFrame:
    """Count what is not used: index reasons, columns frames and kaggle_test."""
    excluded = table[table.exclusion_reason != ""]
    official_test = in_official_test(excluded)
    numbers = {"frames": excluded.exclusion_reason[~official_test].value_counts()}
    numbers[TEST_SET] = excluded.exclusion_reason[official_test].value_counts()
    return pd.DataFrame(numbers).reindex(pd.Index(REASONS, name="exclusion reason")).fillna(0).astype("int64")


def train_duplicates(table: pd.DataFrame, processed: Path, split: str = "test") -> np.ndarray:
    """Say which pictures of a split have a near-copy in train.

    Args:
        table: The manifest.
        processed: The folder that it lies in.
        split: `"validation"`, `"test"` or `"kaggle_test"`.

    Returns:
        `bool`, one for each picture of the split in the order of the table; none is true for validation and test
        after a grouped split.

    Raises:
        UserError: If the pairs of near-copies are missing or damaged.
    """
    pairs = _open_array(processed / NEAR_DUPLICATES)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or (pairs.size and not 0 <= pairs.min() <= pairs.max() < len(table)):
        raise _damaged(processed / NEAR_DUPLICATES, f"it should hold pairs of places below {len(table)}")
    either = np.concatenate([pairs, pairs[:, ::-1]])
    in_train = (table.split == "train").to_numpy()
    seen = np.zeros(len(table), bool)
    seen[either[in_train[either[:, 1]], 0]] = True
    return seen[(table.split == split).to_numpy()]


def in_official_test(table: pd.DataFrame) -> pd.Series:
    """Say which rows of the manifest are pictures of the archive's own test set."""
    return table.path.str.startswith(f"{TEST_SET}/")


def read_manifest(path: Path) -> pd.DataFrame:
    """Read the manifest; an empty text stays empty, and a character named `NA` keeps its name."""
    try:
        table = pd.read_csv(path, dtype=COLUMNS, keep_default_na=False, na_values=[], encoding="utf-8")
    except FileNotFoundError:
        raise _missing(path) from None
    except (OSError, ValueError) as problem:
        raise _damaged(path, str(problem)) from None
    if list(table.columns) != list(COLUMNS):
        raise _damaged(path, f"its columns should be {', '.join(COLUMNS)}")
    return table


def _open_array(path: Path, memory_mapped: bool = False) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r" if memory_mapped else None)
    except FileNotFoundError:
        raise _missing(path) from None
    except (OSError, ValueError, EOFError) as problem:
        raise _damaged(path, str(problem)) from None


def _missing(path: Path) -> UserError:
    return UserError(f"{path} is missing, so the pictures are not prepared. Run `make data`.")


def _damaged(path: Path, why: str) -> UserError:
    return UserError(f"{path} is damaged or of another version: {why}. Delete {path.parent} and run `make data`.")
