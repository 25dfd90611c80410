"""The figures of the drawn data set: a table of what a person tells them by, and how each part is drawn.

Lengths are in head units: half the width of a head is 1. Points are `(x, y)` with y downwards and the origin
where the neck meets the shoulders, so that a head leans without coming off; the eyes lie at y = -1.35, the
chin at 0, the feet near 4. `turn` is how far a face looks aside, from -1 (left) to 1 (right).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

Points = Sequence[tuple[float, float]]

INK = "#33261d"  # outlines; softer than black
YELLOW, GOLD, AMBER = "#ffd83d", "#f7cd3c", "#efc548"  # skins differ a little from one to the next
WHITE, BLACK = "#ffffff", "#26262c"
EYE_LINE = -1.35


def arc(x: float, y: float, rx: float, ry: float, start: float = 0, end: float = 360, n: int = 20) -> Points:
    """Return `n` points on an ellipse, clockwise from `start` to `end` degrees; 0 points right."""
    angles = np.radians(np.linspace(start, end, n, endpoint=end - start != 360))
    return list(zip(x + rx * np.cos(angles), y + ry * np.sin(angles), strict=True))


def rays(x: float, y: float, inner: float, outer: float, start: float, end: float, n: int) -> Points:
    """Return a zigzag of `n` teeth around a centre, between the radii `inner` and `outer`."""
    angles = np.radians(np.linspace(start, end, 2 * n + 1))
    radii = np.where(np.arange(2 * n + 1) % 2, outer, inner)
    return list(zip(x + radii * np.cos(angles), y + radii * np.sin(angles), strict=True))


def curls(x: float, y: float, rx: float, ry: float, start: float, end: float, n: int, bump: float) -> Points:
    """Return an arc of `n` round bumps that stand out by the share `bump`."""
    phase = np.linspace(0, n, 4 * n + 1)
    angles = np.radians(start + (end - start) * phase / n)
    swell = 1 + bump * np.abs(np.sin(np.pi * phase))
    return list(zip(x + rx * swell * np.cos(angles), y + ry * swell * np.sin(angles), strict=True))


def box(left: float, top: float, right: float, bottom: float) -> Points:
    """Return the corners of a rectangle."""
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def both(right: Points) -> Points:
    """Close a right half, given clockwise from the top, with its mirror image."""
    return [*right, *[(-x, y) for x, y in reversed(right) if x]]


def frond(degrees: float) -> Points:
    """Return one thick lock of a palm tree of hair, which droops the more the flatter it grows."""
    along, across = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    droop = 0.16 * (1 + across)
    edge = [(0, 0.26), (1.0, 0.3), (1.9, 0.27), (2.3, 0.0), (1.9, -0.27), (1.0, -0.3), (0, -0.26)]
    return [(r * along - w * across, r * across + w * along + droop * r * r - 2.15) for r, w in edge]


@dataclass(frozen=True)
class Piece:
    """A part of a hair-do, a hat, or a head that has something growing on it."""

    points: Points
    colour: str = ""  # empty: that of the hair
    where: str = "front"  # of the face: "front", "back", or "side", given for the right ear and drawn at both
    smooth: bool = True
    stroke: float = 0.0  # width of an open line; 0: a filled shape
    follows: float = 0.0  # how far it moves when the face turns fully


# fmt: off
HEADS = {  # right halves, from the crown to the chin
    "tall": [(0, -2.72), (0.55, -2.62), (0.92, -2.15), (0.97, -1.3), (0.93, -0.55), (0.62, -0.05), (0, 0.08)],
    "broad": [(0, -2.5), (0.6, -2.42), (1.0, -1.95), (1.1, -1.2), (1.22, -0.5), (0.85, 0.08), (0, 0.2)],
    "round": [(0, -2.5), (0.6, -2.4), (1.0, -1.9), (1.06, -1.2), (0.9, -0.45), (0.5, -0.03), (0, 0.05)],
    "narrow": [(0, -2.85), (0.45, -2.72), (0.83, -2.1), (0.9, -1.3), (0.78, -0.55), (0.45, 0.02), (0, 0.15)],
}
EAR = Piece(arc(1.0, -1.0, 0.2, 0.27), "skin", "side")
SPOT = "#c2913a"
HAIR: dict[str, tuple[Piece, ...]] = {
    "two hairs": (
        Piece([(-0.55, -2.55), (-0.5, -3.05), (0.05, -3.2), (0.3, -2.7)], stroke=0.09),
        Piece([(-0.25, -2.66), (-0.05, -3.1), (0.45, -3.1), (0.62, -2.58)], stroke=0.09),
        Piece([(1.02, -1.55), (0.92, -2.0), (0.8, -1.62), (0.66, -2.02), (0.52, -1.7)], "", "side", False, 0.09),
    ),
    "crown of spikes": (
        Piece([(-0.98, -1.5), *[(0.26 * i - 1.04, -2.5 - 0.55 * (i % 2 == 0)) for i in range(9)], (0.98, -1.5)],
              "skin", "back", False),
    ),
    "star": (Piece(rays(0, -1.35, 1.12, 1.9, 152, 388, 9), "skin", "back", False),),
    "beehive": (
        Piece(both([*arc(0, -5.1, 1.0, 0.95, 270, 350, 4),
                    *[(1.0 + 0.1 * (i % 2), 0.47 * i - 4.7) for i in range(7)],
                    (1.04, -1.3), (0.93, -1.85), (0.5, -2.22), (0, -2.32)])),
    ),
    "palm tree": (
        *[Piece(frond(degrees), "", "back") for degrees in (-196, 16, -172, -8, -150, -30, -128, -52, -106, -74)],
        Piece(frond(-90), "", "back"),
        Piece([*arc(0, -2.05, 1.0, 0.85, 180, 360, 9), (0.62, -2.1), (0.3, -1.95), (0, -2.1), (-0.3, -1.95),
               (-0.62, -2.1)]),
    ),
    "clown tufts": (
        Piece(curls(1.25, -1.75, 0.6, 0.75, -170, 130, 5, 0.28), "", "side"),
        Piece(curls(0, -2.68, 0.32, 0.3, -190, 10, 3, 0.4)),
    ),
    "wisps": (
        Piece(rays(1.05, -1.4, 0.3, 0.62, -120, 110, 4), "", "side", False),
        *[Piece([(0.35 * i, 0.04 * i * i - 2.68), (0.5 * i, 0.1 * i * i - 3.1)], stroke=0.09) for i in (-1, 0, 1)],
    ),
    "side tufts": (
        Piece(curls(1.0, -1.35, 0.36, 0.55, -130, 120, 3, 0.25), "", "side"),
        Piece(arc(0.35, -2.4, 0.13, 0.08), SPOT, follows=-0.3),
        Piece(arc(0.02, -2.58, 0.08, 0.05), SPOT, follows=-0.3),
        Piece(arc(-0.35, -2.3, 0.1, 0.07), SPOT, follows=-0.3),
    ),
    "pompadour": (
        Piece(both([(0, -3.2), (0.8, -3.15), (1.25, -2.6), (1.2, -1.9), (1.02, -1.1), (0.82, -1.5), (0.8, -2.0),
                    (0.3, -2.15), (0, -2.12)])),
    ),
    "side parting": (
        Piece([(-1.0, -1.05), (-1.12, -1.8), (-1.0, -2.5), (-0.5, -2.85), (0.3, -2.9), (0.9, -2.6), (1.12, -1.8),
               (1.0, -1.05), (0.86, -1.5), (0.82, -2.0), (0.4, -2.4), (-0.1, -2.1), (-0.8, -2.0), (-0.86, -1.5)]),
    ),
    "neat": (
        Piece([(-1.0, -1.0), (-1.1, -1.8), (-0.85, -2.75), (-0.4, -3.0), (0.1, -2.85), (0.6, -2.95), (0.95, -2.6),
               (1.1, -1.8), (1.0, -1.0), (0.85, -1.5), (0.78, -2.1), (0.35, -2.0), (-0.1, -2.2), (-0.78, -2.05),
               (-0.85, -1.5)]),
    ),
    "anchorman": (
        Piece([(-1.0, -1.1), (-1.15, -1.9), (-1.1, -2.9), (-0.7, -3.3), (-0.2, -3.1), (0.3, -3.35), (0.85, -3.15),
               (1.12, -2.7), (1.15, -1.9), (1.0, -1.1), (0.85, -1.5), (0.8, -2.1), (0.45, -2.3), (0.1, -2.1),
               (-0.4, -2.3), (-0.8, -2.1), (-0.85, -1.5)]),
    ),
    "bowl with a quiff": (
        Piece([(-1.08, -1.2), (-1.2, -1.8), (-0.95, -2.5), (-0.3, -2.75), (0.5, -2.8), (1.0, -2.95), (1.5, -2.5),
               (1.18, -1.9), (1.08, -1.2), (0.98, -1.85), (0.5, -2.1), (0, -2.15), (-0.5, -2.1), (-0.98, -1.85)]),
    ),
    "scruff": (
        Piece([(-1.1, -1.1), (-1.25, -1.5), (-1.15, -1.9), (-1.3, -2.3), (-0.85, -2.5), (-0.7, -2.95), (-0.3, -2.65),
               (0.1, -3.0), (0.4, -2.65), (0.85, -2.8), (0.95, -2.35), (1.3, -2.2), (1.15, -1.8), (1.25, -1.4),
               (1.1, -1.1), (0.93, -1.65), (0.7, -2.25), (0.45, -2.0), (0.2, -2.3), (-0.1, -2.05), (-0.4, -2.3),
               (-0.65, -2.0), (-0.93, -1.65)], smooth=False),
    ),
    "grey curls": (
        Piece([*curls(0, -1.75, 1.08, 0.98, 165, 375, 8, 0.22), (0.85, -1.6), (0.75, -2.1), (0, -2.3), (-0.75, -2.1),
               (-0.85, -1.6)]),
    ),
    "fluffy bob": (
        Piece(curls(0, -1.55, 1.42, 1.5, 125, 415, 9, 0.12), "", "back"),
        Piece([*curls(0, -1.8, 1.1, 1.05, 175, 365, 7, 0.12), (0.75, -1.85), (0.3, -2.1), (-0.3, -2.1),
               (-0.75, -1.85)]),
    ),
    "ponytail": (
        Piece([(-0.7, -1.4), (-1.5, -1.1), (-1.75, -0.3), (-1.45, 0.5), (-1.2, -0.1), (-0.8, -0.6)], "", "back"),
        Piece(both([(0, -2.72), (0.85, -2.5), (1.18, -1.7), (1.08, -0.95), (0.98, -1.6), (0.86, -2.2), (0.35, -2.42),
                    (0, -2.28)])),
    ),
    "police cap": (
        Piece(curls(1.05, -1.35, 0.25, 0.5, -110, 110, 3, 0.2), "", "side"),
        Piece(both([(0, -3.35), (0.7, -3.25), (1.45, -2.8), (1.05, -2.0), (0, -2.1)]), "#3f6fd0"),
        Piece(both([(0, -2.47), (1.1, -2.35), (1.08, -1.95), (0, -2.05)]), "#1f2d5c"),
        Piece(both([(0, -2.12), (0.8, -2.02), (0.95, -1.8), (0, -1.72)]), BLACK, follows=0.2),
        Piece(arc(0, -2.75, 0.2, 0.24), "#ffd84a", follows=0.3),
    ),
}
# fmt: on


@dataclass(frozen=True)
class Features:
    """What a person tells a character by: a row of the table. An empty string means that there is none."""

    skin: str = YELLOW
    head: str = "tall"  # of HEADS
    hair: str = "neat"  # of HAIR
    hair_colour: str = INK
    brows: str = ""
    lids: float = 0.0  # share of an open eye that the lid covers
    lid_colour: str = ""  # empty: that of the skin
    lashes: bool = False
    glasses: str = ""
    nose: str = "button"  # of NOSES
    muzzle: str = ""  # around the mouth: stubble, or a clown's paint
    beard: str = ""  # "moustache" or "goatee", of the hair's colour
    lips: str = ""
    wrinkles: bool = False
    top: str = WHITE
    front: str = "plain"  # or "jacket", "open", "apron", "strapless"
    shirt: str = WHITE  # what shows beneath a jacket, a waistcoat or an apron
    sleeves: str = "long"  # or "short", "none"
    sleeve_colour: str = ""  # empty: that of the top
    collar: str = ""
    tie: str = ""
    tie_shape: str = "tie"  # or "bow", "string"
    beads: str = ""
    mark: str = ""  # on the chest: "badge" or "number"
    garment: str = "trousers"  # or "shorts", "skirt"
    legs: str = "#4a6fb5"  # colour of the garment
    shoulders: float = 1.0  # half width
    belly: float = 1.0  # half width
    height: float = 1.0  # of the whole figure, 1 for a grown-up


# fmt: off
FEATURES: dict[str, Features] = {
    "abraham_grampa_simpson": Features(
        skin=AMBER, hair="wisps", hair_colour="#eef0f2", glasses="#cfdbe6", lids=0.3, wrinkles=True,
        top="#e9a7a0", collar="#d9c7ef", tie=BLACK, tie_shape="string", legs="#7d8578", shoulders=0.9, height=0.95,
    ),
    "apu_nahasapeemapetilon": Features(
        skin="#9a5b34", hair="pompadour", hair_colour="#2c2b33", brows="#2c2b33", nose="long",
        top="#2f9e44", front="open", shirt="#f4f1e4", collar="#f4f1e4", legs="#6b4f3a",
    ),
    "bart_simpson": Features(
        head="round", hair="crown of spikes", top="#ff7a2a", sleeves="short", garment="shorts", legs="#3b6fd4",
        shoulders=0.75, belly=0.8, height=0.85,
    ),
    "charles_montgomery_burns": Features(
        skin=AMBER, head="narrow", hair="side tufts", hair_colour="#a9bccb", lids=0.35, nose="long", wrinkles=True,
        top="#2c5a4c", front="jacket", collar=WHITE, tie="#7d3c98", legs="#2c5a4c", shoulders=0.75, belly=0.65,
    ),
    "chief_wiggum": Features(
        skin=GOLD, head="broad", hair="police cap", hair_colour="#3a55c9", nose="snout", top="#6aa5e8",
        collar="#6aa5e8", tie=BLACK, sleeves="short", mark="badge", legs="#22376f", shoulders=1.2, belly=1.65,
    ),
    "comic_book_guy": Features(
        skin=GOLD, head="broad", hair="ponytail", hair_colour="#7a4a24", brows="#7a4a24", beard="goatee", lids=0.4,
        top="#3e8fd0", sleeves="short", garment="shorts", legs="#d8556b", shoulders=1.2, belly=1.75,
    ),
    "edna_krabappel": Features(
        hair="fluffy bob", hair_colour="#b5532a", lids=0.4, lid_colour="#6f9be0", lashes=True, lips="#d7263d",
        top="#2fa36b", front="open", shirt="#4b3a8c", garment="skirt", legs="#4b3a8c", shoulders=0.85, belly=0.75,
    ),
    "homer_simpson": Features(
        hair="two hairs", muzzle="#c9a25f", collar=WHITE, sleeves="short", legs="#4e79c7", shoulders=1.1, belly=1.35,
    ),
    "kent_brockman": Features(
        hair="anchorman", hair_colour="#f3f4f6", brows="#c9ced6",
        top="#b3202c", front="jacket", collar=WHITE, tie="#2f6fd0", legs="#b3202c", shoulders=1.1,
    ),
    "krusty_the_clown": Features(
        skin="#f7f1e6", hair="clown tufts", hair_colour="#18a999", nose="clown", muzzle="#efd9b4", lips="#d7263d",
        top="#b65fc9", collar="#efe9ff", tie="#5ec8f2", tie_shape="bow", legs="#3aa655", belly=1.15,
    ),
    "lisa_simpson": Features(
        head="round", hair="star", lashes=True, top="#d3203f", front="strapless", sleeves="none", beads=WHITE,
        garment="skirt", legs="#d3203f", shoulders=0.72, belly=0.75, height=0.82,
    ),
    "marge_simpson": Features(
        hair="beehive", hair_colour="#3457d5", lashes=True, top="#9ccf3f", front="strapless", sleeves="none",
        beads="#e02d2d", garment="skirt", legs="#9ccf3f", shoulders=0.8, belly=0.72,
    ),
    "milhouse_van_houten": Features(
        head="round", hair="bowl with a quiff", hair_colour="#3f63d8", brows="#3f63d8", glasses="#e0352b",
        top="#c78fdc", sleeves="short", garment="shorts", legs="#e0352b", shoulders=0.75, belly=0.8, height=0.85,
    ),
    "moe_szyslak": Features(
        skin="#dcc27a", hair="grey curls", hair_colour="#8b929b", brows="#555a61", lids=0.3, nose="potato",
        muzzle="#b9a878", top="#1f5d6b", front="apron", shirt="#dcecf7", sleeve_colour="#dcecf7", sleeves="short",
        tie=BLACK, tie_shape="bow", legs="#3c4a66",
    ),
    "ned_flanders": Features(
        hair="neat", hair_colour="#8a4f22", glasses="#5d6873", beard="moustache", top="#2e8b47", collar="#f5a3bd",
        legs="#8f959c",
    ),
    "nelson_muntz": Features(
        skin=GOLD, head="broad", hair="scruff", hair_colour="#5f4630", lids=0.2, brows="#5f4630",
        top="#4a90c4", front="open", shirt="#f08a5d", sleeves="short", sleeve_colour="#f08a5d",
        garment="shorts", legs="#3d5a80", shoulders=1.1, belly=1.15, height=0.9,
    ),
    "principal_skinner": Features(
        hair="side parting", hair_colour="#6e7783", brows="#4d5560", nose="long", top="#4f86c6", front="jacket",
        shirt="#f3b6cf", collar="#f3b6cf", tie="#7a4fb0", legs="#4f86c6", shoulders=1.05,
    ),
    "sideshow_bob": Features(
        skin="#f3c95a", head="narrow", hair="palm tree", hair_colour="#a3162f", brows="#a3162f", lids=0.3,
        nose="long", top="#ef7f1a", collar="#ef7f1a", mark="number", legs="#ef7f1a", shoulders=0.8, belly=0.75,
        height=1.05,
    ),
}
NOSES = {  # half width, half height, how much wider when turned
    "button": (0.24, 0.2, 0.16), "long": (0.3, 0.19, 0.4), "potato": (0.36, 0.27, 0.15),
    "snout": (0.34, 0.22, 0.1), "clown": (0.36, 0.34, 0.05),
}
ARMS = {  # elbow and hand of a right arm, from its shoulder
    "down": ((0.35, 0.75), (0.3, 1.5)), "hip": ((0.75, 0.6), (0.15, 1.15)), "wave": ((0.75, 0.15), (1.0, -0.75)),
    "point": ((0.7, 0.35), (1.45, 0.1)), "chest": ((0.4, 0.85), (-0.45, 0.75)),
}
# fmt: on
SLEEVES = {"long": 0.93, "short": 0.42, "none": 0.0}  # share of the arm
MOUTHS = ("smile", "grin", "open", "flat", "frown")


@dataclass(frozen=True)
class Pose:
    """How a figure holds itself; angles in degrees, clockwise."""

    turn: float = 0.0  # -1 to 1
    tilt: float = 0.0  # of the head against the body
    lean: float = 0.0  # of the whole figure
    gaze: tuple[float, float] = (0.0, 0.0)  # each -1 to 1
    closed: float = 0.0  # 1: eyes shut
    mouth: str = "smile"  # of MOUTHS
    arms: tuple[str, str] = ("down", "down")  # of ARMS, left and right in the picture
    swing: float = 0.0  # of the arms


def rgb(colour: str) -> tuple[int, int, int]:
    """Read `#rrggbb`."""
    return tuple(bytes.fromhex(colour[1:]))


def _catmull_rom(steps: int) -> np.ndarray:
    """Return the weights of four neighbours between the middle two, `(steps, 4)`."""
    t = np.arange(steps)[:, None] / steps
    return np.hstack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2]) / 2


CATMULL_ROM = _catmull_rom(4)  # four steps look round at the sizes drawn here


def smoothed(points: np.ndarray, closed: bool) -> np.ndarray:
    """Lay a Catmull-Rom curve through points, `(n, 2)`; return `(4 * n, 2)`, or `(4 * n - 3, 2)` where open."""
    n = len(points)
    neighbours = np.arange(n)[:, None] + np.arange(-1, 3)
    neighbours = neighbours % n if closed else np.clip(neighbours[:-1], 0, n - 1)
    curve = (CATMULL_ROM @ points[neighbours]).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, points[-1:]])


class Pen:
    """Draws on an RGB canvas in a system of coordinates of its own."""

    def __init__(self, canvas: np.ndarray, matrix: np.ndarray, line: float = 0.075) -> None:
        """Take a canvas.

        Args:
            canvas: `(height, width, 3)`, `uint8`; drawn on in place.
            matrix: `(2, 3)`, from the pen's coordinates to pixels.
            line: Width of an outline, in the pen's units.
        """
        self.canvas, self.matrix, self.line = canvas, matrix, line
        self.unit = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))  # pixels

    def moved(
        self, x: float, y: float, degrees: float = 0, scale: float = 1, mirror: bool = False, line: float = 0
    ) -> "Pen":
        """Return a pen whose origin is this one's `(x, y)`, turned clockwise, scaled, perhaps mirrored."""
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        local = np.array([[c, -s, x], [s, c, y], [0, 0, 1]]) @ np.diag([-scale if mirror else scale, scale, 1])
        return Pen(self.canvas, self.matrix @ local, line or self.line)

    def shape(self, points: Points, colour: str, smooth: bool = False, outline: bool = True) -> None:
        """Fill a closed shape."""
        pixels = self._pixels(points, smooth, closed=True)
        cv2.fillPoly(self.canvas, [pixels], rgb(colour), cv2.LINE_AA, shift=4)
        if outline:
            cv2.polylines(self.canvas, [pixels], True, rgb(INK), self._thickness(self.line), cv2.LINE_AA, shift=4)

    def oval(self, x: float, y: float, rx: float, ry: float, colour: str, outline: bool = True) -> None:
        """Fill an ellipse."""
        self.shape(arc(x, y, rx, ry), colour, outline=outline)

    def stroke(self, points: Points, width: float, colour: str = INK, smooth: bool = True) -> None:
        """Draw an open line."""
        pixels = self._pixels(points, smooth, closed=False)
        cv2.polylines(self.canvas, [pixels], False, rgb(colour), self._thickness(width), cv2.LINE_AA, shift=4)

    def limb(self, points: Points, width: float, colour: str) -> None:
        """Draw a thick line with round ends and an outline."""
        self.stroke(points, width + 2 * self.line)
        self.stroke(points, width, colour)

    def _thickness(self, width: float) -> int:
        return max(1, round(width * self.unit))

    def _pixels(self, points: Points, smooth: bool, closed: bool) -> np.ndarray:
        points = np.asarray(points, float)
        points = smoothed(points, closed) if smooth else points
        return np.round((points @ self.matrix[:, :2].T + self.matrix[:, 2]) * 16).astype(np.int32)  # shift=4


