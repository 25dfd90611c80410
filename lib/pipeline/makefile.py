"""What make reads: names and dependencies that are computed, and what is asked for, in files beside the products."""

import os
import time

from lib import paths, records
from lib.data import sources
from lib.errors import UserError
from lib.pipeline import inputs, publishing
from lib.pipeline.plan import PUBLISHED, Plan, goals, run_of_interest
from lib.pipeline.steps import STEPS, corrections_digest

REQUEST = "request.json"
SUMMARISED = "summary.json"  # which runs the printed table is of
# Goals that need a variable, and what is said where it is missing.
NEEDED = {
    "predict": ("IMAGE", "Say which picture, for example `make predict IMAGE=homer.jpg`."),
    "sweep": ("SWEEP", "Say what to try, for example `make sweep SWEEP=notebooks/params/sweeps/lr.yaml`."),
}
OWN_RECIPE = {"sweep": ("RUNS",), "review": ("RUNS", "SET", "EPOCHS")}  # goals, and what is not for them
FOR_PICTURES = {"data", "sweep", "unknown", "review"}  # the goals that make something of pictures alone
FOR_RUNS = {"train", "evaluate", "robustness", "refit", "publish"}  # and of the runs in RUNS


def makefile(plan: Plan) -> str:
    """Write the names and the dependencies that are computed, as definitions of make."""
    stale = plan.raw.exists() and sources.is_stale(plan.source, plan.raw)
    definitions = {
        "SOURCE_CHANGED": "FORCE" if stale else "",
        "RAW": paths.shown(plan.raw),
        "PREPARED": paths.shown(plan.prepared),
        "RUNS_DIR": paths.shown(plan.folder),
        "RUN_NAMES": " ".join(plan.runs),
    }
    for step in STEPS.values():
        needed = [step.notebook, *inputs.files(step.notebook)]
        definitions[f"{step.name.upper()}_CODE"] = " ".join(map(paths.shown, needed))
    return "".join(f"{name} := {value}\n" for name, value in definitions.items())


def write_requests(plan: Plan, wanted: set[str]) -> None:
    """Write what is asked for beside each product, where it changed: make compares their times with the products'.

    Raises:
        UserError: There is no such source, or the goals cannot be reached with it.
    """
    making = wanted & (FOR_PICTURES | FOR_RUNS)
    if plan.raw_name == PUBLISHED and (making or wanted & {"clean", "report", "explore"}):
        raise UserError(
            f"DATA={plan.source} has the name of the committed records, which only `make compare` reads; docs/study/ "
            "has executed reports. Rename an archive or folder of yours that has this name."
        )
    if "review" in wanted and plan.preparation.split == "resampled":
        raise UserError(
            "SPLIT=resampled has pictures several times. Review with SPLIT=grouped; its verdicts are about both."
        )
    if wanted & FOR_RUNS:
        plan.check_size()
    if "publish" in wanted:
        publishing.check(plan)
    if not making:
        return
    if not (plan.raw / sources.RECORD).exists():
        try:
            sources.check(plan.source)
        except UserError as problem:
            raise UserError(f"DATA: {problem}") from None
    _age_what_make_did_not_finish(plan)
    request = {"source": plan.source} | plan.preparation.model_dump() | corrections_digest(plan)
    records.write_if_changed(plan.prepared / REQUEST, request)
    if wanted & FOR_RUNS:
        plan.write_recipes()
    if "evaluate" in wanted:
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


def print_plan(plan: Plan) -> None:
    """Write the requests and print the fragment of a makefile."""
    wanted = goals()
    for goal, (variable, message) in NEEDED.items():
        if goal in wanted and not os.environ.get(variable, "").strip():
            raise UserError(message)
    is_run_given = "RUN" in os.environ.get("GIVEN", "").split() and run_of_interest()
    if is_run_given and wanted & FOR_RUNS and not wanted & {"report", "explore"}:
        raise UserError("RUN belongs to `make report` and `make explore`. Runs to be made are named in RUNS.")
    for goal, variables in OWN_RECIPE.items():
        given = [name for name in variables if os.environ.get(name, "").strip()]
        if goal in wanted and not wanted & FOR_RUNS and given:
            raise UserError(
                f"{given[0]} does not belong to `make {goal}`, which has a recipe of its own. Leave it out."
            )
    write_requests(plan, wanted)
    if "unknown" in wanted:
        plan.run_with_class_map()
    print(makefile(plan), end="")
