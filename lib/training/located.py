"""Augmentation that says where everything went, so that boxes can follow their pictures.

The same changes as `lib.data.batches.augment`, from the same `Augmentation`; each change of geometry gives an affine
matrix beside the picture.
"""

import math

import cv2
import numpy as np

from lib.data import batches
from lib.data.batches import Augmentation

IDENTITY = np.eye(2, 3)


def augment(picture: np.ndarray, augmentation: Augmentation, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Change one picture at random, and say where its points went.

    Args:
        picture: `uint8 (size, size, 3)`, RGB.
        augmentation: How much.
        rng: Where chance comes from.

    Returns:
        A new picture of the same shape and type, and a matrix, `float64 (2, 3)`: a point `(x, y)` of the old picture,
        in shares of its side, lies at `matrix @ (x, y, 1)` in the new one.
    """
    size = len(picture)
    changed, matrix = _warp(picture, augmentation, rng)
    if augmentation.backdrop and rng.random() < augmentation.backdrop:
        changed, matrix = _then(matrix, *_swap_background(changed, rng))
    if augmentation.placement and rng.random() < augmentation.placement:
        changed, matrix = _then(matrix, *_shrink_and_paste(changed, rng))
    return restyle(changed, augmentation, rng), _to_shares(matrix, size)


def restyle(picture: np.ndarray, augmentation: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Change how a picture looks, and nothing's place: manner of drawing, colours, quality, a covered square.

    Args:
        picture: `uint8 (height, width, 3)`, RGB.
        augmentation: How much; what changes geometry is not used.
        rng: Where chance comes from.

    Returns:
        A new picture of the same shape and type.
    """
    if augmentation.restyle and rng.random() < augmentation.restyle:
        picture = batches._restyle(picture, rng)
    if augmentation.colour:
        picture = batches._recolour(picture, augmentation.colour, rng)
    if augmentation.degrade and rng.random() < augmentation.degrade:
        picture = batches._degrade(picture, rng)
    if augmentation.cutout:
        picture = batches._cut_out(picture, augmentation.cutout, rng)
    return picture


def transform_box(box: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Bring a box through a matrix.

    Args:
        box: Left, top, right, bottom, `float64 (4,)`.
        matrix: `float64 (2, 3)`.

    Returns:
        The box around the moved corners, `float64 (4,)`; it may reach out of the picture. A turn widens it: the inner
        three quarters of what turning adds are taken off again, since figures do not fill the corners of their boxes.
    """
    left, top, right, bottom = box
    middle = matrix @ ((left + right) / 2, (top + bottom) / 2, 1)
    half = np.array([right - left, bottom - top]) / 2
    wide = np.abs(matrix[:, :2]) @ half  # around the corners
    lean = np.hypot(matrix[:, 0] * half[0], matrix[:, 1] * half[1])  # around an ellipse that fills the box
    reach = lean + (wide - lean) / 4
    return np.concatenate([middle - reach, middle + reach])


def _then(before: np.ndarray, picture: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return picture, after @ np.vstack([before, (0, 0, 1)])


def _to_shares(matrix: np.ndarray, size: int) -> np.ndarray:
    """Turn a matrix between pixel centres into one between shares of the side."""
    # Pixel n covers the shares n / size to (n + 1) / size, and its centre is n.
    outer = np.array([[1 / size, 0, 0.5 / size], [0, 1 / size, 0.5 / size], [0, 0, 1]])
    return (outer @ np.vstack([matrix, (0, 0, 1)]) @ np.linalg.inv(outer))[:2]


def _warp(picture: np.ndarray, augmentation: Augmentation, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Flip, shift, zoom and turn in one resampling."""
    height, width = picture.shape[:2]
    mirror = -1.0 if augmentation.flip and rng.random() < 0.5 else 1.0
    right, down = rng.uniform(-augmentation.shift, augmentation.shift, 2) * (width, height)
    scale = math.exp(rng.uniform(-1, 1) * math.log1p(augmentation.zoom)) if augmentation.zoom else 1.0
    angle = math.radians(rng.uniform(-augmentation.rotate, augmentation.rotate)) if augmentation.rotate else 0.0
    if not augmentation.zoom and not augmentation.rotate:
        right, down = round(right), round(down)  # whole pixels are not blurred
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    x, y = (width - 1) / 2, (height - 1) / 2
    across = (mirror * cosine, -sine, x + right - mirror * cosine * x + sine * y)
    along = (mirror * sine, cosine, y + down - mirror * sine * x - cosine * y)
    matrix = np.array((across, along))
    warped = cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return warped, matrix


def _swap_background(picture: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Paint over what is flat and reaches the edge; half of the time enlarge what is left to the whole picture."""
    height, width = picture.shape[:2]
    painted, figure = swap_background(picture, rng)
    if figure is None or rng.random() >= 0.5:
        return painted, IDENTITY
    left, top, figure_width, figure_height = cv2.boundingRect(figure)
    if min(figure_height / height, figure_width / width) < batches.LEAST_FIGURE:
        return painted, IDENTITY
    cut = painted[top : top + figure_height, left : left + figure_width]
    scale_x, scale_y = width / figure_width, height / figure_height
    matrix = np.array([[scale_x, 0, (0.5 - left) * scale_x - 0.5], [0, scale_y, (0.5 - top) * scale_y - 0.5]])
    return cv2.resize(cut, (width, height), interpolation=cv2.INTER_LINEAR), matrix


def swap_background(picture: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
    """Paint over what is flat and reaches the edge, and say what was left.

    Args:
        picture: `uint8 (height, width, 3)`, RGB.
        rng: Where chance comes from.

    Returns:
        The painted picture, and `uint8 (height, width)`, 1 where the figure is; None where nothing was painted because
        the flood ran into the figure.
    """
    height, width = picture.shape[:2]
    picture = np.require(picture, requirements=("C", "W"))  # a slice of a memory-mapped array may be read-only
    filled = np.zeros((height + 2, width + 2), dtype="uint8")
    step = (int(rng.integers(4, 14)),) * 3
    top = [(x, 0) for x in np.linspace(0, width - 1, 5).astype(int)]
    sides = [(x, y) for x in (0, width - 1) for y in np.linspace(0, height - 1, 5).astype(int)[1:4]]
    for x, y in top + sides:
        if not filled[y + 1, x + 1]:
            cv2.floodFill(picture, filled, (int(x), int(y)), 0, step, step, 4 | cv2.FLOODFILL_MASK_ONLY | 1 << 8)
    background = filled[1:-1, 1:-1]
    if cv2.countNonZero(background) > batches.MOST_BACKGROUND * background.size:
        return picture, None
    figure = 1 - background
    return cv2.copyTo(picture, figure, batches._ground(height, width, rng)), figure


def _shrink_and_paste(picture: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Shrink the picture and put it somewhere on a plain or noisy ground."""
    height, width = picture.shape[:2]
    share = rng.uniform(0.35, 0.95)
    stretch = np.exp(rng.uniform(-0.3, 0.3, 2))
    new_width, new_height = (
        max(8, min(n, round(n * share * s))) for n, s in zip((width, height), stretch, strict=True)
    )
    own = rng.random() < 0.4
    ground = batches._plain(height, width, picture[0, 0]) if own else batches._ground(height, width, rng)
    top, left = int(rng.integers(0, height - new_height + 1)), int(rng.integers(0, width - new_width + 1))
    small = cv2.resize(picture, (new_width, new_height), interpolation=cv2.INTER_AREA)
    ground[top : top + new_height, left : left + new_width] = small
    scale_x, scale_y = new_width / width, new_height / height
    matrix = np.array([[scale_x, 0, left + 0.5 * scale_x - 0.5], [0, scale_y, top + 0.5 * scale_y - 0.5]])
    return ground, matrix
