"""The clip-art without known characters."""

import numpy as np

from lib.data import clipart


def test_variants_of_a_drawing_are_in_one_split():
    names = [f"animals/{name}_{number}.png" for name in "abcdefghij" for number in range(3)]
    split = clipart.split_by_name(names)
    assert sorted(np.concatenate(list(split.values()))) == list(range(30))
    split_of = {position: name for name, positions in split.items() for position in positions}
    assert all(split_of[3 * n] == split_of[3 * n + 1] == split_of[3 * n + 2] for n in range(10))
    assert len(split["train"]) == 18


def test_every_picture_of_the_archive_can_be_read():
    found = [len(clipart.load(split, 16, "bounded")) for split in clipart.SPLIT_ENDS]
    assert sum(found) == 1500 and min(found) > 250
