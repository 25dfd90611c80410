import shutil

import numpy as np
import pandas as pd
import pytest

from lib import paths, records
from lib.errors import UserError
from lib.evaluation import compare, findings, intervals, metrics
from lib.pipeline import inputs

RUN = {
    "name": "cnn4",
    "data_name": "frames",
    "format_version": records.FORMAT_VERSION,
    "finished": True,
    "conv_layers": 4,
    "num_parameters": 6_497_842,
    "epochs": 40,
    "seconds": 120.4,
    "seconds_per_epoch": 3.01,
    "manifest_sha256": "0123456789abcdef",
    "picture_size": 64,
    "resize_mode": "stretch",
    "best_val_macro_f1": 0.95,
    "recipe": {"network": "cnn", "conv_layers": 4, "optimizer": "muon", "seed": 0},
}
METRICS = {"accuracy": 0.9125, "macro_f1": 0.9, "lowest_character": "lisa_simpson", "lowest_f1": 0.8, "log_loss": 0.3}
METRICS |= {"macro_f1_interval": [0.85, 0.94]}
NAMES = ["bart_simpson", "homer_simpson"]


def trained_run(folder, recipe=None, **changes):
    """Write the record of a trained run; returns its folder."""
    records.write_json(folder / records.RUN_RECORD, RUN | {"recipe": RUN["recipe"] | (recipe or {})} | changes)
    return folder


def evaluated_run(folder, recipe=None, scores=None, **changes):
    """Write the records of an evaluated run; returns its folder."""
    records.write_json(folder / records.METRICS_RECORD, METRICS | (scores or {}))
    return trained_run(folder, recipe, **changes)


def predictions(answers, paths="abcd"):
    """Predictions of a network that is sure of its answers; two pictures of bart, then two of homer."""
    return metrics.Predictions(list(paths), np.array([0, 0, 1, 1]), np.eye(2)[answers], NAMES, None)


# ---------------------------------------------------------------- scores and parameters


def test_only_evaluated_runs_are_listed(tmp_path):
    evaluated_run(tmp_path / "b")
    evaluated_run(tmp_path / "a")
    trained_run(tmp_path / "trained")
    assert [folder.name for folder in compare.evaluated(tmp_path)] == ["a", "b"]


def test_results_have_one_row_per_run(tmp_path):
    row = compare.results([evaluated_run(tmp_path / "cnn4")]).iloc[0]
    assert (row.run, row.conv_layers, row.macro_f1, row.macro_f1_low, row.macro_f1_high) == ("cnn4", 4, 0.9, 0.85, 0.94)


@pytest.mark.parametrize("name", [records.RUN_RECORD, records.METRICS_RECORD])
def test_a_record_that_the_one_of_another_run_replaced_is_named(tmp_path, name):
    run, other = evaluated_run(tmp_path / "cnn4"), evaluated_run(tmp_path / "cnn6", scores={"macro_f1": 0.95}, epochs=9)
    inputs.write(run / name, {})
    compare.results([run, other])
    shutil.copy(other / name, run / name)
    with pytest.raises(UserError, match=rf"cnn4/{name} is damaged, or was changed since it was written"):
        compare.results([run, other])


def test_results_read_the_keys_of_the_first_format(tmp_path):
    scores = {"near_copies_in_train": 7, "kaggle_test": {"macro_f1": 0.7}}
    row = compare.results([evaluated_run(tmp_path / "cnn4", scores=scores)]).iloc[0]
    assert (row.near_duplicates_in_train, row.kaggle_macro_f1) == (7, 0.7)


def test_runs_with_near_duplicates_in_train_rank_last(tmp_path):
    for name, score, near_duplicates in [("honest", 0.8, 0), ("leaky", 0.99, 7), ("best", 0.9, 0)]:
        scores = {"macro_f1": score, "near_duplicates_in_train": near_duplicates}
        evaluated_run(tmp_path / name, scores=scores)
    ranked = compare.ranked(compare.results(compare.evaluated(tmp_path)))
    assert list(ranked.run) == ["best", "honest", "leaky"] and list(ranked.index) == [0, 1, 2]


