"""From a folder of pictures to a table with one row a picture, its split, and one array with all pixels.

`prepare` writes to `processed/`. The manifest comes last, so that a folder that has one is complete:

    images.npy           uint8 (rows, picture_size, picture_size, 3), RGB; a row for every readable picture
    near_duplicates.npy  int64 (pairs, 2), the positions of two near-duplicates in the manifest
    settings.json        the settings that the pictures were prepared with
    manifest.csv         path, character, width, height, sha256, group, split, exclusion_reason, image, detail; with
                         corrections also label_before, verdict, second_character, and split_before, by label_before

Nothing is deleted: a picture that is not used has an empty `split` and the reason in `exclusion_reason`. `group`
numbers the near-duplicates among the frames, and separately those among the archive's own test set.
"""

import collections
import contextlib
import functools
import hashlib
import itertools
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from lib import machine, records
from lib.data import archives, corrections, dataset, duplicates, pictures, sources
from lib.data.preparation import DEFAULTS, FREQUENT, Preparation
from lib.errors import UserError, in_words

LOCAL = ("", "local")  # values of `cluster` that mean this machine

# Fingerprints have one size, so that splits are the same at every picture size and resize mode.
FINGERPRINT_SIZE = 64
CHUNK = 32  # pictures that a worker decodes at a time
PENDING_CHUNKS = 2  # for each worker that are decoded or wait to be written
SERIAL_UP_TO = 500  # pictures; starting processes takes as long as decoding them
MAX_WORKERS = 8  # processes; each takes about 150 MB


class Decoded(NamedTuple):
    """The contents of one file. `detail` says why it is unreadable; then there are no pixels."""

    width: int = 0
    height: int = 0
    sha256: str = ""
    detail: str = ""
    pixels: np.ndarray | None = None
    hashes: np.ndarray | None = None
    thumbnail: np.ndarray | None = None


def prepare(
    raw: Path,
    processed: Path,
    preparation: Preparation = DEFAULTS,
    corrected: pd.DataFrame | None = None,
    cluster: str = "",
) -> pd.DataFrame:
    """Decode every picture once and divide them into train, validation and test, 70/15/15 for each character.

    A script must call it below `if __name__ == "__main__"`, since worker processes import the script.

    Args:
        raw: Folder with `<character>/<file>` and, where there is a test set, `kaggle_test/<character>/<file>`.
        processed: Folder to write to; it is made, and an earlier result is replaced.
        corrected: Corrections of labels to apply, as from `corrections.read`.
        cluster: Address of a Dask scheduler whose workers decode the pictures; empty or `local` for processes here.

    Returns:
        The manifest, sorted by path, as `dataset.load` reads it.

    Raises:
        UserError: There is nothing to divide, a character has too few pictures for three splits, or `processed`
            cannot be written.
    """
    files = archives.pictures_in(raw)
    try:
        with records.atomic_write(processed / dataset.IMAGES) as images:
            decoded = _decode_all(raw, files, preparation, cluster)
            table, hashes, thumbnails = _write_images(images, preparation.picture_size, files, decoded)
            _check_copy(raw, table)
            if corrected is not None:
                table = corrections.apply(table, corrected)
            pairs = duplicates.near_duplicate_pairs(hashes, thumbnails, preparation)
            same_picture = duplicates.are_same_picture(hashes, thumbnails, pairs, preparation)
            table, pairs = _divide(table, pairs, same_picture, preparation)
            # No manifest from here until the new one is written, so that a half-replaced result is not used.
            (processed / dataset.MANIFEST).unlink(missing_ok=True)
        with records.atomic_write(processed / dataset.NEAR_DUPLICATES) as temporary:
            np.save(temporary, pairs)
        files = records.digests(processed, dataset.IMAGES, dataset.NEAR_DUPLICATES)
        files[dataset.MANIFEST] = records.csv_sha256(table)
        records.write_record(processed / dataset.SETTINGS, preparation.model_dump(), files)
        records.write_csv(processed / dataset.MANIFEST, table)
    except OSError as problem:
        raise UserError(
            f"The pictures cannot be prepared in {processed}: {in_words(problem).rstrip('.')}. "
            "Look at the free space, the permissions and the memory, and try again."
        ) from problem
    return dataset.read_manifest(processed / dataset.MANIFEST)


