"""The embedded data set: pictures of 18 characters, drawn like stills of a film, all of them from one seed.

`sample_figures` draws the figures; here is what surrounds them: scenes, framing, what stands in front, light,
and the short shots whose frames are near-copies of one another, as a film has them.
"""

import colorsys
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from lib.data.sample_figures import (
    ARMS,
    FEATURES,
    HAIR,
    MOUTHS,
    Features,
    Pen,
    Points,
    Pose,
    arc,
    both,
    box,
    curls,
    draw_figure,
    rays,
    rgb,
)
from lib.errors import UserError

CHARACTERS = tuple(sorted(FEATURES))
OVERSAMPLING = 2  # drawn so much larger, then shrunk by area averaging
# These make the set hard for a nearest neighbour and learnable by four convolutions: change them only with both
# measured. Smaller figures are by far the strongest lever.
SMALLEST, LARGEST = 0.165, 0.23  # half the width of a grown-up's head, in picture heights
OFF_CENTRE = 0.08  # standard deviation of the place across, in picture widths
HIDDEN = 0.15  # share of pictures with something in front of the figure
ACCOMPANIED = 0.15  # share of pictures with a second, smaller figure in the back
SHOTS = 0.066  # share of the shots that have two or three frames: 15 % of the pictures are in one of these
PNG = 0.08  # share of pictures that are not JPEG
CUTOUT_SIDE = 480  # pixels of the sheet that a figure without a scene is drawn on, before it is shrunk and trimmed
CUTOUT_UNITS = 12.5  # head units from edge to edge of that sheet: the tallest hair, 6, over the feet, 4
# Where a figure without a scene is cut off below, in head units from the neck: nowhere, at the waist, at the shoulders.
CUTS = (6.0, 2.2, 0.9)


def _colour(rng: np.random.Generator, hues: tuple[float, float], saturation: float, value: float) -> str:
    """Choose a colour near a saturation and a value; hues run from 0 to 1 and on around the circle."""
    saturation, value = np.clip(np.array([saturation, value]) + rng.uniform(-0.1, 0.1, 2), 0, 1)
    channels = colorsys.hsv_to_rgb(rng.uniform(*hues) % 1, saturation, value)
    return "#" + bytes(round(255 * channel) for channel in channels).hex()


def _gradient(pen: Pen, top: str, bottom: str) -> None:
    """Fill the whole canvas from one colour to another."""
    share = np.linspace(0, 1, len(pen.canvas))[:, None]
    pen.canvas[:] = np.round(np.array(rgb(top)) * (1 - share) + np.array(rgb(bottom)) * share)[:, None]


def _cloud(pen: Pen, x: float, y: float, size: float, colour: str = "#ffffff") -> None:
    pen.shape(curls(x, y, 1.2 * size, 0.5 * size, -200, 160, 7, 0.3), colour, smooth=True, outline=False)


def _row(rng: np.random.Generator, start: float, end: float, widths: tuple[float, float]) -> Iterator[tuple]:
    """Divide a row into things of different widths; yield the left edge and the width of each."""
    while start < end:
        width = rng.uniform(*widths)
        yield start, width
        start += width


# A scene fills the canvas: heights run from 0 to 1, widths from 0 to `wide`.


def _living_room(pen: Pen, rng: np.random.Generator, wide: float) -> None:
    _gradient(pen, wall := _colour(rng, (0.75, 1.12), 0.35, 0.8), wall)
    pen.shape(box(-1, 0.8, 4, 2), _colour(rng, (0.05, 0.15), 0.5, 0.55))
    painting = pen.moved(rng.uniform(0.1, wide - 0.5), 0.08)
    painting.shape(box(0, 0, 0.42, 0.28), "#8a5a2b")
    painting.shape(box(0.03, 0.03, 0.39, 0.25), "#9fd3ee")
    painting.shape([(0.12, 0.2), (0.3, 0.2), (0.26, 0.25), (0.15, 0.25)], "#b5533c")
    painting.shape([(0.2, 0.06), (0.3, 0.18), (0.2, 0.18)], "#ffffff")
    sofa, cloth = pen.moved(rng.uniform(-0.3, wide - 0.7), 0.5), _colour(rng, (0.02, 0.14), 0.6, 0.6)
    for part in (box(0, 0, 0.5, 0.4), box(0.5, 0, 1, 0.4), box(0.05, 0.22, 0.95, 0.32)):
        sofa.shape(part, cloth)
    for x in (0, 1):
        sofa.shape([(x - 0.09, 0.45), (x - 0.1, 0.18), (x, 0.1), (x + 0.1, 0.18), (x + 0.09, 0.45)], cloth, smooth=True)


