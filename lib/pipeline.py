"""The steps of the pipeline as make calls them: `python -m lib.pipeline train cnn4`.

`plan` prints a fragment of a makefile with the names and dependencies that the graph needs. Values come from the
environment, so that none passes through a shell.
"""

import argparse
import contextlib
import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib import inputs, machine, paths, records
from lib.data import dataset, sources
from lib.data.preparation import Preparation
from lib.errors import UserError, exit_status
from lib.plan import PUBLISHED, VARIABLES, Plan, make_plan
from lib.training import recipe as recipes
from lib.training.recipe import Recipe

# What is published: no figure with frames in it, and a network only on request, since everyone clones it.
PUBLISHED_FILES = (
    *(records.RUN_RECORD, records.HISTORY, records.METRICS_RECORD, records.PER_CHARACTER, records.CONFUSION),
    *(records.PREDICTIONS, records.ROBUSTNESS, records.STRANGERS),
    *(f"{records.FIGURES}/{name}.png" for name in ("confusion_matrix", "learning_curves", "per_character")),
    f"{records.FIGURES}/robustness.png",
)

REQUEST, RECIPE = "request.json", "recipe.json"
MAKING = {
    "data",
    "train",
    "evaluate",
    "robustness",
    "sweep",
    "unknown",
    "refit",
    "publish",
}  # the goals that make something of pictures


# ---------------------------------------------------------------- what make asks for


def makefile(plan: Plan) -> str:
    """Write the names and the dependencies that are computed, as definitions of make.

    Args:
        plan: What one call of make works on.

    Returns:
        Lines of a makefile.
    """
    stale = plan.raw.exists() and sources.is_stale(plan.source, plan.raw)
    definitions = {
        "SOURCE_CHANGED": "FORCE" if stale else "",
        "DATASET_ID": plan.data_name,
        "RAW": _relative(plan.raw),
        "PREPARED": _relative(plan.prepared),
        "RUNS_DIR": _relative(plan.run_folder("x").parent),
        "RUN_NAMES": " ".join(plan.runs),
    }
    for step in STEPS.values():
        needed = [step.notebook, *inputs.files(step.notebook)]
        definitions[f"{step.name.upper()}_CODE"] = " ".join(map(_relative, needed))
    return "".join(f"{name} := {value}\n" for name, value in definitions.items())


def _relative(path: Path) -> str:
    return Path(os.path.relpath(path, paths.ROOT)).as_posix() if path.is_relative_to(paths.ROOT) else str(path)


def write_requests(plan: Plan, goals: set[str]) -> None:
    """Write what is asked for beside each product, where it changed: make compares their times with the products'.

    Args:
        plan: What one call of make works on.
        goals: The targets named on the command line.
    """
    if plan.raw_name == PUBLISHED and goals & (MAKING | {"clean"}):
        raise UserError(
            f"DATA={plan.source} has the name of the committed records, which only `make compare` reads. Rename your "
            "archive or folder."
        )
    if "publish" in goals:
        check_publishing(plan)
    if not goals & MAKING:
        return
    _check_source(plan)
    _age_what_make_did_not_finish(plan)
    _write_if_changed(
        plan.prepared / REQUEST, {"source": plan.source} | plan.preparation.model_dump() | _corrections(plan)
    )
    if goals & (MAKING - {"data", "sweep", "unknown"}):
        write_recipes(plan)


def write_recipes(plan: Plan) -> None:
    """Write the recipe of each run into its folder, where it changed."""
    for name, run in plan.runs.items():
        _write_if_changed(plan.run_folder(name) / RECIPE, run.recipe.model_dump())


def _corrections(plan: Plan) -> dict[str, str]:
    """Describe the file of corrected labels, if one is to be applied."""
    return {"corrections": records.file_sha256(Path(plan.corrections).expanduser())} if plan.corrections else {}


