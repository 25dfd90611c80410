"""Figures of a finished run: each function takes data and returns a figure, none shows or writes one.

The figures are about 900 px wide on a notebook's page. The colours are Okabe and Ito's, which people with any kind of
colour vision can distinguish (https://jfly.uni-koeln.de/color/). Right and wrong answers differ by a sign as well.
"""

import functools
import io
import textwrap
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn
from matplotlib import font_manager, style
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator, NullLocator

from lib import records
from lib.characters import display_name
from lib.evaluation import tables
from lib.evaluation.metrics import Predictions

WIDTH = 9.0  # inches; at 100 dots per inch the width of a notebook's page
LETTER = 0.072  # inches, the mean width of a letter at 9 points
INK, FAINT = "#222222", "#6b6b6b"
BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#e69f00", "#009e73", "#cc79a7"
RED, SKY, GREY, PALE = "#d55e00", "#56b4e9", "#b8b8b8", "#e6e6e6"
PALETTE = [BLUE, ORANGE, GREEN, PURPLE, RED, SKY, INK, GREY]  # without their yellow, which is too pale for a line
MARKERS = ["o", "s", "D", "^", "v", "P", "X", "*"]
# GREEN and RED, darkened until text in them reads well on white (contrast above 5:1).
RIGHT, WRONG = ("✓", "#00785a"), ("✗", "#b84c00")
DASHED = {"color": INK, "linestyle": "--", "linewidth": 1, "zorder": 1}  # lines to compare with, below the data
PERCENT, THOUSANDS = "{x:.0%}", "{x:,.0f}"  # formats of tick labels
NO_TICKS = {"xticklabels": False, "yticklabels": False}  # of seaborn's; see `_name_cells`

WORST = 12  # mistakes that are shown

FONT = "DejaVu Sans"  # comes with matplotlib
LAST_RESORT = "lastresort"  # fonts that have a box for every letter
STYLE = {
    "font.family": [FONT],  # has both signs
    "font.size": 9,
    "text.parse_math": False,  # a "$" in a file name is a "$"
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.edgecolor": GREY,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": PALE,
    "legend.frameon": False,
    "xtick.color": INK,
    "ytick.color": INK,
}
# A decorator: the style, and nothing of the notebook's, applies while a figure is made or drawn.
styled = style.context(["default", STYLE])


class Chart(Figure):
    """A figure that a notebook shows when it is a cell's value.

    A bare `Figure` is shown only once pyplot has loaded its inline backend. One made by pyplot is shown a second time
    by that backend, and kept in memory.
    """

    @styled  # ticks are created, and look up their style, only now
    def draw(self, renderer) -> None:
        """Draw in the style that the figure was made in, with fonts that have its letters; matplotlib names others."""
        texts = [text for text in self.findobj(Text) if not text.get_text().isascii()]
        families = _families_with(frozenset("".join(text.get_text() for text in texts)))
        for text in texts:
            text.set_fontfamily(families)
        super().draw(renderer)

    def _repr_png_(self) -> bytes:
        contents = io.BytesIO()
        self.savefig(contents, format="png")
        return contents.getvalue()


@functools.cache
def _families_with(letters: frozenset[str]) -> list[str]:
    """Choose font families that together have letters of any script, of installed fonts where matplotlib's lacks one.

    matplotlib takes each letter from the first family that has it.
    """
    missing = {ord(letter) for letter in letters if not letter.isspace()} - _code_points(font_manager.findfont(FONT))
    families, regular = [FONT], ("normal", 400)
    fonts = font_manager.fontManager.ttflist
    for font in sorted(fonts, key=lambda font: ((font.style, font.weight) != regular, font.name)):
        if not missing:
            break
        if LAST_RESORT not in font.name.replace(" ", "").lower() and missing & _code_points(font.fname):
            families.append(font.name)
            missing -= _code_points(font.fname)
    return families


def _code_points(path: str) -> Set[int]:
    return FT2Font(path).get_charmap().keys()


def save(figure: Chart, path: Path) -> Chart:
    """Write a figure, atomically, about 1350 px wide, and return it; the suffix of its name decides the format."""
    with records.atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=150, format=Path(path).suffix.removeprefix("."))
    return figure


# ---------------------------------------------------------------- training


