"""Read the pictures of a zip, a tar or a folder, and copy them.

Archives are untrusted: one is read in a process of its own whose time and memory are limited, no entry is unpacked to
its own path, and links are never followed. A folder is the user's own: links in it are followed, never in a circle.
"""

import contextlib
import gzip
import hashlib
import json
import math
import os
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import psutil
from tqdm import tqdm

from lib import machine, paths, records
from lib.data import layout, names
from lib.data.formats import HEAD_BYTES, is_picture
from lib.data.layout import PassedOver
from lib.errors import UserError

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None

SUMS = "SHA256SUMS"  # the digest of every picture, as `sha256sum` writes it

MAX_PICTURE_BYTES = 100_000_000
# Pictures are compressed already: an archive that grows a hundredfold is a bomb, unless it is small (flat BMPs).
MAX_INFLATION = 100
SMALL_BYTES = 1_000_000_000
CHUNK_BYTES = 1_000_000
# Folders in which file systems and storage servers keep thumbnails, old versions and deleted files.
OF_SYSTEMS = {"__macosx", "@eadir", "#recycle", "#snapshot", "$recycle.bin", "lost+found", "system volume information"}

# What the process may take that reads an archive; the Kaggle archive takes 40 MB and 15 s.
LIST_SECONDS = 6  # of processor time to list the entries of a small archive
LIST_BYTES_PER_SECOND = 1_000_000
COPY_BYTES_PER_SECOND = 2_000_000
COPY_PICTURES_PER_SECOND = 200  # to make a file takes up to 1.5 ms: of 70,000 scanned digits, longer than their 20 MB
MEMORY_BYTES = 250_000_000  # for a small archive; a long list of entries takes more
MAX_MEMORY_BYTES = 4_000_000_000

UNREADABLE = "unreadable"
UNICODE_PATH = 0x7075  # extra field of a zip entry: its name in UTF-8


class Entry(NamedTuple):
    """A file of a source."""

    parts: tuple[str, ...]  # of its path; bytes of a name that are not UTF-8 stand in them as surrogate escapes
    size: int  # declared, bytes
    open: Callable[[], IO[bytes]]
    head: bytes  # the first `HEAD_BYTES` bytes

    @classmethod
    def of(cls, parts: tuple[str, ...], size: int, open: Callable[[], IO[bytes]]) -> "Entry":
        """Make an entry with the head of its file."""
        with open() as file:
            return cls(parts, size, open, file.read(HEAD_BYTES))


def copy(source: Path, folder: Path, allow_seconds: Callable[[float], None] = lambda seconds: None) -> dict[str, Any]:
    """Copy the pictures of an archive or a folder to `<character>/<file>` in an empty folder.

    `allow_seconds` limits the processor time, once it is known how much there is to copy.

    Returns:
        `pictures`, `characters` and `kaggle_test_pictures`: numbers; `given_splits`: whether the source brings splits
        of its own; `passed_over` and `examples`: what was not taken as it was, by reason.

    Raises:
        UserError: The source is damaged, unsafe, or laid out otherwise.
    """
    passed_over = PassedOver()
    with _opened(source, passed_over) as entries:
        pictures = [entry for entry in entries if _is_taken(entry, passed_over)]
        if not pictures:
            raise UserError(f"{source} holds no pictures{passed_over}. Expected {layout.EXPECTED}.")
        places = layout.destinations([entry.parts for entry in pictures], str(source), passed_over)
        placed = {place: entry for place, entry in zip(places, pictures, strict=True) if place}
        size = sum(entry.size for entry in placed.values())
        limit = max(SMALL_BYTES, MAX_INFLATION * source.stat().st_size)
        if size > limit and not source.is_dir():
            raise UserError(
                f"{source} is rejected: its pictures take more than {limit / 1e9:.0f} GB. "
                "Unpack it and give the folder."
            )
        if size > (free := shutil.disk_usage(folder).free):
            room = f"{size / 1e6:.0f} MB, but {folder.parent} has {free / 1e6:.0f} MB free"
            raise UserError(f"{source} needs {room}. Make room there.")
        seconds = (source.stat().st_size + size) / COPY_BYTES_PER_SECOND + len(placed) / COPY_PICTURES_PER_SECOND
        allow_seconds(LIST_SECONDS + seconds)
        bar = tqdm(placed.items(), desc=f"Copying {source.name}", unit=" pictures", disable=None)
        copied: dict[Callable[[], IO[bytes]], Path] = {}
        for place, entry in bar:
            _write(entry, folder.joinpath(*place), copied)
    frames = [place for place in placed if place[0] != layout.TEST_SET]
    return {
        "pictures": len(frames),
        "characters": len({place[-2] for place in frames}),
        "kaggle_test_pictures": len(placed) - len(frames),
        "given_splits": any(len(place) > 2 for place in frames),
        "passed_over": dict(passed_over.numbers),
        "examples": passed_over.examples,
    }


