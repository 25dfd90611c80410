"""What the page knows and answers: the networks that are there, their answers, and drawings to try.

Nothing here remembers a picture. Pictures, answers and corrections of a visit live in the visitor's browser,
which sends a picture again with every question about it.
"""

import functools
import itertools
import json
import logging
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lib import paths
from lib.characters import display_name
from lib.data import pictures
from lib.errors import UserError
from lib.evaluation import occlusion
from lib.inference.recogniser import Recogniser, find_runs

log = logging.getLogger(__name__)

LONGEST_SIDE = 512  # pixels of a picture in the page; networks see far fewer
MAX_KEPT_BYTES = 1_000_000  # a picture that is small enough in both ways stays as it is
JPEG_QUALITY = 90  # percent, of a picture that was shrunk; as in the browser
NUM_BARS = 5
MAX_LISTED = 12  # networks to choose from
MAX_LOADED = 4  # networks in memory, and at once side by side
DRAWING_SIDE = 256  # pixels


class Networks:
    """The networks that a visitor may ask, each under the key that the page calls it by.

    Args:
        outputs: Folder of runs; a relative one counts from the repository.
        run: Folder of the run that comes first; None takes the best.
    """

    def __init__(self, outputs: Path | str = paths.OUTPUTS, run: Path | str | None = None):
        self._outputs = paths.ROOT / outputs
        self._run = Path(run) if run else None
        self._load = functools.lru_cache(maxsize=MAX_LOADED)(Recogniser.load)
        self._folders: dict[str, Path] = {}
        self.look()

    def look(self) -> None:
        """Find the networks that are there now, and get the first that works ready to answer."""
        found = [self._run] if self._run else []
        found += find_runs(self._outputs)
        self._folders = {}
        for folder in found:
            if len(self._folders) < MAX_LISTED and (self._folders or self._is_sound(folder)):
                self._folders.setdefault(f"{folder.parent.name}/{folder.name}", folder)

    @property
    def keys(self) -> list[str]:
        """Keys of the networks, the one that answers unasked first."""
        return list(self._folders)

    def facts(self) -> list[dict[str, Any]]:
        """Say what a visitor may want to know of each network.

        Returns:
            For each network `key`, `name`, `detail` (a few words), `accuracy` and `macro_f1` (0 to 1 or None),
            `test_pictures` (or None) and `characters` (display names in alphabetical order).
        """
        names = Counter(folder.name for folder in self._folders.values())
        facts = [
            {"key": key, "name": folder.name if names[folder.name] == 1 else key} | _facts(folder)
            for key, folder in self._folders.items()
        ]
        if self.first:  # it is loaded, so it is sure which characters it knows
            facts[0]["characters"] = sorted(self.first.names)
        return facts

    @property
    def first(self) -> Recogniser | None:
        """The network that answers unasked, if there is one."""
        return self._recogniser(self.keys[0]) if self._folders else None

    def recognise(self, contents: bytes, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Ask networks about a picture.

        Args:
            contents: Bytes of a picture file.
            keys: Which networks.

        Returns:
            By key, `top` (lists of name and probability, best first), `sure` (whether the best reaches the
            threshold) and `threshold`; or `problem`, a sentence, where a network cannot be used.

        Raises:
            UnreadablePicture: If the bytes are no picture or break a limit.
        """
        pictures.probe(contents)  # so that what is wrong with the picture is said once, not for each network
        return {key: self._answer(contents, key) for key in keys}

    def explain(self, contents: bytes, key: str) -> tuple[dict[str, Any], bytes]:
        """Show which parts of a picture a network's answer rests on.

        Args:
            contents: Bytes of a picture file.
            key: Which network.

        Returns:
            `name`, `before` and `after`: who was named, how probable, and how probable with the most important
            part covered. Then a PNG to lay over the picture, dark where nothing mattered.

        Raises:
            UserError: If the picture or the network cannot be used.
        """
        recogniser = self._recogniser(key)
        square = pictures.decode(contents, recogniser.picture_size, recogniser.resize_mode)
        found = occlusion.occlusion(recogniser.predict_pixels, square)
        shown = pictures.decode_full(contents, LONGEST_SIDE)
        frame = pictures.framing(shown, recogniser.picture_size, recogniser.resize_mode)
        heatmap_overlay = occlusion.heatmap_overlay(
            occlusion.shown_part(found.importance, frame.inner, frame.box, shown.shape[:2])
        )
        facts = {"name": recogniser.names[found.label], "before": found.probability, "after": found.lowest}
        return facts, _encode(".png", cv2.cvtColor(heatmap_overlay, cv2.COLOR_RGBA2BGRA))

    def _answer(self, contents: bytes, key: str) -> dict[str, Any]:
        try:
            recogniser = self._recogniser(key)
        except UserError as problem:
            return {"problem": str(problem)}
        answer = recogniser.predict(contents, top=NUM_BARS)
        return {
            "top": [[guess.name, guess.probability] for guess in answer.top],
            "sure": answer.known,
            "threshold": recogniser.threshold,
        }

    def _recogniser(self, key: str) -> Recogniser:
        try:
            return self._load(self._folders[key])
        except KeyError:
            raise UserError("This network is not there any more. Load the page again to see which are.") from None
        except UserError as problem:  # which names folders of this machine
            log.warning("%s", problem)
            raise UserError(
                "This network cannot be loaded; the log of the server says why. Choose another one."
            ) from None

    def _is_sound(self, folder: Path) -> bool:
        try:
            self._load(folder)
        except UserError:
            return False
        return True


def drawings(recogniser: Recogniser | None, number: int, seed: int) -> list[dict[str, Any]]:
    """Draw pictures for visitors who have none at hand.

    A network that was trained on frames of the series errs on many drawings, so one of each character is drawn and
    those are taken that it names best; the page says so.

    Args:
        recogniser: Whom the drawings are for; None takes any.
        number: How many at most; each shows another character.
        seed: What the drawings follow from.

    Returns:
        For each `name` (who it is, for people) and `picture` (JPEG, square, `DRAWING_SIDE` pixels), the one that
        is named best first.
    """
    from lib.drawing import sample

    drawn = {
        character: _jpeg(_square(sample.draw_picture(character, np.random.default_rng([seed, index]))))
        for index, character in enumerate(sample.CHARACTERS)
        if recogniser is None or character in recogniser.characters
    }
    if recogniser is not None:
        shares = {character: _share(recogniser, picture, character) for character, picture in drawn.items()}
        drawn = {character: drawn[character] for character in sorted(drawn, key=shares.get, reverse=True)}
    best = itertools.islice(drawn.items(), number)
    return [{"name": display_name(character), "picture": picture} for character, picture in best]


def small_enough(contents: bytes) -> bytes:
    """Shrink a picture as the page does before it sends one.

    Args:
        contents: Bytes of a picture file.

    Returns:
        The same bytes if the picture is small already, otherwise a JPEG of at most `LONGEST_SIDE` pixels a side.

    Raises:
        UnreadablePicture: If the bytes are no picture or break a limit.
    """
    if max(pictures.probe(contents)) <= LONGEST_SIDE and len(contents) <= MAX_KEPT_BYTES:
        return contents
    return _jpeg(pictures.decode_full(contents, LONGEST_SIDE))


def _facts(folder: Path) -> dict[str, Any]:
    run, metrics = _record(folder / "run.json"), _record(folder / "metrics.json")
    accuracy = _number(metrics.get("accuracy"))
    return {
        "detail": "not tested" if accuracy is None else f"right on {100 * accuracy:.0f} of 100 test pictures",
        "accuracy": accuracy,
        "macro_f1": _number(metrics.get("macro_f1")),
        "test_pictures": _number(metrics.get("test_pictures")),
        "characters": sorted(display_name(character) for character in run.get("characters") or []),
    }


def _share(recogniser: Recogniser, picture: bytes, character: str) -> float:
    """Probability that a network gives to a character."""
    guesses = recogniser.predict(picture).all
    return next(guess.probability for guess in guesses if guess.character == character)


def _record(path: Path) -> dict[str, Any]:
    """Read a record as far as it can be read; `lib.records` would bring pandas, and 40 MB for every visitor."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def _square(picture: np.ndarray) -> np.ndarray:
    """Cut the middle square, `DRAWING_SIDE` pixels a side."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pictures.resize(picture[top : top + side, left : left + side], DRAWING_SIDE)


def _jpeg(picture: np.ndarray) -> bytes:
    return _encode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY)


def _encode(suffix: str, picture: np.ndarray, *options: int) -> bytes:
    _, contents = cv2.imencode(suffix, picture, options)
    return contents.tobytes()
