"""Answers for very many pictures: Parquet files, each written whole, that a later call continues.

The list of pictures is made once and kept beside the answers. Each file holds the answers for a fixed slice of it, so
what is missing is known whatever was killed, and memory does not grow with the number of pictures.
"""

import contextlib
import functools
import glob
import itertools
import json
import os
import queue
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
from tqdm import tqdm

from lib import records
from lib.data import formats, pictures
from lib.errors import UserError, import_extra
from lib.inference import recogniser
from lib.inference.recogniser import Answer, Found, Guess, Recogniser
from lib.machine import cores

PICTURES_A_SHARD = 1000  # a second or two of one core
NETWORK_FILES = (records.LITERT_MODEL, records.RUN_RECORD, records.METRICS_RECORD)
LIST, REQUEST, SHARDS = "pictures.jsonl", "request.json", "part-*.parquet"
VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
FRAME = re.compile(rf"(.+(?:{'|'.join(map(re.escape, VIDEOS))}))#t=(\d+\.\d+)", re.IGNORECASE | re.DOTALL)
PASSWORD = re.compile(r"(?<!github:)//[^/@:]*:[^/]*@")  # github://organisation:repository@branch has none
# What a video may claim of itself: the header of a small file could fill the disk with a list of its moments.
LEAST_FRAME_BYTES, LEAST_RATE = 16, 0.1
# Schemes of fsspec whose addresses name no server: files, archives, caches, and stores of providers.
WITHOUT_SERVER = {
    *("file", "local", "memory", "dir", "zip", "tar", "libarchive", "simplecache", "filecache", "blockcache"),
    *("s3", "s3a", "gs", "gcs", "az", "abfs", "adl", "oss", "oci", "tos", "hf", "github", "gist"),
    *("gdrive", "dropbox", "box"),
}
DECIMALS = 6  # of a probability in JSON, CSV and Parquet; float32 has no more
TOP = 3  # characters of a row

Reader = Callable[[str], bytes]  # from a picture of the list to its bytes; raises `UserError`
Rows = list[dict[str, Any]]
# Unlike those of `Path`, false for a name that is empty or longer than the system allows.
is_folder, is_file, exists = os.path.isdir, os.path.isfile, os.path.exists


def as_record(picture: str, answer: Answer | UserError) -> dict[str, Any]:
    """Give the answer for a picture, or its error, as one flat record."""
    record: dict = {"picture": picture, "character": None, "name": None, "probability": None, "top": []}
    record |= {"known": False, "found": [], "error": None}
    if isinstance(answer, UserError):
        return record | {"error": str(answer)}
    record |= {"character": answer.character, "name": answer.name, "known": answer.known}
    record["probability"] = round(answer.probability, DECIMALS)
    return record | {key: [_rounded(each) for each in getattr(answer, key)] for key in ("top", "found")}


def _rounded(guess: Guess | Found) -> dict[str, Any]:
    values = guess._asdict() | {"probability": round(guess.probability, DECIMALS)}
    if values.get("box"):
        values["box"] = [round(edge, DECIMALS) for edge in values["box"]]
    return values


# ---------------------------------------------------------------- the list


def listed(argument: str, every: float | None = None) -> Iterator[str]:
    """List the pictures that an argument names, one after the other.

    Args:
        argument: A folder, a pattern such as `frames/*.jpg`, a text file (`.txt`) of one picture a line, a picture, or
            a folder or a pattern at an address such as `s3://bucket/frames`.
        every: Seconds between two frames of a video. Without it, videos are left out.

    Yields:
        Absolute paths and addresses, in no particular order; a frame of a video as `episode.mp4#t=12.500`.

    Raises:
        UserError: The address cannot be listed.
    """
    for picture in _named(argument):
        if not is_video(picture):
            yield picture
        elif every:
            yield from (f"{picture}#t={seconds:.3f}" for seconds in _moments(picture, every))
        elif picture == _absolute(argument):
            raise UserError(f"{argument} is a video. Say how many seconds apart its frames are: --every 1.")
        elif argument.endswith(".txt"):  # named one by one, so it gets an answer, which says what is missing
            yield picture


