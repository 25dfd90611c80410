"""Runs on a real MLflow server with SQLite, which the test starts and ends."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from lib import tracking
from lib.errors import UserError
from tests import small_model
from tests.patience import until

HISTORY = """epoch,loss,accuracy,val_loss,val_accuracy,val_macro_f1,learning_rate
1,1.0,0.5,1.1,0.4,0.3,0.001
2,0.5,0.8,0.7,0.7,0.6,0.001
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "files"),
    ]
    # Its job runner, six processes more, is for what this project does not use.
    environment = os.environ | tracking.DEFAULTS | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    with subprocess.Popen(command, cwd=folder, start_new_session=True, **quiet) as process:
        try:
            until(lambda: answer(f"http://127.0.0.1:{port}/health"), process)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def answer(address):
    with contextlib.suppress(OSError):
        return urllib.request.urlopen(address, timeout=5).read()


@pytest.fixture
def run(tmp_path):
    folder = small_model.write_run(tmp_path / "cnn4", run={"recipe": {"network": "cnn", "learning_rate": 0.001}})
    (folder / "history.csv").write_text(HISTORY)
    return folder


@pytest.mark.slow
def test_parameters_scores_figures_and_network_are_on_the_server(run, server, monkeypatch):
    monkeypatch.setenv(tracking.VARIABLE, server)
    mlflow = tracking.wanted()
    tracking.send(mlflow, run, "sample")
    # What the evaluation adds goes to the same run.
    (run / "metrics.json").write_text('{"macro_f1": 0.75, "characters": ["a"]}')
    (run / "figures").mkdir()
    (run / "figures" / "confusion_matrix.png").write_bytes(b"png")
    tracking.send(mlflow, run, "sample")
    client = mlflow.MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("sample").experiment_id])
    assert (found.info.run_name, found.info.status) == ("cnn4", "FINISHED")
    assert found.data.params == {"network": "cnn", "learning_rate": "0.001"}
    history = client.get_metric_history(found.info.run_id, "val_macro_f1")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.3), (2, 0.6)]
    assert found.data.metrics["test_macro_f1"] == 0.75
    sent = {artifact.path for artifact in client.list_artifacts(found.info.run_id)}
    assert {"run.json", "history.csv", "metrics.json", "model.tflite", "figures"} <= sent
    (figure,) = client.list_artifacts(found.info.run_id, "figures")
    assert figure.path == "figures/confusion_matrix.png"


def test_a_server_that_does_not_answer_fails_no_step(run, monkeypatch, capsys):
    monkeypatch.setenv(tracking.VARIABLE, "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tracking.send(tracking.wanted(), run, "sample")
    assert capsys.readouterr().err.startswith("cnn4 was not sent to http://127.0.0.1:1: ")


class Failing:
    """In place of MLflow: fails with the address in its message."""

    @staticmethod
    def set_experiment(name):
        raise ModuleNotFoundError(f"API request to {os.environ[tracking.VARIABLE]}/api failed")


def test_a_password_in_the_address_is_neither_kept_nor_printed(run, monkeypatch, capsys):
    monkeypatch.setenv(tracking.VARIABLE, "https://me:s@cret@mlflow.example:5000")
    tracking.send(Failing, run, "sample")
    server = "https://mlflow.example:5000"
    assert capsys.readouterr().err == f"cnn4 was not sent to {server}: API request to {server}/api failed\n"
    assert not any(b"cret" in path.read_bytes() for path in run.iterdir())


def test_without_a_server_mlflow_is_not_loaded(monkeypatch):
    monkeypatch.delenv(tracking.VARIABLE, raising=False)
    assert tracking.wanted() is None


def test_a_server_without_mlflow_is_said_before_the_training(monkeypatch):
    monkeypatch.setenv(tracking.VARIABLE, "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[mlflow\]'"):
        tracking.wanted()
