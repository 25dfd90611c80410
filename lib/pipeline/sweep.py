"""The search for a good recipe that `make sweep` calls; needs `cluster`.

Each trial is an ordinary run of a changed recipe, as `make train SET="…"` makes it, on a Dask cluster. Optuna proposes
the changes and keeps a journal, so that a killed sweep goes on. Trials are trained and not evaluated: only the scores
on validation choose.
"""

import itertools
import os
import shlex
import typing
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import yaml
from matplotlib import pyplot
from pydantic import Field

from lib import machine, paths, records, scheduler
from lib.errors import UserError, import_extra
from lib.evaluation import plots
from lib.pipeline import cluster, inputs
from lib.pipeline.plan import VARIABLES, Plan, backend, make_plan
from lib.settings import Settings
from lib.training.recipe import Recipe

optuna = import_extra("optuna", "cluster")
TrialState = optuna.trial.TrialState

JOURNAL, TABLE, FIGURE, BEST = "journal.log", "trials.csv", "trials.png", "best.yaml"
SCORE = "validation macro F1"
DIGITS = 4  # of a proposed number: the name of the run has them
WARM_UP = 0.25  # fraction of the epochs in which no trial is stopped


class Sweep(Settings):
    """What a sweep tries."""

    recipe: str = Field(description="name of the recipe that is changed")
    method: Literal["grid", "random", "optuna"] = Field("optuna", description="how values are proposed")
    trials: int = Field(20, ge=1, le=100_000, description="number of trials; grid tries every combination")
    prune: bool = Field(False, description="stop a trial that is worse than the median at the same epoch")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="decides the proposals")
    parameters: dict = Field(description="values, or low and high, of each parameter")


def distribution_of(name: str, given: Any) -> "optuna.distributions.BaseDistribution":
    """Read what a sweep says of one parameter of the recipe.

    Args:
        name: That of the parameter.
        given: A list of values; or `low`, `high` and `log`, of which those that are missing are the recipe's limits and
            false; or None for all that the recipe allows.

    Returns:
        A distribution of Optuna: of whole or other numbers between two ends, else of values.

    Raises:
        UserError: The recipe has no such parameter, or what is given is none of these.
    """
    if name not in Recipe.model_fields:
        Recipe.check({"network": "cnn", name: given}, {name: "parameters"})  # says which name is near
    annotation = Recipe.model_fields[name].annotation
    choices = [False, True] if annotation is bool else list(typing.get_args(annotation))
    if given is None:
        given = choices or {}
    reason = ""
    try:
        if isinstance(given, list) and given:
            return optuna.distributions.CategoricalDistribution(given)
        if isinstance(given, dict) and not choices and isinstance(given.get("log", False), bool):
            low, high = Recipe.limits(name)
            kind = "IntDistribution" if annotation is int else "FloatDistribution"
            return getattr(optuna.distributions, kind)(**{"low": low, "high": high} | given)
    except (TypeError, ValueError) as problem:
        reason = f": {problem}"
    raise UserError(
        f"parameters: `{name}` must have a list of values, such as [1, 2], or `low` and `high` of numbers, with "
        f"`log: true` where wanted; each value must be {Recipe.allowed(name)}. Received: {given!r}{reason}"
    )


