import keras
import numpy as np
import pytest

from lib.training import networks, quantization
from lib.training.recipe import Recipe


def round_to_nearest(kernel):
    scale = np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1))) / quantization.INT8_MAX
    return np.rint(kernel / scale) * scale


@pytest.fixture
def kernel():
    return np.random.default_rng(0).normal(size=(3, 3, 8, 16)).astype("float32")


@pytest.fixture
def inputs():
    # As in pictures: strongly correlated, and not negative.
    rng = np.random.default_rng(1)
    common = rng.random((500, 1))
    return (common + 0.1 * rng.random((500, 72))).astype("float32")


def test_products_change_less_than_by_rounding_to_nearest(kernel, inputs):
    quantised, nearest = (
        np.abs(inputs @ (found - kernel).reshape(72, 16)).mean()
        for found in (quantization.rounded(kernel, inputs), round_to_nearest(kernel))
    )
    assert quantised < nearest / 3


def test_values_are_those_of_int8_and_rounding_them_again_changes_nothing(kernel, inputs):
    found = quantization.rounded(kernel, inputs)
    np.testing.assert_allclose(np.abs(found).max(axis=(0, 1, 2)), np.abs(kernel).max(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(round_to_nearest(found), found, rtol=1e-5, atol=1e-7)
    # Errors are compensated, not accumulated: no value moves by more than a few steps.
    assert np.abs(found - kernel).max() < 4 * np.abs(kernel).max() / quantization.INT8_MAX


def test_zero_inputs_and_zero_filters_give_finite_values(kernel):
    kernel[..., 3] = 0
    found = quantization.rounded(kernel, np.zeros((10, 72), "float32"))
    np.testing.assert_allclose(found[..., 3], 0)
    others = np.arange(16) != 3
    np.testing.assert_allclose(found[..., others], round_to_nearest(kernel[..., others]), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("network", ["springfield", "cnn"])
def test_the_kernels_of_a_network_that_the_converter_would_round_are_quantised(network):
    keras.utils.set_random_seed(0)
    model = networks.build(Recipe(network=network, width=16, dense_units=64), num_characters=5, picture_size=24)
    pictures = np.random.default_rng(0).integers(0, 256, (40, 24, 24, 3), dtype="uint8")
    probabilities = model.predict_on_batch(pictures)
    before = {layer.name: layer.get_weights() for layer in model.layers}
    quantization.round_kernels(model, pictures)
    np.testing.assert_allclose(model.predict_on_batch(pictures), probabilities, atol=0.02)
    for layer in model.layers:
        for weights, old in zip(layer.get_weights(), before[layer.name], strict=True):
            if weights.ndim > 1 and weights.size >= quantization.MIN_WEIGHTS:
                np.testing.assert_allclose(round_to_nearest(weights), weights, rtol=1e-4, atol=1e-6)
                assert not np.array_equal(weights, old)
            else:
                np.testing.assert_array_equal(weights, old)
