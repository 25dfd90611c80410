"""Figures about the answers of one network: calibration, scores against data, what it looked at, who is in a video."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator, MultipleLocator

from lib.characters import display_name
from lib.evaluation import plots
from lib.evaluation.occlusion import Occlusion, darkened

NAMED = 6  # points with the lowest scores have names in the scatter plot
MOST_CHARACTERS = 12  # in a timeline
MOST_TICKS = 10
TICKS = (1, 5, 10, 30, 60, 120, 300, 600, 1200)  # seconds between two


@plots.styled
def calibration(reliability: dict[str, pd.DataFrame], coverage: pd.DataFrame, threshold: float) -> plots.Chart:
    """Draw how far confidence can be trusted (left), and what declining the least confident answers gives (right).

    Args:
        reliability: Tables of `calibration.reliability` by the label of their points, at most four.
        coverage: A table of `calibration.coverage_curve`.
        threshold: Probability that is marked, 0 to 1.
    """
    figure, (left, right) = plots.panels(4.1, 2, grid="both")
    left.plot([0, 1], [0, 1], "--", color=plots.FAINT, linewidth=1, label="perfectly calibrated")
    for (label, table), colour, marker in zip(reliability.items(), plots.PALETTE, plots.MARKERS, strict=False):
        sizes = 12 + 150 * table["answers"] / table["answers"].sum()
        left.scatter(table["confidence"], table["accuracy"], sizes, colour, marker=marker, label=label, zorder=3)
    left.set(xlim=(0, 1.02), ylim=(0, 1.04), xlabel="confidence (probability of the answer)", title="Reliability")
    left.set_ylabel("accuracy of such answers")
    right.plot(coverage["coverage"], coverage["accuracy"], color=plots.BLUE, linewidth=2)
    for at in coverage[coverage["threshold"] >= threshold].tail(1).itertuples():
        text = f"a probability of {threshold:.2f} or more: {100 * at.coverage:.1f}%"
        right.plot(at.coverage, at.accuracy, "o", color=plots.RED, label=text)
    right.set(xlim=(0, 1.02), xlabel="fraction of the pictures answered", ylabel="accuracy of these answers")
    right.set_title("Accuracy against coverage")
    low = coverage["accuracy"].min()
    right.set_ylim(low - 0.15 * (1.001 - low), 1 + 0.05 * (1.001 - low))
    for axes in (left, right):
        axes.xaxis.set_major_formatter(plots.PERCENT)
        axes.yaxis.set_major_formatter(lambda fraction, _: f"{100 * fraction:g}%")
    figure.legend(loc="outside lower left", ncols=2)
    return figure


@plots.styled
def f1_by_pictures(table: pd.DataFrame) -> plots.Chart:
    """Draw the `f1` of each `character` against the number of its training pictures, `train`; name the lowest."""
    figure, axes = plots.panels(3.4, grid="both")
    axes.plot(table["train"], table["f1"], "o", color=plots.BLUE, markersize=6)
    middle = (table["train"].min() + table["train"].max()) / 2
    placed: list[float] = []
    span = max(1 - table["f1"].min(), 0.02)
    lowest = table.groupby(["f1", "train"]).character.agg(list).head(NAMED)
    # Names point to the middle: of two at one height, that of the point nearer to it crosses no other point.
    for (f1, train), (first, *others) in sorted(lowest.items(), key=lambda point: abs(point[0][1] - middle)):
        if all(abs(f1 - other) > 0.06 * span for other in placed):  # names at one height would overlap
            side, offset = ("right", (-7, 0)) if train > middle else ("left", (7, 0))
            look = {"textcoords": "offset points", "ha": side, "va": "center", "fontsize": 8}
            name = display_name(first) + (f" and {len(others)} more" if others else "")
            axes.annotate(plots.fill(name, 40), (train, f1), offset, **look)
            placed.append(f1)
    axes.set_ylim(1 - 1.12 * span, 1 + 0.06 * span)
    axes.margins(x=0.08)
    axes.set(xlabel="training pictures of the character", ylabel="F1", title="F1 by number of training pictures")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter(plots.THOUSANDS)
    return figure


@plots.styled
def where_it_looked(
    images: Sequence[np.ndarray], actual: Sequence[int], found: Sequence[Occlusion], characters: Sequence[str]
) -> plots.Chart:
    """Show which parts of pictures the answers depend on: the others are darkened.

    Above each picture are the answer, ✓ or ✗, its probability, and the one with the most important part covered.

    Args:
        images: RGB uint8 `(size, size, 3)` each, at least one.
        actual: The label of each.
        found: What speaks for the answer to each, as from `occlusion.explain`.
        characters: Names in label order.
    """
    titles = []
    for label, one in zip(actual, found, strict=True):
        sign, _ = plots.RIGHT if one.label == label else plots.WRONG
        covered = "" if one.lowest is None else f", covered {100 * one.lowest:.0f}%"
        titles.append(f"{sign} {display_name(characters[one.label])}\n{100 * one.probability:.0f}%{covered}")
    shown = [darkened(image, one.importance) for image, one in zip(images, found, strict=True)]
    return plots.picture_grid(shown, titles, columns=4)


@plots.styled
def timeline(frames: pd.DataFrame, title: str) -> plots.Chart:
    """Draw a row for each character, those on screen longest at the top, with a bar wherever the network finds it.

    Args:
        frames: A row for each frame, at least one: `time` in seconds, and `characters`, a list of labels. A bar is as
            long as the usual time between two frames.
        title: Title of the figure, such as the name of the video.
    """
    frames = frames.drop_duplicates("time").sort_values("time", ignore_index=True)  # a video may be named twice
    step = frames.time.diff().median() if len(frames) > 1 else 1.0
    shown = frames.explode("characters").dropna(subset="characters")
    names = list(shown.characters.value_counts().index[:MOST_CHARACTERS])
    figure, axes = plots.panels(0.3 * max(1, len(names)) + 1.3, grid="x")
    for row, name in enumerate(names):
        bars = [(time, step) for time in shown.time[shown.characters == name]]
        axes.broken_barh(bars, (row - 0.35, 0.7), color=plots.BLUE, linewidth=0)
    axes.set_yticks(range(len(names)), map(display_name, names))
    axes.set_ylim(max(1, len(names)) - 0.5, -0.5)
    end = frames.time.max() + step
    axes.set_xlim(0, end)
    axes.xaxis.set_major_locator(MultipleLocator(next((n for n in TICKS if end / n <= MOST_TICKS), end / MOST_TICKS)))
    axes.xaxis.set_major_formatter(lambda seconds, _: f"{int(seconds) // 60}:{int(seconds) % 60:02}")
    axes.set(xlabel="minutes:seconds", title=title)
    return figure
