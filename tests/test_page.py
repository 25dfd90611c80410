"""What a visitor sees and does, in a real browser, over both transports: the server's kernel and a static site."""

import contextlib
import csv
import gzip
import hashlib
import io
import os
import re
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import nbformat
import numpy as np
import pytest
from axe_playwright_python import sync_playwright as axe
from PIL import Image

from lib.serving import site
from tests import small_model
from tests.running_server import NOTEBOOK, running, until
from tests.test_dashboard import BLUE, EXCHANGED, GREEN, HOMER, KRUSTY, MARGE, RED, YELLOW, encoded, write_runs

try:
    from tests import browser
except ImportError:  # playwright is for those who develop
    browser = None

TRANSPORTS = ("kernel", "device")
# What the page's modules do alone, whoever answers: asked over the transport that starts sooner.
on_device = pytest.mark.parametrize("address", ["device"], indirect=True, scope="module")
NOBODY = "I don't recognise anyone."


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> Path:
    return write_runs(tmp_path_factory.mktemp("outputs"))


@pytest.fixture(scope="module")
def chromium():
    if browser is None or browser.CHROMIUM is None:
        missing = "playwright is missing" if browser is None else "chromium is missing (apt-get install chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{missing}, and CI must not skip the tests in a browser")
        pytest.skip(missing)
    with browser.chromium() as started:
        yield started


@pytest.fixture(scope="module", params=TRANSPORTS)
def address(request, chromium, outputs, tmp_path_factory) -> Iterator[str]:
    """The page, served by a transport."""
    folder = tmp_path_factory.mktemp(request.param)
    runs = [outputs / run for run in ("published/springfield", "sample/cnn4", "sample/bare")]
    if request.param == "device":
        with browser.static_site(folder, runs) as served:
            yield served
    else:
        # There is room for eight kernels, and a page that is slow to connect again on a busy machine must find its own.
        with running(folder, leave_seconds=10, OUTPUTS=str(outputs), MODEL_DIR=str(runs[0])) as started:
            yield started.address


def new_context(chromium, address: str, **options) -> "browser.BrowserContext":
    """A browser as a new visitor has it; nothing leaves the machine, whatever a page tries."""
    context = chromium.new_context(**({"viewport": browser.WIDE} | options))
    context.route(lambda url: not url.startswith(address), lambda route: route.abort())
    return context


@contextlib.contextmanager
def pages(chromium, default_address: str, shared=None) -> Iterator[Callable[..., "browser.Visit"]]:
    """Open pages as new visitors; afterwards they must have shown no fault and asked no other host.

    In the context `shared`, where there is one, a page finds Voila's scripts, which take a second to load, in the
    browser's cache.
    """
    visits, contexts = [], []

    def open_one(address: str = default_address, **options) -> "browser.Visit":
        context = shared
        if shared is None or options or address != default_address:
            context = new_context(chromium, address, **options)
            contexts.append(context)
        visits.append(browser.Visit(context.new_page(), address))
        return visits[-1]

    yield open_one
    for visit in visits:
        elsewhere = [url for url in visit.requests if not url.startswith((visit.address, "blob:", "data:"))]
        assert elsewhere == [] and visit.faults == []
        visit.page.close()
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def shared(chromium, address):
    """A context for all pages of the server; the static page would keep pictures and itself in it."""
    if "below" in address:
        yield None
    else:
        context = new_context(chromium, address)
        yield context
        context.close()


@pytest.fixture
def open_page(chromium, address, shared):
    with pages(chromium, address, shared) as open_one:
        yield open_one


@pytest.fixture
def visit(open_page) -> "browser.Visit":
    return open_page()


@pytest.fixture(scope="module")
def same_visit(chromium, address) -> Iterator["browser.Visit"]:
    """A visit that goes on from test to test, where only the last picture matters."""
    with pages(chromium, address) as open_one:
        yield open_one()


@pytest.fixture
def kernel_only(address):
    if "below" in address:
        pytest.skip("the static page asks no server")


@pytest.fixture
def device_only(address):
    if "below" not in address:
        pytest.skip("only the static page has this")


def file(contents: bytes, name: str = "picture.png", kind: str = "image/png") -> dict:
    return {"name": name, "mimeType": kind, "buffer": contents}


def red_file(name: str = "red.png") -> dict:
    return file(small_model.picture(RED), name)


def text_of(element) -> str:
    return re.sub(r"\s+", " ", element.inner_text())


# ---------------------------------------------------------------- pictures come in


def test_choosing_a_picture_names_the_character(visit):
    browser.expect(visit["prediction"]).to_have_count(0)
    visit.choose(red_file())
    browser.expect(visit["prediction"]).to_have_text(HOMER)
    browser.expect(visit["prediction"]).to_have_attribute("data-character", "homer_simpson")
    shares = visit["probabilities"].get_by_role("listitem")
    assert [text_of(share) for share in shares.all()] == [f"{HOMER} >99 %", f"{KRUSTY} <1 %", f"{MARGE} <1 %"]
    browser.expect(visit.page.get_by_role("status").last).to_have_text(f"{HOMER}, over 99 %.")
    browser.expect(visit["error"]).to_be_hidden()


