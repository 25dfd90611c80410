"""The page in a real browser, over both transports, and Gradio around the same recogniser where that is installed.

Run with `python -m tests.benchmarks.bench_page [--run DIR]`, on a machine that does nothing else; needs Debian's
chromium. Browser and server share the machine, so each takes its part of the other's time. The page's own clock is
read: what Playwright takes to ask is not the page's.
"""

import argparse
import contextlib
import importlib.util
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import httpx
import numpy as np
import psutil
from playwright.sync_api import Browser, Page, expect

from lib.inference.recogniser import cores, load_best
from lib.serving import site
from tests import browser
from tests.benchmarks.bench_decode import draw_frames
from tests.running_server import running, until

PAGES = 5
PAUSE = 10  # seconds between two visitors, in which the dashboard makes its next page
DROPS = 10
WIDTH, HEIGHT = 400, 300
PHOTO = (4000, 3000)  # 12 megapixels
CAMERA_SECONDS = 5
SLOW_BYTES = 400_000 // 8  # a second

# The page's own clock: milliseconds since it was asked for at which an element was painted, and the longest time for
# which the page could not react.
WATCH = """
window.seen = {};
window.longest = 0;
new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) window.longest = Math.max(window.longest, duration);
}).observe({ type: "longtask", buffered: true });
new MutationObserver(() => {
    for (const [name, selector] of Object.entries(SELECTORS)) {
        if (name in window.seen || !document.querySelector(selector)) continue;
        window.seen[name] = null;
        requestAnimationFrame(() => setTimeout(() => { window.seen[name] = performance.now(); }));
    }
}).observe(document, { childList: true, subtree: true });
"""
# Gives a file to a chooser, and the milliseconds until there is one more answer.
CHOOSE = """([input, answers, name, content]) => new Promise((resolve) => {
    const transfer = new DataTransfer();
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    transfer.items.add(new File([bytes], name, { type: "image/jpeg" }));
    const chooser = document.querySelector(input);
    const count = document.querySelectorAll(answers).length;
    const start = performance.now();
    new MutationObserver((_, observer) => {
        if (document.querySelectorAll(answers).length <= count) return;
        observer.disconnect();
        resolve(performance.now() - start);
    }).observe(document.body, { childList: true, subtree: true });
    chooser.files = transfer.files;
    chooser.dispatchEvent(new Event("change", { bubbles: true }));
})"""
GRADIO = """
import sys, gradio
from lib.inference.recogniser import Recogniser
recogniser = Recogniser.load(sys.argv[1])
def name(path):
    with open(path, "rb") as file:
        return {guess.name: guess.probability for guess in recogniser.predict(file.read()).all}
page = gradio.Interface(name, gradio.Image(type="filepath"), gradio.Label(num_top_classes=5), live=True)
page.launch(server_port=int(sys.argv[2]), share=False, quiet=True)
"""


@dataclass(frozen=True)
class Served:
    """A page that is served, and where things are in it."""

    what: str
    address: str
    chooser: str = "#choose"
    answer: str = '[data-testid="prediction"]'
    answers: str = ".thumbnail"  # one more for each picture
    process: int | None = None  # the server's, whose memory counts


def main() -> int:
    """Print one line a question, each with its target."""
    parser = argparse.ArgumentParser(description="Measure the page in a browser.")
    parser.add_argument("--run", type=Path, metavar="DIR", help="run folder (the best there is)")
    run = (parser.parse_args().run or load_best().run_dir).resolve()
    if browser.CHROMIUM is None:
        print("page: not measured, chromium is missing (apt-get install chromium)")
        return 0
    with tempfile.TemporaryDirectory() as temporary, browser.chromium() as chromium:
        folder = Path(temporary)
        (folder / "frames").mkdir()
        frames = draw_frames(folder / "frames", WIDTH, HEIGHT)[:DROPS]
        photo = cv2.resize(cv2.imread(str(frames[0])), PHOTO, interpolation=cv2.INTER_CUBIC)
        photo = np.clip(photo + np.random.default_rng(0).normal(0, 4, photo.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / "photo.jpg"), photo)
        print(f"page: {run.name}, {cores()} cores, browser and server on them")
        for serving in (static_page, dashboard, gradio_page):
            with serving(folder, run) as served:
                if served is None:
                    print("gradio: not measured, it is not installed (pip install gradio)")
                    continue
                bench_opening(chromium, served, frames[0])
                bench_pictures(chromium, served, frames, folder / "photo.jpg")
                if served.what == "static page":
                    bench_slow_line(chromium, folder / "site", frames[0])
                    bench_camera(chromium, served)
    return 0


@contextlib.contextmanager
def static_page(folder: Path, run: Path) -> Iterator[Served]:
    """Serve the page without a server, as any static host does."""
    site.build([run], folder / "site")
    with browser.static_host(folder / "site") as address:
        yield Served("static page", address)


@contextlib.contextmanager
def dashboard(folder: Path, run: Path) -> Iterator[Served]:
    """Serve the owner's dashboard."""
    with running(folder, MODEL_DIR=str(run)) as server:
        yield Served("dashboard", server.address, process=server.process.pid)


