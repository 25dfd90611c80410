"""The rest of the town: features of the 20 characters that the drawn sample does not show, for training alone.

They are here and not in the sample's table because the sample is fixed: 18 characters, known to the last byte.
"""

from lib.data.sample_figures import (
    AMBER,
    BLACK,
    FEATURES,
    GOLD,
    HAIR,
    INK,
    SPOT,
    WHITE,
    Features,
    Piece,
    arc,
    both,
    curls,
    rays,
)

# fmt: off
TOWN_HAIR: dict[str, tuple[Piece, ...]] = {
    "bun": (
        Piece(arc(0, -3.0, 0.5, 0.42), "", "back"),
        Piece([*curls(0, -1.75, 1.06, 0.98, 170, 370, 7, 0.1), (0.85, -1.7), (0.5, -2.2), (0, -2.3), (-0.5, -2.2),
               (-0.85, -1.7)]),
    ),
    "tangle": (
        Piece([(-1.05, -1.1), (-1.2, -1.6), (-1.0, -2.3), (-0.7, -2.75), (-0.35, -2.55), (0, -2.95), (0.3, -2.6),
               (0.7, -2.85), (0.95, -2.35), (1.2, -1.7), (1.05, -1.1), (0.9, -1.6), (0.75, -2.2), (0.2, -2.35),
               (-0.3, -2.25), (-0.75, -2.1), (-0.9, -1.6)]),
    ),
    "cropped": (
        Piece(both([(0, -2.8), (0.6, -2.72), (1.0, -2.25), (1.08, -1.5), (1.0, -1.1), (0.9, -1.7), (0.6, -2.2),
                    (0, -2.35)])),
    ),
    "flat top": (
        Piece(both([(0, -3.05), (0.95, -3.05), (1.12, -2.2), (1.02, -1.1), (0.9, -1.7), (0.72, -2.2), (0, -2.3)]),
              smooth=False),
    ),
    "slicked back": (
        Piece(both([(0, -2.75), (0.65, -2.72), (1.1, -2.1), (1.15, -1.3), (0.98, -0.9), (0.9, -1.6), (0.62, -2.3),
                    (0, -2.42)])),
    ),
    "balding": (
        Piece(curls(1.0, -1.35, 0.28, 0.6, -120, 120, 3, 0.15), "", "side"),
        Piece([(-0.6, -2.62), (0, -2.95), (0.7, -2.6)], stroke=0.16),
        Piece([(-0.5, -2.58), (0.1, -2.8), (0.75, -2.5)], stroke=0.12),
    ),
    "back and sides": (
        Piece(rays(1.02, -1.45, 0.34, 0.52, -130, 110, 4), "", "side", False),
        Piece([(-0.85, -2.2), (-0.5, -2.75), (0, -2.9), (0.5, -2.75), (0.85, -2.2), (0.4, -2.5), (0, -2.58),
               (-0.4, -2.5)]),
    ),
    "curly top": (
        Piece([*curls(0, -1.9, 1.08, 0.95, 170, 370, 9, 0.24), (0.88, -1.9), (0.4, -2.2), (-0.4, -2.2),
               (-0.88, -1.9)]),
    ),
    "statesman": (
        Piece([(-1.0, -1.0), (-1.12, -1.8), (-1.0, -2.6), (-0.4, -3.05), (0.4, -3.1), (1.0, -2.7), (1.12, -1.8),
               (1.0, -1.0), (0.85, -1.6), (0.8, -2.2), (0.2, -2.5), (-0.6, -2.2), (-0.85, -1.5)]),
    ),
    "long and a cap": (
        Piece([(-0.9, -2.0), (-1.45, -1.0), (-1.5, 0.4), (-1.0, 0.7), (0, 0.5), (1.0, 0.7), (1.5, 0.4), (1.45, -1.0),
               (0.9, -2.0)], "", "back"),
        Piece(curls(1.1, -0.9, 0.3, 0.9, -90, 100, 3, 0.2), "", "side"),
        Piece(both([(0, -2.85), (0.75, -2.7), (1.08, -2.0), (0, -2.05)]), "#6d5bb0"),
        Piece(arc(1.06, -1.2, 0.22, 0.3), "#4a4a55", "side"),
    ),
    "cauliflower": (
        Piece(curls(0, -1.9, 1.5, 1.5, 140, 400, 8, 0.16), "", "back"),
        Piece([*curls(0, -2.1, 1.15, 1.0, 175, 365, 6, 0.16), (0.8, -2.0), (0.3, -2.15), (-0.3, -2.15), (-0.8, -2.0)]),
    ),
    "two lumps": (
        Piece(curls(-0.75, -2.1, 0.85, 1.15, 120, 330, 5, 0.12), "", "back"),
        Piece(curls(0.75, -2.1, 0.85, 1.15, 210, 420, 5, 0.12), "", "back"),
        Piece([(-1.05, -1.5), (-1.1, -2.3), (-0.6, -2.9), (0, -2.35), (0.6, -2.9), (1.1, -2.3), (1.05, -1.5),
               (0.75, -2.0), (0, -2.2), (-0.75, -2.0)]),
    ),
    "few strands": (
        *[Piece([(0.18 * i, -2.62), (0.24 * i, -2.3), (0.22 * i, -2.0)], stroke=0.07) for i in (-3, -2, -1, 0, 1, 2, 3)],
        Piece(rays(1.0, -1.4, 0.16, 0.34, -100, 100, 3), "", "side", False),
    ),
    "mad professor": (
        Piece(rays(0, -2.2, 0.75, 1.25, 195, 345, 6), "", "front", False),
        Piece(curls(1.0, -1.4, 0.25, 0.5, -110, 110, 2, 0.2), "", "side"),
    ),
    "palm tree and a bone": (
        *HAIR["palm tree"],
        Piece([(-0.9, -2.75), (0.9, -2.95)], stroke=0.3),
        *[Piece(arc(x, y, 0.2, 0.17), "#f6f1df") for x, y in ((-1, -2.62), (-0.95, -2.9), (1, -2.82), (0.95, -3.1))],
        Piece([(-0.9, -2.75), (0.9, -2.95)], "#f6f1df", stroke=0.2),
    ),
    "quiff": (
        Piece([(-1.0, -1.0), (-1.15, -1.9), (-0.9, -2.8), (-0.2, -3.5), (0.7, -3.6), (1.3, -3.1), (0.9, -2.9), (1.1, -2.2),
               (1.0, -1.0), (0.85, -1.6), (0.7, -2.3), (0, -2.35), (-0.8, -2.0), (-0.85, -1.4)]),
    ),
}
HAIR.update(TOWN_HAIR)

