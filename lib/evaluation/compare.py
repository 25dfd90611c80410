"""Tables over finished runs: scores side by side, seeds, ablation, robustness, time to a target score."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib import records
from lib.evaluation import intervals, metrics


def evaluated(runs_folder: Path) -> list[Path]:
    """List the run folders below `runs_folder` that are trained and evaluated, sorted by name."""
    return sorted(
        m.parent
        for m in Path(runs_folder).glob(f"*/{records.METRICS_RECORD}")
        if (m.parent / records.RUN_RECORD).is_file()
    )


def results(run_folders: list[Path]) -> pd.DataFrame:
    """Collect what the runs were and what they scored.

    Args:
        run_folders: Finished run folders.

    Returns:
        One row a run, in the order given: `run, conv_layers, num_parameters, epochs, seconds, seconds_per_epoch,
        accuracy, macro_f1, macro_f1_low, macro_f1_high, lowest_character, lowest_f1, log_loss, test_pictures,
        near_copies_in_train, kaggle_macro_f1`; `near_duplicates_in_train` counts the test pictures that have one, and
        `kaggle_macro_f1` is the score on the archive's own test set (None where there is none).
    """
    rows = []
    for run_folder in run_folders:
        run, scores = records.read_run(run_folder), records.read_metrics(run_folder)
        low, high = scores.get("macro_f1_interval") or (None, None)
        rows.append(
            {key: run[key] for key in ("conv_layers", "num_parameters", "epochs", "seconds", "seconds_per_epoch")}
            | {key: scores[key] for key in ("accuracy", "macro_f1", "lowest_character", "lowest_f1", "log_loss")}
            | {key: scores.get(key) for key in ("test_pictures", "near_duplicates_in_train")}
            | {"run": run_folder.name, "macro_f1_low": low, "macro_f1_high": high}
            | {"kaggle_macro_f1": scores.get("kaggle_test", {}).get("macro_f1")}
        )
    columns = "run conv_layers num_parameters epochs seconds seconds_per_epoch accuracy macro_f1 macro_f1_low"
    columns += " macro_f1_high lowest_character lowest_f1 log_loss test_pictures near_copies_in_train kaggle_macro_f1"
    return pd.DataFrame(rows, columns=columns.split())


def ranked(results: pd.DataFrame) -> pd.DataFrame:
    """Sort runs by macro F1, best first; those whose test pictures have near-copies in training come last.

    Args:
        results: What `results` gives; `near_duplicates_in_train` may be missing.

    Returns:
        The same rows, numbered from 0. Scores of the last ones are no match for the others', however high.
    """
    train_duplicates = results.get("near_duplicates_in_train", pd.Series(0, results.index)).fillna(0) > 0
    order = {"ascending": [True, False], "kind": "stable", "ignore_index": True}
    return (
        results.assign(train_duplicates=train_duplicates)
        .sort_values(["train_duplicates", "macro_f1"], **order)
        .drop(columns="train_duplicates")
    )


def seeds(run_folders: list[Path]) -> pd.DataFrame:
    """Say how far trainings by one recipe differ that differ in their seed alone.

    Args:
        run_folders: Finished run folders.

    Returns:
        One row a run whose recipe was trained more than once, recipe by recipe: `recipe, run, seed, val_macro_f1,
        macro_f1, lowest_f1, kaggle_macro_f1`; `recipe` is the name of the first of its runs.
    """
    table = results(run_folders)[["run", "macro_f1", "lowest_f1", "kaggle_macro_f1"]]
    trained = [records.read_run(run_folder) for run_folder in run_folders]
    chosen = [{key: value for key, value in run["recipe"].items() if key not in ("run", "seed")} for run in trained]
    table.insert(0, "recipe", [records.digest(parameters) for parameters in chosen])
    table.insert(2, "seed", [run["recipe"]["seed"] for run in trained])
    table.insert(3, "val_macro_f1", [run["best_val_macro_f1"] for run in trained])
    table = table[table.duplicated("recipe", keep=False)].sort_values(["recipe", "seed"], ignore_index=True)
    table["recipe"] = table.groupby("recipe").run.transform("first")
    return table


def ablation(runs_folder: Path, base: str = "base") -> pd.DataFrame:
    """Say what each changed line of a recipe does to the validation score.

    Args:
        runs_folder: The folder of the trained runs, one a line, `ablation/` of a data name's folder.
        base: The run that the others change.

    Returns:
        One row a run, best first: `run, changed, seed, epochs, val_macro_f1, minutes, loss_when_changed`; `changed`
        names the parameters that differ from the base's, `corruption_loss` is what macro F1 loses on changed test
        pictures, on average over kinds and strengths (None without `robustness.csv`). Empty where the base is not
        trained.
    """
    columns = ["run", "changed", "seed", "epochs", "val_macro_f1", "minutes", "corruption_loss"]
    trained = {
        record.parent.name: records.read_run(record.parent)
        for record in Path(runs_folder).glob(f"*/{records.RUN_RECORD}")
    }
    if base not in trained:
        return pd.DataFrame(columns=columns)
    same = trained[base]["recipe"]
    rows = []
    for name, run in trained.items():
        chosen = {key: value for key, value in run["recipe"].items() if key != "run"}
        changed = [f"{key}={value}" for key, value in chosen.items() if value != same.get(key)]
        scores = (run["epochs"], run["best_val_macro_f1"], run["seconds"] / 60, corruption_loss(runs_folder / name))
        rows.append((name, ", ".join(changed), run["recipe"]["seed"], *scores))
    return pd.DataFrame(rows, columns=columns).sort_values("val_macro_f1", ascending=False, ignore_index=True)


def corruption_loss(run_folder: Path) -> float | None:
    """Say how far macro F1 falls when test pictures are changed, on average over kinds and strengths of change.

    Args:
        run_folder: A run folder, with the `robustness.csv` that `05_robustness` writes.

    Returns:
        Macro F1 on the unchanged pictures less the mean of the others; None where there is no table.
    """
    table = robustness([run_folder])
    return table.loss.iloc[0] if len(table) else None


def robustness(run_folders: list[Path], base: str = "springfield-frames-only") -> pd.DataFrame:
    """Say what is left of the runs' scores on changed pictures.

    Args:
        run_folders: Run folders; those without the `robustness.csv` that `05_robustness` writes are passed over.
        base: Name of the run whose loss the others win back.

    Returns:
        One row a run, the smallest loss first: `run, unchanged, changed, loss, won_back`; `unchanged` and `changed`
        are macro F1 on the same pictures, the latter on average over kinds and strengths of change, `loss_recovered` is the
        share of the base's loss that is none here (NaN where the base is not among the runs).
    """
    rows = []
    for run_folder in run_folders:
        if (run_folder / records.ROBUSTNESS).exists():
            scores = pd.read_csv(run_folder / records.ROBUSTNESS)
            same = scores.kind == "unchanged"
            rows.append((run_folder.name, float(scores.macro_f1[same].iloc[0]), float(scores.macro_f1[~same].mean())))
    table = pd.DataFrame(rows, columns=["run", "unchanged", "changed"])
    table["loss"] = table.unchanged - table.changed
    losses = table.set_index("run").loss
    table["loss_recovered"] = 1 - table.loss / losses[base] if base in losses else float("nan")
    return table.sort_values("loss", ignore_index=True)


def time_to_target(run_folders: list[Path], reference: str) -> pd.DataFrame:
    """Say how long each run trained until it reached the score that one of them ended with.

    Args:
        run_folders: Finished run folders.
        reference: Name of the run whose last validation macro F1 is the mark.

    Returns:
        One row a run that reached it, soonest first: `run, epoch, minutes, share`; `epoch` is the first whose
        validation macro F1 is no lower, `share` the time over that of `reference`. Left out are runs on another split,
        whose validation pictures are others, and runs on another machine. Empty where `reference` is not among the runs.
    """
    columns = ["run", "epoch", "minutes", "share"]
    folders = {run_folder.name: run_folder for run_folder in run_folders}
    if reference not in folders:
        return pd.DataFrame(columns=columns)
    trained = {name: records.read_run(it) for name, it in folders.items()}
    folders = {name: it for name, it in folders.items() if _comparable(trained[name], trained[reference])}
    histories = {name: pd.read_csv(run_folder / "history.csv") for name, run_folder in folders.items()}
    mark, rows = histories[reference].val_macro_f1.iloc[-1], []
    for name, history in histories.items():
        reached = history.epoch[history.val_macro_f1 >= mark]
        if len(reached):
            run = trained[name]
            # Runs of an earlier version have the mean alone.
            seconds = run.get("epoch_seconds") or [run["seconds_per_epoch"]] * run["epochs"]
            rows.append((name, int(reached.iloc[0]), sum(seconds[: int(reached.iloc[0])]) / 60))
    table = pd.DataFrame(rows, columns=columns[:3])
    table["share"] = table.minutes / table.minutes[table.run == reference].iloc[0]
    return table.sort_values("minutes", ignore_index=True)


def _comparable(run: dict[str, Any], other: dict[str, Any]) -> bool:
    """Say whether two runs had the same pictures and the same machine."""
    return all(run.get(key) == other.get(key) for key in ("manifest_sha256", "machine"))


def macro_f1_difference(
    actual: np.ndarray,
    predicted: np.ndarray,
    other: np.ndarray,
    num_characters: int,
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare two networks on the same pictures.

    Both are scored on the same thousand resamples (see `bootstrap_intervals`): a hard picture is hard for
    both, so this interval is narrower than the two single ones suggest. One that holds 0 does not tell them
    apart.

    Args:
        actual: Labels, int `(num_pictures,)`.
        predicted: Answers of the one network, int `(num_pictures,)`.
        other: Answers of the other network to the same pictures in the same order, int `(num_pictures,)`.
        num_characters: How many characters there are.
        groups: Near-duplicate group of each picture, `(num_pictures,)`; None: each picture for itself.
        seed: The same seed, the same interval.

    Returns:
        `difference` (macro F1 of `predicted` minus that of `other`) and `difference_interval` (95 %).

    Raises:
        ValueError: No pictures, shapes that do not match, or labels out of range.
    """
    # The same seed draws the same groups, so that subtracting element by element pairs the resamples.
    _, first = intervals.resampled_scores(actual, predicted, num_characters, groups, seed)
    _, second = intervals.resampled_scores(actual, other, num_characters, groups, seed)
    difference = metrics.macro_f1(actual, predicted, num_characters) - metrics.macro_f1(actual, other, num_characters)
    return {"difference": difference, "difference_interval": intervals.percentile_interval(first - second)}


def differences(predictions: dict[str, metrics.Predictions], best: str, seed: int = 0) -> pd.DataFrame:
    """Say for each run how far it is below the best one, on the same pictures.

    Args:
        predictions: What each run answered, by the run's name.
        best: The run to compare the others with.
        seed: The same seed, the same intervals.

    Returns:
        One row a run: `run, below_best, low, high`, macro F1 of the best minus that of the run with its 95 %
        interval; missing values where a run was asked about other pictures.
    """
    reference = predictions[best]
    rows = []
    for run, other in predictions.items():
        row = {"run": run, "below_best": None, "low": None, "high": None}
        if other.paths == reference.paths and other.characters == reference.characters:
            answers = (p.probabilities.argmax(axis=1) for p in (reference, other))
            found = macro_f1_difference(reference.actual, *answers, len(reference.characters), reference.groups, seed)
            row |= dict(
                zip(("below_best", "low", "high"), (found["difference"], *found["difference_interval"]), strict=True)
            )
        rows.append(row)
    return pd.DataFrame(rows).sort_values("below_best", ignore_index=True)
