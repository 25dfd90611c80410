"""Corrections of labels, made by people who looked at the pictures: one file that several may write and merge.

`06_review` writes it, `01_prepare` applies it. A row is one picture and the last verdict on it:

    path     of the picture below the raw folder, such as `bart_simpson/pic_0001.jpg`
    sha256   of the file that was looked at, 64 hexadecimal digits
    label    the character; for the verdict `second`, the other character in the picture; empty for `exclude`
    verdict  keep, relabel, exclude, or second
    who      who decided
    when     UTC, such as 2026-11-28T10:00:00+00:00
"""

import io
from pathlib import Path

import pandas as pd

from lib import machine, paths, records
from lib.errors import UserError

KAGGLE = paths.DATA / "kaggle_corrections.csv"  # of the Kaggle archive, reviewed for this project
COLUMNS = ("path", "sha256", "label", "verdict", "who", "when")
KEEP, RELABEL, EXCLUDE, SECOND = VERDICTS = ("keep", "relabel", "exclude", "second")


def read(path: Path) -> pd.DataFrame:
    """Read a file of corrections; one that does not exist yet has no rows.

    Args:
        path: The file.

    Returns:
        The rows, all columns text.

    Raises:
        UserError: The file cannot be read, lacks a column, or has an unknown verdict.
    """
    if not Path(path).exists():
        return pd.DataFrame(columns=list(COLUMNS), dtype=str)
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except (OSError, ValueError) as problem:
        raise UserError(f"{path} cannot be read as a table of corrections: {problem}.") from None
    return _checked(table, str(path))


def _checked(table: pd.DataFrame, where: str) -> pd.DataFrame:
    if missing := [name for name in COLUMNS if name not in table]:
        raise UserError(
            f"{where} is no table of corrections: expected the columns {', '.join(COLUMNS)}, "
            f"missing: {', '.join(missing)}."
        )
    table = table[table.verdict != ""]  # the page writes the pictures that nobody corrected too
    if unknown := sorted(set(table.verdict) - set(VERDICTS)):
        raise UserError(f"{where}: the verdict must be one of {', '.join(VERDICTS)}, not {unknown[0]!r}.")
    if nameless := table.path[table.verdict.isin([RELABEL, SECOND]) & (table.label == "")].tolist():
        raise UserError(f"{where}: {nameless[0]} must have the label of a character.")
    return table[list(COLUMNS)]


def of_pictures(rows: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Find the pictures that corrections from elsewhere, such as the page, are about.

    Args:
        rows: Corrections whose `path` may be the name of a file alone.
        table: The manifest: `path`, `character` and `sha256`.

    Returns:
        The rows about pictures of the manifest, by its digest or else its path, with the manifest's path, and `keep` or
        `relabel` as its label demands.
    """
    by_digest = table.drop_duplicates("sha256").set_index("sha256").path
    by_path = table.set_index("path")
    path = rows.sha256.map(by_digest).fillna(rows.path.where(rows.path.isin(by_path.index)))
    known = rows.assign(path=path)[path.notna()].reset_index(drop=True)
    labelled = known.verdict.isin([KEEP, RELABEL])
    same = known.label.to_numpy() == by_path.character.reindex(known.path).to_numpy()
    known.loc[labelled & same, "verdict"] = KEEP
    known.loc[labelled & ~same, "verdict"] = RELABEL
    return known.assign(sha256=by_path.sha256.reindex(known.path).to_numpy())


def merge(*tables: pd.DataFrame) -> pd.DataFrame:
    """Join tables of corrections; of several verdicts on a picture the latest counts.

    Args:
        *tables: As from `read`.

    Returns:
        One row per picture, sorted by path. The order of the tables does not matter.
    """
    every = pd.concat(tables, ignore_index=True).sort_values(["path", "when", "who"], kind="stable")
    return every.drop_duplicates("path", keep="last").reset_index(drop=True)


def update(path: Path, rows: pd.DataFrame | None = None, remove: str = "") -> pd.DataFrame:
    """Change a file of corrections, at once and completely or not at all; several processes may do so.

    Args:
        path: The file; made if missing.
        rows: Rows to merge in; None for none.
        remove: Path of a picture whose verdict is taken back.

    Returns:
        The rows of the file afterwards.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    lock = machine.acquire(Path(f"{path}.lock"))
    try:
        table = read(path)
        table = table[table.path != remove] if remove else table
        table = merge(table, rows) if rows is not None else table.reset_index(drop=True)
        records.write_csv(path, table)
    finally:
        machine.release(lock)
    return table


def from_text(text: str, name: str) -> pd.DataFrame:
    """Read corrections from the contents of a file that somebody chose.

    Args:
        text: A table of corrections as CSV.
        name: Name of the file, for messages.

    Raises:
        UserError: The text is no such table.
    """
    try:
        table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    except ValueError as problem:
        raise UserError(f"{name} cannot be read as a table of corrections: {problem}.") from None
    return _checked(table, name)


def apply(table: pd.DataFrame, corrections: pd.DataFrame) -> pd.DataFrame:
    """Give the pictures of a manifest the labels that people decided on.

    Args:
        table: One row a picture, with `path`, `character` and `sha256`.
        corrections: As from `read`.

    Returns:
        The table with the corrected `character` and three more columns: `label_before` (the label of the source),
        `verdict` (empty where nobody looked) and `second_character` (empty where there is none). A row of the
        corrections without a picture changes nothing.
    """
    found = corrections.drop_duplicates("path", keep="last").set_index("path").reindex(table.path)
    verdict = found.verdict.fillna("").to_numpy()
    label = found.label.fillna("").to_numpy()
    before = table.character.to_numpy()
    return table.assign(
        character=[new if of == RELABEL else old for new, of, old in zip(label, verdict, before, strict=True)],
        label_before=before,
        verdict=verdict,
        second_character=[new if of == SECOND else "" for new, of in zip(label, verdict, strict=True)],
    )
