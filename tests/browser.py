"""The page in a real browser, over both transports: the owner's server and the folder of static files.

`python -m tests.browser` takes the pictures of the page for the docs, with whatever networks there are.
"""

import base64
import contextlib
import functools
import io
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO

from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect, sync_playwright

from lib import paths
from lib.inference.recogniser import load_best
from lib.serving import site
from tests.patience import PATIENCE

# The one without windows, where there is one, takes less processor time.
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
WIDE = {"width": 1280, "height": 860}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}

LITERT_NOTE = re.compile(r"(INFO|WARNING): (\[\w+\.cc:\d+\]|Created TensorFlow Lite XNNPACK)")

expect.set_options(timeout=1000 * PATIENCE)

# Makes what a drag or the clipboard carries, of [name, type, base64] for each file and of texts by type.
TRANSFER = """([files, texts]) => {
    const transfer = new DataTransfer();
    for (const [name, type, content] of files) {
        const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
        transfer.items.add(new File([bytes], name, { type }));
    }
    for (const [type, text] of Object.entries(texts)) transfer.setData(type, text);
    return transfer;
}"""


def encoded(contents: bytes) -> str:
    """Write bytes so that they can be handed to a script in a page."""
    return base64.b64encode(contents).decode()


class _Host(SimpleHTTPRequestHandler):
    line = threading.Lock()  # which all connections share
    bytes_per_second = 0

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def copyfile(self, source: BinaryIO, outputfile: BinaryIO) -> None:
        """Send a file to a browser that may have gone, slowly where that is asked for."""
        with contextlib.suppress(ConnectionError):
            while part := source.read(4096 if self.bytes_per_second else -1):
                with self.line if self.bytes_per_second else contextlib.nullcontext():
                    outputfile.write(part)
                    time.sleep(len(part) / self.bytes_per_second if self.bytes_per_second else 0)


@contextlib.contextmanager
def static_host(folder: Path, bytes_per_second: int = 0) -> Iterator[str]:
    """Serve a folder, as `python -m http.server` does, during the block; gives its address."""
    handler = type("Host", (_Host,), {"bytes_per_second": bytes_per_second})
    host = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder)))
    thread = threading.Thread(target=host.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{host.server_port}/"
    finally:
        host.shutdown()
        host.server_close()
        thread.join()


@contextlib.contextmanager
def static_site(folder: Path, runs: Sequence[Path]) -> Iterator[str]:
    """Write the page without a server and serve it under a path of a static host; gives its address."""
    site.build(runs, folder / "below" / "a path")
    with static_host(folder) as address:
        yield f"{address}below/a%20path/"


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Keep a browser running during the block."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *CAMERA])
        yield browser
        browser.close()


class Visit:
    """A page that a visitor opened.

    Args:
        page: An empty page of the browser.
        address: Where the server is.
    """

    def __init__(self, page: Page, address: str):
        self.page = page
        self.address = address
        self.requests: list[str] = []
        self.faults: list[str] = []
        self.sent: list[int] = []  # bytes of each message to the server
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda fault: self.faults.append(str(fault)))
        page.on("console", self._on_console)
        page.on("websocket", lambda socket: socket.on("framesent", lambda frame: self.sent.append(len(frame))))
        # Playwright begins to catch choosers some time after the first listener is there.
        page.on("filechooser", lambda chooser: None)
        page.set_default_timeout(1000 * PATIENCE)
        page.goto(address)
        full, until = page.get_by_text("As many pages are open"), time.monotonic() + PATIENCE
        while full.count() and time.monotonic() < until:  # until the kernels of closed pages have ended
            time.sleep(1)
            page.reload()
        expect(self["drop-zone"]).to_be_visible()

    def _on_console(self, said: ConsoleMessage) -> None:
        # LiteRT.js writes what it does to stderr, which a browser shows as errors.
        if said.type == "error" and not LITERT_NOTE.match(said.text):
            self.faults.append(said.text)

    def __getitem__(self, test_id: str) -> Locator:
        return self.page.get_by_test_id(test_id)

    @property
    def thumbnails(self) -> Locator:
        """The pictures of this visit, newest first."""
        return self.page.locator(".thumbnail")

    @property
    def shown(self) -> Locator:
        """The picture beside the first answer."""
        return self.page.locator(".card .layers img").first

    def choose(self, *files: Path | dict) -> None:
        """Choose files by the file chooser."""
        self.page.locator("#choose").set_input_files(files)

    def drop(self, *files: dict, **texts: str) -> None:
        """Drop files or text onto the drop zone."""
        for event in ("dragenter", "dragover", "drop"):
            self["drop-zone"].dispatch_event(event, {"dataTransfer": self._transfer(files, texts)})

    def paste(self, *files: dict, **texts: str) -> None:
        """Paste files or text."""
        self.page.evaluate(
            "(clipboardData) => document.body.dispatchEvent("
            "new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true }))",
            self._transfer(files, texts),
        )

    def read(self, address: str) -> None:
        """Give the address of a picture."""
        self.page.get_by_label("address").fill(address)
        self.page.get_by_role("button", name="Read it").click()

    def colour_at(self, x: float, y: float) -> tuple[int, int, int]:
        """Say the colour of the picture beside the first answer, at a place that goes from 0 to 1 each way."""
        red, green, blue, _ = self.shown.evaluate(
            """(image, [x, y]) => {
                const canvas = document.createElement("canvas");
                [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
                const context = canvas.getContext("2d");
                context.drawImage(image, 0, 0);
                return [...context.getImageData(x * (canvas.width - 1), y * (canvas.height - 1), 1, 1).data];
            }""",
            [x, y],
        )
        return red, green, blue

    def focused(self) -> str:
        """Say the id of the element that has the keyboard's focus."""
        return self.page.evaluate("document.activeElement.id")

    def _transfer(self, files: tuple[dict, ...], texts: dict[str, str]):
        contents = [[f["name"], f["mimeType"], encoded(f["buffer"])] for f in files]
        types = {f"text/{kind.replace('_', '-')}": text for kind, text in texts.items()}
        return self.page.evaluate_handle(TRANSFER, [contents, types])


def take_pictures(folder: Path) -> None:
    """Write `page-light.png`, an answer, and `page-dark.png`, the same in the dark with what mattered."""
    with (
        tempfile.TemporaryDirectory() as temporary,
        static_site(Path(temporary), [load_best().run_dir]) as address,
        chromium() as browser,
    ):
        for scheme in ("light", "dark"):
            options = {"viewport": {"width": 1280, "height": 1000}, "color_scheme": scheme, "reduced_motion": "reduce"}
            visit = Visit(browser.new_page(**options), address)
            for done, number in enumerate((2, 0, 1)):  # the last one is shown: of these its outline fits best
                visit["example"].nth(number).click()
                expect(visit.thumbnails).to_have_count(done + 1)
            if scheme == "dark":
                # One that it is less sure of, so that more depends on each part.
                visit["wall"].get_by_role("button").nth(1).click()
                expect(visit.thumbnails).to_have_count(4)
                visit["explain"].first.click()
                expect(visit["heat-map"]).to_be_visible()
            visit.page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
            visit.page.mouse.move(0, 0)
            picture = Image.open(io.BytesIO(visit.page.screenshot()))
            # A palette takes a third of the bytes, and the difference is hard to see.
            picture.convert("RGB").quantize(256, kmeans=5).save(folder / f"page-{scheme}.png", optimize=True)


if __name__ == "__main__":
    take_pictures(paths.ROOT / "docs")
