"""Runs on an MLflow server, where `MLFLOW_TRACKING_URI` names one: parameters, scores of each epoch, figures, network.

The run folder stays the record. It is sent after each step, and a server that does not answer fails no step.
"""

import itertools
import os
import re
import sys
from pathlib import Path
from types import ModuleType

from lib import records
from lib.errors import import_extra

VARIABLE = "MLFLOW_TRACKING_URI"
TAG = "training"  # of a run on the server: the digest of its `run.json`
# Settings of MLflow: it would try for minutes whether a server comes back, and report its use to its makers.
DEFAULTS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_DISABLE_TELEMETRY": "true"}
SENT = ("*.ipynb", "*.json", "*.csv", "*.keras", "*.tflite")
CREDENTIALS = re.compile(r"(?<=//)[^/\s]*@")  # in an address; not printed


def wanted() -> ModuleType | None:
    """Import MLflow where a server is named, before hours of training for it.

    Raises:
        UserError: A server is named, and MLflow is not installed.
    """
    if not os.environ.get(VARIABLE):
        return None
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    return import_extra("mlflow", "mlflow")


def send(mlflow: ModuleType, folder: Path, data_name: str) -> None:
    """Send what a step has made in a run folder to the server, in an experiment named after the prepared pictures.

    Why it could not be sent is said on standard error.
    """
    try:
        from lib.evaluation import metrics  # scikit-learn, which takes seconds to import: most users name no server

        training = records.file_sha256(folder / records.RUN_RECORD)
        experiment = mlflow.set_experiment(data_name).experiment_id
        # Another training than that of the step before is a run of its own.
        sent = mlflow.search_runs([experiment], f"tags.{TAG} = '{training}'", output_format="list")
        with mlflow.start_run(sent[0].info.run_id if sent else None, experiment, folder.name):
            if not sent:
                mlflow.log_params(records.read_run(folder)["recipe"])
                for row in metrics.read_history(folder / records.HISTORY).to_dict("records"):
                    epoch = int(row.pop("epoch"))
                    mlflow.log_metrics(row, step=epoch)
                mlflow.set_tag(TAG, training)
            if (folder / records.METRICS_RECORD).exists():
                scores = records.read_metrics(folder).items()
                mlflow.log_metrics({f"test_{name}": value for name, value in scores if isinstance(value, int | float)})
            for path in itertools.chain.from_iterable(map(folder.glob, SENT)):
                mlflow.log_artifact(str(path))
            if (folder / records.FIGURES).is_dir():
                mlflow.log_artifacts(str(folder / records.FIGURES), records.FIGURES)
    except Exception as problem:  # whatever the server, or the store of its files, raises
        text = f"{folder.name} was not sent to {os.environ[VARIABLE]}: {problem}"
        print(CREDENTIALS.sub("", text), file=sys.stderr)
