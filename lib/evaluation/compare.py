"""Tables over finished runs: scores, parameters, seeds, ablation, robustness, time to a target score."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib import paths, records
from lib.evaluation import intervals, labels, metrics
from lib.training.recipe import Recipe

FROM_RECORDS = "Not trained here, so this is from the committed records in `outputs/published/`, of the real archive."


def evaluated(runs_folder: Path) -> list[Path]:
    """List the run folders below `runs_folder` that are trained and evaluated, sorted by name."""
    return sorted(
        record.parent
        for record in Path(runs_folder).glob(f"*/{records.METRICS_RECORD}")
        if (record.parent / records.RUN_RECORD).is_file()
    )


def runs_with(runs_folder: Path, *needed: str, published: Path = paths.PUBLISHED) -> tuple[list[Path], str]:
    """Choose the runs that a question can be answered with: those of a folder, or else the committed records.

    Args:
        runs_folder: Folder of the runs of one set of pictures.
        *needed: Names of runs that must be among them; none means any.
        published: Folder of the committed records.

    Returns:
        The evaluated runs that answer it, empty where neither folder has them all, and a sentence that says where they
        are from; empty for runs of `runs_folder` itself.
    """
    for folder in (Path(runs_folder), published):
        runs = evaluated(folder)
        if runs and {*needed} <= {run.name for run in runs}:
            return runs, "" if folder == Path(runs_folder) else FROM_RECORDS
    missing = f"{', '.join(needed)}" if needed else "any run"
    return [], f"Nothing to show: {missing} was not trained here, and there are no committed records of them."


def results(run_folders: list[Path]) -> pd.DataFrame:
    """Collect the size, cost and scores of runs.

    Args:
        run_folders: Evaluated run folders.

    Returns:
        One row per run, in the order given: `run, conv_layers, num_parameters, epochs, seconds, seconds_per_epoch,
        accuracy, macro_f1, macro_f1_low, macro_f1_high, lowest_character, lowest_f1, log_loss, test_pictures,
        near_duplicates_in_train, kaggle_macro_f1, num_characters`. `near_duplicates_in_train` counts the test pictures
        that have a near-duplicate in train. `kaggle_macro_f1` is the score on the archive's own test set. Both are
        None where the record has none.
    """
    columns = "run conv_layers num_parameters epochs seconds seconds_per_epoch accuracy macro_f1 macro_f1_low"
    columns += " macro_f1_high lowest_character lowest_f1 log_loss test_pictures near_duplicates_in_train"
    columns = [*columns.split(), "kaggle_macro_f1", "num_characters"]
    rows = []
    for run_folder in run_folders:
        scores = records.read_metrics(run_folder)
        low, high = scores.get("macro_f1_interval") or (None, None)
        values = records.read_run(run_folder) | scores | {"run": run_folder.name}
        values |= {"macro_f1_low": low, "macro_f1_high": high}
        values["kaggle_macro_f1"] = scores.get("kaggle_test", {}).get("macro_f1")
        values["num_characters"] = len(values.get("characters") or [])
        rows.append([values.get(column) for column in columns])
    return pd.DataFrame(rows, columns=columns)


def ranked(results: pd.DataFrame) -> pd.DataFrame:
    """Sort runs by macro F1, best first; runs whose test pictures have near-duplicates in train come last.

    Args:
        results: Output of `results`.

    Returns:
        The same rows, numbered from 0. Scores of the last runs are not comparable with the others', however high.
    """
    # None, where a record counted no near-duplicates, is no greater than 0 either.
    leaky = results.near_duplicates_in_train.astype(float) > 0
    order = results.assign(leaky=leaky).sort_values(["leaky", "macro_f1"], ascending=[True, False], kind="stable")
    return order.drop(columns="leaky").reset_index(drop=True)


def differing_parameters(run_folders: list[Path]) -> pd.DataFrame:
    """List the parameters in which runs differ.

    Args:
        run_folders: Finished run folders.

    Returns:
        One row per parameter that differs: `parameter`, then the value in each run, in a column named after the run.
        `manifest` is the start of the digest of the prepared pictures and their splits. A parameter that is newer
        than a run has its default there.
    """
    values = {}
    for run_folder in run_folders:
        run = records.read_run(run_folder)
        data = {"manifest": run["manifest_sha256"][:8]} | {key: run[key] for key in ("picture_size", "resize_mode")}
        values[run_folder.name] = data | run["recipe"]
    names = dict.fromkeys(name for of_run in values.values() for name in of_run)
    rows = [[name, *(of_run.get(name, _default(name)) for of_run in values.values())] for name in names]
    rows = [row for row in rows if any(value != row[1] for value in row[1:])]
    return pd.DataFrame(rows, columns=["parameter", *values], dtype=object)


def _default(name: str) -> Any:
    """Give the default of a recipe's parameter; None for one that recipes no longer have."""
    field = Recipe.model_fields.get(name)
    return field.default if field else None


