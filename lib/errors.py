"""The one exception whose text a person reads, and how a command reports it."""

import difflib
import importlib
import re
import sys
import unicodedata
from collections.abc import Iterable
from types import ModuleType

EXIT_USAGE = 2
MAX_LETTERS = 2_000  # of a line that tells a mistake, which may quote what was received


class UserError(Exception):
    """A mistake that the user can correct: the text says what was wrong, what was expected, and what to do."""


def import_extra(module: str, extra: str) -> ModuleType:
    """Import a module; if it is missing, a `UserError` names the extra of `pyproject.toml` that installs it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as problem:
        raise UserError(
            f"This needs the package {problem.name}, which is not installed. Install the optional extra "
            f"`{extra}` from the folder of this project: pip install -e '.[{extra}]' -c constraints.txt"
        ) from None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggest the known name that is most like a misspelt one; where none is, list all, variants of a recipe as one.

    Upper and lower case make no difference.
    """
    known = list(known)
    spelt = {each.casefold(): each for each in known}
    near = difflib.get_close_matches(name.casefold(), spelt, n=1)
    listed = dict.fromkeys(f"{each.partition('/')[0]}/…" if "/" in each else each for each in known)
    return f"Did you mean {spelt[near[0]]}?" if near else f"Known: {', '.join(listed)}."


def printable(text: str) -> str:
    r"""Replace control characters by escape sequences, such as `\x1b`.

    They could move the cursor, colour the terminal or break a line; a file name may have any but null and the slash.
    """
    return "".join(c if c.isprintable() or unicodedata.category(c) == "Zs" else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # how Python represents a byte of a file name that is not valid text
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def in_words(problem: Exception) -> str:
    """Give the text of an exception, of an error of the system with its file."""
    if isinstance(problem, OSError) and problem.strerror:
        return f"{problem.filename}: {problem.strerror}." if problem.filename else f"{problem.strerror}."
    return str(problem) or type(problem).__name__


def report_error(problem: Exception) -> int:
    """Print what was wrong, without a traceback; returns the exit status of a mistake.

    Each line of the text is a mistake of its own, but for indented ones, which belong to the one before. Control
    characters are escaped, and a line ends after `MAX_LETTERS`.
    """
    for text in re.split(r"\r?\n", in_words(problem).rstrip()):
        line = printable(text[:MAX_LETTERS] + "…" * (len(text) > MAX_LETTERS))
        print(line if line.startswith(" ") else f"error: {line}", file=sys.stderr)
    return EXIT_USAGE
