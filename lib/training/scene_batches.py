"""Scenes in batches, for networks that also answer "nobody" and where each character is.

As in `lib.training.batches`, a batch depends only on seed, epoch and position.
"""

import math

import cv2
import keras
import numpy as np

from lib.data import boxes, clipart, pictures
from lib.data.dataset import Dataset
from lib.drawing import strangers
from lib.training import batches, scenes
from lib.training.augmentation import augment_located, cut_out
from lib.training.networks import STRIDE
from lib.training.recipe import Recipe
from lib.training.scenes import Scene

STRANGER_FRACTION = 0.25  # of the composites, whose other half is a picture of nobody
CUT_OUT_FRACTION = 0.25  # of the composites of two characters, in which one is cut out and pasted, not put beside
MIN_CUT_OUT = 0.15  # fraction of a picture that a figure must fill to be cut out
CLIPART_FRACTION = 0.5  # of the pictures of nobody; the others are made by this project
BACKGROUND_FRACTION = 0.15  # of the latter are parts of frames beside their characters; the others are drawn
DRAWN = {"pattern": 0.2, "text": 0.3, "scenery": 0.2, "figure": 0.3}
FIGURES = 600  # invented figures, drawn beforehand, since each takes 5 ms


class SceneBatches(keras.utils.PyDataset):
    """Pictures of one character, composites of two, and pictures of nobody, with the targets of both outputs.

    Args:
        images: `uint8 (n, size, size, 3)`, RGB.
        labels: `int (n,)`, 0 to num_characters - 1.
        rows: Indices of the pictures to use, `int (m,)`.
        places: The box of the character of each image, fractions of the picture, `float (n, 4)`; NaN where unknown.
        nobody: Clip-art without known characters, `uint8 (k, size, size, 3)`.
        figures: Invented figures, `uint8 (l, size, size, 3)`.
        num_characters: Number of labels.
        recipe: Sets what an epoch consists of, and the augmentation.
        training: Whether to mix and augment the pictures; else they are used in order and as they are.

    Pass it to `fit` as `Batches`, with a callback that calls `begin`.
    """

    def __init__(
        self,
        images: np.ndarray | batches.ConcatArrays,
        labels: np.ndarray,
        rows: np.ndarray,
        places: np.ndarray,
        nobody: np.ndarray,
        figures: np.ndarray,
        *,
        num_characters: int,
        recipe: Recipe,
        training: bool,
    ):
        super().__init__(workers=batches.WORKERS)
        self.images, self.labels, self.rows, self.places = images, labels, rows, places
        self.nobody, self.figures = nobody, figures
        self.num_characters, self.recipe, self.training = num_characters, recipe, training
        self.batch_size = recipe.batch_size if training else batches.VALIDATION_BATCH
        self.begin(0)

    def __len__(self) -> int:
        """Count the batches of an epoch."""
        return math.ceil(len(self.order) / self.batch_size)

    def begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start an epoch, counted from 0, and draw its pictures; -1 stands for nobody. `logs` is unused."""
        self.epoch = epoch
        self.order = self.rows
        if self.training:
            rng = np.random.default_rng((self.recipe.seed, epoch))
            known = self.rows[balanced(self.labels[self.rows], self.recipe.sampling_power, rng)]
            nobody = np.full(round(self.recipe.nobody * len(self.rows)), -1)
            self.order = rng.permutation(np.concatenate([known, nobody]))

    def __getitem__(self, position: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Make one batch of the current epoch.

        Args:
            position: 0 to `len(self) - 1`.

        Returns:
            Pictures, `uint8 (batch_size, height, width, 3)`, and the targets of `probabilities` and `class_map`; see
            `scenes.target` and `scenes.cell_target`.
        """
        rng = np.random.default_rng((self.recipe.seed, self.epoch, position))
        rows = self.order[position * self.batch_size :][: self.batch_size]
        made = [self._augmented(row, rng) if self.training else self._known(row) for row in rows]
        squares = [scene.picture for scene in made]
        if self.epoch < batches.progressive_epochs(self.recipe):
            size = (self.recipe.progressive_size, self.recipe.progressive_size)
            squares = [cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in squares]
        cells = math.ceil(len(squares[0]) / STRIDE)
        return np.stack(squares), {
            "probabilities": np.stack([scenes.target(scene, self.num_characters) for scene in made]),
            "class_map": np.stack([scenes.cell_target(scene, self.num_characters, cells) for scene in made]),
        }

    def _augmented(self, row: int, rng: np.random.Generator) -> Scene:
        recipe = self.recipe
        scene = self._known(row) if row >= 0 else Scene(self._nobody(rng))
        if row >= 0 and rng.random() < recipe.composites:
            scene = self._composite(scene, rng)
            # The figures of a composite are small already.
            less = {"shrink_and_paste": 0.0, "background_swap": 0.0, "random_erasing": recipe.random_erasing / 2}
            recipe = recipe.model_copy(update=less)
        scene = scene.moved(*augment_located(scene.picture, recipe, rng))
        if rng.random() < recipe.captions:
            scene = Scene(strangers.caption(scene.picture, rng), scene.labels, scene.boxes, scene.exact)
        return scene.clipped()

    def _known(self, row: int) -> Scene:
        return scenes.of_one(self.images[np.array([row])][0], int(self.labels[row]), self.places[row])

    def _composite(self, scene: Scene, rng: np.random.Generator) -> Scene:
        if rng.random() < STRANGER_FRACTION:
            other = Scene(self._nobody(rng))
        else:
            other = self._known(int(self.rows[rng.integers(len(self.rows))]))
        if other.labels and rng.random() < CUT_OUT_FRACTION:
            painted, figure = cut_out(other.picture, rng)
            if figure is not None and figure.mean() > MIN_CUT_OUT:
                other = Scene(painted, other.labels, other.boxes, other.exact)
                return scenes.paste_beside(scene, other, figure, rng)
        pair = [scenes.crop_around(each, rng) if each.labels else each for each in (scene, other)]
        if rng.random() < 0.5:
            pair.reverse()
        return scenes.side_by_side(*pair, rng)

    def _nobody(self, rng: np.random.Generator) -> np.ndarray:
        """Make a picture without a known character."""
        if rng.random() < CLIPART_FRACTION:
            return self.nobody[rng.integers(len(self.nobody))]
        if rng.random() < BACKGROUND_FRACTION:
            row = int(self.rows[rng.integers(len(self.rows))])
            if not np.isnan(self.places[row, 0]):
                part = scenes.beside(self.images[np.array([row])][0], self.places[row], rng)
                if part is not None:
                    return part
        size = self.images[np.array([0])].shape[1]
        kind = rng.choice(list(DRAWN), p=list(DRAWN.values()))
        if kind == "figure":
            return self.figures[rng.integers(len(self.figures))]
        if kind == "text":
            page = strangers.scenery(size, rng) if rng.random() < 0.3 else strangers.pattern(size, rng)
            return strangers.caption(page, rng)
        return (strangers.scenery if kind == "scenery" else strangers.pattern)(size, rng)


