"""Scores of a finished run as functions of arrays, and the tables that keep what they are computed from.

Arrays are those of `Predictions`. A character without pictures has no recall, so averages (macro F1, lowest F1) are
over the characters that have pictures. A wrong answer that names an absent character still lowers the recall of the
right one.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn import metrics

from lib import records
from lib.characters import display_name
from lib.errors import UserError
from lib.evaluation import intervals
from lib.evaluation.predictions import Predictions

SUM_TOLERANCE = 0.01  # of the probabilities of all characters, wide enough for 8-bit weights
SMALLEST_PROBABILITY = 1e-7  # as Keras clips
SIGNIFICANT_DIGITS = 6
PROBABILITY_PREFIX = "probability_"
CONFUSED_F1 = 0.8  # below, the page says that a character is sometimes confused with others
NOBODY = "nobody"  # column of the probability of no known character


# ---------------------------------------------------------------- the tables of a run folder


def predictions_table(answers: Predictions) -> pd.DataFrame:
    """Put every answer of a run into one table, from which all scores can be computed again.

    All probabilities are kept, because log loss, thresholds and ensembles need them, in six *significant* digits, about
    what float32 holds: six decimals would turn a small probability into 0, and one such picture can move the log loss
    by several nats.

    Returns:
        One row per picture: `path`, `character`, `predicted`, `probability` (of the predicted one), `group` if groups
        were given, then `probability_<character>` for every character in label order, and `nobody`, the probability of
        no known character, if the network has it. As a CSV file it is read by `read_predictions` bit for bit.
    """
    exact = np.asarray(answers.probabilities, np.float64)
    rounded = np.char.mod(f"%.{SIGNIFICANT_DIGITS}g", exact).astype(np.float64)
    names = np.asarray(answers.characters, dtype=object)
    columns = {
        "path": list(answers.paths),
        "character": names[answers.actual],
        "predicted": names[rounded.argmax(axis=1)],
        "probability": rounded.max(axis=1),
    }
    if answers.groups is not None:
        columns["group"] = answers.groups
    columns |= {PROBABILITY_PREFIX + name: rounded[:, label] for label, name in enumerate(answers.characters)}
    nobody = 1 - rounded.sum(axis=1)
    if (nobody > SUM_TOLERANCE).any():  # else a network without that answer
        columns[NOBODY] = np.clip(nobody, 0, 1).round(SIGNIFICANT_DIGITS)
    return pd.DataFrame(columns)


def read_predictions(path: Path) -> Predictions:
    """Read a table that `predictions_table` made, characters in the order of its columns.

    Raises:
        UserError: The file cannot be read as such a table.
    """
    # As text: "NA" and "007" are names, and numpy reads the very number that was written.
    table = _read_table(path, ("path", "character"), "Evaluate the run again.", dtype=str, keep_default_na=False)
    columns = [name for name in table if name.startswith(PROBABILITY_PREFIX)]
    characters = [name.removeprefix(PROBABILITY_PREFIX) for name in columns]
    try:
        probabilities = table[columns].to_numpy(object).astype(float)
        groups = table["group"].to_numpy(object).astype(np.int64) if "group" in table else None
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}. Evaluate the run again.") from error
    actual = pd.Index(characters).get_indexer(table["character"])
    return Predictions(table["path"].tolist(), actual, probabilities, characters, groups)


def read_history(path: Path) -> pd.DataFrame:
    """Read the losses and scores that a training recorded after each epoch.

    Returns:
        One row per epoch: `epoch`, `loss`, `accuracy` and whatever else was recorded.

    Raises:
        UserError: The file cannot be read or lacks one of these columns.
    """
    return _read_table(path, ("epoch", "loss", "accuracy"), "Delete the run's folder and train it again.")


def read_robustness(path: Path) -> pd.DataFrame:
    """Read the scores on corrupted pictures, as `05_robustness` writes them: `kind`, `strength` and `macro_f1`.

    Raises:
        UserError: The file cannot be read, lacks a column, or has no row of the unchanged pictures.
    """
    advice = "Run `make robustness` again."
    table = _read_table(path, ("kind", "strength", "macro_f1"), advice, keep_default_na=False)
    if not (table["kind"] == "unchanged").any():
        raise UserError(f"{path} has no score on unchanged pictures. {advice}")
    return table


def _read_table(path: Path, columns: Sequence[str], advice: str, **options: Any) -> pd.DataFrame:
    try:
        table = pd.read_csv(records.verified(path), **options)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {str(error).strip()}. {advice}") from error
    if not set(columns) <= set(table):
        received = ", ".join(table.columns[:8])
        raise UserError(f"{path} must have the columns {', '.join(columns)}. Received: {received}. {advice}")
    return table


# ---------------------------------------------------------------- scores per character


def per_character(answers: Predictions) -> pd.DataFrame:
    """Score each character, in label order.

    Returns:
        Columns `character`, `precision`, `recall`, `f1` (0 where the denominator is 0) and `support` (its pictures).
    """
    scores = metrics.precision_recall_fscore_support(
        answers.actual, answers.predicted, labels=range(len(answers.characters)), zero_division=0
    )
    return pd.DataFrame(
        zip(answers.characters, *scores, strict=True), columns=["character", "precision", "recall", "f1", "support"]
    )


def classification_report(answers: Predictions) -> pd.DataFrame:
    """Lay out the scores of every character for reading, and below them three averages.

    Returns:
        The columns of `per_character` with display names. For `accuracy` precision, recall and F1 are the same, since
        each picture has one name and gets one answer; in `macro average` each character that has pictures counts the
        same, in `weighted average` each picture.
    """
    table = per_character(answers)
    scores, support = table[["precision", "recall", "f1"]], table["support"]
    table["character"] = table["character"].map(display_name)
    for name, average in (
        ("accuracy", [(answers.actual == answers.predicted).mean()] * 3),
        ("macro average", scores[support > 0].mean()),
        ("weighted average", np.average(scores, axis=0, weights=support)),
    ):
        table.loc[len(table)] = [name, *average, support.sum()]
    return table


def macro_f1(actual: np.ndarray, predicted: np.ndarray) -> float:
    """Average the F1 of the characters that have pictures."""
    return float(metrics.f1_score(actual, predicted, labels=np.unique(actual), average="macro", zero_division=0))


# ---------------------------------------------------------------- the run as a whole


def summary(
    answers: Predictions, seed: int = 0, threshold: float = 0.5, frequent: Sequence[str] = ()
) -> dict[str, Any]:
    """Summarise a run in numbers that `metrics.json` can hold as they are.

    Args:
        answers: To the test pictures.
        seed: Seed of the bootstrap.
        threshold: Probability from which a character is named, chosen on validation pictures. Chosen on test pictures
            it would be too optimistic.
        frequent: The characters of the study, to give their scores by themselves too; empty if there are no others.
            Pictures of the others that get their names count against them, so a network that knows only these scores
            higher.

    Returns:
        Plain Python values by the keys below; intervals have 95 %, `confused` are the characters with an F1 below
        `CONFUSED_F1`. If there are characters besides the frequent ones, `frequent` has the number of those with
        pictures as `characters`, and their scores.
    """
    actual, predicted = answers.actual, answers.predicted
    table = per_character(answers)
    present = table[table["support"] > 0]
    accuracies, macro_f1s = intervals.resampled_scores(answers, seed)
    result = {
        "accuracy": float(metrics.accuracy_score(actual, predicted)),
        "macro_f1": macro_f1(actual, predicted),
        "log_loss": log_loss(actual, answers.probabilities),
        "test_pictures": len(actual),
        "characters": list(answers.characters),
        **_lowest(present),
        "accuracy_interval": intervals.percentile_interval(accuracies),
        "macro_f1_interval": intervals.percentile_interval(macro_f1s),
        "confused": present.loc[present["f1"] < CONFUSED_F1, "character"].tolist(),
        "threshold": float(threshold),
    }
    of_study = present[present["character"].isin(frequent)]
    if len(of_study) and len(frequent) < len(answers.characters):
        score = float(of_study["f1"].mean())
        result["frequent"] = {"characters": len(of_study), "macro_f1": score, **_lowest(of_study)}
    return result


def _lowest(table: pd.DataFrame) -> dict[str, Any]:
    lowest = table.loc[table["f1"].idxmin()]
    return {"lowest_f1": float(lowest["f1"]), "lowest_character": str(lowest["character"])}


def log_loss(actual: np.ndarray, probabilities: np.ndarray) -> float:
    """Compute the mean negative log-likelihood of the right characters, nats, as Keras' cross-entropy does.

    Rows are scaled to sum to one, and probabilities clipped.
    """
    right = probabilities[np.arange(len(actual)), actual] / probabilities.sum(axis=1, dtype=np.float64)
    return float(-np.log(np.clip(right, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)).mean())


def ensemble_agreement(predictions: Sequence[Predictions]) -> dict[str, Any]:
    """Compute the ensemble score and the shared errors of networks, at least one, on the same pictures in one order.

    Returns:
        `networks` and `test_pictures` (counts), `mean_macro_f1` (of the mean of the networks' probabilities), and the
        number of pictures that are `wrong_by_all` or get the `same_wrong_label` by all.
    """
    actual = predictions[0].actual
    answers = np.stack([network.predicted for network in predictions])
    wrong_by_all = (answers != actual).all(axis=0)
    mean = np.mean([network.probabilities for network in predictions], axis=0)
    return {
        "networks": len(predictions),
        "test_pictures": len(actual),
        "mean_macro_f1": macro_f1(actual, mean.argmax(axis=1)),
        "wrong_by_all": int(wrong_by_all.sum()),
        "same_wrong_label": int((wrong_by_all & (answers == answers[0]).all(axis=0)).sum()),
    }


# ---------------------------------------------------------------- confusion


def confusion(actual: np.ndarray, predicted: np.ndarray, characters: Sequence[str]) -> pd.DataFrame:
    """Count the pictures of each pair of actual (index) and predicted character (columns), in label order."""
    number = len(characters)
    # scikit-learn's rejects the empty selection of pictures that a filter can leave.
    counts = np.bincount(actual * number + predicted, minlength=number**2).reshape(number, number)
    return pd.DataFrame(counts, pd.Index(characters, name="actual"), pd.Index(characters, name="predicted"))


def most_confused(confusion: pd.DataFrame, top: int = 10) -> pd.DataFrame:
    """List the most frequent mistakes, at most `top`, among counts from `confusion`.

    Returns:
        Columns `actual`, `predicted`, `pictures` and `fraction` (of the actual character's pictures). Most pictures
        first, then the highest fraction, then label order.
    """
    fractions = confusion.div(confusion.sum(axis=1), axis=0)
    pairs = pd.DataFrame({"pictures": confusion.stack(), "fraction": fractions.stack()}).reset_index()
    mistakes = pairs.query("actual != predicted and pictures > 0")
    return mistakes.sort_values(["pictures", "fraction"], ascending=False, ignore_index=True).head(top)
