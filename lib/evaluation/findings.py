"""What each notebook found, in one or two sentences of Markdown that are computed from its results."""

import math
from typing import Any

import numpy as np
import pandas as pd

from lib.characters import display_name
from lib.evaluation import tables
from lib.training.calibration import KEPT

# Nats that the loss of an untrained network may be off: random weights prefer some characters, those of a residual
# network by half a nat. Pictures in the wrong range cost more.
FIRST_LOSS_TOLERANCE = 1.0
LOSS_NOISE = 0.02  # fraction by which the validation loss of an epoch may be above the lowest by chance


def preparation(table: pd.DataFrame, leaks: dict[str, np.ndarray]) -> str:
    """Conclude a preparation, by its manifest.

    `leaks` says for each split which of its pictures have a near-duplicate in train, bool `(num_pictures,)`.
    """
    used = table[table.split != ""]
    counts = used.character.value_counts()
    grouped = used.duplicated("group", keep=False)
    leaking = [f"{100 * found.mean():.1f} % of {split}" for split, found in leaks.items() if found.any()]
    verdict = "but none of those that select and test a network has one in train"
    if leaking:
        verdict = f"and {' and '.join(leaking)} have one in train: scores on them are too high"
    each = f"{counts.min():,}" + (f" to {counts.max():,}" if counts.max() > counts.min() else "")
    return (
        f"**Found:** {_count(len(counts), 'character')} with {each} pictures each; "
        f"{_count(len(table) - len(used), 'picture')} cannot be used. {100 * grouped.mean():.1f} % of the pictures "
        f"have a near-duplicate, {verdict}."
    )


def training(run: str, history: pd.DataFrame, best_epoch: int, seconds: float) -> str:
    """Conclude a training by its history: a row per epoch with `val_macro_f1` and `val_loss`; `best_epoch` was kept."""
    best = history[history.epoch == best_epoch].iloc[0]
    lowest = history.loc[history.val_loss.idxmin()]
    rise = history.val_loss.iloc[-1] / lowest.val_loss - 1
    fit = "The validation loss does not rise again, so nothing says that it overfits"
    if rise > LOSS_NOISE:
        since = f"lowest in epoch {lowest.epoch:.0f} and {100 * rise:.0f} % higher at the end"
        fit = f"The validation loss is {since}: from there on it overfits"
    return (
        f"**Found:** `{run}` reaches macro F1 {best.val_macro_f1:.3f} on validation, in epoch {best_epoch} of "
        f"{len(history)}; the training took {tables.duration(seconds)}. {fit}."
    )


def first_loss(loss: float, num_characters: int) -> str:
    """Compare the loss of the untrained network, nats, with that of a uniform guess among so many answers."""
    uniform = math.log(num_characters)
    is_close = abs(loss - uniform) < FIRST_LOSS_TOLERANCE
    verdict = "close to it, as it should be" if is_close else f"off by more than {FIRST_LOSS_TOLERANCE:g}"
    return f"first loss {loss:.3f}, uniform guess ln {num_characters} = {uniform:.3f}: {verdict}"


def confidence(threshold: float, known: np.ndarray, right: np.ndarray) -> str:
    """Say what a threshold does to the answers.

    Args:
        threshold: A probability.
        known: Whether each picture is answered, bool `(num_pictures,)`, as from `Recogniser.decisions`.
        right: Whether its most probable character is the right one, bool `(num_pictures,)`.
    """
    kept = f"{100 * right[known].mean():.1f} % of these answers are right" if known.any() else "so no answer is given"
    return f"At the threshold {threshold:.2f}, {100 * known.mean():.1f} % of the pictures are answered, and {kept}."


def evaluation(run: str, scores: dict[str, Any], mistakes: pd.DataFrame, sentence: str) -> str:
    """Conclude an evaluation by `metrics.summary`, `metrics.most_confused` and the sentence of `confidence`."""
    low, high = scores["macro_f1_interval"]
    most = "It makes no mistake." if mistakes.empty else "No two of its mistakes are alike."
    for row in mistakes.head(1).itertuples():
        if row.pictures > 1 or len(mistakes) == 1:
            most = f"Its most frequent mistake is {display_name(row.actual)} as {display_name(row.predicted)} "
            most += f"({_count(row.pictures, 'picture')})."
    return (
        f"**Found:** `{run}` is right on {100 * scores['accuracy']:.1f} % of {scores['test_pictures']:,} unseen "
        f"pictures; its macro F1 is {scores['macro_f1']:.3f} (95 % interval {low:.3f} to {high:.3f}). {most} {sentence}"
    )


