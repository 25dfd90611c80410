"""From a folder of pictures to a table with one row a picture, its split, and one array with all pixels.

`prepare` writes to `processed/`, the last one last, so that a folder with a manifest is complete:

    images.npy       uint8 (rows, picture_size, picture_size, 3), RGB; a row for every readable picture
    near_duplicates.npy  int64 (pairs, 2), places of two near-copies in the manifest
    settings.json    the arguments that the rest follows from
    manifest.csv     path, character, width, height, sha256, group, split, left_out, image, detail

Nothing is deleted: a picture that is not used has an empty `split` and the reason in `exclusion_reason`. `group` numbers
the near-copies among the frames, and apart from them those among the pictures of the archive's own test set.
"""

import collections
import contextlib
import functools
import hashlib
import itertools
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from lib import records
from lib.data import dataset, duplicates, pictures
from lib.data.preparation import Preparation
from lib.errors import UserError

DEFAULTS = Preparation()


# Grey levels RMS between thumbnails. Of the archive's test pictures 95 % are within 1.8 of the frame that they are
# scaled copies of; the two nearest frames with different labels that are not one frame are 3.3 apart.
SAME_PICTURE_RMS = 2.5

# Fingerprints are taken at one size, so that splits are the same at every picture size and fit.
FINGERPRINT_SIZE = 64
CHUNK = 64  # pictures that a process decodes at a time: 0.8 MB at 64 pixels
SERIAL_UP_TO = 500  # pictures; starting processes costs as much as decoding them
MAX_PROCESSES = 8  # each takes about 150 MB


class Decoded(NamedTuple):
    """One file: its pixels, or in `detail` the sentence that says why there are none."""

    width: int
    height: int
    sha256: str
    detail: str
    pixels: np.ndarray | None
    hashes: np.ndarray | None
    thumbnail: np.ndarray | None


def prepare(
    raw: Path,
    processed: Path,
    preparation: Preparation = DEFAULTS,
    progress: bool = True,
) -> pd.DataFrame:
    """Decode every picture once and divide them into train, validation and test, 70/15/15 for each character.

    Args:
        raw: Folder with `<character>/<file>` and, if there is one, `kaggle_test/<character>/<file>`.
        processed: Folder to write to; it is made, and an earlier result is replaced.
        preparation: Settings; see their class.
        progress: Whether to show a progress bar where there is a terminal.

    Returns:
        The manifest, sorted by path, as `load` reads it.

    Raises:
        UserError: If an argument is out of range, if there is nothing to divide, if a character has too few
            pictures for three splits, or if `processed` cannot be written.
    """
    picture_size, resize_mode = preparation.picture_size, preparation.resize_mode
    files = _files(raw)
    decode = functools.partial(_decode_chunk, raw, picture_size=picture_size, resize_mode=resize_mode)
    try:
        with records.atomic_write(processed / dataset.IMAGES) as images:
            decoded = _in_order(decode, files, progress)
            table, hashes, thumbnails = _write_images(images, picture_size, files, decoded)
            pairs = duplicates.near_duplicate_pairs(hashes, thumbnails)
            table, pairs = _divide(table, pairs, duplicates.thumbnail_rms(thumbnails, pairs), preparation)
            # From here until the new manifest is in place there is none, so that a half-replaced result is not used.
            (processed / dataset.MANIFEST).unlink(missing_ok=True)
        with records.atomic_write(processed / dataset.NEAR_DUPLICATES) as temporary:
            np.save(temporary, pairs)
        records.write_json(processed / dataset.SETTINGS, preparation.model_dump())
        records.write_csv(processed / dataset.MANIFEST, table)
    except OSError as problem:
        raise UserError(
            f"The pictures cannot be prepared in {processed}: {problem.strerror or problem}. "
            "Make room there or give write permission, and try again."
        ) from problem
    return dataset.read_manifest(processed / dataset.MANIFEST)


# ---------------------------------------------------------------- files → pixels


