"""How a network is trained: arithmetic, optimiser, and the course of the learning rate."""

import contextlib
import math
from pathlib import Path

import keras

SCHEDULES = ("constant", "step", "cosine", "one_cycle")
# Of Muon's rate; biases and normalisation want smaller steps than orthogonal ones.
ADAM_SHARE = 0.2
# Of all that is no kernel of a convolution, under Muon; Keras' own value.
ADAM_DECAY = 0.004
OPTIMIZERS = ("adamw", "lion", "muon", "rmsprop", "sgd")


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


def optimizer(
    name: str,
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
) -> keras.optimizers.Optimizer:
    """Make an optimiser by its name in a parameter file.

    Args:
        name: "rmsprop", "sgd" (with Nesterov momentum), "adamw", "lion" or "muon".
        learning_rate: A number, or a schedule of steps.
        momentum: For "sgd" and "muon", 0 to 1.
        weight_decay: Decoupled from the gradient (Loshchilov and Hutter 2019, arXiv:1711.05101), 0 for none. Of
            "muon" it is that of the convolutions' kernels; the rest has `ADAM_DECAY`, or none where this is 0.

    Returns:
        The optimiser.

    Raises:
        ValueError: There is no such optimiser.
    """
    common = {"learning_rate": learning_rate, "weight_decay": weight_decay or None}
    match name:
        case "rmsprop":
            return keras.optimizers.RMSprop(**common)
        case "sgd":
            return keras.optimizers.SGD(momentum=momentum, nesterov=True, **common)
        case "adamw":
            return keras.optimizers.AdamW(**(common | {"weight_decay": weight_decay}))
        case "lion":
            return keras.optimizers.Lion(**common)
        case "muon":
            settings = {"weight_decay": weight_decay, "adam_weight_decay": ADAM_DECAY if weight_decay else 0.0}
            settings["adam_lr_ratio"] = ADAM_SHARE
            return Muon(**(common | settings), momentum=momentum)
    raise ValueError(f"`optimizer` must be one of {', '.join(OPTIMIZERS)}. Received: optimizer={name!r}")


def learning_rate(
    schedule: str, peak: float, epochs: int, steps_per_epoch: int, drop_every: int = 10
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Make the course of the learning rate, a function of the optimiser's step alone.

    The step is saved with the optimiser, so a run that goes on has the rate that it would have had.

    Args:
        schedule: "constant"; "step", divided by 10 every `drop_every` epochs; "cosine", from `peak` to nothing;
            "one_cycle", a linear rise over the first fifth and a cosine fall (after Smith 2018, arXiv:1803.09820).
        peak: The highest rate.
        epochs: Epochs in the whole run.
        steps_per_epoch: Batches in an epoch.
        drop_every: Epochs between two divisions by 10, for "step".

    Returns:
        A number for "constant", else a Keras schedule.

    Raises:
        ValueError: There is no such schedule.
    """
    steps = epochs * steps_per_epoch
    match schedule:
        case "constant":
            return peak
        case "step":
            boundaries = [n * steps_per_epoch for n in range(drop_every, epochs, drop_every)]
            if not boundaries:
                return peak
            values = [peak / 10**drops for drops in range(len(boundaries) + 1)]
            return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, values)
        case "cosine":
            return keras.optimizers.schedules.CosineDecay(peak, steps)
        case "one_cycle":
            rise = math.ceil(steps / 5)
            return keras.optimizers.schedules.CosineDecay(
                peak / 25, steps - rise, warmup_target=peak, warmup_steps=rise
            )
    raise ValueError(f"`schedule` must be one of {', '.join(SCHEDULES)}. Received: schedule={schedule!r}")
