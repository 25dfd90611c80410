"""Where the pictures of a source go: `<character>/<file>`, whatever folders they are in."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import PurePosixPath

from lib.data import names
from lib.data.preparation import GIVEN_SPLITS, TEST_SET
from lib.errors import UserError, printable

KAGGLE_TEST_FOLDER = "kaggle_simpson_testset"
KAGGLE_NESTED_COPY = "simpsons_dataset"  # the archive repeats its whole tree in this folder
EXPECTED = "one folder per character with the pictures in it, such as homer_simpson/1.jpg"
# Names of folders that hold a split which a source brings with it.
SPLIT_FOLDERS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
SPLIT_FOLDERS |= dict.fromkeys(("val", "valid", "validation", "dev"), "validation")
# What such names are written with: train2017, Training_Set, test-images.
BESIDE_SPLIT = re.compile(r"data|sets?|images?|imgs?|pictures?|pics?|photos?|frames?|[\W\d_]")
OUTSIDE = "not in a character's folder"
SHOWN = 5  # names in a message
SETS = (TEST_SET, *GIVEN_SPLITS)  # folders of a copy that hold those of characters
# Names that stand beside the characters' folders.
RESERVED = {*SETS, "source.json", "sha256sums"}

Parts = tuple[str, ...]  # of a path


class PassedOver:
    """What is not taken as it is, by reason: how many files, and the first as an example."""

    def __init__(self, numbers: dict[str, int] | None = None, examples: dict[str, str] | None = None) -> None:
        self.numbers, self.examples = Counter(numbers), dict(examples or {})

    def add(self, reason: str, example: Parts | str) -> None:
        """Count a file."""
        self.numbers[reason] += 1
        self.examples.setdefault(reason, _spelt(example))

    def __str__(self) -> str:
        """List it in brackets, behind a space; empty if there is nothing."""
        such_as = {reason: f" such as {example}" for reason, example in self.examples.items()}
        each = (f"{number:,} {reason}{such_as.get(reason, '')}" for reason, number in self.numbers.items())
        return f" (skipped or renamed: {', '.join(each)})" if self.numbers else ""


def destinations(paths: list[Parts], source: str, passed_over: PassedOver) -> list[Parts | None]:
    """Decide where the pictures of a source go.

    The characters' folders are those of the first folder that branches; a character's pictures may be in folders
    below its own. Names, in which bytes that are not UTF-8 stand as surrogate escapes, are made safe. `passed_over`
    counts the pictures that have no place, and what is renamed or read in another encoding.

    Returns:
        For each picture (character, file), or (set, character, file) where the set is the Kaggle archive's own test
        set or one of `GIVEN_SPLITS`; None for one that is not in a character's folder. No two are the same, even
        where upper and lower case are not distinguished.

    Raises:
        UserError: The characters' folders cannot be told, or their names cannot be used: a line for each problem.
    """
    repeated = [path for path, number in Counter(paths).items() if number > 1]
    if repeated:
        raise UserError(f"{source} is rejected: it holds {_listed(map(_spelt, repeated))} twice. Pack it again.")
    try:
        encoding = names.encoding(part for path in paths for part in path)
    except UserError as problem:
        raise UserError(f"{source} is rejected. {problem}") from None
    for path in paths:
        if not all(map(names.is_text, path)):
            passed_over.add(f"with names read as {encoding}", tuple(names.decoded(part, encoding) for part in path))
    paths = [tuple(unicodedata.normalize("NFC", names.decoded(part, encoding)) for part in path) for path in paths]
    place_of = _placing([path for path in paths if KAGGLE_TEST_FOLDER not in path[:-1]], source)
    wanted = [place_of(path) for path in paths]
    labels = _labels({place[-2] for place in wanted if place}, source, passed_over)

    found: list[Parts | None] = []
    taken: set[str] = set()
    variants: dict[Parts, Iterator[str]] = {}  # of a name, from where the last one of that name stopped
    for path, place in zip(paths, wanted, strict=True):
        if place is None:
            passed_over.add(OUTSIDE, path)
            found.append(None)
            continue
        parent = (*place[:-2], labels[place[-2]])
        name = names.safe(place[-1])
        places = ((*parent, name) for name in variants.setdefault((*parent, name), _numbered(name)))
        free = next(each for each in places if "/".join(each).casefold() not in taken)
        taken.add("/".join(free).casefold())
        if free[-1] != place[-1]:
            passed_over.add("renamed", path)
        found.append(free)
    return found


def _labels(characters: set[str], source: str, passed_over: PassedOver) -> dict[str, str]:
    """Give each character's folder a safe name of its own."""
    labels: dict[str, str] = {}
    problems, seen, taken = [], {}, set()
    for character in sorted(characters, key=lambda name: (name != names.safe(name), name)):  # safe names stay
        safe = names.safe(character)
        if safe.casefold() in RESERVED:
            problems.append(f"a character cannot be named {character!r}, a reserved name. Rename the folder.")
            continue
        other = seen.setdefault(names.compared(character), character)
        if other != character:
            problems.append(
                f"the folders {other!a} and {character!a} differ by case, spaces and underscores, or what cannot be "
                "seen. Rename one, or merge them."
            )
            continue
        labels[character] = next(name for name in _numbered(safe) if names.compared(name) not in taken)
        taken.add(names.compared(labels[character]))
        if labels[character] != character:
            passed_over.add("renamed", character)
    if problems:
        raise UserError("\n".join(f"{source} is rejected: {problem}" for problem in problems))
    return labels


