"""The steps of the pipeline as make calls them: `python -m lib.pipeline train cnn4`.

`plan` prints a fragment of a makefile with the names and dependencies that the graph needs. Values come from the
environment, so that none passes through a shell.
"""

import argparse
import contextlib
import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib import inputs, machine, paths, records, tracking
from lib.data import sources
from lib.data.preparation import MANIFEST, SETTINGS, Preparation
from lib.errors import UserError
from lib.plan import PREPARATION_VARIABLES, PUBLISHED, VARIABLES, Plan, Run, backend, make_plan
from lib.training.recipe import Recipe

# What is published: no figure with frames in it, and a network only on request, since everyone clones it. The records
# that say that a run is whole come last.
PUBLISHED_FILES = (
    *(records.HISTORY, records.PER_CHARACTER, records.CONFUSION, records.PREDICTIONS),
    *(f"{records.FIGURES}/{name}.png" for name in ("confusion_matrix", "learning_curves", "per_character")),
    f"{records.FIGURES}/robustness.png",
    *(records.ROBUSTNESS, records.STRANGERS, records.METRICS_RECORD, records.RUN_RECORD),
)

REQUEST = "request.json"
SUMMARISED = "summary.json"  # which runs the printed table is of
BEGUN = "begun.json"  # code and pictures that a training was begun with
MAX_LETTERS = 300  # of the reasons that a step gives for running again
# Goals that need a variable, and what is said where it is missing.
NEEDED = {
    "predict": ("IMAGE", "Say which picture, for example `make predict IMAGE=homer.jpg`."),
    "sweep": ("SWEEP", "Say what to try, for example `make sweep SWEEP=notebooks/params/sweeps/lr.yaml`."),
}
OWN_RECIPE = {"sweep": ("RUNS",), "review": ("RUNS", "SET", "EPOCHS")}  # goals, and what is not for them
GENERATED = re.compile("(?s)(?<=<!-- written by `make docs` -->\n).*(?=\n<!-- end -->)")  # table in a page of the docs
FOR_PICTURES = {"data", "sweep", "unknown", "review"}  # the goals that make something of pictures alone
FOR_RUNS = {"train", "evaluate", "robustness", "refit", "publish"}  # and of the runs in RUNS


# ---------------------------------------------------------------- what make asks for


def makefile(plan: Plan) -> str:
    """Write the names and the dependencies that are computed, as definitions of make."""
    stale = plan.raw.exists() and sources.is_stale(plan.source, plan.raw)
    definitions = {
        "SOURCE_CHANGED": "FORCE" if stale else "",
        "DATASET_ID": plan.data_name,
        "RAW": paths.shown(plan.raw),
        "PREPARED": paths.shown(plan.prepared),
        "RUNS_DIR": paths.shown(plan.folder),
        "RUN_NAMES": " ".join(plan.runs),
    }
    for step in STEPS.values():
        needed = [step.notebook, *inputs.files(step.notebook)]
        definitions[f"{step.name.upper()}_CODE"] = " ".join(map(paths.shown, needed))
    return "".join(f"{name} := {value}\n" for name, value in definitions.items())


def write_requests(plan: Plan, goals: set[str]) -> None:
    """Write what is asked for beside each product, where it changed: make compares their times with the products'.

    Raises:
        UserError: There is no such source, or the goals cannot be reached with it.
    """
    making = goals & (FOR_PICTURES | FOR_RUNS)
    if plan.raw_name == PUBLISHED and (making or goals & {"clean", "report", "explore"}):
        raise UserError(
            f"DATA={plan.source} has the name of the committed records, which only `make compare` reads; docs/study/ "
            "has executed reports. Rename an archive or folder of yours that has this name."
        )
    if "review" in goals and plan.preparation.split == "resampled":
        raise UserError(
            "SPLIT=resampled has pictures several times. Review with SPLIT=grouped; its verdicts are about both."
        )
    if goals & FOR_RUNS:
        plan.check_size()
    if "publish" in goals:
        _check_publishing(plan)
    if not making:
        return
    if not (plan.raw / sources.RECORD).exists():
        try:
            sources.check(plan.source)
        except UserError as problem:
            raise UserError(f"DATA: {problem}") from None
    _age_what_make_did_not_finish(plan)
    request = {"source": plan.source} | plan.preparation.model_dump() | _corrections(plan)
    records.write_if_changed(plan.prepared / REQUEST, request)
    if goals & FOR_RUNS:
        plan.write_recipes()
    if "evaluate" in goals:
        records.write_if_changed(plan.folder / SUMMARISED, {"runs": [*plan.runs]})