def _check_source(plan: Plan) -> None:
    if (plan.raw / sources.RECORD).exists():
        return
    try:
        sources.check(plan.source)
    except UserError as problem:
        text = str(problem)
        raise UserError(f"DATA: {text[0].lower()}{text[1:]}") from None


def _age_what_make_did_not_finish(plan: Plan) -> None:
    """Have make, which looks at times, call the steps whose product a killed step or something else left."""
    for step in STEPS.values():
        for run in [""] if step.name == "prepare" else plan.runs:
            product = step.folder(plan, run) / step.product
            if product.exists() and not inputs.is_made(product, step.beside):
                os.utime(product, (0, 0))


def _write_if_changed(path: Path, record: dict[str, Any]) -> None:
    with contextlib.suppress(UserError):
        if records.read_json(path) == record:
            return
    records.write_json(path, record)


# ---------------------------------------------------------------- steps


@dataclasses.dataclass(frozen=True)
class Step:
    """One notebook of the pipeline: what it reads, and what it writes last."""

    name: str
    notebook: Path
    executed: str  # the executed notebook
    product: str  # the file that it writes last
    doing: str
    parameters: Callable[[Plan, str], dict[str, Any]]
    data: Callable[[Plan, str], dict[str, str]]  # digests by name
    beside: tuple[str, ...] = ()  # other files that decide what follows

    def folder(self, plan: Plan, run: str) -> Path:
        """Where it writes."""
        return plan.run_folder(run) if run else plan.prepared


def _run_parameters(plan: Plan, run: str) -> dict[str, Any]:
    return {"data_name": plan.data_name, "run": run, "outputs": plan.outputs}


STEPS = {
    step.name: step
    for step in (
        Step(
            "prepare",
            paths.NOTEBOOKS / "01_prepare.ipynb",
            "prepare.ipynb",
            "manifest.csv",
            "Preparing",
            lambda plan, _: {
                "source": plan.source,
                "raw_name": plan.raw_name,
                "data_name": plan.data_name,
                "settings": plan.preparation.model_dump(),
                "corrected_labels": str(Path(plan.corrections).expanduser().resolve()) if plan.corrections else "",
            },
            lambda plan, _: (
                {"source": records.read_json(plan.raw / sources.RECORD).get("pictures_sha256", "")} | _corrections(plan)
            ),
            (dataset.SETTINGS,),
        ),
        Step(
            "train",
            paths.NOTEBOOKS / "02_train.ipynb",
            "train.ipynb",
            records.RUN_RECORD,
            "Training",
            lambda plan, run: (
                _run_parameters(plan, run)
                | {"recipe": plan.runs[run].recipe_name, "overrides": plan.runs[run].overrides}
            ),
            lambda plan, _: records.digests(plan.prepared, dataset.MANIFEST, dataset.SETTINGS),
            (records.LITERT_MODEL,),
        ),
        Step(
            "evaluate",
            paths.NOTEBOOKS / "03_evaluate.ipynb",
            "evaluate.ipynb",
            records.METRICS_RECORD,
            "Evaluating",
            _run_parameters,
            lambda plan, run: {"run": records.file_sha256(plan.run_folder(run) / records.RUN_RECORD)},
            (records.PREDICTIONS, records.PER_CHARACTER, records.CONFUSION),
        ),
        Step(
            "robustness",
            paths.NOTEBOOKS / "05_robustness.ipynb",
            "robustness.ipynb",
            records.ROBUSTNESS,
            "Changing the test pictures for",
            lambda plan, run: _run_parameters(plan, run) | {"raw_name": plan.raw_name},
            lambda plan, run: {"run": records.file_sha256(plan.run_folder(run) / records.RUN_RECORD)},
        ),
    )
}