def draw_figure(pen: Pen, features: Features, pose: Pose) -> None:
    """Draw a character.

    Args:
        pen: Its origin is where the neck meets the shoulders, its unit half the width of the head.
        features: A row of the table.
        pose: How the figure holds itself.
    """
    body = pen.moved(0, 0, pose.lean)
    head = body.moved(0, 0, pose.tilt)
    _draw_hair(head, features, pose.turn, "back")
    _draw_legs(body, features)
    _draw_torso(body, features, 0.18 * pose.turn)
    _draw_neckwear(body, features, 0.18 * pose.turn)
    _draw_arms(body, features, pose)
    _draw_head(head, features, pose.turn)
    _draw_face(head, features, pose)
    _draw_hair(head, features, pose.turn, "front")
    if features.brows:
        for x in _eyes(pose.turn):
            head.stroke([(x - 0.3, -1.87), (x, -1.95), (x + 0.3, -1.87)], 0.15, features.brows)


def _draw_hair(pen: Pen, features: Features, turn: float, where: str) -> None:
    for piece in HAIR[features.hair]:
        if piece.where == where:
            _draw_piece(pen, features, piece, [(x + piece.follows * turn, y) for x, y in piece.points])


def _draw_piece(pen: Pen, features: Features, piece: Piece, points: Points) -> None:
    colour = {"": features.hair_colour, "skin": features.skin}.get(piece.colour, piece.colour)
    if piece.stroke:
        pen.stroke(points, piece.stroke, smooth=piece.smooth)
    else:
        pen.shape(points, colour, piece.smooth)