def _age_what_make_did_not_finish(plan: Plan) -> None:
    """Have make, which looks at times, call the steps whose product a killed step or something else left.

    A product from the future, which a clock that was put back leaves, would hide every change until then.
    """
    for step in STEPS.values():
        for run in [""] if step.name == "prepare" else plan.runs:
            product = step.product(plan, run)
            if not product.exists():
                continue
            if product.stat().st_mtime > time.time() or inputs.changed(product, beside=step.beside):
                os.utime(product, (0, 0))


# ---------------------------------------------------------------- steps


@dataclasses.dataclass(frozen=True)
class Step:
    """One notebook of the pipeline."""

    name: str  # as make calls it
    stem: str  # of the notebook
    doing: str  # what a user reads that it does
    last: str  # the file that it writes last, its product
    parameters: tuple[str, ...]  # names of the values that it is given
    data: Callable[[Plan, str], dict[str, str]]  # digests of what it reads for a run, by name
    beside: tuple[str, ...] = ()  # other files that it writes and that decide what follows

    @property
    def notebook(self) -> Path:
        """The notebook."""
        return paths.NOTEBOOKS / f"{self.stem}.ipynb"

    def product(self, plan: Plan, run: str) -> Path:
        """The file that it writes last, in the folder of the run or of the prepared pictures."""
        return (plan.run_folder(run) if run else plan.prepared) / self.last

    def made_from(self, plan: Plan, run: str) -> dict[str, Any]:
        """Give digests and values of all that decides the product, as they are now."""
        decisive = plan.runs[run].recipe.model_dump() if self.name == "train" else self._values(plan, run)
        code = inputs.code_digests(self.notebook) | (backend() if self.name == "train" else {})
        return code | {"parameters": decisive} | self.data(plan, run)

    def execute(self, plan: Plan, run: str) -> None:
        """Run the notebook."""
        executed = self.product(plan, run).with_name(f"{self.name}.ipynb")
        _run_notebook(self.stem, executed, self._values(plan, run))

    def _values(self, plan: Plan, run: str) -> dict[str, Any]:
        values = {"source": plan.source, "raw_name": plan.raw_name, "data_name": plan.data_name, "run": run}
        values |= {"settings": plan.preparation.model_dump(), "corrected_labels": plan.corrections}
        values["outputs"] = plan.outputs
        if run in plan.runs:
            values |= {"recipe": plan.runs[run].recipe_name, "overrides": plan.runs[run].overrides}
        return {name: values[name] for name in self.parameters}


def _run_notebook(stem: str, product: Path, parameters: dict[str, Any]) -> None:
    from lib import notebooks  # papermill, which a step that is up to date does not need

    notebooks.run(paths.NOTEBOOKS / f"{stem}.ipynb", product, parameters)


def _corrections(plan: Plan) -> dict[str, str]:
    return {"corrections": records.file_sha256(Path(plan.corrections))} if plan.corrections else {}


def _source_digest(plan: Plan, run: str) -> dict[str, str]:
    return {"source": sources.record_of(plan.raw).get("pictures_sha256", "")} | _corrections(plan)


def _pictures_digests(plan: Plan, run: str) -> dict[str, str]:
    return records.digests(plan.prepared, MANIFEST, SETTINGS)


def _run_digest(plan: Plan, run: str) -> dict[str, str]:
    return {"run": records.file_sha256(plan.run_folder(run) / records.RUN_RECORD)}


_TO_PREPARE = ("source", "raw_name", "data_name", "settings", "corrected_labels")
_OF_RUN = ("data_name", "run", "outputs")
_TO_TRAIN = (*_OF_RUN, "recipe", "overrides")
_TO_CORRUPT = (*_OF_RUN, "raw_name")
_SCORES = (records.PREDICTIONS, records.PER_CHARACTER, records.CONFUSION)
_STRANGERS = (records.STRANGERS,)
_CORRUPTING = "Corrupting test pictures for"
_STEPS = (
    Step("prepare", "01_prepare", "Preparing", MANIFEST, _TO_PREPARE, _source_digest, (SETTINGS,)),
    Step("train", "02_train", "Training", records.RUN_RECORD, _TO_TRAIN, _pictures_digests, (records.LITERT_MODEL,)),
    Step("evaluate", "03_evaluate", "Evaluating", records.METRICS_RECORD, _OF_RUN, _run_digest, _SCORES),
    Step("robustness", "05_robustness", _CORRUPTING, records.ROBUSTNESS, _TO_CORRUPT, _run_digest, _STRANGERS),
)
STEPS = {step.name: step for step in _STEPS}


