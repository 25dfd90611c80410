"""Fetch a source of pictures to `data/raw/<name>/<character>/<file>`: completely or not at all.

A source is the drawn sample, the Kaggle data set, an archive or a folder. Archives are untrusted: no entry is unpacked
to its own path. Entries that look like pictures are copied to destinations that are decided here, others are skipped,
and an archive with links, overlapping entries or paths outside its folder is rejected as a whole.
"""

import datetime
import gzip
import hashlib
import lzma
import os
import re
import shutil
import stat
import struct
import tarfile
import textwrap
import unicodedata
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import filelock
from tqdm import tqdm

from lib import paths, records
from lib.data.pictures import SUFFIXES
from lib.data.preparation import TEST_SET
from lib.errors import UserError

KAGGLE_HANDLE = "alexattia/the-simpsons-characters-dataset/versions/4"  # with a version, no network once it is cached
KAGGLE_PAGE = "https://www.kaggle.com/datasets/alexattia/the-simpsons-characters-dataset"
KAGGLE_LICENCE = "CC BY-NC-SA 4.0, by Alexandre Attia"
KAGGLE_TEST_FOLDER = "kaggle_simpson_testset"
KAGGLE_NESTED_COPY = "simpsons_dataset"  # the archive repeats its whole tree in this folder

RECORD = "source.json"
GENERATED = ("sample", "kaggle")  # sources that are not paths
SOURCES = "`sample`, `kaggle`, or the path of a zip, tar or tar.gz archive or of a folder"
LAYOUT = "one folder per character with the pictures in it, such as homer_simpson/1.jpg"

# The Kaggle archive has 20,000 pictures and 1.1 GB; a million full-size frames fit in here.
MAX_ENTRIES = 2_000_000
MAX_TOTAL_BYTES = 50_000_000_000
MAX_PICTURE_BYTES = 100_000_000
MAX_NAME_BYTES = 200  # file systems allow 255
# Pictures are compressed already: an archive that grows a hundredfold is a bomb, unless it is small (flat BMPs).
MAX_INFLATION = 100
SMALL_BYTES = 1_000_000_000
CHUNK_BYTES = 1_000_000

DAMAGE_ERRORS = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error)
DAMAGE_ERRORS += (EOFError, NotImplementedError, RecursionError, ValueError)
OUTSIDE_PATH = re.compile(r"^/|^[A-Za-z]:|\\|\0|(^|/)\.\.(/|$)")
UNSAFE_NAME = re.compile(r'[\\/:*?"<>|]|^[.\s]|[.\s]$')  # what some file systems forbid or hide

Destination = tuple[str, ...]  # (character, file) or ("kaggle_test", character, file)


@dataclass(frozen=True)
class Entry:
    """A file of a source: its path in parts, its declared size in bytes, and how to read it."""

    parts: tuple[str, ...]
    size: int
    open: Callable[[], IO[bytes]]


