import csv
import errno
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from lib import paths, records
from lib.errors import UserError

RUN = {"name": "cnn4", "format_version": records.FORMAT_VERSION, "finished": True, "recipe": {"seed": 0}}


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
    # As any file of its user: 0644 with the usual umask of 022.
    assert (tmp_path / "record.json").stat().st_mode & 0o600 == 0o600
    (tmp_path / "other").write_text("")
    assert (tmp_path / "record.json").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_csv_comes_back_as_it_was(tmp_path):
    table = pd.DataFrame({"character": ["bart"], "f1": [0.1 + 0.2]})
    records.write_csv(tmp_path / "table.csv", table)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "table.csv"), table, check_exact=True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "cannot be read"),
        ("[1]", "must hold one JSON object"),
        ("[" * 100_000, "it is nested too deeply"),
        ("\xff", "cannot be read"),
    ],
    ids=["cut off", "a list", "nested", "not UTF-8"],
)
def test_a_damaged_record_is_named(tmp_path, text, says):
    (tmp_path / "run.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=f"run.json .*{says}.* Delete .*run.json and run `make train evaluate` again"):
        records.read_json(tmp_path / "run.json")


def test_a_record_of_endless_size_is_refused():
    with pytest.raises(UserError, match="/dev/zero cannot be read: it is not a regular file"):
        records.read_json(Path("/dev/zero"))


def test_a_record_that_is_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "MAX_DOCUMENT_BYTES", 10)
    (tmp_path / "run.json").write_text('{"name": "cnn4"}')
    with pytest.raises(UserError, match="larger than"):
        records.read_json(tmp_path / "run.json")


def test_a_small_file_takes_little_memory_however_large_it_may_be(tmp_path):
    (tmp_path / "model").write_bytes(b"123")
    assert records.read_bytes(tmp_path / "model", 2**62) == b"123"  # more than any machine has


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": 1, "a": 2}', "the key `a` appears twice"),
        ('{"a": {"b": 1, "c": 3, "b": 2}}', "the key `b` appears twice"),
        ('{"a": NaN}', "NaN is no finite number"),
        ('{"a": [-Infinity]}', "-Infinity is no finite number"),
        ('{"a": 1e999}', "1e999 is no finite number"),
    ],
)
def test_json_that_programs_read_differently_is_refused(text, says, tmp_path):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UserError, match=f"cannot be read: {says}"):
        records.read_json(tmp_path / "run.json")


@pytest.mark.parametrize("text", ["010", "-07", "0x10", "0b11", "1_000", "1:30", "1:30.5", "2001-01-01"])
def test_what_yaml_would_take_for_another_number_is_text(text):
    assert records.parse_yaml(f"a: {text}") == {"a": text}


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("-5", -5), ("0.5", 0.5), (".5", 0.5), ("-1.5e+3", -1500.0)])
def test_plain_numbers_are_numbers(text, value):
    assert records.parse_yaml(text) == value


def test_yaml_of_many_keys_takes_little_time_and_more_is_refused():
    started = time.process_time()
    assert len(records.parse_yaml("".join(f"k{number}: 1\n" for number in range(9_000)))) == 9_000
    assert time.process_time() - started < 10
    with pytest.raises(ValueError, match="it is longer than 100,000 letters"):
        records.parse_yaml("- 1\n" * 30_000)


def test_a_run_without_a_record_is_unfinished(tmp_path):
    with pytest.raises(UserError, match=r"run\.json is missing, so this run is not finished"):
        records.read_run(tmp_path)


def test_a_run_whose_record_says_so_is_unfinished(tmp_path):
    records.write_json(tmp_path / "run.json", RUN | {"finished": False})
    with pytest.raises(UserError, match=r"The training of .* is not finished"):
        records.read_run(tmp_path)


def test_another_format_version_is_refused(tmp_path):
    records.write_json(tmp_path / "run.json", RUN | {"format_version": 99})
    with pytest.raises(UserError, match="has format version 99, expected 1 or 2"):
        records.read_run(tmp_path)


def test_the_keys_of_format_1_are_read_as_those_of_today(tmp_path):
    parameters = {"run": "cnn4", "outputs": "outputs", "data_name": "x", "cutout": 0.4, "second_look": 0.8, "seed": 3}
    old = {"name": "cnn4", "format_version": 1, "finished": True, "fit": "pad", "parameters": parameters}
    records.write_json(tmp_path / "run.json", old)
    found = records.read_run(tmp_path)
    assert found["resize_mode"] == "pad" and "fit" not in found and "parameters" not in found
    assert found["recipe"] == {"random_erasing": 0.4, "flip_tta_threshold": 0.8, "seed": 3}


def test_the_scores_of_format_1_are_read_with_the_keys_of_today(tmp_path):
    records.write_json(
        tmp_path / "metrics.json", {"near_copies_in_train": 3, "kaggle_test": {"near_copies_in_train": 4}}
    )
    found = records.read_metrics(tmp_path)
    assert (found["near_duplicates_in_train"], found["kaggle_test"]["near_duplicates_in_train"]) == (3, 4)


PUBLISHED = sorted(path.parent for path in paths.PUBLISHED.rglob(records.RUN_RECORD))


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.relative_to(paths.PUBLISHED).as_posix())
def test_every_published_record_is_readable(folder):
    assert {"resize_mode", "recipe", "epochs", "best_val_macro_f1"} <= records.read_run(folder).keys()
    if (folder / records.METRICS_RECORD).exists():
        assert 0 <= records.read_metrics(folder)["macro_f1"] <= 1


