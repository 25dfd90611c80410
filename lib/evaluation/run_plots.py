"""Figures that compare runs: paired differences, learning curves over each other, ablation, corruptions."""

import numpy as np
import pandas as pd
from matplotlib.ticker import NullFormatter

from lib.evaluation import plots


@plots.styled
def forest(table: pd.DataFrame, best: str) -> plots.Chart:
    """Draw paired differences from the run `best`, a table of `compare.differences`, as a forest plot.

    A point is hollow where the interval contains zero: these pictures do not distinguish the two runs. Rows with NaN
    are left out.
    """
    table = table.dropna().query("run != @best").reset_index(drop=True)
    figure, axes = plots.panels(0.36 * len(table) + 1.2, grid="x")
    axes.axvline(0, **plots.DASHED)
    for row in table.itertuples():
        axes.hlines(row.Index, row.low, row.high, color=plots.BLUE, linewidth=2)
        face = "white" if row.low <= 0 <= row.high else plots.BLUE
        axes.plot(row.below_best, row.Index, "o", color=plots.BLUE, markerfacecolor=face, markersize=7, zorder=3)
        plots.write_above(axes, row.below_best, row.Index, f"{row.below_best:.3f}")
    plots.name_rows(axes, table["run"], above=0.8)
    axes.margins(x=0.08)
    letters = int((plots.WIDTH - plots.text_width(table["run"])) / (1.1 * plots.LETTER))  # a title has larger ones
    axes.set_title(plots.fill(f"Macro F1 below {best}, with 95% intervals (hollow: contains zero)", letters))
    return figure


@plots.styled
def curves_over_each_other(table: pd.DataFrame, target: float, target_label: str) -> plots.Chart:
    """Draw validation scores, a table of `compare.validation_curves`, by epoch and by minutes, on logarithmic axes.

    A horizontal line is the score to reach, `target`. Runs beyond the eighth have the colours of the first, dashed.
    """
    figure, (by_epoch, by_time) = plots.panels(4.2, 2, grid="both", sharey=True)
    colours = len(plots.PALETTE)
    for number, run in enumerate(table["run"].unique()):
        rows = table[table["run"] == run]
        look = {"color": plots.PALETTE[number % colours], "linewidth": 1.5, "markersize": 5}
        look |= {"marker": plots.MARKERS[number % colours], "linestyle": "--" if number >= colours else "-"}
        look["markevery"] = max(1, len(rows) // 6)  # colours alone would not do for everybody
        by_epoch.plot(rows["epoch"], rows["val_macro_f1"], label=run, **look)
        by_time.plot(rows["minutes"], rows["val_macro_f1"], **look)
    by_epoch.set(xlabel="epoch", title="Macro F1 on validation, by epoch")
    by_time.set(xlabel="minutes of training", title="the same, by time")
    top = table["val_macro_f1"].max()
    low = max(table["val_macro_f1"].min(), top - 0.3)  # the first epochs would press the rest together
    by_epoch.set_ylim(low - 0.02, top + 0.02)
    for axes in (by_epoch, by_time):
        axes.set_xscale("log")  # four epochs and two hundred in one figure
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.axhline(target, **plots.DASHED, label=target_label)
    figure.legend(handles=by_epoch.get_legend_handles_labels()[0], loc="outside lower left", ncols=4)
    return figure


@plots.styled
def ablation(table: pd.DataFrame, series: str, noise: float | None = None) -> plots.Chart:
    """Draw what each change of a recipe does to the validation score, the best first.

    Args:
        table: Columns `run` and `val_macro_f1`, as from `compare.ablation`, with the run `base` that the others change.
        series: Name of the series of runs.
        noise: Difference between two seeds of one recipe; drawn as a band around zero.
    """
    scores = table.set_index("run")["val_macro_f1"].sort_values(ascending=False)
    effect = scores.drop("base") - scores["base"]
    figure, axes = plots.panels(0.34 * len(effect) + 1.3, grid="x")
    if noise is not None:
        axes.axvspan(-noise, noise, color=plots.PALE, label=f"as far apart as two seeds of one recipe: {noise:.3f}")
        figure.legend(loc="outside lower left")
    colours = np.where(effect < 0, plots.ORANGE, plots.BLUE)
    bars = axes.barh(range(len(effect)), effect, height=0.62, color=colours)
    axes.bar_label(bars, fmt="{:+.3f}", padding=5)
    axes.axvline(0, color=plots.INK, linewidth=1)
    plots.name_rows(axes, effect.index, above=0.8)
    axes.margins(x=0.15)
    axes.set_title(f"Change of macro F1 on validation against {series}/base ({scores['base']:.3f})")
    return figure


@plots.styled
def by_frames(table: pd.DataFrame, laws: dict[str, tuple[float, float]], more: int) -> plots.Chart:
    """Draw mistakes on validation by the number of training frames, a table of `compare.by_frames`.

    The lines are fits of `compare.power_law`, by the name of what they were fitted to, extended to `more` frames.
    """
    figure, axes = plots.panels(3.6, grid="x")
    reach = np.geomspace(table.train_pictures.min(), more)
    for (name, (scale, exponent)), line in zip(laws.items(), ("--", ":"), strict=False):
        axes.plot(reach, scale * reach**exponent, **plots.DASHED | {"linestyle": line}, label=f"line through {name}")
    expected = [scale * more**exponent for scale, exponent in laws.values()]
    look = {"color": plots.BLUE, "markerfacecolor": "white", "markersize": 7, "zorder": 3}
    axes.plot([more] * len(expected), expected, "o", **look, label="expected of all frames")
    axes.plot(table.train_pictures, table.mistakes, "o", color=plots.BLUE, markersize=7, label="trained")
    for pictures, mistakes in table[["train_pictures", "mistakes"]].itertuples(index=False):
        plots.write_above(axes, pictures, mistakes, f"{mistakes:.3f}")
    axes.set(xscale="log", yscale="log", xlabel="training frames", title="1 - macro F1 on validation, logarithmic")
    ticks = [*table.train_pictures, more]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.margins(x=0.06, y=0.2)
    axes.grid(axis="y", which="both")
    figure.legend(loc="outside lower left", ncols=4)
    return figure


@plots.styled
def robustness_of_two(pair: dict[str, pd.DataFrame]) -> plots.Chart:
    """Compare two runs, tables of `robustness.csv` by name, on each kind of corruption by the mean over its strengths.

    The unchanged pictures are at the top, then the kinds, those with the largest difference first.
    """
    means = pd.DataFrame({name: table.groupby("kind").macro_f1.mean() for name, table in pair.items()}).dropna()
    difference = means.diff(axis=1).iloc[:, -1].abs()
    difference[means.index == "unchanged"] = np.inf
    means = means.loc[difference.sort_values(ascending=False).index]
    rows = range(len(means))
    figure, axes = plots.panels(0.3 * len(means) + 1.3, grid="both")
    axes.hlines(rows, means.min(axis=1), means.max(axis=1), color=plots.GREY, linewidth=2)
    # In order of their names, so that both runs' reports have the same colours. A larger point shows behind another.
    for name, colour, marker, size in zip(sorted(pair), plots.PALETTE, plots.MARKERS, (10, 5.5), strict=False):
        axes.plot(means[name], rows, marker, color=colour, markersize=size, label=name)
    plots.name_rows(axes, means.index.str.replace("_", " "))
    axes.set_title("Macro F1 for each kind of corruption, averaged over its strengths")
    figure.legend(loc="outside lower left", ncols=4)
    return figure
