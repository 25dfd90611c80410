"""What a recogniser does beyond one known character a picture: strangers, two characters, places.

No picture here is trained on: the clip-art is of its own split, everything drawn has other seeds, frames are of test.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
import pandas as pd
from sklearn.datasets import load_sample_images

from lib.data import clipart, pictures
from lib.drawing import strangers
from lib.evaluation import corruptions, intervals
from lib.inference import class_map
from lib.inference.recogniser import Recogniser

DRAWN = 200  # pictures of each kind
# Corruptions that make a frame look like the strangers, without hiding who is there.
STRANGER_STYLES = ("cut_out_on_white", "small_on_white", "captioned")
MEANINGS = {
    "both_found": "two frames side by side, both found",
    "second_name": "one figure alone, a second name",
    "pointing": "maximum of the class map in the character's box",
    "box_overlap": "box with an intersection over union of at least one half",
}
CROP_MARGIN = 0.1  # of the box, around a crop that shows one figure


def far(picture_size: int, resize_mode: str, split: str = "test") -> dict[str, np.ndarray]:
    """Make pictures that show no character at all.

    Args:
        picture_size, resize_mode: As in `pictures.decode`.
        split: `"validation"` to choose by, `"test"` to report.

    Returns:
        For each kind, `uint8 (n, picture_size, picture_size, 3)`: clip-art; parts of three photographs, two of
        scikit-learn and one of matplotlib; text; patterns; scenery; invented figures.
    """
    rng = np.random.default_rng([1, split == "test"])

    def square(picture: np.ndarray) -> np.ndarray:
        return pictures.resize(np.ascontiguousarray(picture), picture_size, resize_mode)

    def drawn(make: Callable[[], np.ndarray]) -> np.ndarray:
        return np.stack([make() for _ in range(DRAWN)])

    portrait = cv2.imread(str(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"))[..., ::-1]
    photographs = [*load_sample_images().images, portrait]
    return {
        "clip-art": clipart.load(split, picture_size, resize_mode),
        "photographs": drawn(lambda: square(_random_part(photographs[rng.integers(len(photographs))], rng))),
        "text": drawn(lambda: strangers.caption(strangers.pattern(picture_size, rng), rng)),
        "patterns": drawn(lambda: strangers.pattern(picture_size, rng)),
        "scenery": drawn(lambda: strangers.scenery(picture_size, rng)),
        "invented figures": drawn(lambda: square(strangers.invented_figure(rng))),
    }


def _random_part(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width = picture.shape[:2]
    side = int(min(height, width) * rng.uniform(0.3, 0.9))
    top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
    return picture[top : top + side, left : left + side]


def in_styles(
    originals: Sequence[np.ndarray], seeds: Sequence[int], picture_size: int, resize_mode: str
) -> dict[str, np.ndarray]:
    """Change known pictures, RGB uint8 `(height, width, 3)` each, in each of `STRANGER_STYLES`, by a seed each.

    Returns:
        For each style, `uint8 (n, picture_size, picture_size, 3)`.
    """
    changed = {}
    for kind in STRANGER_STYLES:
        made = (corruptions.corrupt(each, kind, "medium", seed) for each, seed in zip(originals, seeds, strict=True))
        changed[kind] = _squares(made, picture_size, resize_mode)
    return changed


def summary(
    network: Recogniser, originals: Sequence[np.ndarray], actual: np.ndarray, places: np.ndarray, seed: int = 0
) -> dict[str, Any]:
    """Measure a recogniser on strangers, on known characters in their styles, on pairs and on boxes.

    Args:
        network: The recogniser.
        originals: Test pictures, RGB `uint8 (height, width, 3)` each.
        actual: Their characters, `int (n,)`.
        places: The box of the character of each, fractions of the picture, `float (n, 4)`; NaN where unknown.
        seed: Seed of the corruptions and of the pairs.

    Returns:
        Fractions from 0 to 1: `named` of the test pictures; `named_strangers` for each kind; `declined_though_right`
        for each style in which it is right at all; with a class map also `both_found` of pairs side by side,
        `second_name` where one figure stands, `pointing` and `box_overlap` (intersection over union of at least one
        half). `numbers` has the number of pictures behind each fraction, by its name, kind or style.
    """
    shape = network.picture_size, network.resize_mode
    outputs = network.outputs(_squares(originals, *shape))

    def named(pixels: np.ndarray) -> float:
        return float(network.decisions(network.outputs(pixels))[0].mean())

    strange = far(*shape)
    styles = in_styles(originals, range(seed, seed + len(originals)), *shape)
    right = {kind: each[network.predict_pixels(each).argmax(axis=1) == actual] for kind, each in styles.items()}
    result: dict[str, Any] = {
        "threshold": network.threshold,
        "second_threshold": network.second_threshold,
        "named": float(network.decisions(outputs)[0].mean()),
        "named_strangers": {kind: named(each) for kind, each in strange.items()},
        "declined_though_right": {kind: 1 - named(each) for kind, each in right.items() if len(each)},
    }
    numbers = {"named": len(originals)} | {kind: len(each) for kind, each in (strange | right).items()}
    if outputs.class_maps is not None:
        for measured in (
            _both_found(network, originals, actual, seed),
            _places(network, originals, outputs.class_maps, actual, places),
        ):
            result |= {name: float(np.mean(values)) for name, values in measured.items()}
            numbers |= {name: len(values) for name, values in measured.items()}
    return result | {"numbers": numbers}


def _both_found(
    network: Recogniser, originals: Sequence[np.ndarray], actual: np.ndarray, seed: int
) -> dict[str, Sequence[bool]]:
    """Say of pairs of frames side by side whether both characters are found; empty without a pair."""
    pairs = np.random.default_rng(seed).integers(0, len(actual), (len(actual), 2))
    pairs = pairs[actual[pairs[:, 0]] != actual[pairs[:, 1]]]
    if not len(pairs):
        return {}
    made = (_side_by_side(originals[left], originals[right]) for left, right in pairs)
    known, found = network.decisions(network.outputs(_squares(made, network.picture_size, network.resize_mode)))
    both = [{*actual[pair]} <= {place.label for place in places} for pair, places in zip(pairs, found, strict=True)]
    return {"both_found": known & both}  # of a picture that is declined, nobody is named


def _places(
    network: Recogniser, originals: Sequence[np.ndarray], class_maps: np.ndarray, actual: np.ndarray, places: np.ndarray
) -> dict[str, Sequence[bool]]:
    """Compare the maps of the right characters with their boxes, where these are known."""
    boxed = np.flatnonzero(~np.isnan(places[:, 0]))
    if not len(boxed):
        return {}
    shape = network.picture_size, network.resize_mode
    crops = (_around(originals[row], places[row]) for row in boxed)
    known, found = network.decisions(network.outputs(_squares(crops, *shape)))
    second = known & [len(each) > 1 for each in found]
    inside, overlaps = [], []
    for row in boxed:
        cells = class_maps[row][:, :, actual[row]]
        box = pictures.framing(originals[row], *shape).to_square(places[row])
        x, y = class_map.peak(cells)
        inside.append(box[0] <= x <= box[2] and box[1] <= y <= box[3])  # as Zhang et al. 2018
        overlaps.append(class_map.overlap(class_map.box_of(cells), tuple(box)) >= 0.5)
    return {"second_name": second, "pointing": inside, "box_overlap": overlaps}


def table(found: dict[str, Any]) -> pd.DataFrame:
    """Lay out what `summary` measured.

    Returns:
        A row each: `pictures`, in words, `fraction`, `number` of pictures, and the 95 % interval `low` to `high` of the
        fraction (Wilson); the last three are NaN in records that lack the numbers.
    """
    rows = [(kind, f"{kind}, named", fraction) for kind, fraction in found["named_strangers"].items()]
    rows.append(("named", "test frames, named", found["named"]))
    for kind, fraction in found["declined_though_right"].items():
        rows.append((kind, f"test frames {kind.replace('_', ' ')}, rightly recognised but declined", fraction))
    rows += [(key, meaning, found[key]) for key, meaning in MEANINGS.items() if key in found]
    numbers = found.get("numbers", {})
    laid_out = [
        (words, fraction, numbers.get(key), *intervals.of_fraction(fraction, numbers.get(key)))
        for key, words, fraction in rows
    ]
    return pd.DataFrame(laid_out, columns=["pictures", "fraction", "number", "low", "high"])


def _squares(originals: Iterable[np.ndarray], picture_size: int, resize_mode: str) -> np.ndarray:
    return np.stack([pictures.resize(each, picture_size, resize_mode) for each in originals])


def _side_by_side(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    height = min(len(left), len(right))
    scaled = [
        cv2.resize(each, (max(1, round(each.shape[1] * height / len(each))), height), interpolation=cv2.INTER_AREA)
        for each in (left, right)
    ]
    return np.hstack(scaled)


def _around(picture: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Crop a picture to a box, fractions of it, with a margin, so that it shows one figure."""
    margin = CROP_MARGIN * (box[2:] - box[:2])
    corners = np.clip([box[:2] - margin, box[2:] + margin], 0, 1) * picture.shape[1::-1]
    (left, top), (right, bottom) = corners.astype(int)
    return np.ascontiguousarray(picture[top : bottom + 1, left : right + 1])