# ---------------------------------------------------------------- files → pixels


def _decode_all(raw: Path, files: list[str], preparation: Preparation, cluster: str) -> Iterator[Decoded]:
    """Decode the files in this process, in others or on a cluster; yield the results in the order of `files`."""
    chunks = ([raw / file for file in files[start : start + CHUNK]] for start in range(0, len(files), CHUNK))
    # `disable=None`: no bar where the output is not a terminal, such as a log or a papermill notebook.
    bar = tqdm(total=len(files), unit=" pictures", disable=None)
    with bar, _workers(cluster, len(files), preparation) as (submit, number):
        waiting = collections.deque(map(submit, itertools.islice(chunks, PENDING_CHUNKS * number)))
        while waiting:
            decoded = waiting.popleft().result()
            waiting.extend(map(submit, itertools.islice(chunks, 1)))
            bar.update(len(decoded))
            yield from decoded


@contextlib.contextmanager
def _workers(
    cluster: str, num_pictures: int, preparation: Preparation
) -> Iterator[tuple[Callable[[list[Path]], Future[list[Decoded]]], int]]:
    """Start what decodes pictures; gives a function that submits a chunk, and how many are decoded at a time."""
    if cluster not in LOCAL:
        from lib import scheduler  # an optional extra

        with scheduler.connect(cluster, 1) as client:
            submit, code = client.get_executor(pure=False).submit, scheduler.version()
            number = sum(client.nthreads().values())
            # Contents, since workers of a cluster need not see the folder.
            yield lambda chunk: submit(_decode_chunk, list(map(_read, chunk)), preparation, code), number
        return
    number = min(machine.cores(), MAX_WORKERS) if num_pictures > SERIAL_UP_TO else 1
    spawn = multiprocessing.get_context("spawn")  # a fork would copy the locks of this process's threads
    initializer = machine.end_with_parent
    try:
        with ProcessPoolExecutor(number, spawn, initializer) if number > 1 else ThreadPoolExecutor(1) as executor:
            yield lambda chunk: executor.submit(_decode_chunk, chunk, preparation), number
    except BrokenProcessPool:
        raise UserError(
            "A process that decodes pictures was killed, most likely because memory ran out. "
            "Close other programs and try again."
        ) from None


def _decode_chunk(chunk: Sequence[Path | bytes | str], preparation: Preparation, code: str = "") -> list[Decoded]:
    if code:
        from lib import scheduler  # an optional extra

        scheduler.this_worker(code)
    return [_decode(each, preparation.picture_size, preparation.resize_mode) for each in chunk]


def _read(path: Path) -> bytes | str:
    """Read a file, or say why it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as problem:
        return f"The file cannot be opened: {problem.strerror or problem}."


def _decode(file: Path | bytes | str, picture_size: int, resize_mode: str) -> Decoded:
    """Decode a file, its contents, or the reason why there are none; an unreadable one is a result, not an error."""
    contents = _read(file) if isinstance(file, Path) else file
    if isinstance(contents, str):
        return Decoded(detail=contents)
    digest = hashlib.sha256(contents).hexdigest()
    try:
        width, height = pictures.probe(contents)
        pixels = pictures.decode(contents, picture_size, resize_mode)
        same = (picture_size, resize_mode) == (FINGERPRINT_SIZE, "stretch")
        compared = pixels if same else pictures.decode(contents, FINGERPRINT_SIZE)
    except pictures.UnreadablePicture as problem:
        return Decoded(sha256=digest, detail=str(problem))
    hashes, thumbnails = duplicates.fingerprint(compared[None])
    return Decoded(width, height, digest, "", pixels, hashes[0], thumbnails[0])


def _write_images(
    path: Path, size: int, files: list[str], decoded: Iterable[Decoded]
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Stream the pixels to a `.npy` file; returns the first columns of the manifest, and hashes and thumbnails."""
    rows, hashes, thumbnails = [], [], []
    with path.open("wb") as file:

        def write_header(number: int) -> None:
            header = {"descr": "|u1", "fortran_order": False, "shape": (number, size, size, 3)}
            np.lib.format.write_array_header_1_0(file, header)

        # The number of readable pictures is known at the end. numpy leaves room in the header for any first dimension.
        write_header(len(files))
        for name, one in zip(files, decoded, strict=True):
            readable = one.pixels is not None
            image = len(hashes) if readable else -1
            rows.append((name, name.split("/")[-2], one.width, one.height, one.sha256, one.detail, image))
            if readable:
                file.write(one.pixels.tobytes())
                hashes.append(one.hashes)
                thumbnails.append(one.thumbnail)
        file.seek(0)
        write_header(len(hashes))
    table = pd.DataFrame(rows, columns=["path", "character", "width", "height", "sha256", "detail", "image"])
    return table, np.array(hashes, np.uint8).reshape(-1, 32), np.array(thumbnails, np.uint8).reshape(-1, 256)


