import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from lib import machine, paths


@pytest.mark.parametrize(
    ("makeflags", "jobs"), [("", 1), ("k --no-print-directory", 1), (" -j2 --jobserver-auth=3,4", 2), ("-j12", 12)]
)
def test_the_number_of_jobs_is_read_from_the_flags_of_make(makeflags, jobs, monkeypatch):
    monkeypatch.setenv("MAKEFLAGS", makeflags)
    assert machine.jobs() == jobs


def test_without_a_number_there_are_as_many_jobs_as_cores(monkeypatch):
    monkeypatch.setenv("MAKEFLAGS", " -j --jobserver-auth=3,4")
    assert machine.jobs() == machine.cores()


def test_one_training_at_a_time_has_all_cores(tmp_path, monkeypatch):
    monkeypatch.delenv("MAKEFLAGS", raising=False)
    with machine.training_slot(tmp_path / "outputs") as environment:
        assert environment == {}
    assert list(tmp_path.iterdir()) == []


def test_trainings_side_by_side_divide_the_cores(tmp_path, monkeypatch):
    monkeypatch.setenv("MAKEFLAGS", "-j2")
    monkeypatch.setattr(machine, "cores", lambda: 4)
    monkeypatch.setattr(machine, "TRAINING_BYTES", 1)
    with machine.training_slot(tmp_path) as first, machine.training_slot(tmp_path) as second:
        assert first["TF_NUM_INTRAOP_THREADS"] == second["TF_NUM_INTRAOP_THREADS"] == "2"


def test_a_training_that_does_not_fit_into_memory_waits(tmp_path, monkeypatch):
    monkeypatch.setenv("MAKEFLAGS", "-j2")
    monkeypatch.setattr(machine, "cores", lambda: 4)
    monkeypatch.setattr(machine, "TRAINING_BYTES", 10**18)
    monkeypatch.setattr(machine, "SLOT_SECONDS", 0.01)
    started = threading.Event()

    def train():
        with machine.training_slot(tmp_path):
            started.set()

    with machine.training_slot(tmp_path) as environment:
        assert environment["TF_NUM_INTRAOP_THREADS"] == "4"
        waiting = threading.Thread(target=train)
        waiting.start()
        time.sleep(0.1)
        assert not started.is_set()
    waiting.join()
    assert started.is_set()


def test_the_processor_has_a_name():
    assert machine.processor_name()


def test_ctrl_c_while_a_command_loads_its_modules_prints_no_traceback():
    code = "import lib, sys; raise (KeyboardInterrupt if sys.argv[1:] else RuntimeError)('pressed')"
    interrupted, mistaken = (
        subprocess.run([sys.executable, "-c", code, *given], capture_output=True, text=True)
        for given in (["ctrl-c"], [])
    )
    assert (interrupted.returncode, interrupted.stderr) == (-signal.SIGINT, "")
    assert mistaken.returncode == 1 and mistaken.stderr.endswith("RuntimeError: pressed\n")


def test_a_closed_standard_stream_is_no_file_that_is_opened_next(tmp_path):
    code = "import lib, pathlib; print('lost'); number = pathlib.Path('opened').open('w').fileno(); "
    code += "pathlib.Path('number').write_text(str(number))"
    command = ["sh", "-c", '"$0" -c "$1" >&- 2>&-', sys.executable, code]
    environment = os.environ | {"PYTHONPATH": str(paths.ROOT)}
    assert subprocess.run(command, cwd=tmp_path, env=environment).returncode == 0
    assert int((tmp_path / "number").read_text()) > 2
