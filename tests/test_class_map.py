"""From a class map to characters and places."""

import numpy as np
import pytest

from lib.inference import class_map


def map_with(*blocks, cells=6, num_characters=3):
    """Make a map of blocks `(label, top, left, height, width, value)`."""
    result = np.zeros((cells, cells, num_characters), "float32")
    for label, top, left, height, width, value in blocks:
        result[top : top + height, left : left + width, label] = value
    return result


def test_two_characters_side_by_side_are_both_found_where_they_are():
    maps = map_with((0, 1, 0, 3, 2, 0.9), (2, 1, 4, 3, 2, 0.7))
    first, second = class_map.find(maps, first=2, threshold=0.5)
    assert (first.label, second.label) == (2, 0)
    assert second.score == pytest.approx(0.9)
    assert second.box[2] < 0.5 < first.box[0]


def test_the_named_character_is_found_whatever_its_score_and_others_from_the_threshold():
    found = class_map.find(map_with((1, 0, 0, 2, 2, 0.4), (0, 3, 3, 2, 2, 0.4)), first=1, threshold=0.5)
    assert [each.label for each in found] == [1]


def test_one_figure_has_one_name():
    found = class_map.find(map_with((0, 1, 1, 3, 3, 0.9), (1, 1, 1, 3, 3, 0.8)), first=1, threshold=0.5)
    assert [each.label for each in found] == [1]


def test_no_more_than_the_limit_are_found():
    crowd = map_with(*[(label, 0, label, 6, 1, 0.9) for label in range(6)], num_characters=6)
    assert len(class_map.find(crowd, first=0, threshold=0.5)) == class_map.MAX_FOUND


def test_a_box_covers_its_block_within_half_a_cell():
    box = class_map.box_of(map_with((0, 2, 1, 3, 2, 1.0))[:, :, 0])
    assert box == pytest.approx((1 / 6, 2 / 6, 3 / 6, 5 / 6), abs=0.5 / 6)


def test_a_box_contains_the_maximum_and_nothing_apart_from_it():
    cells = map_with((0, 0, 0, 2, 2, 1.0), (0, 4, 4, 2, 2, 0.9))[:, :, 0]
    left, top, right, bottom = class_map.box_of(cells)
    assert right < 0.5 and bottom < 0.5
    x, y = class_map.peak(cells)
    assert left <= x <= right and top <= y <= bottom


def test_a_uniform_map_is_one_box():
    assert class_map.box_of(np.full((4, 4), 0.3)) == (0, 0, 1, 1)


def test_overlap_is_intersection_over_union():
    assert class_map.overlap((0, 0, 1, 1), (0.5, 0, 1.5, 1)) == pytest.approx(1 / 3)
    assert class_map.overlap((0, 0, 1, 1), (2, 2, 3, 3)) == 0
