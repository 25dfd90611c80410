"""Pictures without any known character, and captions: what a network sees as "nobody" in training.

Such pictures must differ from those of known characters in who is there, not in how they are drawn, or a network learns
the style. So captions are for both, and invented figures are drawn like the others.
"""

import string

import cv2
import numpy as np

from lib.drawing import sample
from lib.drawing.figures import FEATURES, Features
from lib.drawing.hair import HAIR
from lib.drawing.pen import Pen
from lib.drawing.scenes import BACKGROUNDS, FOREGROUNDS

FONTS = [getattr(cv2, f"FONT_HERSHEY_{name}") for name in ("SIMPLEX", "DUPLEX", "COMPLEX", "TRIPLEX", "PLAIN")]
LETTERS = list(string.ascii_letters + string.digits + "!?.,'&-")
# Skins of people and monsters. No character of the series has one of them; yellow is left to the series.
SKINS = ("#f2c9a8", "#e0ac86", "#c68a5e", "#8d5a3b", "#5b3a29", "#ffe3d0", "#9bd08a", "#a9c8f0", "#e7a6c4")
# Hair that identifies a character by itself, in any colour.
SIGNATURE_HAIR = {
    *("beehive", "palm tree", "palm tree and a bone", "clown tufts", "crown of spikes", "star", "two hairs"),
    *("two lumps", "cauliflower"),
}
COLOURS = ("hair_colour", "top", "legs", "shirt")


def caption(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Write one or two lines of random letters on a copy of a picture, as on a meme, a poster or a film with subtitles.

    The picture is `uint8 (height, width, 3)`, RGB; letters, font, size, colour and place are random.
    """
    picture = np.ascontiguousarray(picture).copy()
    height, width = picture.shape[:2]
    font = FONTS[rng.integers(len(FONTS))]
    light = rng.random() < 0.6
    colour = (255, 255, 255) if light else tuple(int(n) for n in rng.integers(0, 256, 3))
    edge = (0, 0, 0) if light or rng.random() < 0.5 else (255, 255, 255)
    thickness = int(rng.integers(1, 3))
    for _ in range(int(rng.integers(1, 3))):
        text = _words(rng)
        (natural_width, letter_height), _ = cv2.getTextSize(text, font, 1.0, thickness)
        scale = min(rng.uniform(0.08, 0.2) * height / letter_height, rng.uniform(0.6, 1.0) * width / natural_width)
        text_width, text_height = natural_width * scale, letter_height * scale
        low, high = ((0.72, 0.98), (0.02, 0.25), (0.2, 0.8))[rng.choice(3, p=(0.55, 0.3, 0.15))]
        x = round(rng.uniform(0, max(1.0, width - text_width)))
        y = round(rng.uniform(low, high) * (height - text_height) + text_height)
        if rng.random() < 0.2:  # on a band
            cv2.rectangle(picture, (0, round(y - 1.3 * text_height)), (width, round(y + 0.4 * text_height)), edge, -1)
        elif rng.random() < 0.8:
            cv2.putText(picture, text, (x, y), font, scale, edge, thickness + 2, cv2.LINE_AA)
        cv2.putText(picture, text, (x, y), font, scale, colour, thickness, cv2.LINE_AA)
    return picture


def _words(rng: np.random.Generator) -> str:
    lengths = rng.integers(1, 9, int(rng.integers(1, 4)))
    words = " ".join("".join(rng.choice(LETTERS, length)) for length in lengths)
    return words.upper() if rng.random() < 0.5 else words


def pattern(size: int, rng: np.random.Generator) -> np.ndarray:
    """Make a picture of nothing: one colour, a gradient, noise, stripes, shapes or blobs, `uint8 (size, size, 3)`."""
    first, second = rng.integers(0, 256, (2, 3))
    rows, columns = np.indices((size, size))
    kind = rng.choice(["plain", "gradient", "noise", "stripes", "shapes", "blobs"])
    if kind == "plain":
        return np.full((size, size, 3), first, dtype="uint8")
    if kind == "gradient":
        right, down = rng.uniform(-1, 1, 2) / size
        fraction = np.clip(0.5 + right * (columns - size / 2) + down * (rows - size / 2), 0, 1)[:, :, None]
        return np.rint(first * fraction + second * (1 - fraction)).astype("uint8")
    if kind == "noise":
        noise = rng.normal(rng.uniform(60, 200), rng.uniform(15, 80), (size, size, 3 if rng.random() < 0.6 else 1))
        return np.repeat(np.clip(noise, 0, 255), 3 // noise.shape[2], axis=2).astype("uint8")
    if kind == "stripes":
        slant, period = rng.uniform(-2, 2), rng.uniform(4, size / 2)
        return np.stack([first, second]).astype("uint8")[((columns + slant * rows) // period % 2).astype(int)]
    if kind == "shapes":
        page = np.full((size, size, 3), first, dtype="uint8")
        for _ in range(int(rng.integers(2, 14))):
            colour = tuple(int(n) for n in rng.integers(0, 256, 3))
            x, y, width, height = (int(n) for n in rng.integers((0, 0, 2, 2), (size, size, size // 2, size // 2)))
            line = -1 if rng.random() < 0.6 else 2  # filled, or an outline
            if rng.random() < 0.5:
                angle = int(rng.integers(0, 180))
                cv2.ellipse(page, (x, y), (width, height), angle, 0, 360, colour, line, cv2.LINE_AA)
            else:
                cv2.rectangle(page, (x, y), (x + width, y + height), colour, line)
        return page
    cells = rng.integers(0, 256, (*rng.integers(2, 12, 2), 3), dtype="uint8")
    return cv2.resize(cells, (size, size), interpolation=cv2.INTER_CUBIC)


def scenery(size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a scene of the drawn sample without figures, `uint8 (size, size, 3)`."""
    canvas = np.zeros((2 * size, 2 * size, 3), np.uint8)
    pen = Pen(canvas, len(canvas) * np.eye(2, 3), line=0.006)
    BACKGROUNDS[rng.integers(len(BACKGROUNDS))](pen, rng, 1.0)
    if rng.random() < 0.3:
        FOREGROUNDS[rng.integers(len(FOREGROUNDS))](pen, rng, 1.0)
    return cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)


def invented_features(rng: np.random.Generator) -> Features:
    """Invent a figure that is nobody from the series: parts of all of them, with a skin and colours of its own."""
    everyone = list(FEATURES.values())
    values = {name: getattr(everyone[rng.integers(len(everyone))], name) for name in Features.model_fields}
    values |= {name: "#" + bytes(int(n) for n in rng.integers(20, 236, 3)).hex() for name in COLOURS}
    values["skin"] = SKINS[rng.integers(len(SKINS))]
    values["hair"] = str(rng.choice([hair for hair in HAIR if hair not in SIGNATURE_HAIR]))
    return Features(**values)


def invented_figure(rng: np.random.Generator) -> np.ndarray:
    """Draw an invented figure in a scene or cut out, RGB `uint8 (height, width, 3)` of varying size."""
    draw = sample.draw_cutout if rng.random() < 0.5 else sample.draw_picture
    return draw(invented_features(rng), rng)
