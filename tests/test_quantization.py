import typing

import keras
import numpy as np
import pytest

from lib.training import networks, quantization
from lib.training.recipe import Network, Recipe


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


def grouped_and_dilated():
    pictures = keras.Input((24, 24, 3))
    x = keras.layers.Conv2D(32, 3, dilation_rate=2, activation="relu")(keras.layers.Rescaling(1 / 255)(pictures))
    x = keras.layers.Conv2D(32, 3, dilation_rate=2, padding="same", activation="relu")(x)
    x = keras.layers.SeparableConv2D(64, 3, activation="relu")(keras.layers.Conv2D(64, 3, groups=2)(x))
    x = keras.layers.Dense(5, activation="softmax")(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(pictures, x)


@pytest.mark.parametrize("network", [*typing.get_args(Network), "grouped and dilated"])
def test_the_kernels_of_a_network_that_the_converter_would_round_are_quantised(network):
    keras.utils.set_random_seed(0)
    if network in typing.get_args(Network):
        model = networks.build(Recipe(network=network, width=16, dense_units=64), num_characters=5, picture_size=24)
    else:
        model = grouped_and_dilated()
    pictures = np.random.default_rng(0).integers(0, 256, (40, 24, 24, 3), dtype="uint8")
    probabilities = model.predict_on_batch(pictures)
    before = {layer.name: layer.get_weights() for layer in model.layers}
    quantization.round_kernels(model, pictures)
    np.testing.assert_allclose(model.predict_on_batch(pictures), probabilities, atol=0.02)
    for layer in model.layers:
        is_plain = isinstance(layer, keras.layers.Conv2D | keras.layers.Dense) and getattr(layer, "groups", 1) == 1
        for weights, old in zip(layer.get_weights(), before[layer.name], strict=True):
            if is_plain and weights.ndim > 1 and weights.size >= quantization.MIN_WEIGHTS:
                np.testing.assert_allclose(round_to_nearest(weights), weights, rtol=1e-4, atol=1e-6)
                assert not np.array_equal(weights, old)
            else:
                np.testing.assert_array_equal(weights, old)
