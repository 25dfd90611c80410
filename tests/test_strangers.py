"""Pictures without known characters, and captions."""

import numpy as np
import pytest

from lib.drawing import strangers
from lib.drawing.figures import FEATURES


@pytest.mark.parametrize("make", [strangers.pattern, strangers.scenery])
def test_pictures_of_nobody_differ_and_follow_from_their_seed(make):
    made = [make(32, np.random.default_rng(seed)) for seed in range(12)]
    assert all(picture.shape == (32, 32, 3) and picture.dtype == np.uint8 for picture in made)
    assert len({picture.tobytes() for picture in made}) > 6
    np.testing.assert_array_equal(made[3], make(32, np.random.default_rng(3)))


def test_a_caption_changes_part_of_a_copy():
    picture = np.full((96, 96, 3), 120, "uint8")
    for seed in range(10):
        captioned = strangers.caption(picture, np.random.default_rng(seed))
        assert 0.005 < (captioned != picture).any(axis=2).mean() < 0.75
    assert (picture == 120).all()


def test_an_invented_figure_has_a_skin_and_hair_of_no_character_and_can_be_drawn():
    skins = {features.skin for features in FEATURES.values()}
    for seed in range(30):
        features = strangers.invented_features(np.random.default_rng(seed))
        assert features.skin not in skins
        assert features.hair not in strangers.SIGNATURE_HAIR
    assert strangers.invented_figure(np.random.default_rng(0)).std() > 10
