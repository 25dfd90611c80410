import keras
import numpy as np
import pytest

from lib.training import networks, quantization


def to_nearest(kernel):
    unit = np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1))) / quantization.LARGEST
    return np.rint(kernel / unit) * unit


@pytest.fixture
def kernel():
    return np.random.default_rng(0).normal(size=(3, 3, 8, 16)).astype("float32")


@pytest.fixture
def inputs():
    # As in pictures: neighbours are nearly alike, and none is negative.
    rng = np.random.default_rng(1)
    common = rng.random((500, 1))
    return (common + 0.1 * rng.random((500, 72))).astype("float32")


def test_products_change_less_than_by_rounding_to_the_nearest(kernel, inputs):
    change = [
        np.abs(inputs @ (found - kernel).reshape(72, 16)).mean()
        for found in (quantization.rounded(kernel, inputs), to_nearest(kernel))
    ]
    assert change[0] < change[1] / 3


def test_every_value_is_one_that_int8_has_and_rounding_again_finds_it_as_it_is(kernel, inputs):
    found = quantization.rounded(kernel, inputs)
    np.testing.assert_allclose(np.abs(found).max(axis=(0, 1, 2)), np.abs(kernel).max(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(to_nearest(found), found, rtol=1e-5, atol=1e-7)
    # Each step is at most a few units from the nearest: errors are handed on, not piled up.
    assert np.abs(found - kernel).max() < 4 * np.abs(kernel).max() / quantization.LARGEST


def test_inputs_that_are_all_nothing_and_filters_that_are_all_nothing_stay_numbers(kernel):
    kernel[..., 3] = 0
    found = quantization.rounded(kernel, np.zeros((10, 72), "float32"))
    np.testing.assert_allclose(found[..., 3], 0)
    others = np.arange(16) != 3
    np.testing.assert_allclose(found[..., others], to_nearest(kernel[..., others]), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("build", [networks.build_springfield, networks.build_cnn])
def test_a_network_is_rounded_kernel_by_kernel_where_the_converter_would_do_it(build):
    keras.utils.set_random_seed(0)
    size = {"width": 8} if build is networks.build_springfield else {"conv_layers": 4, "dense_units": 64}
    model = build(num_characters=5, picture_size=24, **size)
    pictures = np.random.default_rng(0).integers(0, 256, (40, 24, 24, 3), dtype="uint8")
    before, kernels = model.predict_on_batch(pictures), {layer.name: layer.get_weights() for layer in model.layers}
    quantization.round_kernels(model, pictures)
    np.testing.assert_allclose(model.predict_on_batch(pictures), before, atol=0.02)
    for layer in model.layers:
        for weights, old in zip(layer.get_weights(), kernels[layer.name], strict=True):
            if weights.ndim > 1 and weights.size >= quantization.LEAST_WEIGHTS:
                np.testing.assert_allclose(to_nearest(weights), weights, rtol=1e-4, atol=1e-6)
                assert not np.array_equal(weights, old)
            else:
                np.testing.assert_array_equal(weights, old)
