"""Copies the records of finished runs to the committed ones, and the network with its card where asked for."""

import shutil
import sys
from pathlib import Path

from lib import paths, records
from lib.errors import UserError
from lib.pipeline.plan import Plan

# What is published: no figure with frames in it, and a network only on request, since everyone clones it. The records
# that say that a run is whole come last.
PUBLISHED_FILES = (
    *(records.HISTORY, records.PER_CHARACTER, records.CONFUSION, records.PREDICTIONS),
    *(f"{records.FIGURES}/{name}.png" for name in ("confusion_matrix", "learning_curves", "per_character")),
    f"{records.FIGURES}/robustness.png",
    *(records.ROBUSTNESS, records.STRANGERS, records.METRICS_RECORD, records.RUN_RECORD),
)


def check(plan: Plan) -> None:
    """Raise a `UserError` if the runs are not of real pictures, or records of other pictures stand in their place."""
    if plan.source == "sample":
        raise UserError("Only runs on real pictures are published; name them, for example `make publish DATA=kaggle`.")
    folders = {run: plan.published_folder(run) for run in plan.runs}
    finished = [run for run, folder in folders.items() if (folder / records.RUN_RECORD).exists()]
    others = [run for run in finished if records.read_run(folders[run])["data_name"] != plan.data_name]
    if others:
        raise UserError(
            f"The published records of {', '.join(others)} are of other pictures than {plan.data_name}. Remove them "
            "first, or give your run a name of its own."
        )
    networks = [run for run, folder in folders.items() if (folder / records.LITERT_MODEL).exists()]
    if networks and not plan.publish_model:
        raise UserError(
            f"The network of {', '.join(networks)} is published too. Add MODEL=1, which replaces it with its record."
        )


def _check_characters(source: Path, target: Path) -> None:
    """Raise a `UserError` if a published run knows other characters than the one that would replace it."""
    if not (target / records.RUN_RECORD).exists():
        return
    new, old = (records.read_run(folder)["characters"] for folder in (source, target))
    if new != old:
        raise UserError(
            f"{paths.shown(target)} knows {len(old)} characters and {paths.shown(source)} {len(new)}: was another "
            "MIN_PICTURES meant? Remove the published one first, or give your run a name of its own."
        )


def check_refit(run_folder: Path) -> None:
    """Raise a `UserError` if a run was trained again since its network was trained on all frames."""
    refit = run_folder / records.REFIT
    if (refit / records.RUN_RECORD).exists() and (
        records.read_run(refit)["refit_of"] != records.read_run(run_folder)["model_sha256"]
    ):
        raise UserError(f"{paths.shown(refit)} repeats an earlier training of the run. Run `make refit` first.")


def publish(plan: Plan) -> None:
    """Copy the records of the runs to the committed ones; the network and its card too where asked for."""
    for run in plan.runs:
        _check_characters(plan.run_folder(run), plan.published_folder(run))
        if plan.publish_model:
            check_refit(plan.run_folder(run))
    for name in records.BESIDE_RUNS:
        table = plan.folder / name
        record = table.with_suffix(".json")
        if not record.exists() or plan.preparation.split != "grouped":
            continue
        of, before = (_pictures_of(each / record.name) for each in (plan.folder, paths.PUBLISHED))
        if before not in ("", of):
            print(
                f"{name} is left as it is: the published one is of {before}, this one of {of}. Remove that one first.",
                file=sys.stderr,
            )
            continue
        _copy(records.verified(table), paths.PUBLISHED)
        _copy(record, paths.PUBLISHED)
    for run in plan.runs:
        source, target = plan.run_folder(run), plan.published_folder(run)
        for name in (*([records.LITERT_MODEL] if plan.publish_model else []), *PUBLISHED_FILES):
            if (source / name).exists():
                _copy(records.verified(source / name), (target / name).parent)
            else:  # of an earlier training
                (target / name).unlink(missing_ok=True)
        if plan.publish_model:
            publish_refit(source / records.REFIT, target)
            from lib.evaluation import card  # pandas, which no other command here needs

            records.write_text(target / records.MODEL_CARD, card.model_card(target))
            records.write_json(paths.PUBLISHED / records.DEFAULT, {"run": run})
        print(paths.shown(target))


def _pictures_of(record: Path) -> str:
    """Say of which prepared pictures a table beside the runs is; empty where there is none."""
    return records.read_record(record).get("data_name", "other pictures") if record.exists() else ""


def publish_refit(refit: Path, target: Path) -> None:
    """Put the network that was trained once more in place of the run's, and say so in its record."""
    if not (refit / records.RUN_RECORD).exists():
        return
    record, of_refit = records.read_record(target / records.RUN_RECORD), records.read_run(refit)
    _copy(records.verified(refit / records.LITERT_MODEL), target)
    kept = {name: of_refit[name] for name in ("recipe", "epochs", "seconds", "train_pictures", "refit_of")}
    if (refit / records.METRICS_RECORD).exists():
        kept["scores"] = records.read_metrics(refit)
    files = record.pop("files", {}) | {records.LITERT_MODEL: of_refit["model_sha256"]}
    record |= {"model_sha256": of_refit["model_sha256"], "refit": kept}
    records.write_record(target / records.RUN_RECORD, record, files)


def _copy(file: Path, folder: Path) -> None:
    with records.atomic_write(folder / file.name) as temporary:
        shutil.copyfile(file, temporary)
