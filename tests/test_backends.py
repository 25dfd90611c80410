"""The same code trains on the other Keras backends, where they are installed."""

import importlib.util
import os
import subprocess
import sys

import pytest

from lib import paths

ONE_EPOCH = """
import keras, numpy as np
from lib.training import anatomy, batches, losses, networks, optimizers, scenes
from lib.training.recipe import Recipe
from tests import small_data

scenes.FIGURES = 2
WITH_MAP = {"class_map": True, "composites": 0.5, "nobody": 0.5, "captions": 0.5}
for network, more in (("cnn", {}), ("springfield", WITH_MAP)):
    keras.utils.set_random_seed(0)
    recipe = Recipe(network=network, dense_units=8, width=16, optimizer="muon", learning_rate=0.01,
                    schedule="one_cycle", epochs=1, batch_size=4, background_swap=0.5, **more)
    data = small_data.dataset(picture_size=32)
    train = (scenes if recipe.class_map else batches).for_training(data, recipe)
    model = networks.build(recipe, len(data.characters), data.preparation.picture_size)
    before = [weights.copy() for weights in model.get_weights()]
    assert 0 < anatomy.first_loss(model, *train[0]) < 10
    model.compile(optimizer=optimizers.build(recipe, len(train)), **losses.for_recipe(recipe))
    begin = keras.callbacks.LambdaCallback(on_epoch_begin=train.begin)
    history = model.fit(train, epochs=1, shuffle=False, verbose=0, callbacks=[begin])
    assert np.isfinite(history.history["loss"][0])
    assert any((old != new).any() for old, new in zip(before, model.get_weights()))
print(keras.backend.backend(), optimizers.precision())
"""


def run(backend, *arguments):
    """Run Python with another backend, in a process of its own: Keras chooses its backend at import."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    packages = os.pathsep.join(filter(None, [str(paths.ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": packages}
    done = subprocess.run([sys.executable, *arguments], env=environment, cwd=paths.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    return done.stdout


# All other tests use TensorFlow.
each_backend = pytest.mark.parametrize("backend", ["jax", "torch"])


@each_backend
def test_an_epoch_runs(backend):
    name, precision = run(backend, "-c", ONE_EPOCH).split()
    assert name == backend and precision in ("float32", "mixed_bfloat16")


@each_backend
def test_a_killed_training_ends_as_one_that_was_not_killed(backend):
    test = "tests/test_resume.py::test_a_killed_training_ends_as_one_that_was_not_killed"
    assert "1 passed" in run(backend, "-m", "pytest", "-q", "-p", "no:cacheprovider", test)
