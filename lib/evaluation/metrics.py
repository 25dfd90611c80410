"""Scores of a finished run: functions of arrays, and the tables from which they can be had again.

Everywhere `actual` holds labels (int, `(num_pictures,)`, 0 to num_characters - 1), `probabilities` what the
network answered (float, `(num_pictures, num_characters)`, each row sums to one) and `characters` the names in
label order. The predicted character is the one with the highest probability, the first of equals.

A character without a picture has no recall, so the averages (macro F1, lowest F1) are over the characters
that have pictures; a wrong answer with the name of an absent character still counts against the right one's
recall.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn import metrics

from lib.characters import display_name
from lib.errors import UserError
from lib.evaluation import intervals

SUM_TOLERANCE = 0.01  # wide enough for weights of 8 bits, narrow enough to tell logits and percentages
SMALLEST_PROBABILITY = 1e-7  # Keras clips at the same value, so that log_loss here is val_loss there
SIGNIFICANT_DIGITS = 6
PROBABILITY_PREFIX = "probability_"
HISTORY_COLUMNS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy")
LOWEST_THRESHOLD, HIGHEST_THRESHOLD = 0.5, 0.95


class Predictions(NamedTuple):
    """What `predictions.csv` holds, as the functions below take it."""

    paths: list[str]
    actual: np.ndarray  # int64 (num_pictures,)
    probabilities: np.ndarray  # float64 (num_pictures, num_characters)
    characters: list[str]
    groups: np.ndarray | None  # int64 (num_pictures,), near-copies share a number


# ---------------------------------------------------------------- the tables of a run folder


def predictions_table(
    paths: Sequence[str],
    actual: np.ndarray,
    probabilities: np.ndarray,
    characters: Sequence[str],
    groups: np.ndarray | None = None,
) -> pd.DataFrame:
    """Put every answer of a run into one table, from which all scores can be computed again.

    All probabilities are kept, because log loss, thresholds and averages of several networks need them. They
    are rounded to six *significant* digits, about what float32 holds: six decimals would turn a small
    probability into 0, and one such picture can move the log loss by several nats. `predicted` and
    `probability` are taken from the rounded numbers, so that the table never contradicts itself.

    Args:
        paths: The pictures, `num_pictures` of them.
        actual: Labels, int `(num_pictures,)`.
        probabilities: float `(num_pictures, num_characters)`.
        characters: Names in label order.
        groups: Optional near-duplicate group of each picture, int `(num_pictures,)`, for the intervals.

    Returns:
        One row a picture: `path`, `character`, `predicted`, `probability` (of the predicted one), `group`
        where groups were given, then `probability_<character>` for every character in label order. Written
        with `to_csv(path, index=False)` and read by `read_predictions`, it comes back bit for bit.

    Raises:
        ValueError: Shapes that do not match, labels out of range, or rows that are no probabilities.
    """
    actual, probabilities = _checked(actual, probabilities, characters)
    if len(paths) != len(actual):
        raise ValueError(
            "`paths` must name every picture. "
            f"Expected: {len(actual)} paths, one for each label. Received: {len(paths)}"
        )
    rounded = np.char.mod(f"%.{SIGNIFICANT_DIGITS}g", probabilities.astype(np.float64)).astype(np.float64)
    names = np.asarray(characters, dtype=object)
    columns = {
        "path": list(paths),
        "character": names[actual],
        "predicted": names[rounded.argmax(axis=1)],
        "probability": rounded.max(axis=1),
    }
    if groups is not None:
        columns["group"] = _checked_groups(groups, len(actual))
    columns |= {PROBABILITY_PREFIX + name: rounded[:, label] for label, name in enumerate(characters)}
    return pd.DataFrame(columns)


def read_predictions(path: Path) -> Predictions:
    """Read what `predictions_table` made, from the file that it was written to.

    Args:
        path: `predictions.csv` of a run folder.

    Returns:
        Arrays in the order of the file's rows, characters in the order of its columns.

    Raises:
        UserError: The file cannot be read or is not a complete table of predictions.
    """
    advice = "Delete it and evaluate the run again."
    try:
        # As text: "NA" and "007" are names, and numpy reads the very number that was written.
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a table of predictions: {error}. {advice}") from error
    characters = [name.removeprefix(PROBABILITY_PREFIX) for name in table if name.startswith(PROBABILITY_PREFIX)]
    missing = [name for name in ("path", "character") if name not in table]
    if missing or not characters:
        raise UserError(
            f"{path} is not a table of predictions: expected the columns path, character and "
            f"{PROBABILITY_PREFIX}<character>, received {', '.join(table.columns[:8])}. {advice}"
        )
    actual = pd.Index(characters).get_indexer(table["character"])
    try:
        probabilities = table[[PROBABILITY_PREFIX + name for name in characters]].to_numpy(object).astype(float)
        groups = table["group"].to_numpy(object).astype(np.int64) if "group" in table else None
        actual, probabilities = _checked(actual, probabilities, characters)
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}. {advice}") from error
    return Predictions(table["path"].tolist(), actual, probabilities, characters, groups)


def read_history(path: Path) -> pd.DataFrame:
    """Read what a training took down after each epoch.

    Args:
        path: `history.csv` of a run folder.

    Returns:
        One row an epoch: `epoch`, `loss`, `accuracy`, `val_loss`, `val_accuracy` and whatever else was recorded.

    Raises:
        UserError: The file cannot be read or lacks one of these columns.
    """
    advice = "Delete the run's folder and train it again."
    try:
        history = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a training history: {error}. {advice}") from error
    missing = [name for name in HISTORY_COLUMNS if name not in history]
    if missing:
        raise UserError(
            f"{path} is not a training history: expected the columns {', '.join(HISTORY_COLUMNS)}, "
            f"received {', '.join(history.columns[:8])}. {advice}"
        )
    return history


# ---------------------------------------------------------------- scores per character


def per_character(actual: np.ndarray, probabilities: np.ndarray, characters: Sequence[str]) -> pd.DataFrame:
    """Score each character for itself.

    Args:
        actual: Labels, int `(num_pictures,)`.
        probabilities: float `(num_pictures, num_characters)`.
        characters: Names in label order.

    Returns:
        Columns `character`, `precision`, `recall`, `f1` (0 to 1; 0 where there is nothing to divide by) and
        `support` (pictures of the character), one row for every character in label order.

    Raises:
        ValueError: Shapes that do not match, labels out of range, or rows that are no probabilities.
    """
    actual, probabilities = _checked(actual, probabilities, characters)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        actual, probabilities.argmax(axis=1), labels=range(len(characters)), zero_division=0
    )
    return pd.DataFrame(
        {
            "character": list(characters),
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "support": support,
        }
    )


def classification_report(actual: np.ndarray, probabilities: np.ndarray, characters: Sequence[str]) -> pd.DataFrame:
    """Make the classification report that a person reads: every character, then the averages.

    Args:
        actual: Labels, int `(num_pictures,)`.
        probabilities: float `(num_pictures, num_characters)`.
        characters: Names in label order.

    Returns:
        The columns of `per_character` with names spelled for people, and three more rows: `accuracy` (the
        same number as precision, recall and F1, since each picture has one name and gets one answer), `macro
        average` (each character that has pictures counts the same) and `weighted average` (each picture
        counts the same).

    Raises:
        ValueError: Shapes that do not match, labels out of range, or rows that are no probabilities.
    """
    table = per_character(actual, probabilities, characters)
    scores, support = table[["precision", "recall", "f1"]], table["support"]
    accuracy = metrics.accuracy_score(actual, np.asarray(probabilities).argmax(axis=1))
    averages = {
        "accuracy": [accuracy] * 3,
        "macro average": scores[support > 0].mean().tolist(),
        "weighted average": np.average(scores, axis=0, weights=support).tolist(),
    }
    rows = [[name, *values, support.sum()] for name, values in averages.items()]
    table["character"] = table["character"].map(display_name)
    return pd.concat([table, pd.DataFrame(rows, columns=table.columns)], ignore_index=True)


def macro_f1(actual: np.ndarray, predicted: np.ndarray, num_characters: int) -> float:
    """Average the F1 of the characters that have pictures, each with the same weight.

    Args:
        actual: Labels, int `(num_pictures,)`.
        predicted: Labels, int `(num_pictures,)`.
        num_characters: How many characters there are.

    Returns:
        0 to 1.

    Raises:
        ValueError: No pictures, shapes that do not match, or labels out of range.
    """
    actual = _checked_labels("actual", actual, num_characters)
    predicted = _checked_labels("predicted", predicted, num_characters, num_pictures=len(actual))
    return float(metrics.f1_score(actual, predicted, labels=np.unique(actual), average="macro", zero_division=0))


# ---------------------------------------------------------------- the run as a whole


def summary(
    actual: np.ndarray,
    probabilities: np.ndarray,
    characters: Sequence[str],
    groups: np.ndarray | None = None,
    seed: int = 0,
    threshold: float = LOWEST_THRESHOLD,
) -> dict[str, Any]:
    """Sum up a run in numbers that `metrics.json` can hold as they are.

    Args:
        actual: Labels, int `(num_pictures,)`.
        probabilities: float `(num_pictures, num_characters)`.
        characters: Names in label order.
        groups: Near-duplicate group of each picture, `(num_pictures,)`. Without it each picture stands for
            itself, which makes the intervals too narrow where there are near-copies.
        seed: Of the bootstrap.
        threshold: Probability under which the page says that it is not sure. Have it from `threshold` on
            validation pictures; chosen on these ones it would promise too much.

    Returns:
        `accuracy`, `macro_f1`, `log_loss` (nats a picture), `test_pictures`, `characters`, `lowest_f1` and
        `lowest_character` (among those with pictures), `accuracy_interval` and `macro_f1_interval` (95 %, as
        `[low, high]`), `threshold`. Plain Python numbers, lists and text.

    Raises:
        ValueError: Shapes that do not match, labels out of range, or rows that are no probabilities.
    """
    actual, probabilities = _checked(actual, probabilities, characters)
    predicted = probabilities.argmax(axis=1)
    table = per_character(actual, probabilities, characters)
    lowest = table.loc[table.loc[table["support"] > 0, "f1"].idxmin()]
    return {
        "accuracy": float(metrics.accuracy_score(actual, predicted)),
        "macro_f1": macro_f1(actual, predicted, len(characters)),
        "log_loss": log_loss(actual, probabilities),
        "test_pictures": len(actual),
        "characters": list(characters),
        "lowest_f1": float(lowest["f1"]),
        "lowest_character": str(lowest["character"]),
        **intervals.bootstrap_intervals(actual, predicted, len(characters), groups, seed),
        "threshold": float(threshold),
    }


def log_loss(actual: np.ndarray, probabilities: np.ndarray) -> float:
    """Average minus the natural logarithm of the probability that the right character got.

    Args:
        actual: Labels, int `(num_pictures,)`.
        probabilities: float `(num_pictures, num_characters)`.

    Returns:
        Nats a picture: 0 is perfect, log(num_characters) is what guessing gets. Rows are scaled to sum to one
        and clipped at 1e-7, as Keras' cross-entropy does.

    Raises:
        ValueError: Shapes that do not match, labels out of range, or rows that are no probabilities.
    """
    actual, probabilities = _checked(actual, probabilities)
    right = probabilities[np.arange(len(actual)), actual] / probabilities.sum(axis=1, dtype=np.float64)
    return float(-np.log(np.clip(right, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)).mean())


def threshold(actual: np.ndarray, probabilities: np.ndarray, target: float = 0.95) -> float:
    """Choose the probability under which an answer should be given as "I am not sure".

    It is the smallest of 0.50, 0.51, …, 0.95 such that, of the answers with at least this probability, at
    least `target` are right; 0.95 where there is none. Not below 0.50, because there the network itself gives
    all the others together the better odds; not above 0.95, because a network trained with label smoothing
    may never be surer. Choose it on validation pictures, never on test pictures, whose score would then be
    chosen too.

    Args:
        actual: Labels, int `(num_pictures,)`.
        probabilities: float `(num_pictures, num_characters)`.
        target: Share of the sure answers that should be right, 0 to 1.

    Returns:
        0.50 to 0.95, in hundredths.

    Raises:
        ValueError: Shapes that do not match, labels out of range, rows that are no probabilities, or a
            target that is no share.
    """
    if not 0 <= target <= 1:
        raise ValueError(f"`target` must be a share. Expected: 0 to 1. Received: target={target}")
    actual, probabilities = _checked(actual, probabilities)
    right, highest = probabilities.argmax(axis=1) == actual, probabilities.max(axis=1)
    for hundredths in range(round(100 * LOWEST_THRESHOLD), round(100 * HIGHEST_THRESHOLD)):
        sure = highest >= hundredths / 100
        if sure.any() and right[sure].mean() >= target:
            return hundredths / 100
    return HIGHEST_THRESHOLD


# ---------------------------------------------------------------- how sure the scores are


def ensemble_agreement(predictions: Sequence[Predictions]) -> dict[str, Any]:
    """Say what several networks know together, and what none of them does.

    Args:
        predictions: What each network answered, to the same pictures in the same order; at least one.

    Returns:
        `networks` and `test_pictures` (counts), `mean_macro_f1` (of the answers by the mean of the networks'
        probabilities, 0 to 1), `wrong_by_all` (pictures that every network names wrongly) and `alike` (those of them
        that all give the same wrong name).

    Raises:
        ValueError: No predictions, or other pictures or characters in one of them.
    """
    if not predictions:
        raise ValueError("`predictions` must hold at least one network's answers. Received: none")
    first = predictions[0]
    if any(other.paths != first.paths or other.characters != first.characters for other in predictions):
        raise ValueError("`predictions` must be answers to the same pictures, with the same characters.")
    answers = np.stack([network.probabilities.argmax(axis=1) for network in predictions])
    wrong_by_all = (answers != first.actual).all(axis=0)
    mean = np.mean([network.probabilities for network in predictions], axis=0)
    return {
        "networks": len(predictions),
        "test_pictures": len(first.actual),
        "mean_macro_f1": macro_f1(first.actual, mean.argmax(axis=1), len(first.characters)),
        "wrong_by_all": int(wrong_by_all.sum()),
        "same_wrong_label": int((wrong_by_all & (answers == answers[0]).all(axis=0)).sum()),
    }


# ---------------------------------------------------------------- who is taken for whom


def confusion(actual: np.ndarray, predicted: np.ndarray, characters: Sequence[str]) -> pd.DataFrame:
    """Count who was taken for whom.

    Args:
        actual: Labels, int `(num_pictures,)`.
        predicted: Labels, int `(num_pictures,)`.
        characters: Names in label order.

    Returns:
        Pictures, int, index `actual` and columns `predicted`, both all characters in label order.

    Raises:
        ValueError: No pictures, shapes that do not match, or labels out of range.
    """
    actual = _checked_labels("actual", actual, len(characters))
    predicted = _checked_labels("predicted", predicted, len(characters), num_pictures=len(actual))
    counts = metrics.confusion_matrix(actual, predicted, labels=range(len(characters)))
    return pd.DataFrame(
        counts,
        index=pd.Index(characters, name="actual"),
        columns=pd.Index(characters, name="predicted"),
    )


def row_shares(confusion: pd.DataFrame) -> pd.DataFrame:
    """Divide each row of a confusion matrix by its sum.

    Args:
        confusion: Counts as `confusion` gives them.

    Returns:
        Shares of the actual character's pictures, 0 to 1; a character without pictures has a row of zeros.
    """
    return confusion.div(confusion.sum(axis=1).clip(lower=1), axis=0)


def most_confused(confusion: pd.DataFrame, top: int = 10) -> pd.DataFrame:
    """List the mistakes that were made most often.

    Args:
        confusion: Counts as `confusion` gives them.
        top: How many pairs at most.

    Returns:
        Columns `actual`, `predicted`, `pictures` and `share` (of the actual character's pictures, 0 to 1).
        Most pictures first, then the highest share, then label order. Empty where there is no mistake.
    """
    pairs = [
        (actual, predicted, confusion.iat[row, column], shares.iat[row, column])
        for shares in [row_shares(confusion)]
        for row, actual in enumerate(confusion.index)
        for column, predicted in enumerate(confusion.columns)
        if row != column and confusion.iat[row, column] > 0
    ]
    table = pd.DataFrame(pairs, columns=["actual", "predicted", "pictures", "share"])
    table = table.astype({"pictures": np.int64, "share": np.float64})
    order = ["pictures", "share"]
    return table.sort_values(order, ascending=False, kind="stable").head(top).reset_index(drop=True)


# ---------------------------------------------------------------- checks


def _checked(
    actual: np.ndarray, probabilities: np.ndarray, characters: Sequence[str] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays of the promised shape and range; without `characters` their number is the columns'."""
    probabilities = np.asarray(probabilities)
    if probabilities.ndim != 2 or (characters is not None and probabilities.shape[1] != len(characters)):
        columns = "num_characters" if characters is None else len(characters)
        raise ValueError(
            "`probabilities` must have a row for each picture and a column for each character. "
            f"Expected shape: (num_pictures, {columns}). Received: probabilities.shape={probabilities.shape}"
        )
    if characters is not None and len(set(characters)) != len(characters):
        raise ValueError(
            f"`characters` must name each label once. Expected: distinct names. Received: characters={list(characters)}"
        )
    actual = _checked_labels("actual", actual, probabilities.shape[1], num_pictures=len(probabilities))
    # Written so that NaN, which no comparison finds, fails too.
    good = (probabilities >= 0).all(axis=1) & (np.abs(probabilities.sum(axis=1, dtype=np.float64) - 1) <= SUM_TOLERANCE)
    if not good.all():
        row = int(np.argmin(good))
        raise ValueError(
            "Each row of `probabilities` must be finite, not negative, and sum to one. "
            f"Expected: a sum within {SUM_TOLERANCE} of 1. Received: row {row} is {probabilities[row]}"
        )
    return actual, probabilities


def _checked_labels(name: str, labels: np.ndarray, num_characters: int, num_pictures: int | None = None) -> np.ndarray:
    """`labels` as int64 `(num_pictures,)` within 0 to num_characters - 1."""
    labels = np.asarray(labels)
    if labels.ndim != 1 or len(labels) == 0 or num_pictures not in (None, len(labels)):
        shape = "(num_pictures,), at least one" if num_pictures is None else (num_pictures,)
        raise ValueError(
            f"`{name}` must hold one label for each picture. "
            f"Expected shape: {shape}. Received: {name}.shape={labels.shape}"
        )
    if labels.dtype.kind not in "iu":
        raise ValueError(f"`{name}` must hold labels. Expected: integers. Received: {name}.dtype={labels.dtype}")
    outside = labels[(labels < 0) | (labels >= num_characters)]
    if len(outside):
        raise ValueError(
            f"`{name}` must hold labels of the characters. "
            f"Expected: 0 to {num_characters - 1}. Received: {int(outside[0])}"
        )
    return labels.astype(np.int64)


def _checked_groups(groups: np.ndarray, num_pictures: int) -> np.ndarray:
    groups = np.asarray(groups)
    if groups.shape != (num_pictures,):
        raise ValueError(
            "`groups` must hold one group for each picture. "
            f"Expected shape: ({num_pictures},). Received: groups.shape={groups.shape}"
        )
    return groups