def test_dropping_a_picture_names_the_character(same_visit):
    same_visit.drop(file(small_model.picture(BLUE)))
    browser.expect(same_visit["prediction"]).to_have_text(MARGE)
    browser.expect(same_visit.page.locator(".over")).to_have_count(0)


def test_a_picture_of_the_page_that_moves_while_it_is_clicked_is_not_dropped(same_visit):
    same_visit["example"].first.drag_to(same_visit["drop-zone"])
    browser.expect(same_visit["error"]).to_be_hidden()


def test_pasting_a_picture_names_the_character(same_visit):
    same_visit.paste(file(small_model.picture(GREEN)))
    browser.expect(same_visit["prediction"]).to_have_text(KRUSTY)


def test_a_drawing_can_be_tried(same_visit):
    same_visit["example"].first.click()
    browser.expect(same_visit["prediction"]).to_be_visible()
    browser.expect(same_visit["example"]).to_have_count(3)
    browser.expect(same_visit.shown).to_have_attribute("alt", re.compile("Drawing of"))


def test_several_pictures_at_once_are_all_named_in_a_grid(visit):
    colours = {"red.png": RED, "green.png": GREEN, "blue.png": BLUE}
    visit.drop(*[file(small_model.picture(colour), name) for name, colour in colours.items()], file(b"x", "notes.txt"))
    browser.expect(visit.thumbnails).to_have_text([f"{name} >99 %" for name in (MARGE, KRUSTY, HOMER)])
    browser.expect(visit["prediction"]).to_have_text(HOMER)
    browser.expect(visit["error"]).to_contain_text("notes.txt: This is not a picture")
    browser.expect(visit.page.locator("#history-title")).to_have_text("Your pictures")  # and no longer how far it is


def test_a_message_about_many_files_names_a_few_and_no_name_turns_it_around(same_visit):
    same_visit.drop(*[file(b"notes", f"{number}‮.txt") for number in range(7)])
    browser.expect(same_visit["error"]).to_contain_text("4‮.txt and 2 more: This is not a picture")
    assert same_visit["error"].locator("bdi").all_inner_texts() == [f"{number}‮.txt" for number in range(5)]


def test_twenty_five_pictures_are_all_taken_and_what_is_there_can_be_clicked_meanwhile(visit):
    visit.drop(*[red_file(f"{number}.png") for number in range(24)], file(b"notes", "notes.txt"))
    browser.expect(visit.thumbnails.first).to_be_visible()
    visit.page.evaluate("window.there = [...document.querySelectorAll('.card button, .thumbnail, #download')]")
    visit.page.evaluate("document.getElementById('download').focus()")
    browser.expect(visit["error"]).to_be_visible()
    browser.expect(visit.thumbnails).to_have_count(24)
    # A button that is drawn anew between press and release gets no click.
    assert visit.page.evaluate("there.length > 4 && there.every((one) => one.isConnected)")
    assert visit.focused() == "download"


def test_the_history_leads_back(same_visit):
    for colour, name in ((RED, HOMER), (GREEN, KRUSTY)):
        same_visit.choose(file(small_model.picture(colour)))
        browser.expect(same_visit["prediction"]).to_have_text(name)
    same_visit.thumbnails.nth(1).click()
    browser.expect(same_visit["prediction"]).to_have_text(HOMER)
    browser.expect(same_visit.thumbnails.nth(1)).to_have_attribute("aria-current", "true")


# ---------------------------------------------------------------- what pictures are like


