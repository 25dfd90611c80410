"""Shapes on a canvas: points of outlines, and the pen that fills and strokes them.

Points are `(x, y)` with y downwards, in units of the pen.
"""

from collections.abc import Sequence

import cv2
import numpy as np

Points = Sequence[tuple[float, float]]

INK = "#33261d"  # outlines; softer than black
SHIFT = 4  # binary digits after the point in the coordinates passed to OpenCV


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
    """Return an arc of `n` round bumps, which stand out by the fraction `bump` of its radius."""
    phase = np.linspace(0, n, 4 * n + 1)
    angles = np.radians(start + (end - start) * phase / n)
    swell = 1 + bump * np.abs(np.sin(np.pi * phase))
    return list(zip(x + rx * swell * np.cos(angles), y + ry * swell * np.sin(angles), strict=True))


def box(left: float, top: float, right: float, bottom: float) -> Points:
    """Return the corners of a rectangle."""
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def symmetric(right: Points) -> Points:
    """Complete the right half of an outline, given clockwise from the top, by its mirror image."""
    return [*right, *[(-x, y) for x, y in reversed(right) if x]]


def rgb(colour: str) -> tuple[int, int, int]:
    """Read `#rrggbb` as red, green and blue, 0 to 255."""
    return tuple(bytes.fromhex(colour[1:]))


# Weights of four neighbouring points at places between the middle two. Four steps look round at the sizes drawn here.
CATMULL_ROM = (
    np.vander(np.arange(4) / 4, increasing=True) / 2 @ [[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]]
)


def smoothed(points: np.ndarray, closed: bool) -> np.ndarray:
    """Interpolate points, `(n, 2)`, by a Catmull-Rom curve, `(4 * n, 2)` if it is closed, else `(4 * n - 3, 2)`."""
    n = len(points)
    neighbours = np.arange(n)[:, None] + np.arange(-1, 3)
    neighbours = neighbours % n if closed else np.clip(neighbours[:-1], 0, n - 1)
    curve = (CATMULL_ROM @ points[neighbours]).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, points[-1:]])


class Pen:
    """Draws on a canvas in its own coordinate system.

    Args:
        canvas: `uint8 (height, width, 3)`, RGB; drawn on in place.
        matrix: `(2, 3)`, from the coordinates of the pen to pixels.
        line: Width of an outline, in units of the pen.
    """

    def __init__(self, canvas: np.ndarray, matrix: np.ndarray, line: float = 0.075) -> None:
        self.canvas, self.matrix, self.line = canvas, matrix, line
        self.unit = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))  # pixels

    def moved(
        self, x: float, y: float, degrees: float = 0, scale: float = 1, mirror: bool = False, line: float = 0
    ) -> "Pen":
        """Return a pen whose origin is `(x, y)` of this one, rotated clockwise, scaled, and mirrored if asked for."""
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        local = np.array([[c, -s, x], [s, c, y], [0, 0, 1]]) @ np.diag([-scale if mirror else scale, scale, 1])
        return Pen(self.canvas, self.matrix @ local, line or self.line)

    def shape(self, points: Points, colour: str, smooth: bool = False, outline: bool = True) -> None:
        """Fill a closed shape."""
        pixels = self._pixels(points, smooth, closed=True)
        cv2.fillPoly(self.canvas, [pixels], rgb(colour), cv2.LINE_AA, SHIFT)
        if outline:
            cv2.polylines(self.canvas, [pixels], True, rgb(INK), self._thickness(self.line), cv2.LINE_AA, SHIFT)

    def oval(self, x: float, y: float, rx: float, ry: float, colour: str, outline: bool = True) -> None:
        """Fill an ellipse."""
        self.shape(arc(x, y, rx, ry), colour, outline=outline)

    def stroke(self, points: Points, width: float, colour: str = INK, smooth: bool = True) -> None:
        """Draw an open line."""
        pixels = self._pixels(points, smooth, closed=False)
        cv2.polylines(self.canvas, [pixels], False, rgb(colour), self._thickness(width), cv2.LINE_AA, SHIFT)

    def limb(self, points: Points, width: float, colour: str) -> None:
        """Draw a thick line with round ends and an outline."""
        self.stroke(points, width + 2 * self.line)
        self.stroke(points, width, colour)

    def _thickness(self, width: float) -> int:
        return max(1, round(width * self.unit))

    def _pixels(self, points: Points, smooth: bool, closed: bool) -> np.ndarray:
        points = np.asarray(points, float)
        points = smoothed(points, closed) if smooth else points
        return np.round((points @ self.matrix[:, :2].T + self.matrix[:, 2]) * 2**SHIFT).astype(np.int32)
