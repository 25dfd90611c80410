"""Prepared pictures → shuffled, augmented batches for `fit`, whatever the Keras backend.

What a batch holds follows from (seed, epoch, position) alone. A run that was killed and goes on at epoch n sees
the same epoch n, to the last pixel.
"""

import cv2
import keras
import numpy as np

from lib.data.dataset import ConcatArrays
from lib.training.augmentation import NO_AUGMENTATION, Augmentation, augment

# Threads that make batches while the network computes. With one, Keras hands the work to tf.data with its autotuner
# on, whose thread sleeps through the end of an epoch every now and then, up to ten seconds (TensorFlow 2.21).
WORKERS = 2


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
        augmentation: What happens to each picture.
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
        augmentation: Augmentation = NO_AUGMENTATION,
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
        if self.augmentation != NO_AUGMENTATION:
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
