"""Tables for a notebook's page: names spelt and numbers rounded in one way."""

import math
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from lib.characters import display_name

NAMES = {"character", "actual", "predicted", "lowest_character"}  # columns of labels
TIMES = {"minutes", "seconds", "seconds_per_epoch"}
# Words of column names, as headings have them.
WORDS = {"f1": "F1", "auroc": "AUROC", "fpr": "FPR", "tpr": "TPR", "val": "validation", "kaggle": "archive's own test"}


def for_reading(table: pd.DataFrame) -> Styler:
    """Lay out a table for a notebook's page: names as people spell them, no row numbers.

    Scores have three decimals, numbers from 10 on one, from 1,000 on none. An index with a name becomes the first
    column. What is missing, and a column in which nothing is there, is left out.
    """
    table = table if table.index.name is None else table.reset_index()
    table = table.dropna(axis="columns", how="all")
    shown = pd.DataFrame({_heading(name): [_cell(name, value) for value in table[name]] for name in table})
    # Without identifiers, which would differ from run to run.
    left = {"selector": "th, td", "props": "text-align: left !important"}
    return Styler(shown, uuid="table", cell_ids=False).hide(axis="index").set_table_styles([left])


def duration(seconds: float) -> str:
    """Write a time in its natural unit: 45 s, 2.5 min, 38 min, 2.5 h; nothing where it is missing."""
    for limit, unit, name in ((60, 1, "s"), (3600, 60, "min"), (math.inf, 3600, "h")):
        if seconds < limit:
            value = seconds / unit
            return f"{value:.0f} {name}" if value >= 9.95 or value == round(value) else f"{value:.1f} {name}"
    return ""


def _heading(name: str) -> str:
    return " ".join(WORDS.get(word, word) for word in str(name).split("_"))


def _cell(name: str, value: Any) -> str:
    if isinstance(value, str):
        return display_name(value) if name in NAMES else value
    if pd.api.types.is_bool(value) or not pd.api.types.is_number(value):
        return str(value)
    if pd.isna(value):
        return ""
    if pd.api.types.is_integer(value):
        return f"{value:,}"
    tenths = abs(value) >= 10 or name in TIMES
    return f"{value:,.{0 if abs(value) >= 1000 else 1 if tenths else 3}f}"
