"""Which parts of a picture speak for a character: the network's class map, or an occlusion map.

Occlusion (Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2014, section 4.2) covers each
part in turn and measures the change of the answer. It needs nothing but answers, so it works on any exported network.
"""

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from lib.data.pictures import Framing
from lib.inference.recogniser import Recogniser

# A quarter of the picture's side hides an eye or a mouth, but not the face. Eight positions along each side make
# 65 pictures in all, a quarter of a second on one core; more positions change the map little.
PATCH_SIDE = 1 / 4
POSITIONS = 8
GREY = 127

OVERLAY_SIDE = 256  # pixels
OVERLAY_COLOUR = (14, 16, 26)  # RGB, over the parts that do not matter
MAX_OPACITY = 0.75  # so that the picture stays recognisable
BLUR = 1 / 30  # of the longer side: smooths the edges of the grid of patches


class Occlusion(NamedTuple):
    """Which parts of a picture speak for a character."""

    label: int  # of the character
    probability: float  # of it, 0 to 1
    lowest: float | None  # the same with the most important part covered; None where a class map says what matters
    importance: np.ndarray  # `float32 (size, size)`, 0 to 1; all 0 where no part matters


def explain(network: Recogniser, picture: np.ndarray, character: str = "") -> Occlusion:
    """Ask a network's class map, or cover the picture part by part where it has none.

    Args:
        network: The recogniser.
        picture: RGB `uint8 (size, size, 3)`.
        character: Label, of the most probable one by default. Covering always explains the most probable one.

    Returns:
        The importance of each part; from a class map, the fraction of its maximum.
    """
    probabilities, class_maps = network.outputs(picture[np.newaxis])
    if class_maps is None:
        return occlusion(network.predict_pixels, picture)
    label = network.characters.index(character) if character in network.characters else int(probabilities[0].argmax())
    importance = cv2.resize(_up_to_one(class_maps[0][:, :, label]), picture.shape[:2], interpolation=cv2.INTER_LINEAR)
    return Occlusion(label, float(probabilities[0, label]), None, importance)


def occlusion(predict: Callable[[np.ndarray], np.ndarray], picture: np.ndarray) -> Occlusion:
    """Cover a picture with a grey square, position by position, and measure the loss of probability.

    Args:
        predict: From `uint8 (n, size, size, 3)` to probabilities `float32 (n, num_characters)`; called once.
        picture: RGB `uint8 (size, size, 3)`.

    Returns:
        The losses of the character that the network names when nothing is covered: for each pixel the mean over the
        patches that cover it, divided by the highest such mean.
    """
    size = len(picture)
    # From edge to edge, so that every pixel is covered.
    side = max(1, round(PATCH_SIDE * size))
    starts = np.unique(np.linspace(0, size - side, POSITIONS).round().astype(int))
    patches = [(slice(y, y + side), slice(x, x + side)) for y in starts for x in starts]
    batch = np.repeat(picture[np.newaxis], 1 + len(patches), axis=0)  # the first stays uncovered
    for pixels, patch in zip(batch[1:], patches, strict=True):
        pixels[patch] = GREY
    probabilities = predict(batch)
    label = int(probabilities[0].argmax())
    whole, covered = float(probabilities[0, label]), probabilities[1:, label]
    total, count = np.zeros((2, size, size), np.float32)
    for patch, loss in zip(patches, whole - covered, strict=True):
        total[patch] += max(0.0, float(loss))  # a gain counts as no loss
        count[patch] += 1
    return Occlusion(label, whole, float(min(whole, covered.min())), _up_to_one(total / count))


def shown_part(square: np.ndarray, framing: Framing) -> np.ndarray:
    """Map values of a network's square input, `float32 (size, size)`, back to the picture that was framed in it.

    Returns:
        `float32`: the part of the square inside the padding if all of the picture was used; otherwise an array of the
        picture's own shape, or smaller if that is large, with zeros for the cropped border.
    """
    width, height = framing.inner
    left, top = (framing.size - width) // 2, (framing.size - height) // 2
    part = square[top : top + height, left : left + width]
    left, top, right, bottom = framing.box
    if (bottom - top, right - left) == framing.shape:
        return part
    scale = min(1.0, 2 * OVERLAY_SIDE / max(framing.shape))  # an overlay needs no more, however large the picture is
    left, top, right, bottom = (round(scale * edge) for edge in (left, top, right, bottom))
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    whole = np.zeros([max(1, round(scale * side)) for side in framing.shape], part.dtype)
    whole[top:bottom, left:right] = cv2.resize(part, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
    return whole


def heatmap_overlay(importance: np.ndarray) -> np.ndarray:
    """Turn importance into an overlay for the original picture: the less a part matters, the darker.

    Darkening rather than a colour map leaves the important parts as they are, and readers need not distinguish colours.
    `importance` is `float32 (height, width)`, 0 to 1. Gives RGBA `uint8 (new_height, new_width, 4)` of the same
    proportions, whose longer side has `OVERLAY_SIDE` pixels.
    """
    scale = OVERLAY_SIDE / max(importance.shape)
    smooth = cv2.resize(importance, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    smooth = _up_to_one(cv2.GaussianBlur(smooth, (0, 0), BLUR * OVERLAY_SIDE))
    result = np.empty((*smooth.shape, 4), np.uint8)
    result[..., :3] = OVERLAY_COLOUR
    result[..., 3] = np.round(255 * MAX_OPACITY * (1 - np.clip(smooth, 0, 1)))
    return result


def darkened(picture: np.ndarray, importance: np.ndarray) -> np.ndarray:
    """Darken the parts of a picture, RGB `uint8 (size, size, 3)`, that do not matter; of the size of the overlay."""
    overlay = heatmap_overlay(importance)
    opacity = overlay[..., 3:] / 255
    larger = cv2.resize(picture, overlay.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    return np.uint8(larger * (1 - opacity) + overlay[..., :3] * opacity)


def _up_to_one(importance: np.ndarray) -> np.ndarray:
    """Divide by the maximum, if there is one above 0."""
    return importance / max(importance.max(), np.finfo(np.float32).tiny)
