"""A picture of the pipeline, from make's own rules."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from lib import paths
from lib.errors import UserError
from lib.evaluation import plots
from lib.pipeline.plan import VARIABLES

GOALS = ("train", "evaluate", "robustness")
BOX, GAP = (2.4, 0.62), (0.35, 0.35)  # inches: width and height, and the space between boxes


@dataclass
class Rule:
    """One file that make makes."""

    needs: list[str]  # paths of the other files of the graph that it is made from
    notebook: str  # that makes it, without its suffix; empty where none does
    modules: int  # number of modules of `lib` that it depends on
    goals: list[str]  # of make that ask for it


def database() -> str:
    """Let make print its rules for the usual runs on the drawn sample; it makes nothing but its own requests."""
    unset = [f"{name}=" for name in VARIABLES]  # those that a make around this one was given
    command = ["make", "-pnq", f"PYTHON={sys.executable}", "ENVIRONMENT=", *unset, *GOALS]
    printed = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True)
    if printed.returncode > 1:  # 1 says that something is to be made
        raise UserError(f"make cannot print its rules: {printed.stderr.strip().splitlines()[-1]}")
    return printed.stdout


def rules(printed: str, run: str = "cnn6") -> dict[str, Rule]:
    """Read the rules of the files below `data/` and `outputs/`, by their paths, from what `make -p` printed.

    Of the files of runs, only those of one run.
    """
    lines = dict(re.findall(r"^([^\s:#=]+):(?!=)[ ]?(.*)$", printed, re.MULTILINE))
    files = {name for name in lines if name.startswith(("data/", "outputs/")) and "%" not in name}
    files = {name for name in files if name.count("/") < 3 or name.startswith("data/") or f"/{run}/" in name}
    found = {}
    for name in sorted(files):
        needed = lines[name].partition("|")[0].split()
        found[name] = Rule(
            needs=[path for path in needed if path in files],
            notebook=next((Path(path).stem for path in needed if path.endswith(".ipynb")), ""),
            modules=sum(path.startswith("lib/") and not path.endswith("__init__.py") for path in needed),
            goals=[goal for goal in ("data", *GOALS) if name in lines.get(goal, "").split()],
        )
    return found


@plots.styled
def draw(found: dict[str, Rule]) -> plots.Chart:
    """Draw the files of `rules` in columns, each to the right of what it is made from.

    Returns:
        A box for each file with its notebook; arrows lead to what is made from it.
    """
    column = {name: _depth(name, found) for name in found}
    for name in [name for name, rule in found.items() if not rule.needs]:  # beside what it is needed with
        column[name] = min((column[other] for other, rule in found.items() if name in rule.needs), default=1) - 1
    at = {}
    for number in range(max(column.values()) + 1):
        here = [name for name in found if column[name] == number]
        for row, name in enumerate(here):
            at[name] = (number * (BOX[0] + GAP[0]), (row - (len(here) - 1) / 2) * (BOX[1] + GAP[1]))
    right, top = (max(abs(place[axis]) for place in at.values()) for axis in (0, 1))
    figure, axes = plots.panels(2 * top + BOX[1] + 0.2, width=right + BOX[0] + 0.2)
    axes.set_axis_off()
    axes.set(xlim=(-0.1, right + BOX[0] + 0.1), ylim=(-top - BOX[1] / 2 - 0.1, top + BOX[1] / 2 + 0.1))
    for name, rule in found.items():
        x, y = at[name]
        colour = plots.SKY if rule.notebook else "#e6e6e6"
        shape = FancyBboxPatch((x, y - BOX[1] / 2), *BOX, "round,pad=0,rounding_size=0.08", facecolor=colour, alpha=0.5)
        shape.set_edgecolor(plots.INK)
        axes.add_patch(shape)
        asked = "".join(f"  (make {goal})" for goal in rule.goals)
        made = f"{rule.notebook}, {rule.modules} modules" if rule.notebook else ""
        folder, _, file = name.rpartition("/")
        axes.text(x + 0.08, y, f"{file}{asked}\n{made or folder}", va="center", fontsize=9, linespacing=1.5)
        for other in rule.needs:
            start = (at[other][0] + BOX[0], at[other][1])
            axes.add_patch(FancyArrowPatch(start, (x, y), arrowstyle="-|>", mutation_scale=9, color=plots.FAINT))
    return figure


def _depth(name: str, found: dict[str, Rule]) -> int:
    """Count the files on the longest way to a file."""
    return max((1 + _depth(other, found) for other in found[name].needs), default=0)
