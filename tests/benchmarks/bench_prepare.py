"""Preparation of as many pictures as the archive has: seconds, pictures per second, peak memory of all processes.

Run with `python -m tests.benchmarks.bench_prepare [RAW]`, RAW being a folder of `data/raw`. Without it, crops of the
drawn sample are used, as many and as large as the frames of the scaled archive.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import psutil

from lib.data import dataset, manifest
from lib.data.preparation import Preparation
from lib.drawing import sample

PICTURES = 18_775
SECONDS, GIGABYTES = 60, 1.0  # targets on two cores
LONGER_SIDE = 128  # pixels, of the scaled archive's frames
SAMPLING_INTERVAL = 0.1  # seconds


def write_crops(folder: Path, number: int) -> None:
    """Write random crops of the sample's pictures as JPEGs, half of them mirrored."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as drawn:
        sample.draw_sample(Path(drawn))
        paths = sorted(path for path in Path(drawn).glob("*/*") if path.is_file())
        originals = [(path.parent.name, cv2.imread(str(path))) for path in paths]
    for index in range(number):
        character, picture = originals[index % len(originals)]
        height, width = (int(side * rng.uniform(0.6, 1)) for side in picture.shape[:2])
        top = rng.integers(0, picture.shape[0] - height + 1)
        left = rng.integers(0, picture.shape[1] - width + 1)
        crop = picture[top : top + height, left : left + width]
        scale = LONGER_SIDE / max(height, width)
        crop = cv2.resize(crop, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
        path = folder / character / f"{index:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), crop[:, ::-1] if rng.random() < 0.5 else crop, [cv2.IMWRITE_JPEG_QUALITY, 90])


def memory_of_tree(process: psutil.Process) -> int:
    """Sum the resident bytes of a process and its descendants; shared pages count once for each."""
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:  # it has ended
            continue
    return total


def measure(raw: Path, processed: Path) -> tuple[float, int]:
    """Prepare in a process of its own; return seconds, including the start of Python, and peak bytes."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_prepare", str(raw), "--into", str(processed)]
    start, peak = time.perf_counter(), 0
    with subprocess.Popen(command) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                peak = max(peak, memory_of_tree(watched))
            except psutil.NoSuchProcess:
                break
            time.sleep(SAMPLING_INTERVAL)
    if process.returncode:
        raise SystemExit(process.returncode)
    return time.perf_counter() - start, peak


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("raw", nargs="?", type=Path)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.into:
        manifest.prepare(options.raw, options.into, Preparation(min_pictures=3))
        return
    with tempfile.TemporaryDirectory() as folder:
        raw = options.raw or Path(folder) / "raw"
        if not options.raw:
            write_crops(raw, PICTURES)
        seconds, peak = measure(raw, Path(folder) / "processed")
        table = dataset.load(Path(folder) / "processed").table
    print(
        f"prepare {len(table):,} pictures: {seconds:.1f} s (target {SECONDS}), {len(table) / seconds:.0f} pictures/s, "
        f"peak {peak / 1e9:.2f} GB in all processes (target {GIGABYTES}); "
        f"{table.group.nunique():,} groups of near-duplicates"
    )


if __name__ == "__main__":
    main()
