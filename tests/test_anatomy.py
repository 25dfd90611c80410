import keras
import numpy as np
import pytest

from lib.training import anatomy, losses, networks
from lib.training.recipe import Recipe

CNN = Recipe(network="cnn", dense_units=8)


def test_the_layers_of_a_network_have_their_shapes_parameters_and_work():
    table = anatomy.network_layers(networks.build(CNN, 3, 16), 16)
    assert table.layer.tolist() == [*["convolution 3×3"] * 2, "max pooling"] * 2 + ["dense", "dense, softmax"]
    second = table.iloc[1]
    # 32 filters of 3 × 3 × 32 with a bias each; at each of 14 × 14 places
    assert (second.height, second.channels, second.parameters) == (14, 32, 9 * 32 * 32 + 32)
    assert second.multiplications == 14 * 14 * 9 * 32 * 32
    assert table.compute.sum() == pytest.approx(1)
    assert table.parameters.sum() == networks.build(CNN, 3, 16).count_params()


def test_layers_of_every_kind_are_listed_with_their_work():
    pictures = keras.Input((8, 8, 3))
    x = keras.layers.SeparableConv2D(4, 3, strides=2)(keras.layers.BatchNormalization()(pictures))
    x = keras.layers.Conv2D(4, 1, groups=2)(keras.layers.AveragePooling2D(3)(x))
    table = anatomy.network_layers(keras.Model(pictures, x), 8)
    assert table.layer.tolist() == ["separable convolution 3×3, stride 2", "average pooling", "convolution 1×1"]
    # 3 × 3 for each of 3 channels and 3 for each of 4, at 3 × 3 places; then 2 for each of 4, at one.
    assert table.multiplications.tolist() == [9 * (9 * 3 + 3 * 4), 0, 2 * 4]


def test_a_network_for_any_size_is_measured_at_one():
    recipe = Recipe(network="springfield", width=16)
    table = anatomy.network_layers(networks.build(recipe, 3, None), 32)
    assert table.height.tolist()[0] == 16  # stride 2
    assert "global average pooling" in set(table.layer)


@pytest.mark.parametrize("class_map", [False, True])
def test_the_first_loss_is_near_a_uniform_guess_and_leaves_the_network_as_it_is(class_map):
    recipe = Recipe(network="springfield", width=16, class_map=class_map)
    keras.utils.set_random_seed(0)
    model = networks.build(recipe, 30, 32)
    model.compile(**losses.for_recipe(recipe))
    before = [keras.ops.convert_to_numpy(each).copy() for each in model.variables]
    pictures = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), np.uint8)
    labels = np.eye(30 + class_map, dtype="float32")[np.arange(64) % 30]
    found = anatomy.first_loss(model, pictures, {"probabilities": labels} if class_map else labels)
    assert found == pytest.approx(np.log(30 + class_map), abs=0.3)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


@pytest.mark.parametrize(
    ("schedule", "first", "last"), [("constant", 0.01, 0.01), ("step", 0.01, 0.001), ("cosine", 0.01, 0.0)]
)
def test_learning_rates_follow_the_schedule(schedule, first, last):
    recipe = Recipe(network="cnn", schedule=schedule, learning_rate=0.01, epochs=20)
    table = anatomy.learning_rates(recipe, steps_per_epoch=10)
    assert table.learning_rate.iloc[0] == pytest.approx(first)
    assert table.learning_rate.iloc[-1] == pytest.approx(last, abs=1e-5)
    assert table.epoch.iloc[-1] == pytest.approx(19.9)


def test_each_augmentation_acts_by_itself():
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    recipe = Recipe(network="cnn", shift=0.0, flip=False, random_erasing=0.5, quality_jitter=0.1)
    shown, titles = anatomy.each_augmentation(picture, recipe, variants=2)
    used = ["random erasing 0.5", "quality jitter 0.1"]  # in the order of the recipe's fields
    assert [title for title in titles if title] == ["unchanged", used[0], "unchanged", used[1]]
    for row in (shown[:3], shown[3:]):
        assert (row[0] == picture).all()
        assert all((variant != picture).any() for variant in row[1:])
