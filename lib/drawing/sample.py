"""The drawn sample: pictures composed like frames of a film, and drawn training pictures; all follow from a seed.

A picture has a background, one figure or two, at times a foreground, and its own light. The sample also has short
shots, whose frames are near-duplicates of each other, as a film has them.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from lib.drawing.figures import ARMS, FEATURES, MOUTHS, Features, Pose, draw_figure
from lib.drawing.hair import HAIR
from lib.drawing.pen import Pen, rgb
from lib.drawing.scenes import BACKGROUNDS, FOREGROUNDS, Painter, random_colour

CHARACTERS = tuple(character for character, features in FEATURES.items() if features.sample)
OVERSAMPLING = 2  # drawn this many times larger, then shrunk by area averaging
# These make the sample hard for a nearest neighbour and learnable by four convolutions: measure both before changing
# one. The size of the figures has by far the strongest effect.
MIN_SIZE, MAX_SIZE = 0.165, 0.23  # half the width of an adult's head, in picture heights
OFF_CENTRE = 0.08  # standard deviation of a figure's horizontal position, in picture widths
FOREGROUND_FRACTION = 0.15  # of the pictures have a foreground
COMPANION_FRACTION = 0.15  # of the pictures have a second, smaller figure behind the main one
SHOT_FRACTION = 0.066  # of the shots have two or three frames: 15 % of the pictures are in one of these
PNG_FRACTION = 0.08  # of the pictures are PNG files, the others JPEG
CUTOUT_SIDE = 480  # pixels, of the canvas for a figure without background, before it is shrunk and cropped
CUTOUT_UNITS = 12.5  # head units from edge to edge of that canvas: the tallest hair, 6, over the feet, 4
# Where a figure without background ends below, in head units from the neck: nowhere, at the waist, at the shoulders.
CUTS = (6.0, 2.2, 0.9)


@dataclass(frozen=True)
class PlacedFigure:
    """A figure in a picture; lengths are in picture heights."""

    features: Features
    pose: Pose
    x: float  # of the neck
    y: float
    size: float  # half the width of the head
    mirror: bool


@dataclass(frozen=True)
class Composition:
    """All that decides a picture; two compositions that differ little are two frames of a shot."""

    width: int  # pixels
    height: int
    background: Painter
    foreground: Painter | None
    scenery_seed: int
    figures: tuple[PlacedFigure, ...]  # from back to front; the last one is the label
    light: tuple[float, float, float]  # gain of red, green and blue
    contrast: float
    grain: float  # standard deviation, grey levels
    grain_seed: int
    quality: int  # of the JPEG file; 0: a PNG file


# ---------------------------------------------------------------- composition


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


def _main_figure(features: Features, rng: np.random.Generator, width: float) -> PlacedFigure:
    """Frame a character from head and shoulders to the whole figure, with the face in the picture."""
    size = np.exp(rng.uniform(np.log(MIN_SIZE), np.log(MAX_SIZE))) * features.height**0.5  # the camera comes nearer
    hair_top = min(y for piece in HAIR[features.hair] for _, y in piece.points)
    head_room = min(-hair_top, 3.6) * size + rng.uniform(-0.03, 0.1)  # very tall hair may be cut off
    x = width * (0.5 + np.clip(rng.normal(0, OFF_CENTRE), -0.25, 0.25))
    y = np.clip(head_room, _standing(rng, size), 0.92)
    return PlacedFigure(features, _pose(rng), x, y, size, mirror=rng.random() < 0.5)


def _companion(main: PlacedFigure, rng: np.random.Generator, width: float) -> PlacedFigure:
    """Place a smaller figure, of another character of the sample, behind the main one."""
    character = rng.choice([c for c in CHARACTERS if FEATURES[c] != main.features])
    size = main.size * rng.uniform(0.45, 0.6)
    side = -1 if main.x > width / 2 else 1
    x = np.clip(main.x + side * rng.uniform(2.0, 3.0) * main.size, 0.05 * width, 0.95 * width)
    return PlacedFigure(FEATURES[character], _pose(rng), x, _standing(rng, size), size, mirror=rng.random() < 0.5)


def _quality(rng: np.random.Generator) -> int:
    return 0 if rng.random() < PNG_FRACTION else rng.integers(55, 96)


def _compose(features: Features, rng: np.random.Generator) -> Composition:
    width = int(rng.integers(200, 321))
    height = int(np.clip(width / rng.choice([1.0, 1.33, 1.33, 1.5, 1.78]), 150, 260))
    main = _main_figure(features, rng, width / height)
    others = [_companion(main, rng, width / height)] if rng.random() < COMPANION_FRACTION else []
    if features not in FEATURES.values():
        others = []  # beside an invented figure, which must be nobody from the series
    return Composition(
        width,
        height,
        background=BACKGROUNDS[rng.integers(len(BACKGROUNDS))],
        foreground=FOREGROUNDS[rng.integers(len(FOREGROUNDS))] if rng.random() < FOREGROUND_FRACTION else None,
        scenery_seed=rng.integers(2**31),
        figures=(*others, main),
        light=tuple(rng.uniform(0.95, 1.04, 3) * rng.uniform(0.9, 1.05)),
        contrast=rng.uniform(0.88, 1.08),
        grain=rng.uniform(0, 2),
        grain_seed=rng.integers(2**31),
        quality=_quality(rng),
    )


def _next_frame(frame: Composition, rng: np.random.Generator) -> Composition:
    """Compose the next frame of a shot: the figure moves a little, gaze and mouth may change, the rest stays."""
    *others, main = frame.figures
    gaze = (rng.uniform(-1, 1), main.pose.gaze[1])
    pose = replace(main.pose, tilt=main.pose.tilt + rng.uniform(-1.5, 1.5), gaze=gaze, mouth=rng.choice(MOUTHS))
    moved = replace(main, pose=pose, x=main.x + rng.uniform(-0.008, 0.008), y=main.y + rng.uniform(-0.006, 0.006))
    return replace(frame, figures=(*others, moved), grain_seed=rng.integers(2**31), quality=_quality(rng))


def _frames(features: Features, seed: list[int]) -> Iterator[Composition]:
    """Yield compositions without end, shot by shot."""
    for shot in itertools.count():
        rng = np.random.default_rng([*seed, shot])
        frame = _compose(features, rng)
        yield frame
        for _ in range(rng.integers(1, 3) if rng.random() < SHOT_FRACTION else 0):
            frame = _next_frame(frame, rng)
            yield frame


def _draw(frame: Composition) -> np.ndarray:
    """Draw a composition: RGB `uint8 (height, width, 3)`."""
    width = frame.width / frame.height
    canvas = np.zeros((OVERSAMPLING * frame.height, OVERSAMPLING * frame.width, 3), np.uint8)
    pen = Pen(canvas, len(canvas) * np.eye(2, 3), line=0.006)
    rng = np.random.default_rng(frame.scenery_seed)
    frame.background(pen, rng, width)
    for figure in frame.figures:
        neck = pen.moved(figure.x, figure.y, 0, figure.size, figure.mirror, line=0.075)
        draw_figure(neck, figure.features, figure.pose)
    if frame.foreground:
        frame.foreground(pen, rng, width)
    picture = cv2.resize(canvas, (frame.width, frame.height), interpolation=cv2.INTER_AREA)
    levels = (np.arange(256)[:, None] - 128) * frame.contrast + 128
    lit = cv2.LUT(picture, np.clip(np.round(levels * frame.light), 0, 255).astype(np.uint8)[:, None])
    grain = frame.grain * np.random.default_rng(frame.grain_seed).standard_normal(lit.shape[:2], np.float32)
    return np.clip(lit + np.round(grain).astype(np.int16)[..., None], 0, 255).astype(np.uint8)


# ---------------------------------------------------------------- pictures


def draw_picture(features: Features, rng: np.random.Generator) -> np.ndarray:
    """Draw a character in a scene; an invented figure is drawn alone.

    Returns:
        RGB `uint8 (height, width, 3)`, 200 to 320 wide, 150 to 260 high.
    """
    return _draw(_compose(features, rng))


def draw_cutout(features: Features, rng: np.random.Generator) -> np.ndarray:
    """Draw a character without a scene, as clip-art shows one: on white or one colour, cropped to the figure.

    Returns:
        RGB `uint8 (height, width, 3)`, about 40 to 250 pixels a side; a whole figure is up to four times as high
        as wide.
    """
    colour = rgb("#ffffff" if rng.random() < 0.7 else random_colour(rng, (0, 1), 0.4, 0.75))
    canvas = np.full((CUTOUT_SIDE, CUTOUT_SIDE, 3), colour, np.uint8)
    pen = Pen(canvas, CUTOUT_SIDE / CUTOUT_UNITS * np.eye(2, 3))
    pose = replace(_pose(rng), lean=rng.normal(0, 3))
    mirror, outline = rng.random() < 0.5, rng.uniform(0.04, 0.12)
    draw_figure(pen.moved(CUTOUT_UNITS / 2, 7.2, 0, 1, mirror, line=outline), features, pose)
    end = round((7.2 + CUTS[rng.choice(3, p=(0.5, 0.3, 0.2))]) / CUTOUT_UNITS * CUTOUT_SIDE)
    drawn = (canvas[:end] != np.array(colour)).any(axis=2).astype(np.uint8)
    left, top, width, height = cv2.boundingRect(drawn)
    cropped = canvas[top : top + height, left : left + width]
    margins = [round(fraction * max(cropped.shape)) for fraction in rng.uniform(0, 0.12, 4)]
    framed = cv2.copyMakeBorder(cropped, *margins, cv2.BORDER_CONSTANT, value=colour)
    return cv2.resize(framed, None, fx=1 / OVERSAMPLING, fy=1 / OVERSAMPLING, interpolation=cv2.INTER_AREA)


def draw_training_pictures(
    characters: Sequence[str], drawings_per_character: int, seed: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """Draw training pictures, none of which is in the sample: half of them in a scene, half cut out.

    A network that trains on frames alone learns one drawing style. What drawings have in common with frames is what a
    person recognises a character by. The characters are in label order; those without features in `characters.yaml`
    are skipped. The seed decides every pixel.

    Returns:
        Pictures, RGB `uint8 (height, width, 3)` of different sizes, and their labels, `int64 (n,)`.
    """
    positions = {character: position for position, character in enumerate(FEATURES)}
    pictures, labels = [], []
    for label, character in enumerate(characters):
        for number in range(drawings_per_character if character in positions else 0):
            # Four numbers: the seeds of the sample have three.
            rng = np.random.default_rng([seed, positions[character], number, 1])
            pictures.append((draw_cutout if number % 2 else draw_picture)(FEATURES[character], rng))
            labels.append(label)
    return pictures, np.array(labels, dtype="int64")


def draw_sample(folder: Path, seed: int = 0, pictures_per_character: int = 50) -> None:
    """Draw the whole sample into `<character>/pic_NNNN.jpg`, some of them `.png`, below a folder.

    The seed decides every byte, given the versions of NumPy and OpenCV. Fewer pictures are the beginning of more with
    the same seed. About 15 % are in shots of two or three frames.
    """
    for position, (character, features) in enumerate(FEATURES.items()):
        if not features.sample:
            continue
        (folder / character).mkdir(parents=True, exist_ok=True)
        frames = itertools.islice(_frames(features, [seed, position]), pictures_per_character)
        for number, frame in enumerate(frames):
            suffix = ".jpg" if frame.quality else ".png"
            options = [cv2.IMWRITE_JPEG_QUALITY, int(frame.quality)] if frame.quality else []
            _, contents = cv2.imencode(suffix, _draw(frame)[..., ::-1], options)
            (folder / character / f"pic_{number:04d}{suffix}").write_bytes(contents.tobytes())
