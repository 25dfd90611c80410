"""Pictures with two characters, made from pictures with one, and what a network should find in them.

Frames with two characters have one label and one box, so a network that trains on frames alone learns to name one. A
composite has both labels. Beside a known character there may also be a stranger: then there is one label, and the
network learns that the other half of a picture need not be a second character.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

SOMEWHERE = -1.0  # in the target of a class map: the character is in some of these cells, and it is unknown in which

WHOLE = np.array([0.0, 0.0, 1.0, 1.0])
USUAL_PLACE = np.array([0.3, 0.0, 0.7, 1.0])  # of a character whose box is unknown
MAX_HIDDEN = 0.35  # fraction of a character's box that a pasted figure may hide
MIN_VISIBLE = 0.3  # fraction of a box inside the picture; below, the place of the character is unknown


@dataclass(frozen=True)
class Scene:
    """A picture and the known characters in it.

    Attributes:
        picture: `uint8 (size, size, 3)`, RGB.
        labels: The label of each known character in it; empty if there is none.
        boxes: A box for each label, left, top, right, bottom as fractions of the picture, `float64 (4,)`.
        exact: For each label, whether the box is that of face and shoulders, or only a part of the picture in which the
            character is somewhere.
    """

    picture: np.ndarray
    labels: tuple[int, ...] = ()
    boxes: tuple[np.ndarray, ...] = ()
    exact: tuple[bool, ...] = ()

    def moved(self, picture: np.ndarray, matrix: np.ndarray) -> "Scene":
        """Return the scene after a change of geometry; see `augmentation.augment_located`."""
        return Scene(picture, self.labels, tuple(transform_box(box, matrix) for box in self.boxes), self.exact)

    def clipped(self) -> "Scene":
        """Return the scene without the boxes that are mostly outside of the picture.

        The labels stay, since half of a face may still be visible; its place is then unknown.
        """
        inside = [_area(np.clip(box, 0, 1)) / max(_area(box), 1e-9) >= MIN_VISIBLE for box in self.boxes]
        lost = [exact and not visible for exact, visible in zip(self.exact, inside, strict=True)]
        boxes = tuple(WHOLE if is_lost else box for box, is_lost in zip(self.boxes, lost, strict=True))
        exact = tuple(exact and not is_lost for exact, is_lost in zip(self.exact, lost, strict=True))
        return Scene(self.picture, self.labels, boxes, exact)


def of_one(picture: np.ndarray, label: int, box: np.ndarray) -> Scene:
    """Make the scene of a picture with one character; `box` is NaN where its place is unknown."""
    known = not np.isnan(box[0])
    return Scene(picture, (label,), (box if known else WHOLE,), (known,))


def transform_box(box: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Apply an affine matrix to a box.

    Args:
        box: Left, top, right, bottom, `float64 (4,)`.
        matrix: `float64 (2, 3)`.

    Returns:
        A box around the moved one, `float64 (4,)`, which may extend out of the picture. A rotation enlarges it by a
        quarter of what its corners would need, since figures do not fill the corners of their boxes.
    """
    left, top, right, bottom = box
    centre = matrix @ ((left + right) / 2, (top + bottom) / 2, 1)
    half = np.array([right - left, bottom - top]) / 2
    of_corners = np.abs(matrix[:, :2]) @ half
    of_ellipse = np.hypot(matrix[:, 0] * half[0], matrix[:, 1] * half[1])
    extent = of_ellipse + (of_corners - of_ellipse) / 4
    return np.concatenate([centre - extent, centre + extent])


# ---------------------------------------------------------------- composites


def crop_around(scene: Scene, rng: np.random.Generator, aspect: float = 0.5) -> Scene:
    """Crop to a narrower part that contains the first character.

    Args:
        scene: Where the place of its character is unknown, the middle is kept.
        rng: Random generator.
        aspect: Width over height of the part, as near as the box allows.

    Returns:
        The part, stretched to the size of the scene.
    """
    size = len(scene.picture)
    box = np.clip(scene.boxes[0], 0, 1) if scene.labels and scene.exact[0] else np.array([0.2, 0.05, 0.8, 1.0])
    left, top, right, bottom = box
    if right - left < 0.1 or bottom - top < 0.1:
        return scene
    height = rng.uniform(bottom - top, 1.0)
    width = min(1.0, max(right - left, aspect * height * rng.uniform(0.9, 1.3)))
    start_x = _between(rng, max(0.0, right - width), min(left, 1 - width))
    start_y = _between(rng, max(0.0, bottom - height), min(top, 1 - height))
    x, y = math.floor(start_x * size), math.floor(start_y * size)
    w, h = min(size, math.ceil((start_x + width) * size)) - x, min(size, math.ceil((start_y + height) * size)) - y
    part = cv2.resize(scene.picture[y : y + h, x : x + w], (size, size), interpolation=cv2.INTER_LINEAR)
    return scene.moved(part, np.array([[size / w, 0, -x / w], [0, size / h, -y / h]]))