def _draw_sides(pen: Pen, features: Features, turn: float, near: bool) -> None:
    """Draw ears and the hair about them: the far ones behind the head, the near ones moved in on it."""
    inwards = (0.3 if near else 0.15) * abs(turn)
    for side in (-1, 1):
        if (side * turn <= 0.15) == near:
            for piece in (EAR, *HAIR[features.hair]):
                if piece.where == "side":
                    _draw_piece(pen, features, piece, [(side * (x - inwards), y) for x, y in piece.points])


def _draw_legs(pen: Pen, features: Features) -> None:
    belly = features.belly
    hip = 0.42 * belly
    for side in (-1, 1):
        pen.limb([(side * hip, 1.8), (side * (hip + 0.12), 3.75)], 0.42, features.skin)
        pen.oval(side * (hip + 0.27), 3.85, 0.42, 0.2, "#4b3b36")
        if features.garment == "trousers":
            pen.limb([(side * hip, 1.8), (side * (hip + 0.12), 3.5)], 0.56, features.legs)
        elif features.garment == "shorts":
            pen.limb([(side * hip, 1.8), (side * (hip + 0.06), 2.7)], 0.62, features.legs)
    if features.garment == "skirt":
        hem = [(belly * x, 3.1 - 0.15 * (i % 2)) for i, x in enumerate(np.linspace(1.15, -1.15, 9))]
        pen.shape([(-0.7 * belly, 1.5), (0.7 * belly, 1.5), *hem], features.legs)
    else:
        pen.shape(box(-hip - 0.25, 1.6, hip + 0.25, 2.15), features.legs, outline=False)


