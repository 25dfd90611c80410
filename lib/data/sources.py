"""From a source of pictures to `data/raw/<name>/<character>/<file>`: whole or not at all, and never changed after.

A source is the drawn sample, the Kaggle data set, an archive or a folder. Archives are untrusted: nothing is
unpacked to its own path. Entries that look like pictures are copied to places that are decided here, the rest is
passed over, and an archive that does what none of pictures does is refused as a whole.
"""

import argparse
import datetime
import gzip
import hashlib
import json
import lzma
import os
import re
import shutil
import stat
import struct
import sys
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
from lib.errors import UserError, report_error

KAGGLE_HANDLE = "alexattia/the-simpsons-characters-dataset/versions/4"  # unversioned, it calls the network always
KAGGLE_PAGE = "https://www.kaggle.com/datasets/alexattia/the-simpsons-characters-dataset"
KAGGLE_LICENCE = "CC BY-NC-SA 4.0, by Alexandre Attia"
KAGGLE_TEST_FOLDER = "kaggle_simpson_testset"
KAGGLE_NESTED_COPY = "simpsons_dataset"  # the folder of the archive that holds its whole tree once more

TEST_SET = "kaggle_test"
RECORD = "source.json"
SOURCES = "`sample`, `kaggle`, or the path of a zip, tar or tar.gz archive or of a folder"
LAYOUT = "one folder per character with the pictures in it, such as homer_simpson/1.jpg"

# The Kaggle archive has 20,000 pictures and 1.1 GB; a million full-size frames fit in here.
MAX_ENTRIES = 2_000_000
MAX_TOTAL_BYTES = 50_000_000_000
MAX_PICTURE_BYTES = 100_000_000
MAX_NAME_BYTES = 200  # file systems allow 255
# Pictures are compressed already: what grows a hundredfold is a bomb. Small ones (flat BMPs) may.
MAX_INFLATION = 100
HARMLESS_BYTES = 1_000_000_000
CHUNK_BYTES = 1_000_000

DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error)
DAMAGE += (EOFError, NotImplementedError, RecursionError, ValueError)
OUTSIDE = re.compile(r"^/|^[A-Za-z]:|\\|\0|(^|/)\.\.(/|$)")
UNSAFE = re.compile(r'[\\/:*?"<>|]|^[.\s]|[.\s]$')  # what some file system forbids or hides

Place = tuple[str, ...]  # (character, file) or ("kaggle_test", character, file)


@dataclass(frozen=True)
class Entry:
    """A file of a source: its path in parts, its declared size in bytes, and how to read it."""

    parts: tuple[str, ...]
    size: int
    open: Callable[[], IO[bytes]]


