"""The records of a run folder: atomic writes, reads with clear errors, provenance.

`run.json` is the product of training and `metrics.json` that of evaluation; each is written last, so a folder
that holds it is finished.
"""

import collections
import contextlib
import datetime
import hashlib
import json
import math
import os
import platform
import re
import secrets
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lib import machine, paths
from lib.errors import UserError

if TYPE_CHECKING:  # pandas takes longer to import than everything else here
    import pandas as pd

FORMAT_VERSION = 2
READABLE_VERSIONS = (1, 2)

# The files of a run folder.
RECIPE = "recipe.json"  # that was asked for
RUN_RECORD = "run.json"
HISTORY = "history.csv"
KERAS_MODEL = "model.keras"
LITERT_MODEL = "model.tflite"
MODEL_METADATA = "metadata.json"  # inside the LiteRT file
METRICS_RECORD = "metrics.json"
PREDICTIONS = "predictions.csv"
PER_CHARACTER = "per_character.csv"
CONFUSION = "confusion.csv"
ROBUSTNESS = "robustness.csv"
BASELINES = "baselines.csv"
UNKNOWN = "unknown.csv"
PRETRAINED = "pretrained.csv"
BESIDE_RUNS = (BASELINES, UNKNOWN, PRETRAINED)  # tables beside the folders of runs
FIGURES = "figures"
MODEL_CARD = "MODEL_CARD.md"
STRANGERS = "strangers.json"
SCORES = (METRICS_RECORD, ROBUSTNESS, STRANGERS)  # of one training
# What else its evaluation left: tables, and the executed notebooks.
BESIDE_SCORES = (PREDICTIONS, PER_CHARACTER, CONFUSION, "evaluate.ipynb", "robustness.ipynb")
REFIT = "refit"  # folder in that of a run: the same network, trained once more on all frames
TRAINING_STATE = "state.npz"  # of a training that is not finished

DEFAULT = "default.json"  # beside the published runs: which of them is used where none is named
INPUTS = "inputs.json"  # what make made the products from

STARTED_BY_MAKE = "STUDY_STARTED_BY_MAKE"  # in the environment of a notebook

# Format 1 spelt some keys otherwise. The published records keep their spelling on disk; readers see today's.
RENAMED_KEYS = {
    "fit": "resize_mode",
    "colour": "colour_jitter",
    "cutout": "random_erasing",
    "backdrop": "background_swap",
    "placement": "shrink_and_paste",
    "degrade": "quality_jitter",
    "restyle": "style_jitter",
    "drawings": "drawings_per_character",
    "small_share": "progressive_fraction",
    "small_size": "progressive_size",
    "second_look": "flip_tta_threshold",
    "near_copies_in_train": "near_duplicates_in_train",
    "accuracy_of_near_copies": "accuracy_of_near_duplicates",
}
# Parameters of the training notebook in format 1 that were no part of the recipe.
NOT_IN_RECIPE = ("data_name", "run", "outputs")

REPORTED_PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy", "opencv-python-headless", "pillow")
FORMULA = re.compile(r"\s*[=+@-]")  # as the page has it
MAX_DOCUMENT_BYTES = 10_000_000  # of a JSON file; the largest record has 0.1 MB
MAX_YAML_LETTERS = 100_000  # a second's work; the largest table has 9,000
TOO_DEEP = "it is nested too deeply"
ODD_NUMBER = re.compile(r"[-+]?0[0-9xb]|[0-9]+-|.*[:_]")  # 010, 0x10, 2001-01-01, 1:30, 1_0
# What a killed process may leave behind; `lock` removes it for the next one.
TEMPORARY = ".tmp-"
# A process whose make was killed notices within a second; a lock held for longer is in use.
LOCK_PATIENCE_SECONDS = 5.0


