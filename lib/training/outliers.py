"""Pictures with no known character in them, for the answer "nobody".

What a network is shown as nobody must differ from the known characters in who is there, and not in how it is drawn:
known characters are shown in the same styles (cut out, drawn, captioned), or the network learns the style. So the
caption function here is for both.
"""

import dataclasses
import zipfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from lib.data import pictures, sample, sample_figures
from lib.errors import UserError

FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_PLAIN,
)
LETTERS = list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!?.,'&-")
# Skins that no character of the series has: people's, and those of monsters. Yellow is left to the series.
STRANGE_SKINS = ("#f2c9a8", "#e0ac86", "#c68a5e", "#8d5a3b", "#5b3a29", "#ffe3d0", "#9bd08a", "#a9c8f0", "#e7a6c4")
KINDS = ("clipart", "figure", "scenery", "text", "pattern", "background")


def read_zip(path: Path, size: int, fit: str = "bounded") -> tuple[np.ndarray, list[str]]:
    """Decode every picture of a zip archive.

    Args:
        path: The archive; what cannot be decoded is passed over.
        size: Side of the square, pixels.
        fit: How a picture becomes square, as in `pictures.decode`.

    Returns:
        Pictures, `uint8 (n, size, size, 3)`, RGB, and their names, both sorted by name.

    Raises:
        UserError: The archive cannot be read or holds no picture.
    """
    decoded, names = [], []
    try:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                try:
                    decoded.append(pictures.decode(archive.read(name), size, fit))
                    names.append(name)
                except pictures.UnreadablePicture:
                    continue
    except (OSError, zipfile.BadZipFile) as problem:
        raise UserError(f"The archive of strangers {path} cannot be read: {problem}.") from None
    if not decoded:
        raise UserError(f"{path} holds no picture that can be read.")
    return np.stack(decoded), names


def split_by_name(names: Sequence[str], seed: int = 0) -> dict[str, np.ndarray]:
    """Divide pictures into train, validation and test, 60/20/20, a drawing and its variants together.

    Args:
        names: Names of files; those that differ in a number at the end are variants of one another.
        seed: What the division follows from.

    Returns:
        From the split to the places of its pictures, `int64 (n,)`.
    """
    stems = [name.rsplit(".", 1)[0].rstrip("0123456789_-") for name in names]
    unique = sorted(set(stems))
    order = np.random.default_rng(seed).permutation(len(unique))
    rank = dict(zip((unique[i] for i in order), np.arange(len(unique)) / len(unique), strict=True))
    ranks = np.array([rank[stem] for stem in stems])
    return {
        "train": np.flatnonzero(ranks < 0.6),
        "validation": np.flatnonzero((ranks >= 0.6) & (ranks < 0.8)),
        "test": np.flatnonzero(ranks >= 0.8),
    }