def _named(argument: str) -> Iterator[str]:
    if is_url(argument):
        yield from [argument] if is_web_page(argument) else _at_address(argument)
    elif is_folder(argument):
        yield from pictures_below(str(Path(argument).absolute()))
    elif argument.endswith(".txt") and is_file(argument):
        try:
            with Path(argument).open(encoding="utf-8-sig", errors="surrogateescape") as file:
                yield from (_absolute(line.rstrip("\n")) for line in file if line.strip())
        except OSError as problem:
            raise UserError(f"The list {argument} cannot be read: {problem.strerror}.") from None
    elif glob.has_magic(argument) and not exists(argument):
        unread: list[OSError] = []
        found = _matching(argument, unread)
        yield from (_absolute(path) for path in found if _is_picture(path) or is_video(path))
        yield from (_absolute(problem.filename) for problem in unread)  # reading them reports the reason
    else:
        yield _absolute(argument)


def _matching(pattern: str, unread: list[OSError]) -> Iterator[str]:
    """List the paths that a pattern names; below `**` each folder is entered once, however many links lead to it.

    The error of each folder that cannot be listed is added to `unread`.
    """
    pattern = re.sub(r"(?<![^/])\*\*$", "**/*", pattern)
    before, *after = re.split(r"(?<![^/])(?:\*\*/)+", pattern, maxsplit=1)
    for found in glob.iglob(before or "./"):  # noqa: PTH207 (Path has no absolute patterns)
        if not after:
            yield found
            continue
        entered = set()
        for folder, below, _ in os.walk(found, followlinks=True, onerror=unread.append):
            below[:] = [name for name in below if not name.startswith(".")]
            if (real := os.path.realpath(folder)) in entered:
                below.clear()
            else:
                entered.add(real)
                yield from _matching(str(Path(glob.escape(folder), after[0])), unread)


def pictures_below(folder: str) -> Iterator[str]:
    """List the picture files in a folder and below it, without hidden ones.

    Each folder is entered once, however many links point to it. A broken link and an unreadable folder are listed too:
    reading them reports the reason.
    """
    entered, waiting = set(), [folder]
    while waiting:
        here = waiting.pop()
        if (real := os.path.realpath(here)) in entered:
            continue
        entered.add(real)
        folders = []
        try:
            with os.scandir(here) as entries:  # an iterator: a million names in one folder take no memory
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if is_folder(entry.path) if entry.is_symlink() else entry.is_dir():  # a link may lead to itself
                        folders.append(entry.path)
                    elif _is_picture_file(entry):
                        yield entry.path
            waiting += sorted(folders, reverse=True)
        except OSError:
            yield here


def _at_address(address: str) -> Iterator[str]:
    core = import_extra("fsspec.core", "predictions")
    try:
        files, path = core.url_to_fs(address, use_listings_cache=False)
        found: Iterable[str] = [path]
        if glob.has_magic(path):
            found = filter(_is_picture, files.glob(path))
        elif files.isdir(path):
            found = _pictures_in(files, path)
        # What a path leaves out of its address: protocol, host, and the archive that it is in.
        first, *archive = address.split("::")
        before = first[: first.rfind(path)] if path in first else f"{first.partition('://')[0]}://"
        yield from ("::".join([before + file, *archive]) for file in found)
    except ImportError as problem:
        raise UserError(f"{address}: {problem}. For s3://: pip install -e '.[s3]' -c constraints.txt") from None
    except Exception as problem:  # each file system has errors of its own
        raise UserError(f"{address} cannot be listed: {problem}") from None


def _pictures_in(files: Any, folder: str) -> Iterator[str]:
    """List the pictures below a folder of a file system; `walk` passes over one below it that cannot be listed."""
    for entry in files.ls(folder, detail=True):
        if entry["type"] == "directory" and entry["name"].rstrip("/") != folder:
            yield from _pictures_in(files, entry["name"].rstrip("/"))
        elif _is_picture(entry["name"]):
            yield entry["name"]


def is_url(text: str) -> bool:
    """Say whether a text begins as an address does, with a scheme and `://`."""
    return re.match(r"[a-z][a-z0-9+.-]*://", text, re.IGNORECASE) is not None


