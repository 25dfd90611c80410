"""The recogniser: latency of one picture, throughput of a folder.

Run with `python -m tests.benchmarks.bench_recogniser [--run DIR | --weights int8]`. Without a run it makes a
springfield network with random weights, which takes as long as a trained one. The recogniser and Keras take turns on
the same pictures, so that other load on the machine slows both.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from lib import records
from lib.data import pictures
from lib.inference.recogniser import Recogniser, find_runs, read_file
from lib.machine import cores
from tests import small_model
from tests.benchmarks.bench_decode import draw_frames

WIDTH, HEIGHT = 400, 300  # as the frames of the real archive
# Those of the published network.
CHARACTERS = 18
PICTURE_SIZE = 112
ANSWERS = 150  # timed one by one
KERAS_EVERY = 5  # answers of the recogniser for one of Keras, which is slower
ROUNDS = 3  # of the folder


def main() -> None:
    """Print the latency, its ratio to that of Keras, and the throughput."""
    parser = argparse.ArgumentParser(description="Time the recogniser.")
    parser.add_argument("--run", type=Path, metavar="DIR", help="run folder; default: springfield, random weights")
    parser.add_argument(
        "--weights", help="of the random network: int8, float16 or float32; by default those of the published network"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        run_dir = arguments.run or make_run(Path(temporary) / "springfield", arguments.weights)
        (Path(temporary) / "frames").mkdir()
        frames = draw_frames(Path(temporary) / "frames", WIDTH, HEIGHT)
        recogniser = Recogniser.load(run_dir)
        megabytes = (run_dir / "model.tflite").stat().st_size / 1e6
        print(f"recogniser: {recogniser.name}, {megabytes:.1f} MB, {recogniser.picture_size} pixels a side")
        bench_alone(recogniser, frames, run_dir / "model.keras")
        bench_folder(recogniser, frames)


def make_run(run_dir: Path, weights: str | None = None) -> Path:
    """Write a run folder of a springfield network with random weights, stored as the published one's by default."""
    from lib.training import export, networks
    from lib.training.recipe import Recipe

    weights = weights or records.read_run(find_runs()[0])["exported_weights"]
    run_dir.mkdir()
    model = networks.build(Recipe.load("springfield-18"), CHARACTERS, PICTURE_SIZE)
    model.save(run_dir / "model.keras")
    characters = [f"character_{number}" for number in range(CHARACTERS)]
    metadata = small_model.metadata_for(characters, PICTURE_SIZE) | {"run": f"springfield, random {weights} weights"}
    export.to_litert(model, run_dir / "model.tflite", metadata, weights)
    return run_dir


def bench_alone(recogniser: Recogniser, frames: list[Path], keras_model: Path) -> None:
    """Print the median time from bytes to answer on one core, its part for decoding, and the time of Keras."""
    contents = [frame.read_bytes() for frame in frames]
    keras_predict = load_keras(keras_model, recogniser) if keras_model.exists() else None
    for picture in contents[:3] if keras_predict else []:
        keras_predict(picture)  # builds the graph
    ours, working, decoding, theirs = [], [], [], []
    for number in range(ANSWERS):
        picture = contents[number % len(contents)]
        with on_one_core():
            before = time.thread_time()
            ours.append(seconds(recogniser.predict, picture))
            working.append(time.thread_time() - before)
            decoding.append(seconds(pictures.decode, picture, recogniser.picture_size))
        if keras_predict and number % KERAS_EVERY == 0:
            theirs.append(seconds(keras_predict, picture))
    ours, working, decoding = map(statistics.median, (ours, working, decoding))
    print(
        f"recogniser alone: {WIDTH}x{HEIGHT} JPEG to answer {ours * 1e3:.1f} ms on one core, "
        f"{working * 1e3:.1f} ms of it CPU time, {decoding * 1e3:.1f} ms to decode (target 10 ms)"
    )
    if theirs:
        theirs = statistics.median(theirs)
        print(f"recogniser against keras.Model.predict: {theirs * 1e3:.0f} ms, ratio {theirs / ours:.1f} (target 15)")
    else:
        print(f"recogniser against keras.Model.predict: not timed, there is no {keras_model}")


def bench_folder(recogniser: Recogniser, frames: list[Path]) -> None:
    """Print pictures a second, including reading the files, best of some rounds."""
    rounds = [seconds(lambda: list(recogniser.predict_many(frames, read_file))) for _ in range(ROUNDS)]
    print(f"recogniser in a folder: {len(frames) / min(rounds):.0f} pictures/s on {cores()} cores (target 500)")


def load_keras(path: Path, recogniser: Recogniser) -> Callable[[bytes], np.ndarray]:
    """Make a function that does with Keras what `Recogniser.predict` does."""
    import keras

    model = keras.saving.load_model(path, compile=False)

    def predict(contents: bytes) -> np.ndarray:
        return model.predict(pictures.decode(contents, recogniser.picture_size)[np.newaxis], verbose=0)

    return predict


@contextmanager
def on_one_core() -> Iterator[None]:
    """Restrict the process to one core, if the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def seconds(function: Callable, *arguments) -> float:
    """Time one call."""
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