def test_a_full_disk_is_told_with_the_file_that_was_written(tmp_path):
    with pytest.raises(OSError, match="No space left on device") as problem, records.atomic_write(tmp_path / "a.npz"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert problem.value.filename == str(tmp_path / "a.npz")


def test_a_disk_that_is_full_when_the_file_is_synced_is_told_with_it_too(tmp_path, monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(records, "_sync", full)
    with pytest.raises(OSError, match="No space left on device") as problem:
        records.write_text(tmp_path / "a.txt", "a")
    assert problem.value.filename == str(tmp_path / "a.txt")
    assert list(tmp_path.iterdir()) == []


def test_a_link_stays_a_link_and_its_target_is_replaced(tmp_path):
    (tmp_path / "link.json").symlink_to(tmp_path / "shared" / "record.json")
    records.write_json(tmp_path / "link.json", {"a": 1})
    assert (tmp_path / "link.json").is_symlink()
    assert records.read_json(tmp_path / "shared" / "record.json") == {"a": 1}


def test_the_scores_of_the_training_before_are_removed_with_its_record(tmp_path):
    own = {records.HISTORY, records.KERAS_MODEL, records.LITERT_MODEL}
    (tmp_path / "figures").mkdir()
    evaluated = {"metrics.json", "robustness.csv", "strangers.json", "predictions.csv", "per_character.csv"}
    evaluated |= {"confusion.csv", "evaluate.ipynb", "robustness.ipynb", "figures/confusion_matrix.png"}
    for name in own | evaluated:
        (tmp_path / name).write_text("old")
    records.write_run(tmp_path, RUN)
    assert records.read_run(tmp_path)["files"].keys() == own
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == own | {records.RUN_RECORD}


def test_a_relative_outputs_folder_counts_from_the_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert records.folder("outputs", "sample", "cnn4") == paths.ROOT / "outputs" / "sample" / "cnn4"
    assert records.folder(str(tmp_path), "sample", "cnn4") == tmp_path / "sample" / "cnn4"


def test_a_second_process_is_told_that_the_folder_is_taken(tmp_path, monkeypatch):
    target = tmp_path / "cnn4"
    hold = "import sys, pathlib, lib.records as records\n"
    hold += "with records.lock(pathlib.Path(sys.argv[1])): print(1, flush=True), input()"
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


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder in which nobody, not even root, can write")
def test_a_lock_that_cannot_be_made_is_not_taken_for_another_process(monkeypatch):
    monkeypatch.setattr(records, "LOCK_PATIENCE_SECONDS", 0)
    message = r"/proc/\.run\.lock cannot be made\. Give write permission"
    with pytest.raises(UserError, match=message), records.lock(Path("/proc/run")):
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


def test_the_commit_is_that_of_this_repository_also_in_a_hook_of_another(tmp_path, monkeypatch):
    expected = records.provenance()["git"]
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    assert records.provenance()["git"] == expected


# ---------------------------------------------------------------- digests


def test_a_record_comes_back_as_it_was_written(tmp_path):
    records.write_record(tmp_path / "run.json", {"a": (1, 0.1 + 0.2), "b": {10: "x", 9: "y"}}, {"model": "abc"})
    assert records.read_record(tmp_path / "run.json") == {
        "a": [1, 0.1 + 0.2],
        "b": {"10": "x", "9": "y"},
        "files": {"model": "abc"},
    }


@pytest.mark.parametrize(("old", "new"), [('"a": 1', '"a": 2'), ('"digest"', '"digesu"'), ("abc", "abd")])
def test_a_changed_record_is_refused(old, new, tmp_path):
    path = tmp_path / "run.json"
    records.write_record(path, {"a": 1}, {"model": "abc"})
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError, match=r"run\.json is damaged, or was changed since it was written\. Delete"):
        records.read_record(path)


def test_a_record_without_digests_is_read(tmp_path):
    records.write_json(tmp_path / "run.json", {"a": 1})
    assert records.read_record(tmp_path / "run.json") == {"a": 1}


def test_a_table_beside_the_runs_has_a_record_of_its_own(tmp_path):
    path = tmp_path / records.BASELINES
    records.write_table(path, pd.DataFrame({"accuracy": [0.5]}))
    assert records.verified(path) == path
    path.write_text("accuracy\n0.9\n")
    with pytest.raises(UserError, match=r"baselines\.csv is damaged.* Delete .*baselines\.json"):
        records.verified(path)


def test_an_entry_of_makes_record_that_is_none_says_nothing(tmp_path):
    (tmp_path / records.ROBUSTNESS).write_text("kind,strength,macro_f1\n")
    records.write_json(tmp_path / records.INPUTS, {records.ROBUSTNESS: "by hand"})
    assert records.verified(tmp_path / records.ROBUSTNESS) == tmp_path / records.ROBUSTNESS


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1", "-1+1", "@SUM(A1)", "\t=1", "\n=1", " =1"])
def test_no_cell_of_a_table_is_a_formula(text, tmp_path):
    records.write_csv(tmp_path / "table.csv", pd.DataFrame({text: [text, "bart"], "number": [-1.5, 2]}))
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [[f"'{text}", "number"], [f"'{text}", "-1.5"], ["bart", "2.0"]]


# ---------------------------------------------------------------- a run that make made


def test_a_notebook_alone_does_not_replace_a_run_that_make_made(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.delenv(records.STARTED_BY_MAKE, raising=False)
    folder = tmp_path / "outputs" / "sample" / "cnn4"
    assert records.folder_to_train("outputs", "sample", "cnn4") == folder
    records.write_json(folder / records.INPUTS, {records.RUN_RECORD: {}})
    assert records.folder_to_train("outputs", "sample", "cnn4") == folder.with_name("cnn4-by-hand")
    assert "holds a run that make made, and keeps it" in capsys.readouterr().out
    monkeypatch.setenv(records.STARTED_BY_MAKE, "1")
    assert records.folder_to_train("outputs", "sample", "cnn4") == folder
