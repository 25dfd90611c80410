"""Fetch a source of pictures to `data/raw/<name>/<character>/<file>`: completely or not at all.

A source is the drawn sample, the Kaggle data set, an archive or a folder. One that has changed since it was copied is
copied again, and two sources never share a name.
"""

import contextlib
import hashlib
import os
import re
import shutil
import textwrap
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib import machine, paths, records
from lib.data import archives, layout, names
from lib.errors import UserError, in_words, printable

KAGGLE_NAME = "the-simpsons-characters-dataset"
KAGGLE_HANDLE = f"alexattia/{KAGGLE_NAME}/versions/4"  # with a version, no network once it is cached
KAGGLE_PAGE = f"https://www.kaggle.com/datasets/alexattia/{KAGGLE_NAME}"
KAGGLE_LICENCE = "CC BY-NC-SA 4.0, by Alexandre Attia"

RECORD = "source.json"
GENERATED = ("sample", "kaggle")  # sources that are not paths
SOURCES = "`sample`, `kaggle`, or the path of a zip, tar or tar.gz archive or of a folder"
MAX_NAME_BYTES = 80  # of a data set; its folders add to it


def fetch(source: str, name: str, raw: Path = paths.RAW) -> Path:
    """Copy a source to `raw/<name>`, unless that is there already and the source is unchanged.

    Args:
        source: `"sample"`, `"kaggle"`, or the path of an archive (zip, tar, tar.gz) or a folder, in the layout
            of the Kaggle archive or with one folder per character.
        name: Name of the folder to make; `name_of` gives one.
        raw: Parent of that folder.

    Returns:
        `raw/<name>`, which holds `<character>/<file>`, `source.json`, `SHA256SUMS`, `kaggle_test/<character>/<file>`
        where the source has the Kaggle archive's own test set, and `<split>/<character>/<file>` instead of
        `<character>/<file>` where it has a split of its own.

    Raises:
        UserError: The source is missing, damaged, unsafe or laid out otherwise, or the folder cannot be written or
            was made from another source.
    """
    if not name or name != _plain(name):
        raise UserError(f"A data set cannot be named {name!r}. Use letters, digits, `.`, `_` and `-`.")
    target = raw / name
    try:
        if not target.exists():
            check(source)  # before anything is written
        raw.mkdir(parents=True, exist_ok=True)
        with machine.lock(raw / f".{name}.lock"):
            if not target.exists():  # another process may have made it while this one waited
                _make(source, target)
            elif is_stale(source, target):
                _renew(source, target)
    except OSError as problem:
        raise UserError(
            f"{target} cannot be made from {source}: {in_words(problem).rstrip('.')}. Check the free space and the "
            "permissions, and try again."
        ) from None
    return target


def name_of(source: str, raw: Path = paths.RAW, reserved: Callable[[str], bool] = GENERATED.__contains__) -> str:
    """Name the folder of a source, below `raw`, after the last part of its path, in letters of any script.

    Returns:
        The name; with a digest of the path where the bare name has no letter, is `reserved`, or belongs to another
        source. Empty if the path has none.
    """
    if source in GENERATED:
        return source
    if Path(source).name in ("", ".."):
        return ""
    name = _plain(re.sub(r"\.(zip|tar|tgz|tar\.gz)$", "", Path(source).name))
    name = _plain(name.encode()[:MAX_NAME_BYTES].decode(errors="ignore"))
    if name and not (reserved(name) or _belongs_to_another(source, raw / name)):
        return name
    return f"{name or 'pictures'}-{records.digest(_origin(source))[:6]}"


def _plain(name: str) -> str:
    """Replace what is no letter, mark, digit, dot or hyphen, so that the name of a data set needs no quotes."""
    name = unicodedata.normalize("NFC", name)
    kept = (letter if letter in "_.-" or unicodedata.category(letter)[0] in "LMN" else " " for letter in name)
    return re.sub(" +", "-", "".join(kept)).lstrip(".-").rstrip("-")


def check(source: str) -> None:
    """Raise a `UserError` if there is no such source, or it is a device or a pipe; nothing is read."""
    if source in GENERATED:
        return
    path = path_of(source)
    if not names.is_text(source):
        raise UserError(f"The path {source!a} is not UTF-8. Rename the folders in it, or give a link of another name.")
    if not source or not path.exists():
        raise UserError(f"There is no file or folder {source!r}. Expected {SOURCES}.")
    if not path.is_file() and not path.is_dir():
        raise UserError(f"{source!r} is a device or a pipe. Expected {SOURCES}.")


def is_stale(source: str, target: Path) -> bool:
    """Say whether `fetch` must look at a folder again: its source is another, or changed by times and sizes."""
    record = record_of(target)
    if record.get("origin") != _origin(source):
        return True
    removed = source not in GENERATED and not path_of(source).exists()  # after it was copied
    return not removed and record.get("signature") != _signature(source)


def summary(folder: Path) -> str:
    """Describe in one line what a folder of `data/raw` holds, and what was skipped or renamed."""
    record = record_of(folder)
    passed_over = layout.PassedOver(record.get("passed_over", {}), record.get("examples", {}))
    splits = "; it has splits of its own, which SPLIT=given keeps" if record.get("given_splits") else ""
    counts = f"{record['pictures']:,} pictures of {record['characters']} characters{splits}"
    return f"{folder}: {counts}{passed_over}"


# ---------------------------------------------------------------- making and renewing the copy