def photo(width: int, height: int, form: str = "JPEG", **options) -> bytes:
    """Make a reddish picture that is red at the top, of so much noise that it is a large file."""
    noise = np.random.default_rng(0).integers(0, 120, (height, width, 3), np.uint8)
    noise[..., 0] += 120
    noise[: height // 5] = RED
    return encoded(noise, form, **options)


@pytest.mark.slow
def test_a_large_photo_is_shown_small_and_travels_small(same_visit, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(photo(5000, 3600, quality=97))
    assert (tmp_path / "photo.jpg").stat().st_size > 14_000_000
    same_visit.choose(tmp_path / "photo.jpg")
    browser.expect(same_visit.shown).to_have_attribute("alt", "Your picture, photo.jpg")
    browser.expect(same_visit["prediction"]).to_have_text(HOMER)
    assert same_visit.shown.evaluate("(image) => [image.naturalWidth, image.naturalHeight]") == [512, 369]
    assert max(same_visit.sent, default=0) < 400_000


@pytest.mark.parametrize("width", [300, 900])  # sent as it is; shrunk
def test_a_rotated_photo_is_shown_and_read_upright(same_visit, width):
    lying = Image.fromarray(np.rot90(np.array(Image.open(io.BytesIO(photo(width * 2 // 3, width, "PNG"))))))
    exif = Image.Exif()
    exif[274] = 6  # Orientation: turn it clockwise to see it upright
    same_visit.choose(file(encoded(lying, "JPEG", exif=exif), f"{width}.jpg", "image/jpeg"))
    browser.expect(same_visit.shown).to_have_attribute("alt", f"Your picture, {width}.jpg")
    browser.expect(same_visit["prediction"]).to_have_text(HOMER)
    shown_width, shown_height = same_visit.shown.evaluate("(image) => [image.naturalWidth, image.naturalHeight]")
    assert shown_width < shown_height <= 512
    red, green, blue = same_visit.colour_at(0.5, 0.05)
    assert red > 200 and max(green, blue) < 60


@pytest.mark.parametrize("side", [100, 900])  # sent as it is; shrunk
def test_what_is_transparent_is_white(same_visit, side):
    hidden = Image.new("RGBA", (side, side), (*RED, 0))
    same_visit.choose(file(encoded(hidden)))
    browser.expect(same_visit["prediction"]).to_contain_text(NOBODY)  # white is as far from red as from blue
    assert min(same_visit.colour_at(0.5, 0.5)) > 250


def test_an_animation_is_judged_and_shown_by_its_first_frame(same_visit):
    frames = [Image.new("RGB", (60, 60), colour) for colour in (RED, BLUE)]
    moving = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50)
    same_visit.choose(file(moving, "moving.gif", "image/gif"))
    browser.expect(same_visit["prediction"]).to_have_text(HOMER)
    same_visit.page.wait_for_timeout(200)
    assert same_visit.colour_at(0.5, 0.5)[0] > 200


def test_nobody_is_a_state_of_its_own(same_visit):
    same_visit.choose(file(small_model.picture(YELLOW)))
    browser.expect(same_visit["prediction"]).to_have_text(re.compile(rf"{NOBODY}Closest: .+ \((49|50)\s%\)\."))
    browser.expect(same_visit["prediction"]).to_have_attribute("data-character", "")
    browser.expect(same_visit.thumbnails.first).to_have_text("Nobody")


# ---------------------------------------------------------------- what is no picture


def bomb() -> bytes:
    """Make a PNG of 30,000 × 30,000 pixels, about 900 MB once decoded, of one row repeated."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    side = 30_000
    packer = zlib.compressobj(9)
    row = bytes(1 + side // 8)  # one bit a pixel
    pixels = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("contents", "kind", "message"),
    [
        (lambda: small_model.picture(RED, 300, 200, "JPEG")[:-200], "image/jpeg", "damaged or incomplete"),
        (lambda: photo(1200, 900)[:100_000], "image/jpeg", "damaged or incomplete"),
        (lambda: b"These are notes.", "image/jpeg", "not a picture"),
        (lambda: b"", "image/png", "empty"),
        (lambda: small_model.picture(RED, 8, 8), "image/png", "at least 16 a side"),
        (bomb, "image/png", "30000 × 30000 pixels, at most 50 million"),
        (lambda: bytes(21_000_000), "image/x-raw", "at most 20 MB"),
        (lambda: b"\0\0\0\x18ftypheic" + bytes(100), "image/heic", "HEIC"),
    ],
    ids=["cut off", "cut off and large", "text", "empty", "tiny", "bomb", "large", "heic"],
)
def test_what_is_no_usable_picture_gets_a_message_and_leaves_the_answer(same_visit, contents, kind, message):
    same_visit.choose(red_file())
    browser.expect(same_visit["prediction"]).to_have_text(HOMER)
    same_visit.choose(file(contents(), "file.jpg", kind))
    browser.expect(same_visit["error"]).to_contain_text(message)
    browser.expect(same_visit["prediction"]).to_have_text(HOMER)


def test_after_an_error_the_next_picture_is_named(same_visit):
    same_visit.choose(file(b"notes"))
    browser.expect(same_visit["error"]).to_be_visible()
    same_visit.choose(file(small_model.picture(GREEN)))
    browser.expect(same_visit["prediction"]).to_have_text(KRUSTY)
    browser.expect(same_visit["error"]).to_be_hidden()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1:22/x.jpg", "not on the public internet"),
        ("ftp://example.org/homer.jpg", "must begin with http"),
        ("nothing like an address", "address"),
    ],
)
def test_a_refused_address_says_why(same_visit, kernel_only, url, message):
    same_visit.read(url)
    browser.expect(same_visit["error"]).to_contain_text(message)


def test_a_dropped_link_is_read_as_an_address(same_visit, kernel_only):
    same_visit.drop(uri_list="http://127.0.0.1/x.jpg")
    browser.expect(same_visit["error"]).to_contain_text("not on the public internet")


def test_a_drawing_that_cannot_be_loaded_is_said(open_page, device_only):
    visit = open_page(service_workers="block")
    visit.page.route("**/drawings/*", lambda route: route.abort())
    visit["example"].first.click()
    browser.expect(visit["error"]).to_be_visible()
    visit.faults.clear()  # that it could not be loaded


def test_a_dropped_text_is_no_picture(same_visit):
    same_visit.drop(plain="D'oh!")
    browser.expect(same_visit["error"]).to_contain_text("no picture in it")


# ---------------------------------------------------------------- networks


def test_networks_answer_side_by_side(visit):
    visit.choose(red_file())
    browser.expect(visit["prediction"]).to_have_text(HOMER)
    visit["network"].nth(1).check()
    browser.expect(visit["prediction"]).to_have_text([HOMER, KRUSTY])
    visit.choose(file(small_model.picture(GREEN)))
    browser.expect(visit["prediction"]).to_have_text([KRUSTY, HOMER])
    browser.expect(visit.page.get_by_role("status").last).to_have_text(
        f"springfield: {KRUSTY}, over 99 %. cnn4: {HOMER}, over 99 %."
    )
    visit["mark"].nth(1).click()  # in the card of one network alone
    browser.expect(visit.page.locator("#marking")).to_be_focused()
    browser.expect(visit["mark"].nth(0)).to_have_attribute("aria-pressed", "false")


def test_a_score_says_on_what_and_stands_beside_no_answer(same_visit):
    same_visit.choose(red_file())
    browser.expect(same_visit["prediction"]).to_have_text(HOMER)
    networks = text_of(same_visit.page.locator(".networks"))
    assert "springfield right on 96 % of test frames" in networks
    assert "cnn4 right on 87 % of test drawings" in networks and "bare not tested" in networks
    assert "right on" not in text_of(same_visit.page.locator(".answer"))


@on_device
def test_another_network_can_answer_and_the_last_one_stays(visit):
    browser.expect(visit["network"].first).to_be_disabled()  # somebody has to answer
    visit.choose(red_file())
    visit["network"].nth(1).check()
    visit["network"].first.uncheck()
    browser.expect(visit["prediction"]).to_have_text(KRUSTY)
    browser.expect(visit.page.get_by_role("article")).to_contain_text("cnn4")


def test_what_mattered_is_shown_and_hidden(same_visit):
    same_visit.choose(red_file())
    browser.expect(same_visit["prediction"]).to_have_text(HOMER)
    same_visit["explain"].click()
    browser.expect(same_visit["heat-map"]).to_be_visible()
    browser.expect(same_visit["explanation"]).to_contain_text(HOMER)
    same_visit["explain"].click()
    browser.expect(same_visit["heat-map"]).to_have_count(0)


def halves() -> dict:
    """Make a picture whose left half is red and whose right half is green."""
    picture = np.zeros((200, 200, 3), np.uint8)
    picture[:, :100], picture[:, 100:] = RED, GREEN
    return file(encoded(picture), "halves.png")


@on_device
def test_a_part_can_be_looked_at_by_pointer_and_by_keys(visit):
    visit.choose(halves())
    browser.expect(visit["prediction"]).to_contain_text(NOBODY)
    visit["mark"].click()
    box = visit.page.locator(".marking").bounding_box()
    visit.page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.1 * box["height"])
    visit.page.mouse.down()
    visit.page.mouse.move(box["x"] + 0.95 * box["width"], box["y"] + 0.9 * box["height"])
    visit.page.mouse.up()
    browser.expect(visit["prediction"]).to_have_text(KRUSTY)
    visit.thumbnails.last.click()
    visit["mark"].click()
    browser.expect(visit.page.locator("#marking")).to_be_focused()
    visit.page.keyboard.press("Escape")
    browser.expect(visit.page.locator("#marking")).to_have_count(0)
    browser.expect(visit["mark"]).to_be_focused()
    visit["mark"].click()
    for _ in range(20):
        visit.page.keyboard.press("ArrowLeft")
    visit.page.keyboard.press("Shift+ArrowLeft")
    visit.page.keyboard.press("Enter")
    browser.expect(visit["prediction"]).to_have_text(HOMER)
    assert visit.page.evaluate("document.activeElement !== document.body")
    visit.thumbnails.last.click()
    browser.expect(visit["prediction"]).to_contain_text(NOBODY)
    browser.expect(visit.page.locator("#marking")).to_have_count(0)  # Enter pressed no button


@on_device
def test_a_part_that_is_too_small_is_said(visit):
    visit.choose(halves())
    visit["mark"].click()
    box = visit.page.locator(".marking").bounding_box()
    visit.page.mouse.move(box["x"] + 20, box["y"] + 20)
    visit.page.mouse.down()
    visit.page.mouse.move(box["x"] + 24, box["y"] + 90)
    visit.page.mouse.up()
    browser.expect(visit["error"]).to_contain_text("too small")
    browser.expect(visit.thumbnails).to_have_count(1)


def test_a_flat_picture_is_sent_as_high_as_it_must_be(same_visit):
    same_visit.choose(file(encoded(np.full((100, 4000, 3), RED, np.uint8)), "flat.png"))
    browser.expect(same_visit["prediction"]).to_have_text(HOMER)


@pytest.mark.parametrize("width", [300, 900])  # sent as it is; shrunk
def test_a_file_that_is_gone_can_still_be_explained(visit, tmp_path, width):
    path = tmp_path / "gone.png"
    path.write_bytes(encoded(np.full((200, width, 3), RED, np.uint8)))
    visit.page.locator("input[type=file]").first.set_input_files(path)
    browser.expect(visit["prediction"]).to_have_text(HOMER)
    path.unlink()
    visit["explain"].click()
    browser.expect(visit["heat-map"]).to_be_visible()
    browser.expect(visit["error"]).to_be_hidden()
    visit["network"].nth(1).check()
    browser.expect(visit["prediction"]).to_have_count(2)


# ---------------------------------------------------------------- corrections


def test_all_answers_and_corrections_can_be_downloaded(visit, tmp_path):
    visit.choose(file(small_model.picture(GREEN), "green.png"))
    browser.expect(visit["prediction"]).to_have_text(KRUSTY)
    visit.choose(file(small_model.picture(RED), '=HYPERLINK("x").png'))
    browser.expect(visit["prediction"]).to_have_text(HOMER)
    visit.page.get_by_role("button", name="Wrong?").click()
    assert visit.focused() == "truth"
    visit.page.get_by_label("Who is it really?").fill("marge")
    visit.page.keyboard.press("Enter")
    browser.expect(visit["correction"]).to_have_text("Marge Simpson")
    with visit.page.expect_download() as download:
        visit.page.get_by_role("button", name="Download").click()
    download.value.save_as(tmp_path / "answers.csv")
    with (tmp_path / "answers.csv").open(newline="", encoding="utf-8") as table:
        wrong, unjudged = csv.DictReader(table)
    # The apostrophe keeps a spreadsheet from taking it for a formula.
    assert (wrong["path"], wrong["answer"]) == ('\'=HYPERLINK("x").png', "homer_simpson")
    assert (wrong["label"], wrong["verdict"]) == ("marge_simpson", "relabel")
    assert (unjudged["name"], unjudged["verdict"], unjudged["probability"]) == (KRUSTY, "", "1.0000")
    assert len(unjudged["sha256"]) == 64


@on_device
def test_an_answer_can_be_right_and_nobody_can_be_it(visit):
    visit.choose(red_file())
    visit["right"].click()
    browser.expect(visit["correction"]).to_have_text(HOMER)
    visit.page.get_by_role("button", name="Change").click()
    visit["nobody"].click()
    browser.expect(visit["correction"]).to_have_text("None of these")


def test_leaving_with_corrections_is_asked_about(visit):
    visit.choose(red_file())
    visit["right"].click()
    asked = []
    visit.page.once("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    visit.page.evaluate("setTimeout(() => location.reload())")
    until(lambda: visit.page.wait_for_timeout(50) or asked)
    assert asked == ["beforeunload"]
    visit.choose(file(small_model.picture(GREEN)))  # whoever stays is answered
    browser.expect(visit["prediction"]).to_have_text(KRUSTY)
    visit.page.on("dialog", lambda dialog: dialog.accept())
    visit.page.reload()
    browser.expect(visit.thumbnails).to_have_count(0)


@on_device
def test_a_name_half_written_survives_other_answers(visit):
    visit.choose(red_file())
    visit.page.get_by_role("button", name="Wrong?").click()
    truth = visit.page.get_by_label("Who is it really?")
    truth.press_sequentially("Bart Simson")
    for _ in range(3):
        truth.press("ArrowLeft")
    visit.page.evaluate("document.getElementById('network-1').click()")  # does not take the focus
    browser.expect(visit["prediction"]).to_have_text([HOMER, KRUSTY])
    visit.page.keyboard.type("p")
    assert truth.input_value() == "Bart Simpson"
    # Another picture, and back.
    visit.drop(file(small_model.picture(GREEN), "green.png"))
    browser.expect(visit.thumbnails).to_have_count(2)
    browser.expect(truth).to_have_count(0)
    visit.thumbnails.nth(1).click()
    assert truth.input_value() == "Bart Simpson"


@on_device
def test_a_name_is_text_and_no_markup(visit):
    visit.choose(red_file("<img src=x onerror=alert(1)>.png"))
    visit.page.get_by_role("button", name="Wrong?").click()
    visit.page.get_by_label("Who is it really?").fill("<b>Bart</b>")
    visit.page.keyboard.press("Enter")
    browser.expect(visit["correction"]).to_have_text("<b>Bart</b>")
    browser.expect(visit.page.locator("img[src=x]")).to_have_count(0)


# ---------------------------------------------------------------- whoever visits, and with what


def test_the_keyboard_is_enough(visit):
    keyboard = visit.page.keyboard
    reached = []
    while "choose" not in reached:
        keyboard.press("Tab")
        reached.append(visit.focused())
        assert len(reached) < 10
    with visit.page.expect_file_chooser() as chooser:
        keyboard.press("Enter")
    chooser.value.set_files(red_file())
    browser.expect(visit["prediction"]).to_have_text(HOMER)
    while not reached[-1].startswith("explain"):
        keyboard.press("Tab")
        reached.append(visit.focused())
        assert len(reached) < 30
    assert "drawing-0" in reached
    keyboard.press("Space")
    browser.expect(visit["heat-map"]).to_be_visible()
    assert visit.focused() == reached[-1]  # although the answer was drawn anew
    while visit.focused() != "network-1":
        keyboard.press("Tab")
    keyboard.press("Space")
    browser.expect(visit["prediction"]).to_have_text([HOMER, KRUSTY])
    assert visit.focused() == "network-1"


@on_device
def test_on_a_phone_a_long_name_is_not_cut(open_page):
    visit = open_page(**browser.PHONE)
    name = visit.page.locator(".wall li").first
    browser.expect(name).to_be_visible()
    name.evaluate("(name) => name.append(document.createTextNode('Nahasapeemapetilon'))")
    assert name.evaluate("(name) => name.scrollWidth <= name.clientWidth")


def test_on_a_phone_there_is_one_column_a_camera_and_the_answer_in_sight(open_page):
    visit = open_page(**browser.PHONE)
    assert visit.page.evaluate("document.documentElement.scrollWidth") == 390
    browser.expect(visit.page.get_by_text("Take a photo")).to_be_visible()
    browser.expect(visit.page.get_by_text("paste them")).to_be_hidden()
    assert visit.page.locator("#photo").get_attribute("capture") == "environment"
    for drawing in ("#drawing-0", "#drawing-1"):
        visit.page.locator(drawing).click()
        browser.expect(visit["prediction"]).to_be_visible()
        browser.expect(visit["prediction"]).to_be_in_viewport()
    visit["network"].nth(1).check()
    browser.expect(visit["prediction"]).to_have_count(2)
    assert visit.page.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize(
    ("address", "scheme", "is_dark"),
    [("kernel", "dark", True), ("device", "light", False)],
    indirect=["address"],
    scope="module",
)
def test_the_page_is_light_or_dark_as_the_visitor_likes(open_page, scheme, is_dark):
    visit = open_page(color_scheme=scheme)
    ground = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    ink = visit["drop-zone"].evaluate("(zone) => getComputedStyle(zone).color")
    assert (sum(channels(ground)) < 200) is is_dark
    assert (sum(channels(ink)) > 500) is is_dark


def channels(colour: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", colour)[:3]]


@pytest.mark.parametrize(
    ("address", "scheme"), [("kernel", "dark"), ("device", "light")], indirect=["address"], scope="module"
)
def test_axe_finds_no_serious_fault(open_page, scheme):
    visit = open_page(color_scheme=scheme)
    faults = []

    def check(state: str) -> None:
        found = axe.Axe().run(visit.page).response["violations"]
        faults.extend(
            (state, fault["id"], node["html"])
            for fault in found
            if fault["impact"] in ("serious", "critical")
            for node in fault["nodes"]
        )

    check("empty")
    visit.drop(red_file(), file(b"notes", "notes.txt"))
    browser.expect(visit["error"]).to_be_visible()
    visit["explain"].click()
    browser.expect(visit["heat-map"]).to_be_visible()
    visit.page.get_by_role("button", name="Wrong?").click()
    check("answer and error")
    visit["network"].nth(1).check()
    browser.expect(visit["prediction"]).to_have_count(2)
    visit.choose(file(small_model.picture(YELLOW)))
    browser.expect(visit["prediction"].first).to_contain_text(NOBODY)
    check("two that recognise nobody")
    assert faults == []


def test_the_page_says_what_it_knows_and_what_it_keeps(same_visit):
    about = text_of(same_visit.page.locator(".about"))
    assert "3 characters of The Simpsons" in about and "right on 96 % of test frames" in about
    assert re.search("nothing is (stored|sent)", about) and "CC BY-NC-SA" in about
    browser.expect(same_visit.page.get_by_role("heading", level=1)).to_have_text(re.compile("Who is it?"))
    assert same_visit.page.title() == "Who is it?"


def test_the_wall_shows_whom_the_network_knows_and_finds_names(same_visit):
    browser.expect(same_visit["wall"].get_by_role("listitem")).to_have_text([HOMER, KRUSTY, MARGE])
    same_visit.page.get_by_label("Search by name").fill("marge")
    browser.expect(same_visit["wall"].get_by_role("listitem")).to_have_text([MARGE])
    same_visit["wall"].get_by_role("button", name=MARGE).click()
    browser.expect(same_visit.shown).to_have_attribute("alt", f"Your picture, Drawing of {MARGE}")


# ---------------------------------------------------------------- the static page alone


def test_it_works_without_a_network_after_the_first_visit(chromium, outputs, tmp_path):
    with browser.static_site(tmp_path, [outputs / "published" / "springfield"]) as address:
        context = chromium.new_context()
        visit = browser.Visit(context.new_page(), address)
        visit.choose(red_file())
        browser.expect(visit["prediction"]).to_have_text(HOMER)
        visit.page.evaluate("navigator.serviceWorker.ready")
        context.set_offline(True)
    visit.page.goto(address)  # which nobody serves any more
    visit.choose(file(small_model.picture(GREEN)))
    browser.expect(visit["prediction"]).to_have_text(KRUSTY)
    assert visit.page.locator("link[rel=manifest]").count() == 1
    context.close()


def test_several_characters_are_named_and_outlined_each_with_its_own_heat_map(chromium, outputs, tmp_path):
    """With a network that has a class map, which the page reads from the file beside it."""
    folder = tmp_path / "below" / "a path"
    with browser.static_site(tmp_path, [outputs / "published" / "springfield"]) as address:
        facts = (folder / "about.js").read_text()
        facts = facts.replace('"confused": []', '"confused": ["krusty_the_clown"]')
        facts = facts.replace('"second_threshold": 1.0', '"second_threshold": 0.7')
        (folder / "about.js").write_text(facts)
        (network,) = folder.glob("networks/*.tflite.gz")
        network.write_bytes(gzip.compress(site.fix_batch(small_model.network(3, 16, cells=4))))
        with pages(chromium, address) as open_page:
            visit = open_page()
            # Three quarters are green, so it is the more probable one; red has the quarter on the left.
            picture = np.zeros((160, 320, 3), np.uint8)
            picture[:, :80], picture[:, 80:] = RED, GREEN
            visit.choose(file(encoded(picture)))
            browser.expect(visit["prediction"]).to_have_text(KRUSTY)
            browser.expect(visit["also"]).to_have_text(HOMER)
            browser.expect(visit.page.locator(".share")).to_have_text(re.compile(r"together \d+\s%"))
            browser.expect(visit.page.get_by_text("sometimes confused")).to_be_visible()
            green, red = [
                [float(outline.get_attribute(name)) for name in ("x", "y", "width", "height")]
                for outline in visit["outlines"].locator("rect").all()
            ]
            # Between the middles of the first two of four cells, 1/8 and 3/8, the map falls to one half at 1/4.
            assert np.allclose(red, [0, 0, 0.25, 1], atol=0.02) and np.allclose(green, [0.25, 0, 0.75, 1], atol=0.02)
            visit.page.get_by_role("button", name=f"What mattered for {HOMER}?").click()
            browser.expect(visit["explanation"]).to_contain_text(f"sees “{HOMER}”")
            visit.choose(file(small_model.picture((0, 0, 0))))
            browser.expect(visit["prediction"]).to_contain_text(NOBODY)


def test_a_slow_line_shows_progress_and_takes_pictures_meanwhile(chromium, outputs, tmp_path):
    with browser.static_site(tmp_path, [outputs / "published" / "springfield"]) as address:
        context = chromium.new_context()
        held = []
        context.route("**/*.wasm.gz", lambda route: held.append(route))
        visit = browser.Visit(context.new_page(), address)
        browser.expect(visit.page.get_by_role("progressbar")).to_be_visible()
        visit.choose(red_file())
        browser.expect(visit.page.locator(".waiting")).to_be_visible()
        while not held:
            visit.page.wait_for_timeout(50)
        held[0].continue_()
        browser.expect(visit["prediction"]).to_have_text(HOMER)
        browser.expect(visit.page.get_by_role("progressbar")).to_have_count(0)
        context.close()


def test_pictures_that_wait_for_a_network_that_does_not_come_all_end(chromium, address, device_only):
    context, held = chromium.new_context(service_workers="block"), []
    context.route("**/*.tflite.gz", lambda route: held.append(route))
    visit = browser.Visit(context.new_page(), address)
    waiting, first = visit.page.locator(".waiting img"), ""
    for number in range(2):
        visit["example"].nth(number).click()
        browser.expect(waiting).not_to_have_attribute("src", first)
        first = waiting.get_attribute("src")
    until(lambda: visit.page.wait_for_timeout(50) or held)
    held[0].abort()
    browser.expect(visit["error"]).to_contain_text("could not be loaded")
    browser.expect(waiting).to_have_count(0)
    context.close()


def test_a_network_that_does_not_come_leaves_the_others_their_answers(open_page, address, device_only):
    visit = open_page(service_workers="block")
    second = visit.page.evaluate("async () => (await import('./about.js')).about.networks[1].file")
    visit.page.route(f"**/{second}*", lambda route: route.abort())
    visit.choose(red_file())
    browser.expect(visit["prediction"]).to_have_text(HOMER)
    cards = visit.page.get_by_role("article")
    visit["network"].nth(1).check()
    for colour, name in ((None, HOMER), (GREEN, KRUSTY)):
        if colour:
            visit.choose(file(small_model.picture(colour)))
        browser.expect(visit["prediction"]).to_have_text(name)
        browser.expect(cards.nth(1)).to_contain_text("could not be loaded")
        browser.expect(visit.page.locator(".waiting")).to_have_count(0)
    visit.page.unroute(f"**/{second}*")
    visit.thumbnails.first.click()  # asks again, and nothing is lost
    browser.expect(cards.nth(1).get_by_test_id("prediction")).to_have_text(HOMER)  # it exchanges colours
    visit.faults.clear()  # that it could not be loaded


def test_a_recogniser_that_stopped_is_started_again(open_page, device_only):
    visit = open_page(service_workers="block")
    visit.page.route("**/worker.js", lambda route: route.fulfill(status=404))
    visit.page.reload()
    browser.expect(visit["error"]).to_contain_text("has stopped")
    for _ in range(2):
        visit.choose(red_file())
        browser.expect(visit.page.locator(".waiting")).to_have_count(0)
        browser.expect(visit["error"]).to_contain_text("has stopped")
    visit.page.unroute("**/worker.js")
    visit.choose(red_file())
    browser.expect(visit["prediction"]).to_have_text(HOMER)
    visit.faults.clear()  # that it could not be loaded


def test_pictures_stay_in_the_browser_if_the_visitor_wants(visit, device_only):
    visit.choose(red_file())
    visit["right"].click()
    visit.page.get_by_label("Keep them in this browser").check()
    visit.choose(file(small_model.picture(GREEN)))
    browser.expect(visit.thumbnails).to_have_count(2)
    visit.page.reload()
    browser.expect(visit.thumbnails).to_have_text([f"{KRUSTY} >99 %", HOMER])
    visit.thumbnails.last.click()
    browser.expect(visit["correction"]).to_have_text(HOMER)
    with visit.page.expect_download() as download:
        visit.page.get_by_role("button", name="Download").click()
    assert hashlib.sha256(small_model.picture(RED)).hexdigest() in download.value.path().read_text()  # not of the copy
    keep = visit.page.get_by_label("Keep them in this browser")
    keep.uncheck()
    keep.check()
    keep.uncheck()  # at once: one change after the other
    visit.page.reload()
    browser.expect(visit["drop-zone"]).to_be_visible()
    browser.expect(visit.thumbnails).to_have_count(0)


def test_the_camera_is_followed_until_the_tab_is_hidden(chromium, outputs, tmp_path):
    with browser.static_site(tmp_path, [outputs / "published" / "springfield"]) as address:
        context = chromium.new_context(permissions=["camera"])
        visit = browser.Visit(context.new_page(), address)
        visit.page.get_by_role("button", name="Live camera").click()
        browser.expect(visit["live-name"]).not_to_have_text("Looking …")  # Chromium's fake camera is green
        frames = int(visit["live"].get_attribute("data-frames"))
        browser.expect(visit["live"]).not_to_have_attribute("data-frames", str(frames))
        visit.page.get_by_role("button", name="Keep this picture").click()
        browser.expect(visit.thumbnails).to_have_count(1)
        visit.page.locator("#stop").focus()
        hide = "Object.defineProperty(document, 'hidden', { value: true, configurable: true })"
        visit.page.evaluate(f"{hide}; document.dispatchEvent(new Event('visibilitychange'))")
        browser.expect(visit["live"]).to_be_hidden()
        assert visit.focused() == "camera"
        context.close()


# ---------------------------------------------------------------- servers of their own


def test_without_a_network_the_page_says_so_until_there_is_one(chromium, tmp_path):
    (tmp_path / "outputs").mkdir()
    with (
        running(tmp_path, OUTPUTS=str(tmp_path / "outputs")) as server,
        pages(chromium, server.address) as open_page,
    ):
        visit = open_page()
        browser.expect(visit["error"]).to_contain_text("make train evaluate")
        browser.expect(visit.page.locator("#choose")).to_be_disabled()
        until(lambda: len(server.kernels()) == 2)
        time.sleep(5)  # until the next page is made ahead
        write_runs(tmp_path / "outputs")
        visit.page.get_by_role("button", name="Look again").click()
        browser.expect(visit["error"]).to_be_hidden()
        visit.choose(red_file())
        browser.expect(visit["prediction"]).to_have_text(HOMER)
        # The page that was made before the training knows the network too.
        visit = open_page()
        browser.expect(visit["error"]).to_be_hidden()
        visit.choose(red_file())
        browser.expect(visit["prediction"]).to_have_text(HOMER)
        # And the network is trained again while the page is open.
        model = tmp_path / "outputs" / "published" / "springfield" / "model.tflite"
        model.write_bytes(small_model.model(EXCHANGED, metadata={"run": "springfield"}))
        visit.choose(red_file())
        browser.expect(visit["prediction"]).to_have_text(KRUSTY)


@pytest.fixture
def picture_on_the_web() -> Iterator[str]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(small_model.picture(BLUE, 1000, 800))

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{web.server_port}/marge.png"
        web.shutdown()
        thread.join()


def test_an_address_is_read_and_a_lost_connection_is_noticed(chromium, outputs, picture_on_the_web, tmp_path):
    # A page of the internet is not at hand, so this server's page may read one of this machine.
    book = nbformat.read(NOTEBOOK, as_version=4)
    allow = "fetch.read_picture = functools.partial(fetch.read_picture, allow_private=True)"
    book.cells.insert(-1, nbformat.v4.new_code_cell(f"import functools\nfrom lib.serving import fetch\n{allow}"))
    nbformat.write(book, tmp_path / "page.ipynb")
    environment = {"OUTPUTS": str(outputs), "MODEL_DIR": str(outputs / "published" / "springfield")}
    with (
        running(tmp_path, tmp_path / "page.ipynb", **environment) as server,
        pages(chromium, server.address) as open_page,
    ):
        visit = open_page()
        visit.read(picture_on_the_web)
        browser.expect(visit["prediction"]).to_have_text(MARGE)
        browser.expect(visit.thumbnails).to_have_count(1)
        visit["network"].nth(1).check()
        browser.expect(visit["prediction"]).to_have_text([MARGE, MARGE])

        server.stop()
        browser.expect(visit["connection"]).to_contain_text("lost")
        server.start()
        browser.expect(visit["connection"]).to_contain_text("oad the page again")
        visit.choose(red_file())
        browser.expect(visit["error"]).to_contain_text("has ended this page")  # at once
        visit["connection"].get_by_role("link").click()
        browser.expect(visit["drop-zone"]).to_be_visible()
        browser.expect(visit["connection"]).to_be_hidden()
        visit.choose(red_file())
        browser.expect(visit["prediction"]).to_have_text(HOMER)
        visit.faults.clear()  # that nobody answered while the server was stopped
