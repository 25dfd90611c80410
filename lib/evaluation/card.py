"""The model card (Mitchell et al. 2019, arXiv:1810.03993) of a published network, written from its records.

Its text is the template `model_card.md`.
"""

import hashlib
from pathlib import Path

import jinja2
import pandas as pd

from lib import records
from lib.characters import display_name
from lib.errors import UserError
from lib.evaluation import metrics, strangers
from lib.training.calibration import KEPT

MOST_CONFUSED = 8
FILTERS = {
    "spelt": display_name,
    "thousands": "{:,}".format,
    "two_digits": "{:.2f}".format,
    "digits": "{:.3f}".format,
    "interval": lambda ends: f"{ends[0]:.3f} to {ends[1]:.3f}",
    "percent": lambda fraction: f"{100 * fraction:.0f} %",
    "minutes": lambda seconds: f"{seconds / 60:.0f}",
}


def model_card(run_folder: Path) -> str:
    """Write the card of a run as Markdown.

    The folder has `run.json`, `metrics.json`, `per_character.csv`, `confusion.csv` and `model.tflite`; `robustness.csv`
    and `strangers.json` are used if they exist.

    Raises:
        UserError: A record is missing or damaged.
    """
    scores = records.read_metrics(run_folder)
    test_sets = {"test split": scores}
    if "kaggle_test" in scores:  # only the archive has a test set of its own
        test_sets["archive's own test set"] = scores["kaggle_test"]
    facts = {"run": records.read_run(run_folder), "scores": scores, "test_sets": test_sets}
    facts |= {"corrupted": None, "strangers": None}
    try:
        facts["contents"] = (run_folder / records.LITERT_MODEL).read_bytes()
        # As text: "NA" and "007" are names.
        names = {"dtype": {"character": str, "actual": str}, "keep_default_na": False}
        facts["characters"] = pd.read_csv(records.verified(run_folder / records.PER_CHARACTER), **names)
        confusion = pd.read_csv(records.verified(run_folder / records.CONFUSION), **names).set_index("actual")
    except FileNotFoundError as missing:
        raise UserError(
            f"{missing.filename} is missing; `make evaluate` and `make publish MODEL=1` write it."
        ) from None
    confused = metrics.most_confused(confusion.rename_axis(columns="predicted"), MOST_CONFUSED)
    if (run_folder / records.ROBUSTNESS).exists():
        table = metrics.read_robustness(run_folder / records.ROBUSTNESS)
        facts["unchanged"] = table.macro_f1[0]
        changed = table[table.kind != "unchanged"]
        facts["corrupted"] = changed.pivot_table("macro_f1", "kind", "strength", sort=False)
    if (run_folder / records.STRANGERS).exists():
        facts["strangers"] = strangers.table(records.read_record(run_folder / records.STRANGERS))
    loader = jinja2.PackageLoader("lib.evaluation", "")
    environment = jinja2.Environment(
        loader=loader, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= FILTERS
    return environment.get_template("model_card.md").render(
        **facts,
        model=records.LITERT_MODEL,
        digest=hashlib.sha256(facts["contents"]).hexdigest(),
        confused=confused,
        kept=KEPT,
    )
