"""The surroundings of the drawn figures: backgrounds that fill a picture, and foregrounds that hide part of a figure.

Lengths are in picture heights: y runs from 0 to 1, x from 0 to the width of the picture.
"""

import colorsys
import itertools
from collections.abc import Callable, Iterator

import numpy as np

from lib.drawing.pen import Pen, Points, arc, box, curls, rays, rgb, symmetric


def random_colour(rng: np.random.Generator, hues: tuple[float, float], saturation: float, value: float) -> str:
    """Choose a colour, `#rrggbb`, at random.

    `hues` are the lowest and the highest; 1 is a full turn, and values beyond it go round again. `saturation` and
    `value`, 0 to 1, are met within 0.1.
    """
    saturation, value = np.clip(np.array([saturation, value]) + rng.uniform(-0.1, 0.1, 2), 0, 1)
    channels = colorsys.hsv_to_rgb(rng.uniform(*hues) % 1, saturation, value)
    return "#" + bytes(round(255 * channel) for channel in channels).hex()


def _gradient(pen: Pen, top: str, bottom: str) -> None:
    """Fill the whole canvas from one colour to another."""
    down = np.linspace(0, 1, len(pen.canvas))[:, None]
    pen.canvas[:] = np.round(np.array(rgb(top)) * (1 - down) + np.array(rgb(bottom)) * down)[:, None]


def _cloud(pen: Pen, x: float, y: float, size: float, colour: str = "#ffffff") -> None:
    pen.shape(curls(x, y, 1.2 * size, 0.5 * size, -200, 160, 7, 0.3), colour, smooth=True, outline=False)


def _row(rng: np.random.Generator, start: float, end: float, widths: tuple[float, float]) -> Iterator[tuple]:
    """Divide a row into parts of random widths; yield the left edge and the width of each."""
    while start < end:
        width = rng.uniform(*widths)
        yield start, width
        start += width


def _living_room(pen: Pen, rng: np.random.Generator, width: float) -> None:
    _gradient(pen, wall := random_colour(rng, (0.75, 1.12), 0.35, 0.8), wall)
    pen.shape(box(-1, 0.8, 4, 2), random_colour(rng, (0.05, 0.15), 0.5, 0.55))
    painting = pen.moved(rng.uniform(0.1, width - 0.5), 0.08)
    painting.shape(box(0, 0, 0.42, 0.28), "#8a5a2b")
    painting.shape(box(0.03, 0.03, 0.39, 0.25), "#9fd3ee")
    painting.shape([(0.12, 0.2), (0.3, 0.2), (0.26, 0.25), (0.15, 0.25)], "#b5533c")
    painting.shape([(0.2, 0.06), (0.3, 0.18), (0.2, 0.18)], "#ffffff")
    sofa, cloth = pen.moved(rng.uniform(-0.3, width - 0.7), 0.5), random_colour(rng, (0.02, 0.14), 0.6, 0.6)
    for part in (box(0, 0, 0.5, 0.4), box(0.5, 0, 1, 0.4), box(0.05, 0.22, 0.95, 0.32)):
        sofa.shape(part, cloth)
    for x in (0, 1):
        sofa.shape([(x - 0.09, 0.45), (x - 0.1, 0.18), (x, 0.1), (x + 0.1, 0.18), (x + 0.09, 0.45)], cloth, smooth=True)


def _street(pen: Pen, rng: np.random.Generator, width: float) -> None:
    _gradient(pen, random_colour(rng, (0.52, 0.6), 0.5, 0.85), random_colour(rng, (0.5, 0.6), 0.2, 0.95))
    _cloud(pen, rng.uniform(0, width), 0.15, rng.uniform(0.08, 0.14))
    for x, plot in _row(rng, rng.uniform(-0.4, 0), width, (0.45, 0.75)):
        house, side = pen.moved(x, rng.uniform(0.3, 0.48)), 0.8 * plot
        house.shape(box(0, 0, side, 0.5), random_colour(rng, (0, 1), 0.35, 0.8))
        house.shape([(-0.05, 0), (side / 2, -0.17), (side + 0.05, 0)], random_colour(rng, (0, 0.1), 0.5, 0.5))
        for left in (0.15, 0.6):
            house.shape(box(left * side, 0.08, (left + 0.25) * side, 0.2), "#cfe8f5")
    pen.shape(box(-1, 0.72, 4, 2), random_colour(rng, (0.25, 0.36), 0.55, 0.65))
    pen.shape(box(-1, 0.86, 4, 2), random_colour(rng, (0.6, 0.7), 0.05, 0.5))


