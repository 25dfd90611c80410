"""Numeric precision, optimiser and learning-rate schedule of a recipe."""

import contextlib
import math
from pathlib import Path

import keras

from lib.training.recipe import Recipe

# Muon updates biases, normalisation and dense layers with Adam.
ADAM_RATE_RATIO = 0.2  # of Muon's rate: these need smaller steps than orthogonalised kernels
ADAM_DECAY = 0.004  # Keras' default


def precision(choice: str = "auto") -> str:
    """Choose the numeric precision of the training, a Keras dtype policy: `choice`, unless it is "auto".

    For "auto", "mixed_bfloat16" on accelerators and on processors where it is faster than "float32". Choose "float32"
    for accelerators from before 2020, which are slower with bfloat16.
    """
    if choice != "auto":
        return choice
    return "mixed_bfloat16" if _is_bfloat16_faster() else "float32"


def _is_bfloat16_faster() -> bool:
    """Decide by the accelerator if there is one, else by the processor."""
    if keras.backend.backend() == "torch":
        import torch

        if torch.cuda.is_available():
            return torch.cuda.is_bf16_supported()
        # On CPUs, PyTorch's convolutions are slower in bfloat16: 75 against 80 to 105 pictures/s.
        return False
    if any(not device.startswith("cpu") for device in keras.distribution.list_devices()):
        return True
    with contextlib.suppress(OSError):
        return is_faster_in_bfloat16(Path("/proc/cpuinfo").read_text())
    return False


def is_faster_in_bfloat16(cpuinfo: str) -> bool:
    """Decide from the text of `/proc/cpuinfo` whether bfloat16 is faster than float32 on a processor.

    It is with AMX, and with AVX-512 on AMD's Zen 4 (measured: cnn4 and cnn6 train 1.8 times as fast) and Intel's
    Cooper Lake. Later Intel processors, those with half precision in AVX-512, are fast with AMX only, and a virtual
    machine may hide AMX: there springfield trains 1.5 to 1.7 times as fast in float32.
    """
    words = set(cpuinfo.split())
    intel_after_amx = {"GenuineIntel", "avx512_fp16"} <= words
    return "amx_bf16" in words or ("avx512_bf16" in words and not intel_after_amx)


class Muon(keras.optimizers.Muon):
    """Muon (Jordan 2024, https://kellerjordan.github.io/posts/muon/) for convolutional networks.

    The update of a kernel is orthogonalised, so that all of its directions advance at the same rate. Keras' class
    orthogonalises matrices only: it would use Adam for convolutions, and Muon for the last dense layer, where Adam is
    recommended. Here a kernel `(height, width, channels, filters)` is treated as a matrix
    `(height * width * channels, filters)`, and all other variables use Adam.
    """

    def _should_use_adamw(self, variable) -> bool:
        return len(variable.shape) != 4

    def zeropower_via_newtonschulz5(self, x, steps: int):
        """Orthogonalise an update approximately, by Newton-Schulz iterations."""
        matrix = keras.ops.reshape(x, (-1, x.shape[-1]))
        return keras.ops.reshape(super().zeropower_via_newtonschulz5(matrix, steps), x.shape)

    def lr_adjust(self, x):
        """Scale an orthogonalised update to the size of Adam's (Liu et al. 2025, arXiv:2502.16982)."""
        longer_side = max(math.prod(x.shape[:-1]), x.shape[-1])
        return x * (self.rms_rate * longer_side**0.5)


def build(recipe: Recipe, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Build the optimiser of a recipe, with its schedule for epochs of `steps_per_epoch` batches.

    Weight decay is decoupled (Loshchilov and Hutter 2019, arXiv:1711.05101). With muon it applies to the kernels of
    convolutions; if it is not zero, all other variables have `ADAM_DECAY`.
    """
    rate = learning_rate(recipe, steps_per_epoch)
    decay = recipe.weight_decay or None
    if recipe.optimizer == "rmsprop":
        return keras.optimizers.RMSprop(rate, weight_decay=decay)
    if recipe.optimizer == "sgd":
        return keras.optimizers.SGD(rate, recipe.momentum, nesterov=True, weight_decay=decay)
    if recipe.optimizer == "adamw":
        return keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay)
    return Muon(
        rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        adam_weight_decay=ADAM_DECAY if recipe.weight_decay else 0.0,
        adam_lr_ratio=ADAM_RATE_RATIO,
    )


def learning_rate(recipe: Recipe, steps_per_epoch: int) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Build the learning-rate schedule of a recipe: a number if the rate never changes, else a Keras schedule.

    It is "constant"; "step", divided by 10 every `drop_every` epochs; "cosine", from `learning_rate` to zero; or
    "one_cycle", a linear warm-up over the first fifth and a cosine decay (after Smith 2018, arXiv:1803.09820). It
    depends on the optimiser's step only, which is saved with the optimiser, so that a resumed training continues at
    the same rate.
    """
    peak, steps = recipe.learning_rate, recipe.epochs * steps_per_epoch
    if recipe.schedule == "cosine":
        return keras.optimizers.schedules.CosineDecay(peak, steps)
    if recipe.schedule == "one_cycle":
        warmup = math.ceil(steps / 5)
        return keras.optimizers.schedules.CosineDecay(
            peak / 25, max(1, steps - warmup), warmup_target=peak, warmup_steps=warmup
        )
    drops = range(recipe.drop_every, recipe.epochs, recipe.drop_every) if recipe.schedule == "step" else range(0)
    if not drops:
        return peak
    values = [peak / 10**number for number in range(len(drops) + 1)]
    return keras.optimizers.schedules.PiecewiseConstantDecay([epoch * steps_per_epoch for epoch in drops], values)