def write_sums(folder: Path) -> str:
    """Write `SHA256SUMS` to a folder of pictures; returns its digest."""
    contents = sums({path: records.file_sha256(folder / path) for path in pictures_in(folder)})
    (folder / SUMS).write_bytes(contents)
    return hashlib.sha256(contents).hexdigest()


def sums(digests: dict[str, str]) -> bytes:
    """Lay out `SHA256SUMS`, from the digests of pictures by their paths."""
    return "".join(f"{digest}  {path}\n" for path, digest in sorted(digests.items())).encode()


def pictures_in(folder: Path) -> list[str]:
    """List the pictures of a copy, as paths in it, sorted: `<character>/<file>`, below the folder of a set too."""
    found = (
        path.relative_to(folder) for pattern in ("*/*", "*/*/*") for path in folder.glob(pattern) if path.is_file()
    )
    placed = (path for path in found if len(path.parts) == (3 if path.parts[0] in layout.SETS else 2))
    return sorted(path.as_posix() for path in placed if not any(part.startswith(".") for part in path.parts))


def read_sums(folder: Path) -> dict[str, str]:
    """Read the digests by path that `write_sums` wrote; none if the file is gone or not of that kind."""
    path = folder / SUMS
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    return {path: digest for digest, separator, path in (line.partition("  ") for line in lines) if separator}


def _is_taken(entry: Entry, passed_over: PassedOver) -> bool:
    if any(part.startswith(".") or part.casefold() in OF_SYSTEMS for part in entry.parts):
        passed_over.add("hidden", entry.parts)
    elif not entry.parts or not is_picture(entry.parts[-1], entry.head):
        passed_over.add("not a picture", entry.parts)
    elif entry.size > MAX_PICTURE_BYTES:
        passed_over.add(f"larger than {MAX_PICTURE_BYTES / 1e6:.0f} MB", entry.parts)
    else:
        return True
    return False


