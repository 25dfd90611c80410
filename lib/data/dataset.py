"""Prepared pictures: the arrays, labels and splits that `manifest.prepare` wrote."""

import dataclasses
import functools
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib import records
from lib.data.preparation import FREQUENT, IMAGES, MANIFEST, NEAR_DUPLICATES, SETTINGS, TEST_SET, Preparation
from lib.errors import UserError

SPLIT_FRACTIONS = {"train": 0.70, "validation": 0.15, "test": 0.15}
UNREADABLE = "unreadable"
TWO_LABELS = "same picture under two labels"
EXACT_COPY = "exact copy"
TOO_FEW = "too few pictures of the character"
IN_TEST_SET = "matches the archive's test set"
REVIEWED = "excluded by a reviewer"
NOT_DRAWN = "not drawn"
REASONS = (UNREADABLE, REVIEWED, TWO_LABELS, EXACT_COPY, TOO_FEW, IN_TEST_SET, NOT_DRAWN)
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
# In a manifest that was made with corrections (`lib.data.corrections`), and only there.
CORRECTION_COLUMNS = {"label_before": str, "verdict": str, "second_character": str, "split_before": str}


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Prepared pictures with their labels and splits.

    Attributes:
        images: Memory-mapped and read-only, `uint8 (num_images, picture_size, picture_size, 3)`, RGB.
        table: The manifest, one row for each file of the source; after a split that is `resampled`, one for each time
            that it was drawn.
        preparation: The settings of the preparation.
        manifest_sha256: Digest of the manifest, 64 hexadecimal digits.
    """

    images: np.ndarray
    table: pd.DataFrame
    preparation: Preparation
    manifest_sha256: str

    @functools.cached_property
    def characters(self) -> list[str]:
        """The characters in label order, which is alphabetical."""
        return characters(self.table)

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """The label of each row of `images`, `int64 (num_images,)`: a position in `characters`, -1 if in no split."""
        return self._labels(self.table.character, self.table.split != "")

    @functools.cached_property
    def second_labels(self) -> np.ndarray:
        """The label of a second known character that a reviewer saw, `int64 (num_images,)`; -1 for none."""
        second = self.table.get("second_character", self.table.character)
        is_other = (second != self.table.character) & second.isin(self.characters)
        return self._labels(second, is_other & (self.table.split != ""))

    def _labels(self, names: pd.Series, used: pd.Series) -> np.ndarray:
        by_image = np.full(len(self.images), -1)
        by_image[self.table.image[used]] = np.searchsorted(self.characters, names[used])
        return by_image

    def rows(self, split: str) -> np.ndarray:
        """Return the rows of `images` that are in a split, `int64 (n,)`, in the order of the table."""
        return self.table.image[self.table.split == split].to_numpy()

    def groups(self, split: str) -> np.ndarray:
        """Return the near-duplicate group of each picture of a split, `int64 (n,)`, in the order of `rows`."""
        return self.table.group[self.table.split == split].to_numpy()


def load(processed: Path, expected_sha256: str | None = None) -> Dataset:
    """Open the pictures in a folder that `manifest.prepare` wrote.

    `expected_sha256` is the digest of the manifest that a run was trained on, if there is one.

    Raises:
        UserError: A file is missing or damaged, the files do not belong together, or the digest is another one.
    """
    digest = records.file_sha256(_verified(processed / MANIFEST))
    if expected_sha256 not in (None, digest):
        raise UserError(
            f"The pictures in {processed} were prepared again since the run was trained. Train again with `make train`."
        )
    path = processed / SETTINGS
    values = records.read_record(path, missing=str(_missing(path)))
    values.pop("files", None)
    try:
        preparation = Preparation.check(values)
    except UserError as problem:
        raise _damaged(path, str(problem)) from None
    images = np.load(_verified(processed / IMAGES), mmap_mode="r")
    return Dataset(images, read_manifest(processed / MANIFEST), preparation, digest)


def for_refit(data: Dataset) -> Dataset:
    """Move the frames of all splits to `train`. The archive's own test set, where there is one, becomes `test`."""
    splits = dict.fromkeys(SPLIT_FRACTIONS, "train") | {TEST_SET: "test"}
    return dataclasses.replace(data, table=data.table.replace({"split": splits}))


def as_trained(data: Dataset, record: dict[str, Any]) -> Dataset:
    """Give the splits of the run of a record: those of `for_refit` where it was trained once more on all frames.

    Raises:
        UserError: The network has seen all pictures.
    """
    if "refit_of" not in record:
        return data
    data = for_refit(data)
    if not len(data.rows("test")):
        raise UserError(
            f"{record['name']} was trained once more on all frames, and there are no other pictures to score it on. "
            "Its scores are those of the run that it repeats."
        )
    return data


def _verified(path: Path) -> Path:
    """Compare a file with its digest in `settings.json`; pixels, 200 MB for the archive, take a fifth of a second."""
    if not path.is_file():
        raise _missing(path)
    settings = path.with_name(SETTINGS)
    expected = records.read_record(settings, missing=str(_missing(settings))).get("files", {}).get(path.name)
    if expected != records.file_sha256(path):
        raise _damaged(path, "it was changed since it was written" if expected else f"{SETTINGS} has no digest of it")
    return path


def characters(table: pd.DataFrame) -> list[str]:
    """List the characters in label order, which is alphabetical."""
    return sorted(table.character[table.split.isin(list(SPLIT_FRACTIONS))].unique())