def is_web_page(address: str) -> bool:
    """Say whether an address is one of http or https, which `lib.serving.fetch` reads."""
    return address.lower().startswith(("http://", "https://"))


def is_video(name: str) -> bool:
    """Say whether a name is that of a video file; OpenCV would open an address without the checks of pictures."""
    return name.lower().endswith(VIDEOS) and not is_url(name)


def _moments(video: str, every: float) -> Iterator[float]:
    """Give the seconds of a video that are looked at; the first alone where its length is unknown."""
    film = cv2.VideoCapture(os.fsencode(video))  # OpenCV crashes at a name that is no valid text
    frames, rate = film.get(cv2.CAP_PROP_FRAME_COUNT), film.get(cv2.CAP_PROP_FPS)
    length = 0.0
    if frames > 0 and rate > 0:
        length = min(frames, Path(video).stat().st_size / LEAST_FRAME_BYTES) / max(rate, LEAST_RATE)
    yield from itertools.takewhile(lambda second: second == 0 or second < length, itertools.count(0, every))


def _is_picture(name: str) -> bool:
    """Say whether a file is taken for a picture by its name, so that it need not be opened."""
    return formats.is_picture(name, b"")


def _is_picture_file(entry: os.DirEntry) -> bool:
    if _is_picture(entry.name) or is_video(entry.name):
        return entry.is_symlink() or entry.is_file()
    with contextlib.suppress(OSError):  # nothing says that it is a picture
        if entry.is_file():
            with Path(entry.path).open("rb") as file:
                return formats.format_of(file.read(formats.HEAD_BYTES)) is not None
    return False


def _absolute(picture: str) -> str:
    """Give the name of a picture that means the same on a worker, whose working directory is another.

    Raises:
        UserError: It is an address with a password, which would stand in the answers.
    """
    if (is_url(picture) or is_url(picture.rpartition("::")[2])) and (found := PASSWORD.search(picture)):
        prefix = f"FSSPEC_{picture[: found.start()].rstrip(':').rpartition(':')[2].upper()}"
        advice = f"and give it to fsspec: {prefix}_USERNAME and {prefix}_PASSWORD in the environment"
        advice = "or download it" if is_web_page(picture) else advice
        shown = PASSWORD.sub("//…@", picture)
        raise UserError(f"{shown} has a password, which would stand beside every answer. Leave it out, {advice}.")
    if is_url(picture):
        return picture
    return str(Path(picture).absolute()) if picture else ""


def _list_once(out: Path, arguments: list[str], network: Recogniser, every: float | None) -> int:
    """Write the list of pictures, unless it is there; returns their number."""
    asked = {"arguments": [_as_text(_absolute(argument)) for argument in arguments], "network": network.digest}
    asked |= {"every": every, "pictures_a_shard": PICTURES_A_SHARD}
    if (out / REQUEST).exists():
        request: dict[str, Any] = {}
        with contextlib.suppress(UserError, OSError):
            asked["files"] = records.digests(out, LIST)
            request = records.read_record(out / REQUEST)
        if {key: request.get(key) for key in asked} != asked:
            raise UserError(
                f"{out} holds answers for other pictures or of another network, or is damaged. Name another folder."
            )
        print(f"Continuing with the {request['count']:,} pictures listed at {request['listed']}.", file=sys.stderr)
        return request["count"]
    if any(out.glob(SHARDS)):
        raise UserError(f"{out} holds Parquet files of something else. Name another folder.")
    count = 0
    with records.atomic_write(out / LIST) as temporary, temporary.open("w", encoding="ascii") as file:
        for picture in itertools.chain.from_iterable(listed(argument, every) for argument in arguments):
            file.write(json.dumps(picture) + "\n")
            count += 1
    if not count:
        raise UserError(f"There are no pictures ({', '.join(formats.FORMATS)}) in {', '.join(arguments)}.")
    asked |= {"count": count, "listed": records.now()}
    records.write_record(out / REQUEST, asked, records.digests(out, LIST))
    return count


# ---------------------------------------------------------------- reading