TOWN: dict[str, Features] = {
    "agnes_skinner": Features(
        skin=AMBER, hair="bun", hair_colour="#d6dade", lids=0.35, wrinkles=True, nose="long", top="#6a5aa8",
        collar="#e9e4f2", garment="skirt", legs="#6a5aa8", shoulders=0.85, height=0.92,
    ),
    "barney_gumble": Features(
        skin=GOLD, head="broad", hair="tangle", hair_colour="#9a6a3a", muzzle="#b99a63", lids=0.4, nose="potato",
        top="#f0a9b6", front="open", shirt="#f3e08a", sleeves="short", legs="#4e79c7", shoulders=1.15, belly=1.6,
    ),
    "carl_carlson": Features(
        skin="#8a5632", hair="cropped", hair_colour="#2a2522", brows="#2a2522", top="#2f9c95", collar="#f2efe6",
        sleeves="short", legs="#7a5a3c",
    ),
    "cletus_spuckler": Features(
        head="narrow", hair="tangle", hair_colour="#7b4a26", lids=0.45, nose="long", top=WHITE, sleeves="none",
        beard="goatee", legs="#3f5f9c", shoulders=0.78, belly=0.65,
    ),
    "fat_tony": Features(
        skin=GOLD, head="broad", hair="slicked back", hair_colour="#23222a", brows="#23222a", lids=0.35, nose="long",
        muzzle="#bfa064", top="#54606f", front="jacket", shirt="#e8ecf2", tie="#3a3f4a", legs="#54606f", shoulders=1.25,
        belly=1.4,
    ),
    "gil": Features(
        skin=AMBER, hair="balding", hair_colour="#c7cbd0", lids=0.3, wrinkles=True, nose="long", top="#a89a86",
        front="jacket", shirt=WHITE, collar=WHITE, tie="#b5303a", legs="#8f826f", shoulders=0.9,
    ),
    "groundskeeper_willie": Features(
        skin=GOLD, hair="cropped", hair_colour="#d8652a", brows="#d8652a", beard="goatee", nose="potato", top="#5f7fae",
        front="apron", shirt="#b9c77a", sleeve_colour="#b9c77a", legs="#5f7fae", shoulders=1.2, belly=1.1,
    ),
    "lenny_leonard": Features(
        hair="back and sides", hair_colour="#4f4a45", brows="#4f4a45", muzzle="#cda65f", nose="long", top="#3f9a55",
        collar="#efe6c8", sleeves="short", legs="#6d6a7a",
    ),
    "maggie_simpson": Features(
        head="round", hair="star", lashes=True, nose="button", lips="#e0352b", muzzle="#e0474a", top="#6cb6ea",
        garment="skirt", legs="#6cb6ea", shoulders=0.62, belly=0.8, height=0.6,
    ),
    "martin_prince": Features(
        head="round", hair="curly top", hair_colour="#e8b84a", top="#4fb3a9", collar="#e8f1ee", sleeves="long",
        garment="shorts", legs="#8e4a7a", shoulders=0.85, belly=1.05, height=0.85,
    ),
    "mayor_quimby": Features(
        hair="statesman", hair_colour="#5a3d28", brows="#5a3d28", lids=0.25, nose="long", top="#35518c", front="jacket",
        shirt=WHITE, collar=WHITE, tie="#d98aa4", legs="#35518c", shoulders=1.1, belly=1.1,
    ),
    "otto_mann": Features(
        skin=GOLD, head="narrow", hair="long and a cap", hair_colour="#24222b", lids=0.5, nose="long", top="#e48fa8",
        sleeves="short", legs="#5a7fc0", shoulders=0.9,
    ),
    "patty_bouvier": Features(
        skin=AMBER, hair="cauliflower", hair_colour="#9b93a8", lids=0.5, lid_colour="#b9a6d8", lashes=True,
        top="#c9719b", front="strapless", sleeves="none", beads="#d84a6a", garment="skirt", legs="#c9719b",
        muzzle="#d9b56a",
    ),
    "professor_john_frink": Features(
        hair="mad professor", hair_colour="#7a4a2a", glasses="#3d4a57", nose="long", top="#f4f4f4", front="open",
        shirt="#7fb36a", tie="#3c4a8c", tie_shape="bow", legs="#5f8a4a", shoulders=0.85,
    ),
    "rainier_wolfcastle": Features(
        skin=GOLD, head="broad", hair="flat top", hair_colour="#6d4526", brows="#6d4526", lids=0.3, nose="long",
        top="#7a5233", front="jacket", shirt="#d8d2c4", legs="#4f5a66", shoulders=1.35, belly=1.1,
    ),
    "ralph_wiggum": Features(
        head="round", hair="few strands", hair_colour="#5f4a2a", top="#8fb6e6", collar="#f0f3f8", nose="button",
        garment="trousers", legs="#8a6a4a", shoulders=0.8, belly=0.95, height=0.78,
    ),
    "selma_bouvier": Features(
        skin=AMBER, hair="two lumps", hair_colour="#9b93a8", lids=0.5, lid_colour="#b9a6d8", lashes=True, top="#4a7fb8",
        front="strapless", sleeves="none", beads="#8f5ab0", garment="skirt", legs="#4a7fb8", muzzle="#d9b56a",
    ),
    "sideshow_mel": Features(
        skin=AMBER, hair="palm tree and a bone", hair_colour="#3f8f6a", brows="#3f8f6a", lids=0.3, nose="long",
        top="#8a5a3a", front="strapless", sleeves="none", garment="skirt", legs="#8a5a3a", shoulders=0.9,
    ),
    "snake_jailbird": Features(
        hair="quiff", hair_colour="#7d4a22", brows="#7d4a22", muzzle="#c2a063", lids=0.35, top="#3b82a0", front="open",
        shirt="#e8e4da", sleeves="none", legs="#4a6aa0", shoulders=0.95,
    ),
    "waylon_smithers": Features(
        hair="neat", hair_colour="#7a7f88", glasses="#5d4a3a", lids=0.15, top="#6f8f5a", front="jacket", shirt="#e9eef2",
        collar="#e9eef2", tie="#9a4fa0", tie_shape="bow", legs="#6f8f5a", shoulders=0.95,
    ),
}
# fmt: on

DRAWABLE: dict[str, Features] = dict(sorted((FEATURES | TOWN).items()))