# ---------------------------------------------------------------- writing


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary name, with the suffix of `path`, for a file that becomes `path` when the block succeeds.

    `path` may be a link to the file; its folder is made. What the block has made is removed when it raises.
    """
    path = Path(path).resolve()  # replaces the target of a link, not the link
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(8)}{path.suffix}")
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as problem:
        # A full disk names no file: say which one could not be written.
        if problem.filename is None and problem.errno is not None:
            raise OSError(problem.errno, problem.strerror, str(path)) from problem
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    # A crash of the system must not undo what was renamed.
    with contextlib.suppress(PermissionError):  # a folder that may be written and not read
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_record(path: Path, record: dict[str, Any], files: dict[str, str]) -> None:
    """Write a record with the digests of the files that it stands for, by their names, and one of its own."""
    record = json.loads(json.dumps(record | {"files": files}))  # as it will be read
    write_json(path, record | {"digest": digest(record)})


def write_run(run_folder: Path, record: dict[str, Any]) -> None:
    """Write `run.json` for the network and the history in a folder, and remove the scores of the training before."""
    remove_scores(run_folder)
    write_record(run_folder / RUN_RECORD, record, digests(run_folder, HISTORY, KERAS_MODEL, LITERT_MODEL))


def remove_scores(run_folder: Path) -> None:
    """Remove what an evaluation wrote, of a training whose record is about to be replaced."""
    for path in (*map(run_folder.joinpath, (*SCORES, *BESIDE_SCORES)), *run_folder.glob(f"{FIGURES}/*.png")):
        path.unlink(missing_ok=True)


def read_record(path: Path, missing: str = "") -> dict[str, Any]:
    """Read a record of `write_record`, without its own digest, or one that has none yet; see `read_json`.

    Raises:
        UserError: It was changed since it was written.
    """
    record = read_json(path, missing)
    own = record.pop("digest", None)
    if own != (digest(record) if "files" in record or own else None):
        raise UserError(_was_changed(path, path))
    return record


def verified(path: Path) -> Path:
    """Check a file against its digest in a record beside it: of the training, the evaluation, make's, or its own.

    Returns its path, for whoever reads it; raises a `UserError` if it was changed since it was written.
    """
    names = (RUN_RECORD, METRICS_RECORD, INPUTS, path.with_suffix(".json").name)
    names += (STRANGERS,) if path.name == ROBUSTNESS else ()
    for name in names if path.exists() else ():
        record = path.with_name(name)
        digests_in = path.name if name == INPUTS else "files"
        found = read_record(record).get(digests_in) if record.exists() else None
        expected = found.get(path.name) if isinstance(found, dict) else None
        if expected and file_sha256(path) != expected:
            raise UserError(_was_changed(path, path if name == INPUTS else record))
    return path


def committed(path: Path, sha256: str) -> Path:
    """Check a file that comes with the repository against its digest; returns its path.

    Raises:
        UserError: It is missing, damaged or another one.
    """
    if not path.is_file() or file_sha256(path) != sha256:
        shown = paths.shown(path)
        raise UserError(f"{shown} is missing, damaged or another one. Bring it back by `git checkout {shown}`.")
    return path


def _was_changed(path: Path, record: Path) -> str:
    repair = _repair("run the command of make again", record, path)
    return f"{path} is damaged, or was changed since it was written. {repair}"


def _repair(command: str, record: Path, *others: Path) -> str:
    """Say how to get a whole record; nothing makes a committed one again."""
    if record.resolve().is_relative_to(paths.PUBLISHED):
        files = dict.fromkeys(map(paths.shown, (record, *others)))
        return f"Bring it back by `git checkout {' '.join(files)}`."
    return f"Delete {record} and {command}."


def digests(folder: Path, *names: str) -> dict[str, str]:
    """Hash files of a folder: SHA-256 by name."""
    return {name: file_sha256(folder / name) for name in names}


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Write a record as indented JSON, atomically; what is not UTF-8 in the path of a file becomes JSON's escapes."""
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_text(path, text.encode(errors="backslashreplace").decode())


def write_if_changed(path: Path, record: dict[str, Any]) -> None:
    """Write a record as JSON, unless the file holds it already: make compares the times of files."""
    with contextlib.suppress(UserError):
        if read_json(path) == record:
            return
    write_json(path, record)