@contextlib.contextmanager
def gradio_page(folder: Path, run: Path) -> Iterator[Served | None]:
    """Serve what a user would write with Gradio; None where it is not installed."""
    if importlib.util.find_spec("gradio") is None:
        yield None
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = os.environ | {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": str(folder)}
    process = subprocess.Popen([sys.executable, "-c", GRADIO, str(run), str(port)], env=environment)
    address = f"http://127.0.0.1:{port}/"

    def answers() -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(address).status_code == 200
        return False

    try:
        until(answers)
        label = '[data-testid="label-output-value"]'
        yield Served("gradio", address, 'input[type="file"]', label, label, process.pid)
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def opened(chromium: Browser, served: Served) -> Iterator[Page]:
    """Open the page as a new visitor, with nothing in the browser's caches."""
    context = chromium.new_context(viewport=browser.WIDE, permissions=["camera"])
    page = context.new_page()
    page.set_default_timeout(1000 * browser.PATIENCE)
    selectors = f"{{ usable: `{served.chooser}`, answered: `{served.answer}` }}"
    page.add_init_script(WATCH.replace("SELECTORS", selectors))
    yield page
    context.close()


def choose(page: Page, served: Served, picture: Path) -> float:
    """Choose a file; milliseconds until it was answered."""
    contents = browser.encoded(picture.read_bytes())
    return page.evaluate(CHOOSE, [served.chooser, served.answers, picture.name, contents])


def bench_opening(chromium: Browser, served: Served, frame: Path) -> None:
    """Time from asking for the page until a picture can be given, and until one given at once is answered."""
    seen, longest = [], []
    for _ in range(PAGES):
        time.sleep(PAUSE)
        with opened(chromium, served) as page:
            page.goto(served.address, wait_until="commit")
            page.locator(served.chooser).first.wait_for(state="attached")
            page.locator(served.chooser).first.set_input_files(frame)
            page.locator(served.answer).first.wait_for()
            until(lambda page=page: page.evaluate("window.seen.answered"))
            seen.append(page.evaluate("[window.seen.usable, window.seen.answered]"))
            longest.append(page.evaluate("window.longest"))
    usable, answered = (statistics.median(times) / 1000 for times in zip(*seen, strict=True))
    memory = f", {megabytes(served.process):.0f} MB" if served.process else ", no server"
    print(
        f"{served.what}: takes a picture after {usable:.2f} s (target 0.3), answers the first, given at once, after "
        f"{answered:.2f} s (target 2), stands still for {max(longest):.0f} ms at most{memory}"
    )


def megabytes(process: int) -> float:
    """Weigh a server with its kernels; what several share is counted once."""
    processes = [psutil.Process(process), *psutil.Process(process).children(recursive=True)]
    return sum(getattr(info, "pss", info.uss) for info in (one.memory_full_info() for one in processes)) / 1e6


def bench_pictures(chromium: Browser, served: Served, frames: list[Path], photo: Path) -> None:
    """Time a picture on a page that has answered before; Gradio shows its answers in one place, so it is asked anew."""
    with opened(chromium, served) as page:
        page.goto(served.address)
        page.locator(served.chooser).first.set_input_files(frames[0])
        page.locator(served.answer).first.wait_for()
        if served.what == "gradio":
            return
        taken = [choose(page, served, frame) for frame in frames]
        large = [choose(page, served, photo) for _ in range(3)]
    print(
        f"{served.what}: a picture takes {statistics.median(taken):.0f} ms, slowest {max(taken):.0f} ms (target 100), "
        f"one of 12 megapixels {statistics.median(large):.0f} ms (target 300)"
    )


def bench_slow_line(chromium: Browser, site_folder: Path, frame: Path) -> None:
    """Time the page at 400 kbit/s."""
    with browser.static_host(site_folder, SLOW_BYTES) as address:
        served = Served("static page", address)
        with opened(chromium, served) as page:
            page.set_default_timeout(300_000)
            page.goto(address, wait_until="commit")
            page.locator(served.chooser).first.set_input_files(frame)
            page.locator(served.answer).first.wait_for()
            seen = page.evaluate("[window.seen.usable, window.seen.answered ?? performance.now()]")
    usable, answered = (milliseconds / 1000 for milliseconds in seen)
    print(f"{served.what} at 400 kbit/s: takes a picture after {usable:.1f} s, answers after {answered:.0f} s")


def bench_camera(chromium: Browser, served: Served) -> None:
    """Count the frames of the live camera that are answered."""
    with opened(chromium, served) as page:
        page.goto(served.address)
        page.locator("#camera").click()
        expect(page.get_by_test_id("live-name")).not_to_have_text("Looking …")
        count = lambda: int(page.get_by_test_id("live").get_attribute("data-frames"))  # noqa: E731
        before, start = count(), time.perf_counter()
        time.sleep(CAMERA_SECONDS)
        rate = (count() - before) / (time.perf_counter() - start)
    print(f"{served.what}: {rate:.0f} frames a second of the camera are answered (target 10)")


if __name__ == "__main__":
    raise SystemExit(main())
