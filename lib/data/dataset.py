"""Read what `manifest.prepare` wrote: the arrays, labels and splits that the rest of the study works on."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib.data import pictures
from lib.drawing import sample
from lib.errors import UserError

IMAGES = "images.npy"
NEAR_COPIES = "near_copies.npy"
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


class ConcatArrays:
    """Arrays of pictures one after the other, without a copy of any: a memory-mapped one stays on disk.

    Args:
        *arrays: `uint8 (n, height, width, 3)` each, of one height and width.
    """

    def __init__(self, *arrays: np.ndarray):
        if len({array.shape[1:] for array in arrays}) != 1:
            raise ValueError(f"The arrays must hold pictures of one shape. Received: {[a.shape for a in arrays]}")
        self.arrays = arrays
        self.ends = np.cumsum([len(array) for array in arrays])

    def __len__(self) -> int:
        """Count the pictures."""
        return int(self.ends[-1])

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Take pictures by their places, `int (m,)`: those of the second array follow those of the first."""
        taken = np.empty((len(rows), *self.arrays[0].shape[1:]), self.arrays[0].dtype)
        which = np.searchsorted(self.ends, rows, side="right")
        for number, array in enumerate(self.arrays):
            mine = which == number
            taken[mine] = array[rows[mine] - (self.ends[number] - len(array))]
        return taken


def load(processed: Path, expected_sha256: str | None = None) -> tuple[np.ndarray, pd.DataFrame]:
    """Open what `prepare` wrote.

    Args:
        processed: The folder.
        expected_sha256: If set, what `manifest_sha256` must be, because a run was trained on it.

    Returns:
        The images, memory-mapped and read-only, `uint8 (rows, picture_size, picture_size, 3)`; and the manifest.

    Raises:
        UserError: If something is missing, damaged or does not fit together, or is not what was expected.
    """
    if expected_sha256 is not None and manifest_sha256(processed) != expected_sha256:
        raise UserError(
            f"The pictures in {processed} were prepared anew since the run was trained. Train again with `make train`."
        )
    table = _read(processed / MANIFEST)
    images = _open_array(processed / IMAGES, memory_mapped=True)
    rows = np.sort(table.image[table.image >= 0].to_numpy())
    size = settings(processed).get("picture_size")
    if images.dtype != np.uint8 or images.shape != (len(rows), size, size, 3):
        raise _damaged(processed / IMAGES, f"it should hold {len(rows)} pictures of {size} × {size}")
    if not np.array_equal(rows, np.arange(len(rows))):
        raise _damaged(processed / MANIFEST, "its rows of images are not numbered one by one")
    return images, table


def settings(processed: Path) -> dict[str, Any]:
    """Read the arguments that `prepare` was called with: picture_size, fit, min_pictures, split, seed, ..."""
    try:
        return dict(json.loads((processed / SETTINGS).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise _missing(processed / SETTINGS) from None
    except (OSError, ValueError, TypeError) as problem:
        raise _damaged(processed / SETTINGS, str(problem)) from None


def manifest_sha256(processed: Path) -> str:
    """Digest of `manifest.csv`, 64 hexadecimal digits: what a run was trained on."""
    try:
        return hashlib.sha256((processed / MANIFEST).read_bytes()).hexdigest()
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
    official_test = _in_test_set(excluded)
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
    pairs = _open_array(processed / NEAR_COPIES)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or (pairs.size and not 0 <= pairs.min() <= pairs.max() < len(table)):
        raise _damaged(processed / NEAR_COPIES, f"it should hold pairs of places below {len(table)}")
    either = np.concatenate([pairs, pairs[:, ::-1]])
    in_train = (table.split == "train").to_numpy()
    seen = np.zeros(len(table), bool)
    seen[either[in_train[either[:, 1]], 0]] = True
    return seen[(table.split == split).to_numpy()]


def _in_test_set(table: pd.DataFrame) -> pd.Series:
    return table.path.str.startswith(f"{TEST_SET}/")


def _read(path: Path) -> pd.DataFrame:
    """Read the manifest; an empty text stays one, and a character named `NA` keeps its name."""
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


def draw(
    characters: list[str], number: int, picture_size: int, resize_mode: str, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw pictures of the characters that can be drawn, none of which is in the sample data set.

    Args:
        characters: Names in label order; those that are not in `sample.CHARACTERS` are passed over.
        number: Pictures a character: every other one in a scene, every other one cut out.
        picture_size: Pixels a side.
        resize_mode: How a drawing becomes square, as in `pictures.resize`.
        seed: Decides every pixel.

    Returns:
        Pictures, `uint8 (n, picture_size, picture_size, 3)`, RGB, and their labels, `int64 (n,)`.
    """
    drawn, labels = [], []
    for label, character in enumerate(characters):
        for place in range(number if character in sample.CHARACTERS else 0):
            # Four numbers: the seeds of the sample data set have three.
            rng = np.random.default_rng([seed, sample.CHARACTERS.index(character), place, 1])
            picture = (sample.draw_cutout if place % 2 else sample.draw_picture)(character, rng)
            drawn.append(pictures.resize(picture, picture_size, resize_mode))
            labels.append(label)
    shape = (len(drawn), picture_size, picture_size, 3)
    return np.array(drawn, dtype="uint8").reshape(shape), np.array(labels, dtype="int64")
