"""Who is on screen when: the answers for the frames of a video as a figure."""

import pandas as pd
from matplotlib.ticker import MultipleLocator

from lib.characters import display_name
from lib.evaluation import plots

MOST_CHARACTERS = 12
MOST_TICKS = 10
TICKS = (1, 5, 10, 30, 60, 120, 300, 600, 1200)  # seconds between two


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
    figure, axes = plots.panels(0.3 * max(1, len(names)) + 1.3)
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
    axes.grid(axis="x")
    return figure