def _files(raw: Path) -> list[str]:
    """List the pictures as paths relative to `raw`, sorted, hidden files passed over."""
    if not raw.is_dir():
        raise UserError(f"There is no folder {raw}. Fetch the pictures first: `make data DATA=...`.")
    found = itertools.chain(raw.glob("*/*"), raw.glob(f"{dataset.TEST_SET}/*/*"))
    places = [path.relative_to(raw) for path in found if path.is_file()]
    files = sorted(p.as_posix() for p in places if not any(part.startswith(".") for part in p.parts))
    # A file right inside kaggle_test/ has no character.
    files = [file for file in files if not (file.startswith(f"{dataset.TEST_SET}/") and file.count("/") == 1)]
    if not files:
        raise UserError(f"{raw} holds no pictures. Expected one folder per character with the pictures in it.")
    return files


def _decode_chunk(raw: Path, files: list[str], picture_size: int, resize_mode: str) -> list[Decoded]:
    return [_decode(raw / file, picture_size, resize_mode) for file in files]


def _decode(path: Path, picture_size: int, resize_mode: str) -> Decoded:
    """Read one file; a picture that cannot be used is an answer, not an error."""
    digest = ""
    try:
        contents = path.read_bytes()
        digest = hashlib.sha256(contents).hexdigest()
        width, height = pictures.probe(contents)
        pixels = pictures.decode(contents, picture_size, resize_mode)
        plain = (picture_size, resize_mode) == (FINGERPRINT_SIZE, "stretch")
        known_by = pixels if plain else pictures.decode(contents, FINGERPRINT_SIZE)
    except pictures.UnreadablePicture as problem:
        return Decoded(0, 0, digest, str(problem), None, None, None)
    except OSError as problem:
        sentence = f"The file cannot be opened: {problem.strerror or problem}."
        return Decoded(0, 0, digest, sentence, None, None, None)
    hashes, thumbnails = duplicates.fingerprint(known_by[None])
    return Decoded(width, height, digest, "", pixels, hashes[0], thumbnails[0])


def _in_order(decode: Callable[[list[str]], list[Decoded]], files: list[str], progress: bool) -> Iterator[Decoded]:
    """Decode chunks in several processes and yield the results in the order of `files`."""
    chunks = [files[start : start + CHUNK] for start in range(0, len(files), CHUNK)]
    with contextlib.ExitStack() as stack:
        # `disable=None`: no bar where the output is not a terminal, such as a log or a papermill notebook.
        bar = stack.enter_context(tqdm(total=len(files), unit=" pictures", disable=None if progress else True))
        results = map(decode, chunks) if len(files) <= SERIAL_UP_TO else _in_processes(decode, chunks)
        for result in results:
            yield from result
            bar.update(len(result))


def _in_processes(decode: Callable[[list[str]], list[Decoded]], chunks: Iterable[list[str]]) -> Iterator[list[Decoded]]:
    """Like `map`, with few chunks under way at any time, so that memory does not grow with their number."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = min(available, MAX_PROCESSES)
    # Spawned: a forked child of a Jupyter kernel inherits its threads' locks, and may wait for them for ever.
    pool = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))
    waiting = collections.deque()
    try:
        for chunk in chunks:
            waiting.append(pool.submit(decode, chunk))
            if len(waiting) >= 3 * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise UserError(
            "A process that decodes pictures was killed, most likely because memory ran out. "
            "Close other programs and try again."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _write_images(
    path: Path, size: int, files: list[str], decoded: Iterable[Decoded]
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Stream the pixels to a `.npy` file; returns the first columns of the manifest and the fingerprints.

    The fingerprints have one row for each row of the images: `uint8 (rows, 32)` and `uint8 (rows, 256)`.
    """
    records, hashes, thumbnails = [], [], []
    with path.open("wb") as file:
        # How many are readable shows at the end. numpy leaves room in the header for a longer first dimension.
        start = _write_header(file, len(files), size)
        for name, one in zip(files, decoded, strict=True):
            readable = one.pixels is not None
            image = len(hashes) if readable else -1
            records.append((name, one.width, one.height, one.sha256, one.detail, image))
            if readable:
                file.write(one.pixels.tobytes())
                hashes.append(one.hashes)
                thumbnails.append(one.thumbnail)
        file.seek(0)
        if _write_header(file, len(hashes), size) != start:
            raise RuntimeError("the header of the array changed its length")
    table = pd.DataFrame(records, columns=["path", "width", "height", "sha256", "detail", "image"])
    table["character"] = [file.split("/")[-2] for file in files]
    return table, np.array(hashes, np.uint8).reshape(-1, 32), np.array(thumbnails, np.uint8).reshape(-1, 256)