def _street(pen: Pen, rng: np.random.Generator, wide: float) -> None:
    _gradient(pen, _colour(rng, (0.52, 0.6), 0.5, 0.85), _colour(rng, (0.5, 0.6), 0.2, 0.95))
    _cloud(pen, rng.uniform(0, wide), 0.15, rng.uniform(0.08, 0.14))
    for x, width in _row(rng, rng.uniform(-0.4, 0), wide, (0.45, 0.75)):
        house, width = pen.moved(x, rng.uniform(0.3, 0.48)), 0.8 * width
        house.shape(box(0, 0, width, 0.5), _colour(rng, (0, 1), 0.35, 0.8))
        house.shape([(-0.05, 0), (width / 2, -0.17), (width + 0.05, 0)], _colour(rng, (0, 0.1), 0.5, 0.5))
        for left in (0.15, 0.6):
            house.shape(box(left * width, 0.08, (left + 0.25) * width, 0.2), "#cfe8f5")
    pen.shape(box(-1, 0.72, 4, 2), _colour(rng, (0.25, 0.36), 0.55, 0.65))
    pen.shape(box(-1, 0.86, 4, 2), _colour(rng, (0.6, 0.7), 0.05, 0.5))


def _classroom(pen: Pen, rng: np.random.Generator, wide: float) -> None:
    _gradient(pen, wall := _colour(rng, (0.1, 0.55), 0.25, 0.8), wall)
    pen.shape(box(-1, 0.85, 4, 2), _colour(rng, (0.06, 0.12), 0.4, 0.6))
    left, right = rng.uniform(-0.2, 0.3), wide - rng.uniform(-0.2, 0.3)
    pen.shape(box(left, 0.12, right, 0.62), "#8a5a2b")
    pen.shape(box(left + 0.03, 0.15, right - 0.03, 0.59), _colour(rng, (0.4, 0.45), 0.45, 0.38))
    for y in (0.22, 0.31, 0.4, 0.49):
        end = left + rng.uniform(0.4, 0.9) * (right - left)
        line = [(x, y + rng.uniform(-0.015, 0.015)) for x in np.arange(left + 0.08, end, 0.025)]
        pen.stroke(line, 0.01, "#e8efe6")
    pen.shape(box(left + 0.05, 0.6, right - 0.05, 0.64), "#a9743d")


def _bar(pen: Pen, rng: np.random.Generator, wide: float) -> None:
    _gradient(pen, _colour(rng, (0.0, 0.95), 0.35, 0.35), _colour(rng, (0.02, 0.1), 0.4, 0.4))
    for y in (0.3, 0.62):
        pen.shape(box(-1, y, 4, y + 0.03), "#6b4423")
        for x, _ in _row(rng, rng.uniform(0, 0.1), wide, (0.09, 0.2)):
            tall = rng.uniform(0.12, 0.2)
            bottle = [(0, -tall), (0.015, -tall), (0.015, -0.7 * tall), (0.035, -0.6 * tall), (0.035, 0)]
            pen.moved(x, y).shape(both(bottle), _colour(rng, (0, 1), 0.6, 0.65))
    pen.shape(box(-1, 0.82, 4, 2), _colour(rng, (0.02, 0.08), 0.6, 0.5))
    pen.shape(box(-1, 0.79, 4, 0.84), "#c28a4e")


def _hills(pen: Pen, rng: np.random.Generator, wide: float) -> None:
    _gradient(pen, _colour(rng, (0.5, 0.62), 0.45, 0.9), _colour(rng, (0.45, 1.1), 0.25, 0.95))
    for _ in range(rng.integers(2, 5)):
        _cloud(pen, rng.uniform(0, wide), rng.uniform(0.05, 0.45), rng.uniform(0.06, 0.16))
    for y in (0.72, 0.85):
        hill = pen.moved(rng.uniform(0, wide), y)
        hill.shape(both([(0, -0.1), (1.2, 0.12), (3, 2)]), _colour(rng, (0.22, 0.4), 0.55, 0.65), smooth=True)


