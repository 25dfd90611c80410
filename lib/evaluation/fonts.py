"""Fonts for names in any script: the installed fonts that have the letters which matplotlib's own font lacks."""

import functools
import warnings
from collections.abc import Set

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

DEFAULT = "DejaVu Sans"  # comes with matplotlib
LAST_RESORT = "lastresort"  # fonts that have a box for every letter


def families_for(text: str) -> list[str]:
    """Choose font families that together have all letters of a text.

    Args:
        text: Any text; spaces and line breaks do not count.

    Returns:
        `DEFAULT`, then families of installed fonts that have the letters it lacks. matplotlib takes each letter from
        the first family that has it.

    Warns:
        UserWarning: No installed font has some of the letters. Given once for the same letters.
    """
    letters = {ord(letter) for letter in text if not letter.isspace()}
    return [DEFAULT, *_families_with(frozenset(letters - _code_points(font_manager.findfont(DEFAULT))))]


@functools.cache
def _families_with(missing: Set[int]) -> list[str]:
    families = []
    for font in sorted(font_manager.fontManager.ttflist, key=_regular_first):
        if not missing:
            break
        if LAST_RESORT not in font.name.replace(" ", "").lower() and missing & _code_points(font.fname):
            families.append(font.name)
            missing = missing - _code_points(font.fname)
    if missing:
        warnings.warn(
            f"No installed font has the letters {' '.join(map(chr, sorted(missing)))}: figures show boxes for them. "
            "Install a font of their script, for example from Google Noto.",
            stacklevel=3,
        )
    return families


def _code_points(path: str) -> Set[int]:
    return FT2Font(path).get_charmap().keys()


def _regular_first(font: font_manager.FontEntry) -> tuple[bool, bool, str]:
    return font.style != "normal", font.weight != 400, font.name
