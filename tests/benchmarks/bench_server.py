"""The server under load: how soon the page is there, what a visitor costs, what `/predict` bears.

Run with `python -m tests.benchmarks.bench_server [--run DIR]`. Without a run it makes the
springfield network with random weights, which computes as long as a trained one. The clients run on the same
machine as the server and take their share of it.
"""

import argparse
import asyncio
import base64
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from lib.inference.recogniser import cores
from tests.benchmarks.bench_decode import draw_frames
from tests.benchmarks.bench_recogniser import HEIGHT, WIDTH, make_run
from tests.running_server import Running, running

PAGES = 5
CLIENTS = 10
REQUESTS = 100  # of each client


def main() -> None:
    """Print one line a question, each with its target."""
    parser = argparse.ArgumentParser(description="Measure the server.")
    parser.add_argument("--run", type=Path, metavar="DIR", help="run folder; springfield with random weights without")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        # Absolute: the server works in a folder of its own.
        run_dir = arguments.run.resolve() if arguments.run else make_run(folder / "springfield")
        print(f"server: {run_dir.name}, {cores()} cores")
        with running(folder, MODEL_DIR=str(run_dir)) as server:
            bench_pages(server)
            bench_memory(server)
            bench_predict(server, draw_frames(folder, WIDTH, HEIGHT))


def bench_pages(server: Running) -> None:
    """Time the page, whose kernel is started when it is asked for."""
    seconds = [page_seconds(server) for _ in range(PAGES)]
    print(f"page: {statistics.median(seconds):.2f} s to the whole HTML (target 2)")


def page_seconds(server: Running) -> float:
    """Get a page and leave it; seconds until the last byte of its HTML."""
    start = time.perf_counter()
    with server.visit():
        return time.perf_counter() - start


def bench_memory(server: Running) -> None:
    """Weigh the processes with and without visitors."""
    before = memory(server)
    visits = [server.visit() for _ in range(PAGES)]
    for visit in visits:
        visit.__enter__()
    megabytes = (memory(server) - before) / PAGES / 1e6
    for visit in visits:
        visit.__exit__(None, None, None)
    print(f"memory:            {megabytes:.0f} MB a visitor (target 120)")


def memory(server: Running) -> int:
    """Bytes of the server and its kernels; what several share is counted once (proportional set size)."""
    total = 0
    for process in [psutil.Process(server.process.pid), *server.kernels()]:
        info = process.memory_full_info()
        total += getattr(info, "pss", info.uss)
    return total


def bench_predict(server: Running, frames: list[Path]) -> None:
    """Ask for predictions from several clients at once, each waiting for its answer."""
    requests = [predict_request(frame.read_bytes()) for frame in frames[: 3 * CLIENTS]]
    start = time.perf_counter()
    answers = [answer for client in asyncio.run(ask_at_once(server.port, requests)) for answer in client]
    elapsed = time.perf_counter() - start
    seconds = sorted(seconds for _, seconds in answers)
    failed = sum(status != 200 for status, _ in answers)
    p50, p99 = (1000 * seconds[int(share * len(seconds))] for share in (0.5, 0.99))
    print(
        f"/predict:          {len(answers) / elapsed:.0f} requests/s (target 100), {CLIENTS} clients, "
        f"p50 {p50:.0f} ms, p99 {p99:.0f} ms (target 150), {failed} of {len(answers)} failed (target 0)"
    )


def predict_request(contents: bytes) -> bytes:
    """Write a request as bytes, so that the clients cost as little as can be."""
    body = json.dumps({"image": base64.b64encode(contents).decode()}).encode()
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


async def ask_at_once(port: int, requests: list[bytes]) -> list[list[tuple[int, float]]]:
    """Run the clients; status and seconds of each answer."""

    async def client(number: int) -> list[tuple[int, float]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answers = [await ask(reader, writer, one) for one in taken(requests, number)]
        writer.close()
        return answers

    return await asyncio.gather(*(client(number) for number in range(CLIENTS)))


def taken(requests: list[bytes], first: int) -> Iterator[bytes]:
    """Take a client's requests in turn, each client beginning elsewhere."""
    return (requests[(first + number) % len(requests)] for number in range(REQUESTS))


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> tuple[int, float]:
    """Send a request and read its answer; its status, and how many seconds that took."""
    start = time.perf_counter()
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    await reader.readexactly(int(head.partition("content-length: ")[2].split()[0]))
    return int(head.split()[1]), time.perf_counter() - start


if __name__ == "__main__":
    main()
