"""What the page knows and answers: the networks that are there, their answers, and drawings to try.

Nothing here remembers a picture. Pictures, answers and corrections of a visit live in the visitor's browser, which
sends a picture again with every question about it.
"""

import functools
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lib import paths, records
from lib.characters import display_name
from lib.data import pictures, sources
from lib.data.preparation import source_of
from lib.drawing import sample
from lib.drawing.figures import FEATURES
from lib.errors import UserError
from lib.evaluation import occlusion
from lib.inference import recogniser as recognisers
from lib.inference.recogniser import Answer, Recogniser, find_runs
from lib.machine import cores

log = logging.getLogger(__name__)

JPEG_QUALITY = 90  # percent, of a drawing
MAX_LISTED = 12  # networks to choose from
MAX_TOGETHER = 4  # networks that answer side by side
LOOK_SECONDS = 5.0  # between two looks whether there is another network
DRAWING_SIDE = 256  # pixels
FULL_EFFECT = 0.5  # fall of the probability from which the overlay of an explanation is as dark as it gets

NO_NETWORK = (
    "There is no trained network yet, so no picture can be named. Run `make train evaluate` in the project's folder, "
    "which takes some minutes, then look again."
)
FRAMES = "frames"
ARCHIVE_TERMS = [
    {"words": "The network is under CC BY-NC-SA 4.0, not for commercial use: it was trained on"},
    {"words": "Alexandre Attia’s collection of frames.", "href": sources.KAGGLE_PAGE},
]


