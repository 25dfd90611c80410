"""Mistakes that can be opened: from a cell of the confusion matrix to its pictures, to everything about one of them.

`Explorer` answers from the records of runs and the prepared pictures, `ExploreWidget` shows it. Pictures travel as one
sheet of thumbnails, so that a click is answered at once.
"""

import functools
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lib import paths, records
from lib.characters import display_name
from lib.data import dataset, pictures
from lib.errors import UserError
from lib.evaluation import metrics, occlusion
from lib.inference.recogniser import Recogniser
from lib.study.asking import Asking, Reply, front_end, jpeg, partners

MOST_SHOWN = 60  # pictures of a cell; more would not be looked at one by one
THUMBNAIL = 70  # pixels
SHOWN_SIDE = 320
TOP = 5
MOST_NEAR = 6
SPLITS = ("test", "validation", "train", dataset.TEST_SET)


class Explorer:
    """The answers of the runs of one set of pictures.

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
        self.network = functools.cache(lambda run: Recogniser.load(self._folders[run]))

    def splits(self) -> list[str]:
        """List the splits that have pictures."""
        return [split for split in SPLITS if (self.data.table.split == split).any()]

    def answers(self, run: str, split: str) -> np.ndarray:
        """Give the probabilities of a run for a split: those of its record, or else computed now.

        Returns:
            float `(num_pictures, num_characters)`, in the order of the split; kept for the next question.
        """
        if run not in self._folders or split not in self.splits():
            raise UserError(f"There is no run {run!r} or no split {split!r}.")
        return self._answers(run, split)

    def _find_answers(self, run: str, split: str) -> np.ndarray:
        if split == "test":
            return metrics.read_predictions(self._folders[run] / records.PREDICTIONS).probabilities
        return self.network(run).predict_pixels(self.data.images[self.data.rows(split)])

    def chosen(self, view: dict[str, Any]) -> np.ndarray:
        """Find the pictures that pass the filters of a view, as positions in its split.

        Args:
            view: `run`, `split`; `low` and `high` bound the confidence, 0 to 1; `other` names a run that must disagree,
                empty for none; `character` is a label that must be the actual or the predicted one, empty for any.
        """
        probabilities, actual = self.answers(view["run"], view["split"]), self.actual(view["split"])
        predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
        passed = (confidence >= view.get("low", 0)) & (confidence <= view.get("high", 1))
        if view.get("other"):
            passed &= predicted != self.answers(view["other"], view["split"]).argmax(axis=1)
        if view.get("character"):
            label = self._label(view["character"])
            passed &= (actual == label) | (predicted == label)
        return np.flatnonzero(passed)

    def actual(self, split: str) -> np.ndarray:
        """Give the labels of a split, int `(num_pictures,)`."""
        return self.data.labels[self.data.rows(split)]

    def confusion(self, view: dict[str, Any]) -> np.ndarray:
        """Count the pictures of a view by actual (row) and predicted (column) character, int `(n, n)`."""
        rows = self.chosen(view)
        predicted = self.answers(view["run"], view["split"])[rows].argmax(axis=1)
        return metrics.confusion(self.actual(view["split"])[rows], predicted, self.characters).to_numpy()

    def cell(self, view: dict[str, Any], actual: str, predicted: str) -> np.ndarray:
        """Give the pictures of a cell of the confusion matrix, the most confident first, as positions in the split."""
        rows = self.chosen(view)
        probabilities = self.answers(view["run"], view["split"])[rows]
        inside = self.actual(view["split"])[rows] == self._label(actual)
        inside &= probabilities.argmax(axis=1) == self._label(predicted)
        return rows[inside][np.argsort(-probabilities[inside].max(axis=1), kind="stable")]

    def sheet(self, split: str, rows: np.ndarray) -> np.ndarray:
        """Put the thumbnails of pictures side by side: RGB uint8 `(THUMBNAIL, n * THUMBNAIL, 3)`."""
        images = self.data.images[self.data.rows(split)[rows]]
        square = (THUMBNAIL, THUMBNAIL)
        return np.concatenate([cv2.resize(image, square, interpolation=cv2.INTER_AREA) for image in images], axis=1)

    def position(self, split: str, row: int) -> int:
        """Give the position in the manifest of a picture of a split."""
        positions = np.flatnonzero(self.data.table.split == split)
        if not 0 <= row < len(positions):
            raise UserError(f"The split {split} has {len(positions)} pictures, not {row + 1}.")
        return int(positions[row])

    def near_in_train(self, position: int) -> list[int]:
        """Give the near-duplicates of a picture that are in train, as positions in the manifest."""
        others = partners(self._pairs, position)
        return others[(self.data.table.split.to_numpy()[others] == "train")][:MOST_NEAR].tolist()

    def picture(self, position: int) -> np.ndarray:
        """Read a picture as it is in the source, or as it was prepared where the source is gone."""
        path = self._raw / self.data.table.path[position]
        if path.is_file():
            return pictures.decode_full(path.read_bytes(), longest=SHOWN_SIDE)
        return self.data.images[self.data.table.image[position]]

    def class_map(self, run: str, position: int) -> np.ndarray:
        """Darken the parts of a picture, as the network sees it, that do not speak for its answer."""
        image = self.data.images[self.data.table.image[position]]
        return occlusion.darkened(image, occlusion.explain(self.network(run), image).importance)

    def _label(self, character: str) -> int:
        if character not in self.characters:
            raise UserError(f"There is no character {character!r}.")
        return self.characters.index(character)


class ExploreWidget(Asking):
    """Shows an explorer: matrix, filters, pictures, details; by mouse and by keys."""

    _esm = front_end("explore")

    def __init__(self, explorer: Explorer):
        self._explorer = explorer
        super().__init__({"matrix": self._matrix, "cell": self._cell, "details": self._details, "map": self._map})

    def _matrix(self, question: dict[str, Any]) -> Reply:
        explorer = self._explorer
        view = {"run": explorer.runs[0], "split": "test"} | question.get("view", {})
        counts = explorer.confusion(view)
        return {
            "view": view,
            "runs": explorer.runs,
            "splits": explorer.splits(),
            "characters": [[name, display_name(name)] for name in explorer.characters],
            "counts": counts.tolist(),
            "total": int(counts.sum()),
            "wrong": int(counts.sum() - np.trace(counts)),
        }, []

    def _cell(self, question: dict[str, Any]) -> Reply:
        view = question["view"]
        rows = self._explorer.cell(view, question["actual"], question["predicted"])
        shown = rows[:MOST_SHOWN]
        confidence = self._explorer.answers(view["run"], view["split"])[shown].max(axis=1)
        sheet = [jpeg(self._explorer.sheet(view["split"], shown))] if len(shown) else []
        return {"rows": shown.tolist(), "confidence": confidence.tolist(), "total": len(rows)}, sheet

    def _details(self, question: dict[str, Any]) -> Reply:
        explorer, view, row = self._explorer, question["view"], question["row"]
        position = explorer.position(view["split"], row)
        probabilities = explorer.answers(view["run"], view["split"])[row]
        order = np.argsort(-probabilities, kind="stable")[:TOP]
        near, others = explorer.near_in_train(position), []
        # The other runs are asked on test alone, where their answers are recorded.
        for run in explorer.runs if view["split"] == "test" else ():
            if run != view["run"]:
                other = explorer.answers(run, "test")[row]
                others.append([run, display_name(explorer.characters[other.argmax()]), float(other.max())])
        answer = {
            "path": explorer.data.table.path[position],
            "label": display_name(explorer.data.table.character[position]),
            "top": [[display_name(explorer.characters[at]), float(probabilities[at])] for at in order],
            "others": others,
            "near": [display_name(explorer.data.table.character[at]) for at in near],
        }
        return answer, [jpeg(explorer.picture(at)) for at in (position, *near)]

    def _map(self, question: dict[str, Any]) -> Reply:
        view = question["view"]
        position = self._explorer.position(view["split"], question["row"])
        return {}, [jpeg(self._explorer.class_map(view["run"], position))]


def open_explorer(data_name: str, raw_name: str, outputs: str, run: str = "") -> Explorer:
    """Open the runs of a set of prepared pictures by its names; arguments as in `Explorer`."""
    return Explorer(paths.ROOT / outputs / data_name, paths.RAW / raw_name, paths.PROCESSED / data_name, run)
