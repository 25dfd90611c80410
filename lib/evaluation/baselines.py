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
    # The labels of the nearest by Euclidean distance, nearest first.
    nearest = (faiss.knn(vectors, known, min(NEIGHBOURS[-1], len(known)))[1] for vectors in queries)
    on_validation, on_test = (train[found] for found in nearest)
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


def vote(labels: np.ndarray) -> np.ndarray:
    """Give the most frequent label of each row, of equally frequent ones the nearest: int `(m, k)` to `(m,)`."""
    same = (labels[:, :, None] == labels[:, None, :]).sum(axis=2)
    return labels[np.arange(len(labels)), same.argmax(axis=1)]
