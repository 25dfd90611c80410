"""Which labels are likely to be wrong, and how many are.

Confident learning (Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels",
J. Artif. Intell. Res. 70, 1373-1411, arXiv:1911.00068) compares labels with out-of-fold probabilities, those of a
network that was not trained on the picture. cleanlab has it too; the formula is short enough to be here.

Everywhere `actual` holds the given labels (int, `(num_pictures,)`) and `probabilities` the
out-of-fold answers (float, `(num_pictures, num_characters)`).
"""

import numpy as np
import pandas as pd
from scipy import stats

from lib.data import corrections
from lib.evaluation.metrics import Predictions

SECOND_PROBABILITY = 0.15  # of the second most probable character, in a picture that may show both


def suspects(actual: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Rank the pictures whose label is likely to be wrong, the most likely first.

    Returns:
        Positions of the pictures outside of the diagonal of the confident joint, by their margin: the probability of
        the given label minus the highest of another.
    """
    own, number = probabilities[np.arange(len(actual)), actual], probabilities.shape[1]
    # Equation 2 of the paper: a picture is confidently of a character when its probability reaches the mean that
    # pictures of this label have.
    with np.errstate(invalid="ignore"):  # a character without a picture has no mean, which nothing reaches
        reached = probabilities >= np.bincount(actual, own, number) / np.bincount(actual, minlength=number)
    # Equation 1: of several characters it is of the most probable one; where there is none it keeps its label.
    confident = np.where(reached, probabilities, -1).argmax(axis=1)
    wrong = np.flatnonzero(reached.any(axis=1) & (confident != actual))
    others = probabilities[wrong].copy()
    others[np.arange(len(wrong)), actual[wrong]] = -1
    return wrong[np.argsort(own[wrong] - others.max(axis=1), kind="stable")]


def two_characters(probabilities: np.ndarray) -> np.ndarray:
    """Rank the pictures that may show two characters, by the probability of the second.

    Returns:
        Positions of the pictures whose second probability reaches `SECOND_PROBABILITY`, the highest first.
    """
    second = np.sort(probabilities, axis=1)[:, -2]
    order = np.argsort(-second, kind="stable")
    return order[second[order] >= SECOND_PROBABILITY]


def relabelled(predictions: Predictions, reviewed: pd.DataFrame) -> tuple[Predictions, int]:
    """Give the pictures of a run the labels that people decided on, corrections as from `corrections.read`.

    Returns:
        The answers to the pictures whose corrected label is one of the run's characters, with these labels; and the
        number of pictures that were relabelled or excluded: none in a run whose pictures were prepared with these
        corrections.
    """
    verdict = reviewed.drop_duplicates("path", keep="last").set_index("path").reindex(predictions.paths)
    relabel = (verdict.verdict == corrections.RELABEL).to_numpy()
    exclude = (verdict.verdict == corrections.EXCLUDE).to_numpy()
    actual = predictions.actual.copy()
    actual[relabel] = pd.Index(predictions.characters).get_indexer(verdict.label[relabel])
    answers = predictions._replace(actual=actual).at(~exclude & (actual >= 0))
    return answers, int((exclude | (actual != predictions.actual)).sum())


def share_of_wrong(verdicts: pd.Series) -> tuple[int, float, float, float]:
    """Estimate the share of wrong labels from verdicts on a random sample, empty texts where nobody has looked yet.

    Returns:
        The number of the reviewed ones, the share of them that is relabelled or excluded, and its 95 % interval (Wilson
        1927); NaN where none is reviewed. A second character does not make a label wrong.
    """
    reviewed = verdicts[verdicts != ""]
    if reviewed.empty:
        return 0, np.nan, np.nan, np.nan
    wrong = int(reviewed.isin([corrections.RELABEL, corrections.EXCLUDE]).sum())
    interval = stats.binomtest(wrong, len(reviewed)).proportion_ci(method="wilson")
    return len(reviewed), wrong / len(reviewed), float(interval.low), float(interval.high)
