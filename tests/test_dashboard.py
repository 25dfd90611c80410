"""The page's Python: what networks are there, what the widget answers, and the same without a page."""

import io
import logging
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

from lib import notebooks, paths
from lib.drawing import sample
from lib.drawing.figures import FEATURES
from lib.errors import UserError
from lib.inference import recogniser
from lib.serving import fetch, page, widget
from tests import small_model

NOTEBOOK = paths.NOTEBOOKS / "dashboard.ipynb"
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
YELLOW = (255, 255, 0)  # as near to red as to green
HOMER, KRUSTY, MARGE = "Homer Simpson", "Krusty the Clown", "Marge Simpson"
# The colours of its characters are exchanged, so that it answers otherwise.
EXCHANGED = ("krusty_the_clown", "homer_simpson", "marge_simpson")
FRAMES = "the-simpsons-characters-dataset-no-kaggle-test"
SPRINGFIELD = {"accuracy": 0.9633, "macro_f1": 0.9604, "test_pictures": 3210, "threshold": 0.6}


def encoded(picture: np.ndarray | Image.Image, form: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    picture.save(file, form, **options)
    return file.getvalue()


def write_runs(outputs: Path) -> Path:
    """Write three runs: `springfield` comes first, `cnn4` exchanges two colours, `bare` was never evaluated."""
    facts = {"num_parameters": 1_912_345, "data_name": FRAMES}
    calibrated = {"temperature": 0.7, "threshold": 0.6}
    small_model.write_run(outputs / "published" / "springfield", run=facts, metrics=SPRINGFIELD, metadata=calibrated)
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


def test_the_page_knows_on_what_a_network_was_tested(networks):
    springfield, cnn4, bare = networks.about()["networks"]
    assert springfield["name"] == "springfield" and springfield["characters"][1] == ("krusty_the_clown", KRUSTY)
    assert springfield["tested"] == {"accuracy": 0.9633, "pictures": 3210, "kind": "frames"}
    assert cnn4["tested"] == {"accuracy": 0.874, "pictures": None, "kind": "drawings"}
    assert bare["tested"]["accuracy"] is None and (bare["threshold"], bare["declines"]) == (0.5, False)
    assert (springfield["calibrated"], springfield["declines"], bare["calibrated"]) == (True, False, False)


@pytest.mark.parametrize(
    ("refit", "pictures"),
    [({"scores": {"accuracy": 0.98, "test_pictures": 990}}, 990), ({}, 3210), ({"scores": None}, 3210)],
)
def test_a_network_that_was_trained_once_more_shows_its_own_scores(tmp_path, refit, pictures):
    small_model.write_run(tmp_path / "kaggle" / "one", run={"refit": refit}, metrics=SPRINGFIELD)
    (facts,) = page.Networks(tmp_path).about()["networks"]
    assert facts["tested"]["pictures"] == pictures


def test_a_network_of_other_characters_is_not_said_to_know_the_series(tmp_path):
    small_model.write_run(tmp_path / "own" / "cats", ("tom", "felix"))
    about = page.Networks(tmp_path).about()
    assert about["subject"] == "characters" and "one of your own" in about["links"][0]["words"]


@pytest.mark.parametrize(
    ("folder", "metrics", "kind"),
    [
        ("kaggle-no-kaggle-test", {}, "frames"),
        ("the-simpsons-characters-dataset-random-corrected", {}, "frames"),
        ("mine", {"kaggle_test": {}}, "frames"),
        ("published", {}, "pictures"),
        ("my-simpsons-toys", {}, "pictures"),
        ("samples-of-cats", {}, "pictures"),
        ("sample-538645", {}, "pictures"),
        ("sample-64px", {}, "drawings"),
    ],
)
def test_the_licence_is_that_of_the_pictures_and_not_of_a_folder(tmp_path, folder, metrics, kind):
    small_model.write_run(tmp_path / folder / "one", metrics=metrics)
    about = page.Networks(tmp_path).about()
    assert about["networks"][0]["tested"]["kind"] == kind
    assert ("CC BY-NC-SA" in about["links"][0]["words"]) == (kind == "frames")


def test_a_damaged_default_network_is_told_once(tmp_path, caplog):
    (small_model.write_run(tmp_path / "published" / "best") / "model.tflite").write_bytes(b"damaged")
    (tmp_path / "published" / "default.json").write_text('{"run": "best"}')
    small_model.write_run(tmp_path / "sample" / "cnn4")
    networks = page.Networks(tmp_path)
    networks.look()
    assert networks.keys == ["sample/cnn4"]
    assert [message.count("published/best") for message in caplog.messages] == [1]


def test_runs_of_the_same_name_are_told_apart(tmp_path):
    for data in ("kaggle", "sample"):
        small_model.write_run(tmp_path / data / "cnn4")
    assert [facts["name"] for facts in page.Networks(tmp_path).about()["networks"]] == ["kaggle/cnn4", "sample/cnn4"]


def test_each_network_gives_its_own_answer(networks):
    answers = networks.recognise(small_model.picture(RED), ["published/springfield", "sample/cnn4"])
    assert [(answer["name"], answer["known"]) for answer in answers.values()] == [(HOMER, True), (KRUSTY, True)]


def test_below_the_threshold_nobody_is_named(networks):
    answer = networks.recognise(small_model.picture(YELLOW), ["published/springfield"])["published/springfield"]
    assert (answer["known"], answer["character"], answer["name"]) == (False, None, None)
    assert answer["probability"] == pytest.approx(0.5, abs=0.01) and answer["closest"] == "homer_simpson"


def test_a_network_that_is_damaged_meanwhile_names_no_folder(tmp_path, caplog):
    networks = page.Networks(write_runs(tmp_path / "outputs"))
    (tmp_path / "outputs" / "sample" / "cnn4" / "model.tflite").write_bytes(b"damaged")
    answers = networks.recognise(small_model.picture(RED), ["published/springfield", "sample/cnn4"])
    assert answers["published/springfield"]["name"] == HOMER
    assert "Choose another" in answers["sample/cnn4"]["problem"] and str(tmp_path) not in str(answers)
    assert str(tmp_path) in caplog.text


def train_again(run: Path, characters: tuple[str, ...]) -> None:
    """Replace the network of a run, as a training does."""
    later = (run / "model.tflite").stat().st_mtime_ns + 10**9  # two writes may be one tick of the clock apart
    (run / "model.tflite").write_bytes(small_model.model(characters, metadata={"run": run.name}))
    os.utime(run / "model.tflite", ns=(later, later))


def test_a_network_that_is_trained_again_answers_on_an_open_page(tmp_path):
    run = small_model.write_run(tmp_path / "sample" / "one")
    zone = Zone(page.Networks(tmp_path))
    question, red = QUESTION | {"networks": ["sample/one"]}, [small_model.picture(RED)]
    assert zone.answer(question, red)[0]["answers"]["sample/one"]["name"] == HOMER
    train_again(run, ("lisa_simpson", "marge_simpson", "homer_simpson"))
    assert zone.answer(question, red)[0]["answers"]["sample/one"]["name"] == "Lisa Simpson"
    assert "lisa_simpson" in dict(zone.about["networks"][0]["characters"])  # and the page knows whom it knows


def test_while_a_network_cannot_be_loaded_the_one_from_before_answers(tmp_path):
    run = small_model.write_run(tmp_path / "sample" / "one")
    networks = page.Networks(tmp_path)
    before = networks.answering()
    (run / "model.tflite").write_bytes(b"half of it")
    assert networks.answering() is before
    train_again(run, EXCHANGED)
    assert networks.answering().characters == list(EXCHANGED)


def test_another_network_is_looked_for_now_and_then(tmp_path, monkeypatch):
    networks = page.Networks(tmp_path)
    with pytest.raises(UserError, match="make train"):
        networks.answering()
    small_model.write_run(tmp_path / "sample" / "one", metrics={"macro_f1": 0.8})
    assert networks.answering().name == "one"  # at once, while there was none
    small_model.write_run(tmp_path / "sample" / "two", metrics={"macro_f1": 0.9})
    assert networks.answering().name == "one"
    monkeypatch.setattr(page, "LOOK_SECONDS", -1.0)
    assert networks.answering().name == "two"


def test_the_owner_is_told_why_no_network_answers(tmp_path):
    run = small_model.write_run(tmp_path / "sample" / "one")
    (run / "model.tflite").write_bytes(b"damaged")
    networks = page.Networks(tmp_path)
    with pytest.raises(UserError, match="one is damaged"):
        networks.answering()
    assert str(tmp_path) not in networks.about()["problem"]


def test_what_mattered_comes_as_an_overlay_for_the_picture(networks):
    striped = np.full((40, 80, 3), 127, np.uint8)
    striped[:, 72:] = RED
    facts, veil = networks.explain(encoded(striped), "published/springfield")
    darkness = np.array(Image.open(io.BytesIO(veil)))[..., 3]
    assert facts["name"] == HOMER and facts["after"] < facts["before"]
    assert darkness[:, -1].mean() < darkness[:, 0].mean()


def test_drawings_follow_from_the_seed_and_show_known_characters(networks):
    drawings = page.drawings(networks.first, 8, seed=3)
    assert sorted(drawing["name"] for drawing in drawings) == [HOMER, KRUSTY, MARGE]
    assert drawings == page.drawings(networks.first, 8, seed=3) != page.drawings(networks.first, 8, seed=4)
    assert Image.open(io.BytesIO(drawings[0]["picture"])).size == (page.DRAWING_SIDE, page.DRAWING_SIDE)


def test_the_drawing_that_is_named_best_and_outlined_largest_comes_first(networks):
    published = recogniser.Recogniser.load(paths.PUBLISHED / "springfield")
    for network in (networks.first, published):
        places = []
        for drawing in page.drawings(network, 8, seed=0):
            answer = network.predict(drawing["picture"])
            given = {guess.name: guess.probability for guess in answer.all}
            boxes = [found.box for found in answer.found if found.name == drawing["name"] and found.box]
            places.append((round(given[drawing["name"]], 1), sum((b[2] - b[0]) * (b[3] - b[1]) for b in boxes)))
        assert places == sorted(places, reverse=True)
        assert len(places) == 3 if network is networks.first else len(set(places)) == 8


def test_without_a_network_there_are_drawings_all_the_same():
    assert len(page.drawings(None, None, seed=0)) == len(FEATURES)
    assert len(page.drawings(None, 5, seed=0)) == 5


def test_no_drawing_is_a_picture_of_the_sample(tmp_path):
    sample.draw_sample(tmp_path, pictures_per_character=1)  # the first of each; later ones have seeds of three numbers
    for drawing in page.drawings(None, None, seed=0):
        for path in (tmp_path / drawing["character"]).glob("*"):
            picture, drawn = (Image.open(file) for file in (path, io.BytesIO(drawing["picture"])))
            left, top = ((length - min(picture.size)) // 2 for length in picture.size)
            square = picture.crop((left, top, left + min(picture.size), top + min(picture.size))).resize(drawn.size)
            difference = np.asarray(square.convert("RGB"), float) - np.asarray(drawn, float)
            assert np.abs(difference).mean() > 10


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


class Zone(widget.Widget):
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
    assert answer["id"] == 7 and answer["answers"]["published/springfield"]["name"] == HOMER and attached == []


def test_a_picture_from_an_address_comes_along(zone, monkeypatch):
    monkeypatch.setattr(fetch, "read_picture", lambda url: small_model.picture(BLUE))
    assert zone.answer({"id": 1, "ask": "fetch", "url": "https://example.org/x"}, []) == (
        {},
        [small_model.picture(BLUE)],
    )


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/x.png", "http://[::1]/", "file:///etc/passwd", "ftp://example.org/x", "", "x" * 10_000]
)
def test_a_refused_address_is_a_sentence(zone, url):
    with pytest.raises(UserError, match=r"[Aa]ddress|public"):
        zone.answer(QUESTION | {"ask": "fetch", "url": url}, [])


def test_a_slow_address_holds_up_no_picture(zone, monkeypatch):
    go_on = threading.Event()
    monkeypatch.setattr(fetch, "read_picture", lambda url: go_on.wait() and small_model.picture(BLUE))
    zone.ask(QUESTION | {"id": 98, "ask": "fetch", "url": "https://slow.example/"})
    zone.ask(QUESTION | {"id": 99}, small_model.picture(RED))
    ((answer, _),) = zone.sent
    assert answer["id"] == 99 and "answers" in answer
    go_on.set()
    zone._fetching.shutdown(wait=True)
    assert len(zone.sent) == 2


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
    assert answer == {"id": 7, "problem": widget.FAILED} and "ZeroDivisionError" in caplog.text


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


def test_modules_come_after_those_that_they_need():
    names = list(widget.modules("kernel.js"))
    assert names[-1] == "kernel.js" and names.index("dom.js") < names.index("answer_view.js") < names.index("page.js")
    assert not {"site.js", "recogniser.js", "worker.js"} & set(names)


# ---------------------------------------------------------------- the same without a page


def test_predict_ipynb_names_a_picture_file(outputs, tmp_path, capfd):
    (tmp_path / "blue.png").write_bytes(small_model.picture(BLUE))
    given = {"picture": str(tmp_path / "blue.png"), "run": str(outputs / "published" / "springfield")}
    done = tmp_path / "done.ipynb"
    notebooks.run(paths.NOTEBOOKS / "predict.ipynb", done, given)
    outputs_shown = str([cell.get("outputs") for cell in nbformat.read(done, as_version=4).cells])
    assert MARGE in outputs_shown and "image/png" in outputs_shown
    assert "No address was given" in capfd.readouterr().out
