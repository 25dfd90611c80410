"""Corrections of labels, made by people who looked at the pictures: one file that several may write and merge.

`06_review` writes it, `01_prepare` applies it. A row is one picture and the last verdict on it:

    path     of the picture below the raw folder, such as `bart_simpson/pic_0001.jpg`
    sha256   of the file that was looked at, 64 hexadecimal digits; empty for whatever picture has the path
    label    the character; for the verdict `second`, the other character in the picture; empty for `exclude`
    verdict  keep, relabel, exclude, or second
    who      who decided
    when     UTC, such as 2026-11-28T10:00:00+00:00
"""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from lib import machine, paths, records
from lib.data import names
from lib.data.layout import RESERVED
from lib.errors import MAX_LETTERS, UserError, printable

KAGGLE = paths.DATA / "kaggle_corrections.csv"  # of the Kaggle archive, reviewed for this project
COLUMNS = ("path", "sha256", "label", "verdict", "who", "when")
MAX_BYTES = 50_000_000  # 300,000 verdicts
PICTURE = ["path", "sha256"]  # what a verdict is about: another file of that name is another picture
KEEP, RELABEL, EXCLUDE, SECOND = VERDICTS = ("keep", "relabel", "exclude", "second")


def read(path: Path) -> pd.DataFrame:
    """Read a file of corrections, all columns as text; one that does not exist yet has no rows.

    Raises:
        UserError: The file cannot be read, lacks a column, or has an unknown verdict.
    """
    if not Path(path).exists():
        return pd.DataFrame(columns=list(COLUMNS), dtype=str)
    return _parsed(lambda: records.read_bytes(Path(path), MAX_BYTES).decode(), str(path))


def from_text(text: str, name: str) -> pd.DataFrame:
    """Read corrections from the contents of a file that somebody chose; `name` is for messages. See `read`."""
    return _parsed(lambda: text, name)


def _parsed(read_text: Callable[[], str], where: str) -> pd.DataFrame:
    expected = f"expected the columns {', '.join(COLUMNS)}, separated by commas"
    try:
        # pandas would drop extra fields of a row and read missing ones as empty.
        reader = csv.DictReader(io.StringIO(read_text(), newline=""), strict=True)
        rows = []
        for row in reader:
            if row.pop(None, [""]) != [""]:  # a comma at the end does no harm
                raise ValueError(f"line {reader.line_num} has more fields than the first one")
            rows.append(row)
        table = pd.DataFrame(rows, columns=list(dict.fromkeys(reader.fieldnames or ())), dtype="str")
    except (OSError, ValueError, csv.Error) as problem:
        reason = str(problem).strip()
        raise UserError(f"{where} cannot be read as a table of corrections: {reason}; {expected}, in UTF-8.") from None
    if missing := [name for name in COLUMNS if name not in table]:
        raise UserError(f"{where} is no table of corrections: {expected}; missing: {', '.join(missing)}.")
    table, is_short = table.fillna(""), table.isna().any(axis=1)
    if (cut := table.path[is_short & (table.verdict == "")]).size:
        raise UserError(f"{where} is damaged: the row of {cut.iloc[0]} ends before its verdict. Complete or remove it.")
    table = table[table.verdict != ""]  # the page writes the pictures that nobody corrected too
    if unknown := sorted(set(table.verdict) - set(VERDICTS)):
        raise UserError(f"{where}: the verdict must be one of {', '.join(VERDICTS)}, not {unknown[0]!r}.")
    table.loc[table.verdict == EXCLUDE, "label"] = ""  # the page writes what a visitor said there
    for row in table[(table.label != "") | table.verdict.isin([RELABEL, SECOND])].itertuples():
        if names.safe(row.label) != row.label or row.label.casefold() in RESERVED:
            raise UserError(f"{where}: {row.path} must have the label of a character, not {row.label!r}.")
    return merge(table[list(COLUMNS)])  # files that were joined by hand may have several rows about a picture


