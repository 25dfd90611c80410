"""Baselines that need no training: the most frequent character, and the nearest neighbours among training pictures."""

import cv2
import faiss
import numpy as np
import pandas as pd

from lib.data.dataset import Dataset
from lib.evaluation import metrics

SIDE = 16  # of the thumbnails that are compared, pixels: larger ones take longer and score no better
NEIGHBOURS = (1, 3, 5, 10, 20)


def baselines(data: Dataset) -> pd.DataFrame:
    """Score the baselines on the test pictures.

    Args:
        data: Prepared pictures.

    Returns:
        One row per baseline: `baseline`, `accuracy` and `macro_f1`, 0 to 1. The number of neighbours is selected on
        validation by macro F1.
    """
    train, validation, test = (data.labels[data.rows(split)] for split in ("train", "validation", "test"))
    known, *queries = (_thumbnails(data.images, data.rows(split)) for split in ("train", "validation", "test"))
    on_validation, on_test = (_neighbour_labels(known, train, vectors) for vectors in queries)
    best = max(NEIGHBOURS, key=lambda k: metrics.macro_f1(validation, vote(on_validation[:, :k])))
    answers = {
        "most frequent character": np.full(len(test), np.bincount(train).argmax()),
        f"nearest of {len(train):,} training pictures, k = {best}": vote(on_test[:, :best]),
    }
    rows = [(name, (test == found).mean(), metrics.macro_f1(test, found)) for name, found in answers.items()]
    return pd.DataFrame(rows, columns=["baseline", "accuracy", "macro_f1"])


def _thumbnails(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Shrink pictures to `SIDE` pixels and flatten them: `float32 (n, 3 * SIDE**2)`, 0 to 255."""
    small = [cv2.resize(images[row], (SIDE, SIDE), interpolation=cv2.INTER_AREA).ravel() for row in rows]
    return np.array(small, np.float32).reshape(len(rows), 3 * SIDE**2)


def _neighbour_labels(known: np.ndarray, labels: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Give the labels of the nearest known vectors by Euclidean distance, nearest first."""
    index = faiss.IndexFlatL2(known.shape[1])
    index.add(known)
    _, found = index.search(queries, min(NEIGHBOURS[-1], len(known)))
    return labels[found]


def vote(labels: np.ndarray) -> np.ndarray:
    """Give the most frequent label of each row, of equally frequent ones the nearest: int `(m, k)` to `(m,)`."""
    same = (labels[:, :, None] == labels[:, None, :]).sum(axis=2)
    return labels[np.arange(len(labels)), same.argmax(axis=1)]
