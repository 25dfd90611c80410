"""The page: what it answers, and what a visitor sees and does, in a real browser."""

import base64
import contextlib
import csv
import io
import json
import logging
import os
import re
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import nbformat
import numpy as np
import pytest
from axe_playwright_python import sync_playwright as axe
from PIL import Image

from lib import notebooks, paths
from lib.errors import UserError
from lib.serving import dropzone, page
from tests import small_model

try:
    from tests import browser
except ImportError:  # playwright is for those who develop
    browser = None

NOTEBOOK = paths.NOTEBOOKS / "dashboard.ipynb"
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
YELLOW = (255, 255, 0)  # as near to red as to green
HOMER, KRUSTY, MARGE = "Homer Simpson", "Krusty the Clown", "Marge Simpson"
# The colours of its characters are exchanged, so that it answers otherwise.
EXCHANGED = ("krusty_the_clown", "homer_simpson", "marge_simpson")
SPRINGFIELD = {"accuracy": 0.9633, "macro_f1": 0.9604, "test_pictures": 3210, "threshold": 0.6}


def encoded(picture: np.ndarray | Image.Image, form: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    picture.save(file, form, **options)
    return file.getvalue()


def write_runs(outputs: Path) -> Path:
    """Write three runs: `springfield` comes first, `cnn4` exchanges two colours, `bare` was never evaluated."""
    facts = {"num_parameters": 1_912_345, "characters": list(small_model.CHARACTERS)}
    small_model.write_run(outputs / "published" / "springfield", run=facts, metrics=SPRINGFIELD)
    small_model.write_run(
        outputs / "sample" / "cnn4", EXCHANGED, metrics={"accuracy": 0.874, "macro_f1": 0.9, "threshold": 0.6}
    )
    small_model.write_run(outputs / "sample" / "bare")
    return outputs


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> Path:
    return write_runs(tmp_path_factory.mktemp("outputs"))


# ---------------------------------------------------------------- networks


@pytest.fixture
def networks(outputs) -> page.Networks:
    return page.Networks(outputs)


def test_springfield_comes_first_and_what_was_not_evaluated_last(networks):
    assert networks.keys == ["published/springfield", "sample/cnn4", "sample/bare"]


def test_the_chosen_run_comes_before_all(outputs):
    networks = page.Networks(outputs, outputs / "sample" / "bare")
    assert networks.keys == ["sample/bare", "published/springfield", "sample/cnn4"]


def test_a_damaged_run_does_not_answer_unasked(tmp_path):
    outputs = write_runs(tmp_path / "outputs")
    (outputs / "published" / "springfield" / "model.tflite").write_bytes(b"damaged")
    assert page.Networks(outputs).keys == ["sample/cnn4", "sample/bare"]


def test_facts_are_for_people(networks):
    springfield, cnn4, bare = networks.facts()
    assert (springfield["name"], springfield["detail"]) == ("springfield", "right on 96 of 100 test pictures")
    assert [springfield[key] for key in ("accuracy", "macro_f1", "test_pictures")] == [0.9633, 0.9604, 3210]
    assert springfield["characters"] == [HOMER, KRUSTY, MARGE]
    assert cnn4["detail"] == "right on 87 of 100 test pictures" and cnn4["macro_f1"] == 0.9
    assert bare["detail"] == "not tested" and bare["accuracy"] is None


def test_runs_of_the_same_name_are_told_apart(tmp_path):
    for data in ("kaggle", "sample"):
        small_model.write_run(tmp_path / data / "cnn4")
    assert [facts["name"] for facts in page.Networks(tmp_path).facts()] == ["kaggle/cnn4", "sample/cnn4"]


def test_each_network_gives_its_own_answer(networks):
    answers = networks.recognise(small_model.picture(RED), ["published/springfield", "sample/cnn4"])
    assert [answer["top"][0][0] for answer in answers.values()] == [HOMER, KRUSTY]
    assert all(answer["sure"] and answer["threshold"] == 0.6 for answer in answers.values())


def test_below_the_threshold_an_answer_is_unsure(networks):
    answer = networks.recognise(small_model.picture(YELLOW), ["published/springfield"])["published/springfield"]
    assert answer["top"][0][1] == pytest.approx(0.5, abs=0.01) and not answer["sure"]


def test_a_network_that_is_damaged_meanwhile_names_no_folder(tmp_path, caplog):
    networks = page.Networks(write_runs(tmp_path / "outputs"))
    (tmp_path / "outputs" / "sample" / "cnn4" / "model.tflite").write_bytes(b"damaged")
    answers = networks.recognise(small_model.picture(RED), ["published/springfield", "sample/cnn4"])
    assert answers["published/springfield"]["top"][0][0] == HOMER
    assert "Choose another" in answers["sample/cnn4"]["problem"] and str(tmp_path) not in str(answers)
    assert str(tmp_path) in caplog.text


def test_what_mattered_comes_as_a_veil_over_the_picture(networks):
    half = np.full((40, 80, 3), 127, np.uint8)
    half[:, 40:] = RED
    facts, veil = networks.explain(encoded(half), "published/springfield")
    darkness = np.array(Image.open(io.BytesIO(veil)))[..., 3]
    assert facts["name"] == HOMER and facts["after"] < facts["before"]
    assert darkness[:, -1].mean() < darkness[:, 0].mean()


def test_drawings_follow_from_the_seed_and_show_known_characters(networks):
    drawings = page.drawings(networks.first, 8, seed=3)
    assert sorted(drawing["name"] for drawing in drawings) == [HOMER, KRUSTY, MARGE]
    assert drawings == page.drawings(networks.first, 8, seed=3) != page.drawings(networks.first, 8, seed=4)
    assert Image.open(io.BytesIO(drawings[0]["picture"])).size == (page.DRAWING_SIDE, page.DRAWING_SIDE)


def test_the_drawing_that_is_named_best_comes_first(networks):
    shares = []
    for drawing in page.drawings(networks.first, 3, seed=0):
        given = {guess.name: guess.probability for guess in networks.first.predict(drawing["picture"]).all}
        shares.append(given[drawing["name"]])
    assert len(shares) == 3 and shares == sorted(shares, reverse=True)


def test_without_a_network_there_are_drawings_all_the_same():
    assert len(page.drawings(None, 5, seed=0)) == 5


def test_a_small_picture_stays_as_it_is_and_a_large_one_shrinks():
    small, large = small_model.picture(RED, 512, 300), small_model.picture(RED, 1024, 300)
    assert page.small_enough(small) is small
    assert Image.open(io.BytesIO(page.small_enough(large))).size == (512, 150)


def test_the_page_imports_no_framework_and_nothing_heavy(outputs):
    cells = [cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    heavy = ["tensorflow", "keras", "torch", "pandas", "matplotlib", "seaborn", "sklearn", "httpx"]
    check = f"import sys\nprint([name for name in {heavy} if name in sys.modules])"
    said = subprocess.run(
        [sys.executable, "-c", "\n".join([*cells, check])],
        env=os.environ | {"OUTPUTS": str(outputs)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.splitlines()[-1] == "[]"


# ---------------------------------------------------------------- questions, honest and other


class Zone(dropzone.DropZone):
    """The widget without a browser: it keeps what it would send."""

    def __init__(self, networks: page.Networks):
        self.sent: list[tuple[dict, list]] = []
        super().__init__(networks)

    def send(self, content, buffers=None):
        self.sent.append((content, buffers or []))

    def ask(self, question, *buffers) -> None:
        self._on_question(self, question, [memoryview(buffer) for buffer in buffers])


@pytest.fixture
def zone(networks) -> Zone:
    return Zone(networks)


QUESTION = {"id": 7, "ask": "recognise", "networks": ["published/springfield"]}


def test_a_question_is_answered_under_its_number(zone):
    zone.ask(QUESTION, small_model.picture(RED))
    ((answer, attached),) = zone.sent
    assert answer["id"] == 7 and answer["answers"]["published/springfield"]["top"][0][0] == HOMER and attached == []


def test_what_the_browser_could_not_shrink_comes_back_to_be_shown(zone):
    zone.ask(QUESTION | {"shrink": True}, small_model.picture(RED, 2000, 1000))
    ((_, (picture,)),) = zone.sent
    assert Image.open(io.BytesIO(picture)).size == (512, 256)


def test_a_picture_from_an_address_comes_along(zone, monkeypatch):
    monkeypatch.setattr(dropzone, "read_url", lambda url: small_model.picture(BLUE))
    answer, (picture,) = zone.answer(QUESTION | {"ask": "fetch", "url": "https://example.org/x"}, [])
    assert answer["answers"]["published/springfield"]["top"][0][0] == MARGE
    assert picture == small_model.picture(BLUE)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/x.png", "http://[::1]/", "file:///etc/passwd", "ftp://example.org/x", "", "x" * 10_000]
)
def test_a_refused_address_is_a_sentence(zone, url):
    with pytest.raises(UserError, match=r"[Aa]ddress|public"):
        zone.answer(QUESTION | {"ask": "fetch", "url": url}, [])


def test_a_slow_address_holds_up_no_picture_and_only_few_may_wait(zone, monkeypatch):
    go_on = threading.Event()
    monkeypatch.setattr(dropzone, "read_url", lambda url: go_on.wait() and small_model.picture(BLUE))
    for number in range(dropzone.MAX_WAITING_ADDRESSES + 1):
        zone.ask(QUESTION | {"id": number, "ask": "fetch", "url": "https://slow.example/"})
    zone.ask(QUESTION | {"id": 99}, small_model.picture(RED))
    (refused, _), (answer, _) = zone.sent
    assert refused["id"] == dropzone.MAX_WAITING_ADDRESSES and "Wait" in refused["problem"]
    assert answer["id"] == 99 and "answers" in answer
    go_on.set()
    zone._fetching.shutdown(wait=True)
    assert len(zone.sent) == 2 + dropzone.MAX_WAITING_ADDRESSES


@pytest.mark.parametrize(
    "change",
    [
        {"ask": "execute"},
        {"ask": None},
        {"ask": ["recognise"]},
        {"ask": "__init__"},
        {"networks": []},
        {"networks": None},
        {"networks": "published/springfield"},
        {"networks": ["published/springfield"] * 5},
        {"networks": [{}]},
        {"networks": ["../../etc"]},
        {"ask": "explain"},
        {"ask": "explain", "network": ["x"]},
        {"ask": "fetch"},
        {"ask": "fetch", "url": 5},
        {"ask": "fetch", "url": None},
    ],
)
def test_a_question_that_is_not_ours_is_a_sentence(zone, change):
    with pytest.raises(UserError, match="Load"):
        zone.answer(QUESTION | change, [memoryview(small_model.picture(RED))])


@pytest.mark.parametrize("buffers", [[], [b"a", b"b"]])
def test_one_picture_comes_with_a_question(zone, buffers):
    with pytest.raises(UserError, match="Load"):
        zone.answer(QUESTION, buffers)


@pytest.mark.parametrize(
    "question", [None, 5, "x", [], {}, {"id": "x"}, {"id": None}, {"id": [1]}, {"ask": "recognise"}]
)
def test_what_has_no_number_is_not_answered(zone, question):
    zone.ask(question)
    assert zone.sent == []


@pytest.mark.parametrize("contents", [b"", b"hello", b"\xff\xd8\xff", small_model.picture(RED)[:-30], bytes(1000)])
def test_what_is_no_picture_is_a_sentence(zone, contents):
    zone.ask(QUESTION, contents)
    ((answer, _),) = zone.sent
    assert re.search(r"picture|file", answer["problem"])


def test_a_fault_is_a_sentence_and_goes_to_the_log(zone, monkeypatch, caplog):
    monkeypatch.setattr(zone._networks, "recognise", lambda *_: 1 / 0)
    with caplog.at_level(logging.ERROR):
        zone.ask(QUESTION, small_model.picture(RED))
    ((answer, _),) = zone.sent
    assert answer == {"id": 7, "problem": dropzone.FAILED} and "ZeroDivisionError" in caplog.text


def test_without_a_network_the_page_says_how_to_get_one_and_looks_again(tmp_path):
    zone = Zone(page.Networks(tmp_path))
    assert "make train evaluate" in zone.about["problem"] and zone.about["networks"] == []
    write_runs(tmp_path)
    zone.ask({"id": 1, "ask": "look"})
    assert zone.about["problem"] == "" and len(zone.about["networks"]) == 3


def test_a_visitor_who_sets_the_state_deceives_only_themselves(zone):
    zone.set_state({"about": {"networks": [{"key": "../../etc"}]}})
    with pytest.raises(UserError):
        zone.answer(QUESTION | {"networks": ["../../etc"]}, [small_model.picture(RED)])
    assert zone.answer(QUESTION, [small_model.picture(RED)])


def test_the_output_says_what_the_page_shows_in_nothing_but_json(outputs):
    networks = page.Networks(outputs)
    drawn = dropzone.DropZone(networks, page.drawings(networks.first, 2, seed=0))
    data, _ = drawn._repr_mimebundle_()
    about = json.loads(json.dumps(data[dropzone.ABOUT]))
    assert about["networks"] == drawn.about["networks"]
    pictures_sent = [base64.b64decode(drawing["picture"]) for drawing in about["drawings"]]
    assert pictures_sent == [drawing["picture"] for drawing in drawn.about["drawings"]]
    assert "application/vnd.jupyter.widget-view+json" in data


# ---------------------------------------------------------------- the same without a page


def test_predict_ipynb_names_a_picture_file(outputs, tmp_path, capfd):
    (tmp_path / "blue.png").write_bytes(small_model.picture(BLUE))
    given = {"picture": str(tmp_path / "blue.png"), "run": run_of(outputs)}
    arguments = [part for name, value in given.items() for part in ("-p", name, value)]
    done = tmp_path / "done.ipynb"
    assert notebooks.main([str(paths.NOTEBOOKS / "predict.ipynb"), str(done), *arguments]) == 0
    outputs_shown = str([cell.get("outputs") for cell in nbformat.read(done, as_version=4).cells])
    assert MARGE in outputs_shown and "image/png" in outputs_shown
    assert "No address was given" in capfd.readouterr().out


# ---------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def chromium():
    if browser is None or browser.CHROMIUM is None:
        missing = "playwright is missing" if browser is None else "chromium is missing (apt-get install chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{missing}, and CI must not skip the tests in a browser")
        pytest.skip(missing)
    with browser.chromium() as started:
        yield started


@pytest.fixture(scope="module")
def server(chromium, outputs, tmp_path_factory):
    with browser.dashboard(
        tmp_path_factory.mktemp("server"), OUTPUTS=str(outputs), MODEL_DIR=run_of(outputs)
    ) as started:
        yield started


def run_of(outputs: Path) -> str:
    return str(outputs / "published" / "springfield")


@contextlib.contextmanager
def pages(chromium, default_address: str) -> Iterator[Callable[..., "browser.Visit"]]:
    """Open pages as new visitors; afterwards they must have shown no fault and asked no other host."""
    visits, contexts = [], []

    def open_one(address: str = default_address, **options) -> "browser.Visit":
        contexts.append(chromium.new_context(**({"viewport": browser.WIDE} | options)))
        # Nothing leaves the machine, whatever the page tries.
        contexts[-1].route(lambda url: not url.startswith(address), lambda route: route.abort())
        visits.append(browser.Visit(contexts[-1].new_page(), address))
        return visits[-1]

    yield open_one
    for visit in visits:
        elsewhere = [url for url in visit.requests if not url.startswith((visit.address, "blob:", "data:"))]
        assert elsewhere == [] and visit.faults == []
    for context in contexts:
        context.close()


@pytest.fixture
def open_page(chromium, server):
    with pages(chromium, server.address) as open_one:
        yield open_one


@pytest.fixture
def visit(open_page) -> "browser.Visit":
    return open_page()


@pytest.fixture(scope="module")
def same_visit(chromium, server) -> Iterator["browser.Visit"]:
    """A visit that goes on from test to test, where only the last picture matters."""
    with pages(chromium, server.address) as open_one:
        yield open_one()


@pytest.fixture
def early(chromium, server) -> Iterator[tuple["browser.Page", Callable[[], None]]]:
    """A page to which Voila's scripts have not come yet, and a function that lets them come."""
    context, held = chromium.new_context(), []
    page = context.new_page()
    page.route("**/voila.js", lambda route: held.append(route))
    page.goto(server.address, wait_until="commit")

    def let_come() -> None:
        page.wait_for_timeout(100)  # lets the request that is held arrive here
        held[0].continue_()
        browser.wait_for_the_kernel(page)

    yield page, let_come
    context.close()


def test_the_page_takes_a_picture_before_voilas_scripts_are_there(early):
    page, let_scripts_come = early
    page.locator("#choose").set_input_files(red_file())
    browser.expect(page.locator(".waiting")).to_be_visible()
    browser.expect(page.locator("#loading")).to_have_count(0)
    let_scripts_come()
    browser.expect(page.get_by_test_id("prediction")).to_have_text(HOMER)
    browser.expect(page.get_by_test_id("drop-zone")).to_have_count(1)


def test_a_slow_network_is_no_lost_connection(early):
    page, _ = early
    page.clock.install()
    page.locator("#choose").set_input_files(red_file())
    browser.expect(page.locator(".waiting")).to_be_visible()
    page.clock.fast_forward(60_000)
    browser.expect(page.locator(".waiting")).to_be_visible()
    browser.expect(page.get_by_test_id("error")).to_be_hidden()
    page.clock.fast_forward(180_000)
    browser.expect(page.get_by_test_id("error")).to_contain_text("has not loaded to its end")


def test_the_keyboard_stays_where_it_is_when_voilas_scripts_come(early):
    page, let_scripts_come = early
    address = page.locator("#address")
    address.fill("example")
    address.press("Home")
    let_scripts_come()
    page.keyboard.type("an ")
    browser.expect(address).to_have_value("an example")


def test_who_left_the_keyboard_is_not_brought_back_when_voilas_scripts_come(early):
    page, let_scripts_come = early
    page.locator("#address").click()
    page.locator(".call").click()
    let_scripts_come()
    assert page.evaluate("document.activeElement.tagName") == "BODY"


def file(contents: bytes, name: str = "picture.png", kind: str = "image/png") -> dict:
    return {"name": name, "mimeType": kind, "buffer": contents}


def red_file(name: str = "red.png") -> dict:
    return file(small_model.picture(RED), name)


def text_of(element) -> str:
    return re.sub(r"\s+", " ", element.inner_text())


def test_choosing_a_picture_names_the_character(visit):
    browser.expect(visit["prediction"]).to_have_count(0)
    visit.choose(red_file())
    browser.expect(visit["prediction"]).to_have_text(HOMER)
    shares = visit["probabilities"].get_by_role("listitem")
    assert [text_of(share) for share in shares.all()] == [
        f"{HOMER} >99%",
        f"{KRUSTY} <1%",
        f"{MARGE} <1%",
    ]
    browser.expect(visit.page.get_by_role("status")).to_have_text(f"{HOMER}, over 99%.")
    browser.expect(visit["error"]).to_be_hidden()


def test_dropping_a_picture_names_the_character(visit):
    visit.drop(red_file())
    browser.expect(visit["prediction"]).to_have_text(HOMER)
    browser.expect(visit.page.locator(".over")).to_have_count(0)


def test_pasting_a_picture_names_the_character(visit):
    visit.paste(red_file())
    browser.expect(visit["prediction"]).to_have_text(HOMER)


def test_a_drawing_can_be_tried(visit):
    visit["example"].first.click()
    browser.expect(visit["prediction"]).to_be_visible()
    browser.expect(visit["example"]).to_have_count(3)
    browser.expect(visit.shown).to_have_attribute("alt", re.compile("Drawing of"))


def test_several_pictures_at_once_are_all_named_and_the_first_is_shown(visit):
    colours = {"red.png": RED, "green.png": GREEN, "blue.png": BLUE}
    visit.drop(*[file(small_model.picture(colour), name) for name, colour in colours.items()], file(b"x", "notes.txt"))
    browser.expect(visit.thumbnails).to_have_text([MARGE, KRUSTY, HOMER])
    browser.expect(visit["prediction"]).to_have_text(HOMER)
    browser.expect(visit["error"]).to_contain_text("notes.txt: This is not a picture")
    browser.expect(visit.page.locator("#history-title")).to_have_text("This visit")  # and no longer how far it is


def test_only_so_many_at_once(visit):
    visit.drop(*[red_file(f"{number}.png") for number in range(25)])
    browser.expect(visit.thumbnails).to_have_count(20)
    browser.expect(visit["error"]).to_contain_text("Of 25 pictures only the first 20")


def test_the_history_leads_back(visit):
    for colour, name in ((RED, HOMER), (GREEN, KRUSTY)):
        visit.choose(file(small_model.picture(colour)))
        browser.expect(visit["prediction"]).to_have_text(name)
    visit.thumbnails.last.click()
    browser.expect(visit["prediction"]).to_have_text(HOMER)
    browser.expect(visit.thumbnails.last).to_have_attribute("aria-current", "true")


# ---------------------------------------------------------------- what pictures are like


def photo(width: int, height: int, form: str = "JPEG", **options) -> bytes:
    """Make a reddish picture that is red at the top, of so much noise that it is a large file."""
    noise = np.random.default_rng(0).integers(0, 120, (height, width, 3), np.uint8)
    noise[..., 0] += 120
    noise[: height // 5] = RED
    return encoded(noise, form, **options)


@pytest.mark.slow
def test_a_large_photo_is_shrunk_before_it_travels(same_visit, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(photo(5000, 3600, quality=97))
    assert (tmp_path / "photo.jpg").stat().st_size > 14_000_000
    same_visit.choose(tmp_path / "photo.jpg")
    browser.expect(same_visit["prediction"]).to_have_text(HOMER)
    assert same_visit.shown.evaluate("(image) => [image.naturalWidth, image.naturalHeight]") == [512, 369]
    assert max(same_visit.sent) < 400_000


@pytest.mark.parametrize("width", [300, 900])  # sent as it is; shrunk
def test_a_rotated_photo_is_shown_and_sent_upright(same_visit, width):
    lying = Image.fromarray(np.rot90(np.array(Image.open(io.BytesIO(photo(width * 2 // 3, width, "PNG"))))))
    exif = Image.Exif()
    exif[274] = 6  # Orientation: turn it clockwise to see it upright
    same_visit.choose(file(encoded(lying, "JPEG", exif=exif), "photo.jpg", "image/jpeg"))
    browser.expect(same_visit["prediction"]).to_have_text(HOMER)
    shown_width, shown_height = same_visit.shown.evaluate("(image) => [image.naturalWidth, image.naturalHeight]")
    assert shown_width < shown_height <= 512
    red, green, blue = same_visit.colour_at(0.5, 0.05)
    assert red > 200 and max(green, blue) < 60


@pytest.mark.parametrize("side", [100, 900])  # sent as it is; shrunk
def test_what_is_transparent_is_white(same_visit, side):
    hidden = Image.new("RGBA", (side, side), (*RED, 0))
    same_visit.choose(file(encoded(hidden)))
    browser.expect(same_visit["prediction"]).to_contain_text("I am not sure")  # white is as far from red as from blue
    if side > 512:
        assert min(same_visit.colour_at(0.5, 0.5)) > 250


def test_an_unsure_answer_is_said_in_words(same_visit):
    same_visit.choose(file(small_model.picture(YELLOW)))
    browser.expect(same_visit["prediction"]).to_contain_text("I am not sure")
    browser.expect(same_visit["prediction"]).to_contain_text("less than the 60%")
    browser.expect(same_visit.thumbnails.first).to_have_text("Not sure")


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
    ("contents", "kind", "sentence"),
    [
        (lambda: small_model.picture(RED, 300, 200, "JPEG")[:-200], "image/jpeg", "damaged or incomplete"),
        (lambda: photo(1200, 900)[:100_000], "image/jpeg", "damaged or incomplete"),
        (lambda: b"These are notes.", "image/jpeg", "not a picture"),
        (lambda: b"", "image/png", "empty"),
        (lambda: small_model.picture(RED, 8, 8), "image/png", "at least 16 a side"),
        (bomb, "image/png", "30000 × 30000 pixels, at most 50 million"),
        (lambda: bytes(13_000_000), "image/x-raw", "too large to send"),
    ],
    ids=["cut off", "cut off and large", "text", "empty", "tiny", "bomb", "unknown and large"],
)
def test_what_is_no_usable_picture_gets_a_sentence(same_visit, contents, kind, sentence):
    same_visit.choose(red_file())
    browser.expect(same_visit["prediction"]).to_have_text(HOMER)
    same_visit.choose(file(contents(), "file.jpg", kind))
    browser.expect(same_visit["error"]).to_contain_text(sentence)
    browser.expect(same_visit["prediction"]).to_have_count(0)  # an old answer does not stand under a new error


def test_after_an_error_the_next_picture_is_named(same_visit):
    same_visit.choose(file(b"notes"))
    browser.expect(same_visit["error"]).to_be_visible()
    same_visit.choose(red_file())
    browser.expect(same_visit["prediction"]).to_have_text(HOMER)
    browser.expect(same_visit["error"]).to_be_hidden()


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("http://127.0.0.1:22/x.jpg", "not on the public internet"),
        ("ftp://example.org/homer.jpg", "must begin with http"),
        ("nothing like an address", "address"),
    ],
)
def test_a_refused_address_says_why(same_visit, address, sentence):
    same_visit.read(address)
    browser.expect(same_visit["error"]).to_contain_text(sentence)


def test_a_dropped_link_is_read_as_an_address(same_visit):
    same_visit.drop(uri_list="http://127.0.0.1/x.jpg")
    browser.expect(same_visit["error"]).to_contain_text("not on the public internet")


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
    browser.expect(visit.page.get_by_role("status")).to_have_text(
        f"springfield: {KRUSTY}, over 99%. cnn4: {HOMER}, over 99%."
    )


def test_another_network_can_answer(visit):
    visit["network"].first.click()
    browser.expect(visit["network"].first).to_be_checked()  # somebody has to answer
    visit.choose(red_file())
    visit["network"].nth(1).check()
    visit["network"].first.uncheck()
    browser.expect(visit["prediction"]).to_have_text(KRUSTY)
    browser.expect(visit.page.get_by_role("article")).to_contain_text("cnn4")


def test_what_mattered_is_shown_and_hidden(same_visit):
    same_visit.choose(red_file())
    same_visit["explain"].click()
    browser.expect(same_visit["heat-map"]).to_be_visible()
    browser.expect(same_visit["explanation"]).to_contain_text(HOMER)
    same_visit["explain"].click()
    browser.expect(same_visit["heat-map"]).to_have_count(0)


# ---------------------------------------------------------------- corrections


def test_corrections_are_kept_in_the_page_and_can_be_downloaded(visit, tmp_path):
    visit.choose(file(small_model.picture(RED), '=HYPERLINK("x").png'))
    visit.page.get_by_role("button", name="Wrong?").click()
    assert visit.focused() == "truth"
    visit.page.get_by_label("Who is it really?").fill("@Bart, the real one")
    visit.page.keyboard.press("Enter")
    browser.expect(visit["correction"]).to_have_text("@Bart, the real one")
    with visit.page.expect_download() as download:
        visit.page.get_by_role("button", name="Download").click()
    download.value.save_as(tmp_path / "corrections.csv")
    with (tmp_path / "corrections.csv").open(newline="", encoding="utf-8") as table:
        header, row = csv.reader(table)
    assert header == ["picture", "network", "answer", "probability", "right name"]
    # The apostrophe keeps a spreadsheet from taking them for formulas.
    assert row == ['\'=HYPERLINK("x").png', "springfield", HOMER, "1.0000", "'@Bart, the real one"]


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
    assert {"address", "drawing-0"} <= set(reached)
    keyboard.press("Space")
    browser.expect(visit["heat-map"]).to_be_visible()
    assert visit.focused() == reached[-1]  # although the answer was drawn anew
    while visit.focused() != "network-1":
        keyboard.press("Tab")
    keyboard.press("Space")
    browser.expect(visit["prediction"]).to_have_text([HOMER, KRUSTY])
    assert visit.focused() == "network-1"


def test_on_a_phone_there_is_one_column_a_camera_and_the_answer_in_sight(open_page):
    visit = open_page(**browser.PHONE)
    assert visit.page.evaluate("document.documentElement.scrollWidth") == 390
    browser.expect(visit.page.get_by_text("Take a photo")).to_be_visible()
    assert visit.page.locator("#camera").get_attribute("capture") == "environment"
    for drawing in ("#drawing-0", "#drawing-1"):
        visit.page.locator(drawing).click()
        browser.expect(visit["prediction"]).to_be_visible()
        browser.expect(visit["prediction"]).to_be_in_viewport()
    visit["network"].nth(1).check()
    browser.expect(visit["prediction"]).to_have_count(2)
    assert visit.page.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize(("scheme", "is_dark"), [("light", False), ("dark", True)])
def test_the_page_is_light_or_dark_as_the_visitor_likes(open_page, scheme, is_dark):
    visit = open_page(color_scheme=scheme)
    ground = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    ink = visit["drop-zone"].evaluate("(zone) => getComputedStyle(zone).color")
    assert (sum(channels(ground)) < 200) is is_dark
    assert (sum(channels(ink)) > 500) is is_dark


def channels(colour: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", colour)[:3]]


def test_visitors_do_not_see_each_others_pictures(open_page):
    one, other = open_page(), open_page()
    one.choose(red_file())
    browser.expect(one["prediction"]).to_have_text(HOMER)
    other.choose(file(small_model.picture(GREEN)))
    browser.expect(other["prediction"]).to_have_text(KRUSTY)
    browser.expect(one.thumbnails).to_have_text(HOMER)
    browser.expect(other.thumbnails).to_have_text(KRUSTY)


@pytest.mark.parametrize("scheme", ["light", "dark"])
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
    browser.expect(visit["prediction"].first).to_contain_text("I am not sure")
    check("two that are not sure")
    assert faults == []


def test_the_page_says_what_it_knows_and_what_it_keeps(visit):
    about = text_of(visit.page.locator(".about"))
    assert f"{HOMER}, {KRUSTY}, {MARGE}." in about
    assert "3,210 test pictures" in about and "96.3%" in about and "nothing is stored" in about
    browser.expect(visit.page.get_by_role("heading", level=1)).to_be_visible()


# ---------------------------------------------------------------- servers of their own


def test_without_a_network_the_page_says_so_until_there_is_one(chromium, open_page, tmp_path):
    (tmp_path / "outputs").mkdir()
    with browser.dashboard(tmp_path, OUTPUTS=str(tmp_path / "outputs")) as server:
        visit = open_page(server.address)
        browser.expect(visit["error"]).to_contain_text("make train evaluate")
        browser.expect(visit.page.locator("#choose")).to_be_disabled()
        write_runs(tmp_path / "outputs")
        visit.page.get_by_role("button", name="Look again").click()
        browser.expect(visit["error"]).to_be_hidden()
        visit.choose(red_file())
        browser.expect(visit["prediction"]).to_have_text(HOMER)


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


def test_an_address_is_read_and_a_lost_connection_is_noticed(open_page, outputs, picture_on_the_web, tmp_path):
    # A page of the internet is not at hand, so this server's page may read one of this machine.
    book = nbformat.read(NOTEBOOK, as_version=4)
    allow = "dropzone.read_url = lambda url: fetch.read_picture(url, allow_private=True)"
    book.cells.insert(-1, nbformat.v4.new_code_cell(f"from lib.serving import fetch\n{allow}"))
    nbformat.write(book, tmp_path / "page.ipynb")
    arguments = ("--notebook", str(tmp_path / "page.ipynb"))
    with browser.dashboard(tmp_path, *arguments, OUTPUTS=str(outputs), MODEL_DIR=run_of(outputs)) as server:
        visit = open_page(server.address)
        visit.read(picture_on_the_web)
        browser.expect(visit["prediction"]).to_have_text(MARGE)
        browser.expect(visit.thumbnails).to_have_count(1)
        visit["network"].nth(1).check()
        browser.expect(visit["prediction"]).to_have_text([MARGE, MARGE])

        server.stop()
        browser.expect(visit["connection"]).to_contain_text("lost")
        server.start()
        browser.expect(visit["connection"]).to_contain_text("Load the page again")
        visit.page.get_by_role("link", name="Load the page again").click()
        browser.expect(visit["drop-zone"]).to_be_visible()
        browser.expect(visit["connection"]).to_be_hidden()
        visit.choose(red_file())
        browser.expect(visit["prediction"]).to_have_text(HOMER)
        visit.faults.clear()  # that nobody answered while the server was stopped