def fetch(source: str, name: str, raw: Path = paths.RAW) -> Path:
    """Bring a source to `raw/<name>`, unless it is there already.

    Args:
        source: `"sample"`, `"kaggle"`, or the path of an archive (zip, tar, tar.gz) or a folder, in the layout
            of the Kaggle archive or with one folder per character.
        name: Name of the folder to make: letters, digits, `.`, `_` and `-`.
        raw: Where it is made.

    Returns:
        `raw/<name>`, which holds `<character>/<file>`, `source.json`, and `kaggle_test/<character>/<file>` where
        the source has the Kaggle archive's own test set.

    Raises:
        UserError: If the source is missing, damaged, hostile or laid out otherwise, if the folder cannot be
            written, or if it was made from another source.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise UserError(f"A data set cannot be named {name!r}. Use letters, digits, `.`, `_` and `-`.")
    target = raw / name
    try:
        if not target.exists():
            if source not in ("sample", "kaggle"):
                _existing(source)  # before anything is written
            raw.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(raw / f".{name}.lock"):
                if not target.exists():  # another process may have made it while this one waited
                    _make(source, target)
        _check_origin(source, target)
    except OSError as problem:
        where = f" ({problem.filename})" if problem.filename else ""
        raise UserError(f"{target} could not be made from {source}: {problem.strerror or problem}{where}.") from None
    return target


def _make(source: str, target: Path) -> None:
    """Make the folder under a hidden name and rename it; what a killed attempt left goes first."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        record = {"origin": _origin(source), **(_draw if source == "sample" else _copy)(source, partial)}
        record["fetched"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        (partial / RECORD).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _draw(source: str, folder: Path) -> dict:
    from lib.drawing import sample  # here, because no other source needs the drawing code

    sample.draw_sample(folder)
    drawn = Counter(picture.parent.name for picture in folder.glob("*/*"))
    return {"kind": source, "pictures": drawn.total(), "characters": len(drawn), "licence": "that of this project"}


def _copy(source: str, folder: Path) -> dict:
    path = _download() if source == "kaggle" else _existing(source)
    with _opened(path) as entries:
        placed, passed_over = _plan(_limited(entries, path), source)
        needed, free = sum(entry.size for entry in placed.values()), shutil.disk_usage(folder).free
        if needed > free:
            raise UserError(
                f"{source} needs {needed / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free at {folder.parent}."
            )
        for place, entry in tqdm(placed.items(), desc=f"Copying {path.name}", unit=" pictures", disable=None):
            _write(entry, folder.joinpath(*place))
    own = [place for place in placed if place[0] != TEST_SET]
    of_kaggle = source == "kaggle" or len(own) < len(placed)
    return {
        "kind": source if source == "kaggle" else "folder" if path.is_dir() else "archive",
        "bytes": needed if path.is_dir() else path.stat().st_size,
        "sha256": _fingerprint(path),
        "pictures": len(own),
        "characters": len({place[0] for place in own}),
        "kaggle_test_pictures": len(placed) - len(own),
        "passed_over": dict(passed_over),
        "licence": KAGGLE_LICENCE if of_kaggle else None,
    }


def _write(entry: Entry, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    left = MAX_PICTURE_BYTES
    with entry.open() as source, path.open("xb") as file:
        while chunk := source.read(CHUNK_BYTES):
            left -= len(chunk)
            if left < 0:  # a file that grows while it is read; archives cannot give more than they declare
                raise UserError(f"{'/'.join(entry.parts)!a} has more than {MAX_PICTURE_BYTES / 1e6:.0f} MB. Remove it.")
            file.write(chunk)


def _check_origin(source: str, target: Path) -> None:
    """Make sure that what is there came from this source, or from another place with the same content."""
    try:
        record = json.loads((target / RECORD).read_text(encoding="utf-8"))
        origin, sha256 = record["origin"], record.get("sha256")
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            f"{target} has no readable {RECORD}, so it was not made by this program. Move it away or use another name."
        ) from None
    if origin == _origin(source) or (source not in ("sample", "kaggle") and sha256 == _fingerprint(_existing(source))):
        return
    raise UserError(
        f"{target} was made from {origin}, not from {_origin(source)}, and is never changed. "
        "Remove that folder, or rename the source so that it gets a folder of its own."
    )


def _origin(source: str) -> str:
    return source if source in ("sample", "kaggle") else str(Path(source).expanduser().resolve())


def _existing(source: str) -> Path:
    path = Path(source).expanduser()
    if not source or not path.exists():
        raise UserError(f"There is no file or folder {source!r}. Expected {SOURCES}.")
    return path


def _fingerprint(path: Path) -> str:
    """SHA-256 of an archive; of a folder, which may be large, that of all names and sizes."""
    if path.is_dir():
        lines = [f"{'/'.join(entry.parts)}\t{entry.size}\n" for entry in _folder_entries(path)]
        return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


# ---------------------------------------------------------------- zip, tar and folder as one kind of entries


@contextmanager
def _opened(path: Path) -> Iterator[Iterable[Entry]]:
    """Open a source; damage of an archive, whenever it shows, becomes a sentence that names it."""
    try:
        if path.is_dir():
            yield _folder_entries(path)
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                yield _zip_entries(archive, path)
        else:
            with _tar_stream(path) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
                yield _tar_entries(archive, path)
    except DAMAGE as problem:
        raise _damaged(path, problem) from None
    except OSError as problem:
        if problem.errno is not None:
            raise
        raise _damaged(path, problem) from None  # how gzip reports bad data


def _damaged(path: Path, problem: Exception) -> UserError:
    return UserError(f"{path} is not a whole zip, tar or tar.gz archive ({problem}). Download it or pack it again.")


def _folder_entries(folder: Path) -> Iterator[Entry]:
    """List the regular files. Links are followed, for the folder is the user's own, but never in a circle."""
    seen = set()
    for where, folders, files in os.walk(folder, followlinks=True, onerror=_unreadable):
        real = os.path.realpath(where)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for file in (Path(where, name) for name in sorted(files)):
            about = file.stat()
            if stat.S_ISREG(about.st_mode):
                yield Entry(file.relative_to(folder).parts, about.st_size, lambda file=file: file.open("rb"))


def _unreadable(problem: OSError) -> None:
    raise problem  # os.walk by itself would pass over a folder that it may not read


def _zip_entries(archive: zipfile.ZipFile, path: Path) -> Iterator[Entry]:
    end = 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise UserError(f"{path} is refused: its entries overlap, as in a zip bomb.")
        end = info.header_offset + info.compress_size
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _link(info.filename, path)
        if info.flag_bits & 1:
            raise UserError(f"{path} is locked with a password. Unpack it and give the folder.")
        if not info.is_dir():
            yield Entry(_split(info.orig_filename, path), info.file_size, lambda info=info: archive.open(info))


def _tar_entries(archive: tarfile.TarFile, path: Path) -> Iterator[Entry]:
    for member in archive:
        if not (member.isreg() or member.isdir()):
            raise _link(member.name, path)
        if member.isreg():
            yield Entry(_split(member.name, path), member.size, lambda member=member: archive.extractfile(member))
    # tarfile takes a broken header or a cut-off end for the end of the archive, which is a block of zeros.
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("its end is missing")


class _BoundedGzip(gzip.GzipFile):
    """Refuses to inflate much at once, which tarfile would do for a long header."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= MAX_PICTURE_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return super().read(size)


def _tar_stream(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return _BoundedGzip(path) if compressed else path.open("rb")


def _split(name: str, path: Path) -> tuple[str, ...]:
    if OUTSIDE.search(name):
        raise UserError(f"{path} is refused: its entry {name[:MAX_NAME_BYTES]!a} would land outside its folder.")
    return tuple(part for part in name.split("/") if part not in ("", "."))


def _link(name: str, path: Path) -> UserError:
    return UserError(f"{path} is refused: {name[:MAX_NAME_BYTES]!a} is a link or a device. Pack the files themselves.")


def _limited(entries: Iterable[Entry], path: Path) -> Iterator[Entry]:
    """Pass entries on until they are too many or too large."""
    inflated = MAX_TOTAL_BYTES if path.is_dir() else max(HARMLESS_BYTES, MAX_INFLATION * path.stat().st_size)
    limit, total = min(MAX_TOTAL_BYTES, inflated), 0
    for number, entry in enumerate(entries, start=1):
        total += entry.size
        if number > MAX_ENTRIES:
            raise UserError(f"{path} is refused: it holds more than {MAX_ENTRIES:,} files.")
        if total > limit:
            raise UserError(f"{path} is refused: its files have more than {limit / 1e9:.0f} GB once unpacked.")
        yield entry


# ---------------------------------------------------------------- where an entry goes


def _plan(entries: Iterable[Entry], source: str) -> tuple[dict[Place, Entry], Counter[str]]:
    """Decide where each entry goes; returns the entries by place, and the counts of what is passed over."""
    pictures, passed_over = [], Counter()
    for entry in entries:
        if any(part.startswith(".") or part == "__MACOSX" for part in entry.parts):
            passed_over["hidden"] += 1
        elif not entry.parts or Path(entry.parts[-1]).suffix.lower() not in pictures.SUFFIXES:
            passed_over["not a picture"] += 1
        else:
            parts = tuple(unicodedata.normalize("NFC", part) for part in entry.parts)
            pictures.append(replace(entry, parts=parts))
    root = _root([entry.parts for entry in pictures], source)
    placed: dict[Place, Entry] = {}
    for entry in pictures:
        place = _place(entry.parts, root)
        if place is None:
            passed_over["not in a character's folder"] += 1
        elif placed.setdefault(place, entry) is not entry:
            raise UserError(f"{source} is refused: it holds {'/'.join(place)!a} twice.")
        elif entry.size > MAX_PICTURE_BYTES:
            raise UserError(f"{source}: {'/'.join(place)!a} has more than {MAX_PICTURE_BYTES / 1e6:.0f} MB. Remove it.")
    _check_names(placed, source)
    return placed, passed_over


def _root(pictures: list[tuple[str, ...]], source: str) -> tuple[str, ...]:
    """Find the folder that holds the characters' folders: the one with the most pictures two levels below."""
    if not pictures:
        raise UserError(f"{source} holds no pictures ({', '.join(pictures.SUFFIXES)}). Expected {LAYOUT}.")
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


def _place(parts: tuple[str, ...], root: tuple[str, ...]) -> Place | None:
    """Where a picture goes, given the folder that holds the characters' folders; None if it is passed over."""
    if KAGGLE_TEST_FOLDER in parts[:-1]:
        character, _, number = Path(parts[-1]).stem.rpartition("_")
        return (TEST_SET, character, parts[-1]) if character and number else None
    return parts[-2:] if len(parts) == len(root) + 2 and parts[:-2] == root else None


def _check_names(places: Iterable[Place], source: str) -> None:
    """Refuse names that some file system cannot hold, or cannot tell apart."""
    spelt: dict[Place, Place] = {}
    for place in places:
        for name in place:
            if UNSAFE.search(name) or not name.isprintable() or len(name.encode()) > MAX_NAME_BYTES:
                raise UserError(
                    f"{source} holds the name {name[:MAX_NAME_BYTES]!a}, which is not safe to use. Rename it."
                )
        if place[0].casefold() in (TEST_SET, RECORD) and len(place) == 2:
            raise UserError(f"{source} has a character named {place[0]!r}, a name that is kept. Rename the folder.")
        for depth in range(1, len(place) + 1):
            path = place[:depth]
            first = spelt.setdefault(tuple(name.casefold() for name in path), path)
            if first != path:
                raise UserError(
                    f"{source} holds {'/'.join(first)!a} and {'/'.join(path)!a}, which differ by case only. Rename one."
                )


def summary(folder: Path) -> str:
    """Say in one line what a folder of `data/raw` holds, and what was passed over."""
    record = records.read_json(folder / RECORD)
    passed_over = ", ".join(f"{number:,} {what}" for what, number in record.get("passed_over", {}).items())
    counts = f"{record['pictures']:,} pictures of {record['characters']} characters"
    return f"{folder}: {counts}" + (f" (passed over: {passed_over})" if passed_over else "")


def main(arguments: list[str] | None = None) -> int:
    """Fetch a source from the command line.

    Args:
        arguments: As on the command line; those of the process by default.

    Returns:
        Exit status: 0, 2 for a mistake, 130 for Ctrl-C.
    """
    parser = argparse.ArgumentParser(prog="python -m lib.data.sources", description=__doc__.splitlines()[0])
    parser.add_argument("source", help=SOURCES)
    parser.add_argument("--name", required=True, help="name of the folder to make")
    parser.add_argument("--raw", type=Path, default=paths.RAW, help="where to make it (default: data/raw)")
    options = parser.parse_args(arguments)
    try:
        folder = fetch(options.source, options.name, options.raw)
    except UserError as problem:
        return report_error(problem)
    except KeyboardInterrupt:
        print("Interrupted; nothing was kept.", file=sys.stderr)
        return 130
    print(summary(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
