"""Naming a large folder on a Dask cluster: pictures a second by workers, memory by pictures, results after kills.

Run with `python -m tests.benchmarks.bench_cluster [--pictures 100000] [--workers 1 2 4 8] [--kills 10]`. The pictures
are links to frames drawn by this project. All workers run on this machine: more of them than it has cores show what
distribution costs, not what it gains.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pyarrow.parquet as parquet

from lib.inference.recogniser import find_runs
from lib.machine import cores
from tests import dask_processes
from tests.benchmarks.bench_decode import draw_frames

WIDTH, HEIGHT = 400, 300  # as the frames of the real archive
EFFICIENCY = 0.85  # target: two workers against twice one
SAMPLING_INTERVAL = 0.1  # seconds
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def main() -> None:
    """Print throughput, efficiency, memory, and whether killed calls end with the same answers."""
    parser = argparse.ArgumentParser(description="Time a folder of pictures on a cluster.")
    parser.add_argument("--pictures", type=int, default=8000)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--kills", type=int, default=3)
    options = parser.parse_args()
    run = find_runs()[0]
    print(f"cluster: network {run.name}, {options.pictures:,} pictures of {WIDTH}x{HEIGHT} on {cores()} cores")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        frames, few = folder / "frames", folder / "few"
        (folder / "drawn").mkdir()
        drawn = draw_frames(folder / "drawn", WIDTH, HEIGHT)
        link(drawn, frames, options.pictures)
        link(drawn, few, options.pictures // 10)
        bench_memory(run, few, frames, folder)
        bench_workers(run, frames, folder, options.workers)
        bench_kills(run, few, folder, options.kills)


def link(drawn: list[Path], folder: Path, number: int) -> None:
    """Fill a folder with links to frames."""
    folder.mkdir()
    for index in range(number):
        os.link(drawn[index % len(drawn)], folder / f"{index:07}.jpg")


def command(run: Path, frames: Path, out: Path, *more: str) -> list[str]:
    """Give the command that names the pictures of a folder."""
    return [sys.executable, "-m", "lib.predict", str(frames), "--run", str(run), "--out", str(out), *more]


def measure(arguments: list[str]) -> tuple[float, int]:
    """Run a command; returns seconds and peak resident bytes of its process."""
    peak = 0
    started = time.perf_counter()
    with subprocess.Popen(arguments, **QUIET) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, watched.memory_info().rss)
            time.sleep(SAMPLING_INTERVAL)
    assert process.returncode == 0, arguments
    return time.perf_counter() - started, peak


def bench_memory(run: Path, few: Path, frames: Path, folder: Path) -> None:
    """Print throughput and memory of one process for the folder and for a tenth of it."""
    for name, pictures in (("a tenth", few), ("all", frames)):
        seconds, peak = measure(command(run, pictures, folder / f"alone-{name}"))
        number = len(list(pictures.iterdir()))
        print(
            f"cluster, {name} without one: {number / seconds:.0f} pictures/s with its start, peak {peak / 1e6:.0f} MB"
        )


def bench_workers(run: Path, frames: Path, folder: Path, numbers: list[int]) -> None:
    """Print pictures a second by workers, and the efficiency against the first number of them."""
    number, speeds = len(list(frames.iterdir())), {}
    for workers in numbers:
        (folder / f"dask-{workers}").mkdir()
        out = folder / f"out-{workers}"
        with dask_processes.started(folder / f"dask-{workers}", workers=workers) as cluster:
            measure(command(run, frames.parent / "few", folder / f"warm-{workers}", "--cluster", cluster.address))
            first, last, done = time_of_shards(command(run, frames, out, "--cluster", cluster.address), out, number)
        speeds[workers] = done / (last - first)
        efficiency = speeds[workers] / speeds[numbers[0]] * numbers[0] / workers
        target = f" (target {EFFICIENCY})" if workers == 2 else ""
        print(f"cluster of {workers} workers: {speeds[workers]:.0f} pictures/s, efficiency {efficiency:.2f}{target}")


def time_of_shards(arguments: list[str], out: Path, number: int) -> tuple[float, float, int]:
    """Run a command; returns when the first and the last shard appeared, and the pictures answered between them."""
    subprocess.run(arguments, check=True, **QUIET)
    shards = sorted(out.glob("part-*.parquet"), key=lambda path: path.stat().st_mtime)
    times = [path.stat().st_mtime for path in shards]
    return times[0], times[-1], number - parquet.read_metadata(shards[0]).num_rows


def bench_kills(run: Path, frames: Path, folder: Path, kills: int) -> None:
    """Kill a call at random moments, and compare what the last one ends with."""
    started = time.perf_counter()
    subprocess.run(command(run, frames, folder / "whole"), check=True, **QUIET)
    whole, moments = time.perf_counter() - started, random.Random(0)
    for _ in range(kills):
        with subprocess.Popen(command(run, frames, folder / "killed"), **QUIET) as process:
            timer = threading.Timer(moments.uniform(0, whole), process.kill)
            timer.start()
            process.wait()
            timer.cancel()
    subprocess.run(command(run, frames, folder / "killed"), check=True, **QUIET)
    equal = answers(folder / "whole") == answers(folder / "killed")
    print(f"cluster, killed {kills} times: the answers are {'the same' if equal else 'DIFFERENT'}")


def answers(out: Path) -> list[dict]:
    """Give all rows of a folder of answers, by picture."""
    rows = [row for path in out.glob("part-*.parquet") for row in parquet.read_table(path).to_pylist()]
    return sorted(rows, key=lambda row: row["picture"])


if __name__ == "__main__":
    main()