def caption(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Write one or two lines of letters over a picture, as on a meme, a poster or a film with subtitles.

    Args:
        picture: `uint8 (height, width, 3)`, RGB.
        rng: Decides letters, font, size, colour and place.

    Returns:
        A new picture of the same shape.
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
        (natural, letter_height), _ = cv2.getTextSize(text, font, 1.0, thickness)
        scale = min(rng.uniform(0.08, 0.2) * height / letter_height, rng.uniform(0.6, 1.0) * width / natural)
        text_width, text_height = natural * scale, letter_height * scale
        low, high = ((0.72, 0.98), (0.02, 0.25), (0.2, 0.8))[rng.choice(3, p=(0.55, 0.3, 0.15))]
        x = round(rng.uniform(0, max(1.0, width - text_width)))
        y = round(rng.uniform(low, high) * (height - text_height) + text_height)
        if rng.random() < 0.2:  # on a band
            cv2.rectangle(picture, (0, round(y - 1.3 * text_height)), (width, round(y + 0.4 * text_height)), edge, -1)
        elif rng.random() < 0.8:
            cv2.putText(picture, text, (x, y), font, scale, edge, thickness + 2, cv2.LINE_AA)
        cv2.putText(picture, text, (x, y), font, scale, colour, thickness, cv2.LINE_AA)
    return picture


def text(size: int, rng: np.random.Generator) -> np.ndarray:
    """Make a page of words, `uint8 (size, size, 3)`: large or small letters on a plain, shaded or busy ground."""
    page = pattern(size, rng)
    for _ in range(int(rng.integers(1, 4))):
        page = caption(page, rng)
    return page


def pattern(size: int, rng: np.random.Generator) -> np.ndarray:
    """Make a picture of nothing, `uint8 (size, size, 3)`: one colour, a gradient, noise, stripes, dots, blobs."""
    first, second = rng.integers(0, 256, (2, 3))
    kind = rng.integers(6)
    if kind == 0:
        return np.full((size, size, 3), first, dtype="uint8")
    if kind == 1:
        across, along = rng.uniform(-1, 1, 2)
        rows, columns = np.indices((size, size)) / size
        share = np.clip(0.5 + across * (columns - 0.5) + along * (rows - 0.5), 0, 1)[:, :, None]
        return np.rint(first * share + second * (1 - share)).astype("uint8")
    if kind == 2:
        noise = rng.normal(rng.uniform(60, 200), rng.uniform(15, 80), (size, size, 3 if rng.random() < 0.6 else 1))
        return np.repeat(np.clip(noise, 0, 255), 3 // noise.shape[2], axis=2).astype("uint8")
    if kind == 3:
        rows, columns = np.indices((size, size))
        slant, period = rng.uniform(-2, 2), rng.uniform(4, size / 2)
        stripe = ((columns + slant * rows) // period % 2).astype(int)
        return np.stack([first, second]).astype("uint8")[stripe]
    if kind == 4:
        page = np.full((size, size, 3), first, dtype="uint8")
        for _ in range(int(rng.integers(2, 14))):
            colour = tuple(int(n) for n in rng.integers(0, 256, 3))
            x, y = (int(n) for n in rng.integers(0, size, 2))
            axes = tuple(int(n) for n in rng.integers(2, size // 2, 2))
            fill = -1 if rng.random() < 0.6 else 2
            if rng.random() < 0.5:
                cv2.ellipse(page, (x, y), axes, int(rng.integers(0, 180)), 0, 360, colour, fill, cv2.LINE_AA)
            else:
                cv2.rectangle(page, (x, y), (x + axes[0], y + axes[1]), colour, fill)
        return page
    cells = rng.integers(0, 256, (*rng.integers(2, 12, 2), 3), dtype="uint8")
    return cv2.resize(cells, (size, size), interpolation=cv2.INTER_CUBIC)


def scenery(size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a scene of the drawn sample with nobody in it, `uint8 (size, size, 3)`."""
    canvas = np.zeros((2 * size, 2 * size, 3), np.uint8)
    pen = sample_figures.Pen(canvas, len(canvas) * np.eye(2, 3), line=0.006)
    sample.SCENES[rng.integers(len(sample.SCENES))](pen, rng, 1.0)
    if rng.random() < 0.3:
        sample.FRONTS[rng.integers(len(sample.FRONTS))](pen, rng, 1.0)
    return cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)


def stranger(rng: np.random.Generator) -> sample_figures.Features:
    """Invent a figure that is nobody from the series: parts of all of them, in a skin that none of them has."""
    rows = list(sample_figures.FEATURES.values())

    def of_anyone(name: str):
        return getattr(rows[rng.integers(len(rows))], name)

    parts = {field.name: of_anyone(field.name) for field in dataclasses.fields(sample_figures.Features)}
    parts["skin"] = STRANGE_SKINS[rng.integers(len(STRANGE_SKINS))]
    # A colour of its own: blue hair, a tower of it, is Marge in any skin.
    for name in ("hair_colour", "top", "legs", "shirt"):
        parts[name] = "#" + bytes(int(n) for n in rng.integers(20, 236, 3)).hex()
    parts["hair"] = rng.choice([hair for hair in sample_figures.HAIR if hair not in SIGNATURES])
    return sample_figures.Features(**parts)


# Hair that alone says who it is.
SIGNATURES = {"beehive", "palm tree", "clown tufts", "crown of spikes", "star", "two hairs"}


def figure(size: int, rng: np.random.Generator, fit: str = "bounded") -> np.ndarray:
    """Draw an invented figure, `uint8 (size, size, 3)`: in a scene, or cut out."""
    features = stranger(rng)
    draw = sample.draw_cutout if rng.random() < 0.5 else sample.draw_picture
    return pictures.resize(draw(features, rng), size, fit)


def background(picture: np.ndarray, box: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """Cut out of a frame a part that its character is not in.

    Args:
        picture: `uint8 (size, size, 3)`, RGB.
        box: The character's box, shares of the picture.
        rng: Where chance comes from.

    Returns:
        The part, enlarged to the size of the picture, or None where the box leaves less than a third of the side.
    """
    size = len(picture)
    left, top, right, _ = np.clip(box, 0, 1)
    # The box ends at the shoulders: what is below it shows the body.
    rooms = [(0.0, 0.0, left, 1.0), (right, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0, top)]
    rooms = [room for room in rooms if min(room[2] - room[0], room[3] - room[1]) >= 0.33]
    if not rooms:
        return None
    x0, y0, x1, y1 = rooms[rng.integers(len(rooms))]
    side = rng.uniform(0.33, min(x1 - x0, y1 - y0))
    x, y = round(rng.uniform(x0, x1 - side) * size), round(rng.uniform(y0, y1 - side) * size)
    part = picture[y : y + max(8, round(side * size)), x : x + max(8, round(side * size))]
    return cv2.resize(part, (size, size), interpolation=cv2.INTER_LINEAR)


def _words(rng: np.random.Generator) -> str:
    lengths = rng.integers(1, 9, int(rng.integers(1, 4)))
    words = " ".join("".join(rng.choice(LETTERS, length)) for length in lengths)
    return words.upper() if rng.random() < 0.5 else words