def _power_plant(pen: Pen, rng: np.random.Generator, wide: float) -> None:
    _gradient(pen, _colour(rng, (0.6, 1.0), 0.4, 0.7), _colour(rng, (0.0, 0.14), 0.45, 0.95))
    concrete, x = _colour(rng, (0.5, 0.7), 0.08, 0.65), rng.uniform(0.1, wide - 0.6)
    for tower in (pen.moved(x, 0.3), pen.moved(x + 0.5, 0.3)):
        _cloud(tower, 0, -0.08, 0.12, "#eef0f2")
        tower.shape(both([(0, 0), (0.12, 0), (0.1, 0.15), (0.16, 0.55)]), concrete, smooth=True)
    pen.shape(box(-1, 0.78, 4, 2), _colour(rng, (0.15, 0.4), 0.35, 0.45))


def _night(pen: Pen, rng: np.random.Generator, wide: float) -> None:
    _gradient(pen, _colour(rng, (0.62, 0.75), 0.6, 0.22), _colour(rng, (0.62, 0.8), 0.5, 0.42))
    for x, y in rng.uniform(0, (wide, 0.5), (14, 2)):
        pen.oval(x, y, 0.006, 0.006, "#fff6c9", outline=False)
    pen.oval(rng.uniform(0, wide), rng.uniform(0.08, 0.3), 0.08, 0.08, "#f6ecc0", outline=False)
    for x, width in _row(rng, rng.uniform(-0.2, 0), wide, (0.15, 0.35)):
        top = rng.uniform(0.35, 0.65)
        pen.shape(box(x, top, x + width, 2), _colour(rng, (0.6, 0.75), 0.4, 0.3))
        windows = itertools.product(np.arange(x + 0.04, x + width - 0.05, 0.09), np.arange(top + 0.05, 0.95, 0.11))
        for left, y in windows:
            if rng.random() < 0.5:
                pen.shape(box(left, y, left + 0.04, y + 0.05), "#e9c95c", outline=False)


def _kitchen(pen: Pen, rng: np.random.Generator, wide: float) -> None:
    _gradient(pen, wall := _colour(rng, (0.1, 1.0), 0.3, 0.85), wall)
    wood = _colour(rng, (0.05, 0.95), 0.4, 0.7)
    for x in np.arange(rng.uniform(-0.3, 0), wide, 0.38):
        pen.shape(box(x, -0.1, x + 0.38, 0.22), wood)
        pen.shape(box(x, 0.66, x + 0.38, 1.1), wood)
        pen.oval(x + 0.32, 0.17, 0.012, 0.012, "#f5e9c8")
    pen.shape(box(-1, 0.62, 4, 0.68), _colour(rng, (0, 1), 0.1, 0.8))
    window = pen.moved(rng.uniform(0.1, wide - 0.4), 0.25)
    window.shape(box(0, 0.03, 0.36, 0.31), "#bfe3f4")
    for left in (-0.04, 0.26):
        window.shape(box(left, 0, left + 0.14, 0.31), "#f2b95c")


def _pattern(pen: Pen, rng: np.random.Generator, wide: float) -> None:
    hue = rng.uniform(0, 1)
    light, dark = _colour(rng, (hue, hue + 0.08), 0.4, 0.85), _colour(rng, (hue, hue + 0.15), 0.45, 0.65)
    _gradient(pen, light, dark if rng.random() < 0.5 else light)
    pieces: list[Points] = []
    match rng.integers(4):
        case 0:
            pieces = [rays(rng.uniform(0, wide), rng.uniform(0.2, 0.8), 0.05, 4, 0, 360, 10)]
        case 1:
            a, b = rng.uniform(-0.6, 0.6) + np.array([0, 0.12])
            pieces = [[(x, 0), (x + 0.12, 0), (x + b, 1), (x + a, 1)] for x in np.arange(-1, wide + 1, 0.24)]
        case 2:
            grid = itertools.product(np.arange(0, wide + 0.1, 0.2), np.arange(0, 1.1, 0.2))
            pieces = [arc(x, y, 0.05, 0.05) for x, y in grid]
    for piece in pieces:
        pen.shape(piece, dark, outline=False)


