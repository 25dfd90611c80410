"""The label review and the explorer, in a real browser: keys, undo, kill and resume, merge, click to picture."""

import contextlib
import dataclasses
import shutil
import sys
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest

from lib import paths, records
from lib.data import corrections, dataset, folds
from lib.errors import UserError
from lib.evaluation import metrics
from lib.pipeline import commands
from lib.pipeline.plan import make_plan
from lib.study import explore, review, serve
from tests import small_model
from tests.noise_pictures import brighter, noise, prepare, write, write_two_characters
from tests.running_server import until
from tests.served_notebook import notebook_of, served

try:
    from tests import browser
except ImportError:  # playwright is for those who develop
    browser = None

needs_browser = pytest.mark.skipif(not browser or not browser.CHROMIUM, reason="there is no playwright or no chromium")
LISA = "Lisa"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """A folder with pictures of bart and lisa, prepared, answered out of fold, with two evaluated runs."""
    folder = tmp_path_factory.mktemp("study")
    raw = write_two_characters(folder / "raw")
    write(raw / "lisa" / "90.png", brighter(noise(0)))  # a near-duplicate of bart/00
    prepare(raw, folder / "processed", picture_size=16)
    data = dataset.load(folder / "processed")
    for number in range(folds.FOLDS):
        rows = folds.fold(data, number).rows("test")
        probabilities = np.full((len(rows), 2), 0.1, np.float32)
        probabilities[np.arange(len(rows)), data.labels[rows]] = 0.9
        wrong = np.isin(rows, [3, 21])  # bart/03 and lisa/01 look like the other
        probabilities[wrong] = probabilities[wrong, ::-1]
        folds.write(folds.answers_file(folder / "review", data, number), rows, probabilities)
    test = data.table[data.table.split == "test"]
    for run, errors in (("one", [0]), ("two", [0, 1])):
        small_model.write_run(
            folder / "outputs" / "tiny" / run, ("bart", "lisa"), run={"manifest_sha256": data.manifest_sha256}
        )
        answers = np.eye(2)[data.labels[data.rows("test")]] * 0.8 + 0.1
        answers[errors] = answers[errors, ::-1]
        table = metrics.predictions_table(
            metrics.Predictions(test.path, data.labels[data.rows("test")], answers, data.characters)
        )
        records.write_csv(folder / "outputs" / "tiny" / run / records.PREDICTIONS, table)
    return folder


@pytest.fixture
def opened(pictures, tmp_path):
    """A function that opens the review as somebody."""

    def open_as(who="ann", file=None):
        return review.Review(
            pictures / "raw", pictures / "processed", pictures / "review", file or tmp_path / "corrections.csv", who
        )

    return open_as


@pytest.fixture
def explorer(pictures):
    return explore.Explorer(pictures / "outputs" / "tiny", pictures / "raw", pictures / "processed")


@pytest.mark.parametrize("port", ["0", "-1", "65536", "88 66", "²", "9" * 5000])
def test_a_port_that_is_none_is_a_mistake(port, tmp_path):
    with pytest.raises(UserError, match="PORT must be a number from 1 to 65535, not"):
        serve.page(tmp_path / "any.ipynb", port, {})


def test_a_page_gives_no_file_answers_to_no_other_name_and_ends_with_the_command_that_serves_it(tmp_path):
    caller = (sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "public").mkdir()

    def is_gone(address):
        with contextlib.suppress(httpx.TransportError):
            httpx.get(address)
            return False
        return True

    with served(notebook_of(tmp_path, "1"), tmp_path, *caller) as (process, address):
        for path in ("public/../secret.txt", "public/..%2fsecret.txt", "secret.txt"):
            request = httpx.Request("GET", f"{address}voila/files/{path}")
            request.url = request.url.copy_with(raw_path=f"/voila/files/{path}".encode())
            with httpx.Client() as client:
                assert client.send(request).status_code in (403, 404), path
        assert httpx.get(address, headers={"Host": "evil.example"}).status_code == 403
        process.kill()
        until(lambda: is_gone(f"{address}voila/static/none"))


# ---------------------------------------------------------------- review


