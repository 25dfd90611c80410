import numpy as np
import pytest

from lib.evaluation import calibration


def test_the_calibration_error_is_the_weighted_gap():
    # Three of four at 0.9 are right, gap 0.15; one of two at 0.5, gap 0: (4 * 0.15 + 2 * 0) / 6 = 0.1.
    confidence = np.array([0.9, 0.9, 0.9, 0.9, 0.5, 0.5])
    correct = np.array([True, True, True, False, True, False])
    assert calibration.expected_calibration_error(confidence, correct) == pytest.approx(0.1)
    table = calibration.reliability(confidence, correct)
    assert table.answers.tolist() == [2, 4]
    assert table.accuracy.tolist() == [0.5, 0.75]


def test_a_confidence_of_one_belongs_to_the_last_bin():
    both = calibration.reliability(np.array([1.0, 0.99]), np.array([True, False]))
    assert both.answers.tolist() == [2]


def test_the_interval_contains_the_error_and_is_wider_for_near_duplicates():
    rng = np.random.default_rng(0)
    confidence = np.repeat(rng.uniform(0.5, 1, 100), 10)
    correct = np.repeat(rng.random(100) < 0.7, 10)
    groups = np.repeat(np.arange(100), 10)
    low, high = calibration.calibration_error_interval(confidence, correct)
    wide_low, wide_high = calibration.calibration_error_interval(confidence, correct, groups)
    assert low < calibration.expected_calibration_error(confidence, correct) < high
    assert wide_high - wide_low > high - low


def test_the_coverage_curve_starts_with_the_most_confident_answers():
    curve = calibration.coverage_curve(np.array([0.9, 0.5, 0.9, 0.2]), np.array([True, False, True, True]))
    assert curve.coverage.tolist() == [0.5, 0.75, 1.0]
    assert curve.accuracy.tolist() == pytest.approx([1.0, 2 / 3, 0.75])


def test_the_error_of_a_perfectly_calibrated_network_is_chance_and_falls_with_the_number_of_answers():
    means = []
    for number in (100, 10_000):
        confidence = np.full(number, 0.8)  # all in one bin: the error is that of one proportion
        mean, (low, high) = calibration.error_by_chance(confidence)
        assert low < mean < high
        assert mean == pytest.approx(np.sqrt(2 / np.pi * 0.8 * 0.2 / number), rel=0.1)
        means.append(mean)
    assert means[0] > 5 * means[1]
