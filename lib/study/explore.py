"""Mistakes that can be opened: from a cell of the confusion matrix to its pictures, to everything about one of them.

Pictures travel as one sheet of thumbnails, so that a click is answered at once.
"""

import functools
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lib import paths, records
from lib.characters import display_name
from lib.data import dataset
from lib.errors import UserError
from lib.evaluation import metrics, occlusion
from lib.inference.recogniser import Recogniser
from lib.study.asking import MOST_NEAR, Asking, Reply, jpeg, partners, picture, top

MOST_SHOWN = 60  # pictures of a cell; more would not be looked at one by one
THUMBNAIL = (70, 70)  # pixels
SHOWN_SIDE = 320
SPLITS = ("test", "validation", "train", dataset.TEST_SET)


class Explorer:
    """The answers of the runs of one set of pictures.

    Each question of the front end has a `view`: names of a `run` and a `split`; `low` and `high` bound the confidence,
    0 to 1; `other` names a run that must disagree, and `character` a label that must be the actual or the predicted
    one, both empty for any.

    Args:
        runs_folder: Folder of the runs.
        raw: Folder of the unchanged pictures; where there is none, the prepared pictures are shown.
        processed: Folder of the prepared pictures.
        run: Name of the run that is shown first; the first by name where empty.

    Raises:
        UserError: No run is evaluated on these pictures.
    """

    def __init__(self, runs_folder: Path, raw: Path, processed: Path, run: str = ""):
        self.data = dataset.load(processed)
        self.characters = self.data.characters
        self._raw = raw
        self._folders = {
            folder.name: folder
            for folder in sorted(Path(runs_folder).glob("*/"))
            if (folder / records.PREDICTIONS).is_file()
            and records.read_run(folder)["manifest_sha256"] == self.data.manifest_sha256
        }
        if not self._folders:
            raise UserError(f"No run in {runs_folder} is evaluated on these pictures. `make evaluate` evaluates one.")
        if run and run not in self._folders:
            raise UserError(f"There is no run {run!r} on these pictures. Known: {', '.join(self._folders)}.")
        self.runs = sorted(self._folders, key=lambda name: name != run)
        self._pairs = dataset.near_duplicates(processed)
        # Kept once they were asked for.
        self._answers = functools.cache(self._find_answers)
        self._network = functools.cache(lambda run: Recogniser.load(self._folders[run]))

    def widget(self) -> Asking:
        """Make what shows them: matrix, filters, pictures, details; by mouse and by keys."""
        return Asking("explore", matrix=self.matrix, cell=self.cell, details=self.details, map=self.map)

    def matrix(self, question: dict[str, Any]) -> Reply:
        """Count the pictures of a view by actual (row) and predicted (column) character."""
        view = {"run": self.runs[0], "split": "test"} | question.get("view", {})
        _, actual, probabilities = self._chosen(view)
        counts = metrics.confusion(actual, probabilities.argmax(axis=1), self.characters).to_numpy()
        return {
            "view": view,
            "runs": self.runs,
            "splits": [split for split in SPLITS if (self.data.table.split == split).any()],
            "characters": [[name, display_name(name)] for name in self.characters],
            "counts": counts.tolist(),
            "total": int(counts.sum()),
            "wrong": int(counts.sum() - np.trace(counts)),
        }, []

    def cell(self, question: dict[str, Any]) -> Reply:
        """Give the pictures of a cell of the matrix, the most confident first, as positions in the split."""
        rows, actual, probabilities = self._chosen(question["view"])
        inside = actual == self.characters.index(question["actual"])
        inside &= probabilities.argmax(axis=1) == self.characters.index(question["predicted"])
        rows, confidence = rows[inside], probabilities[inside].max(axis=1)
        shown = np.argsort(-confidence, kind="stable")[:MOST_SHOWN]
        images = self.data.images[self.data.rows(question["view"]["split"])[rows[shown]]]
        sheet = [cv2.resize(image, THUMBNAIL, interpolation=cv2.INTER_AREA) for image in images]
        answer = {"rows": rows[shown].tolist(), "confidence": confidence[shown].tolist(), "total": len(rows)}
        return answer, [jpeg(np.concatenate(sheet, axis=1))] if sheet else []

    def details(self, question: dict[str, Any]) -> Reply:
        """Say everything about a picture: its label, what every run says, its near-duplicates in train."""
        view, row, table = question["view"], question["row"], self.data.table
        position = self._position(question)
        probabilities = self._answers(view["run"], view["split"])[row]
        near = partners(self._pairs, position)
        near = near[table.split.to_numpy()[near] == "train"][:MOST_NEAR]
        # The other runs are asked on test alone, where their answers are recorded.
        others = [run for run in self.runs if run != view["run"]] if view["split"] == "test" else []
        answer = {
            "path": table.path[position],
            "label": display_name(table.character[position]),
            "top": top(self.characters, probabilities),
            "others": [[run, *top(self.characters, self._answers(run, "test")[row])[0]] for run in others],
            "near": [display_name(table.character[other]) for other in near],
        }
        return answer, [jpeg(picture(self.data, self._raw, at, SHOWN_SIDE)) for at in (position, *near)]

    def map(self, question: dict[str, Any]) -> Reply:
        """Darken the parts of a picture, as the network sees it, that do not speak for its answer."""
        image = self.data.images[self.data.table.image[self._position(question)]]
        found = occlusion.explain(self._network(question["view"]["run"]), image)
        return {}, [jpeg(occlusion.darkened(image, found.importance))]

    def _chosen(self, view: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Find the pictures that pass the filters: positions in the split, labels, probabilities."""
        actual = self.data.labels[self.data.rows(view["split"])]
        probabilities = self._answers(view["run"], view["split"])
        predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
        passed = (confidence >= view.get("low", 0)) & (confidence <= view.get("high", 1))
        if view.get("other"):
            passed &= predicted != self._answers(view["other"], view["split"]).argmax(axis=1)
        if view.get("character"):
            label = self.characters.index(view["character"])
            passed &= (actual == label) | (predicted == label)
        return np.flatnonzero(passed), actual[passed], probabilities[passed]

    def _find_answers(self, run: str, split: str) -> np.ndarray:
        """Give the probabilities of a run for a split: those of its record, or else computed now."""
        if split == "test":
            return metrics.read_predictions(self._folders[run] / records.PREDICTIONS).probabilities
        return self._network(run).predict_pixels(self.data.images[self.data.rows(split)])

    def _position(self, question: dict[str, Any]) -> int:
        """Give the position in the manifest of a picture of a split."""
        return int(np.flatnonzero(self.data.table.split == question["view"]["split"])[question["row"]])


def open_explorer(data_name: str, raw_name: str, outputs: str, run: str = "") -> Explorer:
    """Open the runs of a set of prepared pictures by its names; arguments as in `Explorer`."""
    return Explorer(paths.ROOT / outputs / data_name, paths.RAW / raw_name, paths.PROCESSED / data_name, run)
