"""Prepared pictures → shuffled and augmented batches for `fit`, on any Keras backend.

A batch depends only on seed, epoch and position. A training that resumes at epoch n therefore sees the same epoch n,
to the last pixel.
"""

import math
from collections.abc import Sequence
from typing import Any

import cv2
import keras
import numpy as np

from lib import machine
from lib.data import pictures
from lib.data.dataset import Dataset
from lib.drawing import sample
from lib.training.augmentation import augment
from lib.training.recipe import Recipe

# Threads that make batches while the network computes. With one, Keras uses tf.data with its autotuner, whose thread
# sometimes sleeps past the end of an epoch, by up to ten seconds (TensorFlow 2.21).
WORKERS = max(2, machine.cores())
VALIDATION_BATCH = 128  # no gradients are kept, so more pictures fit than in training


class Batches(keras.utils.PyDataset):
    """Pictures and labels in batches.

    Args:
        images: `uint8 (height, width, 3)` each, RGB, all of one size: an array, which may be memory-mapped, or a list.
        labels: `int (n,)`, 0 to `num_characters` - 1.
        rows: Indices of the pictures to use, `int (m,)`.
        recipe: Sets the seed, the sizes of batches and pictures, and the augmentation.
        training: Whether to shuffle and augment; else the pictures are used in order and as they are.

    Use `fit(..., shuffle=False)` with a callback that calls `begin`. Keras would shuffle with Python's global random
    state, which a checkpoint does not restore, and it calls `on_epoch_end` once before the first epoch.

        keras.callbacks.LambdaCallback(on_epoch_begin=train.begin)
    """

    def __init__(
        self,
        images: np.ndarray | Sequence[np.ndarray],
        labels: np.ndarray,
        rows: np.ndarray,
        num_characters: int,
        recipe: Recipe,
        training: bool,
    ):
        super().__init__(workers=WORKERS)
        self.images, self.labels, self.rows = images, labels, rows
        self.num_characters, self.recipe, self.training = num_characters, recipe, training
        self.batch_size = recipe.batch_size if training else VALIDATION_BATCH
        self.begin(0)

    def __len__(self) -> int:
        """Count the batches of an epoch."""
        return math.ceil(len(self.order) / self.batch_size)

    def begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start an epoch, counted from 0, and draw its order; `logs` is what Keras passes to callbacks, unused."""
        self.epoch = epoch
        self.order = self._drawn(np.random.default_rng((self.recipe.seed, epoch))) if self.training else self.rows

    def __getitem__(self, position: int) -> tuple[np.ndarray, Any]:
        """Make the batch at a position, 0 to `len(self) - 1`, of the current epoch; the last one may be smaller.

        Returns:
            Pictures, `uint8 (batch_size, height, width, 3)`, and one-hot labels,
            `float32 (batch_size, num_characters)`.
        """
        # The position is part of the seed: threads may make the batches in any order.
        rng = np.random.default_rng((self.recipe.seed, self.epoch, position))
        rows = self.order[position * self.batch_size :][: self.batch_size]
        shown, contents = zip(*(self._example(row, rng) for row in rows), strict=True)
        if self.epoch < progressive_epochs(self.recipe):
            side = min(self.recipe.progressive_size, len(shown[0]))
            shown = [cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA) for picture in shown]
        return np.stack(shown), self._targets(contents, len(shown[0]))

    def _drawn(self, rng: np.random.Generator) -> np.ndarray:
        """Draw the rows of an epoch."""
        return rng.permutation(self.rows)

    def _example(self, row: int, rng: np.random.Generator) -> tuple[np.ndarray, Any]:
        """Make a picture, and what `_targets` must know of it."""
        picture = self.images[row]
        return augment(picture, self.recipe, rng)[0] if self.training else picture, self.labels[row]

    def _targets(self, contents: Sequence, side: int) -> Any:
        """Give the targets of a batch, whose pictures are `side` pixels wide."""
        return np.eye(self.num_characters, dtype="float32")[list(contents)]


def for_training(data: Dataset, recipe: Recipe) -> Batches:
    """Make the training batches of a recipe: the training split, and the recipe's drawings if it has any."""
    return Batches(*with_drawings(data, recipe), len(data.characters), recipe, training=True)


def for_validation(data: Dataset, recipe: Recipe) -> Batches:
    """Make the batches that select the best epoch: the validation split, in order and without augmentation."""
    rows = data.rows("validation")
    return Batches(data.images, data.labels, rows, len(data.characters), recipe, training=False)


def with_drawings(data: Dataset, recipe: Recipe) -> tuple[Sequence[np.ndarray], np.ndarray, np.ndarray]:
    """Add the drawings of a recipe to the prepared pictures.

    Returns:
        All pictures, which stay on disk where they are memory-mapped, the label of each, `int64 (n,)`, and the indices
        of those to train on.
    """
    drawn, drawn_labels = sample.draw_training_pictures(data.characters, recipe.drawings_per_character, recipe.seed)
    size, resize_mode = data.preparation.picture_size, data.preparation.resize_mode
    squares = [pictures.resize(picture, size, resize_mode) for picture in drawn]
    return (
        [*np.asarray(data.images), *squares],
        np.concatenate([data.labels, drawn_labels]),
        np.concatenate([training_rows(data, recipe), len(data.images) + np.arange(len(drawn))]),
    )


def training_rows(data: Dataset, recipe: Recipe) -> np.ndarray:
    """Choose the pictures to train on, `int64 (n,)`: the recipe's fraction of each character's, in order.

    Whole groups of near-duplicates are drawn, since part of a group tells a network as much as all of it; only the
    last one may be cut. With one seed a smaller fraction is part of a larger one.
    """
    rows, groups = data.rows("train"), data.groups("train")
    place = np.random.default_rng(recipe.seed).permutation(groups.max() + 1)[groups]
    used = np.zeros(len(rows), bool)
    for label in range(len(data.characters)):
        of_label = np.flatnonzero(data.labels[rows] == label)
        number = max(1, round(recipe.train_fraction * len(of_label)))
        used[of_label[np.argsort(place[of_label], kind="stable")[:number]]] = True
    return rows[used]


def progressive_epochs(recipe: Recipe) -> int:
    """Count the epochs on small pictures, which come first (progressive resizing)."""
    return round(recipe.progressive_fraction * recipe.epochs)
