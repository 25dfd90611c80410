import keras
import numpy as np
import pytest

from lib.training import optimizers
from lib.training.recipe import Recipe


def recipe(**settings):
    return Recipe(network="cnn", **settings)


def rates(schedule, epochs, steps_per_epoch):
    """The learning rate before each step, and after the last, from a peak of 0.01."""
    rate = optimizers.learning_rate(recipe(schedule=schedule, learning_rate=0.01, epochs=epochs), steps_per_epoch)
    return [float(rate(step)) for step in range(epochs * steps_per_epoch + 1)]


def test_step_divides_by_ten_at_every_drop():
    # 40 epochs of 2 steps, divided after epochs 10, 20 and 30: after steps 20, 40 and 60.
    found = rates("step", epochs=40, steps_per_epoch=2)
    np.testing.assert_allclose([found[20], found[21], found[41], found[61]], [1e-2, 1e-3, 1e-4, 1e-5], rtol=1e-6)


def test_cosine_falls_from_the_peak_to_zero():
    found = rates("cosine", epochs=10, steps_per_epoch=4)
    # Half-way, the cosine is 0 and the rate half of the peak.
    np.testing.assert_allclose([found[0], found[20], found[40]], [0.01, 0.005, 0], atol=1e-9)


def test_one_cycle_rises_for_a_fifth_and_falls():
    found = rates("one_cycle", epochs=10, steps_per_epoch=5)
    assert int(np.argmax(found)) == 10  # a fifth of 50 steps
    np.testing.assert_allclose([found[0], found[10], found[50]], [0.01 / 25, 0.01, 0], atol=1e-9)


@pytest.mark.parametrize("schedule", [{"schedule": "constant"}, {"schedule": "step", "epochs": 10, "drop_every": 10}])
def test_a_schedule_without_a_drop_is_a_number(schedule):
    assert optimizers.learning_rate(recipe(learning_rate=0.01, **schedule), steps_per_epoch=5) == 0.01


@pytest.mark.parametrize("name", ["rmsprop", "sgd", "adamw", "muon"])
def test_each_optimizer_has_the_rate_of_the_recipe(name):
    built = optimizers.build(recipe(optimizer=name, learning_rate=0.25, weight_decay=0.5), steps_per_epoch=1)
    assert isinstance(built, keras.optimizers.Optimizer)
    np.testing.assert_allclose(float(built.learning_rate), 0.25)


def test_muon_orthogonalises_the_updates_of_kernels_and_uses_adam_for_the_rest():
    muon = optimizers.build(recipe(optimizer="muon", learning_rate=0.01, momentum=0.95), steps_per_epoch=1)
    kernel, matrix = (keras.Variable(np.zeros(shape, "float32")) for shape in ((3, 3, 4, 8), (16, 3)))
    muon.build([kernel, matrix])
    gradients = [np.random.default_rng(0).normal(size=v.shape).astype("float32") for v in (kernel, matrix)]
    muon.apply([keras.ops.convert_to_tensor(gradient) for gradient in gradients])
    # As a 36 × 8 matrix all singular values are 0.2 * sqrt(36) * the rate, within the bounds of Newton-Schulz.
    values = np.linalg.svd(np.asarray(kernel).reshape(36, 8), compute_uv=False) / (0.01 * 0.2 * 6)
    assert ((values > 0.6) & (values < 1.3)).all()
    # The first step of Adam is the rate itself, whatever the size of the gradient.
    np.testing.assert_allclose(np.abs(matrix), 0.01 * optimizers.ADAM_RATE_RATIO, rtol=1e-3)


@pytest.mark.parametrize(("weight_decay", "shrinks"), [(0.0, False), (0.1, True)])
def test_muon_shrinks_weights_without_gradients_only_by_weight_decay(weight_decay, shrinks):
    muon = optimizers.build(recipe(optimizer="muon", learning_rate=0.01, weight_decay=weight_decay), steps_per_epoch=1)
    variables = [keras.Variable(np.ones(shape, "float32")) for shape in ((3, 3, 4, 8), (16, 3), (8,))]
    muon.build(variables)
    muon.apply([keras.ops.zeros(v.shape) for v in variables])
    assert [bool((np.asarray(v) < 1).any()) for v in variables] == [shrinks] * 3


@pytest.mark.parametrize(("faster", "chosen"), [(True, "mixed_bfloat16"), (False, "float32")])
def test_auto_chooses_the_faster_precision(monkeypatch, faster, chosen):
    monkeypatch.setattr(optimizers, "_is_bfloat16_faster", lambda: faster)
    assert optimizers.precision("auto") == chosen
    assert optimizers.precision("mixed_bfloat16") == "mixed_bfloat16"


@pytest.mark.parametrize(
    ("vendor", "flags", "faster"),
    [
        ("AuthenticAMD", "avx512f avx512_bf16", True),
        ("AuthenticAMD", "avx512f avx512_bf16 avx512_fp16", True),
        ("GenuineIntel", "avx512f avx512_bf16", True),
        ("GenuineIntel", "avx512f avx512_bf16 avx512_fp16", False),  # AMX hidden by the virtual machine
        ("GenuineIntel", "avx512f avx512_bf16 avx512_fp16 amx_bf16", True),
        ("GenuineIntel", "avx2", False),
    ],
)
def test_bfloat16_is_faster_on_processors_with_hardware_for_it(vendor, flags, faster):
    assert optimizers.is_faster_in_bfloat16(f"vendor_id\t: {vendor}\nflags\t\t: fpu {flags}\n") is faster


def test_a_training_of_a_single_step_has_a_schedule():
    schedule = optimizers.learning_rate(Recipe(network="cnn", schedule="one_cycle", epochs=1), steps_per_epoch=1)
    assert float(schedule(0)) > 0
