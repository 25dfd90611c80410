"""What make's variables mean, and what is said of mistakes in them."""

import dataclasses
import os
import re
import time
from pathlib import Path

import pandas as pd
import pytest

from lib import paths, records
from lib.errors import UserError
from lib.pipeline import commands, inputs, makefile, publishing
from lib.pipeline import plan as plan_module
from lib.pipeline.plan import make_plan
from lib.pipeline.steps import STEPS, begin


def mistakes(**variables):
    with pytest.raises(UserError) as problem:
        make_plan(variables)
    return str(problem.value).splitlines()


def test_without_variables_the_two_networks_are_trained_on_the_sample():
    plan = make_plan({})
    assert (plan.source, plan.data_name, list(plan.runs)) == ("sample", "sample", ["cnn4", "cnn6"])
    assert (plan.preparation.min_pictures, plan.preparation.picture_size) == (20, 40)
    assert [run.recipe_name for run in plan.runs.values()] == ["sample/cnn4", "sample/cnn6"]


def test_real_pictures_use_the_recipes_themselves_and_the_threshold_of_the_original():
    plan = make_plan({"DATA": "kaggle", "RUNS": "cnn4"})
    assert plan.runs["cnn4"].recipe_name == "cnn4"
    assert plan.preparation.min_pictures == 290


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("kaggle", "kaggle"),
        ("some/where/archive.zip", "archive"),
        ("/tmp/my pictures/", "my-pictures"),
        ("a.tar.gz", "a"),
        ("辛普森", "辛普森"),
        ("Élodie's $(frames).tgz", "Élodie-s-frames"),
    ],
)
def test_a_data_set_is_named_after_its_source(source, name):
    assert make_plan({"DATA": source}).raw_name == name


@pytest.mark.parametrize(
    "source",
    ["a/sample.zip", "kaggle/", "a-random.zip", "my-96px", "x-near-1e-05-0-2.5.zip", "a-corrected", "site.zip"],
)
def test_a_name_that_stands_for_something_else_gets_a_digest_of_the_path(source):
    name = Path(source).name.removesuffix(".zip")
    assert re.fullmatch(rf"{name}-[0-9a-f]{{6}}", make_plan({"DATA": source}).raw_name)


def test_limits_of_near_duplicates_are_settings_with_a_folder_of_their_own():
    plan = make_plan({"DATA": "a.zip", "NEAR_BITS": "0", "NEAR_RMS": "7.5"})
    assert plan.data_name == "a-near-7.5-0-2.5"
    assert (plan.preparation.near_rms, plan.preparation.near_bits, plan.preparation.same_rms) == (7.5, 0, 2.5)


def test_differently_prepared_pictures_have_folders_of_their_own():
    variables = {"DATA": "a.zip", "SPLIT": "random", "EXCLUDE_KAGGLE_TEST": "1", "SIZE": "96", "RESIZE": "bounded"}
    assert make_plan(variables).data_name == "a-random-no-kaggle-test-96px-bounded"
    near = [make_plan({"DATA": "a.zip", "NEAR_RMS": value}).data_name for value in ("1.2345678", "1.2345679", "1e-9")]
    assert near == ["a-near-1.2345678-24-2.5", "a-near-1.2345679-24-2.5", "a-near-1e-09-24-2.5"]


def test_runs_may_be_separated_by_commas():
    assert list(make_plan({"RUNS": "cnn4,cnn6, springfield"}).runs) == ["cnn4", "cnn6", "springfield"]


@pytest.mark.parametrize("name", ["$(shell touch F)", "a b", "-x", "a%", "study/../x"])
def test_a_recipe_whose_name_cannot_be_that_of_a_run_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "PARAMS", tmp_path)
    file, _, variant = name.partition("/")
    content = f"network: cnn\nvariants:\n  {variant}: {{}}\n" if variant else "network: cnn\n"
    (tmp_path / f"{file}.yaml").write_text(content)
    if variant or " " not in name:
        (found,) = mistakes(RUNS=name)
        assert found.startswith(f"A run cannot be named '{name}'.")
    if not variant:
        assert mistakes(RUNS="all") == [
            f"A run cannot be named '{name}'. Rename the recipe: letters, digits and . _ + - only."
        ]


