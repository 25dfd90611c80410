import numpy as np
import pytest

from lib.data import dataset
from lib.drawing import sample
from lib.errors import UserError


def test_every_character_that_can_be_drawn_is_drawn_and_labelled():
    drawn, labels = dataset.draw(["bart_simpson", "nobody", "homer_simpson"], 3, 32, "stretch", seed=0)
    assert drawn.shape == (6, 32, 32, 3) and drawn.dtype == np.uint8
    assert labels.tolist() == [0, 0, 0, 2, 2, 2]


def test_none_asked_for_is_an_empty_array_of_the_right_shape():
    drawn, labels = dataset.draw(["bart_simpson"], 0, 32, "stretch", seed=0)
    assert drawn.shape == (0, 32, 32, 3) and len(labels) == 0


def test_a_seed_decides_every_pixel_whatever_the_other_characters_are():
    alone, _ = dataset.draw(["moe_szyslak"], 2, 32, "pad", seed=5)
    among, labels = dataset.draw(["bart_simpson", "moe_szyslak"], 2, 32, "pad", seed=5)
    np.testing.assert_array_equal(among[labels == 1], alone)
    assert not np.array_equal(dataset.draw(["moe_szyslak"], 2, 32, "pad", seed=6)[0], alone)


@pytest.mark.parametrize("character", sample.CHARACTERS)
def test_a_cutout_is_a_figure_on_one_colour(character):
    for seed in range(4):
        random_erasing = sample.draw_cutout(character, np.random.default_rng(seed))
        assert random_erasing.dtype == np.uint8 and random_erasing.ndim == 3
        assert min(random_erasing.shape[:2]) >= 30 and max(random_erasing.shape[:2]) <= 300
        corners = random_erasing[[0, 0], [0, -1]].reshape(-1, 3)
        # The upper corners are paper, of one colour; trimmed to the figure, so there is much that is not paper.
        assert np.ptp(corners, axis=0).max() <= 40
        assert (np.abs(random_erasing.astype(int) - corners[0]).max(axis=2) > 30).mean() > 0.2


def test_a_character_that_cannot_be_drawn_is_named():
    with pytest.raises(UserError, match="nobody"):
        sample.draw_cutout("nobody", np.random.default_rng(0))
