"""Batches for networks that also answer "nobody" and where each character is.

Frames with two characters have one label and one box, so a network that trains on frames alone learns to name one; a
reviewer may have named the second. A composite of two pictures has both labels. Beside a known character there may also
be a stranger: then there is one label, and the network learns that the other half of a picture need not be a second
character.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from lib.data import boxes, clipart, pictures
from lib.data.dataset import Dataset
from lib.drawing import strangers
from lib.training import batches
from lib.training.augmentation import augment, cut_out
from lib.training.networks import STRIDE
from lib.training.recipe import Recipe

STRANGER_FRACTION = 0.25  # of the composites, whose other half is a picture of nobody
CUT_OUT_FRACTION = 0.25  # of the composites of two characters, in which one is cut out and pasted, not put beside
MIN_CUT_OUT = 0.15  # fraction of a picture that a figure must fill to be cut out
CLIPART_FRACTION = 0.5  # of the pictures of nobody; the others are made by this project
BACKGROUND_FRACTION = 0.15  # of the latter are parts of frames beside their characters; the others are drawn
DRAWN = {"pattern": 0.2, "text": 0.3, "scenery": 0.2, "figure": 0.3}
FIGURES = 600  # invented figures, each drawn once, since that takes 15 ms

SOMEWHERE = -1.0  # in the target of a class map: the character is in some of these cells, and it is unknown in which

WHOLE = np.array([0.0, 0.0, 1.0, 1.0])
USUAL_PLACE = np.array([0.3, 0.0, 0.7, 1.0])  # of a character whose box is unknown
MAX_HIDDEN = 0.35  # fraction of a character's box that a pasted figure may hide
MIN_VISIBLE = 0.3  # fraction of a box inside the picture; below, the place of the character is unknown


class Character(NamedTuple):
    """A known character in a scene."""

    label: int
    box: np.ndarray  # left, top, right, bottom as fractions of the picture, `float64 (4,)`
    exact: bool  # whether the box is that of face and shoulders, or a part of the picture with the character somewhere


class Scene(NamedTuple):
    """A picture, `uint8 (size, size, 3)`, RGB, and the known characters in it."""

    picture: np.ndarray
    characters: tuple[Character, ...] = ()

    def moved(self, picture: np.ndarray, matrix: np.ndarray) -> "Scene":
        """Return the scene after a change of geometry, which `matrix` is as in `augment`."""
        return Scene(picture, tuple(each._replace(box=_transform(each.box, matrix)) for each in self.characters))

    def clipped(self) -> "Scene":
        """Return the scene without the boxes that are mostly outside of the picture.

        The labels stay, since half of a face may still be visible; its place is then unknown.
        """

        def clip(each: Character) -> Character:
            outside = each.exact and _covered(each.box, WHOLE) < MIN_VISIBLE
            return each._replace(box=WHOLE, exact=False) if outside else each

        return self._replace(characters=tuple(map(clip, self.characters)))


class SceneBatches(batches.Batches):
    """Pictures of one character, composites of two, and pictures of nobody, with the targets of both outputs.

    Args:
        *given: As for `Batches`.
        places: The box of the character of each image, fractions of the picture, `float (n, 4)`; NaN where unknown.
        seconds: The label of a second character in each image, somewhere, `int (n,)`; -1 for none.
        nobody: Clip-art without known characters, `uint8 (k, size, size, 3)`.
        figure: Gives an invented figure, `uint8 (size, size, 3)`, by a number below `FIGURES`.

    The targets are a dictionary: `probabilities`, `float32 (batch_size, num_characters + 1)`, and `class_map`,
    `float32 (batch_size, cells, cells, num_characters)`.
    """

    def __init__(
        self,
        *given,
        places: np.ndarray,
        seconds: np.ndarray,
        nobody: Sequence[np.ndarray] = (),
        figure: Callable[[int], np.ndarray] | None = None,
    ):
        self.places, self.seconds, self.nobody, self.figure = places, seconds, nobody, figure
        super().__init__(*given)
        alone = self.rows[seconds[self.rows] < 0]
        self._alone = alone if len(alone) else self.rows  # where nobody else was seen

    def _drawn(self, rng: np.random.Generator) -> np.ndarray:
        """Draw the rows of an epoch; -1 stands for nobody."""
        known = self.rows[balanced(self.labels[self.rows], self.recipe.sampling_power, rng)]
        nobody = np.full(round(self.recipe.nobody * len(self.rows)), -1)
        return rng.permutation(np.concatenate([known, nobody]))

    def _example(self, row: int, rng: np.random.Generator) -> tuple[np.ndarray, Scene]:
        # In validation a picture has one label, whoever else a reviewer saw: the score of an epoch counts one.
        scene = self._augmented(row, rng) if self.training else self._known(row)
        return scene.picture, scene

    def _targets(self, contents: Sequence[Scene], side: int) -> dict[str, np.ndarray]:
        cells = math.ceil(side / STRIDE)
        return {
            "probabilities": np.stack([target(scene, self.num_characters) for scene in contents]),
            "class_map": np.stack([cell_target(scene, self.num_characters, cells) for scene in contents]),
        }

    def _augmented(self, row: int, rng: np.random.Generator) -> Scene:
        recipe = self.recipe
        scene = self._known(row) if row >= 0 else Scene(self._nobody(rng))
        if row >= 0 and self.seconds[row] >= 0:
            scene = scene._replace(characters=(*scene.characters, Character(int(self.seconds[row]), WHOLE, False)))
        elif row >= 0 and rng.random() < recipe.composites:
            scene = self._composite(scene, rng)
            # The figures of a composite are small already.
            less = {"shrink_and_paste": 0.0, "background_swap": 0.0, "random_erasing": recipe.random_erasing / 2}
            recipe = recipe.model_copy(update=less)
        scene = scene.moved(*augment(scene.picture, recipe, rng))
        if rng.random() < recipe.captions:
            scene = scene._replace(picture=strangers.caption(scene.picture, rng))
        return scene.clipped()

    def _known(self, row: int) -> Scene:
        return of_one(self.images[row], int(self.labels[row]), self.places[row])

    def _composite(self, scene: Scene, rng: np.random.Generator) -> Scene:
        if rng.random() < STRANGER_FRACTION:
            other = Scene(self._nobody(rng))
        else:
            other = self._known(self._alone[rng.integers(len(self._alone))])
        if other.characters and rng.random() < CUT_OUT_FRACTION:
            painted, figure = cut_out(other.picture, rng)
            if figure is not None and figure.mean() > MIN_CUT_OUT:
                return paste_beside(scene, other._replace(picture=painted), figure, rng)
        pair = [crop_around(each, rng) if each.characters else each for each in (scene, other)]
        if rng.random() < 0.5:
            pair.reverse()
        return side_by_side(*pair, rng)

    def _nobody(self, rng: np.random.Generator) -> np.ndarray:
        """Make a picture without a known character."""
        if rng.random() < CLIPART_FRACTION:
            return self.nobody[rng.integers(len(self.nobody))]
        if rng.random() < BACKGROUND_FRACTION:
            row = self._alone[rng.integers(len(self._alone))]
            if self.seconds[row] < 0 and not np.isnan(self.places[row, 0]):
                part = beside(self.images[row], self.places[row], rng)
                if part is not None:
                    return part
        size = len(self.images[0])
        kind = rng.choice(list(DRAWN), p=list(DRAWN.values()))
        if kind == "figure":
            return self.figure(int(rng.integers(FIGURES)))
        if kind == "text":
            page = strangers.scenery(size, rng) if rng.random() < 0.3 else strangers.pattern(size, rng)
            return strangers.caption(page, rng)
        return (strangers.scenery if kind == "scenery" else strangers.pattern)(size, rng)


def balanced(labels: np.ndarray, power: float, rng: np.random.Generator) -> np.ndarray:
    """Draw the positions of the pictures of an epoch, rare characters more often than they are, frequent ones less.

    A character with `n` pictures is shown in proportion to `n ** power` (Mahajan et al. 2018, arXiv:1805.00932, use one
    half). The epoch keeps its length. Each picture of a rare character is shown equally often, give or take one; of a
    frequent one each epoch shows another part.
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
    images, labels, rows = batches.with_drawings(data, recipe)
    size, resize_mode = data.preparation.picture_size, data.preparation.resize_mode
    of_drawings = (0, len(images) - len(data.images))

    @functools.cache
    def figure(number: int) -> np.ndarray:
        drawing = strangers.invented_figure(np.random.default_rng((recipe.seed, number)))
        return pictures.resize(drawing, size, resize_mode)

    return SceneBatches(
        *(images, labels, rows, len(data.characters), recipe, True),
        places=np.pad(boxes.of_dataset(data), (of_drawings, (0, 0)), constant_values=np.nan),
        seconds=np.pad(data.second_labels, of_drawings, constant_values=-1),
        nobody=clipart.load("train", size, resize_mode),
        figure=figure,
    )


