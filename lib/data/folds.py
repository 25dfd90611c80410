"""Out-of-fold answers: for every labelled frame those of a network that saw neither it nor a near-duplicate.

`lib.training.folds` computes them fold by fold; what is finished can be read at once.
"""

import dataclasses
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from lib import paths, records
from lib.data.dataset import SPLIT_FRACTIONS, Dataset
from lib.errors import UserError

FOLDS = 5
# A fold is two parts; a third part selects the best epoch, and the other seven are trained on, as in a usual split.
PARTS = 2 * FOLDS


def folder(data_name: str) -> Path:
    """Name the folder of the review of a set of pictures."""
    return paths.PROCESSED / data_name / "review"


def parts(data: Dataset) -> np.ndarray:
    """Divide the frames that have a split into `PARTS`, each with all characters and with whole groups.

    Returns:
        The part of each row of `data.table`, int `(num_rows,)`; -1 for a row without a split or of the official test.

    Raises:
        UserError: No character has as many frames as there are parts.
    """
    rows = np.flatnonzero(data.table.split.isin(list(SPLIT_FRACTIONS)))
    frames = data.table.iloc[rows]
    if (most := frames.character.value_counts().max()) < PARTS:
        raise UserError(
            f"Out-of-fold answers need at least {PARTS} pictures of a character, and no one has more than {most}. "
            "Add pictures; the random sample can be reviewed without them."
        )
    folds = StratifiedGroupKFold(PARTS, shuffle=True, random_state=data.preparation.seed)
    result = np.full(len(data.table), -1)
    for number, (_, chosen) in enumerate(folds.split(rows, frames.character, frames.group)):
        result[rows[chosen]] = number
    return result


def fold(data: Dataset, number: int) -> Dataset:
    """Give the pictures another split, in which one fold, 0 to `FOLDS` - 1, is the test split.

    The digest is one of its own, so that no training continues that of another fold.
    """
    part = parts(data)
    split = np.select(
        [part < 0, part // 2 == number, part == (2 * number + 2) % PARTS], ["", "test", "validation"], "train"
    )
    digest = _digest(data, number)
    return dataclasses.replace(data, table=data.table.assign(split=split), manifest_sha256=digest)


def _digest(data: Dataset, number: int) -> str:
    return records.digest([data.manifest_sha256, number, PARTS])


def answers_file(where: Path, data: Dataset, number: int) -> Path:
    """Name the file with the answers of a fold; of other pictures or other labels it has another name."""
    return where / f"answers-{_digest(data, number)}.npz"


def write(path: Path, rows: np.ndarray, probabilities: np.ndarray) -> None:
    """Write the answers of a fold: rows of the images, int `(n,)`, and probabilities, float `(n, num_characters)`."""
    with records.atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, name=path.stem, rows=rows, probabilities=probabilities)


def finished(where: Path, data: Dataset) -> list[Path]:
    """List the files of answers that are there."""
    return [path for path in (answers_file(where, data, number) for number in range(FOLDS)) if path.is_file()]


def read(where: Path, data: Dataset) -> tuple[np.ndarray, np.ndarray, int]:
    """Read the answers of the finished folds.

    Returns:
        Rows of the images, int `(n,)`; their probabilities, `float32 (n, num_characters)`; the number of folds.

    Raises:
        UserError: A file of answers is damaged.
    """
    found = finished(where, data)
    rows, probabilities = [np.empty(0, np.int64)], [np.empty((0, len(data.characters)), np.float32)]
    for path in found:
        try:
            with np.load(path, allow_pickle=False) as answers:
                if (name := str(answers.get("name", path.stem))) != path.stem:
                    raise ValueError(f"it was {name}")
                rows.append(answers["rows"])
                probabilities.append(answers["probabilities"].reshape(len(rows[-1]), len(data.characters)))
        except Exception as problem:  # numpy and zipfile raise many kinds for damaged bytes
            raise UserError(f"{path} is damaged: {problem}. Delete it; `make review` computes it again.") from None
    return np.concatenate(rows), np.concatenate(probabilities), len(found)
