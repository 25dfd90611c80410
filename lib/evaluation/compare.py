"""Tables over finished runs: scores, parameters, seeds, ablation, robustness, time to a target score.

Everywhere `run_folders` are folders of runs that are trained and evaluated, unless it says otherwise.
"""

import collections
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student_t

from lib import paths, records
from lib.data.preparation import CORRECTED
from lib.evaluation import intervals, labels, metrics
from lib.training.recipe import Recipe

LEAKING_SPLITS = ("random", "resampled")
BASE, ROBUSTNESS_BASE = "base", "springfield-frames-only"  # the runs that those of a series are compared with
DEFAULTS = {name: field.default for name, field in Recipe.model_fields.items()}  # of parameters newer than a run
FROM_RECORDS = "Not trained here, so this is from the committed records in `outputs/published/`, of the real archive."


def evaluated(runs_folder: Path) -> list[Path]:
    """List the run folders below `runs_folder` that are trained and evaluated, sorted by name."""
    return sorted(
        record.parent
        for record in Path(runs_folder).glob(f"*/{records.METRICS_RECORD}")
        if (record.parent / records.RUN_RECORD).is_file()
    )


def here_or_published(runs_folder: Path, question: Callable[[Path], Any]) -> tuple[Any, str]:
    """Answer a question from a folder of runs, or else from the committed records.

    Args:
        runs_folder: The folder.
        question: From such a folder to the answer, which is empty where the folder has none.

    Returns:
        The answer, and a sentence that says where it is from, or that there is none; empty for `runs_folder` itself.
    """
    for folder, note in ((runs_folder, ""), (paths.PUBLISHED, FROM_RECORDS)):
        if len(answer := question(folder)):
            return answer, note
    return answer, "Nothing to show: neither the runs here nor the committed records answer this."


def named(runs_folder: Path, *names: str) -> list[Path]:
    """List the evaluated runs of these names; none where one of them is missing."""
    runs = [run for run in evaluated(runs_folder) if run.name in names]
    return runs if len(runs) == len(names) else []


def table_beside(runs_folder: Path, name: str) -> pd.DataFrame:
    """Read a table that lies beside the run folders; empty where there is none."""
    path = runs_folder / name
    return pd.read_csv(records.verified(path)) if path.is_file() else pd.DataFrame()


def results(run_folders: list[Path]) -> pd.DataFrame:
    """Collect the size, cost and scores of runs.

    Returns:
        One row per run, in the order given, with the columns below. `near_duplicates_in_train` counts test pictures,
        `kaggle_macro_f1` is the score on the archive's own test set; None where the record has none.
    """
    columns = "run conv_layers num_parameters epochs seconds seconds_per_epoch accuracy macro_f1 macro_f1_low"
    columns += " macro_f1_high lowest_character lowest_f1 log_loss test_pictures near_duplicates_in_train"
    columns += " kaggle_macro_f1 num_characters manifest_sha256"
    rows = []
    for run_folder in run_folders:
        for name in (records.RUN_RECORD, records.METRICS_RECORD):
            records.verified(run_folder / name)  # a record of another run is whole too
        run, scores = records.read_run(run_folder), records.read_metrics(run_folder)
        low, high = scores.get("macro_f1_interval") or (None, None)
        official = scores.get("kaggle_test", {}).get("macro_f1")
        values = {"run": run_folder.name, "macro_f1_low": low, "macro_f1_high": high, "kaggle_macro_f1": official}
        values["num_characters"] = len(run.get("characters") or [])
        rows.append(run | scores | values)
    return pd.DataFrame(rows, columns=columns.split())