def reviewed(runs: list[Path], verdicts: pd.DataFrame) -> pd.DataFrame:
    """Score runs on the labels of the source and on the reviewed ones.

    Args:
        runs: Run folders, as from `evaluated`.
        verdicts: Corrections, as from `corrections.read`.

    Returns:
        One row per run with a corrected test picture: `run`, `test_pictures`, `corrected` (how many of them were
        relabelled or excluded), `accuracy` and `macro_f1`, and the same on the reviewed labels.
    """
    rows = []
    for folder in runs:
        answers = metrics.read_predictions(folder / records.PREDICTIONS)
        corrected, number = labels.relabelled(answers, verdicts)
        if number:
            scores = [_scores(each) for each in (answers, corrected)]
            rows.append((folder.name, len(answers.paths), number, *scores[0], *scores[1]))
    names = ["run", "test_pictures", "corrected", "accuracy", "macro_f1", "reviewed_accuracy", "reviewed_macro_f1"]
    return pd.DataFrame(rows, columns=names)


def _scores(answers: metrics.Predictions) -> tuple[float, float]:
    predicted = answers.probabilities.argmax(axis=1)
    return float((predicted == answers.actual).mean()), metrics.macro_f1(answers.actual, predicted)


def seeds(run_folders: list[Path]) -> pd.DataFrame:
    """Compare the runs of one recipe on one set of pictures that differ in their seed alone.

    Args:
        run_folders: Evaluated run folders.

    Returns:
        One row per run whose recipe was trained more than once, recipe by recipe: `recipe, run, seed, val_macro_f1,
        macro_f1, lowest_f1, kaggle_macro_f1`. `recipe` is the name of the first of its runs.
    """
    table = results(run_folders)[["run", "macro_f1", "lowest_f1", "kaggle_macro_f1"]]
    runs = [records.read_run(run_folder) for run_folder in run_folders]
    table.insert(0, "recipe", [records.digest([run["data_name"], run["recipe"] | {"seed": None}]) for run in runs])
    table.insert(2, "seed", [run["recipe"]["seed"] for run in runs])
    table.insert(3, "val_macro_f1", [run["best_val_macro_f1"] for run in runs])
    table = table[table.duplicated("recipe", keep=False)].sort_values(["recipe", "seed"], ignore_index=True)
    table["recipe"] = table.groupby("recipe").run.transform("first")
    return table


def ablation(runs_folder: Path, base: str = "base") -> pd.DataFrame:
    """Measure the effect of each change of a recipe on the validation score.

    Args:
        runs_folder: The folder of the trained runs, `ablation/` in the folder of a set of pictures.
        base: The run that the others change.

    Returns:
        One row per run, best first: `run, changed, seed, epochs, val_macro_f1, minutes, corruption_loss`. `changed`
        lists the parameters that differ from the base's. `corruption_loss` is the loss of macro F1 on corrupted test
        pictures, see `corruption_loss` (NaN without `robustness.csv`). Empty where the base is not trained.
    """
    columns = ["run", "changed", "seed", "epochs", "val_macro_f1", "minutes", "corruption_loss"]
    runs = {
        record.parent.name: records.read_run(record.parent)
        for record in Path(runs_folder).glob(f"*/{records.RUN_RECORD}")
    }
    if base not in runs:
        return pd.DataFrame(columns=columns)
    reference = runs[base]["recipe"]
    rows = []
    for name, run in runs.items():
        changed = [f"{key}={value}" for key, value in run["recipe"].items() if value != reference.get(key)]
        scores = (run["epochs"], run["best_val_macro_f1"], run["seconds"] / 60, corruption_loss(runs_folder / name))
        rows.append((name, ", ".join(changed), run["recipe"]["seed"], *scores))
    return pd.DataFrame(rows, columns=columns).sort_values("val_macro_f1", ascending=False, ignore_index=True)


def corruption_loss(run_folder: Path) -> float | None:
    """Compute the loss of macro F1 on corrupted test pictures, averaged over kinds and strengths of corruption.

    Args:
        run_folder: A run folder, with the `robustness.csv` that `05_robustness` writes.

    Returns:
        Macro F1 on the unchanged pictures minus the mean of the others; None without `robustness.csv`.
    """
    table = robustness([run_folder])
    return table.loss.iloc[0] if len(table) else None


