"""Prepared pictures → shuffled, augmented batches for `fit`, whatever the Keras backend.

What a batch holds follows from (seed, epoch, position) alone. A run that was killed and goes on at epoch n sees
the same epoch n, to the last pixel.
"""

import cv2
import keras
import numpy as np

from lib.data import pictures
from lib.data.dataset import Dataset
from lib.drawing import sample
from lib.training.augmentation import augment
from lib.training.recipe import Recipe

# Threads that make batches while the network computes. With one, Keras hands the work to tf.data with its autotuner
# on, whose thread sleeps through the end of an epoch every now and then, up to ten seconds (TensorFlow 2.21).
WORKERS = 2


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


class Batches(keras.utils.PyDataset):
    """Pictures and labels in batches, from an array that may be memory-mapped.

    Args:
        images: `uint8 (n, height, width, 3)`, RGB, one array or several joined.
        labels: `int (n,)`, 0 to num_characters - 1.
        rows: Which of the pictures, in what order; all of them by default.
        num_characters: Number of labels.
        batch_size: Pictures in a batch; the last one of an epoch may hold fewer.
        seed: What shuffling and augmentation follow from.
        shuffle: Whether each epoch has its own order.
        augmentation: A recipe, which says how pictures are changed at random; None leaves them as they are.
        progressive_size: Height and width that pictures are shrunk to in the first epochs, pixels.
        progressive_epochs: How many epochs those are; a network that pools over all places learns from small pictures
            at a fraction of the cost.

    Keras shuffles the order of batches by Python's global random state, which no checkpoint brings back, and calls
    `on_epoch_end` once before the first epoch; so use `fit(..., shuffle=False)` with a callback that calls `begin`:

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
            raise ValueError("`rows` must name at least one picture. Received: none")
        if len(images) != len(self.labels):
            raise ValueError(f"`labels` must have one entry a picture, {len(images)}. Received: {len(self.labels)}")
        self.begin(0)

    def __len__(self) -> int:
        """Count the batches of an epoch."""
        return -(-len(self.rows) // self.batch_size)

    def __getitem__(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        """Make one batch of the present epoch.

        Args:
            position: 0 to `len(self) - 1`.

        Returns:
            Pictures, `uint8 (batch_size, height, width, 3)`, and labels, one-hot `float32 (batch_size,
            num_characters)`.
        """
        places = slice(position * self.batch_size, (position + 1) * self.batch_size)
        rows = self.rows[self.order[places]]
        pictures = self.images[rows]
        if self.augmentation is not None:
            # Position is in the seed: a batch is the same whichever thread makes it, and in whatever order.
            rng = np.random.default_rng((self.seed, self.epoch, position))
            pictures = np.stack([augment(picture, self.augmentation, rng) for picture in pictures])
        if self.epoch < self.progressive_epochs:
            square = (self.progressive_size, self.progressive_size)
            pictures = np.stack([cv2.resize(picture, square, interpolation=cv2.INTER_AREA) for picture in pictures])
        return pictures, np.eye(self.num_characters, dtype="float32")[self.labels[rows]]

    def begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Draw the order of an epoch, counted from 0; `logs` is there for Keras and not used."""
        self.epoch = epoch
        places = np.arange(len(self.rows))
        self.order = np.random.default_rng((self.seed, epoch)).permutation(places) if self.shuffle else places


VALIDATION_BATCH = 128


def for_training(data: Dataset, recipe: Recipe) -> Batches:
    """Make the batches that a recipe trains on: frames of the training split, with drawings where it asks for them.

    Args:
        data: Prepared pictures.
        recipe: Says how many drawings are added, how pictures are changed, and how they are batched.

    Returns:
        Shuffled and augmented batches.
    """
    drawn, drawn_labels = sample.draw_training_pictures(data.characters, recipe.drawings_per_character, recipe.seed)
    size, resize_mode = data.preparation.picture_size, data.preparation.resize_mode
    squares = np.array([pictures.resize(picture, size, resize_mode) for picture in drawn], dtype="uint8")
    return Batches(
        ConcatArrays(data.images, squares.reshape(-1, size, size, 3)),
        np.concatenate([data.labels, drawn_labels]),
        np.concatenate([data.rows("train"), len(data.images) + np.arange(len(drawn))]),
        num_characters=len(data.characters),
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        shuffle=True,
        augmentation=recipe,
        progressive_size=recipe.progressive_size,
        progressive_epochs=progressive_epochs(recipe),
    )


def for_validation(data: Dataset, recipe: Recipe) -> Batches:
    """Make the batches that the best epoch is chosen by: the validation split, unchanged."""
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
    """Count the first epochs that train on small pictures (progressive resizing)."""
    return round(recipe.progressive_fraction * recipe.epochs)