class Search:
    """A sweep at work, by its file and the variables of make.

    Raises:
        UserError: The file is no sweep, or names values that the recipe does not allow.
    """

    def __init__(self, path: Path, variables: dict[str, str]):
        given = records.read_yaml(path)
        self._sweep = Sweep.check(given, dict.fromkeys(Sweep.model_fields | given, path.name))
        self._variables, self._name, self._space = variables, path.stem, {}
        self._base = self._plan({})
        if len(self._base.runs) != 1:
            raise UserError(f"{path.name}: `recipe` must be the name of one recipe, not {self._sweep.recipe!r}.")
        for name, given in self._sweep.parameters.items():
            found = distribution_of(str(name), given)
            ends = [given[end] for end in ("low", "high") if isinstance(given, dict) and end in given]
            for value in getattr(found, "choices", ends):
                self._plan({name: value})
            self._space[name] = found
        ranges = [name for name, found in self._space.items() if not hasattr(found, "choices")]
        if not self._space or (self._sweep.method == "grid" and ranges):
            raise UserError(
                f"{path.name}: `parameters` must hold what to try, such as `learning_rate: [0.001, 0.01]`; a grid "
                f"needs a list of values for each, not a range as for {', '.join(ranges) or 'none'}."
            )
        self.folder = self._base.folder / "sweeps" / self._name
        self._trials: dict[str, Any] = {}  # by run
        self._errors: list[str] = []

    def _as_text(self, name: str, value: Any) -> str:
        """Write a value as `SET` takes it; a drawn number with few digits, since its run is named after it."""
        is_drawn = isinstance(value, float) and hasattr(self._space.get(name), "low")
        text = f"{value:.{DIGITS}g}" if is_drawn else str(value)
        return text.lower() if isinstance(value, bool) else text

    def _variables_of(self, values: dict[str, Any]) -> dict[str, str]:
        """Give the variables of make that make the run of a trial."""
        given = (f"{name}={self._as_text(name, value)}" for name, value in values.items())
        changes = [self._variables.get("SET", ""), *given]
        return self._variables | {"RUNS": self._sweep.recipe, "SET": " ".join(filter(None, changes))}

    def _plan(self, values: dict[str, Any]) -> Plan:
        return make_plan(self._variables_of(values))

    def run(self) -> list[str]:
        """Run all trials, or those that an earlier call left; returns the errors of those that failed.

        Raises:
            UserError: The cluster cannot be used.
        """
        address = self._base.cluster or scheduler.LOCAL
        with records.lock(self.folder):
            self._open_study()
            with scheduler.connect(address, machine.trainings_at_once(self._sweep.trials)) as client:
                needed = [self._base.prepared]
                for job, end, error in cluster.run(client, self._base.folder, needed, self._jobs(), self._stop):
                    if end == cluster.DONE:
                        self._study.tell(self._trials[job.run], records.read_run(job.folder)["best_val_macro_f1"])
                    elif end == cluster.FAILED:  # the trial stays unfinished, and the next call tries it again
                        self._errors.append(error)
            self._write()
        return self._errors

    def _open_study(self) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.filterwarnings("ignore", "The reported value is ignored")  # of a run that starts over
        self.folder.mkdir(parents=True, exist_ok=True)
        journal = self.folder / JOURNAL
        if journal.is_file():  # Optuna would write on behind a line that a full disk or a crash has cut
            os.truncate(journal, journal.read_bytes().rfind(b"\n") + 1)
        (run,) = self._base.runs.values()
        # Trials of another sweep, recipe, set of pictures or code under this name are a study of their own.
        pictures = records.digests(self._base.prepared, "manifest.csv")
        code = inputs.code_digests(paths.NOTEBOOKS / "02_train.ipynb") | backend()
        asked = [self._sweep.model_dump(), run.recipe.model_dump(), pictures, code]
        pruner = optuna.pruners.MedianPruner(n_warmup_steps=int(WARM_UP * run.recipe.epochs))
        try:
            self._study = optuna.create_study(
                storage=optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal))),
                study_name=records.digest(asked),
                direction="maximize",
                load_if_exists=True,
                pruner=pruner if self._sweep.prune else optuna.pruners.NopPruner(),
            )
        except OSError:
            raise
        except Exception as problem:  # Optuna raises many kinds for damaged lines
            raise UserError(f"{journal} is damaged ({problem!r}). Move it away; the sweep then starts anew.") from None
        # A seed of its own for each call: the same one would propose the same values again.
        seed = (self._sweep.seed + len(self._study.trials)) % 2**32
        proposing = optuna.samplers.TPESampler if self._sweep.method == "optuna" else optuna.samplers.RandomSampler
        self._study.sampler = proposing(seed=seed)

    def _jobs(self) -> Iterator[cluster.Job]:
        """Yield the job of each trial: first those that an earlier call left unfinished."""
        running = self._study.get_trials(states=[TrialState.RUNNING])
        left = [optuna.trial.Trial(self._study, trial._trial_id) for trial in running]
        ended = self._study.get_trials(states=[TrialState.COMPLETE, TrialState.PRUNED])
        self._trials = {trial.user_attrs["run"]: trial for trial in ended}
        for trial in itertools.chain(left, self._new_trials()):
            # As `ask` does, but also for a trial that was killed before it had all of its values.
            values = {name: trial._suggest(name, found) for name, found in self._space.items()}
            try:
                plan = self._plan(values)
                (run,) = plan.runs
            except UserError as problem:  # values that the recipe does not allow together
                self._errors.append(f"trial {trial.number}: {problem}")
                run = None
            if run is None or run in self._trials:  # the same values once more would give the same score
                self._study.tell(trial, state=TrialState.FAIL)
                continue
            trial.set_user_attr("run", run)
            self._trials[run] = trial
            plan.write_recipes()
            yield cluster.Job(run, ("train",), plan.run_folder(run), self._variables_of(values), plan.elsewhere)

    def _new_trials(self) -> Iterator["optuna.trial.Trial"]:
        if self._sweep.method == "grid":
            noted = {trial.number: trial.system_attrs["fixed_params"] for trial in self._study.trials}
            waiting = [trial.number for trial in self._study.get_trials(states=[TrialState.WAITING])]
            for choices in itertools.product(*(found.choices for found in self._space.values())):
                values = dict(zip(self._space, choices, strict=True))
                if values not in noted.values():  # Optuna's own check takes seeds above 100,000 for their neighbours
                    self._study.enqueue_trial(values)
                elif not any(noted[number] == values for number in waiting):
                    continue
                yield self._study.ask()
            return
        while len(self._study.trials) < self._sweep.trials:
            yield self._study.ask()

    def _stop(self, job: cluster.Job, epoch: int, score: float) -> bool:
        trial = self._trials[job.run]
        trial.report(score, epoch)
        if is_worse := trial.should_prune():
            self._study.tell(trial, state=TrialState.PRUNED)
        return is_worse

    def _write(self) -> None:
        """Write and print the table of the trials, and write their figure and the best recipe."""
        tried = [
            {
                "run": trial.user_attrs["run"],
                "state": trial.state.name.lower() if trial.state.is_finished() else "fail",
                "epochs": len(trial.intermediate_values),
                SCORE: trial.value,
            }
            | trial.params
            for trial in self._study.trials
            if "run" in trial.user_attrs
        ]
        table = pd.DataFrame(tried, columns=["run", "state", "epochs", SCORE, *self._space])
        table = table.sort_values(SCORE, ascending=False, kind="stable")
        records.write_csv(self.folder / TABLE, table)
        print(table.to_string(index=False, float_format=lambda value: f"{value:.{DIGITS}g}", na_rep=""))
        if table[SCORE].isna().all():
            return
        with warnings.catch_warnings():
            # Optuna calls the function experimental, and matplotlib widens an axis of one value.
            warnings.simplefilter("ignore")
            axes = optuna.visualization.matplotlib.plot_slice(self._study, target_name=SCORE)
        figure = np.ravel(axes)[0].figure
        figure.suptitle(f"{self._name}: trials by parameter")
        plots.save(figure, self.folder / FIGURE)
        pyplot.close(figure)  # Optuna makes it with pyplot, which keeps it
        best = self._study.best_trial
        (run,) = self._plan(best.params).runs.values()
        given = {name: value for name, value in self._variables_of(best.params).items() if name in VARIABLES and value}
        lines = [
            f"# The best of {len(tried)} trials by {SCORE}, {best.value:.3f}. Test pictures had no part in the choice.",
            f"#   make evaluate {' '.join(f'{name}={shlex.quote(value)}' for name, value in given.items())}",
            yaml.safe_dump({"extends": run.recipe_name} | run.overrides, sort_keys=False),
        ]
        records.write_text(self.folder / BEST, "\n".join(lines))
        print(f"\nThe best recipe is {self.folder / BEST}, the figure {self.folder / FIGURE}.")
