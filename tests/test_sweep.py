"""Sweeps: what is tried, what is chosen, and what a killed one does. Trainings are replaced by a formula here."""

import contextlib
import json
import math
import shlex
from typing import ClassVar

import optuna
import pandas as pd
import pytest
import yaml

from lib import paths, records, scheduler
from lib.errors import UserError
from lib.pipeline import cluster, sweep
from lib.pipeline.plan import make_plan
from lib.training.recipe import Recipe


class Killed(Exception):
    """In place of a kill."""


class Formula:
    """In place of trainings: the best rate is 0.001. On the test split, which must not choose, it is the worst."""

    fail = ""  # part of the name of a run that fails
    kill_after = math.inf

    started: ClassVar[list[str]] = []

    @staticmethod
    def run(client, folder, needed, jobs, stop):
        Formula.started = []
        for job in jobs:
            Formula.started.append(job.run)
            if len(Formula.started) > Formula.kill_after:
                raise Killed
            if Formula.fail and Formula.fail in job.run:
                yield job, cluster.FAILED, f"{job.run}: failed"
                continue
            recipe = json.loads((job.folder / "recipe.json").read_text())
            score = 1 / (1 + abs(math.log10(recipe["learning_rate"] / 0.001)))
            if any(stop(job, epoch, score * epoch / 4) for epoch in range(1, 5)):
                yield job, cluster.STOPPED, ""
                continue
            record = {"format_version": 2, "finished": True, "best_val_macro_f1": score}
            records.write_json(job.folder / "run.json", record)
            records.write_json(job.folder / "metrics.json", {"macro_f1": 1 - score})
            yield job, cluster.DONE, ""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a sweep; gives the table of its trials, by run."""
    monkeypatch.setattr(paths, "PROCESSED", tmp_path / "processed")
    monkeypatch.setattr(scheduler, "connect", lambda *arguments: contextlib.nullcontext())
    monkeypatch.setattr(cluster, "run", Formula.run)
    monkeypatch.setattr(Formula, "fail", "")
    monkeypatch.setattr(Formula, "kill_after", math.inf)
    (tmp_path / "processed" / "sample").mkdir(parents=True)
    (tmp_path / "processed" / "sample" / "manifest.csv").write_text("")

    def search(errors=(), **given):
        (tmp_path / "rates.yaml").write_text(yaml.safe_dump({"recipe": "cnn4"} | given, sort_keys=False))
        found = sweep.Search(tmp_path / "rates.yaml", {"OUTPUTS": str(tmp_path / "out"), "EPOCHS": "4"})
        assert found.run() == list(errors)
        return pd.read_csv(found.folder / "trials.csv").set_index("run")

    search.folder = tmp_path / "out" / "sample" / "sweeps" / "rates"
    return search


RATES = [0.0001, 0.001, 0.01]


def test_a_grid_tries_every_combination_once(run):
    table = run(method="grid", parameters={"learning_rate": RATES, "flip": [True, False]})
    assert len(table) == 3 * 2
    assert set(table.state) == {"complete"}
    assert "cnn4-learning_rate-0.001-flip-false" in table.index


def test_validation_chooses_and_the_test_split_does_not(run):
    table = run(method="grid", parameters={"learning_rate": RATES})
    assert table["validation macro F1"].idxmax() == "cnn4-learning_rate-0.001"
    tested = {
        p.parent.name: json.loads(p.read_text())["macro_f1"] for p in run.folder.parents[1].glob("*/metrics.json")
    }
    assert min(tested, key=tested.get) == "cnn4-learning_rate-0.001"
    best = yaml.safe_load((run.folder / "best.yaml").read_text())
    assert best == {"extends": "sample/cnn4", "learning_rate": 0.001, "epochs": 4}


def test_the_command_beside_the_best_recipe_makes_the_run_of_that_trial_and_no_other(run):
    run(method="grid", parameters={"learning_rate": RATES, "flip": [True, False]})
    _, command, *_ = (run.folder / "best.yaml").read_text().splitlines()
    _, make, goal, *variables = shlex.split(command)
    assert (make, goal) == ("make", "evaluate")
    plan = make_plan(dict(variable.split("=", 1) for variable in variables))
    ((name, made),) = plan.runs.items()
    assert name == "cnn4-learning_rate-0.001-flip-true"
    assert plan.run_folder(name) == run.folder.parents[1] / name
    assert json.loads((plan.run_folder(name) / "recipe.json").read_text()) == made.recipe.model_dump()


def test_a_trial_is_an_ordinary_run(run):
    run(method="grid", parameters={"learning_rate": RATES[:1]})
    command = {"RUNS": "cnn4", "SET": "learning_rate=0.0001", "EPOCHS": "4"}
    (name, made), *_ = make_plan(command).runs.items()
    assert json.loads((run.folder.parents[1] / name / "recipe.json").read_text()) == made.recipe.model_dump()


@pytest.mark.parametrize("method", ["random", "optuna"])
def test_values_are_drawn_between_the_ends_and_the_same_run_is_not_made_twice(run, method):
    parameters = {"learning_rate": {"low": 0.0001, "high": 0.01, "log": True}, "conv_layers": None}
    table = run(method=method, trials=12, parameters=parameters)
    assert len(Formula.started) == len(set(Formula.started)) == len(table) <= 12
    assert table.learning_rate.between(0.0001, 0.01).all()
    assert set(table.conv_layers) <= {4, 6}


def test_a_killed_sweep_goes_on_with_the_trial_that_it_left(run, monkeypatch):
    parameters = {"learning_rate": {"low": 0.0001, "high": 0.01, "log": True}}
    monkeypatch.setattr(Formula, "kill_after", 2)
    with pytest.raises(Killed):
        run(method="random", trials=5, parameters=parameters)
    left = Formula.started[-1]
    monkeypatch.setattr(Formula, "kill_after", math.inf)
    table = run(method="random", trials=5, parameters=parameters)
    assert Formula.started[0] == left
    assert len(Formula.started) == 3
    assert (len(table), set(table.state)) == (5, {"complete"})


def test_neighbouring_large_seeds_are_combinations_of_their_own(run):
    seeds = [20260101, 20260102, 20260103]
    assert sorted(run(method="grid", parameters={"seed": seeds}).seed) == seeds


def test_a_grid_trial_that_was_killed_before_it_had_a_name_is_tried(run, monkeypatch):
    ask = optuna.Study.ask

    def killed(*arguments):
        ask(*arguments)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "ask", killed)
        with pytest.raises(Killed):
            run(method="grid", parameters={"learning_rate": RATES})
    table = run(method="grid", parameters={"learning_rate": RATES})
    assert sorted(table.learning_rate) == RATES
    assert set(table.state) == {"complete"}


def test_bad_trials_are_stopped_early(run):
    # In order: the median pruner compares with the five trials before.
    rates = [0.001, 0.0011, 0.0012, 0.0013, 0.0014, 0.9]
    table = run(method="grid", prune=True, parameters={"learning_rate": rates})
    assert table.state["cnn4-learning_rate-0.9"] == "pruned"
    assert table.epochs["cnn4-learning_rate-0.9"] < 4
    assert (table.state.drop("cnn4-learning_rate-0.9") == "complete").all()


def test_a_failed_trial_stops_no_other_and_the_same_command_tries_it_again(run, monkeypatch):
    monkeypatch.setattr(Formula, "fail", "0.01")
    table = run(method="grid", parameters={"learning_rate": RATES}, errors=["cnn4-learning_rate-0.01: failed"])
    assert table.state.to_dict() == {
        "cnn4-learning_rate-0.001": "complete",
        "cnn4-learning_rate-0.0001": "complete",
        "cnn4-learning_rate-0.01": "fail",
    }
    monkeypatch.setattr(Formula, "fail", "")
    table = run(method="grid", parameters={"learning_rate": RATES})
    assert Formula.started == ["cnn4-learning_rate-0.01"]
    assert (len(table), set(table.state)) == (3, {"complete"})


def test_a_sweep_goes_on_with_a_journal_whose_last_line_was_cut(run):
    given = {"method": "random", "trials": 2, "parameters": {"learning_rate": {"low": 0.001, "high": 0.01}}}
    before = run(**given)
    journal = run.folder / "journal.log"
    journal.write_bytes(journal.read_bytes()[:-20])
    for _ in range(2):
        pd.testing.assert_frame_equal(run(**given), before)


def test_a_journal_that_is_damaged_inside_is_named(run):
    given = {"method": "random", "trials": 2, "parameters": {"learning_rate": {"low": 0.001, "high": 0.01}}}
    run(**given)
    journal = run.folder / "journal.log"
    whole = journal.read_text()
    for damaged in (whole.replace("{", "[", 1), whole.replace("op_code", "op_kode", 1), f"{whole}\0\n"):
        journal.write_text(damaged)
        with pytest.raises(UserError, match=r"journal\.log is damaged \(.*\)\. Move it away; the sweep then"):
            run(**given)


def test_another_sweep_of_the_same_name_is_not_mixed_in(run):
    run(method="grid", parameters={"learning_rate": RATES})
    table = run(method="grid", parameters={"learning_rate": RATES[:1]})
    assert list(table.index) == ["cnn4-learning_rate-0.0001"]
    assert len(run(method="grid", parameters={"learning_rate": RATES})) == 3


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"learning_rte": [0.1]}, "parameters: there is no parameter `learning_rte`. Did you mean learning_rate?"),
        ({"learning_rate": [3.0]}, "SET: `learning_rate` must be a number from 1e-08 to 1, not 3."),
        ({"learning_rate": {"low": 0.1, "high": 0.01}}, "`learning_rate` must have a list of values"),
        ({"learning_rate": {"lo": 0.1}}, "got an unexpected keyword argument 'lo'"),
        ({"learning_rate": {"high": 3}}, "SET: `learning_rate` must be a number from 1e-08 to 1, not 3."),
        ({"batch_size": {"low": 16.5}}, "SET: `batch_size` must be a whole number from 1 to 65536, not 16.5."),
        ({"batch_size": {"low": "few"}}, "`batch_size` must have a list of values"),
        ({"learning_rate": 0.1}, "parameters: `learning_rate` must have a list of values, such as [1, 2], or `low`"),
        ({"learning_rate": []}, "parameters: `learning_rate` must have a list of values"),
        ({"dropout": {"low": 0.1, "high": 0.5, "log": "false"}}, "parameters: `dropout` must have a list of values"),
        ({"network": {"low": 1}}, "parameters: `network` must have a list of values"),
        ({"dropout": {"log": True}}, "`low > 0` must hold for `log=True`"),
        ({7: [1]}, "parameters: there is no parameter `7`."),
        ({"dropout": None}, "a grid needs a list of values for each, not a range as for dropout"),
        ({}, "`parameters` must hold what to try"),
    ],
    ids=str,
)
def test_a_mistake_is_named(run, parameters, says):
    with pytest.raises(UserError) as problem:
        run(method="grid", parameters=parameters)
    assert says in str(problem.value)


def test_the_file_of_a_mistake_is_named(run):
    with pytest.raises(UserError, match=r"^rates\.yaml: `trials` .*\nrates\.yaml: there is no parameter `epochs`"):
        run(trials=0, parameters={"seed": [1]}, epochs=3)


@pytest.mark.parametrize("recipe", ["all", "cnn4 cnn6", ""])
def test_a_sweep_is_of_one_recipe(run, recipe):
    with pytest.raises(UserError, match=r"rates\.yaml: `recipe` must be the name of one recipe, not"):
        run(recipe=recipe, parameters={"learning_rate": RATES})


def test_values_of_a_list_are_tried_as_they_are_written(run):
    table = run(method="grid", parameters={"learning_rate": [0.0012341, 0.0012342]})
    assert set(table.state) == {"complete"}
    assert set(table.index) == {"cnn4-learning_rate-0.0012341", "cnn4-learning_rate-0.0012342"}


def test_values_that_the_recipe_does_not_allow_together_stop_no_other_trial(run):
    error = (
        "trial 3: `progressive_fraction` must be 0 for the network cnn, whose dense layer fits one picture size; "
        "springfield pools over all places and can start with smaller pictures."
    )
    parameters = {"network": ["springfield", "cnn"], "progressive_fraction": [0.0, 0.5]}
    table = run(recipe="ablation/sgd", method="grid", parameters=parameters, errors=[error])
    assert (len(table), set(table.state)) == (3, {"complete"})


def values_of(name, given):
    """Give the values of a parameter, or its ends and whether it is drawn by factors."""
    found = sweep.distribution_of(name, given)
    return list(getattr(found, "choices", None) or (found.low, found.high, found.log))


def test_what_is_not_said_is_the_range_of_the_recipe():
    assert values_of("momentum", None) == [*Recipe.limits("momentum"), False]
    assert values_of("schedule", None) == ["constant", "step", "cosine", "one_cycle"]
    assert values_of("flip", None) == [False, True]


def test_the_sweeps_of_the_project_can_be_read():
    found = sorted((paths.PARAMS / "sweeps").glob("*.yaml"))
    assert found
    for path in found:
        sweep.Search(path, {})
