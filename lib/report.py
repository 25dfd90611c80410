"""What stands on the terminal at the end of `make evaluate` and of `make compare`: the tables of the results."""

import argparse
import sys
from pathlib import Path

import pandas as pd

from lib import records
from lib.characters import display_name
from lib.errors import UserError, report_error
from lib.evaluation import compare

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


def main(arguments: list[str] | None = None) -> int:
    """Print the reports' places and the table of the given runs, and keep the text.

    Args:
        arguments: As on the command line; those of the process by default.

    Returns:
        Exit status: 0, or 2 for a mistake.
    """
    parser = argparse.ArgumentParser(prog="python -m lib.report", description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="finished run folders")
    parser.add_argument("--keep", type=Path, help="a file for the same text")
    options = parser.parse_args(arguments)
    try:
        reports = "\n".join(f"  {folder / 'evaluate.ipynb'}" for folder in options.runs)
        text = f"Reports:\n{reports}\n\n{table(compare.results(options.runs))}\n"
        print(f"\n{text}")
        if options.keep:
            with records.atomic_write(options.keep) as temporary:
                temporary.write_text(text, encoding="utf-8")
    except (UserError, OSError) as problem:
        return report_error(problem)
    return 0


if __name__ == "__main__":
    sys.exit(main())
