"""Figures that explain a training: the network and its learning rates."""

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from lib.evaluation import plots


@plots.styled
def network(table: pd.DataFrame) -> plots.Chart:
    """Draw a network from its first layer at the top to its answer at the bottom.

    A row for each layer of `anatomy.network_layers`: a box as wide as its output has pixels across and as strongly
    coloured as it has channels, its parameters, and its share of the multiplications.
    """
    rows = np.arange(len(table))
    figure, (shapes, *shares) = plots.panels(0.27 * len(table) + 1.0, 3, sharey=True, width_ratios=[3, 2, 2])
    depth = np.log2(table["channels"]) / np.log2(table["channels"]).max()
    bars = shapes.barh(rows, table["width"], left=-table["width"] / 2, height=0.8, color=plots.BLUE)
    widest = table["width"].max()
    for of, bar, strength in zip(table.itertuples(), bars, depth, strict=True):
        bar.set_alpha(0.25 + 0.75 * float(strength))
        size = f"{of.height} × {of.width} × {of.channels}" if of.height > 1 else f"{of.channels}"
        shapes.text(1.25 * widest, of.Index, size, ha="right", va="center", color=plots.FAINT)
    shapes.set_xlim(-0.55 * widest, 1.3 * widest)
    shapes.set_title("output: height × width × channels")
    total = table["parameters"].sum()
    columns = (
        (f"parameters ({total:,})", table["parameters"] / total, table["parameters"].map(" {:,}".format), plots.SKY),
        ("share of compute", table["compute"], table["compute"].map(" {:.0%}".format), plots.ORANGE),
    )
    for axes, (title, values, labels, colour) in zip(shares, columns, strict=True):
        axes.bar_label(axes.barh(rows, values, height=0.7, color=colour), labels.where(values > 0, ""), fontsize=8)
        axes.set(xlim=(0, 1.45 * max(values.max(), 0.01)), title=title)
    plots.name_rows(shapes, table["layer"], above=0.6, below=0.6)
    for axes in (shapes, *shares):
        axes.set_xticks([])
        axes.tick_params(axis="y", length=0)
        axes.spines[:].set_visible(False)
    return figure


@plots.styled
def learning_rates(table: pd.DataFrame) -> plots.Chart:
    """Draw a table of `anatomy.learning_rates`, on a logarithmic axis where the rate falls in steps."""
    figure, axes = plots.panels(2.4, grid="y")
    axes.plot(table["epoch"], table["learning_rate"], color=plots.BLUE, linewidth=2)
    axes.set(xlabel="epoch", title="Learning rate", xlim=(0, table["epoch"].iloc[-1]))
    if 1 < table["learning_rate"].nunique() < 10:
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, 1.1 * table["learning_rate"].max())
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.yaxis.set_major_formatter("{x:g}")
    return figure