# What stands in front hides the bottom or a side of the picture.


def _counter(pen: Pen, rng: np.random.Generator, wide: float) -> None:
    y = rng.uniform(0.75, 0.85)
    pen.shape(box(-1, y, 4, 2), _colour(rng, (0, 1), 0.4, 0.5))
    pen.shape(box(-1, y, 4, y + 0.05), _colour(rng, (0, 1), 0.3, 0.75))


def _bush(pen: Pen, rng: np.random.Generator, wide: float) -> None:
    x, size = rng.choice([0.1, 0.9]) * wide, rng.uniform(0.25, 0.4)
    pen.shape(curls(x, 1.05, 1.3 * size, size, 180, 360, 5, 0.25), _colour(rng, (0.25, 0.4), 0.6, 0.5), smooth=True)


def _post(pen: Pen, rng: np.random.Generator, wide: float) -> None:
    x, width = rng.choice([0.15, 0.85]) * wide, rng.uniform(0.05, 0.12)
    pen.shape(box(x - width, -1, x + width, 2), _colour(rng, (0, 1), 0.3, 0.45))


def _fence(pen: Pen, rng: np.random.Generator, wide: float) -> None:
    paint, y = _colour(rng, (0, 0.15), 0.15, 0.85), rng.uniform(0.78, 0.88)
    pen.shape(box(-1, y + 0.06, 4, y + 0.1), paint)
    for x in np.arange(rng.uniform(-0.2, 0), wide, 0.2):
        pen.shape([(x, 2), (x, y), (x + 0.05, y - 0.06), (x + 0.1, y), (x + 0.1, 2)], paint)


Scenery = Callable[[Pen, np.random.Generator, float], None]
SCENES: tuple[Scenery, ...] = (
    _living_room,
    _street,
    _classroom,
    _bar,
    _hills,
    _power_plant,
    _night,
    _kitchen,
    _pattern,
)
FRONTS: tuple[Scenery, ...] = (_counter, _bush, _post, _fence)


@dataclass(frozen=True)
class Placed:
    """A figure in a picture; lengths are in picture heights."""

    character: str | Features  # a row of the table that need not be in it
    pose: Pose
    x: float  # of the neck
    y: float
    size: float  # half the width of the head
    mirror: bool


@dataclass(frozen=True)
class Still:
    """All that it takes to draw a picture; two stills that differ little are two frames of a shot."""

    width: int  # pixels
    height: int
    scene: Scenery
    front: Scenery | None
    scenery_seed: int
    figures: tuple[Placed, ...]  # from back to front; the last one is the label
    light: tuple[float, float, float]  # gain of red, green and blue
    contrast: float
    grain: float  # grey levels
    grain_seed: int
    quality: int  # of the JPEG file; 0: a PNG file


def _pose(rng: np.random.Generator) -> Pose:
    return Pose(
        turn=rng.uniform(-1, 1),
        tilt=np.clip(rng.normal(0, 6), -12, 12),
        lean=np.clip(rng.normal(0, 4), -8, 8),
        gaze=(rng.uniform(-1, 1), rng.uniform(-0.6, 0.8)),
        closed=float(rng.random() < 0.05),
        mouth=rng.choice(MOUTHS),
        arms=tuple(rng.choice(list(ARMS), 2)),
        swing=rng.uniform(-8, 8),
    )


def _standing(rng: np.random.Generator, size: float) -> float:
    """Return the height of the neck of a figure whose feet are on the ground."""
    return rng.uniform(0.84, 0.95) - 3.9 * size


def _features(character: str | Features) -> Features:
    return character if isinstance(character, Features) else FEATURES[character]


def _main_figure(character: str | Features, rng: np.random.Generator, wide: float) -> Placed:
    """Frame a character between head and shoulders and the whole figure, with the face in the picture."""
    features = _features(character)
    size = np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST))) * features.height**0.5  # the camera comes nearer
    hair_top = min(y for piece in HAIR[features.hair] for _, y in piece.points)
    head_room = min(-hair_top, 3.6) * size + rng.uniform(-0.03, 0.1)  # a tower of hair may be cut off
    x = wide * (0.5 + np.clip(rng.normal(0, OFF_CENTRE), -0.25, 0.25))
    y = np.clip(head_room, _standing(rng, size), 0.92)
    return Placed(character, _pose(rng), x, y, size, mirror=rng.random() < 0.5)