def test_runs_on_other_pictures_rank_after_those_that_compare(tmp_path):
    for name, score, manifest, near_duplicates in [
        *[("good", 0.8, "a", 0), ("best", 0.9, "a", 0), ("more-characters", 0.95, "b", 0)],
        *[("corrected", 0.85, "c", 0), ("leaky", 0.99, "d", 7), ("leaky-too", 0.98, "d", 7), ("leaky-3", 0.97, "d", 7)],
    ]:
        scores = {"macro_f1": score, "near_duplicates_in_train": near_duplicates}
        evaluated_run(tmp_path / name, scores=scores, manifest_sha256=manifest * 64)
    ranked = list(compare.ranked(compare.results(compare.evaluated(tmp_path))).run)
    assert ranked == ["best", "good", "more-characters", "corrected", "leaky", "leaky-too", "leaky-3"]


def test_of_two_sets_of_pictures_with_equally_many_runs_the_better_scored_comes_first(tmp_path):
    for name, score, manifest in [("best", 0.9, "a"), ("again", 0.5, "b")]:
        evaluated_run(tmp_path / name, scores={"macro_f1": score}, manifest_sha256=manifest * 64)
    assert list(compare.ranked(compare.results(compare.evaluated(tmp_path))).run) == ["best", "again"]


def test_runs_that_counted_no_near_duplicates_rank_by_score(tmp_path):
    for name, score in [("good", 0.8), ("best", 0.9)]:
        evaluated_run(tmp_path / name, scores={"macro_f1": score})
    assert list(compare.ranked(compare.results(compare.evaluated(tmp_path))).run) == ["best", "good"]


def differing(*runs):
    return compare.differing_parameters(list(runs)).to_numpy().tolist()


def test_a_run_is_compared_with_the_most_similar_one_before_it(tmp_path):
    runs = [
        trained_run(tmp_path / "best", recipe={"network": "springfield", "epochs": 44}),
        trained_run(tmp_path / "cnn6", recipe={"conv_layers": 6, "epochs": 40}),
        trained_run(tmp_path / "cnn4", recipe={"conv_layers": 4, "epochs": 40}),
    ]
    assert differing(*runs) == [
        ["cnn6", "best", "network cnn, conv_layers 6, epochs 40"],
        ["cnn4", "cnn6", "conv_layers 4"],  # of best it differs in two
    ]
    assert differing(runs[0]) == differing() == []


def test_the_prepared_pictures_count_as_parameters(tmp_path):
    runs = [trained_run(tmp_path / "a"), trained_run(tmp_path / "b", manifest_sha256="f" * 64, resize_mode="pad")]
    assert differing(*runs) == [["b", "a", "resize_mode pad, manifest ffffffff"]]


def test_a_parameter_newer_than_a_run_has_its_default_there(tmp_path):
    runs = [trained_run(tmp_path / "old"), trained_run(tmp_path / "new", recipe={"flip_tta_threshold": 0.0})]
    runs.append(trained_run(tmp_path / "other", recipe={"flip_tta_threshold": 0.8}))
    assert differing(*runs) == [["new", "old", ""], ["other", "old", "flip_tta_threshold 0.8"]]


# ---------------------------------------------------------------- seeds and ablation


def test_seeds_are_runs_of_one_recipe_on_the_same_pictures(tmp_path):
    evaluated_run(tmp_path / "cnn4")
    evaluated_run(tmp_path / "cnn4-again", recipe={"seed": 1})
    evaluated_run(tmp_path / "cnn6", recipe={"conv_layers": 6})
    evaluated_run(tmp_path / "cnn6-by-hand", recipe={"conv_layers": 6})  # the same seed is no other one
    evaluated_run(tmp_path / "other-pictures", recipe={"seed": 2}, data_name="other")
    evaluated_run(tmp_path / "prepared-again", recipe={"seed": 3}, manifest_sha256="f" * 64)
    table = compare.seeds(compare.evaluated(tmp_path))
    assert list(table.run) == ["cnn4", "cnn4-again"] and list(table.seed) == [0, 1]
    assert set(table.recipe) == {"cnn4"} and set(table.macro_f1) == {0.9} and set(table.val_macro_f1) == {0.95}