@styled
def learning_curves(history: pd.DataFrame, best_epoch: int | None = None) -> Chart:
    """Draw loss and accuracy of every epoch side by side, training and validation in each panel.

    Args:
        history: One row per epoch with columns `epoch`, `loss`, `accuracy`, and those of `val_loss`, `val_accuracy`,
            `val_macro_f1` that were recorded.
        best_epoch: The epoch (a value of `epoch`) whose weights were kept; marked in both panels.
    """
    figure, (left, right) = panels(3.8, 2, grid="y")
    # A single epoch needs a marker, since it has no line; hundreds of markers would overlap.
    points = {"marker": "o" if len(history) <= 30 else "", "markersize": 3.5}
    for axes, column, label, colour, line in (
        (left, "loss", "training", BLUE, "-"),
        (left, "val_loss", "validation", ORANGE, "-"),
        (right, "accuracy", "training", BLUE, "-"),
        (right, "val_accuracy", "validation", ORANGE, "-"),
        (right, "val_macro_f1", "validation, macro F1", RED, ":"),
    ):
        if column in history:
            axes.plot(history["epoch"], history[column], line, color=colour, label=label, **points)
    parts = "cross-entropy and class map" if "class_map_loss" in history else "cross-entropy"
    left.set_title(f"Loss ({parts}, lower is better)")
    left.set_ylim(bottom=0)
    right.set_title("Accuracy" + (" (dotted: macro F1)" if "val_macro_f1" in history else ""))
    right.yaxis.set_major_formatter(PERCENT)
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if best_epoch is not None:
            axes.axvline(best_epoch, **DASHED, label=f"epoch {best_epoch}, kept")
    # Outside of the panels, where no line crosses it; the right panel has all the lines.
    figure.legend(handles=right.get_legend_handles_labels()[0], loc="outside lower left", ncols=4)
    return figure


# ---------------------------------------------------------------- scores


@styled
def confusion_matrix(confusion: pd.DataFrame) -> Chart:
    """Draw counts of `metrics.confusion` as a heat map; about 42 characters fit, and more than 20 make it wider.

    Numbers are pictures, the colour is the fraction of the row, on a square root, which shows one picture in a hundred.
    """
    names = wrapped(confusion.index, 32)
    # Names of two lines need more room than slanted labels have.
    rotation = 90 if any("\n" in name for name in names) else 45
    cell = float(np.clip(5.8 / len(names), 0.3, 0.9))  # inches; three digits fit into 0.3
    side, label = cell * len(names), text_width(names)
    figure, axes = panels(side + (label if rotation == 90 else 0.75 * label) + 0.55, width=side + label + 1.6)
    seaborn.heatmap(
        confusion.div(confusion.sum(axis=1).clip(lower=1), axis=0),
        annot=confusion.to_numpy(),
        fmt="d",
        annot_kws={"fontsize": 10 if len(names) <= 10 else 8},
        mask=confusion.to_numpy() == 0,
        cmap="Blues",
        norm=PowerNorm(0.5, 0, 1),
        linewidths=0.5,
        linecolor=PALE,
        cbar_kws={
            "label": "fraction of the actual\ncharacter's pictures",
            "ticks": [0, 0.01, 0.05, 0.2, 0.5, 1],
            "format": PERCENT,
            "shrink": min(1.0, 4 / side),
            "aspect": 25,
            "pad": 0.02,
        },
        **NO_TICKS,
        ax=axes,
    )
    _name_cells(axes, names, names, rotation=rotation, ha="right", va="center", rotation_mode="anchor")
    axes.set(xlabel="predicted", ylabel="actual")
    return figure


@styled
def per_character_scores(table: pd.DataFrame) -> Chart:
    """Draw the F1 of every character, a table of `metrics.per_character`, as a dot, with the number of its pictures.

    The best is at the top. The axis begins below the lowest score, since dots, unlike bars, need no zero.
    """
    table = table.assign(shown=table["f1"].where(table["support"] > 0))
    table = table.sort_values("shown", ascending=False, kind="stable", na_position="last")
    figure, (axes, numbers) = panels(0.28 * len(table) + 1.2, 2, sharey=True, width_ratios=[6, 1])
    rows = np.arange(len(table))
    axes.hlines(rows, 0, table["shown"], color=PALE, linewidth=1)
    axes.plot(table["shown"], rows, "o", color=BLUE, markersize=6)
    # Numbers are in columns beside the dots, where the line of the average does not cross them.
    scores = [f"{score:.3f}" if np.isfinite(score) else "–" for score in table["shown"]]
    pictures = [f"{support:,}" for support in table["support"]]
    for x, texts in ((0.3, ["F1", *scores]), (1.0, ["pictures", *pictures])):
        for row, text in enumerate(texts, start=-1):
            numbers.text(x, row, text, ha="right", va="center", color=FAINT if row < 0 else INK)
    numbers.set_axis_off()
    mean = table["shown"].mean()
    axes.axvline(mean, ymax=len(table) / (len(table) + 1), **DASHED)
    name_rows(axes, wrapped(table["character"], 40), above=1.5)
    axes.set_title(f"F1 of each character (dashed: their average, macro F1 {mean:.3f})")
    axes.set_xlim(np.floor(20 * table["shown"].min() - 0.5) / 20, 1.005)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.spines["left"].set_bounds(-0.5, len(table) - 0.5)
    return figure


