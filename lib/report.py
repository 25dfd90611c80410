"""Result tables for the terminal, and executed notebooks as web pages."""

import os
import sys
import webbrowser
from pathlib import Path

import pandas as pd

from lib import paths, records
from lib.characters import display_name
from lib.errors import UserError
from lib.evaluation import compare

REPORTS = ("train", "evaluate", "robustness")  # executed notebooks of a run folder
SAMPLE_SENTENCE = (
    "These are scores on drawings by this project: they show that everything works, and say nothing about film frames."
)
HEADINGS = {
    "run": "run",
    "conv_layers": "conv layers",
    "num_parameters": "parameters",
    "epochs": "epochs",
    "seconds": "seconds",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
}


def table(results: pd.DataFrame) -> str:
    """Lay out the results of runs as text.

    Args:
        results: What `lib.records.results` gives.

    Returns:
        One line a run under a line of headings.
    """
    shown = results[list(HEADINGS)].rename(columns=HEADINGS)
    formats = {
        "parameters": "{:,}".format,
        "seconds": "{:.0f}".format,
        "accuracy": "{:.3f}".format,
        "macro F1": "{:.3f}".format,
    }
    return shown.to_string(index=False, formatters=formats)


def comparison(results: pd.DataFrame) -> str:
    """Lay out all that the records of runs say for a comparison.

    Args:
        results: What `lib.records.results` gives.

    Returns:
        One line a run under a line of headings.
    """
    interval = [
        f"{row.macro_f1_low:.3f} to {row.macro_f1_high:.3f}" if pd.notna(row.macro_f1_low) else ""
        for row in results.itertuples()
    ]
    lowest = [f"{display_name(row.lowest_character)} {row.lowest_f1:.3f}" for row in results.itertuples()]
    columns = {
        "run": results.run,
        "conv layers": results.conv_layers,
        "parameters": results.num_parameters.map("{:,}".format),
        "epochs": results.epochs,
        "s per epoch": results.seconds_per_epoch.map("{:.0f}".format),
        "minutes": (results.seconds / 60).map("{:.1f}".format),
        "accuracy": results.accuracy.map("{:.3f}".format),
        "macro F1": results.macro_f1.map("{:.3f}".format),
        "95 % interval": interval,
        "lowest character": lowest,
        "archive's own test": results.kaggle_macro_f1.map("{:.3f}".format, na_action="ignore").fillna(""),
        "near-copies in train": results.near_duplicates_in_train,
    }
    return pd.DataFrame(columns).to_string(index=False)


def summary(run_folders: list[Path], source: str) -> str:
    """Write what stands on the terminal at the end of `make evaluate`.

    Args:
        run_folders: Evaluated run folders.
        source: Where the pictures come from; about the drawn sample there is more to say.

    Returns:
        The places of the reports and the table of the results.
    """
    reports = "\n".join(f"  {_shown(folder / 'evaluate.ipynb')}" for folder in run_folders)
    text = f"Reports (`make report RUN={run_folders[0].name}` opens one):\n{reports}\n"
    text += f"\n{table(compare.results(run_folders))}\n"
    return text + (f"\n{SAMPLE_SENTENCE}\n" if source == "sample" else "")


def _shown(path: Path) -> Path:
    return path.relative_to(paths.ROOT) if path.is_relative_to(paths.ROOT) else path


def write_pages(run_folder: Path) -> list[Path]:
    """Write the executed notebooks of a run as web pages beside them.

    Args:
        run_folder: A run folder.

    Returns:
        The pages, `train.html`, `evaluate.html` and so on.

    Raises:
        UserError: There is no executed notebook.
    """
    from nbconvert import HTMLExporter  # half a second that only this needs

    executed = [run_folder / f"{name}.ipynb" for name in REPORTS if (run_folder / f"{name}.ipynb").exists()]
    if not executed:
        raise UserError(f"There is no report in {_shown(run_folder)} yet. `make train evaluate` writes them.")
    pages = []
    for notebook in executed:
        page, _ = HTMLExporter(embed_images=True).from_filename(str(notebook))
        pages.append(notebook.with_suffix(".html"))
        with records.atomic_write(pages[-1]) as temporary:
            temporary.write_text(page, encoding="utf-8")
    return pages


def open_page(page: Path) -> None:
    """Open a page in the browser, where there is a screen, and print where it is."""
    print(_shown(page))
    if sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(page.resolve().as_uri())