def depth(one_recipe: pd.DataFrame, original: pd.DataFrame, preferred: pd.DataFrame, results: pd.DataFrame) -> str:
    """Answer the question of the study: is the deeper network better, and at what cost?

    Args:
        one_recipe: `compare.differences` of cnn4-matched below cnn6-matched.
        original: The same of cnn4 below cnn6, which differ in more than depth.
        preferred: The same of those of either depth that validation prefers; NaN where their test pictures differ.
        results: `compare.results` of these runs.
    """
    gains, verdicts = [], []
    for by, table, run in (("one recipe", one_recipe, "cnn4-matched"), ("the original recipes", original, "cnn4")):
        row = table.set_index("run").loc[run]
        if np.isnan(row.below_best):
            deeper = run.replace("4", "6")
            return (
                f"**Nothing to show:** `{run}` and `{deeper}` were tested on different pictures. `make train evaluate "
                f'RUNS="{run} {deeper}"` tests both on the same.'
            )
        gains.append(_change(row.below_best, row.low, row.high))
        better = "the deeper network is better" if row.low > 0 else "these pictures do not settle it"
        verdicts.append(f"With {by} {'the deeper network is worse' if row.high < 0 else better}.")
    best = preferred[preferred.run.str.startswith("cnn4")].iloc[0]
    by_best = "" if np.isnan(best.below_best) else _change(best.below_best, best.low, best.high)
    by_best = by_best and f"Each by the recipe that is better on validation, they {by_best}. "
    six, four = (results.set_index("run").loc[run] for run in ("cnn6-matched", "cnn4-matched"))
    return (
        f"**Six layers {gains[0]} by one recipe for both, and {gains[1]} by the original two.** {' '.join(verdicts)} "
        f"{by_best}By one recipe six layers take {six.seconds / 60:.1f} minutes of training instead of "
        f"{four.seconds / 60:.1f}, and have {six.num_parameters / 1e6:.1f} million parameters instead of "
        f"{four.num_parameters / 1e6:.1f}. The intervals are about the choice of test pictures; each network was "
        "trained once, so none says what another seed would give."
    )


def differences(table: pd.DataFrame, best: str) -> str:
    """Conclude a comparison of runs with the best one: a table of `compare.differences`."""
    others = table.dropna().query("run != @best")
    close = others.run[others.low <= 0]
    if others.empty:
        return f"**Found:** `{best}` is the only run on these pictures."
    if close.empty:
        return f"**Found:** `{best}` scores higher than every other run, by more than the choice of pictures explains."
    listed = ", ".join(f"`{run}`" for run in close)
    return f"**Found:** `{best}` scores highest, but these pictures do not distinguish it from {listed}."


def baselines(table: pd.DataFrame) -> str:
    """Say how far one comes without training: a table of `baselines.baselines`."""
    best = table.loc[table.macro_f1.idxmax()]
    return f"**Found:** Without training, macro F1 is {best.macro_f1:.3f} at best ({best.baseline})."


def seeds(table: pd.DataFrame) -> str:
    """Say how far apart the seeds of a recipe are: a table of `compare.seeds`."""
    text = "**Found:**"
    for recipe, scores in table.groupby("recipe").macro_f1:
        text += f" {len(scores)} seeds of `{recipe}` have macro F1 {scores.min():.3f} to {scores.max():.3f}."
    return text


def reviewed(table: pd.DataFrame) -> str:
    """Say what wrong labels of test pictures change: a table of `compare.reviewed`."""
    change = table.reviewed_macro_f1 - table.macro_f1
    same = [*table.macro_f1.rank()] == [*table.reviewed_macro_f1.rank()]
    return (
        f"**Found:** On reviewed labels of the test pictures macro F1 changes by {change.min():+.3f} to "
        f"{change.max():+.3f}; the order of the runs {'stays' if same else 'changes'}."
    )