def test_without_runs_there_are_no_seeds():
    assert compare.seeds([]).empty


def test_an_ablation_lists_what_each_run_changed(tmp_path):
    for name, changed, score in [
        ("base", {}, 0.9),
        ("sgd", {"optimizer": "sgd", "flip_tta_threshold": 0.0}, 0.8),  # the base has none, which is newer
        ("base-seed-1", {"seed": 1}, 0.91),
    ]:
        trained_run(tmp_path / name, recipe=changed, best_val_macro_f1=score, seconds=90.0)
    other = {"picture_size": 96, "manifest_sha256": "f" * 64}
    trained_run(tmp_path / "other", best_val_macro_f1=0.7, seconds=90.0, **other)
    table = compare.ablation(tmp_path)
    assert table.changed[table.run == "other"].item() == "picture_size=96, manifest=ffffffff"
    table = table[table.run != "other"]
    assert list(table.run) == ["base-seed-1", "base", "sgd"]
    assert list(table.changed) == ["seed=1", "", "optimizer=sgd"]
    assert list(table.minutes) == [1.5, 1.5, 1.5]
    assert table.corruption_loss.isna().all()


def test_seed_noise_is_that_of_all_trainings_that_repeat_a_base(tmp_path):
    for name, recipe, score in [
        ("accuracy/base", {}, 0.90),
        ("accuracy/base-seed-1", {"seed": 1}, 0.91),
        ("leakage/short-seed-2", {"seed": 2}, 0.92),  # by another name, in another folder
        ("accuracy/sgd", {"optimizer": "sgd"}, 0.5),
        ("cnn4", {"conv_layers": 6}, 0.6),  # two seeds that are no base
        ("cnn4-seed-1", {"conv_layers": 6, "seed": 1}, 0.8),
    ]:
        trained_run(tmp_path / name, recipe=recipe, best_val_macro_f1=score)
    noise, trainings = compare.seed_noise(tmp_path)
    # The standard deviation is 0.01, and Student's t of two degrees of freedom 4.303.
    assert trainings == 3 and noise == pytest.approx(4.303 * 2**0.5 * 0.01, rel=1e-3)
    assert compare.seed_noise(tmp_path / "leakage") == (None, 0)


def test_an_ablation_without_its_base_is_empty(tmp_path):
    trained_run(tmp_path / "sgd")
    assert compare.ablation(tmp_path).empty


def test_mistakes_by_frames_follow_a_power_law(tmp_path):
    # 1 - macro F1 is 4 / √n.
    for name, changed, pictures, score in [
        ("base", {}, 6400, 0.95),
        ("quarter", {"train_fraction": 0.25, "epochs": 8}, 1600, 0.9),
        ("sixteenth", {"train_fraction": 0.0625, "epochs": 32}, 400, 0.8),
        ("sgd", {"optimizer": "sgd"}, 6400, 0.7),
        ("half-sgd", {"optimizer": "sgd", "train_fraction": 0.5}, 3200, 0.6),
        ("longer", {"epochs": 8}, 6400, 0.97),
    ]:
        trained_run(tmp_path / name, recipe=changed, best_val_macro_f1=score, train_pictures=pictures)
    table = compare.by_frames(tmp_path)
    assert list(table.run) == ["sixteenth", "quarter", "base"] and list(table.train_pictures) == [400, 1600, 6400]
    law = compare.power_law(table)
    assert law == (pytest.approx(4), pytest.approx(-0.5))
    # 4 / √10,000 = 0.04, and 1 / √2 = 0.71.
    said = findings.more_frames(table, {"all": law}, 10_000)
    assert "0.050 with 6,400 frames" in said
    assert "0.040 by a line through all (twice as many frames leave 71 %)" in said
    trained_run(tmp_path / "half", recipe={"train_fraction": 0.5}, best_val_macro_f1=1.0, train_pictures=3200)
    assert "half" not in compare.by_frames(tmp_path).run.tolist()  # no mistakes have no logarithm