def ranked(results: pd.DataFrame) -> pd.DataFrame:
    """Sort runs, as from `results`, by macro F1, best first, and number them from 0.

    First those on the pictures and labels that most runs have. Scores of the others do not compare with theirs: runs
    that know other characters or have reviewed labels, and, last, runs whose test pictures have near-duplicates in
    train.
    """
    # None, where a record counted no near-duplicates, is no greater than 0 either.
    leaky = results.near_duplicates_in_train.astype(float) > 0
    comparable = results[~leaky].sort_values("macro_f1", ascending=False)
    most = comparable.manifest_sha256[comparable.manifest_sha256.isin(comparable.manifest_sha256.mode())]
    order = results.assign(leaky=leaky, other=~results.manifest_sha256.isin(most[:1]))
    order = order.sort_values(["leaky", "other", "macro_f1"], ascending=[True, True, False], ignore_index=True)
    return order.drop(columns=["leaky", "other"])


def _parameters(run_folder: Path) -> dict[str, Any]:
    """Collect what decided a training; `manifest` stands for the prepared pictures and their splits."""
    run = records.read_run(run_folder)
    data = {key: run[key] for key in ("picture_size", "resize_mode")} | {"manifest": run["manifest_sha256"][:8]}
    return DEFAULTS | run["recipe"] | data


def _changed(parameters: dict[str, Any], reference: dict[str, Any]) -> list[str]:
    return [name for name in parameters if parameters[name] != reference.get(name)]


def differing_parameters(run_folders: list[Path]) -> pd.DataFrame:
    """Say of each trained run in which parameters it differs from the most similar one before it.

    As a table of all parameters by all runs, eleven runs would not fit on a page.

    Returns:
        Columns `run`, `differs from` and `in`, a row for each run but the first.
    """
    before, rows = {}, []
    for run_folder in run_folders:
        own = _parameters(run_folder) | {"arithmetic": records.read_run(run_folder).get("dtype")}
        if before:
            nearest = min(before, key=lambda run: len(_changed(own, before[run])))
            changed = ", ".join(f"{name} {own[name]}" for name in _changed(own, before[nearest]))
            rows.append((run_folder.name, nearest, changed))
        before[run_folder.name] = own
    return pd.DataFrame(rows, columns=["run", "differs from", "in"])


def reviewed(run_folders: list[Path], verdicts: pd.DataFrame) -> pd.DataFrame:
    """Score runs on the labels of the source and on the reviewed ones, as from `corrections.read`.

    Returns:
        One row per run with a corrected test picture: `run`, `test_pictures`, `corrected` (how many of them were
        relabelled or excluded), `accuracy` and `macro_f1`, and the same on the reviewed labels. Where the same recipe
        was also trained on the reviewed labels, as the run `<run>-corrected`: its score, `trained_on_reviewed`, what it
        gains on these labels by that, `gain`, and the 95 % interval `low` and `high`; else NaN.
    """
    rows = []
    for folder in run_folders:
        answers = metrics.read_predictions(folder / records.PREDICTIONS)
        corrected, number = labels.relabelled(answers, verdicts)
        if not number:
            continue
        found = {"run": folder.name, "test_pictures": len(answers.paths), "corrected": number}
        for before, each in (("", answers), ("reviewed_", corrected)):
            found[f"{before}accuracy"] = (each.predicted == each.actual).mean()
            found[f"{before}macro_f1"] = metrics.macro_f1(each.actual, each.predicted)
        trained = folder.with_name(f"{folder.name}-{CORRECTED}") / records.PREDICTIONS
        if trained.exists():
            again = metrics.read_predictions(trained)
            found["trained_on_reviewed"] = metrics.macro_f1(again.actual, again.predicted)
            gain = differences({"": corrected, CORRECTED: again}, best=CORRECTED).set_index("run").loc[""]
            found |= {"gain": gain.below_best, "low": gain.low, "high": gain.high}
        rows.append(found)
    names = "run test_pictures corrected accuracy macro_f1 reviewed_accuracy reviewed_macro_f1 trained_on_reviewed"
    return pd.DataFrame(rows, columns=[*names.split(), "gain", "low", "high"])


