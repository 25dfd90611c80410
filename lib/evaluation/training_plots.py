"""Figures that explain a training: the network and its learning rates. They take data and return a figure."""

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter, MaxNLocator

from lib.evaluation import plots


@plots.styled
def network(table: pd.DataFrame) -> plots.Chart:
    """Draw a network from its first layer at the top to its answer at the bottom.

    Args:
        table: As from `anatomy.network_layers`: `layer`, `height`, `width`, `channels`, `parameters`, `compute`.

    Returns:
        A row for each layer: a box as wide as its output has pixels across and as strongly coloured as it has channels,
        its parameters, and its share of the multiplications.
    """
    rows = np.arange(len(table))
    figure = plots.blank(plots.WIDTH, 0.27 * len(table) + 1.0)
    shapes, parameters, compute = figure.subplots(1, 3, sharey=True, width_ratios=[3, 2, 2])
    depth = np.log2(table["channels"]) / np.log2(table["channels"]).max()
    shapes.barh(rows, table["width"], left=-table["width"] / 2, height=0.8, color=plots.BLUE)
    for bar, strength in zip(shapes.patches, depth, strict=True):
        bar.set_alpha(0.25 + 0.75 * float(strength))
    widest = table["width"].max()
    for row, of in enumerate(table.itertuples()):
        size = f"{of.height} × {of.width} × {of.channels}" if of.height > 1 else f"{of.channels}"
        shapes.text(1.25 * widest, row, size, ha="right", va="center", color=plots.FAINT)
    shapes.set_xlim(-0.55 * widest, 1.3 * widest)
    shapes.set_title("output: height × width × channels")
    total = table["parameters"].sum()
    for axes, values, colour in (
        (parameters, table["parameters"] / total, plots.SKY),
        (compute, table["compute"], plots.ORANGE),
    ):
        axes.barh(rows, values, height=0.7, color=colour)
        axes.set_xlim(0, 1.45 * max(values.max(), 0.01))
    for row, of in enumerate(table.itertuples()):
        if of.parameters:
            parameters.text(of.parameters / total, row, f" {of.parameters:,}", va="center", fontsize=8)
        if of.compute:
            compute.text(of.compute, row, f" {100 * of.compute:.0f}%", va="center", fontsize=8)
    parameters.set_title(f"parameters ({total:,})")
    compute.set_title("share of compute")
    shapes.set_yticks(rows, table["layer"])
    shapes.set_ylim(len(table) - 0.4, -0.6)
    for axes in (shapes, parameters, compute):
        axes.set_xticks([])
        axes.tick_params(axis="y", length=0)
        axes.spines[:].set_visible(False)
    return figure


@plots.styled
def learning_rates(table: pd.DataFrame) -> plots.Chart:
    """Draw the learning rate over the epochs.

    Args:
        table: Columns `epoch` and `learning_rate`, as from `anatomy.learning_rates`.

    Returns:
        One line; on a logarithmic axis where the rate falls in steps of ten.
    """
    figure = plots.blank(plots.WIDTH, 2.4)
    axes = figure.subplots()
    axes.plot(table["epoch"], table["learning_rate"], color=plots.BLUE, linewidth=2)
    axes.set(xlabel="epoch", title="Learning rate", xlim=(0, table["epoch"].iloc[-1]))
    steps = table["learning_rate"].nunique() < 10 and table["learning_rate"].nunique() > 1
    if steps:
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, 1.1 * table["learning_rate"].max())
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(axis="y")
    return figure
