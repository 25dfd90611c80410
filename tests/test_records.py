import subprocess
import sys

import pandas as pd
import pytest

from lib import paths, records, report
from lib.errors import UserError
from lib.evaluation import compare

RUN = {
    "name": "cnn4",
    "format_version": records.FORMAT_VERSION,
    "conv_layers": 4,
    "num_parameters": 6_497_842,
    "epochs": 40,
    "seconds": 120.4,
    "seconds_per_epoch": 3.01,
    "manifest_sha256": "d1",
    "best_val_macro_f1": 0.95,
    "recipe": {"run": "cnn4", "conv_layers": 4, "seed": 0},
}
METRICS = {"accuracy": 0.9125, "macro_f1": 0.9, "lowest_character": "lisa_simpson", "lowest_f1": 0.8, "log_loss": 0.3}


def finished_run(folder, **changes):
    records.write_json(folder / records.RUN_RECORD, RUN | changes)
    records.write_json(folder / records.METRICS_RECORD, METRICS | {"macro_f1_interval": [0.85, 0.94]})
    return folder


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "record.json"
    records.write_json(path, {"a": 1})
    with pytest.raises(ValueError):
        records.write_json(path, {"a": float("nan")})
    assert records.read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"]


def test_an_interrupted_write_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), records.atomic_write(tmp_path / "model.keras") as temporary:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_product_can_be_read_by_others(tmp_path):
    records.write_json(tmp_path / "record.json", {})
    # mkstemp alone gives 0600; the usual umask of 022 leaves 0644.
    assert (tmp_path / "record.json").stat().st_mode & 0o600 == 0o600
    (tmp_path / "other").write_text("")
    assert (tmp_path / "record.json").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_csv_comes_back_as_it_was(tmp_path):
    table = pd.DataFrame({"character": ["bart"], "f1": [0.1 + 0.2]})
    records.write_csv(tmp_path / "table.csv", table)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "table.csv"), table, check_exact=True)


@pytest.mark.parametrize(("text", "says"), [("{", "cannot be read"), ("[1]", "one JSON object")])
def test_a_damaged_record_gets_a_sentence(tmp_path, text, says):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UserError, match=says):
        records.read_json(tmp_path / "run.json")


def test_an_unfinished_run_gets_a_sentence(tmp_path):
    with pytest.raises(UserError, match="this run is not finished; `make train evaluate` writes it"):
        records.read_run(tmp_path)


def test_another_format_version_gets_a_sentence(tmp_path):
    finished_run(tmp_path, format_version=99)
    with pytest.raises(UserError, match="has format version 99, expected 1"):
        records.read_run(tmp_path)


def test_only_evaluated_runs_are_listed(tmp_path):
    finished_run(tmp_path / "b")
    finished_run(tmp_path / "a")
    records.write_json(tmp_path / "trained" / records.RUN_RECORD, RUN)
    assert [folder.name for folder in compare.evaluated(tmp_path)] == ["a", "b"]


def test_results_hold_one_row_a_run(tmp_path):
    results = compare.results([finished_run(tmp_path / "cnn4")])
    row = results.iloc[0]
    assert (row.run, row.conv_layers, row.macro_f1, row.macro_f1_low, row.macro_f1_high) == ("cnn4", 4, 0.9, 0.85, 0.94)


def test_a_score_with_near_copies_in_training_ranks_below_every_honest_one(tmp_path):
    for name, score, near_duplicates in [("honest", 0.8, 0), ("leaky", 0.99, 7), ("best", 0.9, 0)]:
        folder = finished_run(tmp_path / name)
        changed = {"macro_f1": score, "test_pictures": 100, "near_duplicates_in_train": near_duplicates}
        records.write_json(folder / "metrics.json", METRICS | changed | {"kaggle_test": {"macro_f1": 0.7}})
    results = compare.results(compare.evaluated(tmp_path))
    ranked = compare.ranked(results)
    assert list(ranked.run) == ["best", "honest", "leaky"] and list(ranked.index) == [0, 1, 2]
    assert list(ranked.near_duplicates_in_train) == [0, 0, 7] and set(ranked.kaggle_macro_f1) == {0.7}
    # Records of before, which counted none, are ranked by the score alone.
    assert list(compare.ranked(results.drop(columns="near_duplicates_in_train")).run) == ["leaky", "best", "honest"]