def test_the_lists_hold_what_speaks_against_a_label(opened):
    session = opened()
    paths_of = {name: set(session.table.path[rows]) for name, rows in session.lists.items()}
    assert paths_of["suspects"] == {"bart/03.png", "lisa/01.png"}
    assert paths_of["contradicting"] == {"bart/00.png", "lisa/90.png"}
    assert len(set(session.lists["random"])) == 41  # fewer than 300: all frames that have a split
    assert (session.lists["random"] == opened().lists["random"]).all()


def test_a_verdict_is_in_the_file_at_once_and_undo_takes_it_back_after_a_restart(opened, tmp_path):
    opened().decide("bart/03.png", "relabel", "lisa")
    found = corrections.read(tmp_path / "corrections.csv").iloc[0]
    assert (found.path, found.label, found.verdict, found.who) == ("bart/03.png", "lisa", "relabel", "ann")
    assert opened("bob").undo() == ""  # bob has decided on nothing
    assert opened().undo() == "bart/03.png"
    assert corrections.read(tmp_path / "corrections.csv").empty


def test_undo_leaves_the_verdict_on_a_picture_of_another_source(opened, tmp_path):
    other = pd.DataFrame([("bart/03.png", "0", "bart", "keep", "ann", "2999")], columns=list(corrections.COLUMNS))
    corrections.update(tmp_path / "corrections.csv", other)
    assert opened().undo() == "" and opened().verdicts([3]).verdict.tolist() == [""]
    opened().decide("bart/03.png", "exclude")
    assert opened().undo() == "bart/03.png"
    assert corrections.read(tmp_path / "corrections.csv").verdict.tolist() == ["keep"]


def test_a_verdict_without_a_digest_is_shown_and_replaced(opened, tmp_path):
    by_hand = pd.DataFrame([("bart/03.png", "", "lisa", "relabel", "bob", "2999")], columns=list(corrections.COLUMNS))
    corrections.update(tmp_path / "corrections.csv", by_hand)
    session = opened()
    assert session.verdicts([3]).verdict.tolist() == ["relabel"]
    session.decide("bart/03.png", "keep")
    assert corrections.read(tmp_path / "corrections.csv").verdict.tolist() == ["keep"]
    session.undo()
    assert opened().verdicts([3]).verdict.tolist() == ["relabel"]


def test_undo_brings_back_the_verdict_before(opened):
    session = opened()
    session.decide("bart/03.png", "exclude")
    session.decide("bart/03.png", "keep")
    session.undo()
    assert session.corrections.verdict.tolist() == ["exclude"]


def test_the_last_verdict_counts_though_the_clock_was_put_back(opened, monkeypatch):
    session = opened()
    session.decide("bart/03.png", "exclude")
    monkeypatch.setattr(records, "now", lambda: "2001-01-01T00:00:00+00:00")
    session.decide("bart/03.png", "keep")
    assert session.corrections.verdict.tolist() == ["keep"]


def test_the_file_of_another_person_is_merged(opened, tmp_path):
    other, mine = opened("bob", tmp_path / "bob.csv"), opened()
    other.decide("lisa/01.png", "relabel", "bart")
    mine.decide("bart/03.png", "keep")
    assert mine.merge((tmp_path / "bob.csv").read_text(), "bob.csv") == 1
    assert corrections.read(tmp_path / "corrections.csv").who.tolist() == ["ann", "bob"]


@pytest.mark.parametrize("name", ["processed/near_duplicates.npy", "review/answers-*.npz"])
def test_a_damaged_file_of_the_review_is_named(name, pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "copy")
    path = next((tmp_path / "copy").glob(name))
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 1
    path.write_bytes(contents)
    with pytest.raises(UserError, match=f"{path.name} is damaged.*Delete"):
        review.Review(*(tmp_path / "copy" / part for part in ("raw", "processed", "review")), tmp_path / "c.csv", "ann")


def test_the_conclusion_gives_the_share_of_wrong_labels(opened):
    session = opened()
    assert "No picture of the random sample" in session.conclusion()
    session.decide("bart/03.png", "relabel", "lisa")
    session.decide("bart/04.png", "keep")
    assert "2 of 41 random pictures reviewed: 50.0 % of the labels are wrong" in session.conclusion()