def _classroom(pen: Pen, rng: np.random.Generator, width: float) -> None:
    _gradient(pen, wall := random_colour(rng, (0.1, 0.55), 0.25, 0.8), wall)
    pen.shape(box(-1, 0.85, 4, 2), random_colour(rng, (0.06, 0.12), 0.4, 0.6))
    left, right = rng.uniform(-0.2, 0.3), width - rng.uniform(-0.2, 0.3)
    pen.shape(box(left, 0.12, right, 0.62), "#8a5a2b")
    pen.shape(box(left + 0.03, 0.15, right - 0.03, 0.59), random_colour(rng, (0.4, 0.45), 0.45, 0.38))
    for y in (0.22, 0.31, 0.4, 0.49):
        end = left + rng.uniform(0.4, 0.9) * (right - left)
        line = [(x, y + rng.uniform(-0.015, 0.015)) for x in np.arange(left + 0.08, end, 0.025)]
        pen.stroke(line, 0.01, "#e8efe6")
    pen.shape(box(left + 0.05, 0.6, right - 0.05, 0.64), "#a9743d")


def _bar(pen: Pen, rng: np.random.Generator, width: float) -> None:
    _gradient(pen, random_colour(rng, (0.0, 0.95), 0.35, 0.35), random_colour(rng, (0.02, 0.1), 0.4, 0.4))
    for y in (0.3, 0.62):
        pen.shape(box(-1, y, 4, y + 0.03), "#6b4423")
        for x, _ in _row(rng, rng.uniform(0, 0.1), width, (0.09, 0.2)):
            tall = rng.uniform(0.12, 0.2)
            bottle = [(0, -tall), (0.015, -tall), (0.015, -0.7 * tall), (0.035, -0.6 * tall), (0.035, 0)]
            pen.moved(x, y).shape(symmetric(bottle), random_colour(rng, (0, 1), 0.6, 0.65))
    pen.shape(box(-1, 0.82, 4, 2), random_colour(rng, (0.02, 0.08), 0.6, 0.5))
    pen.shape(box(-1, 0.79, 4, 0.84), "#c28a4e")


def _hills(pen: Pen, rng: np.random.Generator, width: float) -> None:
    _gradient(pen, random_colour(rng, (0.5, 0.62), 0.45, 0.9), random_colour(rng, (0.45, 1.1), 0.25, 0.95))
    for _ in range(rng.integers(2, 5)):
        _cloud(pen, rng.uniform(0, width), rng.uniform(0.05, 0.45), rng.uniform(0.06, 0.16))
    for y in (0.72, 0.85):
        hill = pen.moved(rng.uniform(0, width), y)
        hill.shape(
            symmetric([(0, -0.1), (1.2, 0.12), (3, 2)]), random_colour(rng, (0.22, 0.4), 0.55, 0.65), smooth=True
        )


def _power_plant(pen: Pen, rng: np.random.Generator, width: float) -> None:
    _gradient(pen, random_colour(rng, (0.6, 1.0), 0.4, 0.7), random_colour(rng, (0.0, 0.14), 0.45, 0.95))
    concrete, x = random_colour(rng, (0.5, 0.7), 0.08, 0.65), rng.uniform(0.1, width - 0.6)
    for tower in (pen.moved(x, 0.3), pen.moved(x + 0.5, 0.3)):
        _cloud(tower, 0, -0.08, 0.12, "#eef0f2")
        tower.shape(symmetric([(0, 0), (0.12, 0), (0.1, 0.15), (0.16, 0.55)]), concrete, smooth=True)
    pen.shape(box(-1, 0.78, 4, 2), random_colour(rng, (0.15, 0.4), 0.35, 0.45))


def _night(pen: Pen, rng: np.random.Generator, width: float) -> None:
    _gradient(pen, random_colour(rng, (0.62, 0.75), 0.6, 0.22), random_colour(rng, (0.62, 0.8), 0.5, 0.42))
    for x, y in rng.uniform(0, (width, 0.5), (14, 2)):
        pen.oval(x, y, 0.006, 0.006, "#fff6c9", outline=False)
    pen.oval(rng.uniform(0, width), rng.uniform(0.08, 0.3), 0.08, 0.08, "#f6ecc0", outline=False)
    for x, side in _row(rng, rng.uniform(-0.2, 0), width, (0.15, 0.35)):
        top = rng.uniform(0.35, 0.65)
        pen.shape(box(x, top, x + side, 2), random_colour(rng, (0.6, 0.75), 0.4, 0.3))
        windows = itertools.product(np.arange(x + 0.04, x + side - 0.05, 0.09), np.arange(top + 0.05, 0.95, 0.11))
        for left, y in windows:
            if rng.random() < 0.5:
                pen.shape(box(left, y, left + 0.04, y + 0.05), "#e9c95c", outline=False)


