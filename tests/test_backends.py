"""The same code trains on every Keras backend that is installed."""

import importlib.util
import os
import subprocess
import sys

import pytest

from lib import paths

# In a process of its own: Keras settles for one backend at import.
ONE_EPOCH = """
import keras, numpy as np
from lib.training import batches
from lib.training import networks, optimizers

keras.utils.set_random_seed(0)
pictures = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype="uint8")
change = augmentation.Augmentation(shift=0.1, flip=True, backdrop=0.5)
train = batches.Batches(pictures, np.arange(12) % 3, num_characters=3, batch_size=4, shuffle=True, augmentation=change)
for network in networks.NETWORKS:
    model = networks.build(network, conv_layers=4, num_characters=3, picture_size=32, dense_units=8, width=4)
    before = [weights.copy() for weights in model.get_weights()]
    rate = optimizers.learning_rate("one_cycle", 0.01, epochs=1, steps_per_epoch=3)
    model.compile(optimizer=optimizers.optimizer("muon", rate), loss="categorical_crossentropy")
    begin = keras.callbacks.LambdaCallback(on_epoch_begin=train.begin)
    history = model.fit(train, epochs=1, shuffle=False, verbose=0, callbacks=[begin])
    assert np.isfinite(history.history["loss"][0])
    assert any((old != new).any() for old, new in zip(before, model.get_weights()))
print(keras.backend.backend(), optimizers.precision())
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_an_epoch_runs(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    packages = os.pathsep.join(filter(None, [str(paths.ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": packages}
    done = subprocess.run(
        [sys.executable, "-c", ONE_EPOCH], env=environment, cwd=paths.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    name, precision = done.stdout.split()
    assert name == backend and precision in ("float32", "mixed_bfloat16")