def _check_copy(raw: Path, table: pd.DataFrame) -> None:
    """Make sure that the pictures are those that were copied from the source."""
    expected = sources.record_of(raw).get("pictures_sha256") if (raw / sources.RECORD).exists() else None
    found = dict(zip(table.path, table.sha256, strict=True))
    if expected in (None, hashlib.sha256(archives.sums(found)).hexdigest()):
        return
    written = archives.read_sums(raw)
    name = min((name for name, _ in found.items() ^ written.items() if written), default=archives.SUMS)
    raise UserError(f"{raw / name} was changed, added or lost since the source was copied. {dataset.again(raw)}")


# ---------------------------------------------------------------- pixels → splits


def _divide(
    table: pd.DataFrame, pairs: np.ndarray, same_picture: np.ndarray, preparation: Preparation
) -> tuple[pd.DataFrame, np.ndarray]:
    """Add group, exclusion reason and split to the table; returns the manifest, and the pairs as positions in it.

    Frequent characters are divided first, as if there were no others. A network that knows more characters is then
    tested on the same pictures of the frequent ones as a network that knows only these, and trained on none of them.
    Corrected labels leave each group in the split that it has by the labels of the source.
    `pairs` are rows of the images, `int64 (m, 2)`; `same_picture` says which are one and the same, `bool (m,)`.
    """
    before = None
    if "label_before" in table and preparation.split != "resampled":
        by_source = table.assign(character=table.label_before).drop(columns=["label_before", "verdict"])
        with contextlib.suppress(UserError):  # the labels of the source cannot be divided
            before = _divide(by_source, pairs, same_picture, preparation)[0].split.to_numpy()
    readable = np.flatnonzero(table.image >= 0)
    official_test = dataset.in_official_test(table).to_numpy()
    is_of_test = official_test[readable[pairs]]
    same_set = is_of_test[:, 0] == is_of_test[:, 1]  # both frames, or both of the test set
    table["group"] = -1
    table.loc[readable, "group"] = duplicates.groups_of_pairs(pairs[same_set], len(readable))
    pairs = readable[pairs]
    contradicted = pairs[same_set & same_picture]
    exclusions = functools.partial(_exclusion_reasons, table, official_test, pairs, contradicted, preparation)
    table["exclusion_reason"] = exclusions(preparation.min_pictures)
    if preparation.split == "resampled":
        table, pairs = _resample(table, pairs, preparation.seed)
        official_test = dataset.in_official_test(table).to_numpy()
    used = (table.exclusion_reason == "").to_numpy()
    split = np.full(len(table), "", dtype=object)
    groups = table.group.to_numpy() if preparation.split == "grouped" else np.arange(len(table))
    if preparation.split == "given":
        split[used & ~official_test] = _given_splits(table[used & ~official_test], preparation.seed)
    elif preparation.split != "resampled":
        with contextlib.suppress(UserError):  # fewer than two characters are frequent
            frequent = (exclusions(max(FREQUENT, preparation.min_pictures)) == "") & ~official_test
            split[frequent] = _assign(table.character[frequent].to_numpy(), groups[frequent], preparation.seed)
            # A group stays in its split, whoever else is in it.
            split_of_group = dict(zip(groups[frequent], split[frequent], strict=True))
            split = np.array([split_of_group.get(group, "") for group in groups], dtype=object)
    others = used & ~official_test & (split == "")
    split[others] = _assign(table.character[others].to_numpy(), groups[others], preparation.seed)
    if before is not None:
        split = _kept_splits(before, split, groups, table.character.where(used & ~official_test, "").to_numpy())
    split[official_test] = dataset.TEST_SET
    table["split"] = np.where(used, split, "")
    if "label_before" in table:
        table["split_before"] = table.split if before is None else before
    _check_splits(table, preparation)
    correction_columns = [name for name in dataset.CORRECTION_COLUMNS if name in table]
    return table[[*dataset.COLUMNS, *correction_columns]], pairs