def ablation(table: pd.DataFrame, series: str, noise: float | None, trainings: int) -> str:
    """Say which change of a series pays most and which costs most.

    `table` is from `compare.ablation` and has its base, the others are from `compare.seed_noise`.
    """
    scores = table.set_index("run").val_macro_f1
    effect = scores[~scores.index.str.fullmatch(r"base(-seed-\d+)?")] - scores["base"]
    if effect.empty:
        return ""
    best, worst = (f"`{run}` ({effect[run]:+.3f})" for run in (effect.idxmax(), effect.idxmin()))
    text = f"**Found:** Of the changes of `{series}/base`, {best} scores best and {worst} worst on validation"
    if noise is None:
        return f"{text}; one seed each."
    within = f"{(effect.abs() <= noise).sum()} of {len(effect)} change no more than another seed may"
    return f"{text}; {within}: by {trainings} trainings, 95 % of two seeds of a base differ by less than {noise:.3f}."


def leakage(table: pd.DataFrame, over_seeds: pd.DataFrame) -> str:
    """Say what near-duplicates and copies in train add to the score: `compare.leakage` and `leakage_over_seeds`."""
    single, found = table[~table.run.str.contains("-seed-")], []
    for row in single.itertuples():
        found.append(f"On a {row.split} split `{row.run}` {_gain(row)}.")
        if np.isfinite(row.accuracy_of_near_duplicates):
            found[-1] += (
                f" It is right on {100 * row.accuracy_of_near_duplicates:.1f} % of the pictures with a near-duplicate "
                f"in train, and on {100 * row.accuracy_of_others:.1f} % of the others."
            )
    for row in single.dropna(subset="grouped_accuracy_of_near_duplicates").drop_duplicates("run").itertuples():
        found.append(
            f"On the grouped split, where it can remember none, `{row.run}` is right on "
            f"{100 * row.grouped_accuracy_of_near_duplicates:.1f} % of the pictures with a near-duplicate in test, and "
            f"on {100 * row.grouped_accuracy_of_others:.1f} % of the others."
        )
    for row in over_seeds.itertuples():
        found.append(f"Over {row.seeds} seeds on a {row.split} split `{row.recipe}` {_gain(row)}.")
    return "**Found:**\n\n" + "\n".join(f"- {sentence}" for sentence in found)


def _gain(row: Any) -> str:
    more = "more than" if row.low > 0 or row.high < 0 else "no more than"
    return (
        f"seems to {_change(row.gain, row.low, row.high, ' macro F1')}, {more} the choice of test pictures could give"
    )


def _change(change: float, low: float, high: float, unit: str = "") -> str:
    return f"{'gain' if change >= 0 else 'lose'} {abs(change):.3f}{unit} ({low:.3f} to {high:.3f})"


def more_frames(table: pd.DataFrame, laws: dict[str, tuple[float, float]], more: int) -> str:
    """Say what `more` training frames, a larger number, should bring.

    `table` is from `compare.by_frames`; `laws` has what `compare.power_law` gave, by the name of what it was fitted to.
    """
    last = table.iloc[-1]
    expected = ", ".join(
        f"{scale * more**exponent:.3f} by a line through {name} (twice as many frames leave {100 * 2**exponent:.0f} %)"
        for name, (scale, exponent) in laws.items()
    )
    return (
        f"**Found:** 1 - macro F1 is {last.mistakes:.3f} with {last.train_pictures:,} frames. With all {more:,} it "
        f"should be {expected}. Each training has one seed, so this is a rough guess."
    )


def robustness(run: str, scores: pd.DataFrame) -> str:
    """Conclude a test on corrupted pictures: the table of `robustness.csv`."""
    kinds = scores.groupby("kind").macro_f1.mean().sort_values()
    unchanged = kinds.pop("unchanged")
    hardest, easiest = (name.replace("_", " ") for name in (kinds.index[0], kinds.index[-1]))
    return (
        f"**Found:** The macro F1 of `{run}` {'falls' if kinds.mean() < unchanged else 'does not fall'} from "
        f"{unchanged:.3f} on unchanged pictures to {kinds.mean():.3f} on average over the corruptions. The hardest is "
        f"{hardest} ({kinds.iloc[0]:.3f}), the easiest {easiest} ({kinds.iloc[-1]:.3f})."
    )


def unknown(table: pd.DataFrame) -> str:
    """Say how well the best score tells unknown characters from known ones: a table of `unknown.table`."""
    best = table.iloc[0]
    return (
        f"**Found:** The best score on validation is the {best.score}. On test it ranks a known character above one "
        f"that was left out in {100 * best.auroc:.0f} of 100 pairs; where 95 % of the known are named, so are "
        f"{100 * best.fpr_at_95_tpr:.0f} % of the left out. At a threshold that keeps {100 * KEPT:.0f} % of "
        f"validation, it names {100 * best.strangers_named:.1f} % of the pictures that show no character."
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