def _draw_torso(pen: Pen, features: Features, middle: float) -> None:
    """Draw what is worn above the waist; `middle` is where its middle line is, as the chest turns."""
    chest, shoulders, belly = pen.moved(middle, 0), features.shoulders, features.belly
    waist = [(1.02 * max(belly, 0.8 * shoulders), 1.3), (0.95 * belly, 1.95), (0, 2.12)]
    outline = both([(0, 0.14), (0.45, 0.14), (shoulders, 0.4), *waist])
    beneath = {"strapless": features.skin, "apron": features.shirt}
    pen.shape(outline, beneath.get(features.front, features.top), smooth=True)
    if features.front == "strapless":
        pen.shape(both([(0, 0.85), (0.85 * shoulders, 0.68), *waist]), features.top)
    elif features.front == "jacket":
        chest.shape(both([(0, 0.15), (0.42, 0.15), (0, 1.45)]), features.shirt)
        chest.stroke([(0, 1.45), (0, 2.05)], pen.line)
    elif features.front == "open":
        chest.shape(both([(0, 0.15), (0.35, 0.15), (0.45, 2.05)]), features.shirt)
    elif features.front == "apron":
        pen.shape(both([(0, 0.9), (0.5, 0.9), (0.9 * belly, 1.5), (0.9 * belly, 2.08)]), features.top)
        for side in (-1, 1):
            pen.stroke([(side * 0.45, 0.95), (side * 0.45, 0.2)], 0.14, features.top)
    pen.shape([(-0.4, -0.3), (0.4, -0.3), (0.42, 0.2), (middle, 0.36), (-0.42, 0.2)], features.skin)  # neck


