"""Compute out-of-fold answers: `python -m lib.training.folds DATA_NAME RECIPE`.

A short recipe is trained once per fold, without the fold and the near-duplicates of its pictures. A killed process
continues from the last finished epoch; finished folds are not computed again.
"""

import sys
from pathlib import Path

from lib import machine, paths, records
from lib.data import dataset, folds
from lib.training import export, fit, networks
from lib.training.recipe import Recipe


def compute(data: dataset.Dataset, where: Path, recipe: Recipe) -> None:
    """Train a network for each fold that has no answers yet, and write its answers into the folder `where`."""
    for number in range(folds.FOLDS):
        path = folds.answers_file(where, data, number)
        if path.is_file():
            continue
        print(f"Fold {number + 1} of {folds.FOLDS}", flush=True)
        of_fold = folds.fold(data, number)
        model, training = fit.train(of_fold, where / f"fold-{number}", recipe)
        rows = of_fold.rows("test")
        probabilities = networks.probabilities(export.outputs(model, data.images[rows]))
        folds.write(path, rows, probabilities[:, : len(data.characters)])  # without that of nobody
        training.delete()


def main(data_name: str, recipe: str) -> None:
    """Compute the answers for a folder of `data/processed`, by a recipe of `notebooks/params`."""
    where = folds.folder(data_name)
    with records.lock(where):
        compute(dataset.load(paths.PROCESSED / data_name), where, Recipe.load(recipe))


if __name__ == "__main__":
    sys.exit(machine.run_command(main, *sys.argv[1:]))