def test_the_share_of_wrong_labels_is_the_same_where_they_were_corrected(tmp_path):
    raw, file = write_two_characters(tmp_path / "raw"), tmp_path / "corrections.csv"
    prepare(raw, tmp_path / "before", picture_size=16)
    session = review.Review(raw, tmp_path / "before", tmp_path / "answers", file, "ann")
    for number in range(20):
        session.decide(f"bart/{number:02}.png", "exclude" if number < 10 else "keep")
        session.decide(f"lisa/{number:02}.png", "keep")
    prepare(raw, tmp_path / "after", picture_size=16, corrected=corrections.read(file))
    again = review.Review(raw, tmp_path / "after", tmp_path / "answers", file, "ann")
    assert again.conclusion() == session.conclusion()
    assert "40 of 40 random pictures reviewed: 25.0 % of the labels are wrong" in again.conclusion()


def test_the_random_sample_is_the_same_where_labels_were_corrected(tmp_path):
    raw, file = write_two_characters(tmp_path / "raw"), tmp_path / "corrections.csv"
    for number in range(3):
        write(raw / "maggie" / f"{number:02}.png", noise(500 + number))
    samples = []
    for name, label in (("before", ""), ("after", "bart")):
        if label:  # a picture of a character with too few becomes one of bart, and one of bart is excluded
            rows = [("maggie/00.png", "", label, "relabel"), ("bart/01.png", "", "", "exclude")]
            rows = pd.DataFrame([(*row, "ann", "2026") for row in rows], columns=list(corrections.COLUMNS))
            corrections.update(file, rows)
        prepare(raw, tmp_path / name, picture_size=16, corrected=corrections.read(file) if label else None)
        session = review.Review(raw, tmp_path / name, tmp_path / "answers", file, "ann", size=10)
        samples.append(session.table.path[session.lists["random"]].tolist())
    assert samples[0] == samples[1] and len(samples[0]) == 10


def test_a_picture_that_is_gone_is_shown_as_it_was_prepared(pictures, tmp_path):
    places = (tmp_path / "none", pictures / "processed", pictures / "review", tmp_path / "corrections.csv")
    _, shown = review.Review(*places, "ann")._card({"list": "random"})
    assert shown[0].startswith(b"\xff\xd8")


# ---------------------------------------------------------------- explore


def test_the_matrix_counts_the_answers_and_a_cell_holds_its_pictures(explorer):
    answer, _ = explorer.matrix({"view": {"run": "one", "split": "test"}})
    assert answer["wrong"] == 1
    counts = np.array(answer["counts"])
    actual, predicted = (explorer.characters[label] for label in np.argwhere(counts - np.diag(np.diag(counts)))[0])
    cell, sheet = explorer.cell({"view": answer["view"], "actual": actual, "predicted": predicted})
    assert (cell["rows"], cell["total"], len(sheet)) == ([0], 1, 1)


def test_a_run_that_there_is_not_is_told_before_a_page_is_served(pictures, monkeypatch):
    monkeypatch.setattr(paths, "PROCESSED", pictures)
    monkeypatch.setattr(serve, "page", lambda *_: pytest.fail("the mistake comes too late"))
    monkeypatch.setenv("RUN", "three")
    plan = dataclasses.replace(make_plan({}), data_name="processed", outputs=str(pictures / "outputs"))
    with pytest.raises(UserError, match=r"No run in .* is evaluated"):
        commands.explore(plan)
    (pictures / "outputs" / "processed").symlink_to(pictures / "outputs" / "tiny")
    with pytest.raises(UserError, match=r"There is no run .three. on these pictures\. Known: one, two"):
        commands.explore(plan)


def test_filters_choose_pictures(explorer):
    def number(**view):
        return explorer.matrix({"view": view})[0]["total"]

    every = number()
    assert every == len(explorer.data.rows("test"))
    assert number(other="two") == 1
    assert number(low=0.95) == 0
    assert 0 < number(character="bart") < every


def test_answers_for_another_split_are_computed(explorer):
    assert explorer.matrix({"view": {"split": "validation"}})[0]["total"] == len(explorer.data.rows("validation"))


# ---------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as running:
        yield running


def _places(folder, *names):
    """Write paths as the source of arguments."""
    return ", ".join(repr(str(folder / name)) for name in names)


