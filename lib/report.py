"""What stands on the terminal at the end of `make evaluate`: where the reports are, and one table."""

import argparse
import sys
from pathlib import Path

import pandas as pd

from lib import runs
from lib.errors import UserError, tell

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
        results: What `lib.runs.results` gives.

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
        text = f"Reports:\n{reports}\n\n{table(runs.results(options.runs))}\n"
        print(f"\n{text}")
        if options.keep:
            with runs.replacing(options.keep) as temporary:
                temporary.write_text(text, encoding="utf-8")
    except (UserError, OSError) as problem:
        return tell(problem)
    return 0


if __name__ == "__main__":
    sys.exit(main())