def write_text(path: Path, text: str) -> None:
    """Write a text as it is, in UTF-8, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def csv_text(table: "pd.DataFrame") -> str:
    """Lay out a table without its index as CSV; see `csv_cell`."""
    texts = table.select_dtypes(["object", "string"]).columns
    safe = table.rename(columns=csv_cell)
    return safe.assign(**{csv_cell(name): table[name].map(csv_cell) for name in texts}).to_csv(index=False)


def csv_sha256(table: "pd.DataFrame") -> str:
    """Hash the file that `write_csv` makes of a table."""
    return hashlib.sha256(csv_text(table).encode()).hexdigest()


def csv_cell(value: Any) -> Any:
    """Put an apostrophe before a text that a spreadsheet would take for a formula."""
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value


def write_csv(path: Path, table: "pd.DataFrame") -> None:
    """Write a table without its index, atomically."""
    write_text(path, csv_text(table))


def write_table(path: Path, table: "pd.DataFrame") -> None:
    """Write a table that no record of a run stands for, and a record beside it: of its digest and its pictures."""
    write_csv(path, table)
    write_record(path.with_suffix(".json"), {"data_name": path.parent.name}, digests(path.parent, path.name))


# ---------------------------------------------------------------- reading


def read_json(path: Path, missing: str = "") -> dict[str, Any]:
    """Read a JSON file that holds one object; `missing` is what to say where there is none.

    Raises:
        UserError: The file is missing, too large, too deeply nested, or no JSON object.
    """
    repair = _repair("run `make train evaluate` again", path)
    try:
        record = parse_json(read_bytes(path, MAX_DOCUMENT_BYTES).decode())
    except FileNotFoundError:
        missing = missing or f"{path} is missing, so this run is not finished. `make train evaluate` writes it."
        raise UserError(missing) from None
    except OSError as problem:
        raise UserError(f"{path} cannot be read: {problem.strerror}.") from None
    except ValueError as problem:
        raise UserError(f"{path} cannot be read: {problem}. {repair}") from None
    if not isinstance(record, dict):
        raise UserError(f"{path} must hold one JSON object. {repair}")
    return record


def parse_json(text: str | bytes) -> Any:
    """Parse JSON without repeated keys, NaN, infinity or deep nesting.

    Raises:
        ValueError: The text is not such JSON.
    """
    try:
        return json.loads(text, object_pairs_hook=_without_repeats, parse_float=_finite, parse_constant=_finite)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None


def _without_repeats(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        name, _ = collections.Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key `{name}` appears twice")
    return found


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is no finite number")
    return number


class _StrictLoader(yaml.SafeLoader):
    """Plain YAML: no anchors, no tags, no repeated key; numbers as people write them."""

    def resolve(self, kind: type, value: Any, implicit: Any) -> str:
        """Take 010, 1:30 and 2001-01-01 for text: to YAML 1.1 they are 8, 90 and a date."""
        tag = super().resolve(kind, value, implicit)
        is_odd = tag.endswith((":int", ":float", ":timestamp")) and ODD_NUMBER.match(value)
        return self.DEFAULT_SCALAR_TAG if is_odd else tag

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if getattr(event, "anchor", None):
            raise yaml.YAMLError("anchors (&) and aliases (*) are not allowed")
        if getattr(event, "tag", None):
            raise yaml.YAMLError(f"the tag {event.tag} is not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict:
        _without_repeats([(key.value, value) for key, value in node.value])
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file of one `name: value` a line.

    Raises:
        UserError: The file is missing, too large, or not such a file.
    """
    try:
        values = parse_yaml(read_bytes(path, MAX_DOCUMENT_BYTES).decode())
    except FileNotFoundError:
        raise UserError(f"There is no parameter file {path}.") from None
    except (ValueError, OSError) as problem:
        raise UserError(f"{path} is not a valid YAML file: {' '.join(str(problem).split())}.") from None
    if not isinstance(values, dict | None) or not all(isinstance(name, str) for name in values or ()):
        raise UserError(f"{path} must hold one `name: value` a line, for example `epochs: 40`.")
    return values or {}


def parse_yaml(text: str) -> Any:
    """Parse YAML without anchors, tags, repeated keys or deep nesting.

    Raises:
        ValueError: The text is not such YAML, or too long.
    """
    if len(text) > MAX_YAML_LETTERS:
        raise ValueError(f"it is longer than {MAX_YAML_LETTERS:,} letters")
    try:
        return yaml.load(text, Loader=_StrictLoader)  # a SafeLoader
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    except (yaml.YAMLError, OverflowError, TypeError) as problem:
        raise ValueError(str(problem)) from None


def value_of(text: str) -> Any:
    """Read a value as a YAML file has it; what is no YAML is text."""
    with contextlib.suppress(ValueError):
        return parse_yaml(text)
    return text


