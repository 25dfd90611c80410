"""Small folders of pictures of coloured noise, and their preparation."""

import cv2
import numpy as np

from lib.data import manifest
from lib.data.preparation import Preparation


def noise(number):
    """Make a picture of coarse coloured noise, RGB; no two numbers give near-duplicates."""
    coarse = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=0).repeat(8, axis=1)


def brighter(picture):
    """Make a near-duplicate, 5 grey levels away."""
    return np.minimum(picture, 250) + np.uint8(5)


def write(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture[..., ::-1])


def write_two_characters(folder):
    """Write bart and lisa with 20 pictures each."""
    for index, character in enumerate(("bart", "lisa")):
        for number in range(20):
            write(folder / character / f"{number:02}.png", noise(100 * index + number))
    return folder


def prepare(raw, processed, corrected=None, cluster="", **settings):
    preparation = Preparation.check({"min_pictures": 5} | settings)
    return manifest.prepare(raw, processed, preparation, corrected=corrected, cluster=cluster)