def _run_step(step: Step, plan: Plan, run: str = "") -> None:
    """Run a step, unless its product was made from the same code, parameters and data."""
    product = step.product(plan, run)
    with records.lock(product.parent):
        now = step.made_from(plan, run)
        why = inputs.changed(product, now, step.beside)
        if not why:
            product.touch()
            return
        mlflow = tracking.wanted()
        reasons = textwrap.shorten(", ".join(why), MAX_LETTERS, placeholder=" …")
        again = "" if why == [inputs.MISSING] else f" again: {reasons}"
        is_training = step.name == "train"
        slot = machine.training_slot(paths.ROOT / plan.outputs) if is_training else contextlib.nullcontext({})
        with slot as limits:
            os.environ |= limits
            print(f"{step.doing} {run or plan.data_name}{again}", file=sys.stderr, flush=True)
            if is_training:
                _begin(product.parent, {name: value for name, value in now.items() if name != "parameters"})
            step.execute(plan, run)
        inputs.write(product, now, step.beside)
        if mlflow and run:
            tracking.send(mlflow, product.parent, plan.data_name)


def _begin(folder: Path, code: dict[str, Any]) -> None:
    """Note what a training is begun with; one that was begun with other code does not go on."""
    state, begun = folder / records.TRAINING_STATE, folder / BEGUN
    if state.exists() and begun.exists() and records.read_json(begun) != code:
        print("The code or the pictures changed since this training began; it starts afresh.", file=sys.stderr)
        state.unlink()
    records.write_if_changed(begun, code)


def _code_of_training(plan: Plan) -> dict[str, Any]:
    """Give digests of what decides a training outside of 02_train on these pictures, beside its recipe."""
    more = ("training/fit", "training/refit", "training/folds", "data/folds", "data/leave_out")
    more = [paths.ROOT / "lib" / f"{name}.py" for name in more]
    return inputs.code_digests(STEPS["train"].notebook, *more) | backend() | _pictures_digests(plan, "")


def run_on_cluster(plan: Plan) -> None:
    """Run the steps that make's goals need, of all runs that are not up to date, on the cluster named in CLUSTER."""
    from lib import cluster, scheduler

    goals = _goals()
    asked = {"train": True, "evaluate": goals & {"evaluate", "refit", "publish"}, "robustness": "robustness" in goals}
    steps = tuple(name for name, is_asked in asked.items() if is_asked)
    stale = [run for run in plan.runs if any(_is_stale(STEPS[name], plan, run) for name in steps)]
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
    from lib import cluster, sweep

    errors = sweep.Search(Path(os.environ.get("SWEEP", "")), cluster.variables()).run()
    if errors:
        raise UserError("\n".join(errors))


def _is_stale(step: Step, plan: Plan, run: str) -> bool:
    try:
        return bool(inputs.changed(step.product(plan, run), step.made_from(plan, run), step.beside))
    except FileNotFoundError:  # the product of the step before
        return True


def _check_publishing(plan: Plan) -> None:
    """Raise a `UserError` if the runs are not of real pictures, or records of other pictures stand in their place."""
    if plan.source == "sample":
        raise UserError("Only runs on real pictures are published; name them, for example `make publish DATA=kaggle`.")
    folders = {run: plan.published_folder(run) for run in plan.runs}
    finished = [run for run, folder in folders.items() if (folder / records.RUN_RECORD).exists()]
    others = [run for run in finished if records.read_run(folders[run])["data_name"] != plan.data_name]
    if others:
        raise UserError(
            f"The published records of {', '.join(others)} are of other pictures than {plan.data_name}. Remove them "
            "first, or give your run a name of its own."
        )
    networks = [run for run, folder in folders.items() if (folder / records.LITERT_MODEL).exists()]
    if networks and not plan.publish_model:
        raise UserError(
            f"The network of {', '.join(networks)} is published too. Add MODEL=1, which replaces it with its record."
        )


