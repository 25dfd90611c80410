"""Figures that compare runs: paired differences, learning curves over each other, ablation, corruptions."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from lib.evaluation import plots

MOST_CURVES = len(plots.PALETTE)  # more lines than colours cannot be told from each other


@plots.styled
def forest(table: pd.DataFrame, best: str) -> plots.Chart:
    """Draw paired differences with their intervals (a forest plot).

    Args:
        table: Columns `run`, `below_best`, `low` and `high`, as from `compare.differences`; rows with NaN are left out.
        best: Name of the run that the others are compared with.

    Returns:
        A point with its 95 % interval for each run. Hollow where the interval contains zero: these pictures do not
        distinguish the two runs.
    """
    table = table.dropna().query("run != @best").reset_index(drop=True)
    figure = plots.blank(plots.WIDTH, 0.36 * len(table) + 1.2)
    axes = figure.subplots()
    axes.axvline(0, color=plots.INK, linestyle="--", linewidth=1)
    for row in table.itertuples():
        open_end = row.low <= 0 <= row.high
        axes.hlines(row.Index, row.low, row.high, color=plots.BLUE, linewidth=2)
        face = "white" if open_end else plots.BLUE
        axes.plot(row.below_best, row.Index, "o", color=plots.BLUE, markerfacecolor=face, markersize=7, zorder=3)
        plots.write_above(axes, row.below_best, row.Index, f"{row.below_best:.3f}")
    _name_rows(axes, table["run"])
    axes.margins(x=0.08)
    axes.set_title(f"Macro F1 below {best}, on the same pictures, with 95% intervals (hollow: may be none)")
    return figure


@plots.styled
def curves_over_each_other(table: pd.DataFrame, target: float | None = None) -> plots.Chart:
    """Draw the validation scores of several trainings in one figure.

    Args:
        table: One row per run and epoch: `run`, `epoch`, `minutes` and `val_macro_f1`, as from
            `compare.validation_curves`. Runs beyond the eighth are not drawn.
        target: A score to reach, as a horizontal line.

    Returns:
        Two panels with a common vertical axis and logarithmic horizontal ones: by epoch, and by minutes.
    """
    figure = plots.blank(plots.WIDTH, 4.2)
    by_epoch, by_time = figure.subplots(1, 2, sharey=True)
    runs = list(table["run"].unique())[:MOST_CURVES]
    for run, colour, marker in zip(runs, plots.PALETTE, plots.MARKERS, strict=False):
        rows = table[table["run"] == run]
        look = {"color": colour, "linewidth": 1.5, "marker": marker, "markersize": 5}
        look["markevery"] = max(1, len(rows) // 6)  # colours alone would not do for everybody
        by_epoch.plot(rows["epoch"], rows["val_macro_f1"], label=run, **look)
        by_time.plot(rows["minutes"], rows["val_macro_f1"], **look)
    for axes in (by_epoch, by_time):
        axes.set_xscale("log")  # four epochs and two hundred in one figure
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    by_epoch.set(xlabel="epoch", title="Macro F1 on validation, by epoch")
    by_time.set(xlabel="minutes of training", title="the same, by time")
    top = table["val_macro_f1"].max()
    low = max(table["val_macro_f1"].min(), top - 0.3)  # the first epochs would press the rest together
    by_epoch.set_ylim(low - 0.02, top + 0.02)
    for axes in (by_epoch, by_time):
        axes.grid(axis="both")
        if target is not None:
            axes.axhline(target, color=plots.INK, linestyle="--", linewidth=1, label="target")
    figure.legend(handles=by_epoch.get_legend_handles_labels()[0], loc="outside lower left", ncols=4)
    return figure


@plots.styled
def ablation(table: pd.DataFrame, base: str = "base", noise: float | None = None) -> plots.Chart:
    """Draw what each change of a recipe does to the validation score.

    Args:
        table: Columns `run` and `val_macro_f1`, as from `compare.ablation`.
        base: The run that the others change.
        noise: Difference between two seeds of the base; drawn as a band around zero.

    Returns:
        A bar for each change, the best first.
    """
    reference = table.loc[table["run"] == base, "val_macro_f1"].iloc[0]
    others = table[table["run"] != base].sort_values("val_macro_f1", ascending=False).reset_index(drop=True)
    effect = others["val_macro_f1"] - reference
    figure = plots.blank(plots.WIDTH, 0.34 * len(others) + 1.3)
    axes = figure.subplots()
    if noise is not None:
        axes.axvspan(-noise, noise, color="#e6e6e6", label=f"between two seeds of {base}: {noise:.3f}")
        figure.legend(loc="outside lower left")
    axes.barh(others.index, effect, height=0.62, color=np.where(effect < 0, plots.ORANGE, plots.BLUE))
    axes.axvline(0, color=plots.INK, linewidth=1)
    for row, value in effect.items():
        side = "left" if value >= 0 else "right"
        offset = (5 if value >= 0 else -5, 0)
        axes.annotate(f"{value:+.3f}", (value, row), offset, textcoords="offset points", va="center", ha=side)
    _name_rows(axes, others["run"])
    axes.margins(x=0.15)
    axes.set_title(f"Change of macro F1 on validation against {base} ({reference:.3f})")
    return figure


def _name_rows(axes: Axes, names: pd.Series) -> None:
    """Give each row of a horizontal chart its name, the first at the top."""
    axes.set_yticks(names.index, names)
    axes.set_ylim(len(names) - 0.5, -0.8)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")


@plots.styled
def robustness_of_two(one: pd.DataFrame, other: pd.DataFrame, names: tuple[str, str]) -> plots.Chart:
    """Compare two runs on each kind of corruption.

    Args:
        one: `robustness.csv` of a run: `kind`, `strength`, `macro_f1`.
        other: That of another run, of the same kinds.
        names: Names of both.

    Returns:
        A row for each kind, with the mean over its strengths for both runs, joined by a line; the kind with the largest
        difference first, the unchanged pictures above.
    """
    both = dict(zip(names, (one, other), strict=True))
    both = dict(zip(names, (one, other), strict=True))
    means = pd.DataFrame({name: table.groupby("kind").macro_f1.mean() for name, table in both.items()}).dropna()
    changed = means.drop("unchanged", errors="ignore")
    changed = changed.loc[(changed[names[0]] - changed[names[1]]).abs().sort_values(ascending=False).index]
    means = pd.concat([means.loc[means.index == "unchanged"], changed])
    rows = np.arange(len(means))
    figure = plots.blank(plots.WIDTH, 0.3 * len(means) + 1.3)
    axes = figure.subplots()
    axes.hlines(rows, means.min(axis=1), means.max(axis=1), color=plots.GREY, linewidth=2)
    for name, colour, marker in zip(names, (plots.BLUE, plots.ORANGE), plots.MARKERS, strict=False):
        axes.plot(means[name], rows, marker, color=colour, markersize=7, label=name)
    axes.set_yticks(rows, [kind.replace("_", " ") for kind in means.index])
    axes.set_ylim(len(means) - 0.5, -0.5)
    axes.set_title("Macro F1 for each kind of corruption, averaged over its strengths")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="both")
    figure.legend(loc="outside lower left", ncols=4)
    return figure
