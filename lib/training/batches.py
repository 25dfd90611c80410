"""Prepared pictures → shuffled and augmented batches for `fit`, on any Keras backend.

A batch depends only on seed, epoch and position. A training that resumes at epoch n therefore sees the same epoch n,
to the last pixel.
"""

import math

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


class ConcatArrays:
    """Several arrays of pictures, indexed as one but not copied: a memory-mapped array stays on disk.

    Args:
        *arrays: `uint8 (n, height, width, 3)` each, all of the same height and width.
    """

    def __init__(self, *arrays: np.ndarray):
        self.arrays = arrays
        self.ends = np.cumsum([len(array) for array in arrays])

    def __len__(self) -> int:
        """Count the pictures."""
        return int(self.ends[-1])

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Return the pictures at `rows`, `int (m,)`; the second array is numbered on from the first."""
        pictures = np.empty((len(rows), *self.arrays[0].shape[1:]), self.arrays[0].dtype)
        array_of_row = np.searchsorted(self.ends, rows, side="right")
        for number, array in enumerate(self.arrays):
            here = array_of_row == number
            pictures[here] = array[rows[here] - (self.ends[number] - len(array))]
        return pictures


class Batches(keras.utils.PyDataset):
    """Pictures and labels in batches, from an array that may be memory-mapped.

    Args:
        images: `uint8 (n, height, width, 3)`, RGB.
        labels: `int (n,)`, 0 to num_characters - 1.
        rows: Indices of the pictures to use, in order; all of them by default.
        num_characters: Number of labels.
        batch_size: Pictures in a batch; the last batch of an epoch may be smaller.
        seed: Seed of shuffling and augmentation.
        shuffle: Whether to draw a new order for each epoch.
        augmentation: The recipe to augment pictures with; None leaves them unchanged.
        progressive_size: Height and width of the pictures in the first epochs, pixels.
        progressive_epochs: Number of these epochs. Small pictures cost a fraction of the time.

    Raises:
        ValueError: There are no pictures, or not as many labels as pictures.

    Use `fit(..., shuffle=False)` with a callback that calls `begin`. Keras would shuffle with Python's global random
    state, which a checkpoint does not restore, and it calls `on_epoch_end` once before the first epoch.

        keras.callbacks.LambdaCallback(on_epoch_begin=train.begin)
    """

    def __init__(
        self,
        images: np.ndarray | ConcatArrays,
        labels: np.ndarray,
        rows: np.ndarray | None = None,
        *,
        num_characters: int,
        batch_size: int = 32,
        seed: int = 0,
        shuffle: bool = False,
        augmentation: Recipe | None = None,
        progressive_size: int = 0,
        progressive_epochs: int = 0,
    ):
        super().__init__(workers=WORKERS)
        self.images = images
        self.labels = np.asarray(labels, dtype="int64")
        self.rows = np.arange(len(images)) if rows is None else np.asarray(rows, dtype="int64")
        self.num_characters = num_characters
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.augmentation = augmentation
        self.progressive_size = progressive_size
        self.progressive_epochs = progressive_epochs
        if not len(self.rows):
            raise ValueError("Expected at least one picture. Received: none")
        if len(images) != len(self.labels):
            raise ValueError(f"Expected {len(images)} labels, one per picture. Received: {len(self.labels)} labels")
        self.begin(0)

    def __len__(self) -> int:
        """Count the batches of an epoch."""
        return math.ceil(len(self.rows) / self.batch_size)

    def __getitem__(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        """Make one batch of the current epoch.

        Args:
            position: 0 to `len(self) - 1`.

        Returns:
            Pictures, `uint8 (batch_size, height, width, 3)`, and one-hot labels,
            `float32 (batch_size, num_characters)`.
        """
        start = position * self.batch_size
        rows = self.rows[self.order[start : start + self.batch_size]]
        pictures = self.images[rows]
        if self.augmentation is not None:
            # The position is part of the seed: threads may make the batches in any order.
            rng = np.random.default_rng((self.seed, self.epoch, position))
            pictures = np.stack([augment(picture, self.augmentation, rng) for picture in pictures])
        if self.epoch < self.progressive_epochs:
            square = (self.progressive_size, self.progressive_size)
            pictures = np.stack([cv2.resize(picture, square, interpolation=cv2.INTER_AREA) for picture in pictures])
        return pictures, np.eye(self.num_characters, dtype="float32")[self.labels[rows]]

    def begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start an epoch, counted from 0, and draw its order; `logs` is what Keras passes to callbacks, unused."""
        self.epoch = epoch
        in_order = np.arange(len(self.rows))
        self.order = np.random.default_rng((self.seed, epoch)).permutation(in_order) if self.shuffle else in_order


def for_training(data: Dataset, recipe: Recipe) -> Batches:
    """Make the training batches of a recipe: the training split, and the recipe's drawings if it has any.

    Args:
        data: Prepared pictures.
        recipe: Sets the number of drawings, the augmentation, the batch size and the sizes of the pictures.

    Returns:
        Shuffled and augmented batches.
    """
    images, labels, rows = with_drawings(data, recipe)
    return Batches(
        images,
        labels,
        rows,
        num_characters=len(data.characters),
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        shuffle=True,
        augmentation=recipe,
        progressive_size=recipe.progressive_size,
        progressive_epochs=progressive_epochs(recipe),
    )


def with_drawings(data: Dataset, recipe: Recipe) -> tuple[ConcatArrays, np.ndarray, np.ndarray]:
    """Add the drawings of a recipe to the prepared pictures.

    Returns:
        All pictures, the label of each, `int64 (n,)`, and the indices of those to train on.
    """
    drawn, drawn_labels = sample.draw_training_pictures(data.characters, recipe.drawings_per_character, recipe.seed)
    size, resize_mode = data.preparation.picture_size, data.preparation.resize_mode
    squares = np.array([pictures.resize(picture, size, resize_mode) for picture in drawn], dtype="uint8")
    return (
        ConcatArrays(data.images, squares.reshape(-1, size, size, 3)),
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


def for_validation(data: Dataset, recipe: Recipe) -> Batches:
    """Make the batches that select the best epoch: the validation split, in order and without augmentation."""
    return Batches(
        data.images,
        data.labels,
        data.rows("validation"),
        num_characters=len(data.characters),
        batch_size=VALIDATION_BATCH,
        progressive_size=recipe.progressive_size,
        progressive_epochs=progressive_epochs(recipe),
    )


def progressive_epochs(recipe: Recipe) -> int:
    """Count the epochs on small pictures, which come first (progressive resizing)."""
    return round(recipe.progressive_fraction * recipe.epochs)