@needs_browser
@pytest.mark.slow
def test_the_review_in_a_browser_keeps_every_verdict(pictures, tmp_path, chromium):
    file = tmp_path / "corrections.csv"
    arguments = _places(pictures, "raw", "processed", "review")
    notebook = notebook_of(
        tmp_path,
        "from pathlib import Path",
        "from lib.study import review",
        f"session = review.Review(*map(Path, [{arguments}]), Path({str(file)!r}), 'ann')",
        "session.widget()",
    )

    def verdicts():
        return corrections.read(file).set_index("path").verdict.to_dict()

    def open_page(address):
        page = chromium.new_page()
        page.goto(address)
        browser.expect(page.get_by_test_id("place")).to_be_visible()
        return page

    with served(notebook, tmp_path) as (process, address):
        page = open_page(address)
        page.get_by_test_id("list-suspects").click()
        browser.expect(page.get_by_test_id("place")).to_have_text("1 of 2")
        first = page.get_by_test_id("path").text_content()
        page.keyboard.press("1")  # the network's first answer, the other character
        browser.expect(page.get_by_test_id("place")).to_have_text("2 of 2")
        assert verdicts() == {first: "relabel"}
        page.get_by_test_id("exclude").click()
        until(lambda: len(verdicts()) == 2)
        browser.expect(page.get_by_test_id("verdict")).to_contain_text("exclude")
        page.keyboard.press("u")
        browser.expect(page.get_by_test_id("status")).to_contain_text("Taken back")
        assert verdicts() == {first: "relabel"}
        page.get_by_test_id("character").select_option(label=LISA)
        browser.expect(page.get_by_test_id("label")).to_have_text(LISA)
        process.kill()  # nothing is written at the end, so nothing can be lost
    other = tmp_path / "bob.csv"
    row = ("bart/05.png", "", "", "exclude", "bob", records.now())
    corrections.update(other, pd.DataFrame([row], columns=list(corrections.COLUMNS)))
    with served(notebook, tmp_path) as (_, address):
        page = open_page(address)
        browser.expect(page.get_by_test_id("list-suspects")).to_contain_text("1/2")
        other_kind = tmp_path / "notes.csv"
        other_kind.write_text("a,b\n1,2\n")
        page.get_by_test_id("merge").set_input_files(other_kind)
        browser.expect(page.get_by_test_id("status")).to_contain_text("notes.csv is no table of corrections")
        picture = page.locator("img.large")
        assert picture.evaluate("async (img) => { await img.decode(); return img.naturalWidth; }")  # still shown
        page.get_by_test_id("merge").set_input_files(other)
        browser.expect(page.get_by_test_id("status")).to_contain_text("1 rows of bob.csv merged")
        assert verdicts() == {first: "relabel", "bart/05.png": "exclude"}


@needs_browser
@pytest.mark.slow
def test_a_click_leads_from_a_cell_to_a_picture_and_all_about_it(pictures, tmp_path, chromium):
    arguments = _places(pictures, "outputs/tiny", "raw", "processed")
    notebook = notebook_of(
        tmp_path,
        "from pathlib import Path",
        "from lib.study import explore",
        f"explore.Explorer(*map(Path, [{arguments}])).widget()",
    )
    with served(notebook, tmp_path) as (_, address):
        page = chromium.new_page()
        page.goto(address)
        page.get_by_test_id("wrong-cell").click()
        browser.expect(page.get_by_test_id("picture")).to_have_count(1)
        page.keyboard.press("Enter")  # the first picture has the focus
        browser.expect(page.get_by_test_id("probabilities")).to_contain_text("90 %")
        browser.expect(page.get_by_test_id("others")).to_contain_text("two says")
        browser.expect(page.get_by_test_id("map")).to_be_visible()
        page.get_by_test_id("other").select_option("two")
        browser.expect(page.get_by_test_id("status")).to_contain_text("of 1 answers")
        page.get_by_test_id("other").select_option("")
        browser.expect(page.get_by_test_id("status")).not_to_contain_text("of 1 answers")
        page.get_by_test_id("right-cell").first.focus()
        page.keyboard.press("ArrowRight")
        assert page.evaluate("document.activeElement.dataset.column") == "1"