def _check_characters(source: Path, target: Path) -> None:
    """Raise a `UserError` if a published run knows other characters than the one that would replace it."""
    if not (target / records.RUN_RECORD).exists():
        return
    new, old = (records.read_run(folder)["characters"] for folder in (source, target))
    if new != old:
        raise UserError(
            f"{paths.shown(target)} knows {len(old)} characters and {paths.shown(source)} {len(new)}: was another "
            "MIN_PICTURES meant? Remove the published one first, or give your run a name of its own."
        )


def check_refit(run_folder: Path) -> None:
    """Raise a `UserError` if a run was trained again since its network was trained on all frames."""
    refit = run_folder / records.REFIT
    if (refit / records.RUN_RECORD).exists() and (
        records.read_run(refit)["refit_of"] != records.read_run(run_folder)["model_sha256"]
    ):
        raise UserError(f"{paths.shown(refit)} repeats an earlier training of the run. Run `make refit` first.")


def publish(plan: Plan) -> None:
    """Copy the records of the runs to the committed ones; the network and its card too where asked for."""
    for run in plan.runs:
        _check_characters(plan.run_folder(run), plan.published_folder(run))
        if plan.publish_model:
            check_refit(plan.run_folder(run))
    for name in records.BESIDE_RUNS:
        table = plan.folder / name
        record = table.with_suffix(".json")
        if not record.exists() or plan.preparation.split != "grouped":
            continue
        of, before = (_pictures_of(each / record.name) for each in (plan.folder, paths.PUBLISHED))
        if before not in ("", of):
            print(
                f"{name} is left as it is: the published one is of {before}, this one of {of}. Remove that one first.",
                file=sys.stderr,
            )
            continue
        _copy(records.verified(table), paths.PUBLISHED)
        _copy(record, paths.PUBLISHED)
    for run in plan.runs:
        source, target = plan.run_folder(run), plan.published_folder(run)
        for name in (*([records.LITERT_MODEL] if plan.publish_model else []), *PUBLISHED_FILES):
            if (source / name).exists():
                _copy(records.verified(source / name), (target / name).parent)
            else:  # of an earlier training
                (target / name).unlink(missing_ok=True)
        if plan.publish_model:
            publish_refit(source / records.REFIT, target)
            from lib.evaluation import card  # pandas, which no other command here needs

            records.write_text(target / records.MODEL_CARD, card.model_card(target))
            records.write_json(paths.PUBLISHED / records.DEFAULT, {"run": run})
        print(paths.shown(target))


def _pictures_of(record: Path) -> str:
    """Say of which prepared pictures a table beside the runs is; empty where there is none."""
    return records.read_record(record).get("data_name", "other pictures") if record.exists() else ""


def publish_refit(refit: Path, target: Path) -> None:
    """Put the network that was trained once more in place of the run's, and say so in its record."""
    if not (refit / records.RUN_RECORD).exists():
        return
    record, of_refit = records.read_record(target / records.RUN_RECORD), records.read_run(refit)
    _copy(records.verified(refit / records.LITERT_MODEL), target)
    kept = {name: of_refit[name] for name in ("recipe", "epochs", "seconds", "train_pictures", "refit_of")}
    if (refit / records.METRICS_RECORD).exists():
        kept["scores"] = records.read_metrics(refit)
    files = record.pop("files", {}) | {records.LITERT_MODEL: of_refit["model_sha256"]}
    record |= {"model_sha256": of_refit["model_sha256"], "refit": kept}
    records.write_record(target / records.RUN_RECORD, record, files)


def _copy(file: Path, folder: Path) -> None:
    with records.atomic_write(folder / file.name) as temporary:
        shutil.copyfile(file, temporary)


# ---------------------------------------------------------------- commands


def print_plan(plan: Plan) -> None:
    """Write the requests and print the fragment of a makefile."""
    for goal, (variable, message) in NEEDED.items():
        if goal in _goals() and not os.environ.get(variable, "").strip():
            raise UserError(message)
    is_run_given = "RUN" in os.environ.get("GIVEN", "").split() and _run_of_interest()
    if is_run_given and _goals() & FOR_RUNS and not _goals() & {"report", "explore"}:
        raise UserError("RUN belongs to `make report` and `make explore`. Runs to be made are named in RUNS.")
    for goal, variables in OWN_RECIPE.items():
        given = [name for name in variables if os.environ.get(name, "").strip()]
        if goal in _goals() and not _goals() & FOR_RUNS and given:
            raise UserError(
                f"{given[0]} does not belong to `make {goal}`, which has a recipe of its own. Leave it out."
            )
    write_requests(plan, _goals())
    if "unknown" in _goals():
        _with_class_map(plan)
    print(makefile(plan), end="")


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
            _begin(folder, _code_of_training(plan))
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
        _run_notebook("04_compare", plan.folder / "compare.ipynb", parameters)
    print(f"\nThe rest, with figures, is in {paths.shown(plan.folder / 'compare.ipynb')} (`make lab` opens it).")