@pytest.mark.parametrize(
    "outputs",
    [".", "..", "/", "data", "data/raw", "./lib/..", "notebooks", "outputs/published", "outputs/site", ".git"],
)
def test_runs_are_not_written_among_the_files_of_the_project(outputs):
    assert mistakes(OUTPUTS=outputs) == [
        f"OUTPUTS must be a folder for runs alone, such as outputs or ../runs, not {outputs!r}."
    ]


@pytest.mark.parametrize("outputs", ["town", "outputs/", "outputs/try", "../runs", "/tmp/runs"])
def test_runs_may_be_written_elsewhere(outputs):
    assert make_plan({"OUTPUTS": outputs}).outputs == outputs


def test_the_file_of_corrections_may_be_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.csv").write_text("")
    assert make_plan({"CORRECTIONS": "~/mine.csv"}).corrections == str(tmp_path / "mine.csv")


def test_all_runs_are_the_files_and_not_the_ablation():
    runs = make_plan({"RUNS": "all"}).runs
    assert {"cnn4", "cnn6", "springfield"} <= runs.keys()
    assert not any("/" in name for name in runs)


def test_a_changed_recipe_is_a_run_named_after_its_changes():
    runs = make_plan({"RUNS": "cnn4", "SET": "learning_rate=1e-3 seed=1", "EPOCHS": "3"}).runs
    assert list(runs) == ["cnn4-learning_rate-1e-3-seed-1"]
    run = runs["cnn4-learning_rate-1e-3-seed-1"]
    assert (run.recipe.learning_rate, run.recipe.seed, run.recipe.epochs) == (0.001, 1, 3)


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"RUNS": "cnn5"}, "There is no recipe 'cnn5'. Did you mean"),
        ({"RUNS": "sample/cnn6"}, "There is no recipe 'sample/cnn6'"),
        ({"EPOCHS": "abc"}, "EPOCHS: `epochs` must be a whole number from 1 to 100000, not 'abc'."),
        ({"EPOCHS": "2", "SET": "epochs=3"}, "EPOCHS and SET both name the epochs. Give one of them."),
        ({"EPOCHS": "0"}, "EPOCHS: `epochs` must be a whole number from 1 to 100000, not 0."),
        ({"SPLIT": "half"}, "SPLIT: `split` must be one of grouped, random, resampled, given, not 'half'."),
        ({"SIZE": "3"}, "SIZE: `picture_size` must be a whole number from 16 to 512, not 3."),
        ({"RESIZE": "crop"}, "RESIZE: `resize_mode` must be one of stretch, pad, bounded, not 'crop'."),
        ({"MIN_PICTURES": "many"}, "MIN_PICTURES: `min_pictures` must be a whole number from 1 to 999999, not 'many'."),
        ({"EXCLUDE_KAGGLE_TEST": "2"}, "EXCLUDE_KAGGLE_TEST: `exclude_kaggle_test` must be true or false, not 2."),
        ({"OUTPUTS": "two words"}, "OUTPUTS must be the path of a folder, of letters, digits and . _ - /, not"),
        ({"OUTPUTS": "$(shell touch F)"}, "OUTPUTS must be the path of a folder"),
        ({"OUTPUTS": "-rf"}, "OUTPUTS must be the path of a folder"),
        ({"CORRECTIONS": "~nobody-of-this-name/a.csv"}, "CORRECTIONS: there is no file"),
        ({"SIZE": "0100"}, "SIZE: `picture_size` must be a whole number from 16 to 512, not '0100'."),
        ({"MODEL": "yes"}, "MODEL must be 0 or 1, not 'yes'."),
        ({"SET": "seed=1." + 200 * "0"}, "SET has too many changes: the run would have a name of 212 letters, of at"),
        ({"SET": "seed"}, "SET must hold `name=value` pairs"),
        ({"SET": "seed=1 seed=2"}, "SET names `seed` twice."),
        ({"SET": "sed=1"}, "SET: there is no parameter `sed`. Did you mean seed?"),
        ({"DATA": "/"}, "DATA must be sample, kaggle, or the path of an archive or a folder of pictures, not '/'."),
        ({"GIVEN": "EPOCH"}, "There is no variable EPOCH. Did you mean EPOCHS?"),
        ({"GIVEN": "data"}, "There is no variable data. Did you mean DATA?"),
        ({"RUNS": "CNN4"}, "There is no recipe 'CNN4'. Did you mean cnn4?"),
        ({"GIVEN": "XYZZY"}, "There is no variable XYZZY. Known: DATA, RUNS,"),
    ],
)
def test_a_mistake_is_named_with_its_variable(variables, says):
    assert says in mistakes(**variables)[0]


