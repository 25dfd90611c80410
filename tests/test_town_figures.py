import numpy as np

from lib.data import sample, synthetic, town_figures


def test_the_town_has_38_characters_and_the_sample_stays_at_18():
    assert len(town_figures.DRAWABLE) == 38
    assert len(sample.CHARACTERS) == 18
    assert not set(town_figures.TOWN) & set(sample.CHARACTERS)


def test_every_character_of_the_town_can_be_drawn_in_a_scene_and_cut_out():
    for features in town_figures.TOWN.values():
        for draw in (sample.draw_picture, sample.draw_cutout):
            assert draw(features, np.random.default_rng(0)).std() > 10


def test_drawings_of_the_sample_stay_when_the_town_joins():
    characters = ["bart_simpson", "barney_gumble"]
    alone, _ = synthetic.draw(characters, 2, 32, "bounded", 0)
    drawn, labels = synthetic.draw(characters, 2, 32, "bounded", 0, town_figures.DRAWABLE)
    assert labels.tolist() == [0, 0, 1, 1]
    assert (drawn[:2] == alone).all()
