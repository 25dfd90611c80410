"""Pictures with two characters in them, made of pictures with one, and what a network is to find in each cell.

Film frames of two characters carry one name and one box, so that a network that trains on them alone learns to name
one. A composite knows both. What stands beside a known character may also be a stranger: then there is one name, and a
network learns that a second half of a picture is no second character.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from lib.training import located

# What a cell of a target holds, where it is no share of the cell that the character covers.
SOMEWHERE = -1.0  # the character is in one or more of the cells marked so, and it is not known in which
UNKNOWN = -2.0  # not known at all; the cell does not count


@dataclass(frozen=True)
class Scene:
    """A picture and who is in it.

    Attributes:
        picture: `uint8 (size, size, 3)`, RGB.
        labels: One label for each known character in it; empty for none.
        boxes: One box a label, left, top, right, bottom as shares of the picture, `float64 (4,)`.
        exact: One a label: whether the box is that of the character's face and shoulders, or only the part of the
            picture that the character is somewhere in.
    """

    picture: np.ndarray
    labels: tuple[int, ...] = ()
    boxes: tuple[np.ndarray, ...] = ()
    exact: tuple[bool, ...] = ()

    def moved(self, picture: np.ndarray, matrix: np.ndarray) -> "Scene":
        """Give the scene after a change of geometry; see `located.augment`."""
        boxes = tuple(located.transform_box(box, matrix) for box in self.boxes)
        return Scene(picture, self.labels, boxes, self.exact)


WHOLE = np.array([0.0, 0.0, 1.0, 1.0])
UPPER_MIDDLE = np.array([0.3, 0.0, 0.7, 1.0])  # where a character is as a rule
MOST_HIDDEN = 0.35  # of a character's box, by a figure that is pasted


def single(picture: np.ndarray, label: int, box: np.ndarray | None = None) -> Scene:
    """Make the scene of a picture with one character.

    Args:
        picture: `uint8 (size, size, 3)`, RGB.
        label: The character.
        box: Where it is, shares of the picture, `float64 (4,)`; None where that is not known.
    """
    return Scene(picture, (label,), (WHOLE if box is None else np.asarray(box, float),), (box is not None,))


def crop_around(scene: Scene, rng: np.random.Generator, aspect: float = 0.5) -> Scene:
    """Cut a scene to a part that keeps its characters' boxes, narrower than the whole.

    Args:
        scene: Its first character decides where to cut; where its place is not known, the middle is kept.
        rng: Where chance comes from.
        aspect: Width over height of the part, as near as the boxes allow.

    Returns:
        The part, stretched to the size of the scene.
    """
    size = len(scene.picture)
    if scene.labels and scene.exact[0]:
        left, top, right, bottom = np.clip(scene.boxes[0], 0, 1)
    else:
        left, top, right, bottom = 0.2, 0.05, 0.8, 1.0
    if right - left < 0.1 or bottom - top < 0.1:
        return scene
    height = rng.uniform(bottom - top, 1.0)
    width = min(1.0, max(right - left, aspect * height * rng.uniform(0.9, 1.3)))
    start_x = _between(rng, max(0.0, right - width), min(left, 1 - width))
    start_y = _between(rng, max(0.0, bottom - height), min(top, 1 - height))
    x, y = math.floor(start_x * size), math.floor(start_y * size)
    w, h = min(size, math.ceil((start_x + width) * size)) - x, min(size, math.ceil((start_y + height) * size)) - y
    part = cv2.resize(scene.picture[y : y + h, x : x + w], (size, size), interpolation=cv2.INTER_LINEAR)
    matrix = np.array([[size / w, 0, -x / w], [0, size / h, -y / h]])
    return scene.moved(part, matrix)


def side_by_side(first: Scene, second: Scene, rng: np.random.Generator) -> Scene:
    """Put two scenes beside one another, as two frames in one picture.

    Args:
        first: On the left, or above.
        second: On the right, or below; of the same size.
        rng: Decides the line between them, how high they are, and what is above and below.

    Returns:
        A scene of the same size with the characters of both. One that is in both counts once, on the larger side.
    """
    size = len(first.picture)
    share = rng.uniform(0.38, 0.62)
    upright = rng.random() < 0.15  # one above the other
    if upright:
        first, second = (_transposed(scene) for scene in (first, second))
    height = round(size * rng.uniform(0.6, 1.0))
    top = round((size - height) * rng.uniform(0.3, 0.7))
    split = round(size * share)
    page = np.empty_like(first.picture, order="C")
    parts = []
    for scene, left, width in ((first, 0, split), (second, split, size - split)):
        small = cv2.resize(np.ascontiguousarray(scene.picture), (width, height), interpolation=cv2.INTER_AREA)
        page[:, left : left + width] = cv2.copyMakeBorder(small, top, size - height - top, 0, 0, cv2.BORDER_REPLICATE)
        matrix = np.array([[width / size, 0, left / size], [0, height / size, top / size]])
        # What is not known exactly is at least on its own side.
        parts.append(scene.moved(page, matrix))
    if rng.random() < 0.3 and height < size:  # on paper
        page[:top], page[top + height :] = (paper := 255 if rng.random() < 0.5 else int(rng.integers(0, 256))), paper
    joined = _join(page, *parts)
    if upright:
        return _transposed(joined)
    return joined


def paste_beside(scene: Scene, other: Scene, mask: np.ndarray, rng: np.random.Generator) -> Scene:
    """Cut a figure out of one scene and paste it into another, where it hides little of whoever is there.

    Args:
        scene: Where it is pasted, with at most one character.
        other: Where it is cut out, of the same size, with at most one character.
        mask: Where the figure is in `other`, `uint8 (size, size)`, 0 or 1, somewhere 1.
        rng: Where chance comes from.

    Returns:
        The scene with the figure; the scene itself where there is no place for it.
    """
    size = len(scene.picture)
    x, y, cut_width, cut_height = cv2.boundingRect(mask)
    scale = rng.uniform(0.4, 0.75) * size / max(cut_width, cut_height)
    width, height = (max(8, min(size, round(n * scale))) for n in (cut_width, cut_height))
    taken = np.clip(scene.boxes[0], 0, 1) if scene.labels and scene.exact[0] else UPPER_MIDDLE
    best, least = None, MOST_HIDDEN
    for _ in range(6):
        left, top = int(rng.integers(0, size - width + 1)), int(rng.integers(0, size - height + 1))
        hidden = _overlap(taken, np.array([left, top, left + width, top + height]) / size) / max(_area(taken), 1e-6)
        if hidden < least:
            best, least = (left, top), hidden
    if best is None:
        return scene
    left, top = best
    part = (slice(y, y + cut_height), slice(x, x + cut_width))
    figure = cv2.resize(np.ascontiguousarray(other.picture[part]), (width, height), interpolation=cv2.INTER_AREA)
    alpha = cv2.resize(mask[part].astype("float32"), (width, height), interpolation=cv2.INTER_AREA)[:, :, None]
    page = scene.picture.copy()
    place = page[top : top + height, left : left + width]
    place[:] = np.rint(alpha * figure + (1 - alpha) * place)
    scale_x, scale_y = width / cut_width, height / cut_height
    matrix = np.array([[scale_x, 0, (left - x * scale_x) / size], [0, scale_y, (top - y * scale_y) / size]])
    return _join(page, scene, other.moved(page, matrix))


def target(scene: Scene, num_characters: int) -> np.ndarray:
    """Say whom the network is to name.

    Args:
        scene: The scene.
        num_characters: Known characters; the answer after the last of them is "nobody".

    Returns:
        `float32 (num_characters + 1,)`, adding up to 1: equal shares for all in it, 1 for nobody where none is.
    """
    shares = np.zeros(num_characters + 1, "float32")
    for label in scene.labels:
        shares[label] = 1 / len(scene.labels)
    if not scene.labels:
        shares[num_characters] = 1
    return shares


def cell_target(scene: Scene, num_characters: int, cells: int) -> np.ndarray:
    """Say what the class map is to show.

    Args:
        scene: The scene.
        num_characters: Known characters.
        cells: Cells along each side of the map.

    Returns:
        `float32 (cells, cells, num_characters)`: the share of the cell that the character's box covers, 0 to 1;
        `SOMEWHERE` in all cells of a character whose place is not known more exactly.
    """
    shares = np.zeros((cells, cells, num_characters), "float32")
    edges = np.arange(cells + 1) / cells
    for label, box, exact in zip(scene.labels, scene.boxes, scene.exact, strict=True):
        left, top, right, bottom = np.clip(box, 0, 1)
        across = np.clip(np.minimum(edges[1:], right) - np.maximum(edges[:-1], left), 0, None) * cells
        along = np.clip(np.minimum(edges[1:], bottom) - np.maximum(edges[:-1], top), 0, None) * cells
        covered = np.outer(along, across)
        if exact:
            shares[:, :, label] = np.maximum(shares[:, :, label], covered)
        else:
            shares[:, :, label] = np.where(covered > 0.5, SOMEWHERE, shares[:, :, label])
    return shares


def _join(page: np.ndarray, first: Scene, second: Scene) -> Scene:
    labels, boxes, exact = list(first.labels), list(first.boxes), list(first.exact)
    for label, box, is_exact in zip(second.labels, second.boxes, second.exact, strict=True):
        if label in labels:
            # One name, twice in the picture: found in either place.
            place = labels.index(label)
            low = np.minimum(boxes[place], box)
            high = np.maximum(boxes[place], box)
            boxes[place], exact[place] = np.concatenate([low[:2], high[2:]]), False
        else:
            labels.append(label)
            boxes.append(box)
            exact.append(is_exact)
    return Scene(page, tuple(labels), tuple(boxes), tuple(exact))


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return low + rng.random() * max(0.0, high - low)


def _transposed(scene: Scene) -> Scene:
    """Swap rows and columns."""
    boxes = tuple(box[[1, 0, 3, 2]] for box in scene.boxes)
    return Scene(np.ascontiguousarray(scene.picture.transpose(1, 0, 2)), scene.labels, boxes, scene.exact)


def _area(box: np.ndarray) -> float:
    return float(max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1]))


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    return _area(np.concatenate([np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])]))
