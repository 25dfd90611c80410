"""Pictures decoded per second: ours in worker processes compared with a serial loop of OpenCV.

Run with `python -m tests.benchmarks.bench_decode`. Both read the same full-size JPEGs from disk and decode them to
64 × 64; the rounds alternate, so that other load on the machine slows both.
"""

import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.pool import Pool
from pathlib import Path

import cv2
import numpy as np

from lib.data import pictures

FRAMES = 200  # of each size
SIZES = ((640, 480), (1280, 720))  # width, height of the frames; those of the real archive are like the first
ROUNDS = 5
SQUARE = 64


def draw_frames(folder: Path, width: int, height: int) -> list[Path]:
    """Write JPEGs with the flat areas, outlines and grain of a drawn film (about 60 KB at 640 × 480)."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(FRAMES):
        frame = np.full((height, width, 3), rng.integers(60, 256, 3), np.uint8)
        for _ in range(12):
            centre, axes = rng.integers(0, (width, height)).tolist(), rng.integers(20, height // 2, 2).tolist()
            cv2.ellipse(frame, centre, axes, rng.integers(0, 180), 0, 360, rng.integers(0, 256, 3).tolist(), -1)
            cv2.ellipse(frame, centre, axes, rng.integers(0, 180), 0, 360, (0, 0, 0), 3)
        grain = rng.normal(0, 6, frame.shape)
        paths.append(folder / f"{width}x{height}-{number:03}.jpg")
        cv2.imwrite(str(paths[-1]), np.clip(frame + grain, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return paths


def decode_ours(path: Path) -> np.ndarray:
    """Decode one file as `lib.data.manifest` does."""
    return pictures.decode(path.read_bytes(), SQUARE)


def decode_opencv(path: Path) -> np.ndarray:
    """Decode one file with OpenCV alone."""
    return cv2.resize(cv2.imread(str(path)), (SQUARE, SQUARE), interpolation=cv2.INTER_AREA)


def rate(decode_all: Callable[[], list], number: int) -> float:
    """Measure the pictures per second of one round."""
    start = time.perf_counter()
    assert len(decode_all()) == number
    return number / (time.perf_counter() - start)


def processor_milliseconds(decode: Callable[[Path], np.ndarray], paths: list[Path]) -> float:
    """Measure the processor time per picture, which other load on the machine hardly changes."""
    start = time.process_time()
    for path in paths:
        decode(path)
    return 1000 * (time.process_time() - start) / len(paths)


def compare(paths: list[Path], pool: Pool) -> tuple[float, float]:
    """Measure the median pictures per second of both, ours first."""
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(rate(lambda: pool.map(decode_ours, paths, chunksize=8), len(paths)))
        theirs.append(rate(lambda: [decode_opencv(path) for path in paths], len(paths)))
    return statistics.median(ours), statistics.median(theirs)


def main() -> None:
    """Print two lines for each size: the rates and the processor times, each with their ratio."""
    processes = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder, multiprocessing.get_context("spawn").Pool(processes) as pool:
        for width, height in SIZES:
            paths = draw_frames(Path(folder), width, height)
            pool.map(decode_ours, paths, chunksize=8)  # starts the processes and fills the disk cache
            ours, theirs = compare(paths, pool)
            print(
                f"decode {width}x{height}: {ours:.0f} pictures/s ({processes} processes), "
                f"cv2.imread + cv2.resize in one {theirs:.0f}/s, ratio {ours / theirs:.1f} (target 2)"
            )
            ours, theirs = processor_milliseconds(decode_ours, paths), processor_milliseconds(decode_opencv, paths)
            difference = np.mean([cv2.absdiff(decode_ours(p), decode_opencv(p)[..., ::-1]) for p in paths])
            print(
                f"  processor time per picture {ours:.2f} ms, OpenCV {theirs:.2f} ms, ratio {theirs / ours:.1f}; "
                f"the results differ by {difference:.2f} grey levels of 255"
            )


if __name__ == "__main__":
    main()