def _companion(main: Placed, rng: np.random.Generator, wide: float) -> Placed:
    """Put a smaller figure, of another character, behind the main one."""
    character = rng.choice([c for c in CHARACTERS if c != main.character])
    size = main.size * rng.uniform(0.45, 0.6)
    side = -1 if main.x > wide / 2 else 1
    x = np.clip(main.x + side * rng.uniform(2.0, 3.0) * main.size, 0.05 * wide, 0.95 * wide)
    return Placed(character, _pose(rng), x, _standing(rng, size), size, mirror=rng.random() < 0.5)


def _quality(rng: np.random.Generator) -> int:
    return 0 if rng.random() < PNG else rng.integers(55, 96)


def _compose(character: str | Features, rng: np.random.Generator) -> Still:
    width = int(rng.integers(200, 321))
    height = int(np.clip(width / rng.choice([1.0, 1.33, 1.33, 1.5, 1.78]), 150, 260))
    main = _main_figure(character, rng, width / height)
    others = [_companion(main, rng, width / height)] if rng.random() < ACCOMPANIED else []
    return Still(
        width,
        height,
        scene=SCENES[rng.integers(len(SCENES))],
        front=FRONTS[rng.integers(len(FRONTS))] if rng.random() < HIDDEN else None,
        scenery_seed=rng.integers(2**31),
        figures=(*others, main),
        light=tuple(rng.uniform(0.95, 1.04, 3) * rng.uniform(0.9, 1.05)),
        contrast=rng.uniform(0.88, 1.08),
        grain=rng.uniform(0, 2),
        grain_seed=rng.integers(2**31),
        quality=_quality(rng),
    )


def _next_frame(still: Still, rng: np.random.Generator) -> Still:
    """Let a moment pass: the figure moves a little, eyes and mouth may change, the scene stays."""
    *others, main = still.figures
    gaze = (rng.uniform(-1, 1), main.pose.gaze[1])
    pose = replace(main.pose, tilt=main.pose.tilt + rng.uniform(-1.5, 1.5), gaze=gaze, mouth=rng.choice(MOUTHS))
    moved = replace(main, pose=pose, x=main.x + rng.uniform(-0.008, 0.008), y=main.y + rng.uniform(-0.006, 0.006))
    return replace(still, figures=(*others, moved), grain_seed=rng.integers(2**31), quality=_quality(rng))


def _draw(still: Still) -> np.ndarray:
    wide = still.width / still.height
    canvas = np.zeros((OVERSAMPLING * still.height, OVERSAMPLING * still.width, 3), np.uint8)
    pen = Pen(canvas, len(canvas) * np.eye(2, 3), line=0.006)
    scenery = np.random.default_rng(still.scenery_seed)
    still.scene(pen, scenery, wide)
    for figure in still.figures:
        place = pen.moved(figure.x, figure.y, 0, figure.size, figure.mirror, line=0.075)
        draw_figure(place, _features(figure.character), figure.pose)
    if still.front:
        still.front(pen, scenery, wide)
    picture = cv2.resize(canvas, (still.width, still.height), interpolation=cv2.INTER_AREA)
    levels = (np.arange(256)[:, None] - 128) * still.contrast + 128
    lit = cv2.LUT(picture, np.clip(np.round(levels * still.light), 0, 255).astype(np.uint8)[:, None])
    grain = still.grain * np.random.default_rng(still.grain_seed).standard_normal(lit.shape[:2], np.float32)
    return np.clip(lit + np.round(grain).astype(np.int16)[..., None], 0, 255).astype(np.uint8)


def _stills(character: str, seed: list[int]) -> Iterator[Still]:
    """Yield pictures without end, shot by shot."""
    for shot in itertools.count():
        rng = np.random.default_rng([*seed, shot])
        still = _compose(character, rng)
        yield still
        for _ in range(rng.integers(1, 3) if rng.random() < SHOTS else 0):
            still = _next_frame(still, rng)
            yield still


def _encode(still: Still) -> tuple[str, bytes]:
    """Return the suffix and the contents of a picture's file."""
    suffix, options = (".jpg", [cv2.IMWRITE_JPEG_QUALITY, int(still.quality)]) if still.quality else (".png", [])
    _, contents = cv2.imencode(suffix, _draw(still)[..., ::-1], options)
    return suffix, contents.tobytes()


