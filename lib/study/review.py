"""The label review: one picture at a time, with what speaks for and against its label.

A verdict is in the file of corrections before the next picture is shown, so nothing is lost when the kernel or the
browser is killed.
"""

import contextlib
import getpass
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib import records
from lib.characters import display_name
from lib.data import corrections, dataset, folds
from lib.errors import UserError
from lib.evaluation import labels
from lib.study.asking import MOST_NEAR, Asking, Reply, jpeg, partners, picture, top

SHOWN_SIDE = 384  # pixels
NEAR_SIDE = 96
LISTS = {
    "random": "Random sample",
    "suspects": "Suspected labels",
    "contradicting": "Near-duplicates with two labels",
    "two": "Two characters",
}


class Review:
    """What is to be reviewed of a set of prepared pictures, and what people decided.

    Args:
        raw: Folder of the unchanged pictures.
        processed: Folder of the prepared pictures.
        where: Folder of the out-of-fold answers.
        file: File of the corrections.
        who: Who decides; the name of the user by default.
        size: Pictures of the random sample.
        seed: Seed of the random sample.
    """

    def __init__(
        self, raw: Path, processed: Path, where: Path, file: Path, who: str = "", size: int = 300, seed: int = 0
    ):
        self.data = dataset.load(processed)
        self.table = self.data.table
        self.characters = self.data.characters
        self.file, self.who = Path(file), who or _user()
        self._raw, self._where = raw, where
        # As the source has them, in a set that was made with corrections too.
        self.given = self.table.get("label_before", self.table.character)
        # Those too that corrections took out, and none that they brought in: else the sample would be another one.
        split = self.table.get("split_before", self.table.split)
        frames = np.flatnonzero(split.isin(list(dataset.SPLIT_FRACTIONS)))
        self._pairs = dataset.near_duplicates(processed)
        # Drawn without looking at any answer, so that its review gives the share of wrong labels.
        self._sample = np.random.default_rng(seed).permutation(frames)[:size]
        self._undo: list[tuple[str, pd.DataFrame]] = []  # a picture, and its verdict before
        self.corrections = corrections.read(self.file)
        self.look()

    def widget(self) -> Asking:
        """Make what shows the review: keys and mouse, undo, other people's corrections."""
        return Asking("review", card=self._card, decide=self._decide, undo=self._take_back, merge=self._merge)

    def look(self) -> None:
        """Read the out-of-fold answers that are there now, and make the lists from them."""
        rows, self._probabilities, self.finished_folds = folds.read(self._where, self.data)
        answered = pd.Series(self.table.index, self.table.image).loc[rows].to_numpy()
        self._answer_of = dict(zip(answered.tolist(), range(len(rows)), strict=True))
        character = self.table.character.to_numpy()[self._pairs]
        contradicting = np.unique(self._pairs[character[:, 0] != character[:, 1]])
        contradicting = contradicting[~dataset.in_official_test(self.table).to_numpy()[contradicting]]
        suspects = answered[labels.suspects(self.data.labels[rows], self._probabilities)]
        two = answered[labels.two_characters(self._probabilities)]
        self.lists = {"random": self._sample, "suspects": suspects, "contradicting": contradicting, "two": two}

    def decide(self, path: str, verdict: str, label: str = "") -> None:
        """Record a verdict on a picture, at once.

        Args:
            path: The picture.
            verdict: One of `corrections.VERDICTS`.
            label: The character, for `relabel` and `second`.

        Raises:
            UserError: The picture, the verdict or the character is unknown.
        """
        found = np.flatnonzero(self.table.path == path)
        if not len(found) or verdict not in corrections.VERDICTS:
            raise UserError(f"There is no verdict {verdict!r} on {path!r}.")
        given = self.given[found[0]]
        if verdict in (corrections.RELABEL, corrections.SECOND) and label not in self.characters:
            raise UserError(f"Choose one of the {len(self.characters)} characters, not {label!r}.")
        if verdict == corrections.RELABEL and label == given:
            verdict = corrections.KEEP
        label = {corrections.KEEP: given, corrections.EXCLUDE: ""}.get(verdict, label)
        digest = self.table.sha256[found[0]]
        row = (path, digest, label, verdict, self.who, records.now())
        self._undo.append((path, corrections.about(self.table.iloc[found], self.corrections)))
        rows = pd.DataFrame([row], columns=list(corrections.COLUMNS))
        # The verdict before goes, so that this one counts whatever the clock says.
        self.corrections = corrections.update(self.file, rows, remove=(path, digest))

    def undo(self) -> str:
        """Take back the last verdict of this person, in this session or an earlier one.

        Returns:
            The path of the picture; empty where there is nothing to take back.
        """
        if not self._undo:
            own = corrections.about(self.table, self.corrections).query("who == @self.who")
            own = own.sort_values("when", kind="stable")
            if own.empty:
                return ""
            self._undo.append((own.path.iloc[-1], own[:0]))
        path, before = self._undo.pop()
        digest = self.table.sha256[self.table.path == path].iloc[0]
        self.corrections = corrections.update(self.file, before if len(before) else None, remove=(path, digest))
        return path

    def merge(self, text: str, name: str) -> int:
        """Merge the contents of another person's file, or the page's, of that name; arguments as in `from_text`.

        Returns:
            The number of rows that are about pictures of this set.
        """
        rows = corrections.of_pictures(corrections.from_text(text, name), self.table.assign(character=self.given))
        self.corrections = corrections.update(self.file, rows)
        return len(rows)

    def verdicts(self, positions: np.ndarray) -> pd.DataFrame:
        """Give the row of the corrections about each picture; empty texts where nobody has looked."""
        return corrections.of_each(self.table.iloc[positions], self.corrections)

    def conclusion(self) -> str:
        """Say how many labels are wrong, from the random sample."""
        reviewed, share, low, high = labels.share_of_wrong(self.verdicts(self._sample).verdict)
        if not reviewed:
            return f"No picture of the random sample of {len(self._sample)} is reviewed yet."
        return (
            f"{reviewed} of {len(self._sample)} random pictures reviewed: {100 * share:.1f} % of the labels are wrong "
            f"(95 % interval {100 * low:.1f} to {100 * high:.1f} %)."
        )

    def _decide(self, question: dict[str, Any]) -> Reply:
        self.decide(question["path"], question["verdict"], question.get("label", ""))
        return self._card(question | {"index": question["index"] + 1})

    def _take_back(self, question: dict[str, Any]) -> Reply:
        path = self.undo()
        at = np.flatnonzero(self.table.path.to_numpy()[self._positions(question)] == path)
        answer, shown = self._card(question | {"index": int(at[0]) if len(at) else question["index"]})
        return answer | {"message": f"Taken back: {path}" if path else "There is nothing to take back."}, shown

    def _merge(self, question: dict[str, Any]) -> Reply:
        number = self.merge(question["text"], question["name"])
        answer, shown = self._card(question)
        return answer | {"message": f"{number} rows of {question['name']} merged."}, shown

    def _card(self, question: dict[str, Any]) -> Reply:
        """Describe a picture of a list; without an index the first that nobody has reviewed."""
        if len(folds.finished(self._where, self.data)) > self.finished_folds:  # another one meanwhile
            self.look()
        positions = self._positions(question)
        verdicts = self.verdicts(positions)
        done = {name: int((self.verdicts(rows).verdict != "").sum()) for name, rows in self.lists.items()}
        answer = {
            "lists": [[name, title, done[name], len(self.lists[name])] for name, title in LISTS.items()],
            "characters": [[name, display_name(name)] for name in self.characters],
            "total": len(positions),
            "conclusion": self.conclusion(),
            "folds": [self.finished_folds, folds.FOLDS],
        }
        if not len(positions):
            return answer | {"index": 0}, []
        index = question.get("index")
        if index is None:
            index = (verdicts.verdict == "").to_numpy().argmax()  # 0 where all are reviewed
        index = int(np.clip(index, 0, len(positions) - 1))
        position = int(positions[index])
        near = partners(self._pairs, position)[:MOST_NEAR]
        answer |= {
            "index": index,
            "path": self.table.path[position],
            "label": display_name(self.given[position]),
            "answers": self._answers(position),
            "near": [display_name(self.given[other]) for other in near],
            "verdict": _spelt(verdicts.iloc[index]),
        }
        sides = {position: SHOWN_SIDE} | dict.fromkeys(near, NEAR_SIDE)
        return answer, [jpeg(picture(self.data, self._raw, *each)) for each in sides.items()]

    def _positions(self, question: dict[str, Any]) -> np.ndarray:
        """Give the pictures of a list, as positions in the manifest; of one character or of all."""
        chosen, character = self.lists[question["list"]], question.get("character", "")
        return chosen[self.given.to_numpy()[chosen] == character] if character else chosen

    def _answers(self, position: int) -> list[tuple[str, str, float]]:
        """Give the most probable characters of a picture, out of fold; empty where its fold is not finished."""
        if position not in self._answer_of:
            return []
        return top(self.characters, self._probabilities[self._answer_of[position]])


def _user() -> str:
    """Name the user; by number where there is no name, as in containers."""
    with contextlib.suppress(KeyError, OSError):
        return getpass.getuser()
    return str(os.getuid())


def _spelt(row: pd.Series) -> str:
    character = f" {display_name(row.label)}" if row.verdict in (corrections.RELABEL, corrections.SECOND) else ""
    return f"{row.verdict}{character} ({row.who})" if row.verdict else ""