# ---------------------------------------------------------------- robustness


def test_corruption_loss_is_the_mean_over_all_corruptions(tmp_path):
    assert compare.robustness([tmp_path]).empty
    (tmp_path / records.ROBUSTNESS).write_text(
        "kind,strength,macro_f1\nunchanged,,0.9\njpeg,slight,0.8\njpeg,strong,0.5\n"
    )
    # (0.8 + 0.5) / 2 = 0.65, and 0.9 - 0.65 = 0.25.
    assert compare.robustness([tmp_path]).loss[0] == pytest.approx(0.25)


def test_loss_recovered_is_relative_to_the_loss_of_the_base(tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "ROBUSTNESS_BASE", "film")
    for name, unchanged, changed in [("film", 0.9, 0.5), ("uploads", 0.875, 0.775)]:
        (tmp_path / name).mkdir()
        rows = f"unchanged,,{unchanged}\nfaded,slight,{changed + 0.1}\nfaded,strong,{changed - 0.1}\n"
        (tmp_path / name / records.ROBUSTNESS).write_text(f"kind,strength,macro_f1\n{rows}")
    folders = [tmp_path / name for name in ("film", "uploads", "not-scored")]
    table = compare.robustness(folders)
    assert list(table.run) == ["uploads", "film"]
    # The base loses 0.4, the other 0.1: a quarter remains.
    assert list(table.loss) == pytest.approx([0.1, 0.4]) and list(table.loss_recovered) == pytest.approx([0.75, 0.0])
    assert compare.robustness(folders[1:]).loss_recovered.isna().all()


# ---------------------------------------------------------------- time to a target score


def write_history(folder, scores):
    rows = "".join(f"{epoch},1.0,0.5,{score}\n" for epoch, score in enumerate(scores, start=1))
    (folder / records.HISTORY).write_text(f"epoch,loss,accuracy,val_macro_f1\n{rows}")


def test_time_to_target_ends_with_the_first_epoch_that_reaches_it(tmp_path):
    folders = []
    for name, scores, seconds in [("cnn6", [0.5, 0.9, 0.8], [60, 60, 60]), ("quick", [0.7, 0.85], [6, 18])]:
        folders.append(trained_run(tmp_path / name, epoch_seconds=seconds))
        write_history(folders[-1], scores)
    table = compare.time_to_target(folders, reference="cnn6")
    # The target is 0.8, where cnn6 ended: cnn6 passed it in its second minute, quick after 6 + 18 = 24 s.
    assert list(table.run) == ["quick", "cnn6"] and list(table.epoch) == [2, 2]
    assert list(table.minutes) == pytest.approx([0.4, 2.0])
    assert list(table.relative_time) == pytest.approx([0.2, 1.0])


def test_times_on_other_pictures_or_another_machine_are_excluded(tmp_path):
    folders = [trained_run(tmp_path / "cnn6"), trained_run(tmp_path / "random", manifest_sha256="other")]
    folders.append(trained_run(tmp_path / "elsewhere", machine={"processor": "another"}))
    for folder in folders:
        write_history(folder, [0.9])
    assert list(compare.time_to_target(folders, reference="cnn6").run) == ["cnn6"]


def test_without_the_reference_there_are_no_times(tmp_path):
    assert compare.time_to_target([trained_run(tmp_path / "cnn4")], reference="cnn6").empty


# ---------------------------------------------------------------- differences on the same pictures


def answered(actual, predicted, num_characters):
    names = [f"character_{n}" for n in range(num_characters)]
    return metrics.Predictions(
        list(map(str, range(len(actual)))), actual, np.eye(num_characters)[predicted], names, None
    )


def test_a_network_does_not_differ_from_itself():
    same = answered(np.array([0, 0, 0, 1, 1, 2]), [0, 0, 1, 1, 1, 0], 3)
    table = compare.differences({"one": same, "copy": same}, best="one").set_index("run")
    assert table.loc["copy"].tolist() == [0, 0, 0]