def _kitchen(pen: Pen, rng: np.random.Generator, width: float) -> None:
    _gradient(pen, wall := random_colour(rng, (0.1, 1.0), 0.3, 0.85), wall)
    wood = random_colour(rng, (0.05, 0.95), 0.4, 0.7)
    for x in np.arange(rng.uniform(-0.3, 0), width, 0.38):
        pen.shape(box(x, -0.1, x + 0.38, 0.22), wood)
        pen.shape(box(x, 0.66, x + 0.38, 1.1), wood)
        pen.oval(x + 0.32, 0.17, 0.012, 0.012, "#f5e9c8")
    pen.shape(box(-1, 0.62, 4, 0.68), random_colour(rng, (0, 1), 0.1, 0.8))
    window = pen.moved(rng.uniform(0.1, width - 0.4), 0.25)
    window.shape(box(0, 0.03, 0.36, 0.31), "#bfe3f4")
    for left in (-0.04, 0.26):
        window.shape(box(left, 0, left + 0.14, 0.31), "#f2b95c")


def _pattern(pen: Pen, rng: np.random.Generator, width: float) -> None:
    hue = rng.uniform(0, 1)
    light, dark = random_colour(rng, (hue, hue + 0.08), 0.4, 0.85), random_colour(rng, (hue, hue + 0.15), 0.45, 0.65)
    _gradient(pen, light, dark if rng.random() < 0.5 else light)
    pieces: list[Points] = []
    match rng.integers(4):
        case 0:
            pieces = [rays(rng.uniform(0, width), rng.uniform(0.2, 0.8), 0.05, 4, 0, 360, 10)]
        case 1:
            a, b = rng.uniform(-0.6, 0.6) + np.array([0, 0.12])
            pieces = [[(x, 0), (x + 0.12, 0), (x + b, 1), (x + a, 1)] for x in np.arange(-1, width + 1, 0.24)]
        case 2:
            grid = itertools.product(np.arange(0, width + 0.1, 0.2), np.arange(0, 1.1, 0.2))
            pieces = [arc(x, y, 0.05, 0.05) for x, y in grid]
    for piece in pieces:
        pen.shape(piece, dark, outline=False)


# A foreground hides the bottom or a side of the picture.


def _counter(pen: Pen, rng: np.random.Generator, width: float) -> None:
    y = rng.uniform(0.75, 0.85)
    pen.shape(box(-1, y, 4, 2), random_colour(rng, (0, 1), 0.4, 0.5))
    pen.shape(box(-1, y, 4, y + 0.05), random_colour(rng, (0, 1), 0.3, 0.75))


def _bush(pen: Pen, rng: np.random.Generator, width: float) -> None:
    x, size = rng.choice([0.1, 0.9]) * width, rng.uniform(0.25, 0.4)
    pen.shape(
        curls(x, 1.05, 1.3 * size, size, 180, 360, 5, 0.25), random_colour(rng, (0.25, 0.4), 0.6, 0.5), smooth=True
    )


def _post(pen: Pen, rng: np.random.Generator, width: float) -> None:
    x, half_width = rng.choice([0.15, 0.85]) * width, rng.uniform(0.05, 0.12)
    pen.shape(box(x - half_width, -1, x + half_width, 2), random_colour(rng, (0, 1), 0.3, 0.45))


def _fence(pen: Pen, rng: np.random.Generator, width: float) -> None:
    paint, y = random_colour(rng, (0, 0.15), 0.15, 0.85), rng.uniform(0.78, 0.88)
    pen.shape(box(-1, y + 0.06, 4, y + 0.1), paint)
    for x in np.arange(rng.uniform(-0.2, 0), width, 0.2):
        pen.shape([(x, 2), (x, y), (x + 0.05, y - 0.06), (x + 0.1, y), (x + 0.1, 2)], paint)


Painter = Callable[[Pen, np.random.Generator, float], None]  # pen, source of randomness, width of the picture
BACKGROUNDS = (_living_room, _street, _classroom, _bar, _hills, _power_plant, _night, _kitchen, _pattern)
FOREGROUNDS = (_counter, _bush, _post, _fence)