@styled
def robustness(table: pd.DataFrame) -> Chart:
    """Draw the scores on corrupted and on unchanged test pictures, the table of `robustness.csv`, as a heat map.

    The colours span the scores that there are, so that small differences can be seen; the numbers say how small.
    """
    is_changed = table["kind"] != "unchanged"
    scores = table[is_changed].pivot_table("macro_f1", "kind", "strength", sort=False)
    unchanged = pd.DataFrame(table["macro_f1"][~is_changed].iloc[0], ["unchanged"], scores.columns)
    scores = pd.concat([unchanged, scores])
    kinds = [fill(str(kind).replace("_", " "), 40) for kind in scores.index]
    width = min(WIDTH, 1.2 * scores.shape[1] + text_width(kinds) + 1.6)
    figure, axes = panels(0.36 * len(scores) + 1.2, width=width)
    low, high = np.nanmin(scores), np.nanmax(scores)
    seaborn.heatmap(
        scores.astype(float),
        annot=True,
        fmt=".3f",
        cmap="viridis",
        vmin=low,
        vmax=max(high, low + 0.05),  # a difference of less than that is no contrast
        linewidths=1,
        cbar_kws={"label": "macro F1"},
        **NO_TICKS,
        ax=axes,
    )
    _name_cells(axes, kinds, scores.columns.astype(str))
    axes.set(xlabel="strength of the corruption", ylabel="")
    return figure


# ---------------------------------------------------------------- runs and data


@styled
def comparison(table: pd.DataFrame) -> Chart:
    """Draw the macro F1 of runs beside their training times, on a logarithmic scale; a row per run of `compare.ranked`.

    As points in a plane of score and time, runs with similar results would have overlapping labels. Colour and shape
    show the number of convolutional layers. Markers of runs whose test pictures have near-duplicates in train are
    hollow. Missing values are not drawn.
    """
    # A column of None alone becomes NaN, which is not drawn.
    numbers = ["seconds", "macro_f1", "macro_f1_low", "macro_f1_high", "near_duplicates_in_train", "test_pictures"]
    table = table.reset_index(drop=True).astype(dict.fromkeys(numbers, float))
    figure, (scores, times) = panels(0.55 * len(table) + 1.5, 2, grid="both", sharey=True, width_ratios=[3, 2])
    for index, (depth, runs) in enumerate(table.groupby("conv_layers")):
        colour, marker = PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]
        look = {"color": colour, "marker": marker, "markersize": 7, "linestyle": ""}
        scores.plot(runs["macro_f1"], runs.index, label=f"{depth} convolutional layers", **look)
        times.plot(runs["seconds"], runs.index, **look)
        scores.hlines(runs.index, runs["macro_f1_low"], runs["macro_f1_high"], color=colour, linewidth=2)
    leaky = table[table["near_duplicates_in_train"] > 0]
    for axes, column in ((scores, "macro_f1"), (times, "seconds")):
        axes.plot(leaky[column], leaky.index, "o", color="white", markersize=3.5)
    name_rows(scores, table["run"], above=0.7, va="bottom", fontsize=10)
    of_several_sizes = table["num_characters"].nunique() > 1  # then scores are not of the same pictures
    for row in table.itertuples():
        write_above(scores, row.macro_f1, row.Index, f"{row.macro_f1:.3f}")
        write_above(times, row.seconds, row.Index, tables.duration(row.seconds))
        millions = f"{row.num_parameters / 1e6:.3g} million"  # three digits
        size = millions if row.num_parameters >= 999_500 else f"{row.num_parameters:,.0f}"
        facts = f"{size} parameters, {row.epochs:.0f} epoch{'' if row.epochs == 1 else 's'}"
        if of_several_sizes:
            facts += f", {row.num_characters} characters"
        if row.near_duplicates_in_train > 0:
            facts += f"\nnear-duplicates in train: {row.near_duplicates_in_train:,.0f} of {row.test_pictures:,.0f}"
        below_name = {"xycoords": scores.get_yaxis_transform(), "textcoords": "offset points", "va": "top"}
        scores.annotate(facts, (0, row.Index), (-6, -2), **below_name, ha="right", fontsize=8, color=FAINT)
    scores.margins(x=0.12)
    low, high = scores.get_xlim()
    widening = max(0, 0.05 - (high - low))  # at least 0.05 wide, or a negligible difference looks large
    scores.set_xlim(low - widening / 2, high + widening / 2)
    scores.xaxis.set_major_locator(MaxNLocator(5))
    scores.set_title("Macro F1" + (" with its 95% interval" if table["macro_f1_low"].notna().any() else ""))
    times.set_title("Time to train")
    times.tick_params(axis="y", length=0)
    _duration_axis(times, table["seconds"])
    figure.legend(loc="outside lower left", ncols=4)
    return figure