def run_step(step: Step, plan: Plan, run: str = "") -> None:
    """Run a step, unless its product was made from the same code, parameters and data.

    Args:
        step: One of `STEPS`.
        plan: What one call of make works on.
        run: Name of the run; empty for the preparation.

    Raises:
        UserError: The notebook failed, or another process is working on the folder.
    """
    folder = step.folder(plan, run)
    product = folder / step.product
    with records.lock(folder):
        now = _inputs(step, plan, run)
        why = inputs.changed(product, now, step.beside)
        if not why:
            product.touch()
            return
        from lib import notebooks, tracking  # papermill and pandas, which a step that is up to date does not need

        mlflow = tracking.wanted()
        reason = "" if why == [inputs.MISSING] else f" again: {', '.join(why)}"
        with contextlib.ExitStack() as stack:
            if step.name == "train":
                makeflags = os.environ.get("MAKEFLAGS", "")
                os.environ |= stack.enter_context(machine.training_slot(paths.ROOT / plan.outputs, makeflags))
            print(f"{step.doing} {run or plan.data_name}{reason}", file=sys.stderr, flush=True)
            notebooks.run(step.notebook, folder / step.executed, step.parameters(plan, run))
        inputs.write(product, now, step.beside)
        if mlflow and run:
            tracking.send(mlflow, folder, plan.data_name)


def _inputs(step: Step, plan: Plan, run: str) -> dict[str, Any]:
    """Give digests and values of all that decides a product, as they are now."""
    decisive = plan.runs[run].recipe.model_dump() if step.name == "train" else step.parameters(plan, run)
    return inputs.code_digests(step.notebook) | {"parameters": decisive} | step.data(plan, run)


def run_on_cluster(plan: Plan) -> None:
    """Run the steps that make's goals need, of all runs that are not up to date, on the cluster named in CLUSTER.

    Raises:
        UserError: One or more lines for each run that failed.
    """
    from lib import cluster, scheduler

    goals = set(os.environ.get("GOALS", "").split())
    steps = ["train"]
    steps += ["evaluate"] if goals & {"evaluate", "refit", "publish"} else []
    steps += ["robustness"] if "robustness" in goals else []
    stale = [run for run in plan.runs if any(_is_stale(STEPS[name], plan, run) for name in steps)]
    if not stale:
        return
    needed = [plan.prepared, *([plan.raw] if "robustness" in steps else [])]
    given, elsewhere = cluster.variables(), plan.elsewhere
    jobs = [cluster.Job(run, tuple(steps), plan.run_folder(run), given, elsewhere) for run in stale]
    with scheduler.connect(plan.cluster, cluster.local_workers(len(jobs))) as client:
        ended = cluster.Trainings(client, needed).run(jobs)
        errors = [error for _, error in ended if error]
    if errors:
        raise UserError("\n".join(errors))


def _is_stale(step: Step, plan: Plan, run: str) -> bool:
    try:
        return bool(inputs.changed(step.folder(plan, run) / step.product, _inputs(step, plan, run), step.beside))
    except FileNotFoundError:  # the product of the step before
        return True


def check_publishing(plan: Plan) -> None:
    """Check that the runs may be published, before hours of training for it.

    Raises:
        UserError: The runs are not of real pictures, or a record of other pictures stands in their place.
    """
    if plan.source == "sample":
        raise UserError("Only runs on real pictures are published; name them, for example `make publish DATA=kaggle`.")
    others = [run for run in plan.runs if _data_name_of(plan.published_folder(run)) not in (None, plan.data_name)]
    if others:
        raise UserError(
            f"The published records of {', '.join(others)} are of other pictures than {plan.data_name}. Remove them "
            "first, or give your run a name of its own."
        )


def check_refit(run_folder: Path) -> None:
    """Check that a network trained on all frames, if there is one, repeats the training of today.

    Raises:
        UserError: The run was trained again since.
    """
    refit = run_folder / records.REFIT
    if (refit / records.RUN_RECORD).exists() and (
        records.read_run(refit)["refit_of"] != records.read_run(run_folder)["model_sha256"]
    ):
        raise UserError(f"{_relative(refit)} repeats an earlier training of the run. Run `make refit` first.")


