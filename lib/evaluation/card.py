"""The model card (Mitchell et al. 2019, arXiv:1810.03993) of a published network, written from its records."""

import hashlib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd

from lib import records
from lib.characters import display_name
from lib.errors import UserError
from lib.evaluation import metrics, strangers

MOST_CONFUSED = 8

ARCHIVE = """Frames collected by Alexandre Attia,
[The Simpsons Characters Dataset](https://www.kaggle.com/datasets/alexattia/the-simpsons-characters-dataset),
**CC BY-NC-SA 4.0**; the characters belong to their owners.
The weights are derived from it and are under the same licence."""


def model_card(run_folder: Path) -> str:
    """Write the card of a run.

    Args:
        run_folder: A folder with `run.json`, `metrics.json`, `per_character.csv`, `confusion.csv` and `model.tflite`;
            `robustness.csv` and `strangers.json` are used if they exist.

    Returns:
        Markdown.

    Raises:
        UserError: A record is missing or damaged.
    """
    run, scores = records.read_run(run_folder), records.read_metrics(run_folder)
    try:
        contents = (run_folder / records.LITERT_MODEL).read_bytes()
        characters = pd.read_csv(records.verified(run_folder / records.PER_CHARACTER))
        confusion = pd.read_csv(records.verified(run_folder / records.CONFUSION), index_col="actual").rename_axis(
            columns="predicted"
        )
    except FileNotFoundError as missing:
        raise UserError(
            f"{missing.filename} is missing; `make evaluate` and `make publish MODEL=1` write it."
        ) from None
    test_sets = {"test split": scores}
    if "kaggle_test" in scores:  # only the archive has a test set of its own
        test_sets["archive's own test set"] = scores["kaggle_test"]
    template = resources.files("lib.evaluation").joinpath("model_card.md").read_text(encoding="utf-8")
    return (
        template.format(
            run=run,
            scores=scores,
            num_characters=len(run["characters"]),
            model=records.LITERT_MODEL,
            size=len(contents),
            digest=hashlib.sha256(contents).hexdigest(),
            minutes=run["seconds"] / 60,
            declining=_declining(run, scores),
            flip_tta=_flip_tta(run["recipe"].get("flip_tta_threshold", 0.0)),
            source=ARCHIVE if "kaggle_test" in scores else f"The pictures named `{run['data_name']}`.",
            drawings=_drawings(run["recipe"].get("drawings_per_character", 0)),
            refit=_refit(run.get("refit")),
            near_duplicates="\n".join(_near_duplicates(name, of_set) for name, of_set in test_sets.items()),
            test_scores=_test_scores(test_sets),
            per_character=_table(
                ["character", "precision", "recall", "F1", "pictures"],
                (
                    [display_name(c.character), f"{c.precision:.3f}", f"{c.recall:.3f}", f"{c.f1:.3f}", c.support]
                    for c in characters.itertuples()
                ),
            ),
            confused=_confused(confusion),
            robustness=_robustness(run_folder / records.ROBUSTNESS),
            strangers=_strangers(run_folder / records.STRANGERS),
        ).rstrip()
        + "\n"
    )


def _declining(run: dict[str, Any], scores: dict[str, Any]) -> str:
    if not run["recipe"].get("class_map"):
        return (
            "It always answers with one of its characters, also for a picture of another character or of none.\n"
            f'Read an answer with a probability below {scores["threshold"]:.2f} as "I am not sure".'
        )
    return (
        "It declines where the characters that it sees have a probability below "
        f"{run['calibration']['threshold']:.2f} together: 97 % of the validation pictures have more. The threshold is "
        "in the file.\nIt also answers with a class map, which says where each character is, and may find several."
    )


def _flip_tta(threshold: float) -> str:
    if not threshold:
        return ""
    return (
        f"Flip test-time augmentation for low-confidence pictures: below a probability of {threshold:.2f}, the answer "
        "is the mean over the picture and its mirror image.\n"
    )


