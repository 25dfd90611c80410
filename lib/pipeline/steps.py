"""The steps of the study: each is one executed notebook, which runs only where what decides its product has changed."""

import contextlib
import dataclasses
import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib import machine, paths, records, tracking
from lib.data import sources
from lib.data.preparation import MANIFEST, SETTINGS
from lib.pipeline import inputs
from lib.pipeline.plan import Plan, backend

BEGUN = "begun.json"  # code and pictures that a training was begun with
MAX_LETTERS = 300  # of the reasons that a step gives for running again


@dataclasses.dataclass(frozen=True)
class Step:
    """One notebook of the pipeline."""

    name: str  # as make calls it
    stem: str  # of the notebook
    doing: str  # what a user reads that it does
    last: str  # the file that it writes last, its product
    beside: tuple[str, ...]  # other files that it writes and that decide what follows
    parameters: tuple[str, ...]  # names of the values that it is given
    data: Callable[[Plan, str], dict[str, str]]  # digests of what it reads for a run, by name

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

    def run(self, plan: Plan, run: str = "") -> None:
        """Run the step, unless its product was made from the same code, parameters and data."""
        product = self.product(plan, run)
        with records.lock(product.parent):
            now = self.made_from(plan, run)
            why = inputs.changed(product, now, self.beside)
            if not why:
                product.touch()
                return
            mlflow = tracking.wanted()
            reasons = textwrap.shorten(", ".join(why), MAX_LETTERS, placeholder=" …")
            again = "" if why == [inputs.MISSING] else f" again: {reasons}"
            is_training = self.name == "train"
            slot = machine.training_slot(paths.ROOT / plan.outputs) if is_training else contextlib.nullcontext({})
            with slot as limits:
                os.environ |= limits
                print(f"{self.doing} {run or plan.data_name}{again}", file=sys.stderr, flush=True)
                if is_training:
                    begin(product.parent, {name: value for name, value in now.items() if name != "parameters"})
                self.execute(plan, run)
            inputs.write(product, now, self.beside)
            if mlflow and run:
                tracking.send(mlflow, product.parent, plan.data_name)

    def is_stale(self, plan: Plan, run: str) -> bool:
        """Say whether the step would run."""
        try:
            return bool(inputs.changed(self.product(plan, run), self.made_from(plan, run), self.beside))
        except FileNotFoundError:  # the product of the step before
            return True

    def execute(self, plan: Plan, run: str) -> None:
        """Run the notebook."""
        executed = self.product(plan, run).with_name(f"{self.name}.ipynb")
        run_notebook(self.stem, executed, self._values(plan, run))

    def _values(self, plan: Plan, run: str) -> dict[str, Any]:
        values = {"source": plan.source, "raw_name": plan.raw_name, "data_name": plan.data_name, "run": run}
        values |= {"settings": plan.preparation.model_dump(), "corrected_labels": plan.corrections}
        values["outputs"] = plan.outputs
        if run in plan.runs:
            values |= {"recipe": plan.runs[run].recipe_name, "overrides": plan.runs[run].overrides}
        return {name: values[name] for name in self.parameters}


def run_notebook(stem: str, product: Path, parameters: dict[str, Any]) -> None:
    """Run a notebook of the study as `lib.notebooks` does."""
    from lib import notebooks  # papermill, which a step that is up to date does not need

    notebooks.run(paths.NOTEBOOKS / f"{stem}.ipynb", product, parameters)


def corrections_digest(plan: Plan) -> dict[str, str]:
    """Give the digest of the corrected labels, by the name of that input; nothing where there are none."""
    return {"corrections": records.file_sha256(Path(plan.corrections))} if plan.corrections else {}


def _source_digest(plan: Plan, run: str) -> dict[str, str]:
    return {"source": sources.record_of(plan.raw).get("pictures_sha256", "")} | corrections_digest(plan)


def _pictures_digests(plan: Plan, run: str) -> dict[str, str]:
    return records.digests(plan.prepared, MANIFEST, SETTINGS)


def _run_digest(plan: Plan, run: str) -> dict[str, str]:
    return {"run": records.file_sha256(plan.run_folder(run) / records.RUN_RECORD)}


_OF_RUN = ("data_name", "run", "outputs")
_STEPS = (
    Step(
        name="prepare",
        stem="01_prepare",
        doing="Preparing",
        last=MANIFEST,
        beside=(SETTINGS,),
        parameters=("source", "raw_name", "data_name", "settings", "corrected_labels"),
        data=_source_digest,
    ),
    Step(
        name="train",
        stem="02_train",
        doing="Training",
        last=records.RUN_RECORD,
        beside=(records.LITERT_MODEL,),
        parameters=(*_OF_RUN, "recipe", "overrides"),
        data=_pictures_digests,
    ),
    Step(
        name="evaluate",
        stem="03_evaluate",
        doing="Evaluating",
        last=records.METRICS_RECORD,
        beside=(records.PREDICTIONS, records.PER_CHARACTER, records.CONFUSION),
        parameters=_OF_RUN,
        data=_run_digest,
    ),
    Step(
        name="robustness",
        stem="05_robustness",
        doing="Corrupting test pictures for",
        last=records.ROBUSTNESS,
        beside=(records.STRANGERS,),
        parameters=(*_OF_RUN, "raw_name"),
        data=_run_digest,
    ),
)
STEPS = {step.name: step for step in _STEPS}


def begin(folder: Path, code: dict[str, Any]) -> None:
    """Note what a training is begun with; one that was begun with other code does not go on."""
    state, begun = folder / records.TRAINING_STATE, folder / BEGUN
    if state.exists() and begun.exists() and records.read_json(begun) != code:
        print("The code or the pictures changed since this training began; it starts afresh.", file=sys.stderr)
        state.unlink()
    records.write_if_changed(begun, code)


def code_of_training(plan: Plan) -> dict[str, Any]:
    """Give digests of what decides a training outside of 02_train on these pictures, beside its recipe."""
    more = ("training/fit", "training/refit", "training/folds", "data/folds", "data/leave_out")
    more = [paths.ROOT / "lib" / f"{name}.py" for name in more]
    return inputs.code_digests(STEPS["train"].notebook, *more) | backend() | _pictures_digests(plan, "")
