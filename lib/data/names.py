"""Names from foreign file systems: read in the encoding they are in, and made safe for every file system."""

import itertools
import re
import unicodedata
from collections.abc import Callable, Iterable

from lib.errors import UserError

MAX_NAME_BYTES = 200  # file systems allow 255
# What some file systems forbid, and at the start what a shell or a spreadsheet would take for something else.
UNSAFE = re.compile(r'[\\/:*?"<>|]|^[\s.=+@~-]+|[\s.]+$')
DEVICE = re.compile(r"^(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)  # of Windows, with any suffix

# What zip programs on Windows write: code pages of DOS and Windows, most common first.
CODE_PAGES = ("cp437", "cp850", "cp1252", "cp866", "cp1251", "cp932", "gbk", "big5", "cp949")
EAST_ASIAN = {"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"}  # one text mixes these


def safe(name: str) -> str:
    """Replace what cannot stand in the name of a file or folder everywhere; a safe name stays as it is.

    The result is in Unicode's composed form and at most `MAX_NAME_BYTES` long; "_" where nothing is left.
    """
    name = unicodedata.normalize("NFC", name)
    name = "".join(letter if letter.isprintable() else "_" for letter in name)
    name = DEVICE.sub(r"_\g<0>", name).encode()[:MAX_NAME_BYTES].decode(errors="ignore")
    return UNSAFE.sub("_", name) or "_"


def compared(name: str) -> str:
    """Leave of a character's name what distinguishes it: no case, spaces, underscores, or letters without a shape."""
    return "".join(letter for letter in name if letter.isprintable() and letter not in " _").casefold()


def reader(names: Iterable[str]) -> Callable[[str], str]:
    """Find the encoding of the names of a source that are not UTF-8; returns a function from a name to its text.

    Bytes that are not UTF-8 stand in the names as Python's surrogate escapes. A code page fits where it makes letters
    of one script of every word. Where exactly one reading fits, it is taken.

    Raises:
        UserError: Several readings fit, or none.
    """
    foreign = sorted({_bytes(name) for name in names if not is_text(name)})
    if not foreign:
        return lambda name: name
    readings = {text: page for page in reversed(CODE_PAGES) if (text := _read(b"\n".join(foreign), page)) is not None}
    if len(readings) != 1:
        shown = ", ".join(ascii(name)[1:] for name in foreign[:3])
        pages = f" (it may be {' or '.join(sorted(readings.values()))})" if readings else ""
        raise UserError(
            f"Its names, such as {shown}, are not UTF-8, and their encoding cannot be recognised{pages}. Rename the "
            "files, pack them with a program that writes UTF-8, or unpack them in their encoding, as "
            "`unzip -O cp932 archive.zip` does for Japanese Windows, and give the folder."
        )
    (page,) = readings.values()
    return lambda name: name if is_text(name) else _bytes(name).decode(page)


def is_text(name: str) -> bool:
    """Say whether a name was UTF-8: whether it has no surrogate escapes."""
    return not any("\udc80" <= letter <= "\udcff" for letter in name)


def _bytes(name: str) -> bytes:
    return name.encode(errors="surrogateescape")


def _read(contents: bytes, page: str) -> str | None:
    """Decode, if that gives words of letters."""
    try:
        text = contents.decode(page)
    except UnicodeDecodeError:
        return None
    letters = all(letter.isascii() or unicodedata.category(letter)[0] in "LM" for letter in text)
    words = [word for word in re.split(r"[\W\d_]+", text) if not word.isascii()]
    return text if letters and all(map(_is_word, words)) else None


def _is_word(word: str) -> bool:
    """Say whether letters can be a word: of one script, and no capital from outside ASCII behind a small letter."""
    pairs = itertools.pairwise(word)
    mixed = any(one.islower() and other.isupper() and not other.isascii() for one, other in pairs)
    scripts = {unicodedata.name(letter, "?").split()[0] for letter in word}
    return not mixed and (len(scripts) == 1 or scripts <= EAST_ASIAN)