def test_every_mistake_is_named_at_once():
    found = mistakes(RUNS="cnn5 cnn4", EPOCHS="0", SPLIT="half", SIZE="3", MODEL="2", GIVEN="EPOCH")
    assert len(found) == 6


def test_nothing_is_written_for_a_source_that_there_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "PROCESSED", tmp_path / "processed")
    plan = make_plan({"DATA": str(tmp_path / "nowhere.zip")})
    with pytest.raises(UserError, match=r"DATA: There is no file or folder .*nowhere\.zip"):
        makefile.write_requests(plan, {"train"})
    assert list(tmp_path.iterdir()) == []


def test_the_name_of_the_committed_records_is_kept():
    plan = make_plan({"DATA": "published"})
    assert plan.runs == {}
    for goal in ("train", "clean", "report", "explore"):
        with pytest.raises(UserError, match="only `make compare` reads"):
            makefile.write_requests(plan, {goal})
    makefile.write_requests(plan, {"compare"})


@pytest.mark.parametrize(
    "given", [{"DATA": "pictures", "OUTPUTS": "."}, {"DATA": "."}, {"CORRECTIONS": "sample-corrected/mine.csv"}]
)
def test_what_make_removes_is_apart_from_what_the_user_gives(given, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "PROCESSED", tmp_path / "processed")
    for folder in ("pictures", "sample-corrected"):
        (tmp_path / folder).mkdir()
    (tmp_path / "sample-corrected" / "mine.csv").touch()
    given = {name: str(tmp_path / value) for name, value in given.items()}
    with pytest.raises(UserError, match="are one folder or inside each other"):
        make_plan({"OUTPUTS": str(tmp_path)} | given)


def test_a_worker_takes_corrected_labels_from_the_manifest(tmp_path, monkeypatch):
    (tmp_path / "mine.csv").touch()
    plan = make_plan({"CORRECTIONS": str(tmp_path / "mine.csv")})
    monkeypatch.setattr(paths, "PROCESSED", tmp_path)  # where the worker's are
    manifest = tmp_path / plan.data_name / "manifest.csv"
    manifest.parent.mkdir()
    manifest.touch()
    assert make_plan(plan.elsewhere | {"CORRECTIONS": str(manifest)}).data_name == plan.data_name


def test_unknown_characters_are_left_out_of_the_recipe_that_is_given():
    assert [*make_plan({"GOALS": "unknown", "SET": "captions=0.2"}).runs] == ["springfield-captions-0.2"]
    assert [*make_plan({"GOALS": "unknown", "RUNS": "springfield-18"}).runs] == ["springfield-18"]
    assert [*make_plan({"GOALS": "train unknown"}).runs] == ["cnn4", "cnn6"]
    with pytest.raises(UserError, match="needs one run with a class map in RUNS, such as springfield, not cnn4, cnn6"):
        commands.unknown(make_plan({}))


def test_a_resampled_set_is_not_reviewed():
    with pytest.raises(UserError, match="SPLIT=resampled has pictures several times"):
        makefile.write_requests(make_plan({"SPLIT": "resampled"}), {"review"})