def _draw_neckwear(pen: Pen, features: Features, middle: float) -> None:
    pen = pen.moved(middle, 0)
    if features.tie and features.tie_shape == "tie":
        pen.shape(both([(0, 0.38), (0.12, 0.38), (0.2, 1.2), (0, 1.45)]), features.tie)
    if features.mark == "badge":
        pen.shape(rays(-0.6, 0.95, 0.13, 0.26, 0, 360, 6), "#ffd84a")
    elif features.mark == "number":
        pen.shape(box(-0.45, 0.95, 0.45, 1.25), WHITE)
        pen.stroke([(-0.3, 1.1), (0.3, 1.1)], 0.1, smooth=False)
    for side in (-1, 1):
        if features.tie and features.tie_shape == "string":
            pen.stroke([(0, 0.35), (0.12 * side, 0.7), (0.16 * side, 1.1)], 0.1, features.tie)
        if features.collar:
            neck, tip = (side * 0.5 - middle, 0.05), (side * 0.62 - middle, 0.38)
            pen.shape([neck, tip, (side * 0.2, 0.62), (0, 0.34)], features.collar)
    if features.tie and features.tie_shape == "bow":
        pen.shape([(-0.5, 0.2), (0.5, 0.68), (0.5, 0.2), (-0.5, 0.68)], features.tie)
        pen.oval(0, 0.43, 0.12, 0.12, features.tie)
    if features.beads:
        for x in np.linspace(-0.52, 0.52, 7):
            pen.oval(x - 0.5 * middle, 0.42 - 0.9 * x**2, 0.14, 0.14, features.beads)


