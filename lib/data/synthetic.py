"""Drawings of the project's own as training pictures: other scenes than a film's, other outlines, figures cut out.

A network that learns from frames alone learns one manner of drawing. These are drawn from a table of features, so what
they share with frames is what a person knows a character by.
"""

from collections.abc import Mapping

import numpy as np

from lib.data import pictures, sample
from lib.data.sample_figures import FEATURES, Features


def draw(
    characters: list[str],
    number: int,
    picture_size: int,
    fit: str,
    seed: int,
    figures: Mapping[str, Features] = FEATURES,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw pictures of the characters that can be drawn, none of which is in the sample data set.

    Args:
        characters: Names in label order; those that are not in `figures` are passed over.
        number: Pictures a character: every other one in a scene, every other one cut out.
        picture_size: Pixels a side.
        fit: How a drawing becomes square, as in `pictures.resize`.
        seed: Decides every pixel.
        figures: What characters look like: those of the drawn sample, or `town_figures.DRAWABLE`.

    Returns:
        Pictures, `uint8 (n, picture_size, picture_size, 3)`, RGB, and their labels, `int64 (n,)`.
    """
    drawn, labels = [], []
    for label, character in enumerate(characters):
        for place in range(number if character in figures else 0):
            # Four numbers: the seeds of the sample data set have three.
            rng = np.random.default_rng([seed, _number(character, figures), place, 1])
            figure = character if character in FEATURES else figures[character]
            picture = (sample.draw_cutout if place % 2 else sample.draw_picture)(figure, rng)
            drawn.append(pictures.resize(picture, picture_size, fit))
            labels.append(label)
    shape = (len(drawn), picture_size, picture_size, 3)
    return np.array(drawn, dtype="uint8").reshape(shape), np.array(labels, dtype="int64")


def _number(character: str, figures: Mapping[str, Features]) -> int:
    """Number the characters of the sample first, so that their drawings stay when others are added."""
    others = sorted(set(figures) - set(sample.CHARACTERS))
    return [*sample.CHARACTERS, *others].index(character)
