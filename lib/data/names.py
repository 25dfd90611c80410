"""Names from foreign file systems: read in the encoding they are in, and made safe for every file system."""

import itertools
import re
import unicodedata
from collections.abc import Iterable

import chardet

from lib.errors import UserError

MAX_NAME_BYTES = 200  # file systems allow 255
# What some file systems forbid, and at the start what a shell or a spreadsheet would take for something else.
UNSAFE = re.compile(r'[\\/:*?"<>|]|^[\s.=+@~-]+|[\s.]+$')
DEVICE = re.compile(r"^(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)  # of Windows, with any suffix

# What zip programs on Windows write, code pages of DOS and Windows, and what Unix systems used before UTF-8.
WESTERN = ("cp437", "cp850", "cp1252")
EASTERN = ("cp932", "gb18030", "big5hkscs", "cp949", "euc_jis_2004", "cp874")
OTHERS = ("cp852", "cp1250", "cp866", "cp1251", "cp1125", "koi8-r", "koi8-u", "cp737", "cp1253", "cp857", "cp1254")
OTHERS += ("cp775", "cp1257", "cp862", "cp1255", "cp720", "cp1256")
CODE_PAGES = WESTERN + OTHERS + EASTERN
NO_CODE_PAGE = "ascii"  # what chardet is to answer where none fits
# Readings whose confidences differ by less are equally likely. Chosen on the names in tests/test_names.py.
MARGIN = 0.01
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


def encoding(names: Iterable[str]) -> str:
    """Find the encoding of the names of a source that are not UTF-8.

    Bytes that are not UTF-8 stand in the names as Python's surrogate escapes. A code page fits where it makes words
    of one script of them. Of several that fit, chardet's statistics of languages choose; where they cannot, a
    Western one, if all that are left read the names in Latin letters.

    Returns:
        A name that Python knows it by; "utf-8" where all names are.

    Raises:
        UserError: Several are equally likely, or none fits.
    """
    foreign = sorted({_bytes(name) for name in names if not is_text(name)})
    if not foreign:
        return "utf-8"
    contents = b"\n".join(foreign)
    readings = {text: page for page in reversed(CODE_PAGES) if (text := _read(contents, page)) is not None}
    likely = _likely(contents, list(readings.values()))
    if len(likely) == 1:
        return likely[0]
    western = [page for page in likely if page in WESTERN]
    if len(western) != 1 or not all(_is_latin(contents.decode(page)) for page in likely):
        shown = ", ".join(ascii(name)[1:] for name in foreign[:3])
        pages = f" (it may be {' or '.join(sorted(likely))})" if likely else ""
        raise UserError(
            f"Its names, such as {shown}, are not UTF-8, and their encoding cannot be recognised{pages}. Rename the "
            "files, pack them with a program that writes UTF-8, or unpack them in their encoding, as "
            "`unzip -O cp932 archive.zip` does for Japanese Windows, and give the folder."
        )
    return western[0]


def decoded(name: str, encoding: str) -> str:
    """Read a name in an encoding, unless it is UTF-8."""
    return name if is_text(name) else _bytes(name).decode(encoding)


def is_text(name: str) -> bool:
    """Say whether a name was UTF-8: whether it has no surrogate escapes."""
    return not any("\udc80" <= letter <= "\udcff" for letter in name)


def _bytes(name: str) -> bytes:
    return name.encode(errors="surrogateescape")


def _likely(contents: bytes, pages: list[str]) -> list[str]:
    """Of code pages that fit, give those that are about as likely as the best one."""
    if len(pages) < 2:
        return pages
    found = chardet.detect_all(
        contents,
        ignore_threshold=True,
        include_encodings=[*pages, NO_CODE_PAGE],
        no_match_encoding=NO_CODE_PAGE,
        compat_names=False,
    )
    scores = {each["encoding"]: each["confidence"] for each in found if each["encoding"] != NO_CODE_PAGE}
    best = max(scores.values(), default=0)
    return pages if best < MARGIN else [page for page, score in scores.items() if best - score < MARGIN]


def _is_latin(text: str) -> bool:
    return all(unicodedata.name(letter, "?").startswith("LATIN") for letter in set(text) if letter.isalpha())


def _read(contents: bytes, page: str) -> str | None:
    """Decode, if that gives words of one script, with no capital from outside ASCII behind a small letter."""
    try:
        text = contents.decode(page)
    except UnicodeDecodeError:
        return None
    others = {letter for letter in set(text) if unicodedata.category(letter)[0] not in "LM"}
    if not "".join(others).isascii():
        return None
    words = set(text.translate(dict.fromkeys(map(ord, others), " ")).split())
    foreign = [word for word in words if not word.isascii()]
    pairs = set(itertools.chain.from_iterable(map(itertools.pairwise, foreign)))
    mixed = any(one.islower() and other.isupper() and not other.isascii() for one, other in pairs)
    scripts = {unicodedata.name(letter, "?").split()[0] for letter in set().union(*foreign)}
    return text if not mixed and (len(scripts) == 1 or scripts <= EAST_ASIAN) else None