def test_a_published_table_of_other_pictures_is_left_as_it_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paths, "PUBLISHED", tmp_path / "published")
    for data_name, score in (("kaggle", 0.4), ("mine", 0.9), ("kaggle", 0.5)):
        plan = dataclasses.replace(
            make_plan({}), source=data_name, raw_name=data_name, data_name=data_name, outputs=str(tmp_path), runs={}
        )
        records.write_table(plan.folder / records.BASELINES, pd.DataFrame({"macro_f1": [score]}))
        publishing.publish(plan)
        kept = pd.read_csv(records.verified(tmp_path / "published" / records.BASELINES)).macro_f1.tolist()
        assert kept == [0.4 if data_name == "mine" else score]
    assert "baselines.csv is left as it is: the published one is of kaggle, this one of mine" in capsys.readouterr().err


def test_requests_are_written_where_they_changed_and_for_what_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "PROCESSED", tmp_path / "processed")
    recipe = tmp_path / "outputs" / "sample" / "cnn4" / records.RECIPE
    makefile.write_requests(make_plan({}), {"data"})
    assert (tmp_path / "processed" / "sample" / makefile.REQUEST).exists() and not recipe.exists()
    makefile.write_requests(make_plan({}), {"train"})
    before = recipe.stat().st_mtime_ns
    makefile.write_requests(make_plan({}), {"train"})
    assert recipe.stat().st_mtime_ns == before
    makefile.write_requests(make_plan({"EPOCHS": "3"}), {"train"})
    assert records.read_json(recipe)["epochs"] == 3


def test_every_goal_that_needs_pictures_or_runs_has_their_requests_written():
    rules = (paths.ROOT / "Makefile").read_text(encoding="utf-8")
    needing = set(re.findall(r"^([a-z]+): \$\((?!ENVIRONMENT)", rules, re.MULTILINE)) - {"cluster"}
    assert needing == makefile.FOR_PICTURES | makefile.FOR_RUNS


def test_a_product_from_the_future_is_looked_at_again(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "PROCESSED", tmp_path / "processed")
    manifest = tmp_path / "processed" / "sample" / "manifest.csv"
    records.write_text(manifest, "")
    inputs.write(manifest, {})
    makefile.write_requests(make_plan({}), {"data"})
    assert manifest.stat().st_mtime > 0
    os.utime(manifest, (time.time() + 3600,) * 2)  # the clock was an hour ahead
    makefile.write_requests(make_plan({}), {"data"})
    assert manifest.stat().st_mtime == 0


def test_strangers_that_a_notebook_run_by_hand_left_are_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "PROCESSED", tmp_path / "processed")
    step, plan = STEPS["robustness"], make_plan({"RUNS": "cnn4"})
    product, strangers = (plan.run_folder("cnn4") / name for name in (records.ROBUSTNESS, records.STRANGERS))
    records.write_text(product, "kind,strength,macro_f1\n")
    records.write_record(strangers, {"named": 0.9}, {})
    inputs.write(product, {}, step.beside)
    records.write_record(strangers, {"named": 0.1}, {})
    makefile.write_requests(plan, {"robustness"})
    assert product.stat().st_mtime == 0


@pytest.mark.parametrize(
    ("goal", "says"),
    [
        ("predict", "Say which picture, for example `make predict "),
        ("sweep", "Say what to try, for example `make sweep "),
        ("publish", "Only runs on real pictures are published"),
        ("train", "Runs to be made are named in RUNS"),
    ],
)
def test_a_goal_that_cannot_be_reached_is_a_mistake(goal, says, monkeypatch):
    monkeypatch.setenv("GOALS", goal)
    monkeypatch.delenv("IMAGE", raising=False)
    monkeypatch.setenv("SWEEP", " ")
    monkeypatch.setenv("GIVEN", "RUN" if goal == "train" else "")
    monkeypatch.setenv("RUN", "cnn4")
    with pytest.raises(UserError, match=says):
        makefile.print_plan(make_plan({}))


def test_a_step_of_a_run_that_is_not_asked_for_is_a_mistake(monkeypatch, capsys):
    monkeypatch.setenv("RUNS", "cnn4")
    assert commands.main(["train", "cnn6"]) == 2
    assert "There is no run 'cnn6' in RUNS. Known: cnn4." in capsys.readouterr().err


