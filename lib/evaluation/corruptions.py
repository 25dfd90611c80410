"""Corruptions of test pictures that imitate what happens to pictures before people upload them.

Scores on corrupted pictures show how far a network trained on film frames can be trusted with other pictures. Training
has its own augmentations (`lib.training.augmentation`) and uses none of these functions. Where both have a kind of
corruption (JPEG, blur, a small figure), its method or its strength differs.
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

STRENGTHS = ("slight", "medium", "strong")


def corrupt(picture: np.ndarray, kind: str, strength: str, seed: int) -> np.ndarray:
    """Corrupt a picture as an uploader might have.

    Args:
        picture: `uint8 (height, width, 3)`, RGB, of any size.
        kind: A key of `KINDS`.
        strength: One of `STRENGTHS`.
        seed: Seed of everything random; the same seed corrupts the same picture in the same way.

    Returns:
        The corrupted picture, `uint8 (new_height, new_width, 3)`.

    Raises:
        KeyError: There is no such kind.
        ValueError: There is no such strength.
    """
    function, values = KINDS[kind]
    return function(np.ascontiguousarray(picture), values[STRENGTHS.index(strength)], np.random.default_rng(seed))


def _cut_out(picture: np.ndarray, margin: float, rng: np.random.Generator) -> np.ndarray:
    """Cut the figure out and put it on white, by GrabCut (Rother et al. 2004) from a rectangle around the centre."""
    height, width = picture.shape[:2]
    left, top = max(1, round(margin * width)), max(1, round(margin * height))
    mask = np.zeros((height, width), dtype="uint8")
    cv2.setRNGSeed(0)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(picture, mask, (left, top, width - 2 * left, height - top - 1), *models, 2, cv2.GC_INIT_WITH_RECT)
    figure = (mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)
    return np.where(figure[:, :, None], picture, np.uint8(255))


def _on_white(picture: np.ndarray, ratio: float, rng: np.random.Generator) -> np.ndarray:
    """Put the picture on a white page of the same shape, `ratio` times as large."""
    height, width = picture.shape[:2]
    scale = ratio**0.5
    page = np.full((round(height * scale), round(width * scale), 3), 255, dtype="uint8")
    top, left = rng.integers(0, page.shape[0] - height + 1), rng.integers(0, page.shape[1] - width + 1)
    page[top : top + height, left : left + width] = picture
    return page


def _on_stripes(picture: np.ndarray, ratio: float, rng: np.random.Generator) -> np.ndarray:
    """Put the picture on diagonal stripes of two colours, as on a poster."""
    seed = int(rng.integers(2**32))
    on_white = _on_white(picture, ratio, np.random.default_rng(seed))
    background = _on_white(np.zeros_like(picture), ratio, np.random.default_rng(seed))[:, :, :1] == 255
    rows, columns = np.indices(on_white.shape[:2])
    stripe = (rows + columns) // max(4, len(on_white) // 12) % 2
    return np.where(background, rng.integers(0, 256, (2, 3), dtype="uint8")[stripe], on_white)


def _screenshot(picture: np.ndarray, frame: float, rng: np.random.Generator) -> np.ndarray:
    """Frame the picture in a window: dark bars, a title bar above, a line of controls below."""
    height, width = picture.shape[:2]
    bar, side = round(frame * height), round(frame * width)
    window = np.full((height + 2 * bar, width + 2 * side, 3), rng.integers(0, 60), dtype="uint8")
    window[: bar // 2] = 225
    cv2.line(window, (side, height + bar + bar // 2), (side + width // 2, height + bar + bar // 2), (200, 30, 30), 2)
    window[bar : bar + height, side : side + width] = picture
    return window


def _close_up(picture: np.ndarray, kept: float, rng: np.random.Generator) -> np.ndarray:
    """Crop to a fraction of the sides in the upper middle, where faces are."""
    height, width = picture.shape[:2]
    top, left = round((1 - kept) * height * 0.35), round((1 - kept) * width / 2)
    return picture[top : top + round(kept * height), left : left + round(kept * width)]


def _squeezed(picture: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """Change the aspect ratio, then pad to a square, so that resizing to a square does not undo it."""
    side = max(picture.shape[:2])
    size = (round(side * factor), side) if rng.random() < 0.5 else (side, round(side * factor))
    narrow = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    right, below = side - size[0], side - size[1]
    return np.pad(narrow, ((below // 2, below - below // 2), (right // 2, right - right // 2), (0, 0)))


def _jpeg(picture: np.ndarray, quality: int, rng: np.random.Generator) -> np.ndarray:
    """Compress as JPEG of low quality."""
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)


def _small(picture: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """Shrink to a square thumbnail of `side` pixels."""
    return cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)


def _desaturate(picture: np.ndarray, kept: float, rng: np.random.Generator) -> np.ndarray:
    """Keep a fraction of the saturation."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[:, :, None].astype("float32")
    return np.rint(grey + kept * (picture - grey)).clip(0, 255).astype("uint8")