def check_address(address: str, allow_private: bool) -> None:
    """Raise a `UserError` if an address of fsspec may lead to a server of this machine's own network.

    Those of http and https are for `lib.serving.fetch`, unless an archive or a cache stands before them.
    """
    if allow_private or not is_url(address) or is_web_page(address):
        return
    for link in address.split("::"):
        scheme, is_given, _ = link.partition("://")
        if (is_given or re.fullmatch("[a-z]+", link)) and scheme.lower() not in WITHOUT_SERVER:
            message = f"An address with {scheme}:// may lead to a server of this machine's own network."
            raise UserError(f"{message} Download it; or add --allow-private-addresses.")


def read_picture(picture: str, allow_private: bool, any_address: bool = False) -> bytes:
    """Give the bytes of a file, a frame of a video, or what stands at an address, up to the decoder's size limit.

    Web addresses may lead to this machine and its own network where `allow_private`; the schemes of fsspec, such as
    `s3://`, are read besides http and https where `any_address`. Raises UserError where it cannot be read.
    """
    if not is_url(picture):
        if frame := FRAME.fullmatch(picture):
            return _read_frame(frame[1], float(frame[2]))
        if is_folder(picture):
            found = f"holds no pictures ({', '.join(formats.FORMATS)}), may not be read"
            raise UserError(f"The folder {found}, or is in a list, which names pictures alone.")
        if is_video(picture):
            raise UserError("This is a video. Its frames are looked at with --out FOLDER --every SECONDS.")
        return recogniser.read_file(picture)
    if any_address and not is_web_page(picture):
        check_address(picture, allow_private)
        return _read_address(picture)
    from lib.serving import fetch  # its import takes a third of a second, which only URLs need

    try:
        return fetch.read_picture(picture, allow_private)
    except fetch.PrivateAddress as problem:
        raise UserError(f"{problem} If it is your own, add --allow-private-addresses.") from None


def _read_frame(video: str, seconds: float) -> bytes:
    film = cv2.VideoCapture(os.fsencode(video))
    film.set(cv2.CAP_PROP_POS_MSEC, seconds * 1000)
    is_read, frame = film.read()
    if not is_read:
        raise UserError(f"The video has no frame at {seconds:g} s, or cannot be read.")
    # As frames of the archive are; without loss, one of a film in 4K is larger than a picture may be.
    return cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def _read_address(address: str) -> bytes:
    core = import_extra("fsspec.core", "predictions")
    try:
        files, path = core.url_to_fs(address)
        return files.cat_file(path, start=0, end=pictures.MAX_BYTES + 1)
    except FileNotFoundError:
        raise UserError("There is no such file.") from None
    except Exception as problem:  # each file system has errors of its own
        raise UserError(f"The file cannot be read: {problem}") from None


# ---------------------------------------------------------------- the answers


def write(
    arguments: list[str], out: Path, network: Recogniser, read: Reader, address: str = "", every: float | None = None
) -> tuple[int, int]:
    """Write the answers for many pictures to Parquet files, or continue an earlier call that was ended.

    Args:
        arguments: What names the pictures; see `listed`, also for `every`.
        out: Folder of the answers.
        network: Answers for each picture.
        read: Gives the bytes of a picture, or raises `UserError`.
        address: `local` or the address of a Dask scheduler; empty for the threads of this process.

    Returns:
        The number of pictures, and of those without an answer, whose rows say why.

    Raises:
        UserError: No picture is named, the folder holds other answers, or the cluster cannot be used.
    """
    parquet = import_extra("pyarrow.parquet", "predictions")
    with records.lock(out):
        count = _list_once(out, arguments, network, every)
        request = records.file_sha256(out / REQUEST)
        done = errors = 0
        for shard in out.glob(SHARDS):
            try:
                table = parquet.read_table(shard, page_checksum_verification=True)
            except (OSError, ValueError):  # damaged: made again
                shard.unlink()
                continue
            if table.schema.metadata != _place(request, shard):
                raise UserError(f"{shard} holds answers of another folder or place. Move it away; it is made again.")
            done, errors = done + len(table), errors + len(table["error"].drop_null())
        if done < count:
            answered = _answered(_missing(out), network, read, address)
            seconds = 0.5 if sys.stderr.isatty() else 10
            with (
                contextlib.closing(answered),
                tqdm(total=count, initial=done, unit=" pictures", mininterval=seconds) as bar,
            ):
                for shard, found in answered:
                    table = _table(found).replace_schema_metadata(_place(request, shard))
                    with records.atomic_write(shard) as temporary:
                        parquet.write_table(table, temporary, compression="zstd", write_page_checksum=True)
                    errors += sum(row["error"] is not None for row in found)
                    bar.update(len(found))
        return count, errors