@styled
def counts_bar(counts: pd.DataFrame) -> Chart:
    """Draw a stacked bar for each character (index) of its pictures in each split (columns), with their total."""
    totals = counts.sum(axis=1).sort_values(ascending=False, kind="stable")
    counts = counts.loc[totals.index].rename(columns=lambda split: split.replace("_", " "))
    figure, axes = panels(0.28 * len(counts) + 1.2)
    counts.plot.barh(stacked=True, width=0.72, color=PALETTE, legend=False, ax=axes)
    axes.bar_label(axes.containers[-1], [f"{total:,}" for total in totals], padding=4)
    name_rows(axes, wrapped(counts.index, 40), above=0.6, below=0.6)
    axes.set(xlim=(0, 1.08 * max(totals.max(), 1)), xlabel="pictures")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(THOUSANDS)
    figure.legend(loc="outside upper left", ncols=5)
    return figure


# ---------------------------------------------------------------- pictures


@styled
def prediction_grid(
    images: Sequence[np.ndarray],
    answers: Predictions,
    heading: str = "Above each picture the actual name, below it the answer and its probability",
) -> Chart:
    """Show pictures with the actual name above, the answer and its probability below.

    The frame is green, and the sign ✓, where the answer is right; red, and ✗, where it is wrong.

    Args:
        images: RGB uint8 `(height, width, 3)` each, all of which are shown; at least one.
        answers: To these pictures.
        heading: A line above all pictures.
    """
    names = [display_name(character) for character in answers.characters]
    verdicts = [RIGHT if is_right else WRONG for is_right in answers.actual == answers.predicted]
    below = [
        f"{sign} {names[label]} {100 * probability:.0f}%"
        for (sign, _), label, probability in zip(
            verdicts, answers.predicted, answers.probabilities.max(axis=1), strict=True
        )
    ]
    figure = picture_grid(images, [names[label] for label in answers.actual], 4, below, heading)
    for axes, (_, colour) in zip(figure.axes, verdicts, strict=False):
        axes.xaxis.label.set_color(colour)
        for spine in axes.spines.values():
            spine.set(visible=True, color=colour, linewidth=2.5)
    return figure


@styled
def worst_mistakes(images: np.ndarray, answers: Predictions) -> Chart:
    """Show the wrong answers with the highest probabilities, at most `WORST`, as a `prediction_grid`.

    Args:
        images: RGB uint8 `(num_pictures, height, width, 3)`, all test pictures.
        answers: To these pictures, at least one of which is a mistake.
    """
    mistakes = np.flatnonzero(answers.actual != answers.predicted)
    worst = mistakes[np.argsort(-answers.probabilities[mistakes].max(axis=1), kind="stable")][:WORST]
    heading = (
        f"The {len(worst)} most confident of {len(mistakes):,} mistakes among {len(images):,} pictures "
        "(above: the actual name, below: the answer)"
    )
    return prediction_grid(images[worst], answers.at(worst), heading)


