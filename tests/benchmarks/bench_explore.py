"""The explorer of mistakes in a browser: how soon does a click answer?

Run with `python -m tests.benchmarks.bench_explore [--runs FOLDER --processed FOLDER --raw FOLDER]`, on a machine that
does nothing else; by default on the drawn sample, which `make train evaluate` has to have been called for. The page's
own clock is read, from the click until what it asked for is painted.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from playwright.sync_api import Page

from lib import paths
from lib.errors import UserError
from lib.study import explore
from tests import browser
from tests.served_notebook import notebook_of, served

CLICKS = 20
TARGET = 200  # milliseconds

# Clicks, or makes a change, and gives the milliseconds until something new that matches is painted.
CLICK = """([clicked, index, awaited]) => new Promise((resolve) => {
    const target = document.querySelectorAll(clicked)[index];
    const old = document.querySelector(awaited);
    const start = performance.now();
    const observer = new MutationObserver(() => {
        const found = document.querySelector(awaited);
        if (!found || found === old) return;
        observer.disconnect();
        requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - start)));
    });
    observer.observe(document.body, { childList: true, subtree: true });
    if (target.tagName === "SELECT") {
        target.selectedIndex = target.selectedIndex ? 0 : 1;
        target.dispatchEvent(new Event("change"));
    } else target.click();
})"""


def main() -> int:
    """Print a line a kind of click."""
    parser = argparse.ArgumentParser(description="Measure the explorer of mistakes in a browser.")
    parser.add_argument("--runs", type=Path, default=paths.OUTPUTS / "sample", help="folder of evaluated runs")
    parser.add_argument("--processed", type=Path, default=paths.PROCESSED / "sample", help="their prepared pictures")
    parser.add_argument("--raw", type=Path, default=paths.RAW / "sample", help="the originals of these")
    folders = vars(parser.parse_args())
    folders = [str(folders[name].resolve()) for name in ("runs", "raw", "processed")]
    if browser.CHROMIUM is None:
        print("explore: not measured, chromium is missing (apt-get install chromium)")
        return 0
    try:
        explorer = explore.Explorer(*map(Path, folders))
    except UserError as problem:
        print(f"explore: not measured. {problem}")
        return 0
    print(f"explore: {len(explorer.data.rows('test')):,} test pictures, {len(explorer.characters)} characters")
    with tempfile.TemporaryDirectory() as temporary, browser.chromium() as chromium:
        notebook = notebook_of(
            Path(temporary),
            "from pathlib import Path",
            "from lib.study import explore",
            f"explore.Explorer(*map(Path, {folders!r})).widget()",
        )
        with served(notebook, Path(temporary)) as (_, address):
            page = chromium.new_page(viewport=browser.WIDE)
            page.set_default_timeout(1000 * browser.PATIENCE)
            page.goto(address)
            page.get_by_test_id("matrix").wait_for()
            bench_clicks(page)
    return 0


def bench_clicks(page: Page) -> None:
    """Click cells, their pictures and a filter."""
    kinds = {
        "a cell shows its pictures": (
            '[data-testid="wrong-cell"], [data-testid="right-cell"]',
            '[data-testid="picture"]',
        ),
        "a picture shows its probabilities": ('[data-testid="picture"]', '[data-testid="probabilities"]'),
        "a filter shows its matrix": ('[data-testid="character"]', '[data-testid="matrix"]'),
    }
    for what, (clicked, awaited) in kinds.items():
        count = page.locator(clicked).count()
        taken = [page.evaluate(CLICK, [clicked, number % count, awaited]) for number in range(CLICKS)]
        print(f"explore: {what} in {statistics.median(taken):.0f} ms, at most {max(taken):.0f} (target {TARGET})")


if __name__ == "__main__":
    raise SystemExit(main())