def _kept_splits(before: np.ndarray, split: np.ndarray, groups: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Give each group the split that it had before labels were corrected, so that scores before and after compare.

    A character that would have no picture in one of the splits, such as a new one, is divided by its new labels.
    `before` and `split` are by the labels of the source and the corrected ones; `names` are empty for unused frames.
    """
    known = np.isin(before, list(dataset.SPLIT_FRACTIONS))
    of_group = dict(zip(groups[known], before[known], strict=True))
    kept = np.array([of_group.get(group, new) for group, new in zip(groups, split, strict=True)], dtype=object)
    found = pd.crosstab(names, kept).reindex(columns=list(dataset.SPLIT_FRACTIONS), fill_value=0)
    lacking = [name for name in found.index[(found == 0).any(axis=1)] if name]
    return np.where(np.isin(groups, groups[np.isin(names, lacking)]), split, kept)


def _exclusion_reasons(
    table: pd.DataFrame,
    official_test: np.ndarray,
    pairs: np.ndarray,
    same_picture: np.ndarray,
    preparation: Preparation,
    min_pictures: int,
) -> np.ndarray:
    """Decide why a picture is not used: the first reason that applies, an empty string if none does.

    Frames depend on the archive's own test set, the rows `official_test`, through `exclude_kaggle_test` alone. Copies
    inside that set stay in: it is scored as it was published. `pairs` of near-duplicates, and those of them that are
    the `same_picture`, are positions in the table.
    """
    names = table.character.to_numpy()
    reasons = np.full(len(table), "", dtype=object)

    def exclude(rows: np.ndarray, reason: str) -> None:
        reasons[rows & (reasons == "")] = reason

    exclude(table.image < 0, dataset.UNREADABLE)
    if "verdict" in table:
        exclude(table.verdict == corrections.EXCLUDE, dataset.REVIEWED)
    differ = names[same_picture[:, 0]] != names[same_picture[:, 1]]
    contradicting = same_picture[differ & (reasons[same_picture] == "").all(axis=1)]
    exclude(np.isin(np.arange(len(table)), contradicting), dataset.TWO_LABELS)
    # What is not in use makes no other picture a copy.
    candidates = table.assign(official_test=official_test, excluded=reasons != "")
    copies = candidates.duplicated(["official_test", "excluded", "character", "sha256"])
    exclude(copies & ~official_test, dataset.EXACT_COPY)
    found = collections.Counter(sorted(names[~official_test & (reasons == "")])).most_common()
    kept = [name for name, number in found if number >= min_pictures]
    if len(kept) < 2:
        most = ", ".join(f"{name} ({number})" for name, number in found[:2]) or "none"
        hint = f", or set MIN_PICTURES={found[1][1]} or lower" if len(found) > 1 else ""
        raise UserError(
            f"At least two characters must have {_count(min_pictures, 'usable picture')} or more; those with the most "
            f"are: {most}. Add pictures{hint}. {dataset.exclusion_summary(table.assign(exclusion_reason=reasons))}"
        )
    exclude(~np.isin(names, kept), dataset.TOO_FEW)
    if preparation.exclude_kaggle_test:
        groups = duplicates.groups_of_pairs(pairs, len(table))
        exclude(~official_test & np.isin(groups, groups[official_test & (reasons == "")]), dataset.IN_TEST_SET)
    return reasons


def _given_splits(frames: pd.DataFrame, seed: int) -> np.ndarray:
    """Take the split from the folders of the source; where it has no validation, divide its train by groups."""
    given = frames.path.str.split("/").str[0].to_numpy(dtype=object, copy=True)
    missing = {"train", "test"} - set(given)
    if missing:
        raise UserError(
            f"SPLIT=given needs a source with the folders train/<character> and test/<character>; there is no "
            f"{' and no '.join(sorted(missing))}. Use SPLIT=grouped, which divides all pictures."
        )
    if "validation" not in given:
        train = frames[given == "train"]
        validation = dataset.SPLIT_FRACTIONS["validation"]
        fractions = {"train": 1 - validation, "validation": validation}
        given[given == "train"] = _assign(train.character.to_numpy(), train.group.to_numpy(), seed, fractions)
    return given


def _resample(table: pd.DataFrame, pairs: np.ndarray, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Draw as many usable frames of each character as there are, with replacement, as the original project did.

    The table has a row for each time that a frame was drawn. Copies of one frame are near-duplicates of each other.
    """
    usable = (table.exclusion_reason == "") & ~dataset.in_official_test(table)
    drawn = table[usable].groupby("character").sample(frac=1, replace=True, random_state=seed).index.to_numpy()
    table.loc[table.index[usable].difference(drawn), "exclusion_reason"] = dataset.NOT_DRAWN
    rows = np.sort(np.concatenate([np.setdiff1d(np.arange(len(table)), drawn), drawn]))
    copies = pd.Series(np.arange(len(rows)), index=rows)
    both = np.concatenate([pairs, np.stack([np.unique(drawn)] * 2, axis=1)])
    every = pd.DataFrame(both, columns=["row", "other"]).join(copies.rename("a"), on="row")
    every = every.join(copies.rename("b"), on="other")[["a", "b"]]  # each copy of one with each copy of the other
    found = np.unique(np.sort(every.to_numpy(), axis=1), axis=0)
    return table.iloc[rows].reset_index(drop=True), found[found[:, 0] != found[:, 1]]


def _assign(
    names: np.ndarray, groups: np.ndarray, seed: int, fractions: dict[str, float] = dataset.SPLIT_FRACTIONS
) -> np.ndarray:
    """Assign whole groups to splits so that each character is divided by the fractions as evenly as possible.

    Groups are assigned one by one, the largest first and those of equal size in random order, each to the split in
    which its characters lack the largest fraction of their pictures. The many single pictures come last and even out
    what the groups left uneven.
    """
    label = np.unique(names, return_inverse=True)[1]
    _, group, size = np.unique(groups, return_inverse=True, return_counts=True)
    members = np.split(np.argsort(group, kind="stable"), np.cumsum(size)[:-1])
    wanted = np.bincount(label)[:, None] * np.array(list(fractions.values()))  # (characters, splits)
    placed = np.zeros_like(wanted)
    split = np.empty(len(names), np.int64)
    shuffled = np.random.default_rng(seed).permutation(len(size))
    for number in shuffled[np.argsort(-size[shuffled], kind="stable")]:
        labels = label[members[number]]
        lacking = (1 - placed[labels] / wanted[labels]).sum(axis=0)
        split[members[number]] = chosen = lacking.argmax()
        np.add.at(placed[:, chosen], labels, 1)
    return np.array(list(fractions), dtype=object)[split]


def _check_splits(table: pd.DataFrame, preparation: Preparation) -> None:
    """Make sure that every character has pictures in train, validation and test.

    A character may have pictures in the archive's own test set alone, when all of its frames are excluded.
    """
    used = table[table.exclusion_reason == ""]
    problems = []
    for character, rows in used.groupby("character"):
        frames = rows[rows.split != dataset.TEST_SET]
        missing = [name for name in dataset.SPLIT_FRACTIONS if name not in set(frames.split)]
        if missing and preparation.split == "given":
            problems.append(
                f"{character} has no usable picture in {' and in '.join(missing)} of the source's own split. Add some, "
                "raise MIN_PICTURES to exclude the character, or use SPLIT=grouped."
            )
        elif missing:
            grouped = preparation.split == "grouped" and len(frames) >= len(dataset.SPLIT_FRACTIONS)
            ways = ", lower NEAR_RMS and NEAR_BITS if they are no near-duplicates, use SPLIT=random" if grouped else ""
            problems.append(
                f"{character} has {_count(len(frames), 'usable picture')} in {_count(frames.group.nunique(), 'group')} "
                f"of near-duplicates, too few to have some in each of train, validation and test. Add pictures{ways}, "
                "or raise MIN_PICTURES to exclude the character."
            )
    if problems:
        raise UserError("\n".join(problems))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