def _lighting(picture: np.ndarray, gamma: float, rng: np.random.Generator) -> np.ndarray:
    """Darken or brighten by a gamma curve, as a camera or a bad screen does."""
    gamma = gamma if rng.random() < 0.5 else 1 / gamma
    return cv2.LUT(picture, np.rint(255 * (np.arange(256) / 255) ** gamma).astype("uint8"))


def _screen_photo(picture: np.ndarray, bend_and_light: tuple[float, int], rng: np.random.Generator) -> np.ndarray:
    """Imitate a photo of a screen: perspective, rotation, a bluish cast, fine stripes and a bright spot."""
    (bend, light), (height, width) = bend_and_light, picture.shape[:2]
    corners = np.float32([[0, 0], [width, 0], [width, height], [0, height]])
    seen = corners * (1 - 2 * bend) + bend * np.float32([width, height])
    seen += rng.uniform(-bend, bend, (4, 2)).astype("float32") * np.float32([width, height])
    room = tuple(int(n) for n in rng.integers(10, 70, 3))
    photo = cv2.warpPerspective(
        picture, cv2.getPerspectiveTransform(corners, seen.astype("float32")), (width, height), borderValue=room
    )
    rows, columns = np.indices((height, width), dtype="float32")
    stripes = 1 + 0.04 * light * np.sin(2 * np.pi * (rows * 0.31 + columns * 0.07))
    spot_x, spot_y = rng.uniform(0, width), rng.uniform(0, height)
    spot = np.exp(-((columns - spot_x) ** 2 + (rows - spot_y) ** 2) / (0.15 * width) ** 2)
    cast = np.float32([0.93, 1.0, 1.07])
    lit = photo * stripes[:, :, None] * cast + 40 * light * spot[:, :, None]
    return np.rint(lit).clip(0, 255).astype("uint8")


def _motion_blur(picture: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    """Blur along a line, as by a moving hand."""
    kernel = np.zeros((length, length), dtype="float32")
    if rng.random() < 0.5:
        kernel[length // 2] = 1 / length
    else:
        np.fill_diagonal(kernel, 1 / length)
    return cv2.filter2D(picture, -1, kernel, borderType=cv2.BORDER_REPLICATE)


def _captioned(picture: np.ndarray, lines: int, rng: np.random.Generator) -> np.ndarray:
    """Write up to three lines of capitals over the picture, as on a meme: white, at most sizes without an outline.

    OpenCV 5 takes a thickness for a weight of the font, so the black text is hidden behind the white one.
    """
    height, width = picture.shape[:2]
    captioned, scale = picture.copy(), width / 128
    for line in range(lines):
        y = round(height * (0.95, 0.2, 0.75)[line])
        word = "".join(rng.choice(list("ABDEHKMNORSTUW"), 9))
        for colour, thickness in (((0, 0, 0), 4), ((255, 255, 255), 2)):
            place, font = (round(0.04 * width), y), cv2.FONT_HERSHEY_SIMPLEX
            cv2.putText(captioned, word, place, font, 0.72 * scale, colour, max(1, round(thickness * scale)))
    return captioned


# In the order of the table, with the values of the three strengths, each in a measure of its own. The names are those
# of the published `robustness.csv` files.
KINDS: dict[str, tuple[Callable[[np.ndarray, Any, np.random.Generator], np.ndarray], tuple]] = {
    "cut_out_on_white": (_cut_out, (0.02, 0.06, 0.12)),
    "small_on_white": (_on_white, (2, 4, 10)),
    "small_on_stripes": (_on_stripes, (2, 4, 10)),
    "screenshot_with_borders": (_screenshot, (0.08, 0.18, 0.3)),
    "close_up": (_close_up, (0.8, 0.65, 0.5)),
    "squeezed": (_squeezed, (0.75, 0.6, 0.45)),
    "photo_of_a_screen": (_screen_photo, ((0.04, 1), (0.08, 2), (0.14, 3))),
    "lighting": (_lighting, (1.4, 1.9, 2.6)),
    "faded_to_grey": (_desaturate, (0.5, 0.2, 0.0)),
    "jpeg_at_low_quality": (_jpeg, (20, 10, 5)),
    "thumbnail": (_small, (48, 32, 24)),
    "shaken": (_motion_blur, (3, 6, 10)),
    "captioned": (_captioned, (1, 2, 3)),
}
