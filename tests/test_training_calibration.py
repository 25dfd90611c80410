"""Temperature and thresholds, chosen after a training."""

import keras
import numpy as np
import pytest

from lib.training import calibration, networks
from lib.training.recipe import Recipe


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def answers(temperature, n=20_000):
    """Draw answers, and labels that follow their probabilities at a temperature."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (n, 5))
    labels = (softmax(logits / temperature).cumsum(axis=1) < rng.random(n)[:, None]).sum(axis=1)
    return softmax(logits), labels


@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.5])
def test_the_temperature_that_the_labels_follow_is_found(temperature):
    assert calibration.fit_temperature(*answers(temperature)) == pytest.approx(temperature, rel=0.05)


def test_a_temperature_keeps_the_order_and_the_sum():
    probabilities, _ = answers(1.0, n=50)
    changed = calibration.with_temperature(probabilities, 3.0)
    np.testing.assert_allclose(changed.sum(axis=1), 1)
    np.testing.assert_array_equal(changed.argsort(axis=1), probabilities.argsort(axis=1))
    assert np.isfinite(calibration.with_temperature(np.array([1.0, 0.0]), 2.0)).all()


@pytest.mark.parametrize("class_map", [False, True])
def test_calibrating_folds_the_temperature_into_the_network(class_map):
    keras.utils.set_random_seed(0)
    model = networks.build(Recipe(network="springfield", width=16, class_map=class_map), 3, 32)
    pictures = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype="uint8")
    before = model.predict_on_batch(pictures)
    labels = networks.probabilities(before)[:, :3].argmax(axis=1)  # right, so underconfident but for nobody
    chosen = calibration.calibrate(model, before, labels, 3)
    after = networks.probabilities(model.predict_on_batch(pictures))
    expected = calibration.with_temperature(networks.probabilities(before), chosen.temperature)
    assert class_map or chosen.temperature < 1
    np.testing.assert_allclose(after, expected, atol=1e-3)
    assert chosen.threshold == pytest.approx(np.sort(expected[:, :3].max(axis=1))[1])  # 39 of 40 are 97 %
    assert (chosen.second_threshold is not None) == class_map
    assert str(chosen).startswith(f"temperature {chosen.temperature:.2f}; a character is named from")
    assert ("further ones" in str(chosen)) == class_map


def test_a_fraction_of_the_scores_reaches_the_threshold():
    assert calibration.threshold_keeping(np.arange(1, 101)) == 4  # 97 of 100


def test_few_pictures_of_one_character_get_a_second_name():
    rng = np.random.default_rng(0)
    maps, labels = rng.uniform(0, 0.6, (200, 4, 4, 3)), rng.integers(0, 3, 200)
    maps[np.arange(200), :, :, labels] = 0
    maps[np.arange(200), 0, 0, labels] = 1.0
    threshold = calibration.second_threshold(maps, labels)
    maps[:, 0, 0] = 0  # where the character itself is
    assert (maps.max(axis=(1, 2, 3)) >= threshold).mean() == pytest.approx(calibration.SECOND_NAMES, abs=0.02)
