"""Which output of an exported network is which.

LiteRT numbers outputs in an order of its own. Their shapes tell them apart in every reader, a browser's too:
probabilities have two axes, the class map has four. Files from before the class map have the first alone.
"""

from typing import Any

import numpy as np


def output_indices(interpreter: Any) -> dict[str, int]:
    """Find the outputs of an interpreter whose tensors are allocated.

    Args:
        interpreter: A LiteRT interpreter.

    Returns:
        From `probabilities`, and `class_map` where there is one, to the index for `get_tensor`.

    Raises:
        ValueError: The network has other outputs.
    """
    details = interpreter.get_output_details()
    names = {2: "probabilities", 4: "class_map"}
    found = {names.get(len(detail["shape"]), "?"): int(detail["index"]) for detail in details}
    if "probabilities" not in found or "?" in found or len(found) != len(details):
        shapes = [tuple(int(n) for n in detail["shape"]) for detail in details]
        raise ValueError(
            "The network must have outputs (1, num_classes) and perhaps (1, cells, cells, num_characters). "
            f"Received: {shapes}"
        )
    return found


def ask(interpreter: Any, picture: np.ndarray) -> dict[str, np.ndarray]:
    """Ask about one picture.

    Args:
        interpreter: A LiteRT interpreter whose tensors are allocated.
        picture: `uint8 (size, size, 3)`, RGB.

    Returns:
        `probabilities`, `float32 (num_classes,)`, and `class_map`, `float32 (cells, cells, num_characters)`, where the
        network has one. Copies, which the next question does not change.
    """
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture[np.newaxis].astype(np.float32))
    interpreter.invoke()
    return {name: interpreter.get_tensor(index)[0] for name, index in output_indices(interpreter).items()}
