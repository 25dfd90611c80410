"""Naming a large folder: pictures a second by workers, memory of one long run, results after kills.

`python -m tests.benchmarks.bench_cluster` takes a few minutes. `--full` measures what docs/scaling.md shows, in about a
quarter of an hour on two cores; `workers`, `many` or `kills` before it measures that part alone. The rows of a Markdown
table are printed as they are measured.

The pictures are links to drawings of this project. All workers run on this machine: more of them than it has cores show
what distribution costs, not what it gains.
"""

import argparse
import contextlib
import itertools
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import distributed
import psutil
import pyarrow.parquet as parquet

from lib import shards
from lib.drawing.sample import draw_sample
from lib.inference.recogniser import Recogniser, find_runs
from lib.machine import cores, processor_name
from tests import dask_processes

DRAWINGS = 20  # of each character
EFFICIENCY = 0.85  # target: two workers against twice one
SAMPLING_INTERVAL = 0.25  # seconds
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
SHORT = {"pictures": 1000, "workers": [1, 2], "many": 2000, "kills": 3}
FULL = {"pictures": 4000, "workers": [1, 2, 4, 8], "many": 100_000, "kills": 10}
PREDICT = """
import sys
from lib import predict, shards
shards.PICTURES_A_SHARD = int(sys.argv[1])
sys.exit(predict.main(sys.argv[2:]))
"""
Row = tuple[str, str]  # of the table: what, and what was measured


class Bench:
    """The commands that are measured.

    Args:
        run: Run folder of the network.
        folder: Where their files are.
        options: Arguments of the command line.
    """

    def __init__(self, run: Path, folder: Path, options: argparse.Namespace):
        self.run, self.folder, self.options = run, folder, options
        draw_sample(folder / "drawn", pictures_per_character=DRAWINGS)
        self.drawn = sorted(path for path in (folder / "drawn").rglob("*") if path.is_file())

    def frames(self, number: int) -> Path:
        """Fill a folder with links to drawings, unless it is there."""
        frames = self.folder / f"frames-{number}"
        if not frames.exists():
            frames.mkdir()
            for index, drawing in zip(range(number), itertools.cycle(self.drawn)):
                os.link(drawing, frames / f"{index:07}{drawing.suffix}")
        return frames

    def command(self, number: int, length: int, out: Path, *more: str) -> list[str]:
        """Give the command that names so many pictures into files of a length."""
        arguments = [str(length), str(self.frames(number)), "--run", str(self.run), "--out", str(out), *more]
        return [sys.executable, "-c", PREDICT, *arguments]