def publish(plan: Plan) -> None:
    """Copy the records of the runs to the committed ones; the network and its card too where asked for."""
    for run in plan.runs if plan.publish_model else ():
        check_refit(plan.run_folder(run))
    for name in (records.BASELINES, records.UNKNOWN):
        table = plan.run_folder("x").parent / name
        if table.exists() and plan.preparation.split == "grouped":
            with records.atomic_write(paths.PUBLISHED / name) as temporary:
                shutil.copyfile(table, temporary)
    for run in plan.runs:
        source, target = plan.run_folder(run), plan.published_folder(run)
        for name in (*PUBLISHED_FILES, *([records.LITERT_MODEL] if plan.publish_model else [])):
            if (source / name).exists():
                with records.atomic_write(target / name) as temporary:
                    shutil.copyfile(records.verified(source / name), temporary)
        if plan.publish_model:
            publish_refit(source / records.REFIT, target)
            from lib.evaluation import card  # pandas, which no other command here needs

            with records.atomic_write(target / records.MODEL_CARD) as temporary:
                temporary.write_text(card.model_card(target), encoding="utf-8")
            records.write_json(paths.PUBLISHED / records.DEFAULT, {"run": run})
        print(_relative(target))


def publish_refit(refit: Path, target: Path) -> None:
    """Put the network that was trained once more in place of the run's, and say so in its record."""
    if not (refit / records.RUN_RECORD).exists():
        return
    record, of_refit = records.read_record(target / records.RUN_RECORD), records.read_run(refit)
    with records.atomic_write(target / records.LITERT_MODEL) as temporary:
        shutil.copyfile(records.verified(refit / records.LITERT_MODEL), temporary)
    kept = {name: of_refit[name] for name in ("recipe", "epochs", "seconds", "train_pictures", "refit_of")}
    if (refit / records.METRICS_RECORD).exists():
        kept["scores"] = records.read_metrics(refit)
    files = record.pop("files") | {records.LITERT_MODEL: of_refit["model_sha256"]}
    record |= {"model_sha256": of_refit["model_sha256"], "refit": kept}
    records.write_record(target / records.RUN_RECORD, record, files)


def _data_name_of(folder: Path) -> str | None:
    return records.read_run(folder)["data_name"] if (folder / records.RUN_RECORD).exists() else None


def print_plan(plan: Plan) -> None:
    """Write the requests and print the fragment of a makefile."""
    write_requests(plan, set(os.environ.get("GOALS", "").split()))
    print(makefile(plan), end="")


def fetch(plan: Plan) -> None:
    """Bring the pictures to `data/raw`."""
    print(sources.summary(sources.fetch(plan.source, plan.raw_name)))


def summary(plan: Plan) -> None:
    """Print the places of the reports and the table of the runs, and keep the text."""
    from lib import report

    text = report.summary([plan.run_folder(run) for run in plan.runs], plan.source)
    print(f"\n{text}", end="")
    with records.atomic_write(plan.run_folder("x").parent / "summary.txt") as temporary:
        temporary.write_text(text, encoding="utf-8")