def for_validation(data: Dataset, recipe: Recipe) -> SceneBatches:
    """Make the batches that select the best epoch: the validation split, in order and as it is."""
    given = (data.images, data.labels, data.rows("validation"), len(data.characters), recipe, False)
    return SceneBatches(*given, places=boxes.of_dataset(data), seconds=data.second_labels)


# ---------------------------------------------------------------- composites


def of_one(picture: np.ndarray, label: int, box: np.ndarray) -> Scene:
    """Make the scene of a picture with one character; `box` is NaN where its place is unknown."""
    known = not np.isnan(box[0])
    return Scene(picture, (Character(label, box if known else WHOLE, known),))


def crop_around(scene: Scene, rng: np.random.Generator) -> Scene:
    """Crop to a part, about half as wide as high, that contains the first character; it is stretched to the old size.

    Where the place of the character is unknown, the middle is kept.
    """
    size = len(scene.picture)
    left, top, right, bottom = _place(scene, np.array([0.2, 0.05, 0.8, 1.0]))
    if right - left < 0.1 or bottom - top < 0.1:
        return scene
    height = rng.uniform(bottom - top, 1.0)
    width = min(1.0, max(right - left, height / 2 * rng.uniform(0.9, 1.3)))
    # Rounding can put the lowest start above the highest.
    low_x, low_y = max(0.0, right - width), max(0.0, bottom - height)
    start_x = rng.uniform(low_x, max(low_x, min(left, 1 - width)))
    start_y = rng.uniform(low_y, max(low_y, min(top, 1 - height)))
    x, y = math.floor(start_x * size), math.floor(start_y * size)
    w, h = min(size, math.ceil((start_x + width) * size)) - x, min(size, math.ceil((start_y + height) * size)) - y
    part = cv2.resize(scene.picture[y : y + h, x : x + w], (size, size), interpolation=cv2.INTER_LINEAR)
    return scene.moved(part, np.array([[size / w, 0, -x / w], [0, size / h, -y / h]]))