def fetch(source: str, name: str, raw: Path = paths.RAW) -> Path:
    """Copy a source to `raw/<name>`, unless it is there already.

    Args:
        source: `"sample"`, `"kaggle"`, or the path of an archive (zip, tar, tar.gz) or a folder, in the layout
            of the Kaggle archive or with one folder per character.
        name: Name of the folder to make: letters, digits, `.`, `_` and `-`.
        raw: Parent of that folder.

    Returns:
        `raw/<name>`, which holds `<character>/<file>`, `source.json`, and `kaggle_test/<character>/<file>` where
        the source has the Kaggle archive's own test set.

    Raises:
        UserError: The source is missing, damaged, unsafe or laid out otherwise, or the folder cannot be written or
            was made from another source.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise UserError(f"A data set cannot be named {name!r}. Use letters, digits, `.`, `_` and `-`.")
    target = raw / name
    try:
        if not target.exists():
            if source not in GENERATED:
                _existing(source)  # before anything is written
            raw.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(raw / f".{name}.lock"):
                if not target.exists():  # another process may have made it while this one waited
                    _make(source, target)
        _check_origin(source, target)
    except OSError as problem:
        reason = f"{problem.strerror or problem}" + (f" ({problem.filename})" if problem.filename else "")
        raise UserError(
            f"{target} cannot be made from {source}: {reason}. Check the free space and the permissions, and try again."
        ) from None
    return target


def _make(source: str, target: Path) -> None:
    """Make the folder under a hidden name, then rename it. What a killed process left behind is removed first."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        record = {"origin": _origin(source), **(_draw if source == "sample" else _copy)(source, partial)}
        record["fetched"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        records.write_json(partial / RECORD, record)
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _draw(source: str, folder: Path) -> dict:
    from lib.drawing import sample  # no other source needs the drawing code

    sample.draw_sample(folder)
    drawn = Counter(picture.parent.name for picture in folder.glob("*/*"))
    return {"kind": source, "pictures": drawn.total(), "characters": len(drawn), "licence": "that of this project"}


def _copy(source: str, folder: Path) -> dict:
    path = _download() if source == "kaggle" else _existing(source)
    with _opened(path) as entries:
        placed, skipped = _plan(_limited(entries, path), source)
        needed, free = sum(entry.size for entry in placed.values()), shutil.disk_usage(folder).free
        if needed > free:
            room = f"{needed / 1e6:.0f} MB, but {folder.parent} has {free / 1e6:.0f} MB free"
            raise UserError(f"{source} needs {room}. Make room there.")
        for destination, entry in tqdm(placed.items(), desc=f"Copying {path.name}", unit=" pictures", disable=None):
            _write(entry, folder.joinpath(*destination))
    frames = [destination for destination in placed if destination[0] != TEST_SET]
    of_kaggle = source == "kaggle" or len(frames) < len(placed)
    return {
        "kind": source if source == "kaggle" else "folder" if path.is_dir() else "archive",
        "bytes": needed if path.is_dir() else path.stat().st_size,
        "sha256": _content_sha256(path),
        "pictures": len(frames),
        "characters": len({character for character, _ in frames}),
        "kaggle_test_pictures": len(placed) - len(frames),
        "passed_over": dict(skipped),
        "licence": KAGGLE_LICENCE if of_kaggle else None,
    }


def _write(entry: Entry, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    remaining = MAX_PICTURE_BYTES
    with entry.open() as source, path.open("xb") as file:
        while chunk := source.read(CHUNK_BYTES):
            remaining -= len(chunk)
            if remaining < 0:
                limit = f"{MAX_PICTURE_BYTES / 1e6:.0f} MB"
                raise UserError(f"The picture {'/'.join(entry.parts)!a} has more than {limit}. Remove it.")
            file.write(chunk)


def _check_origin(source: str, target: Path) -> None:
    """Make sure that the folder was made from this source, or from a copy of it at another path."""
    try:
        record = records.read_json(target / RECORD)
    except UserError:
        raise UserError(
            f"{target} has no readable {RECORD}, so it was not made by this program. Move it away or use another name."
        ) from None
    if record.get("origin") == _origin(source):
        return
    if source not in GENERATED and record.get("sha256") == _content_sha256(_existing(source)):
        return
    raise UserError(
        f"{target} was made from {record.get('origin')}, not from {_origin(source)}, and is never changed. "
        "Remove that folder, or rename the source so that it gets a folder of its own."
    )


def _origin(source: str) -> str:
    return source if source in GENERATED else str(Path(source).expanduser().resolve())


def _existing(source: str) -> Path:
    path = Path(source).expanduser()
    if not source or not path.exists():
        raise UserError(f"There is no file or folder {source!r}. Expected {SOURCES}.")
    return path


def _content_sha256(path: Path) -> str:
    """Hash an archive; of a folder, which may be large, all names and sizes."""
    if path.is_dir():
        lines = [f"{'/'.join(entry.parts)}\t{entry.size}\n" for entry in _folder_entries(path)]
        return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()
    return records.file_sha256(path)


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


# ---------------------------------------------------------------- entries of a zip, a tar or a folder


@contextmanager
def _opened(path: Path) -> Iterator[Iterable[Entry]]:
    """Open a source; damage of an archive, at whatever point it is found, becomes a `UserError` that names it."""
    try:
        if path.is_dir():
            yield _folder_entries(path)
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                yield _zip_entries(archive, path)
        else:
            with _tar_stream(path) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
                yield _tar_entries(archive, path)
    except DAMAGE_ERRORS as problem:
        raise _damaged(path, problem) from None
    except OSError as problem:
        if problem.errno is not None:
            raise
        raise _damaged(path, problem) from None  # gzip reports bad data without a number


def _damaged(path: Path, problem: Exception) -> UserError:
    return UserError(f"{path} is not a complete zip, tar or tar.gz archive ({problem}). Download or pack it again.")


def _folder_entries(folder: Path) -> Iterator[Entry]:
    """List the regular files. Links are followed, since the folder is the user's own, but never in a circle."""
    seen = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=_unreadable):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for file in (Path(parent, name) for name in sorted(files)):
            status = file.stat()
            if stat.S_ISREG(status.st_mode):
                yield Entry(file.relative_to(folder).parts, status.st_size, lambda file=file: file.open("rb"))


def _unreadable(problem: OSError) -> None:
    raise problem  # os.walk by default skips a folder that it may not read


def _zip_entries(archive: zipfile.ZipFile, path: Path) -> Iterator[Entry]:
    end = 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise UserError(f"{path} is rejected: its entries overlap, as in a zip bomb.")
        end = info.header_offset + info.compress_size
        if info.flag_bits & 1:
            raise UserError(f"{path} is locked with a password. Unpack it and give the folder.")
        regular = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG, stat.S_IFDIR)
        parts = _safe_parts(path, info.orig_filename, regular)
        if not info.is_dir():
            yield Entry(parts, info.file_size, lambda info=info: archive.open(info))