def refit(plan: Plan) -> None:
    """Train the runs once more on all frames, and score them on the archive's own test set where there is one."""
    from lib import notebooks

    table = dataset.read_manifest(plan.prepared / dataset.MANIFEST)
    for run in plan.runs:
        name = f"{run}/{records.REFIT}"
        folder = plan.run_folder(name)
        folder.mkdir(exist_ok=True)
        print(f"Training {run} on all frames", file=sys.stderr, flush=True)
        with (
            machine.training_slot(paths.ROOT / plan.outputs, os.environ.get("MAKEFLAGS", "")) as threads,
            (folder / "train.log").open("w") as messages,  # TensorFlow's too
        ):
            command = [sys.executable, "-m", "lib.training.refit", str(folder.parent)]
            ended = subprocess.run(command, cwd=paths.ROOT, env=os.environ | threads, stderr=messages)
        if ended.returncode:
            said = (folder / "train.log").read_text().splitlines()
            errors = [line.removeprefix("error: ") for line in said if line.startswith("error: ")]
            raise UserError("\n".join(errors) or f"It has stopped; {_relative(folder)}/train.log says why.")
        record, scores = folder / records.RUN_RECORD, folder / records.METRICS_RECORD
        is_scored = scores.exists() and scores.stat().st_mtime > record.stat().st_mtime
        if dataset.in_official_test(table).any() and not is_scored:
            print(f"Evaluating {name}", file=sys.stderr, flush=True)
            notebooks.run(STEPS["evaluate"].notebook, folder / STEPS["evaluate"].executed, _run_parameters(plan, name))


def compare(plan: Plan) -> None:
    """Put all finished runs of one set of pictures side by side."""
    from lib import notebooks

    folder = plan.run_folder("x").parent
    with records.lock(folder):
        parameters = {"data_name": plan.data_name, "outputs": plan.outputs}
        notebooks.run(paths.NOTEBOOKS / "04_compare.ipynb", folder / "compare.ipynb", parameters)


def unknown(plan: Plan) -> None:
    """Leave characters out of a training, and compare the scores that tell them from known ones."""
    from lib import notebooks

    folder = plan.run_folder("x").parent
    recipe = recipes.on_sample("unknown") if plan.source == "sample" else "unknown"
    parameters = {"data_name": plan.data_name, "outputs": plan.outputs, "recipe": recipe}
    with records.lock(folder / "unknown"):
        notebooks.run(paths.NOTEBOOKS / "07_unknown.ipynb", folder / "unknown.ipynb", parameters)


def write_study(plan: Plan) -> None:
    """Execute what make has not, on the published records, and write the executed copies of all notebooks."""
    from lib import copies, notebooks

    for name, parameters in (("04_compare", {"data_name": PUBLISHED}), ("predict", {})):
        print(f"Executing {name}", file=sys.stderr, flush=True)
        notebooks.run(paths.NOTEBOOKS / f"{name}.ipynb", copies.EXECUTED[name], parameters)
    for path in copies.write():
        print(f"{_relative(path)}: {path.stat().st_size:,} bytes")


def review(plan: Plan) -> None:
    """Open the label review, while networks answer every frame out of fold in the background."""
    from lib.study import serve

    recipe = recipes.on_sample("review") if plan.source == "sample" else "review"
    command = [sys.executable, "-m", "lib.training.folds", plan.data_name, recipe]
    log = plan.prepared / "review.log"
    with log.open("w") as messages:
        # The page must answer at once, so the networks take what it leaves of the processor.
        folds = subprocess.Popen(["nice", "-n", "10", *command], cwd=paths.ROOT, stdout=messages, stderr=messages)
    print(f"Networks answer every frame in the background; {_relative(log)} says how far they are.", file=sys.stderr)
    names = {"DATA_NAME": plan.data_name, "RAW_NAME": plan.raw_name}
    names |= {"CORRECTIONS_FILE": plan.corrections} if plan.corrections else {}
    try:
        serve.page(paths.NOTEBOOKS / "06_review.ipynb", os.environ.get("PORT", ""), names)
    finally:
        folds.terminate()


def explore(plan: Plan) -> None:
    """Open the mistakes of a run."""
    from lib.study import serve

    names = {
        "DATA_NAME": plan.data_name,
        "RAW_NAME": plan.raw_name,
        "OUTPUTS": plan.outputs,
        "RUN": os.environ.get("RUN", "").strip(),
    }
    serve.page(paths.NOTEBOOKS / "explore.ipynb", os.environ.get("PORT", ""), names)


