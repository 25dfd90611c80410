"""What in a picture made the network answer as it did: cover each part in turn and watch the answer.

Occlusion (Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2014, section 4.2) needs
nothing of the network but its answers, so it works on the exported one, and in the same way on every one.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

# A quarter of the picture's side hides an eye or a mouth, and not the face. Eight positions along each side make
# 65 pictures in all, a quarter of a second on one core; more of them change the map little.
COVER = 1 / 4
POSITIONS = 8
GREY = 127

VEIL = (14, 16, 26)  # RGB of what lies over the parts that do not matter
DARKEST = 0.75  # so that the picture can still be made out
BLUR = 1 / 30  # of the side: softens the edges that the grid of squares leaves


@dataclass(frozen=True)
class Occlusion:
    """What covering a picture part by part does to the answer.

    Attributes:
        label: Index of the character that the network names when nothing is covered.
        probability: Its probability then, 0 to 1.
        lowest: Its probability with the most important part covered.
        importance: `float32 (size, size)`, 0 to 1: how much probability is lost, on average, when a pixel is
            among the covered, as a share of the most that any pixel loses; all 0 if no cover loses any.
    """

    label: int
    probability: float
    lowest: float
    importance: np.ndarray


def occlusion(predict: Callable[[np.ndarray], np.ndarray], picture: np.ndarray) -> Occlusion:
    """Cover a picture with a grey square, place by place, and measure what the answer loses.

    Args:
        predict: From `uint8 (n, size, size, 3)` to probabilities `float32 (n, num_characters)`, as
            `Recogniser.predict_pixels` does; called once.
        picture: RGB `uint8 (size, size, 3)`.

    Returns:
        The losses of the character that is named when nothing is covered.

    Raises:
        ValueError: If the picture has another shape or type.
    """
    size = len(picture)
    if picture.shape != (size, size, 3) or picture.dtype != np.uint8:
        raise ValueError(
            "Invalid value for argument `picture`. Expected uint8 of shape (size, size, 3). "
            f"Received: {picture.dtype} of shape {picture.shape}"
        )
    covers = _covers(size)
    batch = np.repeat(picture[np.newaxis], 1 + len(covers), axis=0)
    for covered, cover in zip(batch[1:], covers, strict=True):
        covered[cover] = GREY
    probabilities = predict(batch)
    label = int(probabilities[0].argmax())
    whole, rest = float(probabilities[0, label]), probabilities[1:, label]
    return Occlusion(label, whole, float(min(whole, rest.min())), _importance(size, covers, whole - rest))


def shown_part(
    square: np.ndarray, inner: tuple[int, int], box: tuple[int, int, int, int], shape: tuple[int, int]
) -> np.ndarray:
    """Bring what is known of the square that a network sees back to the picture that it was made of.

    Args:
        square: `float32 (size, size)`.
        inner: Width and height that the picture takes in the square, centred; the rest is padding.
        box: Left, top, right and bottom of the part of the picture that was taken, pixels.
        shape: Height and width of the picture, pixels.

    Returns:
        `float32`, of the part of the square inside the padding where all of the picture was taken; otherwise of the
        picture's own shape, with zeros for the margin that was taken off.
    """
    (inner_width, inner_height), size = inner, len(square)
    left, top = (size - inner_width) // 2, (size - inner_height) // 2
    part = square[top : top + inner_height, left : left + inner_width]
    left, top, right, bottom = box
    if (right - left, bottom - top) == shape[::-1]:
        return part
    whole = np.zeros(shape, part.dtype)
    whole[top:bottom, left:right] = cv2.resize(part, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
    return whole


def heatmap_overlay(importance: np.ndarray, longest: int = 256) -> np.ndarray:
    """Turn importance into a picture to lay over the original: the less a part matters, the darker.

    A veil rather than a rainbow: what mattered stays as it is, and no eye needs to tell colours apart.

    Args:
        importance: `float32 (height, width)`, 0 to 1.
        longest: Pixels of the longer side of the result.

    Returns:
        RGBA `uint8 (height, width, 4)`.
    """
    scale = longest / max(importance.shape)
    smooth = cv2.resize(importance, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    smooth = cv2.GaussianBlur(smooth, (0, 0), BLUR * longest)
    smooth /= max(smooth.max(), np.finfo(np.float32).tiny)
    result = np.empty((*smooth.shape, 4), np.uint8)
    result[..., :3] = VEIL
    result[..., 3] = np.round(255 * DARKEST * (1 - np.clip(smooth, 0, 1)))
    return result


def _covers(size: int) -> list[tuple[slice, slice]]:
    """Place the grey square evenly over the picture, from edge to edge."""
    side = max(1, round(COVER * size))
    starts = np.unique(np.linspace(0, size - side, POSITIONS).round().astype(int))
    return [(slice(y, y + side), slice(x, x + side)) for y in starts for x in starts]


def _importance(size: int, covers: list[tuple[slice, slice]], losses: np.ndarray) -> np.ndarray:
    """Average, for each pixel, the losses of the squares that cover it; a gain counts as no loss."""
    total, count = np.zeros((2, size, size), np.float32)
    for cover, loss in zip(covers, losses, strict=True):
        total[cover] += max(0.0, float(loss))
        count[cover] += 1
    mean = total / count
    return mean / mean.max() if mean.max() > 0 else mean
