"""How a network is trained: arithmetic, optimiser, and the course of the learning rate."""

import contextlib
import math
from pathlib import Path

import keras

from lib.training.recipe import Recipe

# Of Muon's rate; biases and normalisation want smaller steps than orthogonal ones.
ADAM_RATE_RATIO = 0.2
# Of all that is no kernel of a convolution, under Muon; Keras' own value.
ADAM_DECAY = 0.004


def precision(choice: str = "auto") -> str:
    """Choose the arithmetic for training.

    Args:
        choice: "auto", or a Keras dtype policy such as "float32" or "mixed_bfloat16".

    Returns:
        The name of a Keras dtype policy: for "auto", `mixed_bfloat16` where that is faster than `float32`, and on
        accelerators (of which those before 2020 are slower with it, so name `float32` there).
    """
    if choice != "auto":
        return choice
    return "mixed_bfloat16" if _gains_from_bfloat16() else "float32"


def _gains_from_bfloat16() -> bool:
    """Ask the accelerator, where there is one, else the processor."""
    if keras.backend.backend() == "torch":
        import torch

        if torch.cuda.is_available():
            return torch.cuda.is_bf16_supported()
        # PyTorch's convolutions gain nothing from bfloat16 on these processors: 75 against 80-105 pictures/s.
        return False
    if any(not device.startswith("cpu") for device in keras.distribution.list_devices()):
        return True
    with contextlib.suppress(OSError):
        return is_faster_in_bfloat16(Path("/proc/cpuinfo").read_text())
    return False


def is_faster_in_bfloat16(cpuinfo: str) -> bool:
    """Tell from Linux' description of a processor whether bfloat16 is faster than float32 on it.

    It is in AMX, and in AVX-512 on AMD's Zen 4 (measured: cnn4 and cnn6 train 1.8 times as fast) and on Intel's
    Cooper Lake. Intel's later processors, the ones with half precision in AVX-512, are fast in AMX alone, which a
    virtual machine may hide: there springfield trains 1.5 to 1.7 times as fast in float32.
    """
    words = set(cpuinfo.split())
    intel_after_amx = {"GenuineIntel", "avx512_fp16"} <= words
    return "amx_bf16" in words or ("avx512_bf16" in words and not intel_after_amx)


class Muon(keras.optimizers.Muon):
    """Muon (Jordan 2024, https://kellerjordan.github.io/posts/muon/) for networks of convolutions.

    Each step of a kernel is made orthogonal, so that all of its directions learn at the same pace. Keras' own class
    does so with matrices alone: convolutions would fall to Adam, and the last dense layer, which should, would not.
    Here a kernel `(height, width, channels, filters)` counts as a matrix `(height * width * channels, filters)`, and
    all else falls to Adam.
    """

    def _should_use_adamw(self, variable) -> bool:
        return len(variable.shape) != 4

    def zeropower_via_newtonschulz5(self, x, steps: int):
        """Make a step orthogonal, nearly."""
        matrix = keras.ops.reshape(x, (-1, x.shape[-1]))
        return keras.ops.reshape(super().zeropower_via_newtonschulz5(matrix, steps), x.shape)

    def lr_adjust(self, x):
        """Scale it to the size that Adam's steps have (Liu et al. 2025, arXiv:2502.16982)."""
        longer_side = max(math.prod(x.shape[:-1]), x.shape[-1])
        return x * (self.rms_rate * longer_side**0.5)


def build(recipe: Recipe, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Build the optimiser of a recipe.

    Args:
        recipe: Names the optimiser, its settings and its learning-rate schedule.
        steps_per_epoch: Batches in an epoch.

    Returns:
        The optimiser. Weight decay is decoupled from the gradient (Loshchilov and Hutter 2019, arXiv:1711.05101); that
        of Muon is for the kernels of convolutions, all else has `ADAM_DECAY`, or none where the recipe has none.
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
    """Build the learning-rate schedule of a recipe, a function of the optimiser's step alone.

    The step is saved with the optimiser, so that a resumed training has the rate that it would have had.

    Args:
        recipe: Its `schedule` is "constant"; "step", divided by 10 every `drop_every` epochs; "cosine", from
            `learning_rate` to zero; or "one_cycle", a linear warm-up over the first fifth and a cosine decay (after
            Smith 2018, arXiv:1803.09820).
        steps_per_epoch: Batches in an epoch.

    Returns:
        A number for "constant", else a Keras schedule.
    """
    peak, steps = recipe.learning_rate, recipe.epochs * steps_per_epoch
    if recipe.schedule == "cosine":
        return keras.optimizers.schedules.CosineDecay(peak, steps)
    if recipe.schedule == "one_cycle":
        warmup = math.ceil(steps / 5)
        return keras.optimizers.schedules.CosineDecay(
            peak / 25, steps - warmup, warmup_target=peak, warmup_steps=warmup
        )
    drops = range(recipe.drop_every, recipe.epochs, recipe.drop_every) if recipe.schedule == "step" else range(0)
    if not drops:
        return peak
    values = [peak / 10**number for number in range(len(drops) + 1)]
    return keras.optimizers.schedules.PiecewiseConstantDecay([epoch * steps_per_epoch for epoch in drops], values)
