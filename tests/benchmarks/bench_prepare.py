"""Preparing a set of pictures as large as the archive: seconds, pictures a second, peak memory of all processes.

Run with `python -m tests.benchmarks.bench_prepare [RAW]`, RAW being a folder of `data/raw`. Without it, frames as many
and as large as those of the scaled archive are cut from the drawn sample.
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
from lib.drawing import sample

PICTURES = 18_775
SECONDS, GIGABYTES = 60, 1.0  # targets on two cores
LONGER_SIDE = 128  # pixels, of the scaled archive's frames
BETWEEN_LOOKS = 0.1  # seconds


def cut_frames(folder: Path, number: int) -> None:
    """Write random cuts from the sample's pictures as JPEGs, some of them mirrored."""
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
        cut = picture[top : top + height, left : left + width]
        scale = LONGER_SIDE / max(height, width)
        cut = cv2.resize(cut, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
        path = folder / character / f"{index:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), cut[:, ::-1] if rng.random() < 0.5 else cut, [cv2.IMWRITE_JPEG_QUALITY, 90])


def memory_of_tree(process: psutil.Process) -> int:
    """Resident bytes of a process and of all below it; what they share counts once for each."""
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:  # it ended meanwhile
            continue
    return total


def measure(raw: Path, processed: Path) -> tuple[float, int]:
    """Prepare in a process of its own: seconds, start of Python included, and peak bytes."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_prepare", str(raw), "--into", str(processed)]
    start, peak = time.perf_counter(), 0
    with subprocess.Popen(command) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                peak = max(peak, memory_of_tree(watched))
            except psutil.NoSuchProcess:
                break
            time.sleep(BETWEEN_LOOKS)
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
        manifest.prepare(options.raw, options.into, min_pictures=3, progress=False)
        return
    with tempfile.TemporaryDirectory() as folder:
        raw = options.raw or Path(folder) / "raw"
        if not options.raw:
            cut_frames(raw, PICTURES)
        seconds, peak = measure(raw, Path(folder) / "processed")
        _, table = dataset.load(Path(folder) / "processed")
    print(
        f"prepare {len(table):,} pictures: {seconds:.1f} s (target {SECONDS}), {len(table) / seconds:.0f} pictures/s, "
        f"peak {peak / 1e9:.2f} GB in all processes (target {GIGABYTES}); "
        f"{table.group.nunique():,} groups of near-copies"
    )


if __name__ == "__main__":
    main()
