"""Pictures a second that batches are made at, against those that the 4-conv network trains at.

Run with `python -m tests.benchmarks.bench_batches`. The rounds alternate, so that whatever else the machine does
slows both.
"""

import statistics
import time

import keras
import numpy as np

from lib.training import augmentation, batches, networks, optimizers

PICTURES, CHARACTERS, SIZE, BATCH = 1024, 18, 64, 32
ROUNDS = 5
AUGMENTATION = augmentation.Augmentation(shift=0.1, flip=True)  # the original's, and that of cnn4 and cnn6


def made_a_second(data: batches.Batches) -> float:
    """Make one epoch of batches."""
    start = time.perf_counter()
    for position in range(len(data)):
        data[position]
    return PICTURES / (time.perf_counter() - start)


def trained_a_second(model: keras.Model, steps: int) -> float:
    """Train on one batch that lies ready, so that nothing of making it is counted."""
    rng = np.random.default_rng(0)
    shown = rng.integers(0, 256, (BATCH, SIZE, SIZE, 3), dtype="uint8")
    labels = np.eye(CHARACTERS, dtype="float32")[rng.integers(0, CHARACTERS, BATCH)]
    start = time.perf_counter()
    for _ in range(steps):
        model.train_on_batch(shown, labels)
    return steps * BATCH / (time.perf_counter() - start)


def main() -> None:
    """Print one line: both rates and their ratio."""
    images = np.random.default_rng(0).integers(0, 256, (PICTURES, SIZE, SIZE, 3), dtype="uint8")
    data = batches.Batches(
        images,
        np.arange(PICTURES) % CHARACTERS,
        num_characters=CHARACTERS,
        batch_size=BATCH,
        shuffle=True,
        augmentation=AUGMENTATION,
    )
    keras.config.set_dtype_policy(optimizers.precision())
    model = networks.build_cnn(conv_layers=4, num_characters=CHARACTERS, picture_size=SIZE)
    model.compile(optimizers.optimizer("rmsprop", 0.0001), "categorical_crossentropy")
    trained_a_second(model, steps=2)  # builds the graph
    made, trained = [], []
    for _ in range(ROUNDS):
        made.append(made_a_second(data))
        trained.append(trained_a_second(model, steps=10))
    ratio = statistics.median(m / t for m, t in zip(made, trained, strict=True))
    print(
        f"batches: {statistics.median(made):.0f} pictures/s made on one core, cnn4 trains "
        f"{statistics.median(trained):.0f}/s in {optimizers.precision()}, ratio {ratio:.0f} (target 20)"
    )


if __name__ == "__main__":
    main()
