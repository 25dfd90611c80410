"""The figures of the drawn characters: the features that a character may have, and how each is drawn.

`characters.yaml` gives each character its features. Lengths are in head units: half the width of a head is 1. Points
are `(x, y)` with y downwards and the origin where the neck meets the shoulders, so that a tilted head stays attached;
the eyes are at y = -1.35, the chin at 0, the feet near 4. `turn` is how far a face looks aside, from -1 (left) to 1
(right).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from lib import records
from lib.drawing.hair import BLACK, HAIR, Piece
from lib.drawing.pen import INK, Pen, Points, arc, box, rays, smoothed, symmetric
from lib.settings import Settings

TABLE = Path(__file__).with_name("characters.yaml")
WHITE = "#ffffff"
EYE_LINE = -1.35


# fmt: off
HEADS = {  # right halves, from the crown to the chin
    "tall": [(0, -2.72), (0.55, -2.62), (0.92, -2.15), (0.97, -1.3), (0.93, -0.55), (0.62, -0.05), (0, 0.08)],
    "broad": [(0, -2.5), (0.6, -2.42), (1.0, -1.95), (1.1, -1.2), (1.22, -0.5), (0.85, 0.08), (0, 0.2)],
    "round": [(0, -2.5), (0.6, -2.4), (1.0, -1.9), (1.06, -1.2), (0.9, -0.45), (0.5, -0.03), (0, 0.05)],
    "narrow": [(0, -2.85), (0.45, -2.72), (0.83, -2.1), (0.9, -1.3), (0.78, -0.55), (0.45, 0.02), (0, 0.15)],
}
EAR = Piece(arc(1.0, -1.0, 0.2, 0.27), "skin", "side")
NOSES = {  # half width, half height, how much wider when turned
    "button": (0.24, 0.2, 0.16), "long": (0.3, 0.19, 0.4), "potato": (0.36, 0.27, 0.15),
    "snout": (0.34, 0.22, 0.1), "clown": (0.36, 0.34, 0.05),
}
ARMS = {  # elbow and hand of a right arm, from its shoulder
    "down": ((0.35, 0.75), (0.3, 1.5)), "hip": ((0.75, 0.6), (0.15, 1.15)), "wave": ((0.75, 0.15), (1.0, -0.75)),
    "point": ((0.7, 0.35), (1.45, 0.1)), "chest": ((0.4, 0.85), (-0.45, 0.75)),
}
# fmt: on
SLEEVES = {"long": 0.93, "short": 0.42, "none": 0.0}  # fraction of the arm
MOUTHS = ("smile", "grin", "open", "flat", "frown")

Colour = Annotated[str, Field(pattern="^#[0-9a-f]{6}$", examples=["#ffd83d"])]
OptionalColour = Annotated[str, Field(pattern="^(#[0-9a-f]{6})?$", examples=["#ffd83d", ""])]


class Features(Settings):
    """The features of a character in `characters.yaml`. An optional colour that is empty means: there is none."""

    sample: bool = Field(False, description="whether the character is in the drawn sample")
    skin: Colour = "#ffd83d"
    head: Literal[*HEADS] = "tall"
    hair: Literal[*HAIR] = "neat"
    hair_colour: Colour = INK
    brows: OptionalColour = ""
    lids: float = Field(0.0, ge=0, le=1, description="fraction of an open eye that the lid covers")
    lid_colour: OptionalColour = Field("", description="that of the skin if empty")
    lashes: bool = False
    glasses: OptionalColour = ""
    nose: Literal[*NOSES] = "button"
    muzzle: OptionalColour = Field("", description="around the mouth: stubble, or a clown's paint")
    beard: Literal["none", "moustache", "goatee"] = Field("none", description="of the colour of the hair")
    lips: OptionalColour = ""
    wrinkles: bool = False
    top: Colour = WHITE
    front: Literal["plain", "jacket", "open", "apron", "strapless"] = "plain"
    shirt: Colour = Field(WHITE, description="visible beneath a jacket, a waistcoat or an apron")
    sleeves: Literal[*SLEEVES] = "long"
    sleeve_colour: OptionalColour = Field("", description="that of the top if empty")
    collar: OptionalColour = ""
    tie: OptionalColour = ""
    tie_shape: Literal["tie", "bow", "string"] = "tie"
    beads: OptionalColour = ""
    mark: Literal["none", "badge", "number"] = Field("none", description="on the chest")
    garment: Literal["trousers", "shorts", "skirt"] = "trousers"
    legs: Colour = Field("#4a6fb5", description="colour of the garment")
    shoulders: float = Field(1.0, ge=0.3, le=3, description="half width, head units")
    belly: float = Field(1.0, ge=0.3, le=3, description="half width, head units")
    height: float = Field(1.0, ge=0.3, le=2, description="of the whole figure, 1 for an adult")


FEATURES = {
    character: Features.check(features or {}, dict.fromkeys(features or (), f"{TABLE.name}: {character}"))
    for character, features in records.read_yaml(TABLE).items()
}


@dataclass(frozen=True)
class Pose:
    """The pose of a figure; angles in degrees, clockwise."""

    turn: float = 0.0  # -1 to 1
    tilt: float = 0.0  # of the head against the body
    lean: float = 0.0  # of the whole figure
    gaze: tuple[float, float] = (0.0, 0.0)  # each -1 to 1
    closed: float = 0.0  # 1: eyes shut
    mouth: str = "smile"  # of MOUTHS
    arms: tuple[str, str] = ("down", "down")  # of ARMS, left and right in the picture
    swing: float = 0.0  # of the arms


def draw_figure(pen: Pen, features: Features, pose: Pose) -> None:
    """Draw a character with a pen whose origin is where neck and shoulders meet; its unit is half the head's width."""
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
        pen.stroke(points, piece.stroke, piece.colour or INK, smooth=piece.smooth)
    else:
        pen.shape(points, colour, piece.smooth)


