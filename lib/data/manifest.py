"""From a folder of pictures to a table with one row a picture, its split, and one array with all pixels.

`prepare` writes to `processed/`, the last one last, so that a folder with a manifest is complete:

    images.npy       uint8 (rows, picture_size, picture_size, 3), RGB; a row for every readable picture
    near_copies.npy  int64 (pairs, 2), places of two near-copies in the manifest
    settings.json    the arguments that the rest follows from
    manifest.csv     path, character, width, height, sha256, group, split, left_out, image, detail

Nothing is deleted: a picture that is not used has an empty `split` and the reason in `left_out`. `group` numbers
the near-copies among the frames, and apart from them those among the pictures of the archive's own test set.
"""

import collections
import contextlib
import functools
import hashlib
import itertools
import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from lib import runs
from lib.data import duplicates, pictures
from lib.errors import UserError

IMAGES = "images.npy"
NEAR_COPIES = "near_copies.npy"
SETTINGS = "settings.json"
MANIFEST = "manifest.csv"

TEST_SET = "kaggle_test"  # the folder of the archive's own test set, and its split
SHARES = {"train": 0.70, "validation": 0.15, "test": 0.15}
SPLITS = ("grouped", "random")
PICTURE_SIZES = (16, 512)  # pixels; the decoder's smallest picture, and 0.8 MB a picture

UNREADABLE = "unreadable"
TWO_LABELS = "same picture under two labels"
EXACT_COPY = "exact copy"
TOO_FEW = "too few pictures of the character"
IN_TEST_SET = "matches the archive's test set"
REASONS = (UNREADABLE, TWO_LABELS, EXACT_COPY, TOO_FEW, IN_TEST_SET)

# Grey levels RMS between thumbnails. Of the archive's test pictures 95 % are within 1.8 of the frame that they are
# scaled copies of; the two nearest frames with different labels that are not one frame are 3.3 apart.
SAME_PICTURE_RMS = 2.5

# Fingerprints are taken at one size, so that splits are the same at every picture size and fit.
FINGERPRINT_SIZE = 64
CHUNK = 64  # pictures that a process decodes at a time: 0.8 MB at 64 pixels
SERIAL_UP_TO = 500  # pictures; starting processes costs as much as decoding them
MAX_PROCESSES = 8  # each takes about 150 MB

