"""Throughput of training, compared with PyTorch, with the original project, and with the peak of the machine.

Run with `python -m tests.benchmarks.bench_training [cnn4 cnn6 springfield-18]`. PyTorch is timed if it is installed
(`pip install torch`). All take turns on the same pictures, so that other load on the machine slows all of them. All use
SGD, so that the optimiser costs the same.
"""

import argparse
import functools
import importlib.util
import math
import statistics
import sys
import time
from collections.abc import Callable

import keras
import numpy as np

from lib.training import batches, networks, optimizers
from lib.training.recipe import Recipe

NETWORKS = ("cnn4", "cnn6", "springfield-18")
PICTURES, SIZE, CHARACTERS, BATCH = 960, 64, 18, 32
REPEATS = 4  # of each picture in an epoch of this project: starting `fit` would dominate a shorter epoch
ROUNDS = 3  # an epoch of springfield takes PyTorch half a minute
MOMENTUM = 0.9
RATE = 0.0001  # low enough for random labels; it does not affect the time of a step
PASSES = 3  # of each layer: forward, gradient of its inputs, gradient of its weights
MATRIX = 3072  # rows and columns of the matrix product that measures the peak


def main() -> None:
    """Print the results of each network."""
    parser = argparse.ArgumentParser(description="Time training.")
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    names = parser.parse_args().networks
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (PICTURES, SIZE, SIZE, 3), dtype="uint8")
    labels = np.arange(PICTURES) % CHARACTERS
    for name in names:
        bench(name, Recipe.load(name), images, labels)


def bench(name: str, recipe: Recipe, images: np.ndarray, labels: np.ndarray) -> None:
    """Time one network in every way."""
    policy = optimizers.precision()
    model = build(recipe, policy)
    rows = np.tile(np.arange(PICTURES), REPEATS)
    # Without progressive resizing: all epochs are the first.
    alike = recipe.model_copy(update={"batch_size": BATCH, "progressive_fraction": 0.0})
    data = batches.Batches(images, labels, rows, CHARACTERS, alike, training=True)
    ready = Ready(data)
    ways: dict[str, Callable[[], None]] = {
        "ours": functools.partial(model.fit, data, epochs=1, shuffle=False, verbose=0),
        "ready": functools.partial(model.fit, ready, epochs=1, shuffle=False, verbose=0),
        "original": functools.partial(
            build(recipe, "float32").fit, original_generator(images, labels), epochs=1, verbose=0
        ),
    }
    if importlib.util.find_spec("torch"):
        # PyTorch's optimisers would import it; beside TensorFlow it crashes, and only GPUs need it.
        sys.modules["triton"] = None
        ways |= {f"torch {dtype}": torch_epoch(model, ready.batch, dtype) for dtype in ("float32", "bfloat16")}
    seconds = {way: [] for way in ways}  # per picture
    for way in ways.values():  # builds the graphs
        way()
    for _ in range(ROUNDS):
        for way, epoch in ways.items():
            start = time.perf_counter()
            epoch()
            shown = len(rows) if way in ("ours", "ready") else PICTURES
            seconds[way].append((time.perf_counter() - start) / shown)
    report(name, policy, model, {way: np.array(taken) for way, taken in seconds.items()})


def report(name: str, policy: str, model: keras.Model, seconds: dict[str, np.ndarray]) -> None:
    """Print the throughputs, and the median over the rounds of each ratio."""
    ours = seconds["ours"]
    lines = [f"training {name}: {1 / statistics.median(ours):.0f} pictures/s in {policy}"]
    for way in sorted(seconds.keys() - {"ours", "ready"}):
        ratio = statistics.median(seconds[way] / ours)
        lines.append(f"  {way}: {1 / statistics.median(seconds[way]):.0f} pictures/s, ratio {ratio:.2f}")
    waiting = max(0.0, statistics.median((ours - seconds["ready"]) / ours))
    lines.append(f"  time that an epoch waits for its batches: {waiting:.1%} (target 3%)")
    reached = operations(model) / statistics.median(seconds["ready"])
    peak = matrix_operations_a_second(model.layers[-2].compute_dtype)
    lines.append(f"  {reached / 1e9:.0f} of {peak / 1e9:.0f} GFLOP/s of a matrix product: {reached / peak:.0%}")
    print("\n".join(lines), flush=True)


def build(recipe: Recipe, policy: str) -> keras.Model:
    """Build and compile a network."""
    keras.config.set_dtype_policy(policy)
    model = networks.build(recipe, CHARACTERS, SIZE)
    keras.config.set_dtype_policy("float32")
    model.compile(keras.optimizers.SGD(RATE, MOMENTUM, nesterov=True), "categorical_crossentropy")
    return model