def _draw_sides(pen: Pen, features: Features, turn: float, near: bool) -> None:
    """Draw ears and the hair around them: the far ones behind the head, the near ones shifted towards its middle."""
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
    """Draw the clothes above the waist; `middle` is the x of their centre line, which moves as the chest turns."""
    chest, shoulders, belly = pen.moved(middle, 0), features.shoulders, features.belly
    waist = [(1.02 * max(belly, 0.8 * shoulders), 1.3), (0.95 * belly, 1.95), (0, 2.12)]
    outline = symmetric([(0, 0.14), (0.45, 0.14), (shoulders, 0.4), *waist])
    beneath = {"strapless": features.skin, "apron": features.shirt}
    pen.shape(outline, beneath.get(features.front, features.top), smooth=True)
    if features.front == "strapless":
        pen.shape(symmetric([(0, 0.85), (0.85 * shoulders, 0.68), *waist]), features.top)
    elif features.front == "jacket":
        chest.shape(symmetric([(0, 0.15), (0.42, 0.15), (0, 1.45)]), features.shirt)
        chest.stroke([(0, 1.45), (0, 2.05)], pen.line)
    elif features.front == "open":
        chest.shape(symmetric([(0, 0.15), (0.35, 0.15), (0.45, 2.05)]), features.shirt)
    elif features.front == "apron":
        pen.shape(symmetric([(0, 0.9), (0.5, 0.9), (0.9 * belly, 1.5), (0.9 * belly, 2.08)]), features.top)
        for side in (-1, 1):
            pen.stroke([(side * 0.45, 0.95), (side * 0.45, 0.2)], 0.14, features.top)
    pen.shape([(-0.4, -0.3), (0.4, -0.3), (0.42, 0.2), (middle, 0.36), (-0.42, 0.2)], features.skin)  # neck


def _draw_neckwear(pen: Pen, features: Features, middle: float) -> None:
    pen = pen.moved(middle, 0)
    if features.tie and features.tie_shape == "tie":
        pen.shape(symmetric([(0, 0.38), (0.12, 0.38), (0.2, 1.2), (0, 1.45)]), features.tie)
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
        covered = SLEEVES[features.sleeves]
        if covered:
            shoulder.limb(path[: round(covered * len(path))], 0.42, sleeve)
        angle = np.degrees(np.arctan2(hand[1] - elbow[1], hand[0] - elbow[0]))
        palm = shoulder.moved(*hand, angle)
        for finger in arc(0, 0, 0.34, 0.34, -38, 38, 3):
            palm.limb([(0, 0), finger], 0.11, features.skin)
        palm.oval(0.02, 0, 0.2, 0.2, features.skin)


def _draw_head(pen: Pen, features: Features, turn: float) -> None:
    _draw_sides(pen, features, turn, near=False)
    outline = symmetric(HEADS[features.head])
    pen.shape(outline, features.skin, smooth=True)
    for piece in HAIR[features.hair]:
        if piece.where == "back" and piece.colour == "skin":  # no seam between spikes and head
            for points, smooth in ((piece.points, False), (outline, True)):
                inner = [(0.96 * x, EYE_LINE + 0.96 * (y - EYE_LINE)) for x, y in points]
                pen.shape(inner, features.skin, smooth, outline=False)
    _draw_sides(pen, features, turn, near=True)


def _eyes(turn: float) -> list[float]:
    """Return the x of the eyes, the far one first; as the face turns they move together, so as to stay on it."""
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
        goatee = symmetric([(0, -0.3), (0.45, -0.22), (0.55, 0.1), (0.3, 0.58), (0, 0.66)])
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
        moustache = symmetric([(0, -0.28), (0.45, -0.26), (0.74, 0.14), (0.35, 0.08), (0, 0.03)])
        pen.shape(moustache, features.hair_colour, smooth=True)
