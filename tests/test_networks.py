import keras
import numpy as np
import pytest

from lib.training import networks


def kinds(model):
    return [type(layer).__name__ for layer in model.layers if "Input" not in type(layer).__name__]


def filters(model):
    return [layer.filters for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]


def test_four_conv_layers_are_those_of_the_study():
    model = networks.build_cnn(conv_layers=4, num_characters=18, dense_units=512)
    pair = ["Conv2D", "Conv2D", "MaxPooling2D", "Dropout"]
    assert kinds(model) == ["Rescaling", *pair, *pair, "Flatten", "Dense", "Dropout", "Dense"]
    assert filters(model) == [32, 32, 64, 64]
    # 896 + 9,248 + 18,496 + 36,928 in the convolutions; 64 -> 62 -> 31 -> 29 -> 14 pixels,
    # so 14 * 14 * 64 * 512 + 512 in the dense layer and 512 * 18 + 18 in the last.
    assert model.count_params() == 896 + 9_248 + 18_496 + 36_928 + 6_423_040 + 9_234


def test_six_conv_layers_are_those_of_the_study():
    model = networks.build_cnn(conv_layers=6, num_characters=18, dense_units=1024, dropout=0.2)
    assert filters(model) == [32, 32, 64, 64, 256, 256]
    assert [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)] == [0.2, 0.2, 0.2, 0.5]


def test_a_pair_keeps_the_size_and_then_does_not():
    model = networks.build_cnn(conv_layers=4, num_characters=2)
    paddings = [layer.padding for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert paddings == ["same", "valid", "same", "valid"]


def test_another_depth_is_refused():
    with pytest.raises(ValueError, match=r"`conv_layers` must be 4 or 6. Received: conv_layers=5"):
        networks.build_cnn(conv_layers=5, num_characters=2)


@pytest.mark.parametrize("network", networks.NETWORKS)
def test_answers_are_probabilities_in_full_precision(network):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = networks.build(network, conv_layers=4, num_characters=3, picture_size=32, dense_units=8, width=4)
    finally:
        keras.config.set_dtype_policy("float32")
    answers = np.asarray(model(np.full((2, 32, 32, 3), 200, dtype="uint8")))
    assert answers.dtype == "float32"
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-6)


def test_an_unknown_network_is_refused():
    with pytest.raises(ValueError, match="Received: network='resnet'"):
        networks.build("resnet", num_characters=2)


def test_springfield_is_small_and_its_depth_counts_no_shortcut():
    model = networks.build_springfield(num_characters=18)
    assert model.count_params() <= 2_000_000
    # One at the start, then 1 + 2 + 3 + 1 blocks of 2.
    assert networks.conv_layers_of(model) == 1 + 7 * 2


def test_one_set_of_weights_serves_pictures_of_any_size():
    growing = networks.build_springfield(num_characters=3, picture_size=None, width=4)
    fixed = networks.build_springfield(num_characters=3, picture_size=32, width=4)
    fixed.set_weights(growing.get_weights())
    for size in (16, 32):
        assert growing(np.zeros((1, size, size, 3), "uint8")).shape == (1, 3)
    picture = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype="uint8")
    np.testing.assert_allclose(np.asarray(growing(picture)), np.asarray(fixed(picture)), atol=1e-6)
