"""Figures about the answers of one network: calibration, coverage, scores against data, what an answer depends on."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from lib.characters import display_name
from lib.evaluation import plots
from lib.evaluation.occlusion import Occlusion, darkened

NAMED = 6  # characters with the lowest scores have their names in the scatter plot


@plots.styled
def calibration(reliability: dict[str, pd.DataFrame], coverage: pd.DataFrame, threshold: float) -> plots.Chart:
    """Draw how far confidence can be trusted, and what declining the least confident answers gives.

    Args:
        reliability: Tables of `calibration.reliability` by the label of their line, at most four.
        coverage: A table of `calibration.coverage_curve`.
        threshold: Probability below which no answer is given, 0 to 1.

    Returns:
        Two panels: accuracy against confidence, with points as large as they stand for many answers; and accuracy
        against the fraction of the pictures that are answered, with the threshold marked.
    """
    figure = plots.blank(plots.WIDTH, 4.1)
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], "--", color=plots.FAINT, linewidth=1, label="perfectly calibrated")
    for (label, table), colour, marker in zip(reliability.items(), plots.PALETTE, plots.MARKERS, strict=False):
        sizes = 12 + 150 * table["answers"] / table["answers"].sum()
        left.scatter(table["confidence"], table["accuracy"], sizes, colour, marker=marker, label=label, zorder=3)
    left.set(xlim=(0, 1.02), ylim=(0, 1.04), xlabel="confidence (probability of the answer)", title="Reliability")
    left.set_ylabel("accuracy of such answers")
    right.plot(coverage["coverage"], coverage["accuracy"], color=plots.BLUE, linewidth=2)
    answered = coverage[coverage["threshold"] >= threshold]
    if len(answered):
        at = answered.iloc[-1]
        text = f"threshold {threshold:.2f}: {100 * at.coverage:.1f}% answered"
        right.plot(at.coverage, at.accuracy, "o", color=plots.RED, label=text)
    right.set(xlim=(0, 1.02), xlabel="fraction of the pictures answered", title="Coverage against accuracy")
    low = coverage["accuracy"].min()
    right.set_ylim(low - 0.15 * (1.001 - low), 1 + 0.05 * (1.001 - low))
    for axes in (left, right):
        axes.grid(axis="both")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    figure.legend(loc="outside lower left", ncols=2)
    return figure


@plots.styled
def separation(scores: dict[str, np.ndarray], threshold: float, name: str) -> plots.Chart:
    """Draw how a score tells known pictures from unknown ones.

    Args:
        scores: The scores of each set of pictures, `float (n,)`, by the label of the set.
        threshold: What reaches it is named.
        name: Name of the score.

    Returns:
        For each set the fraction of its pictures that have at least a score, with the threshold marked.
    """
    figure = plots.blank(plots.WIDTH, 3.6)
    axes = figure.subplots()
    for (label, values), colour in zip(scores.items(), plots.PALETTE, strict=False):
        values = np.sort(values)
        axes.plot(values, 1 - np.arange(len(values)) / len(values), color=colour, linewidth=2, label=label)
    axes.axvline(threshold, color=plots.INK, linestyle="--", linewidth=1, label=f"threshold {threshold:.2f}")
    axes.set(xlabel=name, ylabel="fraction with at least this score", ylim=(-0.03, 1.03))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(axis="both")
    axes.set_title("How many pictures would be named, from each threshold")
    figure.legend(loc="outside lower left", ncols=4)
    return figure


@plots.styled
def f1_by_pictures(table: pd.DataFrame) -> plots.Chart:
    """Draw the F1 of each character against the number of its training pictures.

    Args:
        table: Columns `character`, `f1` and `train` (number of training pictures).

    Returns:
        A point for each character; those with the lowest scores are named.
    """
    figure = plots.blank(plots.WIDTH, 3.4)
    axes = figure.subplots()
    axes.plot(table["train"], table["f1"], "o", color=plots.BLUE, markersize=6)
    middle = (table["train"].min() + table["train"].max()) / 2
    placed: list[float] = []
    span = max(1 - table["f1"].min(), 0.02)
    for row in table.nsmallest(NAMED, "f1").itertuples():
        if all(abs(row.f1 - other) > 0.06 * span for other in placed):  # names at one height would overlap
            to_the_left = row.train > middle
            offset = (-7, 0) if to_the_left else (7, 0)
            text = plots.fill(display_name(row.character), 40)
            side = "right" if to_the_left else "left"
            axes.annotate(
                text, (row.train, row.f1), offset, textcoords="offset points", ha=side, va="center", fontsize=8
            )
            placed.append(row.f1)
    axes.set_ylim(1 - 1.12 * span, 1 + 0.06 * span)
    axes.margins(x=0.08)
    axes.set(xlabel="training pictures of the character", ylabel="F1", title="Do more pictures help?")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.grid(axis="both")
    return figure


@plots.styled
def where_it_looked(
    images: Sequence[np.ndarray], actual: Sequence[int], found: Sequence[Occlusion], characters: Sequence[str]
) -> plots.Chart:
    """Show which parts of pictures the answers depend on.

    Args:
        images: RGB uint8 `(size, size, 3)` each, at least one.
        actual: The label of each.
        found: What speaks for the answer to each, as from `occlusion.explain`.
        characters: Names in label order.

    Returns:
        Each picture with the parts darkened that do not matter; above it the answer, ✓ or ✗, its probability, and that
        with the most important part covered, where parts were covered.
    """
    shown, titles = [], []
    for image, label, one in zip(images, actual, found, strict=True):
        shown.append(darkened(image, one.importance))
        sign = (plots.RIGHT if one.label == label else plots.WRONG)[0]
        answer = f"{sign} {display_name(characters[one.label])}"
        covered = "" if one.lowest is None else f", covered {100 * one.lowest:.0f}%"
        titles.append(f"{answer}\n{100 * one.probability:.0f}%{covered}")
    return plots.picture_grid(shown, titles, columns=4)
