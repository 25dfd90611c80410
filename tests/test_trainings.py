"""What becomes of a run, however its task ends: with a client whose tasks end at once."""

from concurrent.futures import CancelledError
from types import SimpleNamespace

import pytest

from lib import records, scheduler
from lib.errors import UserError
from lib.pipeline import cluster


class Ended:
    """A task that has ended, with an outcome or by an exception."""

    def __init__(self, outcome):
        self._outcome = outcome
        failed = "cancelled" if isinstance(outcome, CancelledError) else "error"
        self.status = failed if isinstance(outcome, Exception) else "finished"

    def add_done_callback(self, function):
        function(self)

    def exception(self):
        return self._outcome

    def result(self):
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


class Client:
    """A client of one worker that has room for one training."""

    status = "running"

    def __init__(self, outcomes):
        self.outcomes, self.markers = outcomes, []

    def submit(self, task, job, begun, **options):
        self.markers.append(task.args[1])
        return Ended(self.outcomes[job.run])

    def run(self, function):
        return {"worker": function()}

    def scheduler_info(self, **options):
        return {"workers": {"worker": {"resources": {cluster.TRAININGS: 1}}}}

    def register_plugin(self, plugin, name):
        pass

    def subscribe_topic(self, topic, handler):
        pass


def run(client, folder):
    """Run what the client has outcomes for; gives the errors by run."""
    jobs = [cluster.Job(name, ("train",), folder / name, {}, {}) for name in client.outcomes]
    return {job.run: error for job, _, error in cluster.run(client, folder, [], jobs)}


def test_what_a_worker_sends_is_put_into_the_folder_of_the_run(tmp_path):
    sent = {records.RUN_RECORD: b"{}", "figures/curves.png": b"png"}
    assert run(Client({"cnn4": ("", sent)}), tmp_path) == {"cnn4": ""}
    assert (tmp_path / "cnn4" / "figures" / "curves.png").read_bytes() == b"png"


def test_a_folder_in_which_another_process_works_fails_its_run_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "LOCK_PATIENCE_SECONDS", 0)
    sent = ("", {records.RUN_RECORD: b"{}"})
    with records.lock(tmp_path / "cnn4"):
        errors = run(Client({"cnn4": sent, "cnn6": sent}), tmp_path)
    assert errors["cnn4"].startswith("cnn4: Another process is working on")
    assert errors["cnn6"] == ""
    assert not (tmp_path / "cnn4").exists() and (tmp_path / "cnn6" / records.RUN_RECORD).exists()


def test_a_task_whose_workers_die_fails_its_run_alone(tmp_path):
    errors = run(Client({"cnn4": RuntimeError("all workers died"), "cnn6": ("", {})}), tmp_path)
    assert errors == {"cnn4": "cnn4: all workers died", "cnn6": ""}


def test_a_scheduler_that_is_gone_ends_the_command(tmp_path):
    with pytest.raises(CancelledError, match="connection lost"):
        run(Client({"cnn4": CancelledError("connection lost")}), tmp_path)


def test_a_worker_shares_the_runs_where_it_sees_a_file_in_their_own_folder(tmp_path):
    # The outputs folder may be another one than that of the repository, which all workers may share.
    client = Client({"cnn4": ("", {})})
    run(client, tmp_path / "scratch")
    assert [markers[0].parent for markers in client.markers] == [tmp_path / "scratch"]
    assert list((tmp_path / "scratch").iterdir()) == []


def test_results_are_sent_back_below_the_repository_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(Client, "run", lambda self, function: {"worker": False})
    with pytest.raises(UserError, match=r"Not all workers share .*; results are sent back below"):
        run(Client({"cnn4": ("", {})}), tmp_path)


def test_a_worker_that_shares_the_runs_and_not_the_pictures_does_not_work_there(tmp_path, monkeypatch):
    (tmp_path / "pictures").mkdir()
    monkeypatch.setattr(cluster, "_sees", lambda markers: all(marker.parent == tmp_path for marker in markers))
    jobs = [cluster.Job("cnn4", ("train",), tmp_path / "cnn4", {}, {})]
    with pytest.raises(UserError, match=r"Not all workers share .* and .*/pictures; results are sent back below"):
        list(cluster.run(Client({"cnn4": ("", {})}), tmp_path, [tmp_path / "pictures"], jobs))


def test_a_worker_that_comes_later_and_does_not_share_the_folder_is_named(tmp_path, monkeypatch):
    worker = SimpleNamespace(address="tcp://later:1", local_directory=str(tmp_path))
    monkeypatch.setattr(scheduler, "this_worker", lambda code: worker)
    job = cluster.Job("cnn4", ("train",), tmp_path / "cnn4", {}, {})
    with pytest.raises(UserError, match=r"The worker tcp://later:1 does not share .*, as the first ones did\."):
        cluster.execute(tmp_path, [tmp_path / "marker"], "code", "", job, {})