@styled
def picture_grid(
    images: Sequence[np.ndarray],
    titles: Sequence[str] = (),
    columns: int = 6,
    below: Sequence[str] = (),
    heading: str = "",
) -> Chart:
    """Show pictures with texts, which are broken into lines where too long.

    Args:
        images: RGB uint8 `(height, width, 3)` each; sizes may differ.
        titles: One above each picture, or none at all.
        columns: Pictures side by side.
        below: One below each picture, or none at all.
        heading: A line above all pictures.
    """
    if not len(images):
        figure, axes = panels(0.4)
        axes.set_axis_off()
        axes.text(0, 0.5, "There is nothing to show.", va="center")
        return figure
    letters = int(WIDTH / columns / LETTER)  # that fit above a picture
    texts = [[fill(text, letters) for text in given or [""] * len(images)] for given in (titles, below)]
    lines = sum(max(text.count("\n") + bool(text) for text in each) for each in texts)
    rows = -(-len(images) // columns)
    height = rows * (WIDTH / columns + 0.16 * lines + 0.1) + (0.35 if heading else 0)
    figure, frames = panels(height, columns, rows=rows, squeeze=False)
    figure.get_layout_engine().set(w_pad=0.07)
    for axes in frames.flat[len(images) :]:
        axes.set_axis_off()
    for axes, (image, title, answer) in zip(frames.flat, zip(images, *texts, strict=True), strict=False):
        axes.imshow(image)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.set_title(title, fontsize=8.5, loc="center")
        axes.set_xlabel(answer, fontsize=8.5)
    if heading:
        figure.suptitle(heading, x=0.01, ha="left", fontsize=11)
    return figure


# ---------------------------------------------------------------- parts


def panels(
    height: float, columns: int = 1, width: float = WIDTH, rows: int = 1, grid: str = "", **options: Any
) -> tuple[Chart, Any]:
    """Make a figure, in inches, and its axes (an array of them from two on), with grid lines for "x", "y" or "both".

    Without pyplot, which would show the figure a second time and keep it in memory. Options are those of `subplots`.
    """
    figure = Chart(figsize=(width, height), layout="constrained")
    drawn = figure.subplots(rows, columns, **options)
    for axes in figure.axes if grid else ():
        axes.grid(axis=grid)
    return figure, drawn


def name_rows(axes: Axes, names: Sequence[str], above: float = 0.5, below: float = 0.5, **text: Any) -> None:
    """Give each row of a horizontal chart its name, the first at the top; `above` and `below` are space in rows."""
    axes.set_yticks(range(len(names)), names, **text)
    axes.set_ylim(len(names) - 1 + below, -above)
    axes.tick_params(axis="y", length=0)


def _name_cells(axes: Axes, rows: Sequence[str], columns: Sequence[str], **slant: Any) -> None:
    """Name the rows and the columns of a heat map; seaborn would draw the figure to find out which names overlap."""
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns, **slant)
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows, va="center")
    axes.tick_params(length=0)


def fill(text: str, letters: int) -> str:
    """Break a text into lines of at most `letters`, at spaces and after slashes; existing line breaks stay."""
    mark = "\0"  # where a path may be broken
    lines = [textwrap.fill(line.replace("/", f"/{mark} "), letters) for line in text.split("\n")]
    return "\n".join(lines).replace(f"{mark} ", "").replace(mark, "")


def wrapped(labels: Sequence[str], letters: int) -> list[str]:
    """Give display names in lines of at most `letters`."""
    return [fill(display_name(label), letters) for label in labels]


def text_width(texts: Sequence[str]) -> float:
    """Estimate the width of the longest line, inches."""
    return LETTER * max(len(line) for text in texts for line in text.split("\n"))


def write_above(axes: Axes, x: float, y: float, text: str) -> None:
    """Write a number above its point, unless it is missing; on white, so that no line to compare with crosses it."""
    if np.isfinite(x):
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        look = {"textcoords": "offset points", "ha": "center", "fontsize": 8.5, "bbox": box, "zorder": 1.5}
        axes.annotate(text, (x, y), (0, 6), **look)


def _duration_axis(axes: Axes, seconds: pd.Series) -> None:
    """Make a logarithmic time axis with at most four ticks, so that their labels do not overlap."""
    low, high = max(seconds.min(), 0.1) / 4, max(seconds.max(), 0.1) * 4
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    ticks = [tick for tick in (0.1, 1, 10, 60, 600, 3600, 36_000, 360_000, 3_600_000) if low <= tick <= high]
    ticks = ticks[:: -(-len(ticks) // 4)]
    axes.set_xticks(ticks, [tables.duration(tick) for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