def of_pictures(rows: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Find the pictures of a manifest that corrections from elsewhere are about; the page gives file names as `path`.

    Returns:
        The rows about pictures of the manifest, by path and digest, else by digest alone, or by path where a row has no
        digest; with the manifest's path and digest, and `keep` or `relabel` as its label demands.
    """
    by_digest = table.drop_duplicates("sha256").set_index("sha256").path
    by_path = table.set_index("path")
    rows = _with_digests(table, rows)
    exact = rows.set_index(PICTURE).index.isin(table.set_index(PICTURE).index)
    path = rows.path.where(exact, rows.sha256.map(by_digest))
    known = rows.assign(path=path)[path.notna()].reset_index(drop=True)
    label = by_path.character.reindex(known.path).to_numpy()
    known["label"] = known.label.mask((known.verdict == KEEP) & (known.label == ""), label)
    labelled, same = known.verdict.isin([KEEP, RELABEL]), known.label.to_numpy() == label
    known.loc[labelled & same, "verdict"] = KEEP
    known.loc[labelled & ~same, "verdict"] = RELABEL
    return known.assign(sha256=by_path.sha256.reindex(known.path).to_numpy())


def merge(*tables: pd.DataFrame | None) -> pd.DataFrame:
    """Join tables of corrections, in any order: one row per picture, the latest verdict, sorted by path."""
    every = pd.concat(tables, ignore_index=True).sort_values(["path", "when", "who"], kind="stable")
    return every.drop_duplicates(PICTURE, keep="last").reset_index(drop=True)


def update(path: Path, rows: pd.DataFrame | None = None, remove: tuple[str, str] = ("", "")) -> pd.DataFrame:
    """Change a file of corrections, at once and completely or not at all; several processes may do so.

    The file, or what a link leads to, is made if missing. `rows` are merged in; `remove` is the path and the digest of
    a picture whose verdict is taken back, also one without a digest. Returns the rows of the file afterwards.
    """
    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    with machine.lock(Path(f"{path}.lock")):
        table = read(path)
        path_of_it, digest = remove
        gone = (table.path == path_of_it) & table.sha256.isin([digest, ""])
        table = merge(table[~gone], rows)
        records.write_csv(path, table)
    return table


def about(table: pd.DataFrame, corrections: pd.DataFrame) -> pd.DataFrame:
    """Keep the corrections that are about pictures of a manifest, all with digests."""
    corrections = _with_digests(table, corrections)
    return corrections[corrections.set_index(PICTURE).index.isin(table.set_index(PICTURE).index)]


def _with_digests(table: pd.DataFrame, corrections: pd.DataFrame) -> pd.DataFrame:
    """Fill in the digests of rows without one, written by hand: each is about whatever picture has its path."""
    at_path = corrections.path.map(table.drop_duplicates("path").set_index("path").sha256).fillna("")
    return corrections.assign(sha256=corrections.sha256.where(corrections.sha256 != "", at_path))


def of_each(table: pd.DataFrame, corrections: pd.DataFrame) -> pd.DataFrame:
    """Give the last verdict on each picture of a manifest, row by row; empty texts where there is none."""
    last = _with_digests(table, corrections).drop_duplicates(PICTURE, keep="last").set_index(PICTURE)
    return last.reindex(pd.MultiIndex.from_frame(table[PICTURE]), fill_value="").set_axis(table.index)


def apply(table: pd.DataFrame, corrections: pd.DataFrame) -> pd.DataFrame:
    """Give the pictures of a manifest the labels that people decided on.

    Returns:
        The table with the corrected `character` and three more columns: `label_before` (the label of the source),
        `verdict` (empty where nobody looked) and `second_character` (empty where there is none). A row of the
        corrections about a picture that is not there, or was replaced since, changes nothing; that is said.

    Raises:
        UserError: A label differs from that of other pictures by case, spaces or underscores alone.
    """
    found = of_each(table, corrections)
    missing = corrections.drop(about(table, corrections).index)
    if len(missing):
        print(
            f"{len(missing):,} of {len(corrections):,} corrections are about pictures that are not here, or not the "
            f"same any more, such as {printable(missing.path.iloc[0][:MAX_LETTERS])}; they change nothing. "
            "If they are the same pictures in another size, empty the column sha256: then the path alone counts.",
            flush=True,
        )
    same = {names.compared(character): character for character in table.character}
    for label in sorted({*found.label[found.verdict.isin([RELABEL, SECOND])]} - {*table.character}):
        if (other := same.setdefault(names.compared(label), label)) != label:
            raise UserError(
                f"The corrections have the label {label!a}, which differs from {other!a} by case, spaces and "
                f"underscores, or what cannot be seen. Write {other!a} there."
            )
    return table.assign(
        character=table.character.where(found.verdict != RELABEL, found.label),
        label_before=table.character,
        verdict=found.verdict,
        second_character=found.label.where(found.verdict == SECOND, ""),
    )