def _draw_arms(pen: Pen, features: Features, pose: Pose) -> None:
    sleeve = features.sleeve_colour or features.top
    for side, arm in zip((-1, 1), pose.arms, strict=True):
        shoulder = pen.moved(side * (features.shoulders - 0.02), 0.62, pose.swing, mirror=side < 0)
        elbow, hand = ARMS[arm]
        path = smoothed(np.array([(0, 0), elbow, hand]), closed=False)
        shoulder.limb(path, 0.3, features.skin)
        share = SLEEVES[features.sleeves]
        if share:
            shoulder.limb(path[: round(share * len(path))], 0.42, sleeve)
        angle = np.degrees(np.arctan2(hand[1] - elbow[1], hand[0] - elbow[0]))
        palm = shoulder.moved(*hand, angle)
        for finger in arc(0, 0, 0.34, 0.34, -38, 38, 3):
            palm.limb([(0, 0), finger], 0.11, features.skin)
        palm.oval(0.02, 0, 0.2, 0.2, features.skin)


def _draw_head(pen: Pen, features: Features, turn: float) -> None:
    _draw_sides(pen, features, turn, near=False)
    outline = both(HEADS[features.head])
    pen.shape(outline, features.skin, smooth=True)
    for piece in HAIR[features.hair]:
        if piece.where == "back" and piece.colour == "skin":  # spikes grow out of the head without a seam
            for points, smooth in ((piece.points, False), (outline, True)):
                inner = [(0.96 * x, EYE_LINE + 0.96 * (y - EYE_LINE)) for x, y in points]
                pen.shape(inner, features.skin, smooth, outline=False)
    _draw_sides(pen, features, turn, near=True)