def _tar_entries(archive: tarfile.TarFile, path: Path) -> Iterator[Entry]:
    for member in archive:
        parts = _safe_parts(path, member.name, member.isreg() or member.isdir())
        if member.isreg():
            yield Entry(parts, member.size, lambda member=member: archive.extractfile(member))
    # tarfile ends silently at a damaged header. A complete archive ends with a block of zeros.
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("its end is missing")


class _BoundedGzip(gzip.GzipFile):
    """Limits how much is inflated at once; tarfile would read a header of any length."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= MAX_PICTURE_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return super().read(size)


def _tar_stream(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return _BoundedGzip(path) if compressed else path.open("rb")


def _safe_parts(path: Path, name: str, regular: bool) -> tuple[str, ...]:
    """Split the name of an entry; raise if it is no regular file or folder, or its path leads outside its folder."""
    shown = ascii(name[:MAX_NAME_BYTES])
    if not regular:
        raise UserError(f"{path} is rejected: {shown} is a link or a device. Pack the files themselves.")
    if OUTSIDE_PATH.search(name):
        raise UserError(f"{path} is rejected: the path of its entry {shown} leads outside its folder.")
    return tuple(part for part in name.split("/") if part not in ("", "."))


def _limited(entries: Iterable[Entry], path: Path) -> Iterator[Entry]:
    """Yield the entries; raise when they are too many or too large."""
    allowed = MAX_TOTAL_BYTES if path.is_dir() else max(SMALL_BYTES, MAX_INFLATION * path.stat().st_size)
    limit, total = min(MAX_TOTAL_BYTES, allowed), 0
    for number, entry in enumerate(entries, start=1):
        total += entry.size
        if number > MAX_ENTRIES:
            raise UserError(f"{path} is rejected: it holds more than {MAX_ENTRIES:,} files.")
        if total > limit:
            raise UserError(f"{path} is rejected: its files have more than {limit / 1e9:.0f} GB once unpacked.")
        yield entry


# ---------------------------------------------------------------- the destination of an entry


def _plan(entries: Iterable[Entry], source: str) -> tuple[dict[Destination, Entry], Counter[str]]:
    """Decide where each entry goes; return the entries by destination, and the numbers of skipped ones by reason."""
    found, skipped = [], Counter()
    for entry in entries:
        if any(part.startswith(".") or part == "__MACOSX" for part in entry.parts):
            skipped["hidden"] += 1
        elif not entry.parts or Path(entry.parts[-1]).suffix.lower() not in SUFFIXES:
            skipped["not a picture"] += 1
        else:
            parts = tuple(unicodedata.normalize("NFC", part) for part in entry.parts)
            found.append(replace(entry, parts=parts))
    root = _root([entry.parts for entry in found], source)
    placed: dict[Destination, Entry] = {}
    for entry in found:
        destination = _destination(entry.parts, root)
        if destination is None:
            skipped["not in a character's folder"] += 1
        elif placed.setdefault(destination, entry) is not entry:
            raise UserError(f"{source} is rejected: it holds {'/'.join(destination)!a} twice.")
    _check_names(placed, source)
    return placed, skipped


def _root(pictures: list[tuple[str, ...]], source: str) -> tuple[str, ...]:
    """Find the folder that holds the characters' folders: the one with the most pictures two levels below."""
    if not pictures:
        raise UserError(f"{source} holds no pictures ({', '.join(SUFFIXES)}). Expected {LAYOUT}.")
    characters: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for parts in pictures:
        if len(parts) > 1 and KAGGLE_TEST_FOLDER not in parts[:-1]:
            characters[parts[:-2]][parts[-2]] += 1
    if not characters:
        raise UserError(f"{source} holds pictures but no characters' folders. Expected {LAYOUT}.")
    # Of the Kaggle archive's tree and its nested copy, the outer.
    root = max(characters, key=lambda folder: (characters[folder].total(), -len(folder)))
    for other, found in characters.items():
        if len(found) > 1 and other != root and KAGGLE_NESTED_COPY not in other[len(root) :]:
            sets = " and ".join(sorted(repr("/".join(folder) or ".") for folder in (root, other)))
            raise UserError(f"{source} holds characters' folders in {sets}. Give one of these, or merge them.")
    if len(characters[root]) < 2:
        raise UserError(f"{source} holds one character only, {next(iter(characters[root]))!a}. Expected {LAYOUT}.")
    return root


