import numpy as np
import pytest

from lib.training import sampling

LABELS = np.repeat([0, 1, 2], [900, 90, 10])


def counts(power, seed=0):
    return np.bincount(LABELS[sampling.balanced_rows(LABELS, power, np.random.default_rng(seed))])


def test_power_one_shows_every_picture_once():
    assert sampling.balanced_rows(LABELS, 1.0, np.random.default_rng(0)).tolist() == list(range(1000))


def test_power_zero_shows_characters_equally_often():
    assert counts(0.0).tolist() == [333, 333, 333]


def test_power_one_half_goes_by_the_root():
    # Roots 30, 9.487 and 3.162 add up to 42.65: 703, 222 and 74 of 1,000.
    assert counts(0.5).tolist() == [703, 222, 74]


def test_each_picture_of_a_rare_character_is_shown_about_equally_often():
    rows = sampling.balanced_rows(LABELS, 0.5, np.random.default_rng(0))
    shown = np.bincount(rows, minlength=1000)[990:]
    assert set(shown) <= {7, 8}


def test_power_is_within_bounds():
    with pytest.raises(ValueError, match="power"):
        sampling.balanced_rows(LABELS, 1.5, np.random.default_rng(0))


def test_log_priors_are_logarithms_of_shares():
    assert np.exp(sampling.log_priors(LABELS, 3)) == pytest.approx([0.9, 0.09, 0.01])
    assert np.isfinite(sampling.log_priors(np.array([0]), 2)).all()
