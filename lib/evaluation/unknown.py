"""How well different scores tell known characters from unknown ones.

A score is high where a picture shows a known character. Whoever chooses among scores does so on validation.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.special import logsumexp, softmax
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from lib.data import leave_out
from lib.data.dataset import Dataset
from lib.evaluation import strangers
from lib.inference import class_map
from lib.training.calibration import threshold_keeping

NEIGHBOURS = 10


def pictures_of(
    every: Dataset, data: Dataset, left_out: Sequence[str], split: str, changed: int, seed: int = 0
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Collect what a network is asked about, of one split.

    Args:
        every: All prepared pictures.
        data: The same without the characters that were left out.
        left_out: These characters.
        split: `"validation"` or `"test"`.
        changed: Number of known pictures to change in each style of `strangers.STRANGER_STYLES`.
        seed: Decides which.

    Returns:
        The pictures by the name of their set, `uint8 (n, size, size, 3)`: `known`, `left out`, the kinds of
        `strangers.far`, and the styles; and the labels of the changed ones, `int (n,)`.
    """
    size, resize_mode = data.preparation.picture_size, data.preparation.resize_mode
    known = data.rows(split)
    some = np.random.default_rng(seed).permutation(known)[:changed]
    result = {"known": data.images[known], "left out": data.images[leave_out.rows(every, left_out, split)]}
    result |= strangers.far(size, resize_mode, split)
    result |= strangers.in_styles(data.images[some], some, size, resize_mode)
    return result, data.labels[some]


def scores(
    logits: np.ndarray, features: np.ndarray, known_features: np.ndarray, maps: np.ndarray, second_threshold: float
) -> pd.DataFrame:
    """Compute every score of pictures.

    Args:
        logits: Calibrated logits, `float (n, num_characters + 1)`, the last for "nobody".
        features: What the last layer gets, `float (n, d)`.
        known_features: The same of training pictures, `float (m, d)`.
        maps: Class maps, `float (n, rows, columns, num_characters)`.
        second_threshold: Score of the class map from which a character counts as shown.

    Returns:
        A column per score, a row per picture: the largest probability among the characters alone, without "nobody";
        the energy (Liu et al. 2020, arXiv:2010.03759) of the same logits; the mean cosine similarity to the nearest
        training features (Sun et al. 2022, arXiv:2204.06507, take the last of them); the probability that it is
        somebody; the largest probability beside "nobody"; and the decision of the recogniser: the sum of the
        probabilities of all characters that the class map shows.
    """
    characters, probabilities = logits[:, :-1], softmax(logits, axis=1)
    shown = [
        row[[place.label for place in class_map.find(each, first, second_threshold)]].sum()
        for row, each, first in zip(probabilities, maps, characters.argmax(axis=1), strict=True)
    ]
    return pd.DataFrame(
        {
            "largest probability, without nobody": softmax(characters, axis=1).max(axis=1),
            "energy, without nobody": logsumexp(characters, axis=1),
            f"cosine of the {NEIGHBOURS} nearest training pictures": _similarity(features, known_features),
            "probability of anybody": 1 - probabilities[:, -1],
            "largest probability": probabilities[:, :-1].max(axis=1),
            "probability of all that the map shows": shown,
        }
    )


def _similarity(features: np.ndarray, known: np.ndarray) -> np.ndarray:
    nearest = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(known)), metric="cosine").fit(known.astype(np.float32))
    return 1 - nearest.kneighbors(features.astype(np.float32))[0].mean(axis=1)


def table(
    validation: Mapping[str, pd.DataFrame], test: Mapping[str, pd.DataFrame], right: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """Compare the scores.

    Args:
        validation: Scores of each set of `pictures_of`, as from `scores`, for choosing.
        test: The same for reporting.
        right: Whether the network's most probable character is the right one, for each set that shows known characters
            in another style, `bool (n,)`.

    Returns:
        One row per score, the best on validation first: `validation_auroc`, and of test `auroc` and `fpr_at_95_tpr` of
        the unknown characters; at the threshold that keeps 97 % of the known validation pictures, the fractions of
        test that are named, and, of changed known characters rightly recognised, that are declined.
    """
    nobody = [name for name in test if name not in ("known", "left out", *right)]
    rows = []
    for score in validation["known"]:
        chosen, reported = ({name: part[score].to_numpy() for name, part in of.items()} for of in (validation, test))
        threshold = threshold_keeping(chosen["known"])
        named = {name: values >= threshold for name, values in reported.items()}
        at_95 = threshold_keeping(reported["known"], 0.95)
        rows.append(
            {
                "score": score,
                "validation_auroc": _auroc(chosen),
                "auroc": _auroc(reported),
                "fpr_at_95_tpr": (reported["left out"] >= at_95).mean(),
                "known_named": named["known"].mean(),
                "unknown_named": named["left out"].mean(),
                "strangers_named": _mean([named[name] for name in nobody]),
                "changed_declined": _mean([~named[name][is_right] for name, is_right in right.items()]),
            }
        )
    return pd.DataFrame(rows).sort_values("validation_auroc", ascending=False, kind="stable", ignore_index=True)


def _auroc(scores: Mapping[str, np.ndarray]) -> float:
    """Compute the probability that a known picture has a higher score than one left out; ties count half."""
    parts = scores["known"], scores["left out"]
    return float(roc_auc_score(np.repeat([True, False], [len(part) for part in parts]), np.concatenate(parts)))


def _mean(parts: Sequence[np.ndarray]) -> float:
    return np.concatenate(parts).mean() if parts else np.nan