def side_by_side(first: Scene, second: Scene, rng: np.random.Generator) -> Scene:
    """Put two scenes beside each other, or at times one above the other, like two frames in one picture."""
    size = len(first.picture)
    fraction = rng.uniform(0.38, 0.62)
    stacked = rng.random() < 0.15
    if stacked:
        first, second = _transposed(first), _transposed(second)
    height = round(size * rng.uniform(0.6, 1.0))
    top = round((size - height) * rng.uniform(0.3, 0.7))
    border = round(size * fraction)
    page = np.empty_like(first.picture, order="C")
    parts = []
    for scene, left, width in ((first, 0, border), (second, border, size - border)):
        small = cv2.resize(np.ascontiguousarray(scene.picture), (width, height), interpolation=cv2.INTER_AREA)
        page[:, left : left + width] = cv2.copyMakeBorder(small, top, size - height - top, 0, 0, cv2.BORDER_REPLICATE)
        parts.append(scene.moved(page, np.array([[width / size, 0, left / size], [0, height / size, top / size]])))
    if rng.random() < 0.3 and height < size:  # on paper
        page[:top] = page[top + height :] = 255 if rng.random() < 0.5 else int(rng.integers(0, 256))
    joined = _joined(*parts)
    return _transposed(joined) if stacked else joined


def paste_beside(scene: Scene, other: Scene, mask: np.ndarray, rng: np.random.Generator) -> Scene:
    """Cut a figure out of another scene and paste it into this one, where it hides little of the character there.

    `mask`, `uint8 (size, size)`, is 1 where the figure is and else 0; not all of it is 0. Each scene has at most one
    character, and both have one size. Where there is no place for the figure, the scene itself is returned.
    """
    size = len(scene.picture)
    x, y, cut_width, cut_height = cv2.boundingRect(mask)
    scale = rng.uniform(0.4, 0.75) * size / max(cut_width, cut_height)
    width, height = (max(8, min(size, round(n * scale))) for n in (cut_width, cut_height))
    occupied = _place(scene, USUAL_PLACE)
    corners = [(int(rng.integers(0, size - width + 1)), int(rng.integers(0, size - height + 1))) for _ in range(6)]
    hidden = [_covered(occupied, np.array([x, y, x + width, y + height]) / size) for x, y in corners]
    if min(hidden) >= MAX_HIDDEN:
        return scene
    left, top = corners[int(np.argmin(hidden))]
    part = (slice(y, y + cut_height), slice(x, x + cut_width))
    figure = cv2.resize(np.ascontiguousarray(other.picture[part]), (width, height), interpolation=cv2.INTER_AREA)
    alpha = cv2.resize(mask[part].astype("float32"), (width, height), interpolation=cv2.INTER_AREA)[:, :, None]
    page = scene.picture.copy()
    place = page[top : top + height, left : left + width]
    place[:] = np.rint(alpha * figure + (1 - alpha) * place)
    scale_x, scale_y = width / cut_width, height / cut_height
    matrix = np.array([[scale_x, 0, (left - x * scale_x) / size], [0, scale_y, (top - y * scale_y) / size]])
    return _joined(scene._replace(picture=page), other.moved(page, matrix))


