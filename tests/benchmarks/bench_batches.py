"""Throughput of making batches, compared with that of training the 4-conv network.

Run with `python -m tests.benchmarks.bench_batches`. The rounds alternate, so that other load on the machine slows both.
"""

import statistics
import time

import keras
import numpy as np

from lib.training import batches, networks, optimizers
from lib.training.recipe import Recipe

PICTURES, CHARACTERS, SIZE = 1024, 18, 64
ROUNDS = 5


def made_a_second(data: batches.Batches) -> float:
    """Make one epoch of batches; returns pictures a second."""
    start = time.perf_counter()
    for position in range(len(data)):
        data[position]
    return PICTURES / (time.perf_counter() - start)


def trained_a_second(model: keras.Model, batch: tuple[np.ndarray, np.ndarray], steps: int) -> float:
    """Train on a batch that was made before; returns pictures a second."""
    start = time.perf_counter()
    for _ in range(steps):
        model.train_on_batch(*batch)
    return steps * len(batch[0]) / (time.perf_counter() - start)


def main() -> None:
    """Print one line: both rates and their ratio."""
    recipe = Recipe.load("cnn4")
    images = np.random.default_rng(0).integers(0, 256, (PICTURES, SIZE, SIZE, 3), dtype="uint8")
    rows = np.arange(PICTURES)
    data = batches.Batches(images, rows % CHARACTERS, rows, CHARACTERS, recipe, training=True)
    keras.config.set_dtype_policy(optimizers.precision())
    model = networks.build(recipe, CHARACTERS, SIZE)
    model.compile(optimizers.build(recipe, len(data)), "categorical_crossentropy")
    batch = data[0]
    trained_a_second(model, batch, steps=2)  # builds the graph
    made, trained = [], []
    for _ in range(ROUNDS):
        made.append(made_a_second(data))
        trained.append(trained_a_second(model, batch, steps=10))
    ratio = statistics.median(m / t for m, t in zip(made, trained, strict=True))
    print(
        f"batches: {statistics.median(made):.0f} pictures/s made on one core, cnn4 trains "
        f"{statistics.median(trained):.0f}/s in {optimizers.precision()}, ratio {ratio:.0f} (target 20)"
    )


if __name__ == "__main__":
    main()
