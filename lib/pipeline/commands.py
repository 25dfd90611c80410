"""The commands of `python -m lib.pipeline`: the steps, and what else make calls.

Values come from the environment, so that none passes through a shell.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from lib import machine, paths, records
from lib.data import sources
from lib.data.preparation import MANIFEST, Preparation
from lib.errors import UserError
from lib.pipeline.makefile import print_plan
from lib.pipeline.plan import PREPARATION_VARIABLES, PUBLISHED, VARIABLES, Plan, goals, make_plan, run_of_interest
from lib.pipeline.publishing import publish
from lib.pipeline.steps import STEPS, begin, code_of_training, run_notebook
from lib.training.recipe import Recipe, for_source

GENERATED = re.compile("(?s)(?<=<!-- written by `make docs` -->\n).*(?=\n<!-- end -->)")  # table in a page of the docs


def fetch(plan: Plan) -> None:
    """Bring the pictures to `data/raw`."""
    print(sources.summary(sources.fetch(plan.source, plan.raw_name)))


def summary(plan: Plan) -> None:
    """Print the places of the reports and the table of the runs, and keep the text."""
    from lib import report

    given = os.environ | {"RUN": next(iter(plan.runs))}
    names = [name for name in ("RUN", "DATA", *PREPARATION_VARIABLES, "CORRECTIONS", "OUTPUTS") if given.get(name)]
    command = " ".join(["make report", *(f"{name}={shlex.quote(given[name])}" for name in names)])
    text = report.summary([plan.run_folder(run) for run in plan.runs], plan.source, command)
    print(f"\n{text}", end="")
    records.write_text(plan.folder / "summary.txt", text)


def refit(plan: Plan) -> None:
    """Train the runs once more on all frames, and score them on the archive's own test set where there is one."""
    from lib.data import dataset  # pandas, without which the other steps start in half the time

    table = dataset.read_manifest(plan.prepared / MANIFEST)
    for run in plan.runs:
        name = f"{run}/{records.REFIT}"
        folder = plan.run_folder(name)
        folder.mkdir(exist_ok=True)
        print(f"Training {run} on all frames", file=sys.stderr, flush=True)
        with records.lock(folder):  # which the training takes again
            begin(folder, code_of_training(plan))
        log = folder / "train.log"
        with machine.training_slot(paths.ROOT / plan.outputs) as limits, log.open("w") as messages:  # TensorFlow's too
            command = [sys.executable, "-m", "lib.training.refit", str(folder.parent)]
            ended = subprocess.run(command, cwd=paths.ROOT, env=os.environ | limits, stderr=messages)
        if ended.returncode:
            errors = re.findall("^error: (.*)", log.read_text(), re.MULTILINE)
            raise UserError("\n".join(errors) or f"It has stopped; {paths.shown(log)} says why.")
        if dataset.in_official_test(table).any() and not (folder / records.METRICS_RECORD).exists():
            print(f"Evaluating {name}", file=sys.stderr, flush=True)
            STEPS["evaluate"].execute(plan, name)


def compare(plan: Plan) -> None:
    """Put all finished runs of one set of pictures side by side."""
    with records.lock(plan.folder):
        parameters = {"data_name": plan.data_name, "outputs": plan.outputs}
        run_notebook("04_compare", plan.folder / "compare.ipynb", parameters)
    print(f"\nThe rest, with figures, is in {paths.shown(plan.folder / 'compare.ipynb')} (`make lab` opens it).")


def unknown(plan: Plan) -> None:
    """Leave characters out of a training, and compare the scores that tell them from known ones."""
    run = plan.run_with_class_map()
    with records.lock(plan.folder / "unknown"):
        parameters = {"data_name": plan.data_name, "outputs": plan.outputs}
        parameters |= {"recipe": run.recipe_name, "overrides": run.overrides}
        begin(plan.folder / "unknown", code_of_training(plan))
        run_notebook("07_unknown", plan.folder / "unknown.ipynb", parameters)


def write_study(plan: Plan) -> None:
    """Execute what make has not, on the published records, and write the executed copies of all notebooks."""
    from lib.pipeline import copies

    for name, parameters in (("04_compare", {"data_name": PUBLISHED}), ("predict", {})):
        print(f"Executing {name}", file=sys.stderr, flush=True)
        run_notebook(name, copies.EXECUTED[name], parameters)
    for path in copies.write():
        print(f"{paths.shown(path)}: {path.stat().st_size:,} bytes")


def run_on_cluster(plan: Plan) -> None:
    """Run the steps that make's goals need, of all runs that are not up to date, on the cluster named in CLUSTER."""
    from lib import scheduler
    from lib.pipeline import cluster

    wanted = goals()
    asked = {"train": True, "evaluate": wanted & {"evaluate", "refit", "publish"}, "robustness": "robustness" in wanted}
    steps = tuple(name for name, is_asked in asked.items() if is_asked)
    stale = [run for run in plan.runs if any(STEPS[name].is_stale(plan, run) for name in steps)]
    if not stale:
        return
    needed = [plan.prepared, *([plan.raw] if "robustness" in steps else [])]
    given, elsewhere = cluster.variables(), plan.elsewhere
    jobs = [cluster.Job(run, steps, plan.run_folder(run), given, elsewhere) for run in stale]
    with scheduler.connect(plan.cluster, machine.trainings_at_once(len(jobs))) as client:
        errors = [error for *_, error in cluster.run(client, plan.folder, needed, jobs) if error]
    if errors:
        raise UserError("\n".join(errors))