def _numbered(name: str) -> Iterator[str]:
    """Yield a name and its variants: a.jpg, a-2.jpg, a-3.jpg …"""
    yield name
    path = PurePosixPath(name)
    yield from (f"{path.stem}-{number}{path.suffix}" for number in count(2))


# ---------------------------------------------------------------- the characters' folders


def _placing(paths: list[Parts], source: str) -> Callable[[Parts], Parts | None]:
    """Find the first folder that branches; refuse where it does not tell what the characters' folders are.

    Returns a function from a picture to its place, with the names of its folder and file as they are in the source.
    """
    folder: Parts = ()
    while len(children := _children(paths, folder)) == 1:
        folder += tuple(children)
    # Of the Kaggle archive's tree and its nested copy, the outer.
    if {path[0] for path in children.get(KAGGLE_NESTED_COPY, ())} <= children.keys():
        children.pop(KAGGLE_NESTED_COPY, None)
    if len(children) < 2:
        outer = (*folder, *children)
        what = f"one character only, {outer[-1]!r}" if outer else "pictures but no characters' folders"
        raise UserError(f"{source} holds {what}. Expected {EXPECTED}.")
    splits = {name: split for name in children if (split := _split(name))}
    if splits:
        _check_splits(children, splits, source)
    else:
        _check_unambiguous(children, folder, source)
    begins = splits or {name: name for name in children}  # what a place begins with, by folder
    depth = len(folder)
    within = depth + (2 if splits else 1)  # so many folders at least is a picture in

    def place(path: Parts) -> Parts | None:
        if KAGGLE_TEST_FOLDER in path[:-1]:
            character, _, number = PurePosixPath(path[-1]).stem.rpartition("_")
            return (TEST_SET, character, path[-1]) if character and number else None
        if path[:depth] != folder or len(path) <= within or path[depth] not in begins:
            return None
        return (begins[path[depth]], *path[depth + 1 : within], path[-1])

    return place


def _children(paths: list[Parts], folder: Parts) -> dict[str, list[Parts]]:
    """Give the pictures in and below each folder in a folder, as paths relative to it."""
    depth = len(folder)
    found: dict[str, list[Parts]] = {}
    for path in paths:
        if len(path) > depth + 1 and path[:depth] == folder:
            found.setdefault(path[depth], []).append(path[depth + 1 :])
    return found


def _split(name: str) -> str | None:
    """Say which split the name of a folder means; None if it means none."""
    return SPLIT_FOLDERS.get(BESIDE_SPLIT.sub("", name.casefold()))


def _check_splits(children: dict[str, list[Parts]], splits: dict[str, str], source: str) -> None:
    characters = {below[0] for name in splits for below in children[name] if len(below) > 1}
    others = children.keys() - splits.keys()
    if (
        others
        or len(characters) < 2
        or any(map(_split, characters))
        or len(set(splits.values())) < len(splits)
        or "train" not in splits.values()
    ):
        found = _listed(repr(name) for name in sorted(children))
        raise UserError(
            f"{source} is rejected: it holds {found}, but names of splits are no characters. Expected "
            "train/<character> and test/<character>, with or without val/<character>, and nothing beside them; or "
            f"{EXPECTED}."
        )


def _check_unambiguous(children: dict[str, list[Parts]], folder: Parts, source: str) -> None:
    """Refuse where folders one level deeper may be the characters' as well."""
    nested = {name: below for name, below in children.items() if all(len(path) > 1 for path in below)}
    if len(nested) == len(children):
        doubtful = nested if len({path[0] for below in nested.values() for path in below}) > 1 else {}
    else:  # beside folders with pictures, one that holds most of them, in several folders, or the same names again
        direct = sum(len(below) for name, below in children.items() if name not in nested)
        doubtful = {
            name: below
            for name, below in nested.items()
            if (len({path[:-1] for path in below}) > 1 and len(below) > direct)
            or {path[0] for path in below} & children.keys()
        }
    if doubtful:
        name, below = next(iter(doubtful.items()))
        one, other = ("/".join((*folder, *parts)) for parts in ((name,), (name, below[0][0])))
        raise UserError(
            f"{source} is rejected: both {one!a} and {other!a} may be the folder of a character. Move the pictures "
            f"into the characters' own folders, or give only the folder that holds these. Expected {EXPECTED}."
        )


def _spelt(path: Parts | str) -> str:
    return f"'{printable(path if isinstance(path, str) else '/'.join(path))}'"


def _listed(found: Iterable[str]) -> str:
    found = list(found)
    return ", ".join(found[:SHOWN]) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
