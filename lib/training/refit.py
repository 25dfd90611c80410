"""Train a finished run once more, on the frames of all its splits: the network that ships.

Scores and thresholds stay those of the run, which has not seen its validation and test frames. The network that people
use need not leave them out. It is trained by the same recipe in as many steps. No frame is left to choose anything on,
so the weights of the last epoch are kept, with the run's temperature and thresholds. The archive's own test set stays
out; `03_evaluate` scores the result on it.

    python -m lib.training.refit RUN_FOLDER
"""

import sys
from pathlib import Path

from lib import machine, paths, records
from lib.data import dataset
from lib.drawing.figures import FEATURES
from lib.training import batches, export, fit
from lib.training.calibration import Calibration
from lib.training.recipe import Recipe


def refit(run_folder: Path) -> Path:
    """Train a finished run on all frames; a training that was stopped continues after its last finished epoch.

    Returns:
        The folder `refit` in the run's, with `model.keras`, `model.tflite`, `history.csv` and `run.json`, the last.

    Raises:
        UserError: The run is not finished, or its pictures were prepared again since.
    """
    record = records.read_run(run_folder)
    data = dataset.load(paths.PROCESSED / record["data_name"], record["manifest_sha256"])
    recipe = Recipe.check(record["recipe"])
    chosen = Calibration(**record["calibration"])
    everything = dataset.for_refit(data)
    folder = run_folder / records.REFIT
    if (folder / records.RUN_RECORD).is_file() and records.read_run(folder).get("refit_of") == record["model_sha256"]:
        return folder
    # There is no score to lose patience on.
    epochs = record["best_epoch"] if recipe.patience else recipe.epochs
    drawings = recipe.drawings_per_character * len(FEATURES.keys() & set(data.characters))
    before, now = (len(batches.training_rows(each, recipe)) + drawings for each in (data, everything))
    # So many that it takes as many steps, and the rate is divided after as many.
    epochs, drop_every = (max(1, round(number * before / now)) for number in (epochs, recipe.drop_every))
    recipe = recipe.model_copy(update={"epochs": epochs, "drop_every": drop_every, "patience": 0})
    _, training = fit.train(everything, folder, recipe)
    # As the run stores them: the frames that would show which weights are precise enough were trained on.
    stored = recipe.model_copy(update={"export_weights": record["exported_weights"]})
    exported = export.save(folder, record["name"], data, stored, training.best_weights, chosen)
    records.write_csv(folder / records.HISTORY, training.history)
    result = export.run_record(record["name"], record["data_name"], everything, training, exported)
    del result["best_val_macro_f1"]
    records.write_run(folder, result | {"refit_of": record["model_sha256"]})
    training.delete()
    return folder


def main(run_folder: str) -> None:
    """Train one run once more, by its folder."""
    folder = Path(run_folder).resolve()
    with records.lock(folder):
        print(f"The network trained on all frames is in {refit(folder)}.")


if __name__ == "__main__":
    sys.exit(machine.run_command(main, *sys.argv[1:]))