def seeds(run_folders: list[Path]) -> pd.DataFrame:
    """Compare the runs of one recipe on one set of pictures that differ in their seed alone.

    Returns:
        One row per run whose recipe was trained more than once: `recipe, run, seed, val_macro_f1, macro_f1, lowest_f1,
        kaggle_macro_f1`. `recipe` is the name of the first of its runs.
    """
    runs = [records.read_run(run_folder) for run_folder in run_folders]
    same = [
        [run["data_name"], _parameters(folder) | {"seed": None}] for run, folder in zip(runs, run_folders, strict=True)
    ]
    table = results(run_folders).assign(
        recipe=list(map(records.digest, same)),
        seed=[run["recipe"]["seed"] for run in runs],
        val_macro_f1=[run["best_val_macro_f1"] for run in runs],
    )
    table = table.drop_duplicates(["recipe", "seed"])  # a run by hand may repeat one
    table = table[table.duplicated("recipe", keep=False)].sort_values(["recipe", "seed"], ignore_index=True)
    table["recipe"] = table.groupby("recipe").run.transform("first")
    return table[["recipe", "run", "seed", "val_macro_f1", "macro_f1", "lowest_f1", "kaggle_macro_f1"]]


def ablation(runs_folder: Path) -> pd.DataFrame:
    """Measure the effect of each change of the recipe `BASE` on the validation score of the runs that were trained.

    Returns:
        One row per run, best first: `run, changed, seed, epochs, train_pictures, val_macro_f1, minutes,
        corruption_loss`. `changed` lists the parameters that differ from the base's, as in `differing_parameters`.
        `corruption_loss` is the `loss` of `robustness` (NaN without `robustness.csv`). Empty where the base is not
        trained.
    """
    folders = {record.parent.name: record.parent for record in Path(runs_folder).glob(f"*/{records.RUN_RECORD}")}
    rows = []
    for name, folder in folders.items() if BASE in folders else ():
        run, own = records.read_run(folder), _parameters(folder)
        changed = ", ".join(f"{key}={own[key]}" for key in _changed(own, _parameters(folders[BASE])))
        scores = map(run.get, ("epochs", "train_pictures", "best_val_macro_f1"))
        rows.append((name, changed, own["seed"], *scores, run["seconds"] / 60))
    columns = ["run", "changed", "seed", "epochs", "train_pictures", "val_macro_f1", "minutes"]
    table = pd.DataFrame(rows, columns=columns)
    table["corruption_loss"] = table.run.map(robustness([*folders.values()]).set_index("run").loss)
    return table.sort_values("val_macro_f1", ascending=False, ignore_index=True)


def seed_noise(runs_folder: Path) -> tuple[float | None, int]:
    """Estimate how far apart two trainings of one recipe are by chance, by their macro F1 on validation.

    All trainings in the folder and those below it count that differ from a `BASE` in nothing but the seed. Their
    variances are pooled (Student's t).

    Returns:
        The difference that 95 % of such pairs stay below, and how many trainings say so; None and 0 without two.
    """
    groups = collections.defaultdict(list)
    for record in sorted(Path(runs_folder).rglob(records.RUN_RECORD)):
        score = records.read_run(record.parent)["best_val_macro_f1"]
        groups[records.digest(_parameters(record.parent) | {"seed": None})].append((record.parent.name, score))
    of_bases = [[score for _, score in runs] for runs in groups.values() if BASE in dict(runs) and len(runs) > 1]
    if not of_bases:
        return None, 0
    freedom = sum(len(scores) - 1 for scores in of_bases)
    variance = sum(np.var(scores) * len(scores) for scores in of_bases) / freedom
    return float(student_t.ppf(0.975, freedom) * np.sqrt(2 * variance)), sum(map(len, of_bases))


