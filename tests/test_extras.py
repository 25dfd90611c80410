"""What does not need an optional extra works without it; what does says what to install."""

import sys

import pytest

import lib
from lib import paths, pipeline, predict
from lib.pipeline import commands
from tests import small_model

MODULES = ["dask", "distributed", "bokeh", "optuna", "fsspec", "fsspec.core", "s3fs", "mlflow"]
MODULES += ["pyarrow", "pyarrow.parquet", "pyarrow.dataset"]


@pytest.fixture
def bare(monkeypatch):
    """An environment without the optional extras."""
    for name in MODULES:
        monkeypatch.setitem(sys.modules, name, None)
    for package, name in ((lib, "scheduler"), (pipeline, "cluster"), (pipeline, "sweep")):
        monkeypatch.delitem(sys.modules, f"{package.__name__}.{name}", raising=False)
        monkeypatch.delattr(package, name, raising=False)


@pytest.fixture
def command(tmp_path):
    """Arguments that name one picture."""
    (tmp_path / "homer.png").write_bytes(small_model.picture((255, 0, 0)))
    return [str(tmp_path / "homer.png"), "--run", str(small_model.write_run(tmp_path / "run"))]


def test_a_picture_is_named_without_the_extras(bare, command, capsys):
    assert predict.main([*command, "--json"]) == predict.ANSWERED
    assert '"name": "Homer Simpson"' in capsys.readouterr().out


def test_many_pictures_need_the_extra_predictions(bare, command, tmp_path, capsys):
    assert predict.main([*command, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == (
        "error: This needs the package pyarrow.parquet, which is not installed. Install the optional extra "
        "`predictions` from the folder of this project: pip install -e '.[predictions]' -c constraints.txt\n"
    )


def test_a_cluster_needs_the_extra_cluster(bare, command, tmp_path, capsys, monkeypatch):
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.delitem(sys.modules, name)
    assert predict.main([*command, "--out", str(tmp_path / "out"), "--cluster", "local"]) == 2
    assert "pip install -e '.[cluster]'" in capsys.readouterr().err


def test_a_sweep_needs_the_extra_cluster(bare, capsys, monkeypatch):
    monkeypatch.setenv("SWEEP", str(paths.PARAMS / "sweeps" / "lr.yaml"))
    assert commands.main(["sweep"]) == 2
    assert "pip install -e '.[cluster]'" in capsys.readouterr().err
