"""What would more frames bring? A recipe, in as many steps, on a quarter, a half and 70 % of the training frames.

    make data DATA=kaggle EXCLUDE_KAGGLE_TEST=1
    python -m tests.benchmarks.bench_learning_curve --data NAME

Whole groups of near-duplicates are left out, and a smaller part lies within a larger one. The scores are those of the
network before its export, on the test pictures, without the mirror image; all trainings have one seed. The table is
printed and written to `outputs/NAME/learning_curve.csv`, which `make publish` copies. A training that was stopped
continues after its last finished epoch.
"""

import argparse
import dataclasses
import time

import numpy as np
import pandas as pd

from lib import paths, records
from lib.data import dataset
from lib.errors import UserError
from lib.evaluation import metrics
from lib.training import fit
from lib.training.recipe import Recipe

FRACTIONS = (0.25, 0.5, 0.7, 1.0)


def main() -> None:
    """Train on each part, and print and keep a row for each."""
    parser = argparse.ArgumentParser(description="Score a recipe on parts of the training pictures.")
    parser.add_argument("--data", required=True, help="a folder of data/processed")
    parser.add_argument("--recipe", default="springfield-short", help="a recipe of notebooks/params")
    options = parser.parse_args()
    try:
        data, recipe = dataset.load(paths.PROCESSED / options.data), Recipe.load(options.recipe)
    except UserError as problem:
        raise SystemExit(str(problem)) from None
    folder, rows = paths.OUTPUTS / options.data, []
    for fraction in FRACTIONS:
        part = part_of(data, fraction, recipe.seed)
        same_steps = recipe.model_copy(update={"epochs": round(recipe.epochs / fraction)})
        start = time.perf_counter()
        model, training = fit.train(part, folder / f"learning_curve-{fraction:g}", same_steps)
        test = data.rows("test")
        answers = model.predict(data.images[test], batch_size=256, verbose=0).argmax(axis=1)
        score = metrics.macro_f1(data.labels[test], answers)
        minutes = (time.perf_counter() - start) / 60
        number = len(part.rows("train"))
        rows.append((fraction, number, same_steps.epochs, training.checkpoint.best_score, score, minutes))
        training.checkpoint.delete()
    columns = ["fraction", "train_pictures", "epochs", "val_macro_f1", "macro_f1", "minutes"]
    table = pd.DataFrame(rows, columns=columns)
    records.write_table(folder / records.LEARNING_CURVE, table)
    print(table.to_string(index=False, float_format="{:.3f}".format))


def part_of(data: dataset.Dataset, fraction: float, seed: int) -> dataset.Dataset:
    """Keep a fraction of the groups of near-duplicates in train."""
    groups = np.random.default_rng(seed).permutation(np.unique(data.groups("train")))
    kept = groups[: round(fraction * len(groups))]
    left_out = (data.table.split == "train") & ~data.table.group.isin(kept)
    table = data.table.assign(split=data.table.split.mask(left_out, ""))
    return dataclasses.replace(data, table=table, manifest_sha256=f"{data.manifest_sha256}-{fraction}")


if __name__ == "__main__":
    main()