def by_frames(runs_folder: Path) -> pd.DataFrame:
    """Measure how the validation score grows with the number of training frames, of the runs of an `ablation`.

    Returns:
        One row for the base and for each run that differs from it by training on a fraction of the frames, in other
        epochs, if it makes mistakes, the smallest first: `run, train_pictures, mistakes`, the last being 1 minus macro
        F1 on validation. Empty where only the base was trained.
    """
    table = ablation(runs_folder)
    on_fewer = table.changed.str.fullmatch(r"(epochs=\d+, )?train_fraction=[\d.]+")
    chosen = table[on_fewer | (table.run == BASE)]
    chosen = chosen.assign(mistakes=1 - chosen.val_macro_f1)[["run", "train_pictures", "mistakes"]]
    chosen = chosen[chosen.mistakes > 0]  # zero has no logarithm
    return chosen.sort_values("train_pictures", ignore_index=True) if len(chosen) > 1 else chosen[:0]


def power_law(table: pd.DataFrame) -> tuple[float, float]:
    """Fit `mistakes = scale × train_pictures ** exponent`, a straight line on logarithmic axes, to `by_frames`.

    Learning curves follow such a law over a wide range (Hestness et al. 2017, arXiv:1712.00409).

    Returns:
        `scale` and `exponent`, which is negative where more frames help.
    """
    exponent, logarithm = np.polyfit(np.log(table.train_pictures), np.log(table.mistakes), 1)
    return float(np.exp(logarithm)), float(exponent)


def robustness(run_folders: list[Path]) -> pd.DataFrame:
    """Compare scores on corrupted pictures with those on the same pictures unchanged.

    Returns:
        One row per run with the `robustness.csv` that `05_robustness` writes, the smallest loss first: `run`; the macro
        F1 `unchanged` and, averaged over kinds and strengths, `corrupted`; `loss`; and `loss_recovered`, 1 minus its
        ratio to that of `ROBUSTNESS_BASE` (NaN without it).
    """
    rows = []
    for run_folder in run_folders:
        if (run_folder / records.ROBUSTNESS).exists():
            scores = metrics.read_robustness(run_folder / records.ROBUSTNESS)
            same = scores.kind == "unchanged"
            rows.append((run_folder.name, float(scores.macro_f1[same].iloc[0]), float(scores.macro_f1[~same].mean())))
    table = pd.DataFrame(rows, columns=["run", "unchanged", "corrupted"])
    table["loss"] = table.unchanged - table.corrupted
    table["loss_recovered"] = 1 - table.loss / table.set_index("run").loss.get(ROBUSTNESS_BASE, np.nan)
    return table.sort_values("loss", ignore_index=True)


def robustness_pair(run_folder: Path) -> tuple[dict[str, pd.DataFrame], str]:
    """Choose two runs with `robustness.csv` to compare on each kind of corruption.

    Returns:
        The scores of this run and of the first other one beside it, by name, or else of two committed runs; and a
        sentence that says where they are from, empty for the former.
    """
    others = sorted({*run_folder.parent.glob(f"*/{records.ROBUSTNESS}")} - {run_folder / records.ROBUSTNESS})
    published = [paths.PUBLISHED / run / records.ROBUSTNESS for run in ("springfield-18", ROBUSTNESS_BASE)]
    for files, note in (([run_folder / records.ROBUSTNESS, *others[:1]], ""), (published, FROM_RECORDS)):
        if len(files) == 2 and all(map(Path.is_file, files)):
            return {path.parent.name: metrics.read_robustness(path) for path in files}, note
    return {}, "It takes two runs that were scored on corrupted pictures."


def time_to_target(run_folders: list[Path], reference: str) -> pd.DataFrame:
    """Measure how long each trained run took to reach the validation macro F1 that the run `reference` ended with.

    Returns:
        One row per run that reached it, soonest first: `run`, `epoch`, `minutes`, and `relative_time`, divided by that
        of `reference`. Empty where `reference` is not among the runs. Runs on another split, whose validation pictures
        differ, and on another machine are left out.
    """
    curves = validation_curves(like(run_folders, reference, "manifest_sha256", "machine"))
    target = curves.val_macro_f1[curves.run == reference].tail(1)
    reached = curves[curves.val_macro_f1 >= target.max()].drop_duplicates("run")
    table = reached[["run", "epoch", "minutes"]].sort_values("minutes", ignore_index=True)
    return table.assign(relative_time=table.minutes / table.minutes[table.run == reference].max())