def _place(request: str, shard: Path) -> dict[bytes, bytes]:
    """Say which answers a file holds, in its metadata: the digest of what was asked for, and its own name."""
    return {b"request": request.encode(), b"part": shard.name.encode()}


def _missing(out: Path) -> Iterator[tuple[Path, list[str]]]:
    """Give the path of each file of answers that is missing, with its pictures."""
    with (out / LIST).open(encoding="ascii") as file:
        for number in itertools.count():
            lines = list(itertools.islice(file, PICTURES_A_SHARD))
            if not lines:
                return
            if not (shard := out / f"part-{number:06}.parquet").exists():
                yield shard, list(map(json.loads, lines))


def _answered(
    missing: Iterator[tuple[Path, list[str]]], network: Recogniser, read: Reader, address: str
) -> Iterator[tuple[Path, Rows]]:
    """Answer for each missing file, here or on a cluster whose workers get the network."""
    if not address:
        yield from ((shard, rows(network, read, items)) for shard, items in missing)
        return
    from lib import scheduler  # an optional extra

    files = {path.name: path.read_bytes() for path in map(network.run_dir.joinpath, NETWORK_FILES) if path.exists()}
    with (
        scheduler.connect(address, cores()) as client,
        scheduler.files_on_workers(client, files) as folder,
    ):
        task = functools.partial(_rows_on_worker, scheduler.version(), folder, read)

        def submit(shard: tuple[Path, list[str]]) -> Any:
            parents = {str(Path(picture).parent) for picture in shard[1] if not is_url(picture)}
            return client.submit(task, sorted(filter(is_folder, parents)), shard[1], pure=False)

        def room() -> int:
            return 2 * sum(client.nthreads().values())

        for (shard, _), future in scheduler.in_turn(missing, submit, room, queue.SimpleQueue()):
            yield shard, future.result()


def rows(network: Recogniser, read: Reader, items: list[str], at_once: int | None = None) -> Rows:
    """Give the records for a slice of the list; `at_once` as in `Recogniser.predict_many`."""
    return list(map(as_record, items, network.predict_many(items, read, TOP, at_once)))


def _rows_on_worker(code: str, network: str, read: Reader, folders: list[str], items: list[str]) -> Rows:
    """Answer for a slice of the list on a worker, which must see the folders that this machine sees."""
    from lib import scheduler

    worker = scheduler.this_worker(code)
    if unseen := [folder for folder in folders if not is_folder(folder)]:
        raise UserError(
            f"The worker {worker.address} does not see {unseen[0]}. Expected a folder that all workers share, or an "
            "address such as s3://bucket/frames."
        )
    return rows(_network(Path(worker.local_directory, network)), read, items, at_once=1)


_network = functools.lru_cache(maxsize=1)(Recogniser.load)  # once per process


def _as_text(name: str) -> str:
    """Escape the bytes of a file name that are no text: JSON and Parquet have text alone."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _table(found: Rows) -> Any:
    """Lay out records as a table."""
    arrow = import_extra("pyarrow", "predictions")
    text, number = arrow.string(), arrow.float64()
    guess = {"character": text, "name": text, "probability": number}
    place = guess | {"box": arrow.list_(number)}
    columns = {"picture": text, "time": number} | guess  # `time` is in seconds, of a frame of a video
    columns |= {"known": arrow.bool_(), "top": arrow.list_(arrow.struct(guess))}
    columns |= {"found": arrow.list_(arrow.struct(place)), "error": text}
    for row in found:
        frame = None if is_url(row["picture"]) else FRAME.fullmatch(row["picture"])
        row["picture"], row["time"] = (frame[1], float(frame[2])) if frame else (row["picture"], None)
        row["picture"], row["error"] = _as_text(row["picture"]), row["error"] and _as_text(row["error"])
    return arrow.Table.from_pylist(found, arrow.schema(columns))
