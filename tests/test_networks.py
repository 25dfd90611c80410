import typing

import keras
import numpy as np
import pytest

from lib.training import networks
from lib.training.recipe import Network, Recipe


def build(num_characters=18, picture_size=64, **settings):
    return networks.build(Recipe(**settings), num_characters, picture_size)


def layers(model, kind):
    return [layer for layer in model.layers if isinstance(layer, kind)]


def test_four_conv_layers_are_those_of_the_original():
    model = build(network="cnn", conv_layers=4, dense_units=512)
    pair = ["Conv2D", "Conv2D", "MaxPooling2D", "Dropout"]
    names = [type(layer).__name__ for layer in model.layers]
    assert names == ["InputLayer", "Rescaling", *pair, *pair, "Flatten", "Dense", "Dropout", "Dense"]
    assert [layer.filters for layer in layers(model, keras.layers.Conv2D)] == [32, 32, 64, 64]
    # 896 + 9,248 + 18,496 + 36,928 in the convolutions; 64 -> 62 -> 31 -> 29 -> 14 pixels,
    # so 14 * 14 * 64 * 512 + 512 in the dense layer and 512 * 18 + 18 in the last.
    assert model.count_params() == 896 + 9_248 + 18_496 + 36_928 + 6_423_040 + 9_234


def test_six_conv_layers_are_those_of_the_original():
    model = build(network="cnn", conv_layers=6, dense_units=1024, dropout=0.2)
    assert [layer.filters for layer in layers(model, keras.layers.Conv2D)] == [32, 32, 64, 64, 256, 256]
    assert [layer.rate for layer in layers(model, keras.layers.Dropout)] == [0.2, 0.2, 0.2, 0.5]


def test_the_first_convolution_of_a_pair_is_padded_and_the_second_is_not():
    model = build(network="cnn", conv_layers=4)
    assert [layer.padding for layer in layers(model, keras.layers.Conv2D)] == ["same", "valid"] * 2


@pytest.mark.parametrize("network", typing.get_args(Network))
def test_outputs_are_probabilities_in_float32_whatever_the_precision(network):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build(3, 32, network=network, dense_units=8, width=16)
    finally:
        keras.config.set_dtype_policy("float32")
    outputs = np.asarray(model(np.full((2, 32, 32, 3), 200, dtype="uint8")))
    assert outputs.dtype == "float32"
    np.testing.assert_allclose(outputs.sum(axis=1), 1, atol=1e-6)


def test_springfield_has_less_than_two_million_parameters():
    assert build(network="springfield").count_params() < 2_000_000


def test_the_depth_of_springfield_does_not_count_shortcuts():
    # One convolution, then 1 + 2 + 3 + 1 blocks of two.
    assert networks.conv_layers_of(build(network="springfield")) == 1 + 7 * 2


def test_convolutions_of_other_kinds_count_too():
    pictures = keras.Input((16, 16, 3))
    x = keras.layers.SeparableConv2D(8, 3)(pictures)
    x = keras.layers.Conv2D(8, 1)(keras.layers.DepthwiseConv2D(3)(x))
    assert networks.conv_layers_of(keras.Model(pictures, x)) == 2


def test_springfield_has_the_same_weights_for_pictures_of_any_size():
    any_size = build(3, None, network="springfield", width=16)
    fixed = build(3, 32, network="springfield", width=16)
    fixed.set_weights(any_size.get_weights())
    for size in (16, 32):
        assert any_size(np.zeros((1, size, size, 3), "uint8")).shape == (1, 3)
    picture = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype="uint8")
    np.testing.assert_allclose(np.asarray(any_size(picture)), np.asarray(fixed(picture)), atol=1e-6)