def like(run_folders: list[Path], reference: str, *keys: str) -> list[Path]:
    """Choose the trained runs whose records have the same values as that of the run `reference`; none without it."""
    values = {folder: [records.read_run(folder).get(key) for key in keys] for folder in run_folders}
    of_reference = [found for folder, found in values.items() if folder.name == reference]
    return [folder for folder, found in values.items() if found in of_reference]


def validation_curves(run_folders: list[Path]) -> pd.DataFrame:
    """Collect the validation score of every epoch of trained runs.

    Returns:
        One row per run and epoch: `run`, `epoch`, `minutes` (of training, to the end of the epoch), `val_macro_f1`.
    """
    columns = ["run", "epoch", "minutes", "val_macro_f1"]
    tables = [pd.DataFrame(columns=columns)]
    for run_folder in run_folders:
        run = records.read_run(run_folder)
        # Runs of an earlier version recorded the mean alone.
        seconds = run.get("epoch_seconds") or [run["seconds_per_epoch"]] * run["epochs"]
        history = metrics.read_history(run_folder / records.HISTORY)
        minutes = np.cumsum(seconds)[: len(history)] / 60
        tables.append(history.assign(run=run_folder.name, minutes=minutes)[columns])
    return pd.concat(tables[1:] or tables, ignore_index=True)


def leakage(run_folders: list[Path]) -> pd.DataFrame:
    """Measure what near-duplicates and copies in train add to the score.

    The two splits have different test pictures, so the scores are resampled independently and their differences give
    the interval. It covers the choice of the test pictures; `leakage_over_seeds` covers that of the training too.

    Args:
        run_folders: Runs, to which those in a folder `leakage` beside them are added; those of a leaking split are
            named `<run>-random` or `<run>-resampled`.

    Returns:
        One row for each run and leaking split: `run`, `split`, `grouped` and `macro_f1` (the scores on the grouped
        split and on this one), `gain` with its 95 % interval `low` and `high`, `near_duplicates` (fraction of the test
        pictures that have one in train), `accuracy_of_near_duplicates`, `accuracy_of_others`, both of the grouped split
        too (`grouped_...`; there none has one in train, so it is of those with one in test), and `gain_on_kaggle`, on
        the archive's own test set, which neither run can have memorised (NaN without one).
    """
    columns = "run split grouped macro_f1 gain low high near_duplicates accuracy_of_near_duplicates accuracy_of_others"
    columns += " grouped_accuracy_of_near_duplicates grouped_accuracy_of_others gain_on_kaggle"
    rows = []
    for name, split, *pair in _leaking_pairs(run_folders):
        clean, leaky = map(records.read_metrics, pair)
        low, high = intervals.percentile_interval(_resampled_gains(*pair))
        official = [scores.get("kaggle_test", {}).get("macro_f1", np.nan) for scores in (clean, leaky)]
        found = {"run": name, "split": split, "grouped": clean["macro_f1"], "low": low, "high": high}
        found |= {"gain": leaky["macro_f1"] - clean["macro_f1"], "gain_on_kaggle": official[1] - official[0]}
        found["near_duplicates"] = leaky["near_duplicates_in_train"] / leaky["test_pictures"]
        answers = metrics.read_predictions(pair[0] / records.PREDICTIONS)
        right, alone = answers.predicted == answers.actual, ~pd.Series(answers.groups).duplicated(keep=False)
        for name, of in (("near_duplicates", ~alone), ("others", alone)):
            found[f"grouped_accuracy_of_{name}"] = right[of].mean() if of.any() else np.nan
        rows.append(leaky | found)
    return pd.DataFrame(rows, columns=columns.split())