def read_bytes(path: Path, limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes.

    Raises:
        ValueError: It is larger, a folder, a device or a pipe.
    """
    if path.exists() and not path.is_file():
        raise ValueError("it is not a regular file")
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise ValueError(f"it is larger than {limit / 1e6:.0f} MB")
        return file.read(size)  # Python sets aside as much memory as it is told here


def folder_to_train(outputs: str | Path, data_name: str, run: str) -> Path:
    """Name the folder that a training writes to. A run that make made is replaced by make alone.

    Returns:
        As `folder`; in a notebook that make did not start, a folder beside it where it holds a run of make's.
    """
    path = folder(outputs, data_name, run)
    with contextlib.suppress(UserError):
        if STARTED_BY_MAKE not in os.environ and RUN_RECORD in read_json(path / INPUTS):
            other = path.with_name(f"{path.name}-by-hand")
            print(f"{path} holds a run that make made, and keeps it. This one goes to {other.name}.")
            return other
    return path


def folder(outputs: str | Path, data_name: str, run: str) -> Path:
    """Name the folder of a run; a relative `outputs` counts from the repository, not from the working directory."""
    return paths.ROOT / outputs / data_name / run


def read_run(run_folder: Path) -> dict[str, Any]:
    """Read `run.json`, of any readable format version, with today's keys; `recipe` holds the training parameters.

    Raises:
        UserError: The run is unfinished, damaged, or of another format version.
    """
    record = read_record(run_folder / RUN_RECORD)
    check_version(record.get("format_version"), run_folder)
    if not record.get("finished"):
        raise UserError(f"The training of {run_folder} is not finished. `make train` continues it.")
    if record["format_version"] == 1:
        record = renamed(record)
        recipe = record.pop("parameters", {}).items()
        record["recipe"] = {name: value for name, value in recipe if name not in NOT_IN_RECIPE}
    return record


def read_metrics(run_folder: Path) -> dict[str, Any]:
    """Read `metrics.json` with today's keys.

    Raises:
        UserError: The run is not evaluated, or the file is damaged.
    """
    scores = renamed(read_record(run_folder / METRICS_RECORD))
    scores.pop("files", None)
    return scores


def renamed(value: Any) -> Any:
    """Give the keys of format 1 their names of today, in a record and in what it holds."""
    if not isinstance(value, dict):
        return value
    return {RENAMED_KEYS.get(key, key): renamed(each) for key, each in value.items()}


def check_version(version: Any, where: Path) -> None:
    """Check the format version of a record or of a model file.

    Raises:
        UserError: This version of the project cannot read it.
    """
    if version not in READABLE_VERSIONS:
        expected = " or ".join(map(str, READABLE_VERSIONS))
        raise UserError(
            f"{where} has format version {version!r}, expected {expected}. Train it again with `make train evaluate`, "
            "or use the version of this project that wrote it."
        )


# ---------------------------------------------------------------- one process a folder


@contextlib.contextmanager
def lock(target: Path) -> Iterator[None]:
    """Keep a second process from working on the same folder, and remove what a killed one left there.

    The lock ends with its process. Its file stands beside the folder, so that this may be replaced.

    Raises:
        UserError: Another process is at work there, or the lock file cannot be made.
    """
    path = target.parent / f".{target.name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with machine.lock(path, LOCK_PATIENCE_SECONDS) as held:
        if not held:
            raise UserError(
                f"Another process is working on {target}; wait for it to end or stop it, then run the command again."
                if path.exists()
                else f"{path} cannot be made. Give write permission for {path.parent}, or choose another folder."
            )
        # Not deeper: `make compare` locks the folder above the runs, and one of them may be training.
        for left_over in [*target.glob(f"{TEMPORARY}*"), *target.glob(f"figures/{TEMPORARY}*")]:
            left_over.unlink(missing_ok=True)
        yield


# ---------------------------------------------------------------- digests and provenance


def digest(record: Any) -> str:
    """Hash anything JSON can hold, the same for the same content; 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]


def file_sha256(path: Path) -> str:
    """Hash a file: 64 hexadecimal digits of SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def now() -> str:
    """Give the present time, UTC, as records write it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def provenance() -> dict[str, Any]:
    """Describe what produced a run: commit, package versions and machine."""
    versions = {"python": platform.python_version()}
    for package in REPORTED_PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    here = {"system": platform.system(), "processor": machine.processor_name(), "cores": os.cpu_count()}
    return {"git": _git(), "versions": versions, "machine": here}


def _git() -> dict[str, Any] | None:
    """Name the commit and say whether tracked files differ from it; None outside a repository."""
    # A hook of git names another repository there.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(paths.ROOT), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()
        return {"commit": said.removesuffix("-dirty"), "dirty": said.endswith("-dirty")}
    except (OSError, subprocess.CalledProcessError):
        return None
