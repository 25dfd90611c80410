"""A run folder and its records: written whole or not at all, read with a sentence when something is amiss.

`run.json` is the product of training and `metrics.json` that of evaluation; each is written last, so a folder
that holds it is finished.
"""

import contextlib
import hashlib
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import filelock
import pandas as pd

from lib import paths
from lib.errors import UserError

FORMAT_VERSION = 1
RUN_RECORD = "run.json"
METRICS_RECORD = "metrics.json"
ROBUSTNESS = "robustness.csv"
REPORTED_PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy", "opencv-python-headless", "pillow")
# What a killed process may leave behind; `lock` sweeps it away for the next one.
TEMPORARY = ".tmp-"
# A process whose make was killed notices within a second; longer than that, somebody is really at work.
LOCK_PATIENCE_SECONDS = 5.0


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path` that becomes `path` when the block ends well.

    Args:
        path: Where the finished file shall stand; its folder is made.

    Yields:
        The temporary name, with the suffix of `path`. It is removed when the block raises.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=TEMPORARY, suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files for the owner alone; a product is readable like any file its user writes.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Write a record as indented JSON, whole or not at all."""
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table without its index, whole or not at all."""
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False)


def read_json(path: Path) -> dict[str, Any]:
    """Read a record.

    Args:
        path: A JSON file that holds one object.

    Returns:
        The object.

    Raises:
        UserError: The file is missing or is not a JSON object.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing, so this run is not finished; `make train evaluate` writes it.") from None
    except (ValueError, OSError) as problem:
        raise UserError(f"{path} cannot be read ({problem}); delete it and run `make train evaluate` again.") from None
    if not isinstance(record, dict):
        raise UserError(f"{path} should hold one JSON object; delete it and run `make train evaluate` again.")
    return record


def folder(outputs: str | Path, data_name: str, run: str) -> Path:
    """Name the folder of a run; a relative `outputs` counts from the repository, not from the working directory."""
    return paths.ROOT / outputs / data_name / run


def read_run(run_folder: Path) -> dict[str, Any]:
    """Read `run.json` and check its format version.

    Args:
        run_folder: A folder that `02_train` wrote.

    Returns:
        The record of the run.

    Raises:
        UserError: The run is unfinished, damaged, or of another format version.
    """
    record = read_json(run_folder / RUN_RECORD)
    if record.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"{run_folder} has format version {record.get('format_version')}, expected {FORMAT_VERSION}; "
            "train it again with `make train`, or use the version of this project that wrote it."
        )
    return record


def evaluated(runs_folder: Path) -> list[Path]:
    """List the run folders below `runs_folder` that are trained and evaluated, sorted by name."""
    return sorted(m.parent for m in Path(runs_folder).glob(f"*/{METRICS_RECORD}") if (m.parent / RUN_RECORD).is_file())


def results(run_folders: list[Path]) -> pd.DataFrame:
    """Collect what the runs were and what they scored.

    Args:
        run_folders: Finished run folders.

    Returns:
        One row a run, in the order given: `run, conv_layers, num_parameters, epochs, seconds, seconds_per_epoch,
        accuracy, macro_f1, macro_f1_low, macro_f1_high, lowest_character, lowest_f1, log_loss, test_pictures,
        near_copies_in_train, kaggle_macro_f1`; `near_copies_in_train` counts the test pictures that have one, and
        `kaggle_macro_f1` is the score on the archive's own test set (None where there is none).
    """
    rows = []
    for run_folder in run_folders:
        run, scores = read_run(run_folder), read_json(run_folder / METRICS_RECORD)
        low, high = scores.get("macro_f1_interval") or (None, None)
        rows.append(
            {key: run[key] for key in ("conv_layers", "num_parameters", "epochs", "seconds", "seconds_per_epoch")}
            | {key: scores[key] for key in ("accuracy", "macro_f1", "lowest_character", "lowest_f1", "log_loss")}
            | {key: scores.get(key) for key in ("test_pictures", "near_copies_in_train")}
            | {"run": run_folder.name, "macro_f1_low": low, "macro_f1_high": high}
            | {"kaggle_macro_f1": scores.get("kaggle_test", {}).get("macro_f1")}
        )
    columns = "run conv_layers num_parameters epochs seconds seconds_per_epoch accuracy macro_f1 macro_f1_low"
    columns += " macro_f1_high lowest_character lowest_f1 log_loss test_pictures near_copies_in_train kaggle_macro_f1"
    return pd.DataFrame(rows, columns=columns.split())


def ranked(results: pd.DataFrame) -> pd.DataFrame:
    """Sort runs by macro F1, best first; those whose test pictures have near-copies in training come last.

    Args:
        results: What `results` gives; `near_copies_in_train` may be missing.

    Returns:
        The same rows, numbered from 0. Scores of the last ones are no match for the others', however high.
    """
    leaks = results.get("near_copies_in_train", pd.Series(0, results.index)).fillna(0) > 0
    order = {"ascending": [True, False], "kind": "stable", "ignore_index": True}
    return results.assign(leaks=leaks).sort_values(["leaks", "macro_f1"], **order).drop(columns="leaks")


def seeds(run_folders: list[Path]) -> pd.DataFrame:
    """Say how far trainings by one recipe differ that differ in their seed alone.

    Args:
        run_folders: Finished run folders.

    Returns:
        One row a run whose recipe was trained more than once, recipe by recipe: `recipe, run, seed, val_macro_f1,
        macro_f1, lowest_f1, kaggle_macro_f1`; `recipe` is the name of the first of its runs.
    """
    table = results(run_folders)[["run", "macro_f1", "lowest_f1", "kaggle_macro_f1"]]
    trained = [read_run(run_folder) for run_folder in run_folders]
    chosen = [{key: value for key, value in run["parameters"].items() if key not in ("run", "seed")} for run in trained]
    table.insert(0, "recipe", [digest(parameters) for parameters in chosen])
    table.insert(2, "seed", [run["parameters"]["seed"] for run in trained])
    table.insert(3, "val_macro_f1", [run["best_val_macro_f1"] for run in trained])
    table = table[table.duplicated("recipe", keep=False)].sort_values(["recipe", "seed"], ignore_index=True)
    table["recipe"] = table.groupby("recipe").run.transform("first")
    return table


def ablation(runs_folder: Path, base: str = "base") -> pd.DataFrame:
    """Say what each changed line of a recipe does to the validation score.

    Args:
        runs_folder: The folder of the trained runs, one a line, `ablation/` of a data name's folder.
        base: The run that the others change.

    Returns:
        One row a run, best first: `run, changed, seed, epochs, val_macro_f1, minutes, loss_when_changed`; `changed`
        names the parameters that differ from the base's, `loss_when_changed` is what macro F1 loses on changed test
        pictures, on average over kinds and strengths (None without `robustness.csv`). Empty where the base is not
        trained.
    """
    columns = ["run", "changed", "seed", "epochs", "val_macro_f1", "minutes", "loss_when_changed"]
    trained = {record.parent.name: read_run(record.parent) for record in Path(runs_folder).glob(f"*/{RUN_RECORD}")}
    if base not in trained:
        return pd.DataFrame(columns=columns)
    same = trained[base]["parameters"]
    rows = []
    for name, run in trained.items():
        chosen = {key: value for key, value in run["parameters"].items() if key != "run"}
        changed = [f"{key}={value}" for key, value in chosen.items() if value != same.get(key)]
        scores = (run["epochs"], run["best_val_macro_f1"], run["seconds"] / 60, loss_when_changed(runs_folder / name))
        rows.append((name, ", ".join(changed), run["parameters"]["seed"], *scores))
    return pd.DataFrame(rows, columns=columns).sort_values("val_macro_f1", ascending=False, ignore_index=True)


def loss_when_changed(run_folder: Path) -> float | None:
    """Say how far macro F1 falls when test pictures are changed, on average over kinds and strengths of change.

    Args:
        run_folder: A run folder, with the `robustness.csv` that `05_robustness` writes.

    Returns:
        Macro F1 on the unchanged pictures less the mean of the others; None where there is no table.
    """
    table = robustness([run_folder])
    return table.loss.iloc[0] if len(table) else None


def robustness(run_folders: list[Path], base: str = "springfield-frames-only") -> pd.DataFrame:
    """Say what is left of the runs' scores on changed pictures.

    Args:
        run_folders: Run folders; those without the `robustness.csv` that `05_robustness` writes are passed over.
        base: Name of the run whose loss the others win back.

    Returns:
        One row a run, the smallest loss first: `run, unchanged, changed, loss, won_back`; `unchanged` and `changed`
        are macro F1 on the same pictures, the latter on average over kinds and strengths of change, `won_back` is the
        share of the base's loss that is none here (NaN where the base is not among the runs).
    """
    rows = []
    for run_folder in run_folders:
        if (run_folder / ROBUSTNESS).exists():
            scores = pd.read_csv(run_folder / ROBUSTNESS)
            same = scores.kind == "unchanged"
            rows.append((run_folder.name, float(scores.macro_f1[same].iloc[0]), float(scores.macro_f1[~same].mean())))
    table = pd.DataFrame(rows, columns=["run", "unchanged", "changed"])
    table["loss"] = table.unchanged - table.changed
    losses = table.set_index("run").loss
    table["won_back"] = 1 - table.loss / losses[base] if base in losses else float("nan")
    return table.sort_values("loss", ignore_index=True)


def times_to_score(run_folders: list[Path], of: str) -> pd.DataFrame:
    """Say how long each run trained until it reached the score that one of them ended with.

    Args:
        run_folders: Finished run folders.
        of: Name of the run whose last validation macro F1 is the mark.

    Returns:
        One row a run that reached it, soonest first: `run, epoch, minutes, share`; `epoch` is the first whose
        validation macro F1 is no lower, `share` the time over that of `of`. Left out are runs on another split,
        whose validation pictures are others, and runs on another machine. Empty where `of` is not among the runs.
    """
    columns = ["run", "epoch", "minutes", "share"]
    folders = {run_folder.name: run_folder for run_folder in run_folders}
    if of not in folders:
        return pd.DataFrame(columns=columns)
    trained = {name: read_run(it) for name, it in folders.items()}
    folders = {name: it for name, it in folders.items() if _comparable(trained[name], trained[of])}
    histories = {name: pd.read_csv(run_folder / "history.csv") for name, run_folder in folders.items()}
    mark, rows = histories[of].val_macro_f1.iloc[-1], []
    for name, history in histories.items():
        reached = history.epoch[history.val_macro_f1 >= mark]
        if len(reached):
            run = trained[name]
            # Runs of an earlier version have the mean alone.
            seconds = run.get("epoch_seconds") or [run["seconds_per_epoch"]] * run["epochs"]
            rows.append((name, int(reached.iloc[0]), sum(seconds[: int(reached.iloc[0])]) / 60))
    table = pd.DataFrame(rows, columns=columns[:3])
    table["share"] = table.minutes / table.minutes[table.run == of].iloc[0]
    return table.sort_values("minutes", ignore_index=True)


def _comparable(run: dict[str, Any], other: dict[str, Any]) -> bool:
    """Say whether two runs had the same pictures and the same machine."""
    return all(run.get(key) == other.get(key) for key in ("manifest_sha256", "machine"))


@contextlib.contextmanager
def lock(target: Path) -> Iterator[None]:
    """Keep a second process from working on the same folder; the lock goes with its process, however that ends.

    What an earlier process left half-written there is removed.

    Args:
        target: The folder to work on. The lock file stands beside it, so that the folder may be replaced.

    Raises:
        UserError: Another process is at work there.
    """
    path = target.parent / f".{target.name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    guard = filelock.FileLock(path)
    try:
        guard.acquire(timeout=LOCK_PATIENCE_SECONDS)
    except filelock.Timeout:
        raise UserError(
            f"Another process is working on {target}; wait for it to end or stop it, then run the command again."
        ) from None
    try:
        # Not deeper: `make compare` locks the folder above the runs, and one of them may be training.
        for left_over in [*target.glob(f"{TEMPORARY}*"), *target.glob(f"figures/{TEMPORARY}*")]:
            left_over.unlink(missing_ok=True)
        yield
    finally:
        guard.release()


def digest(record: Any) -> str:
    """Hash anything JSON can hold, the same for the same content; 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]


def provenance() -> dict[str, Any]:
    """Describe what produced a run: commit, package versions and machine."""
    return {"git": _git(), "versions": _versions(), "machine": _machine()}


def _git() -> dict[str, Any] | None:
    """Name the commit and say whether tracked files differ from it; None outside a repository."""
    command = ["git", "-C", str(paths.ROOT)]
    try:
        commit = subprocess.run([*command, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        status = subprocess.run(
            [*command, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit.stdout.strip(), "dirty": bool(status.stdout.strip())}


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in REPORTED_PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


def _machine() -> dict[str, Any]:
    return {"system": platform.system(), "processor": processor_name(), "cores": os.cpu_count()}


def processor_name() -> str:
    """Name the processor as the system does, or at least its architecture."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