def test_the_interval_of_a_difference_is_paired():
    random = np.random.default_rng(0)
    actual = random.integers(18, size=600)
    worse = np.where(random.random(600) < 0.7, actual, random.integers(18, size=600))
    better = np.where(np.arange(600) % 20 == 0, actual, worse)  # the same answers, some of them corrected
    networks = {"better": answered(actual, better, 18), "worse": answered(actual, worse, 18)}
    found = compare.differences(networks, best="better").set_index("run").loc["worse"]
    assert 0 < found.low < found.below_best < found.high
    single = intervals.percentile_interval(intervals.resampled_scores(networks["worse"])[1])
    assert found.high - found.low < single[1] - single[0]


def test_runs_are_compared_with_the_best_one_on_the_same_pictures():
    networks = {
        "half": predictions([0, 1, 1, 0]),
        "best": predictions([0, 0, 1, 1]),
        "other pictures": predictions([0, 0, 1, 1], paths="ebcd"),
    }
    table = compare.differences(networks, best="best").set_index("run")
    # Each character has precision 1/2 and recall 1/2, so F1 1/2; the best has 1.
    assert table.below_best["half"] == 0.5
    assert table.loc["best"].tolist() == [0, 0, 0]
    assert table.loc["other pictures"].isna().all()


# ---------------------------------------------------------------- published records, leakage, curves


def test_a_question_that_the_runs_here_cannot_answer_is_answered_from_the_records(tmp_path, monkeypatch):
    here, published = tmp_path / "here", tmp_path / "published"
    monkeypatch.setattr(paths, "PUBLISHED", published)
    evaluated_run(here / "cnn4")
    for name in ("cnn4", "cnn6"):
        evaluated_run(published / name)

    def ask(*names):
        return compare.here_or_published(here, lambda at: compare.named(at, *names))

    assert ask("cnn4") == ([here / "cnn4"], "")
    assert ask("cnn4", "cnn6") == ([published / "cnn4", published / "cnn6"], compare.FROM_RECORDS)
    runs, note = ask("cnn9")
    assert runs == [] and note.startswith("Nothing to show")


def test_a_table_beside_the_runs_is_empty_where_there_is_none(tmp_path):
    assert compare.table_beside(tmp_path, records.PRETRAINED).empty
    records.write_table(tmp_path / records.PRETRAINED, pd.DataFrame({"macro_f1": [0.9]}))
    assert compare.table_beside(tmp_path, records.PRETRAINED).macro_f1.tolist() == [0.9]


@pytest.fixture
def leaking(tmp_path):
    """Runs of two seeds on the grouped and the random split, and one on a resampled split; their folders."""
    answers = {"cnn6": [0, 1, 1, 0], "cnn6-random": [0, 0, 1, 1], "cnn6-resampled": [0, 0, 1, 1]}
    answers |= {run: [0, 0, 1, 1] for run in ("cnn6-seed-1", "cnn6-seed-1-random", "short", "short-random")}
    for name, of_run in answers.items():
        found = predictions(of_run)
        scores = {"macro_f1": metrics.macro_f1(found.actual, np.array(of_run)), "test_pictures": 4}
        scores |= {"near_duplicates_in_train": 1, "accuracy_of_near_duplicates": 1.0, "accuracy_of_others": 1.0}
        beside = tmp_path / "leakage" if "short" in name else tmp_path
        folder = evaluated_run(beside / name, scores=scores)
        table = metrics.predictions_table(found)
        records.write_csv(folder / records.PREDICTIONS, table)
    return compare.evaluated(tmp_path)


def test_leakage_is_the_gain_of_the_leaking_split_with_its_interval(leaking):
    table = compare.leakage(leaking)
    assert table[["run", "split", "gain"]].to_numpy().tolist() == [
        ["cnn6", "random", 0.5],
        ["cnn6", "resampled", 0.5],
        ["cnn6-seed-1", "random", 0.0],
        ["leakage/short", "random", 0.0],
    ]
    assert (table.near_duplicates == 0.25).all()
    assert ((table.low <= table.gain) & (table.gain <= table.high)).all()


