import keras
import numpy as np
import pytest

from lib.errors import UserError
from lib.training import optimizers


def rates(schedule, epochs, steps_per_epoch, drop_every=10):
    rate = optimizers.learning_rate(schedule, 0.01, epochs, steps_per_epoch, drop_every)
    return [float(rate(step)) for step in range(epochs * steps_per_epoch + 1)]


def test_step_divides_by_ten_every_drop():
    # 40 epochs of 2 steps, divided after epochs 10, 20 and 30: after steps 20, 40 and 60.
    found = rates("step", epochs=40, steps_per_epoch=2)
    np.testing.assert_allclose([found[20], found[21], found[41], found[61]], [1e-2, 1e-3, 1e-4, 1e-5], rtol=1e-6)


def test_cosine_falls_from_the_peak_to_nothing():
    found = rates("cosine", epochs=10, steps_per_epoch=4)
    # Half-way through, the cosine is 0 and the rate half of the peak.
    np.testing.assert_allclose([found[0], found[20], found[40]], [0.01, 0.005, 0], atol=1e-9)


def test_one_cycle_rises_for_a_fifth_and_falls():
    found = rates("one_cycle", epochs=10, steps_per_epoch=5)
    assert int(np.argmax(found)) == 10  # a fifth of 50 steps
    np.testing.assert_allclose([found[0], found[10], found[50]], [0.01 / 25, 0.01, 0], atol=1e-9)


def test_a_run_shorter_than_the_first_drop_keeps_its_rate():
    assert optimizers.learning_rate("step", 0.01, epochs=3, steps_per_epoch=5) == 0.01


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_each_optimizer_has_the_rate_that_was_asked_for(name):
    made = optimizers.optimizer(name, 0.25, weight_decay=0.5)
    assert isinstance(made, keras.optimizers.Optimizer)
    np.testing.assert_allclose(float(made.learning_rate), 0.25)


@pytest.mark.parametrize(
    "make", [lambda: optimizers.optimizer("adamm", 0.1), lambda: optimizers.learning_rate("x", 1, 1, 1)]
)
def test_unknown_names_are_refused(make):
    with pytest.raises(ValueError, match="must be one of"):
        make()


def test_arithmetic_is_what_is_faster_unless_it_is_named(monkeypatch):
    monkeypatch.setattr(optimizers, "_gains_from_bfloat16", lambda: True)
    assert optimizers.precision() == "mixed_bfloat16"
    monkeypatch.setattr(optimizers, "_gains_from_bfloat16", lambda: False)
    assert optimizers.precision() == "float32"
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
def test_bfloat16_is_used_where_the_processor_is_fast_at_it(vendor, flags, faster):
    assert optimizers.is_faster_in_bfloat16(f"vendor_id\t: {vendor}\nflags\t\t: fpu {flags}\n") is faster


@pytest.mark.parametrize(
    ("name", "value"), [("epochs", 0), ("dropout", 1.5), ("optimizer", "adamm"), ("conv_layers", 5), ("seed", -1)]
)
def test_values_that_cannot_be_meant_are_named(name, value):
    with pytest.raises(UserError, match=rf"`{name}` must be .*, not {value!r}"):
        parameters.check({name: value})


def test_the_limits_themselves_are_allowed():
    parameters.check({"epochs": 1, "dropout": 0.0, "optimizer": "sgd", "shift": 0.5, "anything": "else"})


def test_muon_makes_the_steps_of_kernels_orthogonal_and_leaves_the_rest_to_adam():
    made = optimizers.optimizer("muon", 0.01, momentum=0.95)
    kernel, matrix = (keras.Variable(np.zeros(shape, "float32")) for shape in ((3, 3, 4, 8), (16, 3)))
    made.build([kernel, matrix])
    gradients = [np.random.default_rng(0).normal(size=v.shape).astype("float32") for v in (kernel, matrix)]
    made.apply([keras.ops.convert_to_tensor(gradient) for gradient in gradients])
    # As a matrix of 36 by 8 all its singular values are alike: 0.2 * sqrt(36) * the rate, within Newton-Schulz' bounds.
    values = np.linalg.svd(np.asarray(kernel).reshape(36, 8), compute_uv=False) / (0.01 * 0.2 * 6)
    assert ((values > 0.6) & (values < 1.3)).all()
    # Adam's first step is the rate itself, whatever the gradient's size.
    np.testing.assert_allclose(np.abs(matrix), 0.01 * optimizers.ADAM_SHARE, rtol=1e-3)


@pytest.mark.parametrize(("weight_decay", "moves"), [(0.0, False), (0.1, True)])
def test_without_weight_decay_muon_leaves_what_has_no_gradient(weight_decay, moves):
    made = optimizers.optimizer("muon", 0.01, weight_decay=weight_decay)
    variables = [keras.Variable(np.ones(shape, "float32")) for shape in ((3, 3, 4, 8), (16, 3), (8,))]
    made.build(variables)
    made.apply([keras.ops.zeros(v.shape) for v in variables])
    assert [bool((np.asarray(v) < 1).any()) for v in variables] == [moves] * 3


def test_growing_pictures_are_refused_where_the_network_has_one_size():
    with pytest.raises(UserError, match=r"`progressive_fraction` must be 0 for the network cnn"):
        parameters.check({"network": "cnn", "progressive_fraction": 0.5})
    parameters.check({"network": "springfield", "progressive_fraction": 0.5})
