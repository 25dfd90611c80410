"""Result tables for the terminal, and executed notebooks as web pages."""

import argparse
import os
import sys
import textwrap
import webbrowser
from pathlib import Path

import pandas as pd

from lib import paths, records
from lib.characters import display_name
from lib.data import names
from lib.errors import UserError, import_extra, report_error
from lib.evaluation import compare
from lib.study import reading

REPORTS = ("train", "evaluate", "robustness")  # executed notebooks of a run folder
SAMPLE_SENTENCE = (
    "These are scores on drawings by this project: they show that everything works, and say nothing about film frames."
)
SUMMARY = ["run", "conv layers", "parameters", "epochs", "seconds", "accuracy", "macro F1"]
COMPARISON = ["run", "characters", "conv layers", "parameters", "epochs", "s per epoch", "minutes", "accuracy"]
COMPARISON += ["macro F1", "95 % interval", "lowest character", "archive's own test", "near-duplicates in train"]


def table(results: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Write results, as from `compare.results`, as people read them: numbers rounded, names spelt out.

    The columns are headings: `SUMMARY`, `COMPARISON` or some of them.
    """
    texts = {
        "run": results.run,
        "characters": results.num_characters,
        "conv layers": results.conv_layers,
        "parameters": results.num_parameters.map("{:,}".format),
        "epochs": results.epochs,
        "seconds": results.seconds.map("{:.0f}".format),
        "s per epoch": results.seconds_per_epoch.map("{:.0f}".format),
        "minutes": (results.seconds / 60).map("{:.1f}".format),
        "accuracy": results.accuracy.map("{:.3f}".format),
        "macro F1": results.macro_f1.map("{:.3f}".format),
        "95 % interval": [
            f"{low:.3f} to {high:.3f}" if pd.notna(low) else ""
            for low, high in zip(results.macro_f1_low, results.macro_f1_high, strict=True)
        ],
        "lowest character": results.lowest_character.map(display_name) + results.lowest_f1.map(" {:.3f}".format),
        "archive's own test": results.kaggle_macro_f1.map("{:.3f}".format, na_action="ignore").fillna(""),
        "near-duplicates in train": results.near_duplicates_in_train,
    }
    return pd.DataFrame(texts)[columns]


def summary(run_folders: list[Path], source: str, command: str) -> str:
    """Write what `make evaluate` prints last: the reports, the `command` that opens one, and the table of results.

    For the source `"sample"` also what scores on drawings can and cannot show.
    """
    lines = [f"Reports (`{command}` opens one):"]
    lines += [f"  {paths.shown(folder / 'evaluate.ipynb')}" for folder in run_folders]
    lines += ["", table(compare.results(run_folders), SUMMARY).to_string(index=False)]
    lines += ["", SAMPLE_SENTENCE] if source == "sample" else []
    return "\n".join(lines) + "\n"


def write_pages(run_folder: Path) -> list[Path]:
    """Write the executed notebooks of a run as web pages beside them, `train.html` and so on; returns their paths.

    Raises:
        UserError: There is no executed notebook.
    """
    notebooks = [path for name in REPORTS if (path := run_folder / f"{name}.ipynb").exists()]
    if not notebooks:
        raise UserError(f"There is no report in {paths.shown(run_folder)} yet. `make train evaluate` writes them.")
    for notebook in notebooks:
        try:
            text = reading.as_page(notebook)
        except Exception as problem:  # nbformat raises many kinds for damaged files
            reason = textwrap.shorten(str(problem), 150, placeholder=" …")
            raise UserError(f"{paths.shown(notebook)} is damaged: {reason}. Delete it to see the others.") from None
        records.write_text(notebook.with_suffix(".html"), text)
    return [notebook.with_suffix(".html") for notebook in notebooks]


def timelines(answers: Path) -> list[Path]:
    """Draw who is on screen when, for each video in a folder that `python -m lib.predict --every 1 --out` wrote.

    Returns the figures, in the same folder; raises a `UserError` if there are no answers for frames of a video.
    """
    from lib.evaluation import plots, score_plots  # seaborn, which the tables do not need

    parquet = import_extra("pyarrow.parquet", "predictions")
    shards = [str(path) for path in sorted(answers.glob("part-*.parquet"))]
    # Pictures have no time.
    options = {"columns": ["picture", "time", "found"], "filters": [("time", ">=", 0)]}
    try:
        rows = parquet.read_table(shards, **options, page_checksum_verification=True).to_pandas() if shards else ()
    except (OSError, ValueError) as problem:  # Arrow's
        raise UserError(f"{answers} cannot be read: {' '.join(str(problem).split())}") from None
    if not len(rows):
        raise UserError(
            f"{answers} holds no frames of a video. `python -m lib.predict episode.mp4 --every 1 --out {answers}` "
            "writes them."
        )
    rows["characters"] = rows.found.map(lambda found: [] if found is None else [each["character"] for each in found])
    figures = []
    for number, (video, frames) in enumerate(rows.groupby("picture")):
        figures.append(answers / f"timeline-{number:03}-{names.safe(Path(video).stem)}.png")
        plots.save(score_plots.timeline(frames, Path(video).name), figures[-1])
    return figures


def main(arguments: list[str] | None = None) -> int:
    """Draw timelines from the command line, `python -m lib.report timeline answers/`; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lib.report", description="Draw who is on screen when.")
    parser.add_argument("figure", choices=["timeline"])
    parser.add_argument("answers", type=Path, help="folder of `python -m lib.predict --every SECONDS --out`")
    try:
        for page in timelines(parser.parse_args(arguments).answers):
            open_page(page)
    except (UserError, OSError) as problem:
        return report_error(problem)
    return 0


def open_page(page: Path) -> None:
    """Print the path of a page, and open it in the browser where there is a screen."""
    print(paths.shown(page))
    if sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(page.resolve().as_uri())


if __name__ == "__main__":
    sys.exit(main())