def _with_class_map(plan: Plan) -> Run:
    """Give the run of `unknown`, the one with a class map."""
    found = [run for run in plan.runs.values() if run.recipe.class_map]
    if len(found) != 1:
        listed = ", ".join(plan.runs)
        raise UserError(f"`make unknown` needs one run with a class map in RUNS, such as springfield, not {listed}.")
    return found[0]


def unknown(plan: Plan) -> None:
    """Leave characters out of a training, and compare the scores that tell them from known ones."""
    run = _with_class_map(plan)
    with records.lock(plan.folder / "unknown"):
        parameters = {"data_name": plan.data_name, "outputs": plan.outputs}
        parameters |= {"recipe": run.recipe_name, "overrides": run.overrides}
        _begin(plan.folder / "unknown", _code_of_training(plan))
        _run_notebook("07_unknown", plan.folder / "unknown.ipynb", parameters)


def write_study(plan: Plan) -> None:
    """Execute what make has not, on the published records, and write the executed copies of all notebooks."""
    from lib import copies

    for name, parameters in (("04_compare", {"data_name": PUBLISHED}), ("predict", {})):
        print(f"Executing {name}", file=sys.stderr, flush=True)
        _run_notebook(name, copies.EXECUTED[name], parameters)
    for path in copies.write():
        print(f"{paths.shown(path)}: {path.stat().st_size:,} bytes")


def review(plan: Plan) -> None:
    """Open the label review, while networks answer every frame out of fold in the background."""
    from lib.data import dataset, folds  # scikit-learn, without which the other steps start sooner

    command = [sys.executable, "-m", "lib.training.folds", plan.data_name, plan.recipe_name("springfield-short")]
    data = dataset.load(plan.prepared)
    try:
        folds.parts(data)
    except UserError as problem:
        print(problem, file=sys.stderr)
        return _serve("06_review", plan, CORRECTIONS_FILE=plan.corrections)
    with records.lock(folds.folder(plan.data_name)):  # which the networks take again
        for number in range(folds.FOLDS):
            _begin(folds.folder(plan.data_name) / f"fold-{number}", _code_of_training(plan))
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
    open_explorer(plan.data_name, plan.raw_name, plan.outputs, _run_of_interest())
    _serve("explore", plan, OUTPUTS=plan.outputs, RUN=_run_of_interest())


def _serve(stem: str, plan: Plan, **names: str) -> None:
    """Serve a notebook as a page on PORT."""
    from lib.study import serve

    names |= {"DATA_NAME": plan.data_name, "RAW_NAME": plan.raw_name}
    serve.page(paths.NOTEBOOKS / f"{stem}.ipynb", os.environ.get("PORT", ""), names)


def open_reports(plan: Plan) -> None:
    """Show the executed notebooks of the run named in RUN as web pages."""
    from lib import report

    for page in report.write_pages(plan.run_folder(_run_of_interest() or next(iter(plan.runs)))):
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


def _goals() -> set[str]:
    return set(os.environ.get("GOALS", "").split())


def _run_of_interest() -> str:
    return os.environ.get("RUN", "").strip()


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

    def command(options: argparse.Namespace) -> None:
        plan = make_plan(os.environ)  # names every mistake in the variables
        if options.command in STEPS:
            if options.run not in plan.runs and options.command != "prepare":
                raise UserError(f"There is no run {options.run!r} in RUNS. Known: {', '.join(plan.runs)}.")
            _run_step(STEPS[options.command], plan, options.run)
        elif options.command in programs():
            # It gets signals and the terminal in place of this process.
            os.execv(sys.executable, [sys.executable, "-m", *programs()[options.command]])
        else:
            COMMANDS[options.command](plan)

    return machine.run_command(parser, command, arguments)


if __name__ == "__main__":
    sys.exit(main())