def leakage_over_seeds(run_folders: list[Path]) -> pd.DataFrame:
    """Average the gains of `leakage` over the seeds of a recipe, named `<run>`, `<run>-seed-1` and so on.

    Returns:
        One row for each recipe and leaking split with several seeds: `recipe`, `split`, `seeds` (their number), the
        mean `gain` with its 95 % interval `low` and `high` over test pictures and seeds, and the `smallest_gain` and
        `largest_gain` of a seed.
    """
    columns = "recipe split seeds gain low high smallest_gain largest_gain"
    by_recipe, rows = collections.defaultdict(list), []
    for name, split, *pair in _leaking_pairs(run_folders):
        by_recipe[re.sub(r"-seed-\d+$", "", name), split].append(pair)
    for (recipe, split), pairs in by_recipe.items():
        if len(pairs) > 1:
            gains = np.diff([[records.read_metrics(run)["macro_f1"] for run in pair] for pair in pairs])
            of_seeds = np.array([_resampled_gains(*pair) for pair in pairs])
            drawn = np.random.default_rng(0).integers(len(pairs), size=of_seeds.shape)
            interval = intervals.percentile_interval(np.take_along_axis(of_seeds, drawn, axis=0).mean(axis=0))
            rows.append((recipe, split, len(pairs), gains.mean(), *interval, gains.min(), gains.max()))
    return pd.DataFrame(rows, columns=columns.split())


def _leaking_pairs(run_folders: list[Path]) -> list[tuple[str, str, Path, Path]]:
    """Pair each run of the grouped split with those of the leaking ones: its name, the split, and both folders."""
    more = [run for parent in sorted({run.parent for run in run_folders}) for run in evaluated(parent / "leakage")]
    by_name = {run.name: run for run in run_folders} | {f"leakage/{run.name}": run for run in more}
    pairs = itertools.product(by_name, LEAKING_SPLITS)
    return [(run, at, by_name[run], by_name[f"{run}-{at}"]) for run, at in pairs if f"{run}-{at}" in by_name]


def _resampled_gains(clean: Path, leaky: Path) -> np.ndarray:
    """Resample what the second run scores above the first, float `(intervals.RESAMPLES,)`."""
    before, after = (metrics.read_predictions(folder / records.PREDICTIONS) for folder in (clean, leaky))
    return intervals.resampled_scores(after, seed=1)[1] - intervals.resampled_scores(before, seed=0)[1]


def differences(predictions: dict[str, metrics.Predictions], best: str) -> pd.DataFrame:
    """Measure how far each run is below the best one, on the same pictures.

    Both are scored on the same resamples. A picture that is hard for one network is often hard for the other, so this
    interval is narrower than the two single ones suggest. One that contains 0 does not distinguish the networks.

    Args:
        predictions: Answers of each run, by the run's name.
        best: Name of the run to compare the others with.

    Returns:
        One row per run: `run, below_best, low, high`, macro F1 of the best minus that of the run with its 95 %
        interval; NaN for a run with predictions of other pictures or with other labels.
    """
    reference, rows = predictions[best], []

    def scores(answers: metrics.Predictions) -> np.ndarray:  # the first on the pictures, the others on resamples
        # The same seed draws the same groups.
        _, resampled = intervals.resampled_scores(answers._replace(groups=reference.groups), seed=0)
        return np.array([metrics.macro_f1(answers.actual, answers.predicted), *resampled])

    best_scores = scores(reference)
    for run, answers in predictions.items():
        rows.append([run, np.nan, np.nan, np.nan])
        same_question = (answers.paths, answers.characters) == (reference.paths, reference.characters)
        if same_question and np.array_equal(answers.actual, reference.actual):
            below, *resampled = best_scores - scores(answers)
            rows[-1][1:] = below, *intervals.percentile_interval(resampled)
    table = pd.DataFrame(rows, columns=["run", "below_best", "low", "high"])
    return table.sort_values("below_best", ignore_index=True)
