import numpy as np
import pytest

from lib.evaluation import calibration


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def answers_of_temperature(temperature, number=20_000):
    """Draw logits, and labels with the probabilities that the logits have at `temperature`."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (number, 5))
    actual = (softmax(logits / temperature).cumsum(axis=1) < rng.random(number)[:, None]).sum(axis=1)
    return softmax(logits), actual


@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.5])
def test_the_temperature_that_made_the_labels_is_found(temperature):
    assert calibration.fit_temperature(*answers_of_temperature(temperature)) == pytest.approx(temperature, rel=0.05)


def test_a_temperature_keeps_the_order_and_the_sum():
    probabilities, _ = answers_of_temperature(1.0, number=50)
    changed = calibration.with_temperature(probabilities, 3.0)
    assert changed.sum(axis=1) == pytest.approx(1)
    assert (changed.argsort(axis=1) == probabilities.argsort(axis=1)).all()


def test_a_probability_of_zero_stays_finite():
    assert np.isfinite(calibration.with_temperature(np.array([1.0, 0.0]), 2.0)).all()


def test_labels_must_match_the_answers():
    with pytest.raises(ValueError, match="one label per answer"):
        calibration.fit_temperature(np.full((2, 2), 0.5), np.array([0]))


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