def test_seeds_of_one_recipe_stand_together_and_a_recipe_of_one_seed_does_not(tmp_path):
    for name, changed in [
        ("cnn4", {}),
        ("cnn4-again", {"seed": 1}),
        ("cnn6", {"conv_layers": 6}),
        ("other-pictures", {"seed": 2, "data_name": "other"}),
    ]:
        finished_run(tmp_path / name, parameters=RUN["recipe"] | {"run": name} | changed)
    table = compare.seeds(compare.evaluated(tmp_path))
    assert list(table.run) == ["cnn4", "cnn4-again"] and list(table.seed) == [0, 1]
    assert set(table.recipe) == {"cnn4"} and set(table.macro_f1) == {0.9}


def test_no_runs_are_no_seeds():
    assert compare.seeds([]).empty


def test_the_report_names_the_notebook_and_prints_the_table(tmp_path, capsys):
    folder = finished_run(tmp_path / "cnn4")
    assert report.main([str(folder), "--keep", str(tmp_path / "summary.txt")]) == 0
    printed = capsys.readouterr().out
    assert str(folder / "evaluate.ipynb") in printed
    assert printed.splitlines()[-3].split() == [
        "run",
        "conv",
        "layers",
        "parameters",
        "epochs",
        "seconds",
        "accuracy",
        "macro",
        "F1",
    ]
    assert printed.splitlines()[-2].split() == ["cnn4", "4", "6,497,842", "40", "120", "0.912", "0.900"]
    assert (tmp_path / "summary.txt").read_text().strip() == printed.strip()


def test_a_relative_outputs_folder_counts_from_the_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert records.folder("outputs", "sample", "cnn4") == paths.ROOT / "outputs" / "sample" / "cnn4"
    assert records.folder(str(tmp_path), "sample", "cnn4") == tmp_path / "sample" / "cnn4"