def _eyes(turn: float) -> list[float]:
    """Return where the eyes are, the far one first; they close up as the face turns, so as not to leave it."""
    near = -1 if turn > 0 else 1
    spread = 0.41 * (1 - 0.25 * abs(turn))
    return [0.26 * turn - near * spread, 0.26 * turn + near * spread]


def _draw_face(pen: Pen, features: Features, pose: Pose) -> None:
    _draw_mouth(pen.moved(0.3 * pose.turn, -0.46), features, pose.mouth)
    if features.glasses:
        for x in _eyes(pose.turn):
            side = 1 if x > 0.26 * pose.turn else -1
            pen.limb([(x, EYE_LINE), (side * 0.98, EYE_LINE + 0.02)], 0.06, features.glasses)
    for x in _eyes(pose.turn):
        eye = pen.moved(x, EYE_LINE)
        if features.glasses:
            eye.oval(0, 0, 0.56, 0.56, features.glasses)
        if features.wrinkles:
            eye.stroke(arc(0, 0.2, 0.42, 0.42, 50, 130, 6), 0.05, "#8a6a2f")
        _draw_eye(eye, features, pose)
    half_width, half_height, wider = NOSES[features.nose]
    nose = pen.moved((0.34 + 0.5 * wider) * pose.turn, -0.93)
    colour = "#e8382f" if features.nose == "clown" else features.skin
    nose.oval(0, 0, half_width + wider * abs(pose.turn), half_height, colour)
    if features.nose == "snout":
        for side in (-1, 1):
            nose.oval(0.13 * side, 0.02, 0.05, 0.08, INK, outline=False)


