"""Drawings of the project's own as training pictures: other scenes than a film's, other outlines, figures cut out.

A network that learns from frames alone learns one manner of drawing. These are drawn from a table of features, so what
they share with frames is what a person knows a character by.
"""

import numpy as np

from lib.data import pictures, sample


def draw(
    characters: list[str], number: int, picture_size: int, fit: str, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw pictures of the characters that can be drawn, none of which is in the sample data set.

    Args:
        characters: Names in label order; those that are not in `sample.CHARACTERS` are passed over.
        number: Pictures a character: every other one in a scene, every other one cut out.
        picture_size: Pixels a side.
        fit: How a drawing becomes square, as in `pictures.resize`.
        seed: Decides every pixel.

    Returns:
        Pictures, `uint8 (n, picture_size, picture_size, 3)`, RGB, and their labels, `int64 (n,)`.
    """
    drawn, labels = [], []
    for label, character in enumerate(characters):
        for place in range(number if character in sample.CHARACTERS else 0):
            # Four numbers: the seeds of the sample data set have three.
            rng = np.random.default_rng([seed, sample.CHARACTERS.index(character), place, 1])
            picture = (sample.draw_cutout if place % 2 else sample.draw_picture)(character, rng)
            drawn.append(pictures.resize(picture, picture_size, fit))
            labels.append(label)
    shape = (len(drawn), picture_size, picture_size, 3)
    return np.array(drawn, dtype="uint8").reshape(shape), np.array(labels, dtype="int64")