def test_pictures_with_a_near_duplicate_are_counted_apart_where_none_can_be_remembered(leaking):
    answers = predictions([0, 1, 1, 1])._replace(groups=np.array([0, 0, 1, 2]))  # one of the pair is right
    records.write_csv(leaking[0] / records.PREDICTIONS, metrics.predictions_table(answers))
    row = compare.leakage(leaking).iloc[0]
    assert (row.grouped_accuracy_of_near_duplicates, row.grouped_accuracy_of_others) == (0.5, 1.0)
    assert (
        "is right on 50.0 % of the pictures with a near-duplicate in test, and on 100.0 % of the others."
        in findings.leakage(compare.leakage(leaking), compare.leakage_over_seeds(leaking))
    )


def test_leakage_is_averaged_over_the_seeds_of_a_recipe(leaking):
    (row,) = compare.leakage_over_seeds(leaking).itertuples()  # the resampled split has one seed
    assert (row.recipe, row.split, row.seeds, row.gain) == ("cnn6", "random", 2, 0.25)
    assert (row.smallest_gain, row.largest_gain) == (0.0, 0.5)
    assert row.low <= row.gain <= row.high
    found = findings.leakage(compare.leakage(leaking), compare.leakage_over_seeds(leaking))
    assert "On a resampled split `cnn6` seems to gain 0.500 macro F1" in found
    assert "Over 2 seeds on a random split `cnn6` seems to gain 0.250 macro F1" in found
    assert "`leakage/short` seems to gain 0.000" in found and "cnn6-seed-1" not in found


def test_runs_are_scored_on_the_labels_of_the_source_and_on_the_reviewed_ones(tmp_path):
    answers = predictions([0, 1, 1, 1])
    folders = [tmp_path / name for name in ("this", "other", "prepared-with-corrections")]
    changes = {}, {"paths": list("wxyz")}, {"actual": [0, 1, 1, 1]}
    for folder, changed in zip(folders, changes, strict=True):
        table = metrics.predictions_table(answers._replace(**changed))
        folder.mkdir()
        table.to_csv(folder / records.PREDICTIONS, index=False)
    verdicts = pd.DataFrame([("b", NAMES[1], "relabel")], columns=["path", "label", "verdict"])
    (row,) = compare.reviewed(folders, verdicts).itertuples()
    assert (row.run, row.test_pictures, row.corrected) == ("this", 4, 1)
    assert (row.accuracy, row.reviewed_accuracy, row.reviewed_macro_f1) == (0.75, 1, 1)
    assert np.isnan(row.trained_on_reviewed) and np.isnan(row.gain)
    # The same recipe trained on the reviewed labels.
    (tmp_path / "this-corrected").mkdir()
    again = metrics.predictions_table(predictions([1, 1, 1, 1])._replace(actual=[0, 1, 1, 1]))
    again.to_csv(tmp_path / "this-corrected" / records.PREDICTIONS, index=False)
    (row,) = compare.reviewed(folders, verdicts).itertuples()
    assert row.trained_on_reviewed == pytest.approx(3 / 7)
    assert row.gain == pytest.approx(3 / 7 - 1) and row.low <= row.gain <= row.high <= 0


def test_validation_curves_sum_the_minutes_of_the_epochs(tmp_path):
    folder = evaluated_run(tmp_path / "cnn4", epoch_seconds=[60.0, 120.0])
    write_history(folder, [0.5, 0.6])
    assert compare.validation_curves([folder]).minutes.tolist() == [1.0, 3.0]


def test_two_runs_beside_each_other_are_compared_on_corruptions(tmp_path):
    for name in ("cnn4", "cnn6"):
        folder = evaluated_run(tmp_path / name)
        (folder / records.ROBUSTNESS).write_text("kind,strength,macro_f1\nunchanged,,0.9\n")
    pair, note = compare.robustness_pair(tmp_path / "cnn6")
    assert list(pair) == ["cnn6", "cnn4"] and note == ""
