"""Which values of the training notebook's parameters can be meant."""

from typing import Any

from lib.errors import UserError
from lib.training import export, networks, optimizers

CHOICES = {
    "network": tuple(networks.NETWORKS),
    "optimizer": optimizers.OPTIMIZERS,
    "schedule": optimizers.SCHEDULES,
    "precision": ("auto", "float32", "mixed_bfloat16"),
    "export_weights": export.WEIGHTS,
    "conv_layers": (4, 6),
}
# Lowest and highest value that can be meant. A rate above 1 or a shift above one half is a slip of the finger.
RANGES = {
    "dense_units": (1, 65536),
    "width": (1, 1024),
    "dropout": (0, 0.95),
    "learning_rate": (1e-8, 1),
    "momentum": (0, 0.9999),
    "weight_decay": (0, 1),
    "label_smoothing": (0, 0.9),
    "drop_every": (1, 100_000),
    "epochs": (1, 100_000),
    "patience": (0, 100_000),
    "batch_size": (1, 65536),
    "shift": (0, 0.5),
    "zoom": (0, 4),
    "rotate": (0, 180),
    "colour_jitter": (0, 1),
    "random_erasing": (0, 1),
    "background_swap": (0, 1),
    "shrink_and_paste": (0, 1),
    "quality_jitter": (0, 1),
    "style_jitter": (0, 1),
    "drawings": (0, 10_000),
    "progressive_size": (8, 1024),
    "progressive_fraction": (0, 1),
    "flip_tta_threshold": (0, 1),
    "seed": (0, 2**32 - 1),
}


def check(parameters: dict[str, Any]) -> None:
    """Refuse parameters that cannot be meant, before anything is computed.

    Args:
        parameters: Values by name; names that have neither choices nor a range are not looked at.

    Raises:
        UserError: A value is not among its choices, is outside of its range, or does not fit another one.
    """
    for name, value in parameters.items():
        if name in CHOICES and value not in CHOICES[name]:
            raise UserError(f"`{name}` must be one of {', '.join(map(str, CHOICES[name]))}, not {value!r}.")
        if name in RANGES and not RANGES[name][0] <= value <= RANGES[name][1]:
            low, high = RANGES[name]
            raise UserError(f"`{name}` must be from {low:g} to {high:g}, not {value!r}.")
    if parameters.get("progressive_fraction") and parameters.get("network") == "cnn":
        raise UserError(
            "`progressive_fraction` must be 0 for the network cnn, whose dense layer fits one picture size; springfield, "
            "which pools over all places, can begin with smaller pictures."
        )