def _write(entry: Entry, path: Path, copied: dict[Callable[[], IO[bytes]], Path]) -> None:
    """Copy a picture; a second name of a file from its copy, since a compressed tar would be read anew up to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    first = copied.setdefault(entry.open, path)
    with entry.open() if first == path else first.open("rb") as source, path.open("xb") as file:
        shutil.copyfileobj(source, file)


# ---------------------------------------------------------------- entries


@contextlib.contextmanager
def _opened(path: Path, passed_over: PassedOver) -> Iterator[Iterator[Entry]]:
    """Open a source; damage of an archive, at whatever point it is found, becomes a `UserError` that names it."""
    if path.is_dir():
        yield _folder_entries(path, passed_over)
        return
    with path.open("rb") as file:
        head = file.read(tarfile.BLOCKSIZE)
    is_gzip, is_tar = head.startswith(b"\x1f\x8b"), head[257:262] == b"ustar"
    try:
        if not is_gzip and not is_tar and zipfile.is_zipfile(path):  # by its end, which may be that of a zip in a tar
            with zipfile.ZipFile(path) as archive:
                if head.startswith(b"PK\3\4") and min((info.header_offset for info in archive.infolist()), default=1):
                    raise zipfile.BadZipFile("more precedes it, as where two archives were joined")
                yield _zip_entries(archive, path, passed_over)
        else:
            reader = gzip.open if is_gzip else open
            with reader(path, "rb") as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
                yield _tar_entries(archive, path, passed_over)
    except (UserError, MemoryError):
        raise
    except Exception as problem:  # the readers of the standard library raise many kinds for damaged bytes
        if isinstance(problem, OSError) and problem.errno is not None:  # gzip reports bad data without a number
            raise
        raise UserError(
            f"{path} cannot be read as a zip, tar or tar.gz archive ({str(problem) or type(problem).__name__}). "
            "Download it again, or unpack it and give the folder."
        ) from None


def files(folder: Path, passed_over: PassedOver | None = None) -> Iterator[tuple[Path, os.stat_result]]:
    """Find the regular files in and below a folder, without hidden folders, sorted; of an archive, itself.

    Links are followed, and each folder is read once, by its real path if that is inside `folder`. `passed_over` counts
    what cannot be read, such as a dangling link, and folders that a link leads to once more.

    Yields:
        A path and its status, of what a link leads to.
    """

    def skipped(reason: str, path: Path | str) -> None:
        if passed_over:
            passed_over.add(reason, os.path.relpath(path, folder))

    if not folder.is_dir():
        yield folder, folder.stat()
        return
    seen: set[str] = set()
    starts = [folder]
    for start in starts:  # folders behind links come last
        for parent, below, found in os.walk(start, onerror=lambda problem: skipped(UNREADABLE, problem.filename)):
            if (real := os.path.realpath(parent)) in seen:
                skipped("a folder that was read under another name", parent)
                below.clear()
                continue
            seen.add(real)
            below[:] = sorted(name for name in below if not name.startswith("."))
            starts += (path for name in below if (path := Path(parent, name)).is_symlink())
            for file in (Path(parent, name) for name in sorted(found)):
                try:
                    status = file.stat()
                except OSError:
                    if not file.name.startswith("."):  # an editor's lock file is a link that leads nowhere
                        skipped(UNREADABLE, file)
                    continue
                if stat.S_ISREG(status.st_mode):
                    yield file, status


def _folder_entries(folder: Path, passed_over: PassedOver) -> Iterator[Entry]:
    for file, status in files(folder, passed_over):
        parts = file.relative_to(folder).parts
        try:
            yield Entry.of(parts, status.st_size, partial(file.open, "rb"))
        except OSError:
            passed_over.add(UNREADABLE, parts)


def _zip_entries(archive: zipfile.ZipFile, path: Path, passed_over: PassedOver) -> Iterator[Entry]:
    end = 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise UserError(f"{path} is rejected: its entries overlap, as in a zip bomb. Pack it again.")
        end = info.header_offset + info.compress_size
        if info.flag_bits & 1:
            raise UserError(f"{path} is locked with a password. Unpack it and give the folder.")
        name = _zip_name(info)
        if names.is_text(name):  # else it may be half of a Japanese or Chinese letter
            name = name.replace("\\", "/")  # with which Windows separates folders, against the format
        parts = _safe_parts(path, name)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if name.endswith("/") or kind == stat.S_IFDIR:
            continue
        if kind in (0, stat.S_IFREG):
            yield Entry.of(parts, info.file_size, partial(archive.open, info))
        else:
            passed_over.add("links and devices", parts)


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Read a name as UTF-8, whether or not the entry says that it is; other bytes become surrogate escapes."""
    utf8 = 0x800
    if info.flag_bits & utf8:
        return info.orig_filename
    contents = info.orig_filename.encode("cp437")  # what zipfile decoded it from
    with contextlib.suppress(struct.error, UnicodeDecodeError):
        extra = info.extra
        while len(extra) >= 4:
            number, length = struct.unpack_from("<HH", extra)
            if number == UNICODE_PATH and struct.unpack_from("<I", extra, 5)[0] == zlib.crc32(contents):
                return extra[9 : 4 + length].decode()
            extra = extra[4 + length :]
    return contents.decode(errors="surrogateescape")


