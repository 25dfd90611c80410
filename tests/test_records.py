import subprocess
import sys

import pandas as pd
import pytest

from lib import paths, records
from lib.errors import UserError

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