def draw_picture(character: str | Features, rng: np.random.Generator) -> np.ndarray:
    """Draw one picture of a character.

    Args:
        character: One of `CHARACTERS`, or the features of an invented figure, which stands alone.
        rng: Decides everything else.

    Returns:
        RGB `uint8 (height, width, 3)`, 200 to 320 wide, 150 to 260 high.

    Raises:
        UserError: There is no such character.
    """
    _check_character(character)
    still = _compose(character, rng)
    # Whoever stands behind an invented figure may be known.
    return _draw(replace(still, figures=still.figures[-1:]) if isinstance(character, Features) else still)


def draw_cutout(character: str | Features, rng: np.random.Generator) -> np.ndarray:
    """Draw a character without a scene, as clip-art shows one: on white or one colour, trimmed to the figure.

    Args:
        character: One of `CHARACTERS`, or the features of an invented figure.
        rng: Decides everything else: how much of the figure is in the picture, its outlines, the margin.

    Returns:
        RGB `uint8 (height, width, 3)`, about 40 to 250 pixels a side; a whole figure is up to four times as high
        as wide.

    Raises:
        UserError: There is no such character.
    """
    _check_character(character)
    paper = "#ffffff" if rng.random() < 0.7 else _colour(rng, (0, 1), 0.4, 0.75)
    sheet = np.empty((CUTOUT_SIDE, CUTOUT_SIDE, 3), np.uint8)
    sheet[:] = rgb(paper)
    pen = Pen(sheet, CUTOUT_SIDE / CUTOUT_UNITS * np.eye(2, 3))
    pose = replace(_pose(rng), lean=rng.normal(0, 3))
    mirror, outline = rng.random() < 0.5, rng.uniform(0.04, 0.12)
    draw_figure(pen.moved(CUTOUT_UNITS / 2, 7.2, 0, 1, mirror, line=outline), _features(character), pose)
    end = round((7.2 + CUTS[rng.choice(3, p=(0.5, 0.3, 0.2))]) / CUTOUT_UNITS * CUTOUT_SIDE)
    trimmed = _trimmed(sheet[: min(end, CUTOUT_SIDE)], rgb(paper))
    margins = [round(share * max(trimmed.shape)) for share in rng.uniform(0, 0.12, 4)]
    framed = cv2.copyMakeBorder(trimmed, *margins, cv2.BORDER_CONSTANT, value=rgb(paper))
    return cv2.resize(framed, None, fx=1 / OVERSAMPLING, fy=1 / OVERSAMPLING, interpolation=cv2.INTER_AREA)


def _check_character(character: str | Features) -> None:
    if not isinstance(character, Features) and character not in FEATURES:
        raise UserError(f"Cannot draw {character!r}: expected one of {', '.join(CHARACTERS)}.")


def _trimmed(picture: np.ndarray, paper: tuple[int, int, int]) -> np.ndarray:
    """Cut off the rows and columns that hold nothing but paper."""
    drawn = (picture != np.array(paper)).any(axis=2)
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    return picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def draw_sample(folder: Path, seed: int = 0, pictures_per_character: int = 50) -> None:
    """Draw the whole data set into `<character>/pic_NNNN.jpg`, some of them `.png`.

    Fewer pictures are the beginning of more with the same seed. About 15 % are in shots of two or three frames.

    Args:
        folder: Receives a folder per character.
        seed: Decides every byte, given the versions of NumPy and OpenCV; at least 0.
        pictures_per_character: How many; at least 1.

    Raises:
        UserError: A number is too small.
    """
    if seed < 0 or pictures_per_character < 1:
        raise UserError(
            "Cannot draw the sample: expected a seed of at least 0 and at least 1 picture per character, "
            f"received {seed} and {pictures_per_character}."
        )
    for index, character in enumerate(CHARACTERS):
        (folder / character).mkdir(parents=True, exist_ok=True)
        stills = itertools.islice(_stills(character, [seed, index]), pictures_per_character)
        for number, still in enumerate(stills):
            suffix, contents = _encode(still)
            (folder / character / f"pic_{number:04d}{suffix}").write_bytes(contents)