def test_a_second_process_is_told_that_the_folder_is_taken(tmp_path, monkeypatch):
    target = tmp_path / "cnn4"
    hold = "import sys, pathlib, lib.records\nwith lib.records.lock(pathlib.Path(sys.argv[1])): print(1, flush=True), input()"
    command = [sys.executable, "-c", hold, str(target)]
    with subprocess.Popen(command, cwd=paths.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        monkeypatch.setattr(records, "LOCK_PATIENCE_SECONDS", 0)
        with pytest.raises(UserError, match="Another process is working on"), records.lock(target):
            pass
        # A process that is killed gives its lock back.
        holder.kill()
    with records.lock(target):
        pass


def test_the_lock_sweeps_away_what_a_killed_process_left(tmp_path):
    target = tmp_path / "cnn4"
    target.mkdir()
    (target / f"{records.TEMPORARY}abc.npz").write_bytes(b"half")
    (target / "run.json").write_text("{}")
    with records.lock(target):
        assert [p.name for p in target.iterdir()] == ["run.json"]


def test_the_lock_above_the_runs_leaves_them_alone(tmp_path):
    with records.atomic_write(tmp_path / "cnn4" / "state.npz") as temporary:
        temporary.write_text("half of it")
        with records.lock(tmp_path):
            assert temporary.read_text() == "half of it"


def test_the_digest_depends_on_content_alone():
    assert records.digest({"a": 1, "b": 2}) == records.digest({"b": 2, "a": 1})
    assert records.digest({"a": 1}) != records.digest({"a": 2})


def test_provenance_names_versions_and_machine():
    found = records.provenance()
    assert found["versions"]["keras"].startswith("3.")
    assert found["machine"]["cores"] >= 1


def test_an_ablation_names_what_each_line_changed(tmp_path):
    for name, changed, score in [
        ("base", {}, 0.9),
        ("sgd", {"optimizer": "sgd"}, 0.8),
        ("base-seed-1", {"seed": 1}, 0.91),
    ]:
        parameters = {"run": f"ablation/{name}", "optimizer": "muon", "seed": 0} | changed
        record = {"format_version": records.FORMAT_VERSION, "recipe": parameters, "epochs": 6, "seconds": 90.0}
        records.write_json(tmp_path / name / "run.json", record | {"best_val_macro_f1": score})
    table = compare.ablation(tmp_path)
    assert list(table.run) == ["base-seed-1", "base", "sgd"]
    assert list(table.changed) == ["seed=1", "", "optimizer=sgd"]
    assert list(table.minutes) == [1.5, 1.5, 1.5]
    assert table.corruption_loss.isna().all()


def test_no_ablation_is_an_empty_table(tmp_path):
    assert compare.ablation(tmp_path / "ablation").empty


def test_what_a_change_of_the_pictures_costs_is_the_mean_over_all_changes(tmp_path):
    assert compare.corruption_loss(tmp_path) is None
    (tmp_path / "robustness.csv").write_text(
        "kind,strength,macro_f1\nunchanged,,0.9\njpeg,slight,0.8\njpeg,strong,0.5\n"
    )
    # (0.8 + 0.5) / 2 = 0.65, and 0.9 - 0.65 = 0.25.
    assert compare.corruption_loss(tmp_path) == pytest.approx(0.25)


def test_what_a_recipe_wins_back_is_a_share_of_the_frames_only_loss(tmp_path):
    for name, unchanged, changed in [("film", 0.9, 0.5), ("uploads", 0.875, 0.775)]:
        (tmp_path / name).mkdir()
        rows = f"unchanged,,{unchanged}\nfaded,slight,{changed + 0.1}\nfaded,strong,{changed - 0.1}\n"
        (tmp_path / name / "robustness.csv").write_text(f"kind,strength,macro_f1\n{rows}")
    folders = [tmp_path / name for name in ("film", "uploads", "not-scored")]
    table = compare.robustness(folders, base="film")
    assert list(table.run) == ["uploads", "film"]
    # Of a loss of 0.4, 0.1 remains.
    assert list(table.loss) == pytest.approx([0.1, 0.4]) and list(table.loss_recovered) == pytest.approx([0.75, 0.0])
    assert compare.robustness(folders[1:], base="film").loss_recovered.isna().all()
    assert not len(compare.robustness([]))


def test_time_to_a_score_counts_the_epochs_up_to_the_first_that_reaches_it(tmp_path):
    folders = []
    for name, scores, seconds in [("cnn6", [0.5, 0.9, 0.8], [60, 60, 60]), ("quick", [0.7, 0.85], [6, 18])]:
        folders.append(finished_run(tmp_path / name))
        history = "".join(f"{epoch},{score}\n" for epoch, score in enumerate(scores, start=1))
        (tmp_path / name / "history.csv").write_text(f"epoch,val_macro_f1\n{history}")
        record = records.read_json(tmp_path / name / "run.json") | {"epoch_seconds": seconds}
        records.write_json(tmp_path / name / "run.json", record)
    table = compare.time_to_target(folders, reference="cnn6")
    # The mark is 0.8, where cnn6 ended: cnn6 passed it in its second minute, quick after 6 + 18 = 24 s.
    assert list(table.run) == ["quick", "cnn6"] and list(table.epoch) == [2, 2]
    assert list(table.minutes) == pytest.approx([0.4, 2.0]) and list(table.share) == pytest.approx([0.2, 1.0])


def test_the_time_to_a_score_on_other_pictures_or_another_machine_is_no_time(tmp_path):
    folders = [finished_run(tmp_path / "cnn6"), finished_run(tmp_path / "random", manifest_sha256="other")]
    folders.append(finished_run(tmp_path / "elsewhere", machine={"processor": "another"}))
    for folder in folders:
        (folder / "history.csv").write_text("epoch,val_macro_f1\n1,0.9\n")
    assert list(compare.time_to_target(folders, reference="cnn6").run) == ["cnn6"]


def test_without_the_run_that_sets_the_mark_there_are_no_times(tmp_path):
    assert compare.time_to_target([finished_run(tmp_path / "cnn4")], reference="cnn6").empty