def side_by_side(first: Scene, second: Scene, rng: np.random.Generator) -> Scene:
    """Put two scenes beside each other, or at times one above the other, like two frames in one picture.

    Args:
        first: On the left, or above.
        second: On the right, or below; of the same size.
        rng: Decides their widths, their height, and what is above and below.

    Returns:
        A scene of the same size with the characters of both.
    """
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
    joined = _joined(page, *parts)
    return _transposed(joined) if stacked else joined


def paste_beside(scene: Scene, other: Scene, mask: np.ndarray, rng: np.random.Generator) -> Scene:
    """Cut a figure out of one scene and paste it into another, where it hides little of the character there.

    Args:
        scene: Where it is pasted, with at most one character.
        other: Where it is cut out, of the same size, with at most one character.
        mask: Where the figure is in `other`, `uint8 (size, size)`, 0 or 1, not all 0.
        rng: Random generator.

    Returns:
        The scene with the figure, or the scene itself where there is no place for it.
    """
    size = len(scene.picture)
    x, y, cut_width, cut_height = cv2.boundingRect(mask)
    scale = rng.uniform(0.4, 0.75) * size / max(cut_width, cut_height)
    width, height = (max(8, min(size, round(n * scale))) for n in (cut_width, cut_height))
    occupied = np.clip(scene.boxes[0], 0, 1) if scene.labels and scene.exact[0] else USUAL_PLACE
    best, least = None, MAX_HIDDEN
    for _ in range(6):
        left, top = int(rng.integers(0, size - width + 1)), int(rng.integers(0, size - height + 1))
        hidden = _overlap(occupied, np.array([left, top, left + width, top + height]) / size)
        if hidden / max(_area(occupied), 1e-6) < least:
            best, least = (left, top), hidden / max(_area(occupied), 1e-6)
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
    return _joined(page, scene, other.moved(page, matrix))


def beside(picture: np.ndarray, box: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """Crop a frame to a part that its character is not in.

    Args:
        picture: `uint8 (size, size, 3)`, RGB.
        box: The character's box, fractions of the picture.
        rng: Random generator.

    Returns:
        The part, enlarged to the size of the picture; None where the box leaves less than a third of the side.
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
    """Give the probabilities that a network should answer.

    Args:
        scene: The scene.
        num_characters: Number of known characters; the output after the last of them is "nobody".

    Returns:
        `float32 (num_characters + 1,)` with the sum 1: divided among the characters in the scene, or all on nobody.
    """
    probabilities = np.zeros(num_characters + 1, "float32")
    probabilities[list(scene.labels) or [num_characters]] = 1 / max(1, len(scene.labels))
    return probabilities


def cell_target(scene: Scene, num_characters: int, cells: int) -> np.ndarray:
    """Give the class map that a network should answer.

    Args:
        scene: The scene.
        num_characters: Number of known characters.
        cells: Number of cells along each side of the map.

    Returns:
        `float32 (cells, cells, num_characters)`: the fraction of the cell that the character's box covers, 0 to 1;
        `SOMEWHERE` in all cells in which a character without an exact box may be.
    """
    fractions = np.zeros((cells, cells, num_characters), "float32")
    edges = np.arange(cells + 1) / cells
    for label, box, exact in zip(scene.labels, scene.boxes, scene.exact, strict=True):
        left, top, right, bottom = np.clip(box, 0, 1)
        in_x = np.clip(np.minimum(edges[1:], right) - np.maximum(edges[:-1], left), 0, None) * cells
        in_y = np.clip(np.minimum(edges[1:], bottom) - np.maximum(edges[:-1], top), 0, None) * cells
        covered = np.outer(in_y, in_x)
        fractions[:, :, label] = covered if exact else np.where(covered > 0.5, SOMEWHERE, 0)
    return fractions


def _joined(page: np.ndarray, first: Scene, second: Scene) -> Scene:
    """Join the characters of two scenes. One that is in both counts once, and is in either of the places."""
    labels, boxes, exact = list(first.labels), list(first.boxes), list(first.exact)
    for label, box, is_exact in zip(second.labels, second.boxes, second.exact, strict=True):
        if label in labels:
            place = labels.index(label)
            around = np.concatenate([np.minimum(boxes[place], box)[:2], np.maximum(boxes[place], box)[2:]])
            boxes[place], exact[place] = around, False
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