def _tar_entries(archive: tarfile.TarFile, path: Path, passed_over: PassedOver) -> Iterator[Entry]:
    found: dict[str, Entry] = {}
    for member in archive:
        parts = _safe_parts(path, member.name)
        archive.members.clear()  # a list of all that were read
        if member.islnk() and (target := found.get(member.linkname)):  # GNU tar's second name of a file
            entry = found[member.name] = target._replace(parts=parts)
            yield entry
        elif member.isreg():
            entry = found[member.name] = Entry.of(parts, member.size, partial(archive.extractfile, member))
            yield entry
        elif not member.isdir():
            passed_over.add("links and devices", parts)
    # tarfile ends silently at a damaged header. A complete archive ends with a block of zeros.
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("its end is missing")
    while chunk := archive.fileobj.read(CHUNK_BYTES):  # gzip's checksum stands at the very end
        if chunk.strip(b"\0"):
            raise tarfile.ReadError("more follows its end, as where two archives were joined")


def _safe_parts(path: Path, name: str) -> tuple[str, ...]:
    """Split the name of an entry; raise if its path leads outside its folder."""
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or ".." in parts or "\0" in name or (parts and parts[0][1:] == ":"):
        raise UserError(f"{path} is rejected: the path of its entry {name[:200]!a} leads outside its folder.")
    return parts


# ---------------------------------------------------------------- in a process of its own


def copy_isolated(source: Path, folder: Path) -> dict[str, Any]:
    """Do what `copy` does, in a process whose time and memory are limited.

    Raises:
        UserError: As `copy`, or the archive takes too much of either.
    """
    command = [sys.executable, "-m", __name__, str(source), str(folder)]
    path = os.pathsep.join(filter(None, [str(paths.ROOT), os.environ.get("PYTHONPATH")]))  # this very `lib`
    done = subprocess.run(command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": path}, check=False)
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        slow = hasattr(signal, "SIGXCPU") and done.returncode == -signal.SIGXCPU
        what = "far more time than its size accounts for" if slow else "more memory than its size accounts for"
        raise UserError(
            f"{source} is rejected: reading it takes {what}. It is damaged, or made to do harm; unpack it and give "
            "the folder."
        ) from None
    if "os_error" in answer:
        raise OSError(*answer["os_error"])
    if "error" in answer:
        raise UserError(answer["error"])
    return answer


def _allow_seconds(seconds: float) -> None:
    """Limit the processor time of this process."""
    if resource:
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        allowed = math.inf if hard == resource.RLIM_INFINITY else hard - 1  # at the hard limit nothing says why
        resource.setrlimit(resource.RLIMIT_CPU, (min(round(seconds), allowed), hard))


def main() -> None:
    """Copy the archive that the first argument names to the folder of the second; print the answer as JSON."""
    source, folder = map(Path, sys.argv[1:])
    machine.end_with_parent()
    size = source.stat().st_size
    _allow_seconds(LIST_SECONDS + size / LIST_BYTES_PER_SECOND)
    if resource:
        memory = psutil.Process().memory_info().vms + min(MEMORY_BYTES + 2 * size, MAX_MEMORY_BYTES)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # ending at a limit writes no core
        with contextlib.suppress(ValueError, OSError):  # macOS knows this limit but does not keep it
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    try:
        answer = copy(source, folder, _allow_seconds)
    except MemoryError:
        sys.exit(1)
    except UserError as problem:
        answer = {"error": str(problem)}
    except OSError as problem:
        answer = {"os_error": [problem.errno, problem.strerror, problem.filename and str(problem.filename)]}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