def robustness(run_folders: list[Path], base: str = "springfield-frames-only") -> pd.DataFrame:
    """Compare scores on corrupted pictures with those on the same pictures unchanged.

    Args:
        run_folders: Run folders; those without the `robustness.csv` that `05_robustness` writes are skipped.
        base: Name of the run that the others' loss is compared with.

    Returns:
        One row per run, the smallest loss first: `run, unchanged, changed, loss, loss_recovered`. `unchanged` and
        `changed` are macro F1, the latter averaged over kinds and strengths of corruption. `loss_recovered` is
        1 minus the ratio of the run's loss to the base's (NaN where the base is not among the runs).
    """
    rows = []
    for run_folder in run_folders:
        if (run_folder / records.ROBUSTNESS).exists():
            scores = pd.read_csv(records.verified(run_folder / records.ROBUSTNESS))
            same = scores.kind == "unchanged"
            rows.append((run_folder.name, float(scores.macro_f1[same].iloc[0]), float(scores.macro_f1[~same].mean())))
    table = pd.DataFrame(rows, columns=["run", "unchanged", "changed"])
    table["loss"] = table.unchanged - table.changed
    losses = table.set_index("run").loss
    table["loss_recovered"] = 1 - table.loss / losses[base] if base in losses else float("nan")
    return table.sort_values("loss", ignore_index=True)


def robustness_pair(run_folder: Path) -> tuple[dict[str, pd.DataFrame], str]:
    """Choose two runs to compare on each kind of corruption.

    Args:
        run_folder: A run folder with `robustness.csv`.

    Returns:
        The scores of this run and of the first other one beside it, by name, or else of two committed runs; and a
        sentence that says where they are from, empty for the former.
    """
    beside = [path.parent for path in sorted(run_folder.parent.glob(f"*/{records.ROBUSTNESS}"))]
    others = [folder for folder in beside if folder != run_folder]
    chosen, note = [run_folder, *others[:1]], ""
    if not others:
        chosen = [paths.PUBLISHED / run for run in ("springfield-18", "springfield-frames-only")]
        note = FROM_RECORDS
    if not all((folder / records.ROBUSTNESS).is_file() for folder in chosen):
        return {}, "It takes two runs that were scored on corrupted pictures."
    return {folder.name: pd.read_csv(records.verified(folder / records.ROBUSTNESS)) for folder in chosen}, note


def time_to_target(run_folders: list[Path], reference: str) -> pd.DataFrame:
    """Measure how long each run trained until it reached the score that one of them ended with.

    Args:
        run_folders: Finished run folders.
        reference: Name of the run whose last validation macro F1 is the target.

    Returns:
        One row per run that reached it, soonest first: `run, epoch, minutes, relative_time`. `epoch` is the first
        whose validation macro F1 is at least the target, `relative_time` the time divided by that of `reference`.
        Runs on another split, whose validation pictures differ, and on another machine are excluded. Empty where
        `reference` is not among the runs.
    """
    columns = ["run", "epoch", "minutes", "relative_time"]
    runs = {run_folder: records.read_run(run_folder) for run_folder in run_folders}
    target_run = next((run_folder for run_folder in runs if run_folder.name == reference), None)
    if target_run is None:
        return pd.DataFrame(columns=columns)
    target = pd.read_csv(records.verified(target_run / records.HISTORY)).val_macro_f1.iloc[-1]
    rows = []
    for run_folder, run in runs.items():
        history = pd.read_csv(records.verified(run_folder / records.HISTORY))
        reached = history.epoch[history.val_macro_f1 >= target]
        comparable = all(run.get(key) == runs[target_run].get(key) for key in ("manifest_sha256", "machine"))
        if comparable and len(reached):
            epoch = int(reached.iloc[0])
            rows.append((run_folder.name, epoch, sum(_epoch_seconds(run)[:epoch]) / 60))
    table = pd.DataFrame(rows, columns=columns[:3])
    table["relative_time"] = table.minutes / table.minutes[table.run == reference].iloc[0]
    return table.sort_values("minutes", ignore_index=True)