def _write_header(file: IO[bytes], rows: int, size: int) -> int:
    """Write the header of `uint8 (rows, size, size, 3)`; returns where the pixels begin."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (rows, size, size, 3)}
    np.lib.format.write_array_header_1_0(file, header)
    return file.tell()


# ---------------------------------------------------------------- pixels → splits


def _divide(
    table: pd.DataFrame, pairs: np.ndarray, rms: np.ndarray, preparation: Preparation
) -> tuple[pd.DataFrame, np.ndarray]:
    """Add group, reason and split to the table.

    Args:
        table: One row a file.
        pairs: Near-copies, rows of the images.
        rms: How far the thumbnails of each pair differ.
        preparation: The settings of `prepare`.

    Returns:
        The manifest, and the pairs as places in it.
    """
    pairs = np.flatnonzero(table.image >= 0)[pairs]
    official_test = dataset.in_official_test(table).to_numpy()
    alike = official_test[pairs[:, 0]] == official_test[pairs[:, 1]]  # both frames, or both of the test set
    table["group"] = _groups(table, pairs[alike])
    table["exclusion_reason"] = _exclusion_reasons(
        table, official_test, preparation, pairs, alike & (rms < SAME_PICTURE_RMS)
    )
    table["split"] = ""
    used = (table.exclusion_reason == "").to_numpy()
    table.loc[used & official_test, "split"] = dataset.TEST_SET
    frames = table[used & ~official_test]
    groups = frames.group.to_numpy() if preparation.split == "grouped" else np.arange(len(frames))
    table.loc[frames.index, "split"] = _assign(frames.character.to_numpy(), groups, preparation.seed)
    _check_splits(table)
    return table[list(dataset.COLUMNS)], pairs


def _groups(table: pd.DataFrame, pairs: np.ndarray) -> np.ndarray:
    """Number the groups among the readable pictures by first appearance; -1 for the others."""
    readable = (table.image >= 0).to_numpy()
    groups = np.full(len(table), -1, np.int64)
    groups[readable] = duplicates.groups_of_pairs(table.image.to_numpy()[pairs], readable.sum())
    return groups


def _exclusion_reasons(
    table: pd.DataFrame, official_test: np.ndarray, preparation: Preparation, pairs: np.ndarray, same: np.ndarray
) -> np.ndarray:
    """Decide why a picture is not used: the first reason that holds, an empty string if none does.

    Frames depend on the archive's own test set through `exclude_kaggle_test` alone. Copies inside that set stay in:
    it is scored as it was published.

    Args:
        table: One row a file.
        official_test: `bool (n,)`: which rows belong to the archive's own test set.
        preparation: The settings of `prepare`.
        pairs: Near-copies, places in the table.
        same: `bool (m,)`: which pairs are the same picture.
    """
    names = table.character.to_numpy()
    reason = np.full(len(table), "", dtype=object)

    def leave_out(which: np.ndarray, why: str) -> None:
        reason[which & (reason == "")] = why

    leave_out((table.image < 0).to_numpy(), dataset.UNREADABLE)
    contradicting = pairs[same & (names[pairs[:, 0]] != names[pairs[:, 1]])]
    leave_out(np.isin(np.arange(len(table)), contradicting), dataset.TWO_LABELS)
    copies = table.assign(official_test=official_test).duplicated(["official_test", "character", "sha256"]).to_numpy()
    leave_out(copies & ~official_test, dataset.EXACT_COPY)
    kept = _kept_characters(names[~official_test & (reason == "")], preparation.min_pictures)
    leave_out(~np.isin(names, kept), dataset.TOO_FEW)
    if preparation.exclude_kaggle_test:
        groups = duplicates.groups_of_pairs(pairs, len(table))
        leave_out(~official_test & np.isin(groups, groups[official_test & (reason == "")]), dataset.IN_TEST_SET)
    return reason


def _kept_characters(names: np.ndarray, min_pictures: int) -> list[str]:
    """List the characters with at least `min_pictures` pictures."""
    found = collections.Counter(sorted(names)).most_common()
    kept = [name for name, number in found if number >= min_pictures]
    if len(kept) > 1:
        return kept
    if len(found) < 2:
        only = f"Only {found[0][0]} has pictures" if found else "No picture"
        raise UserError(f"{only} that can be used; at least two characters are needed. Add a folder for each.")
    wanted = f"at least {min_pictures} pictures that can be used"
    (first, most), (second, next_most) = found[:2]
    if not kept:
        raise UserError(
            f"No character has {wanted}; {first} has the most, {most}, then {second}, {next_most}. "
            f"Add pictures, or set MIN_PICTURES={next_most} or lower."
        )
    raise UserError(
        f"Only {first} has {wanted}, and at least two characters are needed; {second} comes next with {next_most}. "
        f"Add pictures, or set MIN_PICTURES={next_most} or lower."
    )


def _assign(names: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Send whole groups to splits so that each character is divided by `SHARES` as evenly as the groups allow.

    Groups are placed one by one, the largest first and those of one size in random order, each where its characters
    lack the largest part of their share. The many single pictures that come last even out what the groups left.

    Args:
        names: The character of each picture, `(n,)`.
        groups: The group of each picture, `int64 (n,)`.
        seed: What the random order follows from.

    Returns:
        The split of each picture, `(n,)`.
    """
    label = np.unique(names, return_inverse=True)[1]
    _, group, size = np.unique(groups, return_inverse=True, return_counts=True)
    members = np.split(np.argsort(group, kind="stable"), np.cumsum(size)[:-1])
    wanted = np.bincount(label)[:, None] * np.array(list(dataset.SPLIT_FRACTIONS.values()))  # (characters, splits)
    placed = np.zeros_like(wanted)
    split = np.empty(len(names), np.int64)
    shuffled = np.random.default_rng(seed).permutation(len(size))
    for number in shuffled[np.argsort(-size[shuffled], kind="stable")]:
        labels = label[members[number]]
        lacking = (1 - placed[labels] / wanted[labels]).sum(axis=0)
        split[members[number]] = chosen = lacking.argmax()
        np.add.at(placed[:, chosen], labels, 1)
    return np.array(list(dataset.SPLIT_FRACTIONS), dtype=object)[split]


def _check_splits(table: pd.DataFrame) -> None:
    # Also a character that has pictures in the archive's own test set alone, all of its frames being left out.
    wanted = table.character[table.exclusion_reason == ""].unique()
    for name, in_splits in (
        dataset.counts(table).reindex(index=wanted, columns=list(dataset.SPLIT_FRACTIONS), fill_value=0).iterrows()
    ):
        if in_splits.min() == 0:
            groups = table.group[(table.character == name) & table.split.isin(list(dataset.SPLIT_FRACTIONS))].nunique()
            raise UserError(
                f"{name} has {in_splits.sum()} usable pictures in {groups} groups of near-copies, too few to have some "
                "in each of train, validation and test. Add pictures, or raise MIN_PICTURES to leave it out."
            )


# ---------------------------------------------------------------- reading