def sweep(plan: Plan) -> None:
    """Search for a good recipe with the trials that the file in SWEEP describes."""
    from lib.pipeline import cluster, sweep

    errors = sweep.Search(Path(os.environ.get("SWEEP", "")), cluster.variables()).run()
    if errors:
        raise UserError("\n".join(errors))


def review(plan: Plan) -> None:
    """Open the label review, while networks answer every frame out of fold in the background."""
    from lib.data import dataset, folds  # scikit-learn, without which the other steps start sooner

    command = [sys.executable, "-m", "lib.training.folds", plan.data_name, for_source("springfield-short", plan.source)]
    data = dataset.load(plan.prepared)
    try:
        folds.parts(data)
    except UserError as problem:
        print(problem, file=sys.stderr)
        return _serve("06_review", plan, CORRECTIONS_FILE=plan.corrections)
    with records.lock(folds.folder(plan.data_name)):  # which the networks take again
        for number in range(folds.FOLDS):
            begin(folds.folder(plan.data_name) / f"fold-{number}", code_of_training(plan))
    log = plan.prepared / "review.log"
    with log.open("w") as messages:
        # The page must answer at once, so the networks take what it leaves of the processor.
        networks = subprocess.Popen(["nice", "-n", "10", *command], cwd=paths.ROOT, stdout=messages, stderr=messages)
    print(f"Networks answer every frame in the background; {paths.shown(log)} says how far they are.", file=sys.stderr)
    try:
        _serve("06_review", plan, CORRECTIONS_FILE=plan.corrections)
    finally:
        networks.terminate()


def explore(plan: Plan) -> None:
    """Open the mistakes of a run."""
    from lib.study.explore import open_explorer

    # So that what is wrong is told here, and not as a traceback on the page.
    open_explorer(plan.data_name, plan.raw_name, plan.outputs, run_of_interest())
    _serve("explore", plan, OUTPUTS=plan.outputs, RUN=run_of_interest())


def _serve(stem: str, plan: Plan, **names: str) -> None:
    """Serve a notebook as a page on PORT."""
    from lib.study import serve

    names |= {"DATA_NAME": plan.data_name, "RAW_NAME": plan.raw_name}
    serve.page(paths.NOTEBOOKS / f"{stem}.ipynb", os.environ.get("PORT", ""), names)


def open_reports(plan: Plan) -> None:
    """Show the executed notebooks of the run named in RUN as web pages."""
    from lib import report

    for page in report.write_pages(plan.run_folder(run_of_interest() or next(iter(plan.runs)))):
        report.open_page(page)


def programs() -> dict[str, list[str]]:
    """Give the goals of make that are programs of their own: module and arguments."""
    given = os.environ.get
    network = ["--run", given("MODEL_DIR")] if given("MODEL_DIR") else []
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []  # as in containers
    return {
        "predict": ["lib.predict", *network, "--", given("IMAGE", "")],
        "dashboard": ["lib.serving.server", "--host", given("HOST") or "127.0.0.1", "--port", given("PORT") or "8866"],
        "site": ["lib.serving.site", *network],
        "lab": ["jupyterlab", f"--ServerApp.root_dir={paths.ROOT}", "--LabApp.default_url=/lab/tree/notebooks", *root],
    }


def write_docs(plan: Plan) -> None:
    """Write the tables in `docs/` that are generated from the code."""
    for page, text in generated_pages().items():
        records.write_text(page, text)


def generated_pages() -> dict[Path, str]:
    """Give the pages of the docs with a table that is generated from the code, between two marks."""
    variables = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in VARIABLES.items())
    settings = f"| variable | meaning |\n|---|---|\n{variables}\n\n{Preparation.markdown()}"
    pages = {}
    for name, table in {"recipes.md": Recipe.markdown(), "configuration.md": settings}.items():
        page = paths.DOCS / name
        before, after = GENERATED.split(page.read_text(encoding="utf-8"))
        pages[page] = before + table + after
    return pages


COMMANDS = {"plan": print_plan, "fetch": fetch, "cluster": run_on_cluster, "summary": summary, "compare": compare}
COMMANDS |= {"unknown": unknown, "refit": refit, "publish": publish, "review": review, "explore": explore}
COMMANDS |= {"sweep": sweep, "report": open_reports, "study": write_study, "docs": write_docs}


def main(arguments: list[str] | None = None) -> int:
    """Run one command of the pipeline; see `machine.run_command`."""
    parser = argparse.ArgumentParser(prog="python -m lib.pipeline", description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=[*COMMANDS, *STEPS, *programs()])
    parser.add_argument("run", nargs="?", default="", help="name of a run, for train, evaluate and robustness")
    options = parser.parse_args(arguments)
    return machine.run_command(_run, options.command, options.run)


def _run(command: str, run: str) -> None:
    plan = make_plan(os.environ)  # names every mistake in the variables
    if command in STEPS:
        if run not in plan.runs and command != "prepare":
            raise UserError(f"There is no run {run!r} in RUNS. Known: {', '.join(plan.runs)}.")
        STEPS[command].run(plan, run)
    elif command in programs():
        # It gets signals and the terminal in place of this process.
        os.execv(sys.executable, [sys.executable, "-m", *programs()[command]])
    else:
        COMMANDS[command](plan)