def test_a_sweep_takes_no_runs(monkeypatch):
    monkeypatch.setenv("GOALS", "sweep")
    monkeypatch.setenv("SWEEP", "notebooks/params/sweeps/lr.yaml")
    monkeypatch.setenv("RUNS", "cnn6")
    with pytest.raises(UserError, match="RUNS does not belong to `make sweep`"):
        makefile.print_plan(make_plan({}))


def test_the_makefile_names_what_each_step_depends_on():
    lines = dict(line.split(" := ") for line in makefile.makefile(make_plan({})).splitlines())
    assert lines["RUN_NAMES"] == "cnn4 cnn6"
    assert "lib/training/batches.py" in lines["TRAIN_CODE"].split()
    assert "lib/training/batches.py" not in lines["EVALUATE_CODE"].split()


def test_pictures_too_small_for_six_layers_are_a_mistake_before_anything_runs():
    for size in (16, plan_module.LEAST_SIZE_OF_SIX - 1):
        with pytest.raises(UserError, match=f"SIZE must be at least 22 for cnn6, not {size}"):
            makefile.write_requests(make_plan({"SIZE": str(size)}), {"train"})
    make_plan({"SIZE": str(plan_module.LEAST_SIZE_OF_SIX)}).check_size()
    make_plan({"SIZE": "16", "RUNS": "cnn4 springfield"}).check_size()


def test_a_backend_that_is_unknown_or_not_installed_is_said(monkeypatch):
    with pytest.raises(UserError, match="KERAS_BACKEND must be tensorflow, jax or torch, not 'Theano'"):
        make_plan({"KERAS_BACKEND": "Theano"})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="KERAS_BACKEND=jax needs the package jax, which is not installed"):
        make_plan({"KERAS_BACKEND": "jax"})


def test_a_training_on_another_backend_is_another_one(tmp_path, monkeypatch):
    plan = dataclasses.replace(make_plan({"RUNS": "cnn4"}), outputs=str(tmp_path))
    step = dataclasses.replace(STEPS["train"], data=lambda plan, run: {})
    product = step.product(plan, "cnn4")
    records.write_text(product, "{}")
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    inputs.write(product, step.made_from(plan, "cnn4"))
    for chosen, reasons in (("tensorflow", []), ("jax", ["backend changed"])):
        monkeypatch.setenv("KERAS_BACKEND", chosen)
        assert inputs.changed(product, step.made_from(plan, "cnn4")) == reasons
    plan.write_recipes()
    assert records.read_json(plan.run_folder("cnn4") / records.RECIPE)["backend"] == "jax"


def test_a_training_does_not_go_on_with_other_code(tmp_path, capsys):
    state = tmp_path / records.TRAINING_STATE
    for code, goes_on in ((1, True), (1, True), (2, False)):
        state.write_text("")
        begin(tmp_path, {"lib/training/augmentation.py": code})
        assert state.exists() == goes_on
    assert "The code or the pictures changed since this training began" in capsys.readouterr().err


def test_what_an_earlier_training_published_goes_and_a_network_is_replaced_with_its_record(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "PUBLISHED", tmp_path / "published")
    plan = dataclasses.replace(make_plan({"RUNS": "cnn4"}), source="mine", data_name="mine", outputs=str(tmp_path))
    records.write_record(
        plan.run_folder("cnn4") / records.RUN_RECORD, {"data_name": "mine", "format_version": 2, "finished": True}, {}
    )
    target = plan.published_folder("cnn4")
    records.write_text(target / records.ROBUSTNESS, "of the training before")
    publishing.publish(plan)
    assert [path.name for path in target.iterdir()] == [records.RUN_RECORD]
    (target / records.LITERT_MODEL).write_bytes(b"")
    with pytest.raises(UserError, match=r"The network of cnn4 is published too\. Add MODEL=1"):
        makefile.write_requests(plan, {"publish"})