def bench_workers(bench: Bench) -> Iterator[Row]:
    """Measure pictures a second by workers, and the efficiency against as many times one."""
    started = time.perf_counter()
    Recogniser.load(bench.run)
    yield "loading the network, once in each process", f"{time.perf_counter() - started:.2f} s"
    speeds, number = {}, bench.options.pictures
    length = max(1, number // max(bench.options.workers))
    for workers in bench.options.workers:
        place = bench.folder / f"dask-{workers}"
        place.mkdir()
        with dask_processes.started(place, workers=workers) as cluster:
            elsewhere = ("--cluster", cluster.address)
            with distributed.Client(cluster.address) as client:
                client.wait_for_workers(workers, timeout=dask_processes.START_SECONDS)
            # Once for all that a worker imports and loads.
            subprocess.run(bench.command(10 * workers, 1, place / "warm", *elsewhere), check=True, **QUIET)
            out = place / "out"
            speeds[workers] = number / work_seconds(bench.command(number, length, out, *elsewhere), out)
        efficiency = speeds[workers] / workers / (speeds[min(speeds)] / min(speeds))
        more = f", more than the {cores()} cores" if workers > cores() else ""
        target = f" (target {EFFICIENCY})" if workers == 2 else ""
        yield (
            f"{workers} worker{'s' * (workers > 1)}{more}, {number:,} pictures",
            f"{speeds[workers]:.0f} pictures a second, efficiency {efficiency:.2f}{target}",
        )


def work_seconds(command: list[str], out: Path) -> float:
    """Run a command; returns the seconds from its connection to the cluster to its last file of answers."""
    connected = 0.0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if line.startswith("Dask shows"):
                connected = time.time()
    assert process.returncode == 0 and connected, command
    return max(path.stat().st_mtime for path in files(out)) - connected


def files(out: Path) -> list[Path]:
    """List the files of answers."""
    return list(out.glob("part-*.parquet"))


def bench_many(bench: Bench) -> Iterator[Row]:
    """Measure throughput and memory of one run, in its first tenth and at all."""
    number, out = bench.options.many, bench.folder / "many"
    length = min(shards.PICTURES_A_SHARD, max(1, number // 20))
    command = bench.command(number, length, out, "--cluster", "local")
    peaks = {"a tenth": (0, 0), "all": (0, 0)}
    started = time.perf_counter()
    with subprocess.Popen(command, **QUIET) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                now = resident([watched]), resident(watched.children(recursive=True))
                is_early = len(files(out)) * length <= number / 10
                for part in ["a tenth", "all"] if is_early else ["all"]:
                    peaks[part] = tuple(map(max, peaks[part], now))
            time.sleep(SAMPLING_INTERVAL)
    assert process.returncode == 0
    seconds = time.perf_counter() - started
    what = f"{number:,} pictures in one run, a local cluster of {cores()} workers"
    yield what, f"{seconds / 60:.1f} minutes, {number / seconds:.0f} pictures a second with its start"
    for position, name in enumerate(("its process", "its children together")):
        early, at_all = (f"{peaks[part][position] / 1e6:.0f} MB" for part in ("a tenth", "all"))
        yield f"peak memory of {name}", f"{at_all}; until a tenth is done, {early}"


def resident(processes: Iterable[psutil.Process]) -> int:
    """Add up the resident bytes of processes; one that has ended has none."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total


def bench_kills(bench: Bench) -> Iterator[Row]:
    """Kill a call at random moments, and compare what the last one ends with."""
    kills, number, out = bench.options.kills, bench.options.pictures // 2, bench.folder / "killed"
    length = max(1, number // (4 * kills))  # so that there is something to be done at each kill
    command, began = bench.command(number, length, bench.folder / "whole"), time.time()
    subprocess.run(command, check=True, **QUIET)
    written = [path.stat().st_mtime - began for path in files(bench.folder / "whole")]
    # On average the calls together come to the end of the work in the last one; some are killed while they start.
    shortest, longest = min(written) / 2, min(written) + 2 * (max(written) - min(written)) / (kills + 1)
    moments, when = random.Random(bench.options.seed), []
    for _ in range(kills):
        with subprocess.Popen(bench.command(number, length, out), **QUIET) as process:
            moment = moments.uniform(shortest, longest)
            timer = threading.Timer(moment, process.kill)
            timer.start()
            process.wait()
            timer.cancel()
        killed = "" if process.returncode < 0 else ", ended before"
        when.append(f"{moment:.1f} s ({len(files(out))} of {-(-number // length)} files{killed})")
    subprocess.run(bench.command(number, length, out), check=True, **QUIET)
    equal = answers(bench.folder / "whole") == answers(out)
    yield f"{number:,} pictures, calls killed at random moments (seed {bench.options.seed})", ", ".join(when)
    yield (
        f"answers after {kills} kills, against those of an undisturbed run",
        f"{len(answers(out)):,} rows, {'all equal' if equal else '**DIFFERENT**'}",
    )


def answers(out: Path) -> list[dict]:
    """Give all rows of a folder of answers, by picture."""
    rows = [row for path in files(out) for row in parquet.read_table(path).to_pylist()]
    return sorted(rows, key=lambda row: row["picture"])


PARTS = {"workers": bench_workers, "many": bench_many, "kills": bench_kills}


def main() -> None:
    """Print a table of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all by default")
    parser.add_argument("--full", action="store_true", help="the numbers of docs/scaling.md")
    parser.add_argument("--pictures", type=int, help="for each number of workers; half of them with kills")
    parser.add_argument("--workers", type=int, nargs="+", help="numbers of workers")
    parser.add_argument("--many", type=int, help="pictures of the one long run")
    parser.add_argument("--kills", type=int, help="calls that are killed")
    parser.add_argument("--seed", type=int, default=0, help="decides the moments of the kills")
    parser.add_argument("--run", type=Path, default=None, help="run folder of the network; by default the best one")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; known: {', '.join(PARTS)}")
    for name, value in (FULL if options.full else SHORT).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    run = options.run or find_runs()[0]
    print(f"| {run.name} on {cores()} cores of {processor_name()} | measured |\n|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(run.resolve(), Path(temporary), options)
        for part in options.parts or PARTS:
            for what, measured in PARTS[part](bench):
                print(f"| {what} | {measured} |", flush=True)


if __name__ == "__main__":
    main()