def frequent_characters(table: pd.DataFrame) -> list[str]:
    """List the characters that the study compares networks on: those with at least `FREQUENT` usable frames."""
    usable = table.exclusion_reason.isin(["", IN_TEST_SET]) & ~in_official_test(table)
    number = table.character[usable].value_counts()
    return [character for character in characters(table) if number[character] >= FREQUENT]


def counts(table: pd.DataFrame) -> pd.DataFrame:
    """Count the pictures of each character (index) in each split (columns)."""
    used = table[table.split != ""]
    found = pd.crosstab(used.character, used.split)
    columns = [name for name in (*SPLIT_FRACTIONS, TEST_SET) if name in found]
    return found.reindex(index=characters(table), columns=columns, fill_value=0)


def exclusion_counts(table: pd.DataFrame) -> pd.DataFrame:
    """Count the excluded pictures for each reason (index), separately for frames and for kaggle_test (columns)."""
    sets = np.where(in_official_test(table), TEST_SET, "frames")
    found = pd.crosstab(table.exclusion_reason, sets).rename_axis(columns=None)
    return found.reindex(index=pd.Index(REASONS, name="exclusion reason"), columns=["frames", TEST_SET], fill_value=0)


def exclusion_summary(table: pd.DataFrame) -> str:
    """Say in a line how many pictures are excluded, by reason, with the first that cannot be read."""
    found = table.exclusion_reason[table.exclusion_reason != ""].value_counts()
    unreadable = table[table.exclusion_reason == UNREADABLE]
    example = f" (first: {unreadable.path.iloc[0]}: {unreadable.detail.iloc[0]})" if len(unreadable) else ""
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in found.items())
    return f"Excluded pictures: {reasons or 'none'}{example}"


def chain_summary(table: pd.DataFrame) -> str:
    """Say which characters are mostly one group of near-duplicates; empty if none is.

    A group stays in one split, so that few pictures of such a character are tested. Small scans of digits form such
    chains: each zero is much like some others.
    """
    frames = table[table.split.isin(list(SPLIT_FRACTIONS))].groupby("character").group
    number, largest = frames.size(), frames.agg(lambda group: group.value_counts().max())
    chained = largest[2 * largest > number].sort_values(ascending=False)
    if chained.empty:
        return ""
    listed = ", ".join(f"{name} ({size:,} of {number[name]:,} pictures)" for name, size in chained.head(3).items())
    more = f" and {len(chained) - 3} more" if len(chained) > 3 else ""
    return (
        f"Mostly one group of near-duplicates, all in one split: {listed}{more}. If they are different pictures, lower "
        "NEAR_RMS and NEAR_BITS until this line is gone, or use SPLIT=random."
    )


def near_duplicates(processed: Path) -> np.ndarray:
    """Read the pairs of near-duplicates, positions in the manifest, `int64 (m, 2)`.

    Raises:
        UserError: They are missing or damaged.
    """
    return np.load(_verified(processed / NEAR_DUPLICATES), mmap_mode="r")


def train_duplicates(table: pd.DataFrame, processed: Path, split: str = "test") -> np.ndarray:
    """Find the pictures of a split, `"validation"`, `"test"` or `"kaggle_test"`, that have a near-duplicate in train.

    Returns:
        `bool (n,)`, in the order of the table; after a grouped split all false for validation and test.

    Raises:
        UserError: The pairs of near-duplicates are missing or damaged.
    """
    pairs = near_duplicates(processed)
    either = np.concatenate([pairs, pairs[:, ::-1]])
    in_train = (table.split == "train").to_numpy()
    seen = np.zeros(len(table), bool)
    seen[either[in_train[either[:, 1]], 0]] = True
    return seen[(table.split == split).to_numpy()]


def original(raw: Path, row: Any) -> bytes:
    """Read the file of a picture, a row of the manifest, below the folder of the unchanged pictures.

    Raises:
        UserError: The file is missing, or was changed since.
    """
    path = raw / row.path
    contents = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(contents).hexdigest() != row.sha256:
        raise UserError(f"{path} is missing or was changed since the source was copied. {again(raw)}")
    return contents


def again(raw: Path) -> str:
    """Say how to get an undamaged copy; the source may be gone, and the copy the only one."""
    return f"Where the source is still there, move {raw} away and run `make data`; else bring that file back."


def in_official_test(table: pd.DataFrame) -> pd.Series:
    """Mark the rows of the manifest that belong to the archive's own test set, `bool (n,)`."""
    return table.path.str.startswith(f"{TEST_SET}/")


def read_manifest(path: Path) -> pd.DataFrame:
    """Read the manifest, one row a picture; a character named `NA` keeps its name."""
    types = COLUMNS | CORRECTION_COLUMNS
    return pd.read_csv(_verified(path), dtype=types, keep_default_na=False, encoding="utf-8")


def _missing(path: Path) -> UserError:
    # make looks at the manifest alone: while there is one, it takes the pictures for prepared.
    repair = "Run `make data`" if path.name == MANIFEST else f"Delete {path.parent} and run `make data`"
    return UserError(f"{path} is missing, so the pictures are not prepared. {repair}.")


def _damaged(path: Path, why: str) -> UserError:
    return UserError(f"{path} is damaged or of another version: {why}. Delete {path.parent} and run `make data`.")