class Networks:
    """The networks that a visitor may ask, each under the key that the page calls it by.

    Args:
        outputs: Folder of runs; relative paths count from the repository.
        run: Folder of the run that comes first; None takes the best.
    """

    def __init__(self, outputs: Path | str = paths.OUTPUTS, run: Path | str | None = None):
        self._outputs = paths.ROOT / outputs
        self._chosen = [paths.ROOT / run] if run else []
        self._loaded: dict[Path, tuple[Any, Recogniser]] = {}  # by folder, with what `_changes` said
        self._said: set[str] = set()  # what is wrong with networks
        self.look()

    def look(self) -> None:
        """Find the networks that are there now, and get the first that works ready to answer."""
        self._looked = time.monotonic()
        self._folders: dict[str, Path] = {}
        self._reason = NO_NETWORK  # why there is none
        for folder in [*self._chosen, *find_runs(self._outputs)][:MAX_LISTED]:
            try:
                if not self._folders or not (folder / records.LITERT_MODEL).exists():  # the default may be lost
                    self._load(folder)
                self._folders.setdefault(f"{folder.parent.name}/{folder.name}", folder)
            except UserError as problem:
                self._reason = str(problem)
                if self._reason not in self._said:  # once, and not every few seconds
                    self._said.add(self._reason)
                    log.warning("%s Another network answers, where there is one.", problem)

    @property
    def keys(self) -> list[str]:
        """Keys of the networks, the one that answers unasked first."""
        return list(self._folders)

    @property
    def first(self) -> Recogniser | None:
        """The network that answers unasked, if there is one."""
        return self._load(self._folders[self.keys[0]]) if self._folders else None

    def answering(self) -> Recogniser:
        """The network that answers unasked, also one that was trained meanwhile.

        Raises:
            UserError: There is none; the text says why, and names folders.
        """
        if not self._folders or time.monotonic() - self._looked > LOOK_SECONDS:
            self.look()
        if self.first is None:
            raise UserError(self._reason)
        return self.first

    def about(self) -> dict[str, Any]:
        """Describe the networks for the page; see `describe`."""
        return describe(self._folders)

    def recognise(self, contents: bytes, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Ask networks about a picture.

        Args:
            contents: Bytes of a picture file.
            keys: Which networks.

        Returns:
            By key the answer (see `answer_record`); or `problem`, a message, where a network cannot be used.

        Raises:
            UnreadablePicture: The bytes are no picture or exceed a limit.
        """
        pictures.probe(contents)  # so that what is wrong with the picture is said once, not for each network
        answers: dict[str, dict[str, Any]] = {}
        for key in keys:
            try:
                recogniser = self._recogniser(key)
            except UserError as problem:
                answers[key] = {"problem": str(problem)}
                continue
            answer = recogniser.predict(contents)
            is_confused = answer.character in recogniser.metrics.get("confused", [])
            answers[key] = answer_record(answer) | {"closest": answer.all[0].character, "confused": is_confused}
        return answers

    def explain(self, contents: bytes, key: str, character: str = "") -> tuple[dict[str, Any], bytes]:
        """Show which parts of a picture speak for a character.

        Args:
            contents: Bytes of a picture file.
            key: Which network.
            character: Label, of the network's most probable one by default.

        Returns:
            `name`, `before` and `after`: the character, how probable it is, and how probable with the most important
            part covered, which is None for a network with a class map of its own. Then a PNG to lay over the picture,
            dark where nothing mattered.

        Raises:
            UserError: The picture or the network cannot be used.
        """
        recogniser = self._recogniser(key)
        square, frame = pictures.decode_framed(contents, recogniser.picture_size, recogniser.resize_mode)
        found = occlusion.explain(recogniser, square, character)
        importance = occlusion.shown_part(found.importance, frame)
        # What changes little is darkened little.
        effect = 1.0 if found.lowest is None else min(1.0, (found.probability - found.lowest) / FULL_EFFECT)
        overlay = occlusion.heatmap_overlay(1 - effect * (1 - importance))
        facts = {"name": recogniser.names[found.label], "before": found.probability, "after": found.lowest}
        return facts, cv2.imencode(".png", cv2.cvtColor(overlay, cv2.COLOR_RGBA2BGRA))[1].tobytes()

    def _recogniser(self, key: str) -> Recogniser:
        try:
            return self._load(self._folders[key])
        except UserError as problem:  # which names folders of this machine
            log.warning("%s", problem)
            message = "This network cannot be loaded; the log of the server says why. Choose another one."
            raise UserError(message) from None

    def _load(self, folder: Path) -> Recogniser:
        """Load a network, again after each training; while that is not possible, the one from before answers."""
        changes = _changes(folder)
        before, recogniser = self._loaded.get(folder, (None, None))
        if before != changes:
            try:
                recogniser = Recogniser.load(folder)
                self._loaded[folder] = changes, recogniser
            except UserError:
                if recogniser is None:
                    raise
        return recogniser


def answer_record(answer: Answer) -> dict[str, Any]:
    """Write an answer as `/predict` and the page give it.

    Returns:
        `character` and `name` (None when the network declines), `probability` and `probabilities` (0 to 1, of every
        character, highest first), `known`, and `found`, a list of `character`, `name`, `probability` and `box`.
    """
    return {
        "character": answer.character,
        "name": answer.name,
        "probability": answer.probability,
        "probabilities": {guess.character: guess.probability for guess in answer.all},
        "known": answer.known,
        "found": [found._asdict() for found in answer.found],
    }


def describe(folders: dict[str, Path]) -> dict[str, Any]:
    """Describe networks for the page, and what pictures it may take.

    Args:
        folders: Run folders by key, the one that answers unasked first.

    Returns:
        `networks`, for each `key`, `name`, `tested` (`accuracy`, 0 to 1 or None, `pictures`, and their `kind`),
        `characters` (labels and display names, in alphabetical order; none of a damaged one), `threshold`,
        `declines`, whether it was trained to, and `calibrated`, whether its probabilities are. Then `problem`, a
        message if there is no network, `subject`, what the characters are, `links` (`words`, with an `href` where there
        is a page), `limits` of pictures, and `together`, how many may answer at once.
    """
    names = Counter(folder.name for folder in folders.values())
    networks = [
        {"key": key, "name": folder.name if names[folder.name] == 1 else key} | _facts(folder, _changes(folder))
        for key, folder in folders.items()
    ]
    knows_the_series = networks and {label for label, _ in networks[0]["characters"]} & set(sample.CHARACTERS)
    of_the_archive = networks and networks[0]["tested"]["kind"] == FRAMES
    terms = ARCHIVE_TERMS if of_the_archive else [{"words": "The network is one of your own."}]
    return {
        "networks": networks,
        "problem": "" if networks else NO_NETWORK,
        "subject": "characters of The Simpsons" if knows_the_series else "characters",
        "links": [*terms, {"words": "Code and drawings: MIT licence."}],
        "limits": {"bytes": pictures.MAX_BYTES, "pixels": pictures.MAX_PIXELS, "side": pictures.MIN_SIDE},
        "together": MAX_TOGETHER,
    }


def drawings(recogniser: Recogniser | None, number: int | None, seed: int) -> list[dict[str, Any]]:
    """Draw one picture of each character, for visitors who have none at hand and to show whom a network knows.

    Args:
        recogniser: Whom the drawings are for; None takes any.
        number: How many at most; None for all characters.
        seed: Determines the drawings.

    Returns:
        For each `character`, `name` and `picture` (JPEG, square, `DRAWING_SIDE` pixels); those that the network names
        best come first, and of those with about the same probability the one with the largest outline.
    """

    def draw(place: tuple[int, str]) -> tuple[tuple[float, float], dict[str, Any]]:
        index, character = place
        # Zeros at the end of a seed count for nothing, so [seed, index] would draw the first picture of the sample.
        drawing = sample.draw_picture(FEATURES[character], np.random.default_rng([seed, index, 0, 2]))
        side = min(drawing.shape[:2])
        top, left = ((length - side) // 2 for length in drawing.shape[:2])
        square = pictures.resize(drawing[top : top + side, left : left + side], DRAWING_SIDE)
        picture = cv2.imencode(".jpg", square[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
        drawn = {"character": character, "name": display_name(character), "picture": picture}
        if recogniser is None:
            return (0.0, 0.0), drawn
        answer = recogniser.predict(picture)
        probability = max(guess.probability for guess in answer.all if guess.character == character)
        outlines = [found.box for found in answer.found if found.character == character and found.box]
        areas = ((right - left) * (bottom - top) for left, top, right, bottom in outlines)
        return (round(probability, 1), max(areas, default=0.0)), drawn

    known = [place for place in enumerate(FEATURES) if recogniser is None or place[1] in recogniser.characters]
    with ThreadPoolExecutor(cores()) as executor:  # OpenCV and LiteRT release Python's lock
        ranked = sorted(executor.map(draw, known), key=itemgetter(0), reverse=True)
    return [drawn for _, drawn in ranked[:number]]


def _changes(folder: Path) -> tuple[int, ...]:
    """Say when the files of a run that are read here were last changed, nanoseconds; 0 for one that is missing."""
    files = [folder / name for name in (records.LITERT_MODEL, records.RUN_RECORD, records.METRICS_RECORD)]
    return tuple(file.stat().st_mtime_ns if file.exists() else 0 for file in files)


@functools.lru_cache(maxsize=MAX_LISTED)  # a page asks for them after every answer
def _facts(folder: Path, changes: tuple[int, ...]) -> dict[str, Any]:
    run, metrics = _read(records.read_run, folder), _read(records.read_metrics, folder)
    metadata = _read(lambda run: recognisers.read_metadata((run / records.LITERT_MODEL).read_bytes(), run), folder)
    labels = metadata.get("characters", [])
    thresholds = (metadata.get("threshold"), metrics.get("threshold"), recognisers.DEFAULT_THRESHOLD)
    source = source_of(str(run.get("data_name", folder.parent.name)))
    # Only the archive has a test set of its own.
    is_archive = "kaggle_test" in metrics or source in ("kaggle", sources.KAGGLE_NAME)
    # A network that was trained once more on all frames has scores of its own where there were other pictures.
    scores = run.get("refit", {}).get("scores") or metrics
    return {
        "tested": {
            "accuracy": scores.get("accuracy"),
            "pictures": scores.get("test_pictures"),
            "kind": "drawings" if source == "sample" else FRAMES if is_archive else "pictures",
        },
        "characters": sorted(zip(labels, map(display_name, labels), strict=True), key=itemgetter(1)),
        "threshold": next(each for each in thresholds if each is not None),
        "declines": bool(metadata.get("nobody")),
        "calibrated": "temperature" in metadata,
    }


def _read(read: Callable[[Path], dict[str, Any]], folder: Path) -> dict[str, Any]:
    """Read a record as far as it can be read; a damaged one hides no network from the page."""
    try:
        return read(folder)
    except (OSError, UserError):
        return {}