COLUMNS = {
    "path": str,
    "character": str,
    "width": "int64",
    "height": "int64",
    "sha256": str,
    "group": "int64",
    "split": str,
    "left_out": str,
    "image": "int64",
    "detail": str,
}


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
    *,
    picture_size: int = 64,
    fit: str = "stretch",
    min_pictures: int = 290,
    split: str = "grouped",
    seed: int = 0,
    exclude_kaggle_test: bool = False,
    divide_first: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Decode every picture once and divide them into train, validation and test, 70/15/15 for each character.

    Args:
        raw: Folder with `<character>/<file>` and, if there is one, `kaggle_test/<character>/<file>`.
        processed: Folder to write to; it is made, and an earlier result is replaced.
        picture_size: Pixels a side, 16 to 512.
        fit: `"stretch"`, `"pad"` or `"bounded"`, as in `pictures.decode`.
        min_pictures: Characters with fewer usable pictures are left out.
        split: `"grouped"` puts near-copies into one split, `"random"` does not look at them.
        seed: What the split follows from.
        exclude_kaggle_test: Whether to leave out the frames in whose group of near-copies is a picture of the
            archive's own test set. The whole group goes, as it does between train and test.
        divide_first: Characters with so many pictures are divided as if they were the only ones, then the others: a
            network that knows more characters is then tested on the pictures that one that knows fewer is tested on,
            and has not trained on any of them. 0 divides all at once.
        progress: Whether to show a progress bar where there is a terminal.

    Returns:
        The manifest, sorted by path, as `load` reads it.

    Raises:
        UserError: If an argument is out of range, if there is nothing to divide, if a character has too few
            pictures for three splits, or if `processed` cannot be written.
    """
    _check(picture_size, fit, min_pictures, split)
    settings = dict(picture_size=picture_size, fit=fit, min_pictures=min_pictures, split=split, seed=seed)
    settings["exclude_kaggle_test"] = exclude_kaggle_test
    if divide_first:
        settings["divide_first"] = divide_first
    files = _files(raw)
    decode = functools.partial(_decode_chunk, raw, picture_size=picture_size, fit=fit)
    try:
        with runs.replacing(processed / IMAGES) as images:
            decoded = _in_order(decode, files, progress)
            table, hashes, thumbnails = _write_images(images, picture_size, files, decoded)
            pairs = duplicates.near_duplicate_pairs(hashes, thumbnails)
            table, pairs = _divide(table, pairs, duplicates.thumbnail_rms(thumbnails, pairs), settings)
            # From here until the new manifest is in place there is none, so that a half-replaced result is not used.
            (processed / MANIFEST).unlink(missing_ok=True)
        with runs.replacing(processed / NEAR_COPIES) as near_copies:
            np.save(near_copies, pairs)
        runs.write_json(processed / SETTINGS, settings)
        runs.write_csv(processed / MANIFEST, table)
    except OSError as problem:
        raise UserError(
            f"The pictures cannot be prepared in {processed}: {problem.strerror or problem}. "
            "Make room there or give write permission, and try again."
        ) from problem
    return _read(processed / MANIFEST)


def load(processed: Path, expected_sha256: str | None = None) -> tuple[np.ndarray, pd.DataFrame]:
    """Open what `prepare` wrote.

    Args:
        processed: The folder.
        expected_sha256: If set, what `manifest_sha256` must be, because a run was trained on it.

    Returns:
        The images, memory-mapped and read-only, `uint8 (rows, picture_size, picture_size, 3)`; and the manifest.

    Raises:
        UserError: If something is missing, damaged or does not fit together, or is not what was expected.
    """
    if expected_sha256 is not None and manifest_sha256(processed) != expected_sha256:
        raise UserError(
            f"The pictures in {processed} were prepared anew since the run was trained. Train again with `make train`."
        )
    table = _read(processed / MANIFEST)
    images = _open_array(processed / IMAGES, memory_mapped=True)
    rows = np.sort(table.image[table.image >= 0].to_numpy())
    size = settings(processed).get("picture_size")
    if images.dtype != np.uint8 or images.shape != (len(rows), size, size, 3):
        raise _damaged(processed / IMAGES, f"it should hold {len(rows)} pictures of {size} × {size}")
    if not np.array_equal(rows, np.arange(len(rows))):
        raise _damaged(processed / MANIFEST, "its rows of images are not numbered one by one")
    return images, table


def settings(processed: Path) -> dict[str, Any]:
    """Read the arguments that `prepare` was called with: picture_size, fit, min_pictures, split, seed, ..."""
    try:
        return dict(json.loads((processed / SETTINGS).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise _missing(processed / SETTINGS) from None
    except (OSError, ValueError, TypeError) as problem:
        raise _damaged(processed / SETTINGS, str(problem)) from None


def manifest_sha256(processed: Path) -> str:
    """Digest of `manifest.csv`, 64 hexadecimal digits: what a run was trained on."""
    try:
        return hashlib.sha256((processed / MANIFEST).read_bytes()).hexdigest()
    except FileNotFoundError:
        raise _missing(processed / MANIFEST) from None


def characters(table: pd.DataFrame) -> list[str]:
    """List the characters in label order, which is that of their names."""
    return sorted(table.character[table.split.isin(list(SHARES))].unique())


def labels(table: pd.DataFrame, num_images: int) -> np.ndarray:
    """Give each row of the images its label.

    Args:
        table: The manifest.
        num_images: Rows of the images.

    Returns:
        `int64 (num_images,)`: the place of the character in `characters`, -1 where the picture is in no split.
    """
    used = table[table.split != ""]
    label_of = {character: label for label, character in enumerate(characters(table))}
    by_image = np.full(num_images, -1, np.int64)
    by_image[used.image.to_numpy()] = used.character.map(label_of).to_numpy(np.int64)
    return by_image


def counts(table: pd.DataFrame) -> pd.DataFrame:
    """Count pictures: index characters, columns train, validation, test and, where there is one, kaggle_test."""
    used = table[table.split != ""]
    found = pd.crosstab(used.character, used.split)
    columns = [name for name in (*SHARES, TEST_SET) if name in found]
    return found.reindex(index=characters(table), columns=columns, fill_value=0)


def left_out_counts(table: pd.DataFrame) -> pd.DataFrame:
    """Count what is not used: index reasons, columns frames and kaggle_test."""
    left_out = table[table.left_out != ""]
    own_test = _in_test_set(left_out)
    numbers = {"frames": left_out.left_out[~own_test].value_counts()}
    numbers[TEST_SET] = left_out.left_out[own_test].value_counts()
    return pd.DataFrame(numbers).reindex(pd.Index(REASONS, name="left out")).fillna(0).astype("int64")


def leaks(table: pd.DataFrame, processed: Path, split: str = "test") -> np.ndarray:
    """Say which pictures of a split have a near-copy in train.

    Args:
        table: The manifest.
        processed: The folder that it lies in.
        split: `"validation"`, `"test"` or `"kaggle_test"`.

    Returns:
        `bool`, one for each picture of the split in the order of the table; none is true for validation and test
        after a grouped split.

    Raises:
        UserError: If the pairs of near-copies are missing or damaged.
    """
    pairs = _open_array(processed / NEAR_COPIES)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or (pairs.size and not 0 <= pairs.min() <= pairs.max() < len(table)):
        raise _damaged(processed / NEAR_COPIES, f"it should hold pairs of places below {len(table)}")
    either = np.concatenate([pairs, pairs[:, ::-1]])
    in_train = (table.split == "train").to_numpy()
    seen = np.zeros(len(table), bool)
    seen[either[in_train[either[:, 1]], 0]] = True
    return seen[(table.split == split).to_numpy()]


def _check(picture_size: int, fit: str, min_pictures: int, split: str) -> None:
    low, high = PICTURE_SIZES
    if not low <= picture_size <= high:
        raise UserError(f"The picture size must be {low} to {high} pixels, not {picture_size}.")
    if fit not in pictures.FITS:
        raise UserError(f"The fit must be one of {', '.join(pictures.FITS)}, not {fit!r}.")
    if split not in SPLITS:
        raise UserError(f"The split must be one of {', '.join(SPLITS)}, not {split!r}. Set SPLIT.")
    if min_pictures < 1:
        raise UserError(f"The least number of pictures must be 1 or more, not {min_pictures}. Set MIN_PICTURES.")


# ---------------------------------------------------------------- files → pixels


def _files(raw: Path) -> list[str]:
    """List the pictures as paths relative to `raw`, sorted, hidden files passed over."""
    if not raw.is_dir():
        raise UserError(f"There is no folder {raw}. Fetch the pictures first: `make data DATA=...`.")
    found = itertools.chain(raw.glob("*/*"), raw.glob(f"{TEST_SET}/*/*"))
    places = [path.relative_to(raw) for path in found if path.is_file()]
    files = sorted(p.as_posix() for p in places if not any(part.startswith(".") for part in p.parts))
    # A file right inside kaggle_test/ has no character.
    files = [file for file in files if not (file.startswith(f"{TEST_SET}/") and file.count("/") == 1)]
    if not files:
        raise UserError(f"{raw} holds no pictures. Expected one folder per character with the pictures in it.")
    return files


def _decode_chunk(raw: Path, files: list[str], picture_size: int, fit: str) -> list[Decoded]:
    return [_decode(raw / file, picture_size, fit) for file in files]


def _decode(path: Path, picture_size: int, fit: str) -> Decoded:
    """Read one file; a picture that cannot be used is an answer, not an error."""
    digest = ""
    try:
        contents = path.read_bytes()
        digest = hashlib.sha256(contents).hexdigest()
        width, height = pictures.probe(contents)
        pixels = pictures.decode(contents, picture_size, fit)
        plain = (picture_size, fit) == (FINGERPRINT_SIZE, "stretch")
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
    table: pd.DataFrame, pairs: np.ndarray, rms: np.ndarray, settings: dict[str, Any]
) -> tuple[pd.DataFrame, np.ndarray]:
    """Add group, reason and split to the table.

    Args:
        table: One row a file.
        pairs: Near-copies, rows of the images.
        rms: How far the thumbnails of each pair differ.
        settings: The arguments of `prepare`.

    Returns:
        The manifest, and the pairs as places in it.
    """
    pairs = np.flatnonzero(table.image >= 0)[pairs]
    own_test = _in_test_set(table).to_numpy()
    alike = own_test[pairs[:, 0]] == own_test[pairs[:, 1]]  # both frames, or both of the test set
    table["group"] = _groups(table, pairs[alike])
    table["left_out"] = _left_out(table, own_test, settings, pairs, alike & (rms < SAME_PICTURE_RMS))
    table["split"] = ""
    used = (table.left_out == "").to_numpy()
    table.loc[used & own_test, "split"] = TEST_SET
    groups = table.group.to_numpy() if settings["split"] == "grouped" else np.arange(len(table))
    names, split = table.character.to_numpy(), np.full(len(table), "", dtype=object)
    if settings.get("divide_first"):
        fewer = settings | {"min_pictures": settings["divide_first"]}
        first = (_left_out(table, own_test, fewer, pairs, alike & (rms < SAME_PICTURE_RMS)) == "") & ~own_test
        split[first] = _assign(names[first], groups[first], settings["seed"])
        # A group that is in a split stays in it, whoever else is in the group.
        split_of_group = dict(zip(groups[first], split[first], strict=True))
        split = np.array([split_of_group.get(group, "") for group in groups], dtype=object)
    frames = used & ~own_test
    rest = frames & (split == "")
    if rest.any():
        split[rest] = _assign(names[rest], groups[rest], settings["seed"])
    table.loc[frames, "split"] = split[frames]
    _check_splits(table)
    return table[list(COLUMNS)], pairs


def _groups(table: pd.DataFrame, pairs: np.ndarray) -> np.ndarray:
    """Number the groups among the readable pictures by first appearance; -1 for the others."""
    readable = (table.image >= 0).to_numpy()
    groups = np.full(len(table), -1, np.int64)
    groups[readable] = duplicates.groups_of_pairs(table.image.to_numpy()[pairs], readable.sum())
    return groups


def _left_out(
    table: pd.DataFrame, own_test: np.ndarray, settings: dict[str, Any], pairs: np.ndarray, same: np.ndarray
) -> np.ndarray:
    """Decide why a picture is not used: the first reason that holds, an empty string if none does.

    Frames depend on the archive's own test set through `exclude_kaggle_test` alone. Copies inside that set stay in:
    it is scored as it was published.

    Args:
        table: One row a file.
        own_test: `bool (n,)`: which rows belong to the archive's own test set.
        settings: The arguments of `prepare`.
        pairs: Near-copies, places in the table.
        same: `bool (m,)`: which pairs are the same picture.
    """
    names = table.character.to_numpy()
    reason = np.full(len(table), "", dtype=object)

    def leave_out(which: np.ndarray, why: str) -> None:
        reason[which & (reason == "")] = why

    leave_out((table.image < 0).to_numpy(), UNREADABLE)
    contradicting = pairs[same & (names[pairs[:, 0]] != names[pairs[:, 1]])]
    leave_out(np.isin(np.arange(len(table)), contradicting), TWO_LABELS)
    copies = table.assign(own_test=own_test).duplicated(["own_test", "character", "sha256"]).to_numpy()
    leave_out(copies & ~own_test, EXACT_COPY)
    kept = _kept_characters(names[~own_test & (reason == "")], settings["min_pictures"])
    leave_out(~np.isin(names, kept), TOO_FEW)
    if settings["exclude_kaggle_test"]:
        groups = duplicates.groups_of_pairs(pairs, len(table))
        leave_out(~own_test & np.isin(groups, groups[own_test & (reason == "")]), IN_TEST_SET)
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
    wanted = np.bincount(label)[:, None] * np.array(list(SHARES.values()))  # (characters, splits)
    placed = np.zeros_like(wanted)
    split = np.empty(len(names), np.int64)
    shuffled = np.random.default_rng(seed).permutation(len(size))
    for number in shuffled[np.argsort(-size[shuffled], kind="stable")]:
        labels = label[members[number]]
        lacking = (1 - placed[labels] / wanted[labels]).sum(axis=0)
        split[members[number]] = chosen = lacking.argmax()
        np.add.at(placed[:, chosen], labels, 1)
    return np.array(list(SHARES), dtype=object)[split]


def _check_splits(table: pd.DataFrame) -> None:
    # Also a character that has pictures in the archive's own test set alone, all of its frames being left out.
    wanted = table.character[table.left_out == ""].unique()
    for name, in_splits in counts(table).reindex(index=wanted, columns=list(SHARES), fill_value=0).iterrows():
        if in_splits.min() == 0:
            groups = table.group[(table.character == name) & table.split.isin(list(SHARES))].nunique()
            raise UserError(
                f"{name} has {in_splits.sum()} usable pictures in {groups} groups of near-copies, too few to have some "
                "in each of train, validation and test. Add pictures, or raise MIN_PICTURES to leave it out."
            )


def _in_test_set(table: pd.DataFrame) -> pd.Series:
    return table.path.str.startswith(f"{TEST_SET}/")


# ---------------------------------------------------------------- reading


def _read(path: Path) -> pd.DataFrame:
    """Read the manifest; an empty text stays one, and a character named `NA` keeps its name."""
    try:
        table = pd.read_csv(path, dtype=COLUMNS, keep_default_na=False, na_values=[], encoding="utf-8")
    except FileNotFoundError:
        raise _missing(path) from None
    except (OSError, ValueError) as problem:
        raise _damaged(path, str(problem)) from None
    if list(table.columns) != list(COLUMNS):
        raise _damaged(path, f"its columns should be {', '.join(COLUMNS)}")
    return table


def _open_array(path: Path, memory_mapped: bool = False) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r" if memory_mapped else None)
    except FileNotFoundError:
        raise _missing(path) from None
    except (OSError, ValueError, EOFError) as problem:
        raise _damaged(path, str(problem)) from None


def _missing(path: Path) -> UserError:
    return UserError(f"{path} is missing, so the pictures are not prepared. Run `make data`.")


def _damaged(path: Path, why: str) -> UserError:
    return UserError(f"{path} is damaged or of another version: {why}. Delete {path.parent} and run `make data`.")