def _draw_eye(pen: Pen, features: Features, pose: Pose) -> None:
    radius = 0.37 if features.glasses else 0.43
    if features.lashes:
        roots, tips = arc(0, 0, radius, radius, -125, -55, 3), arc(0, 0, 0.66, 0.66, -130, -50, 3)
        for lash in zip(roots, tips, strict=True):
            pen.stroke(lash, 0.08)
    pen.oval(0, 0, radius, radius, WHITE)
    pen.oval(0.2 * pose.gaze[0], 0.2 * pose.gaze[1], 0.1, 0.1, BLACK, outline=False)
    lid = max(features.lids, pose.closed)
    if lid:
        lower_edge = radius * (2 * lid - 1)
        covered = [(x, min(y, lower_edge)) for x, y in arc(0, 0, radius, radius, n=24)]
        pen.shape(covered, features.lid_colour or features.skin)


def _draw_mouth(pen: Pen, features: Features, mouth: str) -> None:
    if features.muzzle:
        pen.oval(0, 0, 0.8, 0.46, features.muzzle)
    if features.beard == "goatee":
        goatee = both([(0, -0.3), (0.45, -0.22), (0.55, 0.1), (0.3, 0.58), (0, 0.66)])
        pen.shape(goatee, features.hair_colour, smooth=True)
        pen.oval(0, 0.06, 0.34, 0.18, features.skin)
    w = 0.3 if features.beard == "goatee" else 0.5
    colour, width = (features.lips, 0.14) if features.lips else (INK, 0.08)
    curves = {
        "smile": [(-w, -0.06), (-0.5 * w, 0.14), (0.5 * w, 0.14), (w, -0.06)],
        "frown": [(-w, 0.16), (-0.5 * w, 0.02), (0.5 * w, 0.02), (w, 0.16)],
        "flat": [(-w, 0.06), (w, 0.08)],
    }
    if mouth in curves:
        pen.stroke(curves[mouth], width, colour)
    elif mouth == "grin":
        lips = [(-w, -0.1), (0, -0.04), (w, -0.1), (0.6 * w, 0.24), (-0.6 * w, 0.24)]
        pen.shape(lips, WHITE, smooth=True)
        pen.stroke([(-0.85 * w, 0.07), (0.85 * w, 0.07)], 0.05)
        pen.stroke([*lips, *lips[:2]], width, colour)
    else:
        pen.oval(0, 0.08, 0.75 * w, 0.24, "#7a1f28")
        pen.oval(0, 0.2, 0.4 * w, 0.1, "#e0746f", outline=False)
        pen.stroke(arc(0, 0.08, 0.75 * w, 0.24, 0, 359), width, colour)
    if features.beard == "moustache":
        moustache = both([(0, -0.28), (0.45, -0.26), (0.74, 0.14), (0.35, 0.08), (0, 0.03)])
        pen.shape(moustache, features.hair_colour, smooth=True)