def _make(source: str, target: Path) -> None:
    """Make the folder under a hidden name, then rename it. What a killed process left behind is removed first."""
    target = target.resolve()  # the copy may be on another disk, behind a link
    partial, old = hidden = [target.with_name(f".{target.name}.{suffix}") for suffix in ("partial", "old")]
    for folder in hidden:
        shutil.rmtree(folder, ignore_errors=True)
    partial.mkdir()
    try:
        record = _identity(source) | (_draw if source == "sample" else _copy)(source, partial)
        record |= {"pictures_sha256": archives.write_sums(partial), "fetched": records.now()}
        records.write_record(partial / RECORD, record, {})
        if target.exists():
            target.rename(old)
        partial.rename(target)
    finally:
        for folder in hidden:
            shutil.rmtree(folder, ignore_errors=True)


def _renew(source: str, target: Path) -> None:
    """Copy a changed source again; of one that was only touched or moved, keep that in mind."""
    record = record_of(target)
    check(source)
    if _same_content(source, record):
        records.write_record(target / RECORD, record | _identity(source), {})
    elif record["origin"] == _origin(source):
        print(f"{printable(source)} has changed since its pictures were copied; copying them again.", flush=True)
        _make(source, target)
    else:
        raise UserError(
            f"{target} was made from {record['origin']}, not from {_origin(source)}. "
            "Remove that folder, or rename the source so that it gets a folder of its own."
        )


def _draw(source: str, folder: Path) -> dict[str, Any]:
    from lib.drawing import sample  # no other source needs the drawing code

    sample.draw_sample(folder)
    drawn = list(folder.glob("*/*"))
    return {
        "kind": source,
        "pictures": len(drawn),
        "characters": len({picture.parent for picture in drawn}),
        "licence": "that of this project",
    }


def _copy(source: str, folder: Path) -> dict[str, Any]:
    path = _download() if source == "kaggle" else path_of(source)
    # Before the copy is made: what changes meanwhile is noticed the next time.
    contents = {"bytes": _size(path), "sha256": _content_sha256(path)}
    copied = (archives.copy if path.is_dir() else archives.copy_isolated)(path, folder)
    of_kaggle = source == "kaggle" or copied["kaggle_test_pictures"]
    return {
        "kind": source if source == "kaggle" else "folder" if path.is_dir() else "archive",
        **copied,
        **contents,
        "licence": KAGGLE_LICENCE if of_kaggle else None,
    }


def _download() -> Path:
    try:
        import kagglehub  # slow to import

        return Path(kagglehub.dataset_download(KAGGLE_HANDLE))
    except Exception as problem:
        reason = textwrap.shorten(str(problem) or type(problem).__name__, 150, placeholder=" …")
        raise UserError(
            f"The pictures could not be downloaded from Kaggle ({reason}). Check the network, or download the "
            f"archive with a browser from {KAGGLE_PAGE} and give its path: DATA=path/of/archive.zip."
        ) from None


# ---------------------------------------------------------------- whose copy it is, and of what


def record_of(target: Path) -> dict[str, Any]:
    """Read what `fetch` recorded of a folder of `data/raw`.

    Raises:
        UserError: It recorded nothing, or that was changed.
    """
    record: dict[str, Any] = {}
    with contextlib.suppress(UserError):
        record = records.read_record(target / RECORD)
    if not {"origin", "pictures", "characters"} <= record.keys():
        raise UserError(
            f"{target} has no undamaged {RECORD}, as this program writes. Move the folder away, or use another name."
        )
    return record


def path_of(source: str) -> Path:
    """Give the path that a user wrote, with `~` for the home folder."""
    return Path(os.path.expanduser(source))  # noqa: PTH111 (`Path.expanduser` raises where there is no home)


def _origin(source: str) -> str:
    return source if source in GENERATED else str(path_of(source).resolve())


def _identity(source: str) -> dict[str, str]:
    return {"origin": _origin(source), "signature": _signature(source)}


def _signature(source: str) -> str:
    """Digest what changes with the content of a source and is quick to read: names, sizes and times."""
    if source == "kaggle":
        return KAGGLE_HANDLE
    if source == "sample":
        drawing = sorted((paths.ROOT / "lib" / "drawing").glob("[!.]*.*"))  # no lock file of an editor
        return records.digest({path.name: records.file_sha256(path) for path in drawing})
    files = archives.files(Path(_origin(source)))  # however its path was spelt
    return records.digest([[str(file), at.st_size, at.st_mtime_ns, at.st_ctime_ns] for file, at in files])


def _belongs_to_another(source: str, target: Path) -> bool:
    """Say whether a folder holds the pictures of another source; a moved one is the same."""
    if not target.exists():
        return False
    record = record_of(target)
    return record.get("origin") != _origin(source) and path_of(source).exists() and not _same_content(source, record)


def _same_content(source: str, record: dict[str, Any]) -> bool:
    path = path_of(source)
    if source in GENERATED or _size(path) != record.get("bytes"):
        return False
    return _content_sha256(path) == record.get("sha256")


def _size(path: Path) -> int:
    return sum(status.st_size for _, status in archives.files(path))


def _content_sha256(path: Path) -> str:
    """Hash an archive; of a folder, the names and contents of its files, of those too large to be copied the sizes."""
    if path.is_file():
        return records.file_sha256(path)
    digest = hashlib.sha256()
    for file, status in archives.files(path):
        with contextlib.suppress(OSError):  # what cannot be read is not copied either
            content = str(size) if (size := status.st_size) > archives.MAX_PICTURE_BYTES else records.file_sha256(file)
            digest.update(f"{file.relative_to(path)}\0{content}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()