def validation_curves(run_folders: list[Path]) -> pd.DataFrame:
    """Collect the validation score of every epoch of runs.

    Args:
        run_folders: Finished run folders.

    Returns:
        One row per run and epoch: `run`, `epoch`, `minutes` (of training, to the end of the epoch), `val_macro_f1`.
    """
    tables = []
    for run_folder in run_folders:
        history = pd.read_csv(records.verified(run_folder / records.HISTORY))
        minutes = np.cumsum(_epoch_seconds(records.read_run(run_folder)))[: len(history)] / 60
        tables.append(history[["epoch", "val_macro_f1"]].assign(run=run_folder.name, minutes=minutes))
    columns = ["run", "epoch", "minutes", "val_macro_f1"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def _epoch_seconds(run: dict[str, Any]) -> list[float]:
    """Give the duration of each epoch; runs of an earlier version recorded the mean alone."""
    return run.get("epoch_seconds") or [run["seconds_per_epoch"]] * run["epochs"]


def leakage(run_folders: list[Path], seed: int = 0) -> pd.DataFrame:
    """Measure what near-duplicates in train add to the score.

    The two splits have different test pictures, so the scores are resampled independently and their differences give
    the interval. It covers the choice of the test pictures; only several seeds cover that of the training.

    Args:
        run_folders: Evaluated run folders; the runs of a random split are those named `<run>-random`.
        seed: Seed of the bootstrap.

    Returns:
        One row for each run that there is on both splits: `run`, `grouped` and `random` (macro F1), `gain` with its
        95 % interval `low` and `high`, `near_duplicates` (fraction of the random split's test pictures that have one
        in train), `accuracy_of_near_duplicates`, `accuracy_of_others`, and `gain_on_official_test`, the change on the
        archive's own test set, which neither run can have memorised (NaN without one).
    """
    columns = "run grouped random gain low high near_duplicates accuracy_of_near_duplicates accuracy_of_others"
    by_name, rows = {run_folder.name: run_folder for run_folder in run_folders}, []
    for name, folder in by_name.items():
        if not (name.endswith("-random") and name.removesuffix("-random") in by_name):
            continue
        clean, leaky = (records.read_metrics(of) for of in (by_name[name.removesuffix("-random")], folder))
        resampled = []
        for offset, of in enumerate((by_name[name.removesuffix("-random")], folder)):
            found = metrics.read_predictions(of / records.PREDICTIONS)
            answers = found.probabilities.argmax(axis=1)
            groups = (found.actual, answers, len(found.characters), found.groups, seed + offset)
            resampled.append(intervals.resampled_scores(*groups)[1])
        interval = intervals.percentile_interval(resampled[1] - resampled[0])
        official = [scores.get("kaggle_test", {}).get("macro_f1", np.nan) for scores in (clean, leaky)]
        rows.append(
            [name.removesuffix("-random"), clean["macro_f1"], leaky["macro_f1"]]
            + [leaky["macro_f1"] - clean["macro_f1"], *interval]
            + [leaky["near_duplicates_in_train"] / leaky["test_pictures"]]
            + [leaky.get(f"accuracy_of_{which}", np.nan) for which in ("near_duplicates", "others")]
            + [official[1] - official[0]]
        )
    return pd.DataFrame(rows, columns=[*columns.split(), "gain_on_official_test"])


def macro_f1_difference(
    actual: np.ndarray,
    predicted: np.ndarray,
    other: np.ndarray,
    num_characters: int,
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare two networks on the same pictures.

    Both are scored on the same resamples (see `intervals.bootstrap_intervals`). A picture that is hard for one network
    is often hard for the other, so this interval is narrower than the two single ones suggest. An interval that
    contains 0 does not distinguish the networks.

    Args:
        actual: Labels, int `(num_pictures,)`.
        predicted: Answers of the one network, int `(num_pictures,)`.
        other: Answers of the other network to the same pictures in the same order, int `(num_pictures,)`.
        num_characters: Number of characters.
        groups: Near-duplicate group of each picture, `(num_pictures,)`; None puts each picture in its own group.
        seed: Seed of the bootstrap.

    Returns:
        `difference` (macro F1 of `predicted` minus that of `other`) and `difference_interval` (95 %, `[low, high]`).
    """
    # The same seed draws the same groups, so that subtracting element by element pairs the resamples.
    _, first = intervals.resampled_scores(actual, predicted, num_characters, groups, seed)
    _, second = intervals.resampled_scores(actual, other, num_characters, groups, seed)
    difference = metrics.macro_f1(actual, predicted) - metrics.macro_f1(actual, other)
    return {"difference": difference, "difference_interval": intervals.percentile_interval(first - second)}


def differences(predictions: dict[str, metrics.Predictions], best: str, seed: int = 0) -> pd.DataFrame:
    """Measure how far each run is below the best one, on the same pictures.

    Args:
        predictions: Answers of each run, by the run's name.
        best: Name of the run to compare the others with.
        seed: Seed of the bootstrap.

    Returns:
        One row per run: `run, below_best, low, high`, macro F1 of the best minus that of the run with its 95 %
        interval; NaN for a run with predictions of other pictures.
    """
    reference = predictions[best]
    rows = []
    for run, other in predictions.items():
        row = (run, np.nan, np.nan, np.nan)
        if other.paths == reference.paths and other.characters == reference.characters:
            answers = (network.probabilities.argmax(axis=1) for network in (reference, other))
            found = macro_f1_difference(reference.actual, *answers, len(reference.characters), reference.groups, seed)
            row = (run, found["difference"], *found["difference_interval"])
        rows.append(row)
    table = pd.DataFrame(rows, columns=["run", "below_best", "low", "high"])
    return table.sort_values("below_best", ignore_index=True)
