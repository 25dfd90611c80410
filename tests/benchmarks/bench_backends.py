"""A whole training on each Keras backend: its minutes, and what it reaches on validation.

Run with `python -m tests.benchmarks.bench_backends [--data NAME] [--recipe NAME] [--epochs N]`; `--epochs 0` trains the
whole recipe, for a machine with a GPU. Each backend that is installed trains the same recipe on the same pictures with
the same augmentation, in a process of its own, one after the other. JAX and PyTorch use the GPU if they were installed
for it (`pip install jax[cuda12] torch`); `--backends jax torch` leaves TensorFlow out.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lib import paths
from lib.data import dataset
from lib.training.recipe import Recipe

BACKENDS = ("tensorflow", "jax", "torch")


def main() -> None:
    """Train on each backend and print a line for each."""
    parser = argparse.ArgumentParser(description="Time a whole training on each backend.")
    parser.add_argument("--data", default="sample", help="a folder of data/processed")
    parser.add_argument("--recipe", default="springfield", help="a recipe of notebooks/params")
    parser.add_argument("--epochs", type=int, default=2, help="0 for those of the recipe")
    parser.add_argument("--backends", nargs="*", default=BACKENDS, choices=BACKENDS)
    parser.add_argument("--here", action="store_true", help="train in this process, on KERAS_BACKEND")
    options = parser.parse_args()
    if options.here:
        print(train(options.data, options.recipe, options.epochs))
        return
    print(f"{options.recipe} on {options.data}")
    for backend in options.backends:
        if importlib.util.find_spec(backend) is None:
            print(f"  {backend}: not installed")
            continue
        command = [sys.executable, "-m", __spec__.name, *sys.argv[1:], "--here"]
        done = subprocess.run(command, env=os.environ | {"KERAS_BACKEND": backend}, stdout=subprocess.PIPE, text=True)
        lines = done.stdout.splitlines() or ["nothing was printed"]
        print(f"  {backend}: {'failed' if done.returncode else lines[-1]}", flush=True)


def train(data_name: str, recipe_name: str, epochs: int) -> str:
    """Train once and say what came of it.

    Args:
        data_name: Folder of `data/processed`.
        recipe_name: The recipe.
        epochs: How many; 0 for those of the recipe.
    """
    import keras

    from lib.training import fit, optimizers

    recipe = Recipe.load(recipe_name, **({"epochs": epochs} if epochs else {}))
    data = dataset.load(paths.PROCESSED / data_name)
    devices = ", ".join(keras.distribution.list_devices()) if keras.backend.backend() != "torch" else _torch_device()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        _, training = fit.train(data, Path(folder), recipe)
    minutes, best = (time.perf_counter() - start) / 60, training
    steps = ", ".join(f"{seconds:.0f}" for seconds in best.epoch_seconds[:3])
    return (
        f"{minutes:.1f} min for {recipe.epochs} epochs ({steps} … s), macro F1 on validation {best.best_score:.3f}, "
        f"{optimizers.precision(recipe.precision)}, {devices}"
    )


def _torch_device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


if __name__ == "__main__":
    main()