def _drawings(number: int) -> str:
    return f" and {number} drawings of each character, made by this project's own code" if number else ""


def _refit(refit: dict[str, Any] | None) -> str:
    """Say which scores are those of the file, where it was trained once more on all frames."""
    if refit is None:
        return ""
    text = (
        f"\nThe file holds a second training by this recipe ({refit['seconds'] / 60:.0f} minutes), on the "
        f"{refit['train_pictures']:,} frames of all splits (`make refit`), with the temperature and thresholds of the "
        "first. The scores below are of the first, which has not seen the frames of the test split.\n"
    )
    if scores := refit.get("scores"):
        low, high = scores["macro_f1_interval"]
        text += (
            "On the archive's own test set, which neither has seen, the file reaches an accuracy of "
            f"{scores['accuracy']:.3f} and a macro F1 of {scores['macro_f1']:.3f} ({low:.3f} to {high:.3f}).\n"
        )
    return text


def _near_duplicates(name: str, scores: dict[str, Any]) -> str:
    number, pictures = scores["near_duplicates_in_train"], scores["test_pictures"]
    if not number:
        return f"No picture of the {name} has a near-duplicate among the training pictures."
    return (
        f"{number:,} of {pictures:,} pictures of the {name} have a near-duplicate among the training pictures, so the "
        "score there is too high."
    )


def _test_scores(test_sets: dict[str, dict[str, Any]]) -> str:
    headings = ["pictures", "number", "accuracy", "macro F1", "95 % interval", "lowest character", "its F1"]
    rows = []
    for name, scores in test_sets.items():
        low, high = scores["macro_f1_interval"]
        values = [f"{scores['test_pictures']:,}", f"{scores['accuracy']:.3f}", f"{scores['macro_f1']:.3f}"]
        lowest = [display_name(scores["lowest_character"]), f"{scores['lowest_f1']:.3f}"]
        rows.append([name, *values, f"{low:.3f} to {high:.3f}", *lowest])
        if frequent := scores.get("frequent"):
            lowest = [display_name(frequent["lowest_character"]), f"{frequent['lowest_f1']:.3f}"]
            name = f"{name}, its {frequent['characters']} frequent characters"
            rows.append([name, "", "", f"{frequent['macro_f1']:.3f}", "", *lowest])
    return _table(headings, rows)


def _confused(confusion: pd.DataFrame) -> str:
    pairs = metrics.most_confused(confusion, top=confusion.size)
    pairs = pairs.sort_values(["pictures", "actual", "predicted"], ascending=[False, True, True]).head(MOST_CONFUSED)
    rows = ([display_name(pair.actual), display_name(pair.predicted), pair.pictures] for pair in pairs.itertuples())
    return _table(["actual", "predicted", "pictures"], rows)


def _robustness(path: Path) -> str:
    if not path.exists():
        return ""
    table = pd.read_csv(records.verified(path), keep_default_na=False)
    corrupted = table[table.kind != "unchanged"]
    scores = corrupted.pivot(index="kind", columns="strength", values="macro_f1")
    scores = scores.loc[corrupted.kind.unique(), corrupted.strength.unique()]
    rows = ([kind.replace("_", " "), *(f"{score:.3f}" for score in row)] for kind, row in scores.iterrows())
    return (
        f"Macro F1 on corrupted test pictures (`make robustness`): {corrupted.macro_f1.mean():.3f} on average, "
        f"{table.macro_f1[0]:.3f} on the same pictures unchanged.\n\n" + _table(["corruption", *scores.columns], rows)
    )


def _strangers(path: Path) -> str:
    """Write what is named that should not be, and how well characters are found; empty without a record."""
    if not path.exists():
        return ""
    rows = ([row.pictures, f"{row.fraction:.1%}"] for row in strangers.table(records.read_record(path)).itertuples())
    return "Strangers, pairs and places (`make robustness`), none of them trained on:\n\n" + _table(
        ["pictures", "fraction"], rows
    )


def _table(headings: list[str], rows: Iterable[list]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
