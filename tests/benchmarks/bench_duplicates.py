"""Near-duplicates among 20,000 and among 1,000,000 pictures: seconds, peak memory, and recall.

Run with `python -m tests.benchmarks.bench_duplicates [NUMBER ...]`. The fingerprints are generated with the spectrum of
the Simpsons archive's thumbnails; four in ten pictures have near-duplicates, at distances up to the limit and beyond.
Each number is searched in a process of its own. The recall is measured by comparing a sample of the pictures with all
others.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from lib.data import duplicates
from lib.data.preparation import DEFAULTS

NUMBERS = (20_000, 1_000_000)
TARGETS = {20_000: (10, 2.0), 1_000_000: (120, 2.0)}  # seconds, GB
SAMPLE = 500  # pictures that are compared with all others
BLOCK = 20_000
FREQUENCIES = 8  # a side; higher ones contribute little to a thumbnail of 16 × 16
MEAN, MEAN_SPREAD = 107, 29  # grey levels, of the archive's frames
SPECTRUM = 23, 1.25  # grey levels at frequency 1, and the exponent of their decay; fitted to the archive


def cosines(width: int) -> np.ndarray:
    """Compute cosines of unit power: `(FREQUENCIES, width)`."""
    x = (np.arange(width) + 0.5) / width
    waves = np.cos(np.pi * np.arange(FREQUENCIES)[:, None] * x)
    return waves * np.where(np.arange(FREQUENCIES) > 0, np.sqrt(2), 1)[:, None]


def draw(number: int, folder: Path) -> None:
    """Write `hashes.npy` and `thumbnails.npy`, a block at a time."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(*np.mgrid[:FREQUENCIES, :FREQUENCIES])
    spread = SPECTRUM[0] / np.maximum(frequency, 1) ** SPECTRUM[1]
    spread[0, 0] = MEAN_SPREAD
    hashes = np.lib.format.open_memmap(folder / "hashes.npy", "w+", np.uint8, (number, 32))
    thumbnails = np.lib.format.open_memmap(folder / "thumbnails.npy", "w+", np.uint8, (number, 256))
    order = rng.permutation(number)  # so that families are scattered
    for start in range(0, number, BLOCK):
        rows = order[start : start + BLOCK]
        scenes = rng.normal(size=(len(rows), *spread.shape)) * spread
        family = np.arange(len(rows))
        copies = rng.random(len(rows)) < 0.3  # copies of the picture before, which may be a copy itself
        family = np.maximum.accumulate(np.where(copies, 0, family))
        change = rng.normal(size=scenes.shape) * spread * (copies * rng.uniform(0.02, 0.5, len(rows)))[:, None, None]
        fields = scenes[family] + change
        for width, fill in ((17, hashes), (16, thumbnails)):
            grey = np.einsum("nuv,uy,vx->nyx", fields, cosines(16), cosines(width), optimize=True) + MEAN
            grey = np.clip(grey, 0, 255).astype(np.uint8)
            brighter = grey[:, :, 1:] > grey[:, :, :-1]
            fill[rows] = np.packbits(brighter.reshape(len(rows), -1), axis=1) if width == 17 else grey.reshape(-1, 256)


def known_pairs(hashes: np.ndarray, thumbnails: np.ndarray, sample: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compare the sample with every picture; return pairs (sample, other) `(m, 2)` and the RMS of their thumbnails."""
    pairs, distances = [], []
    asked = thumbnails[sample].astype(np.float32)
    asked_squared = (asked**2).sum(axis=1)
    for start in range(0, len(hashes), BLOCK):
        others = thumbnails[start : start + BLOCK].astype(np.float32)
        squares = asked_squared[:, None] + (others**2).sum(axis=1) - 2 * asked @ others.T
        bits = np.stack([np.bitwise_count(hashes[i] ^ hashes[start : start + BLOCK]).sum(axis=1) for i in sample])
        rms = np.sqrt(np.maximum(squares, 0) / thumbnails.shape[1])
        one, other = np.nonzero((rms < DEFAULTS.near_rms) | (bits <= DEFAULTS.near_bits))
        pairs.append(np.stack([sample[one], start + other], axis=1))
        distances.append(rms[one, other])
    pairs, distances = np.concatenate(pairs), np.concatenate(distances)
    different = pairs[:, 0] != pairs[:, 1]
    return pairs[different], distances[different]


def measure(folder: Path) -> dict[str, float]:
    """Search once in this process; its peak memory includes the fingerprints."""
    hashes, thumbnails = np.load(folder / "hashes.npy"), np.load(folder / "thumbnails.npy")
    start, processor = time.perf_counter(), time.process_time()
    pairs = duplicates.near_duplicate_pairs(hashes, thumbnails)
    groups = duplicates.groups_of_pairs(pairs, len(hashes))
    result = {"seconds": time.perf_counter() - start, "processor_seconds": time.process_time() - processor}
    result["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    result |= {"pairs": len(pairs), "groups": int(groups.max()) + 1, "largest": int(np.bincount(groups).max())}
    sample = np.sort(np.random.default_rng(1).choice(len(hashes), min(SAMPLE, len(hashes)), replace=False))
    known, rms = known_pairs(hashes, thumbnails, sample)
    found = np.isin(np.sort(known, axis=1) @ [len(hashes), 1], pairs @ [len(hashes), 1])
    same_group = groups[known[:, 0]] == groups[known[:, 1]]
    result |= {"known": len(known), "recall": found.mean(), "recall_near": found[rms < 10].mean()}
    return result | {"same_group": same_group.mean()}


def main() -> None:
    """Print a line for each number of pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("numbers", nargs="*", type=int, default=NUMBERS)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    for number in options.numbers:
        with tempfile.TemporaryDirectory() as folder:
            draw(number, Path(folder))
            command = [sys.executable, "-m", "tests.benchmarks.bench_duplicates", "--measure", folder]
            result = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        print(describe(number, result))


def describe(number: int, result: dict[str, float]) -> str:
    """Describe a measurement in one line."""
    seconds, gigabytes = TARGETS.get(number, ("none", "none"))
    return (
        f"near-duplicates among {number:,}: {result['seconds']:.1f} s (target {seconds}), "
        f"{result['processor_seconds']:.0f} s of processor, peak {result['peak_gb']:.2f} GB (target {gigabytes}); "
        f"{result['pairs']:,} pairs, {result['groups']:,} groups, the largest of {result['largest']:,}; "
        f"of {result['known']:,} pairs known from {SAMPLE} pictures found {result['recall']:.1%} "
        f"({result['recall_near']:.1%} of those within 10 grey levels), in one group {result['same_group']:.1%}"
    )


if __name__ == "__main__":
    main()