def open_reports(plan: Plan) -> None:
    """Show the executed notebooks of the run named in RUN as web pages."""
    from lib import report

    run = os.environ.get("RUN", "").strip() or next(iter(plan.runs))
    for page in report.write_pages(plan.run_folder(run)):
        report.open_page(page)


def predict(plan: Plan) -> None:
    """Name the character in IMAGE."""
    picture = os.environ.get("IMAGE", "")
    if not picture:
        raise UserError("Say which picture, for example `make predict IMAGE=homer.jpg`.")
    _become("lib.predict", *_network(), "--", picture)


def dashboard(plan: Plan) -> None:
    """Serve the page on PORT of HOST."""
    given = {"--host": os.environ.get("HOST") or "127.0.0.1", "--port": os.environ.get("PORT") or "8866"}
    _become("lib.serving.server", *(word for option in given.items() for word in option))


def site(plan: Plan) -> None:
    """Write the page without a server."""
    _become("lib.serving.site", *_network())


def lab(plan: Plan) -> None:
    """Open JupyterLab, in containers too, where everything runs as root."""
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    folder = f"--ServerApp.root_dir={paths.ROOT}"
    _become("jupyterlab", folder, "--LabApp.default_url=/lab/tree/notebooks", *root)


def sweep(plan: Plan) -> None:
    """Try the recipes of SWEEP."""
    _become("lib.sweep", os.environ.get("SWEEP", ""))


def _network() -> list[str]:
    """Give the option that names the network of MODEL_DIR; none for the default network."""
    folder = os.environ.get("MODEL_DIR", "")
    return ["--run", folder] if folder else []


def _become(module: str, *arguments: str) -> None:
    """Go on as another program, which gets signals and the terminal in place of this one."""
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])


def write_docs(plan: Plan) -> None:
    """Write the tables in `docs/` that are generated from the code."""
    for name, table in generated_tables().items():
        path = paths.DOCS / name
        with records.atomic_write(path) as temporary:
            temporary.write_text(with_table(path.read_text(encoding="utf-8"), table), encoding="utf-8")


def generated_tables() -> dict[str, str]:
    """Give the tables of the docs that are generated from the code, by file name."""
    variables = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in VARIABLES.items())
    return {
        "recipes.md": Recipe.markdown(),
        "configuration.md": f"| variable | meaning |\n|---|---|\n{variables}\n\n{Preparation.markdown()}",
    }


TABLE_START, TABLE_END = "<!-- written by `make docs` -->\n", "<!-- end -->\n"


def with_table(text: str, table: str) -> str:
    """Replace what stands between the two marks of a page."""
    before, _, rest = text.partition(TABLE_START)
    return f"{before}{TABLE_START}{table}\n{TABLE_END}{rest.partition(TABLE_END)[2]}"


COMMANDS = {
    "plan": print_plan,
    "fetch": fetch,
    "cluster": run_on_cluster,
    "summary": summary,
    "compare": compare,
    "publish": publish,
    "study": write_study,
    "review": review,
    "explore": explore,
    "report": open_reports,
    "docs": write_docs,
    "unknown": unknown,
    "refit": refit,
    "predict": predict,
    "dashboard": dashboard,
    "site": site,
    "lab": lab,
    "sweep": sweep,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command of the pipeline.

    Args:
        arguments: As on the command line; those of the process by default.

    Returns:
        Exit status: 0, 2 for a mistake, 130 for Ctrl-C.
    """
    parser = argparse.ArgumentParser(prog="python -m lib.pipeline", description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=[*COMMANDS, *STEPS])
    parser.add_argument("run", nargs="?", default="", help="name of a run, for train, evaluate and robustness")
    options = parser.parse_args(arguments)
    machine.end_with_parent()

    def command() -> None:
        plan = make_plan(os.environ)
        if options.command in STEPS:
            run_step(STEPS[options.command], plan, options.run)
        else:
            COMMANDS[options.command](plan)

    return exit_status(command)


if __name__ == "__main__":
    sys.exit(main())
