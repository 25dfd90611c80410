import numpy as np
import pytest

from lib.evaluation import calibration


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def answers_of_temperature(temperature, n=20_000):
    """Draw logits, and labels as often as the logits at `temperature` promise."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (n, 5))
    promised = softmax(logits / temperature)
    labels = (promised.cumsum(axis=1) < rng.random(n)[:, None]).sum(axis=1)
    return softmax(logits), labels


@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.5])
def test_the_temperature_that_made_the_labels_is_found(temperature):
    assert calibration.fit_temperature(*answers_of_temperature(temperature)) == pytest.approx(temperature, rel=0.05)


def test_a_temperature_keeps_the_order_and_the_sum():
    probabilities, _ = answers_of_temperature(1.0, n=50)
    changed = calibration.with_temperature(probabilities, 3.0)
    assert changed.sum(axis=1) == pytest.approx(1)
    assert (changed.argsort(axis=1) == probabilities.argsort(axis=1)).all()


def test_a_probability_of_nothing_has_a_temperature_too():
    assert np.isfinite(calibration.with_temperature(np.array([1.0, 0.0]), 2.0)).all()


def test_labels_must_fit_the_answers():
    with pytest.raises(ValueError, match="one entry an answer"):
        calibration.fit_temperature(np.full((2, 2), 0.5), np.array([0]))


def test_the_calibration_error_is_the_weighted_gap():
    # Three of four at 0.9 are right, gap 0.15; one of two at 0.5, gap 0: (4 * 0.15 + 2 * 0) / 6 = 0.1.
    confidence = np.array([0.9, 0.9, 0.9, 0.9, 0.5, 0.5])
    correct = np.array([True, True, True, False, True, False])
    assert calibration.expected_calibration_error(confidence, correct) == pytest.approx(0.1)
    table = calibration.reliability(confidence, correct)
    assert table["count"].sum() == 6
    assert table.accuracy.dropna().tolist() == [0.5, 0.75]


def test_a_confidence_of_one_belongs_to_the_last_bin():
    assert calibration.reliability(np.array([1.0]), np.array([True]))["count"].iloc[-1] == 1


def test_the_interval_holds_the_error_and_is_wider_for_near_duplicates():
    rng = np.random.default_rng(0)
    confidence = np.repeat(rng.uniform(0.5, 1, 100), 10)
    correct = np.repeat(rng.random(100) < 0.7, 10)
    error = calibration.expected_calibration_error(confidence, correct)
    low, high = calibration.calibration_error_interval(confidence, correct)
    wide_low, wide_high = calibration.calibration_error_interval(
        confidence, correct, groups=np.repeat(np.arange(100), 10)
    )
    assert low < error < high
    assert wide_high - wide_low > high - low


def test_the_coverage_curve_gives_the_surest_answers_first():
    curve = calibration.coverage_curve(np.array([0.9, 0.5, 0.9, 0.2]), np.array([True, False, True, True]))
    assert curve.coverage.tolist() == [0.5, 0.75, 1.0]
    assert curve.accuracy.tolist() == pytest.approx([1.0, 2 / 3, 0.75])


def test_the_threshold_keeps_the_share():
    scores = np.arange(100) / 100
    assert (scores >= calibration.threshold_keeping(scores, 0.97)).mean() == 0.97
    with pytest.raises(ValueError, match="share"):
        calibration.threshold_keeping(scores, 0)


def test_auroc_counts_pairs_and_ties_half():
    # Pairs: 3 > 2, 3 > 1, 2 = 2, 2 > 1: (3 + 0.5) / 4.
    assert calibration.auroc(np.array([3, 2]), np.array([2, 1])) == pytest.approx(0.875)


def test_false_positives_are_counted_at_the_threshold_of_the_known():
    known, unknown = np.arange(1, 21), np.array([0, 1, 2, 3])
    assert calibration.false_positive_rate(known, unknown) == pytest.approx(0.5)  # 19 of 20 known are at least 2