def beside(picture: np.ndarray, box: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """Crop a frame to a part that its character is not in, enlarged to the size of the frame.

    None where the character's box, in fractions of the picture, leaves less than a third of the side.
    """
    size = len(picture)
    left, top, right, _ = np.clip(box, 0, 1)
    # Not below the box, which ends at the shoulders: the body is there.
    rooms = [(0.0, 0.0, left, 1.0), (right, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0, top)]
    rooms = [room for room in rooms if min(room[2] - room[0], room[3] - room[1]) >= 0.33]
    if not rooms:
        return None
    x0, y0, x1, y1 = rooms[rng.integers(len(rooms))]
    side = rng.uniform(0.33, min(x1 - x0, y1 - y0))
    x, y = round(rng.uniform(x0, x1 - side) * size), round(rng.uniform(y0, y1 - side) * size)
    part = picture[y : y + max(8, round(side * size)), x : x + max(8, round(side * size))]
    return cv2.resize(part, (size, size), interpolation=cv2.INTER_LINEAR)


# ---------------------------------------------------------------- targets


def target(scene: Scene, num_characters: int) -> np.ndarray:
    """Divide the probability among the characters in a scene; the output after the last character is "nobody"."""
    probabilities = np.zeros(num_characters + 1, "float32")
    labels = [each.label for each in scene.characters] or [num_characters]
    probabilities[labels] = 1 / len(labels)
    return probabilities


def cell_target(scene: Scene, num_characters: int, cells: int) -> np.ndarray:
    """Give the class map that a network should answer, `float32 (cells, cells, num_characters)`.

    The fraction of the cell that the character's box covers, 0 to 1; `SOMEWHERE` in all cells in which a character
    without an exact box may be.
    """
    fractions = np.zeros((cells, cells, num_characters), "float32")
    edges = np.arange(cells + 1) / cells
    for label, box, exact in scene.characters:
        left, top, right, bottom = np.clip(box, 0, 1)
        in_x = np.clip(np.minimum(edges[1:], right) - np.maximum(edges[:-1], left), 0, None) * cells
        in_y = np.clip(np.minimum(edges[1:], bottom) - np.maximum(edges[:-1], top), 0, None) * cells
        covered = np.outer(in_y, in_x)
        fractions[:, :, label] = covered if exact else np.where(covered > 0.5, SOMEWHERE, 0)
    return fractions


# ---------------------------------------------------------------- boxes


def _transform(box: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Give the box around a moved one, which may extend out of the picture.

    A rotation enlarges it by a quarter of what its corners would need, since figures do not fill the corners of their
    boxes.
    """
    left, top, right, bottom = box
    centre = matrix @ ((left + right) / 2, (top + bottom) / 2, 1)
    half = np.array([right - left, bottom - top]) / 2
    of_corners = np.abs(matrix[:, :2]) @ half
    of_ellipse = np.hypot(matrix[:, 0] * half[0], matrix[:, 1] * half[1])
    extent = of_ellipse + (of_corners - of_ellipse) / 4
    return np.concatenate([centre - extent, centre + extent])


def _joined(first: Scene, second: Scene) -> Scene:
    """Join the characters of two scenes of one picture. One that is in both counts once, in either of the places."""
    found = {each.label: each for each in first.characters}
    for each in second.characters:
        if each.label in found:
            box = found[each.label].box
            around = np.concatenate([np.minimum(box, each.box)[:2], np.maximum(box, each.box)[2:]])
            each = Character(each.label, around, exact=False)
        found[each.label] = each
    return first._replace(characters=tuple(found.values()))


def _place(scene: Scene, otherwise: np.ndarray) -> np.ndarray:
    """Return the part of the first character's box that is inside the picture, if it is known."""
    return np.clip(scene.characters[0].box, 0, 1) if scene.characters and scene.characters[0].exact else otherwise


def _transposed(scene: Scene) -> Scene:
    """Swap rows and columns."""
    swapped = tuple(each._replace(box=each.box[[1, 0, 3, 2]]) for each in scene.characters)
    return Scene(np.ascontiguousarray(scene.picture.transpose(1, 0, 2)), swapped)


def _covered(box: np.ndarray, by: np.ndarray) -> float:
    """Compute the fraction of a box that another one covers."""
    shared = np.minimum(box[2:], by[2:]) - np.maximum(box[:2], by[:2])
    return float(np.prod(np.maximum(shared, 0)) / max(np.prod(np.maximum(box[2:] - box[:2], 0)), 1e-9))