class Ready(keras.utils.PyDataset):
    """As many batches as `data` has, all of them the same, made before."""

    def __init__(self, data: batches.Batches):
        super().__init__(workers=data.workers)
        self.batch = data[0]
        self.count = len(data)

    def __len__(self) -> int:
        """Count the batches of an epoch."""
        return self.count

    def __getitem__(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the batch, whatever the position."""
        return self.batch


def original_generator(images: np.ndarray, labels: np.ndarray):
    """Make batches as the original project did: Keras' `ImageDataGenerator`, pictures in float32, 0 to 1."""
    import tensorflow as tf

    generator = tf.keras.preprocessing.image.ImageDataGenerator(
        width_shift_range=0.1, height_shift_range=0.1, horizontal_flip=True
    )
    return generator.flow(images.astype("float32") / 255, np.eye(CHARACTERS)[labels], batch_size=BATCH)


def torch_epoch(model: keras.Model, batch: tuple[np.ndarray, np.ndarray], dtype: str) -> Callable[[], None]:
    """Make a function that trains the same network in PyTorch, channels last, on a batch made before."""
    import torch

    twin = torch_twin(model).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(twin.parameters(), lr=RATE, momentum=MOMENTUM, nesterov=True)
    loss = torch.nn.CrossEntropyLoss()
    shown, labels = batch

    def epoch() -> None:
        targets = torch.from_numpy(labels.argmax(axis=1))
        for _ in range(PICTURES // BATCH):
            # (batch, height, width, 3) in memory is what PyTorch calls channels last.
            pictures = torch.from_numpy(shown).permute(0, 3, 1, 2).float()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bfloat16"):
                error = loss(twin(pictures), targets)
            optimizer.zero_grad(set_to_none=True)
            error.backward()
            optimizer.step()

    return epoch


def torch_twin(model: keras.Model):
    """Build a Keras network in PyTorch, layer by layer, up to the logits of the last layer."""
    import torch
    from torch import nn

    class Twin(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleDict({layer.name: torch_layer(layer) for layer in model.layers})

        def forward(self, pictures: "torch.Tensor") -> "torch.Tensor":
            values = {id(model.inputs[0]): pictures}
            for layer in model.layers[1:]:
                inputs = layer.input if isinstance(layer.input, list) else [layer.input]
                values[id(layer.output)] = self.parts[layer.name](*[values[id(tensor)] for tensor in inputs])
            return values[id(model.outputs[0])]

    return Twin()


def torch_layer(layer: keras.layers.Layer):
    """Make one layer in PyTorch with random weights."""
    from torch import nn

    class Sum(nn.Module):
        def forward(self, left, right):
            return left + right

    class Scale(nn.Module):
        def forward(self, pictures):
            return pictures * layer.scale + layer.offset

    kinds = {
        keras.layers.InputLayer: nn.Identity,
        keras.layers.Rescaling: Scale,
        keras.layers.ReLU: nn.ReLU,
        keras.layers.Add: Sum,
        keras.layers.Flatten: nn.Flatten,
        keras.layers.GlobalAveragePooling2D: lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        keras.layers.MaxPooling2D: lambda: nn.MaxPool2d(2),
        keras.layers.Dropout: lambda: nn.Dropout(layer.rate),
        keras.layers.BatchNormalization: lambda: nn.BatchNorm2d(layer.input.shape[-1], momentum=1 - layer.momentum),
        keras.layers.Dense: lambda: nn.Sequential(nn.Linear(layer.input.shape[-1], layer.units), *activation(layer)),
        keras.layers.Conv2D: lambda: nn.Sequential(*convolution(layer)),
    }
    return kinds[type(layer)]()


def activation(layer: keras.layers.Layer) -> list:
    """Make the ReLU of a Keras layer, if it has one; the softmax is part of PyTorch's loss."""
    from torch import nn

    return [nn.ReLU()] if layer.activation is keras.activations.relu else []


def convolution(layer: keras.layers.Conv2D) -> list:
    """Make a convolution with Keras' padding, which puts an odd pixel at the right and at the bottom."""
    from torch import nn

    kernel, stride = layer.kernel_size[0], layer.strides[0]
    conv = nn.Conv2d(layer.input.shape[-1], layer.filters, kernel, stride, bias=layer.use_bias)
    needed = max(0, (layer.output.shape[1] - 1) * stride + kernel - layer.input.shape[1])
    if layer.padding == "valid" or not needed:
        return [conv, *activation(layer)]
    before, after = needed // 2, needed - needed // 2
    if before == after:
        conv.padding = (before, before)
        return [conv, *activation(layer)]
    return [nn.ZeroPad2d((before, after, before, after)), conv, *activation(layer)]


def operations(model: keras.Model) -> float:
    """Count the floating-point operations of a training step per picture, in convolutions and dense layers."""
    count = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
            places = math.prod(layer.output.shape[1:-1])
            count += 2 * places * math.prod(layer.kernel.shape)
    return PASSES * count


def matrix_operations_a_second(dtype: str) -> float:
    """Measure the floating-point operations a second in products of two large matrices, best of four."""
    matrix = keras.ops.cast(keras.random.normal((MATRIX, MATRIX), seed=0), dtype)
    taken = []
    for _ in range(4):
        start = time.perf_counter()
        float(keras.ops.cast(keras.ops.matmul(matrix, matrix)[0, 0], "float32"))  # waits for the product
        taken.append(time.perf_counter() - start)
    return 2 * MATRIX**3 / min(taken)


if __name__ == "__main__":
    main()