def _destination(parts: tuple[str, ...], root: tuple[str, ...]) -> Destination | None:
    """Return where a picture goes, given the folder that holds the characters' folders; None if it is skipped."""
    if KAGGLE_TEST_FOLDER in parts[:-1]:
        character, _, number = Path(parts[-1]).stem.rpartition("_")
        return (TEST_SET, character, parts[-1]) if character and number else None
    return parts[-2:] if len(parts) == len(root) + 2 and parts[:-2] == root else None


def _check_names(destinations: Iterable[Destination], source: str) -> None:
    """Reject names that some file system cannot store, or cannot distinguish."""
    spelt: dict[Destination, Destination] = {}
    for destination in destinations:
        for name in destination:
            if UNSAFE_NAME.search(name) or not name.isprintable() or len(name.encode()) > MAX_NAME_BYTES:
                raise UserError(
                    f"{source} holds the name {name[:MAX_NAME_BYTES]!a}, which is not safe to use. Rename it."
                )
        if destination[0].casefold() in (TEST_SET, RECORD) and len(destination) == 2:
            raise UserError(f"{source} has a character named {destination[0]!r}, a reserved name. Rename the folder.")
        for depth in range(1, len(destination) + 1):
            path = destination[:depth]
            first = spelt.setdefault(tuple(name.casefold() for name in path), path)
            if first != path:
                raise UserError(
                    f"{source} holds {'/'.join(first)!a} and {'/'.join(path)!a}, which differ by case only. Rename one."
                )


def summary(folder: Path) -> str:
    """Describe in one line what a folder of `data/raw` holds, and what was skipped."""
    record = records.read_json(folder / RECORD)
    skipped = ", ".join(f"{number:,} {reason}" for reason, number in record.get("passed_over", {}).items())
    counts = f"{record['pictures']:,} pictures of {record['characters']} characters"
    return f"{folder}: {counts}" + (f" (skipped: {skipped})" if skipped else "")
