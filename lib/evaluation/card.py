"""The model card (Mitchell et al. 2019, arXiv:1810.03993) of a published network, written from its records."""

import argparse
import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from lib import records
from lib.characters import display_name
from lib.errors import UserError, report_error

CARD = "MODEL_CARD.md"
MOST_CONFUSED = 8

ARCHIVE = """Frames collected by Alexandre Attia, [The Simpsons Characters
Dataset](https://www.kaggle.com/datasets/alexattia/the-simpsons-characters-dataset), **CC BY-NC-SA 4.0**; the
characters belong to their owners. The weights are derived from it and are under the same licence."""

TEXT = """# Model card: {run}

Names the character of *The Simpsons* in a picture, one of {num_characters}. `{model}` is a LiteRT file of
{size:,} bytes (SHA-256 `{digest}`) that carries its label order, picture size, resize rule and colour order.

## Use

    make predict IMAGE=picture.jpg

It always answers with one of its characters, also for a picture that shows another character, or none. Below
a probability of {threshold:.2f} an answer should be read as "I am not sure".{second_look}

It is for study and play. It must not be used commercially (see the licence), nor to recognise people: it
knows drawings of one series and nothing else.

## Network and training

{conv_layers} convolutional layers, {num_parameters:,} parameters, pictures of {picture_size}×{picture_size}
pixels, weights stored as {weights}. Trained from scratch, with no outside picture or weight, in {epochs}
epochs and {minutes:.0f} minutes on {cores} processor cores; the weights are those of epoch {best_epoch}, the best
on validation (macro F1 {val:.3f}). Seed {seed}. The whole recipe is in `run.json`.

## Data

{source}

{train_pictures:,} pictures to learn from{drawings}.

{leaks}

## Scores

Of the exported file, as the recogniser runs it.

{scores}

Per character, on the test split:

{per_character}

## Where it fails

Most often confused, on the test split:

{confused}

{robustness}
"""


def model_card(run_folder: Path) -> str:
    """Write the card of a run.

    Args:
        run_folder: A folder with `run.json`, `metrics.json`, `per_character.csv`, `confusion.csv` and `model.tflite`;
            `robustness.csv` is used where it is there.

    Returns:
        Markdown.

    Raises:
        UserError: A record is missing or damaged.
    """
    run, scores = records.read_run(run_folder), records.read_metrics(run_folder)
    try:
        contents = (run_folder / records.LITERT_MODEL).read_bytes()
        characters = pd.read_csv(run_folder / "per_character.csv")
        confusion = pd.read_csv(run_folder / "confusion.csv", index_col="actual")
    except FileNotFoundError as missing:
        raise UserError(
            f"{missing.filename} is missing; `make evaluate` and `make publish MODEL=1` write it."
        ) from None
    return TEXT.format(
        run=run["name"],
        num_characters=len(run["characters"]),
        model=records.LITERT_MODEL,
        size=len(contents),
        digest=hashlib.sha256(contents).hexdigest(),
        threshold=scores["threshold"],
        flip_tta_threshold=_second_look(run["recipe"].get("flip_tta_threshold", 0.0)),
        conv_layers=run["conv_layers"],
        num_parameters=run["num_parameters"],
        picture_size=run["picture_size"],
        weights=run["exported_weights"],
        epochs=run["epochs"],
        minutes=run["seconds"] / 60,
        cores=run["machine"]["cores"],
        best_epoch=run["best_epoch"],
        val=run["best_val_macro_f1"],
        seed=run["recipe"]["seed"],
        train_pictures=run["train_pictures"],
        # Only the archive brings a test set of its own.
        source=ARCHIVE if "kaggle_test" in scores else f"The pictures named `{run['data_name']}`.",
        drawings=_drawings(run["recipe"].get("drawings", 0)),
        train_duplicates="\n".join(
            [_leaks("the test split", scores)]
            + ([_leaks("the archive's own test set", scores["kaggle_test"])] if "kaggle_test" in scores else [])
        ),
        scores=_table(
            ["pictures", "number", "accuracy", "macro F1", "95 % interval", "lowest character", "its F1"],
            [_score_row("test split", scores)]
            + ([_score_row("the archive's own test set", scores["kaggle_test"])] if "kaggle_test" in scores else []),
        ),
        per_character=_table(
            ["character", "precision", "recall", "F1", "pictures"],
            (
                [display_name(c.character), f"{c.precision:.3f}", f"{c.recall:.3f}", f"{c.f1:.3f}", c.support]
                for c in characters.itertuples()
            ),
        ),
        confused=_table(["is", "was named", "pictures"], _most_confused(confusion)),
        robustness=_robustness(run_folder / "robustness.csv"),
    )


def _score_row(name: str, scores: dict) -> list[str]:
    low, high = scores["macro_f1_interval"]
    return [
        name,
        f"{scores['test_pictures']:,}",
        f"{scores['accuracy']:.3f}",
        f"{scores['macro_f1']:.3f}",
        f"{low:.3f} to {high:.3f}",
        display_name(scores["lowest_character"]),
        f"{scores['lowest_f1']:.3f}",
    ]


def _drawings(number: int) -> str:
    return f", and beside them {number} drawings of each character, made by this project's own code" if number else ""


def _second_look(threshold: float) -> str:
    if not threshold:
        return ""
    return f" Below {threshold:.2f} it is\nasked about the mirrored picture too, and the mean of both is the answer."


def _leaks(name: str, scores: dict) -> str:
    train_duplicates, pictures = scores["near_duplicates_in_train"], scores["test_pictures"]
    if not train_duplicates:
        return f"No picture of {name} has a near-copy among those that the network learnt from."
    return (
        f"{train_duplicates:,} of {pictures:,} pictures of {name} have a near-copy among those that the network learnt from, so "
        "its score there is too high."
    )


def _most_confused(confusion: pd.DataFrame) -> list[list]:
    counts = confusion.stack()
    wrong = counts[[actual != named for actual, named in counts.index]].sort_values(ascending=False, kind="stable")
    wrong = wrong[wrong > 0].head(MOST_CONFUSED)
    return [[display_name(actual), display_name(named), count] for (actual, named), count in wrong.items()]


def _robustness(path: Path) -> str:
    if not path.exists():
        return ""
    table = pd.read_csv(path, keep_default_na=False)
    changed = table[table.kind != "unchanged"]
    scores = changed.pivot(index="kind", columns="strength", values="macro_f1")
    scores = scores.loc[changed.kind.unique(), changed.strength.unique()]
    rows = ([kind.replace("_", " "), *(f"{score:.3f}" for score in row)] for kind, row in scores.iterrows())
    return (
        f"Macro F1 on changed test pictures (`make robustness`): {changed.macro_f1.mean():.3f} on average, "
        f"{table.macro_f1[0]:.3f} on the same pictures unchanged.\n\n" + _table(["change", *scores.columns], rows)
    )


def _table(headings: list[str], rows: Iterable[list]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def main(arguments: list[str] | None = None) -> int:
    """Write `MODEL_CARD.md` into a run folder.

    Args:
        arguments: As on the command line; those of the process by default.

    Returns:
        Exit status: 0, or 2 for a mistake.
    """
    parser = argparse.ArgumentParser(prog="python -m lib.evaluation.card", description=__doc__)
    parser.add_argument("run", type=Path, help="a run folder with its records and its model")
    options = parser.parse_args(arguments)
    try:
        with records.atomic_write(options.run / CARD) as temporary:
            temporary.write_text(model_card(options.run), encoding="utf-8")
    except (UserError, OSError) as problem:
        return report_error(problem)
    return 0


if __name__ == "__main__":
    sys.exit(main())