def balanced(labels: np.ndarray, power: float, rng: np.random.Generator) -> np.ndarray:
    """Draw the pictures of an epoch, rare characters more often than they are, frequent ones less.

    A character with `n` pictures is shown in proportion to `n ** power` (Mahajan et al. 2018, arXiv:1805.00932, use one
    half). The epoch keeps its length. Each picture of a rare character is shown equally often, give or take one; of a
    frequent one each epoch shows another part.

    Args:
        labels: The label of each picture, `int (n,)`.
        power: 0 to 1: 1 shows characters as frequent as they are, 0 all equally often.
        rng: Random generator.

    Returns:
        Positions in `labels`, `int64 (about n,)`, sorted by label.
    """
    known, counts = np.unique(labels, return_counts=True)
    wanted = counts.astype(float) ** power
    wanted *= counts.sum() / wanted.sum()
    drawn = []
    for label, count, number in zip(known, counts, np.rint(wanted).astype(int), strict=True):
        positions = np.flatnonzero(labels == label)
        times, remaining = divmod(max(1, number), count)
        drawn += [positions] * times + [rng.choice(positions, remaining, replace=False)]
    return np.concatenate(drawn)


def for_training(data: Dataset, recipe: Recipe) -> SceneBatches:
    """Make the training batches of a recipe; see `batches.for_training`."""
    size, resize_mode = data.preparation.picture_size, data.preparation.resize_mode
    images, labels, rows = batches.with_drawings(data, recipe)
    places = boxes.of_dataset(data)
    unknown = np.full((len(images) - len(places), 4), np.nan)
    figures = [strangers.invented_figure(np.random.default_rng((recipe.seed, number))) for number in range(FIGURES)]
    return SceneBatches(
        images,
        labels,
        rows,
        np.concatenate([places, unknown]),
        clipart.load("train", size, resize_mode),
        np.stack([pictures.resize(figure, size, resize_mode) for figure in figures]),
        num_characters=len(data.characters),
        recipe=recipe,
        training=True,
    )


def for_validation(data: Dataset, recipe: Recipe) -> SceneBatches:
    """Make the batches that select the best epoch: the validation split, in order and as it is."""
    return SceneBatches(
        data.images,
        data.labels,
        data.rows("validation"),
        boxes.of_dataset(data),
        data.images[:0],
        data.images[:0],
        num_characters=len(data.characters),
        recipe=recipe,
        training=False,
    )
