"""From the bytes of a picture to the name of a character, with the network that a run left behind.

The exported network is a LiteRT file that carries its own label order and picture size, so a run folder that
holds nothing else is enough. TensorFlow and Keras are never imported: they would cost seconds and half a
gigabyte.
"""

import contextlib
import hashlib
import io
import itertools
import json
import math
import os
import queue
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from lib import paths, records
from lib.characters import display_name
from lib.data import pictures
from lib.errors import UserError
from lib.machine import cores

MAX_METADATA_BYTES = 1_000_000
BEST_NETWORK = "springfield"  # runs named after it are of the same network
DEFAULT_THRESHOLD = 0.5
RETRAIN = "Run `make train evaluate` again, or choose another run."


class Guess(NamedTuple):
    """One character and how probable it is."""

    character: str
    name: str
    probability: float


@dataclass(frozen=True)
class Answer:
    """What the network says of one picture.

    Attributes:
        character: Label of the most probable character, `homer_simpson`.
        name: The same as a person writes it, `Homer Simpson`.
        probability: Its probability, 0 to 1.
        top: The most probable characters that were asked for, best first.
        all: Every character that the network knows, best first.
    """

    character: str
    name: str
    probability: float
    top: list[Guess]
    all: list[Guess]


class Recogniser:
    """The network of one run, ready to name characters; safe to call from several threads at once.

    Example:
        >>> recogniser = load_best()
        >>> recogniser.predict(Path("homer.jpg").read_bytes()).name
        'Homer Simpson'

    Attributes:
        run_dir: The folder that it was loaded from.
        name: Name of the run.
        characters: Labels in the network's own order.
        names: The same as a person writes them.
        picture_size: Pixels a side of the square that the network sees.
        resize_mode: How a picture becomes that square, as in `pictures.decode`.
        flip_tta_threshold: Probability below which the network is asked about the mirrored picture too.
        digest: SHA-256 of the model file.
        record: Contents of `run.json`; empty if there is none.
        metrics: Contents of `metrics.json`; empty if there is none.
    """

    def __init__(self, contents: bytes, run_dir: Path):
        """Read a model file; use `load` for a run folder.

        Args:
            contents: Bytes of the model file.
            run_dir: The run folder that they come from.

        Raises:
            UserError: If the bytes are damaged or of another format version.
        """
        self.run_dir = run_dir
        self.digest = hashlib.sha256(contents).hexdigest()
        metadata = _metadata(contents, run_dir)
        self.name: str = metadata["run"]
        self.characters: list[str] = metadata["characters"]
        self.names = [display_name(character) for character in self.characters]
        self.picture_size: int = metadata["picture_size"]
        self.resize_mode: str = metadata["resize_mode"]
        self.flip_tta_threshold: float = metadata.get("flip_tta_threshold") or 0.0
        self.record = _optional(records.read_run, run_dir, records.RUN_RECORD)
        self.metrics = _optional(records.read_metrics, run_dir, records.METRICS_RECORD)
        self._networks = _NetworkPool(contents, cores())
        self._try_out()

    @classmethod
    def load(cls, run_dir: Path | str) -> "Recogniser":
        """Load the network of a run.

        Args:
            run_dir: A run folder; its `model.tflite` is enough.

        Returns:
            The recogniser, tried out on one picture.

        Raises:
            UserError: If the folder is missing, unfinished, damaged or of another format version.
        """
        run_dir = Path(run_dir)
        if not run_dir.is_dir():
            raise UserError(f"There is no run folder {run_dir}. `make train` makes one; see `ls outputs/*`.")
        try:
            contents = (run_dir / records.LITERT_MODEL).read_bytes()
        except FileNotFoundError:
            raise UserError(
                f"{run_dir} holds no {records.LITERT_MODEL}, so it is no run or its training is not finished. "
                "`make train` finishes it."
            ) from None
        except OSError as problem:
            raise UserError(f"{run_dir / records.LITERT_MODEL} cannot be read: {problem.strerror}.") from None
        return cls(contents, run_dir)

    @property
    def num_parameters(self) -> int | None:
        """Number of weights, if `run.json` is there."""
        return self.record.get("num_parameters")

    @property
    def threshold(self) -> float:
        """Probability below which an answer is unsure: the evaluation's, else one half."""
        threshold = self.metrics.get("threshold")
        return float(threshold) if _is_number(threshold) else DEFAULT_THRESHOLD

    def predict(self, contents: bytes, top: int = 3) -> Answer:
        """Name the character in a picture.

        Args:
            contents: Bytes of a JPEG, PNG, WebP, GIF or BMP file.
            top: How many characters `Answer.top` holds.

        Returns:
            The answer.

        Raises:
            UnreadablePicture: If the bytes are no picture or break a limit.
        """
        picture = pictures.decode(contents, self.picture_size, self.resize_mode)
        return self._answer(self.predict_pixels(picture[np.newaxis])[0], top)

    def predict_file(self, path: Path | str, top: int = 3) -> Answer:
        """Name the character in a picture file; see `predict`.

        Raises:
            UserError: If the file cannot be read or is no picture.
        """
        return self.predict(read_file(path), top)

    def predict_many(
        self,
        items: Iterable[Any],
        top: int = 3,
        batch: int = 16,
        read: Callable[[Any], bytes] | None = None,
    ) -> Iterator[Answer | UserError]:
        """Name the characters in many pictures, on all cores.

        Args:
            items: Bytes or paths of pictures; read as answers are taken, so they may be without end.
            top: How many characters `Answer.top` holds.
            batch: How many pictures a thread takes at a time.
            read: From an item to bytes; may raise `UserError`. By default bytes are taken as they are, and
                anything else is a path.

        Yields:
            An answer for each item, in order, or the error that kept it from having one.
        """
        read = read or _read_item

        def answer(item: Any) -> Answer | UserError:
            try:
                return self.predict(read(item), top)
            except UserError as problem:
                return problem

        yield from _map_in_threads(answer, items, batch, threads=cores())

    def predict_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """Give the probabilities of decoded pictures.

        Where the network is in doubt it is asked about the mirrored picture too, and both answers are averaged. Sure
        answers, which are most, would not change, so that this costs little time.

        Args:
            pixels: RGB `uint8` array of shape `(n, picture_size, picture_size, 3)`.

        Returns:
            `float32` array of shape `(n, num_characters)`, columns in the order of `characters`.

        Raises:
            ValueError: If shape or type are others.
        """
        expected = (self.picture_size, self.picture_size, 3)
        if pixels.shape[1:] != expected or pixels.dtype != np.uint8:
            raise ValueError(
                f"Invalid value for argument `pixels`. Expected uint8 of shape (n, *{expected}). "
                f"Received: {pixels.dtype} of shape {pixels.shape}"
            )
        probabilities = np.empty((len(pixels), len(self.characters)), np.float32)

        def fill(rows: slice) -> None:
            with self._networks.borrow() as network:
                for row in range(*rows.indices(len(pixels))):
                    probabilities[row] = network(pixels[row])
                    if probabilities[row].max() < self.flip_tta_threshold:
                        probabilities[row] = (probabilities[row] + network(pixels[row, :, ::-1])) / 2

        parts = _slices(len(pixels), self._networks.size)
        if len(parts) == 1:
            fill(parts[0])
        else:
            with ThreadPoolExecutor(len(parts)) as executor:
                list(executor.map(fill, parts))
        return probabilities

    def _answer(self, probabilities: np.ndarray, top: int) -> Answer:
        order = np.argsort(-probabilities, kind="stable")
        guesses = [Guess(self.characters[i], self.names[i], float(probabilities[i])) for i in order]
        return Answer(*guesses[0], top=guesses[:top], all=guesses)

    def _try_out(self) -> None:
        """Answer once, so that a damaged network shows now and the first visitor finds it warm."""
        grey = np.full((1, self.picture_size, self.picture_size, 3), 128, np.uint8)
        try:
            total = self.predict_pixels(grey).sum()
        except (ValueError, RuntimeError):  # what LiteRT makes of a damaged file, numpy of other shapes
            raise _damaged(self.run_dir, f"{records.LITERT_MODEL} holds no network, or another than it says") from None
        if not abs(total - 1) < 0.01:  # NaN as well
            raise _damaged(self.run_dir, f"its probabilities add up to {total:.3g} instead of 1")


def find_runs(outputs: Path = paths.OUTPUTS) -> list[Path]:
    """List the runs that a recogniser can be loaded from, best first.

    Args:
        outputs: Folder of runs: `published/<run>/` and `<data name>/<run>/`.

    Returns:
        Published runs, those of springfield first, then the finished ones of this machine; each by macro F1, those not
        evaluated last.
    """
    found = []
    for model in Path(outputs).glob(f"*/*/{records.LITERT_MODEL}"):
        run = model.parent
        published = run.parent.name == paths.PUBLISHED.name
        with contextlib.suppress(UserError):
            if ((run / records.RUN_RECORD).exists() and records.read_run(run)) or published:
                best = published and run.name.startswith(BEST_NETWORK)
                found.append((not published, not best, -_macro_f1(run), str(run), run))
    return [run for *_, run in sorted(found)]


def load_best(outputs: Path = paths.OUTPUTS) -> Recogniser:
    """Load the first of `find_runs` that can be loaded.

    Raises:
        UserError: If there is none; where every one is damaged, what is wrong with the first.
    """
    problems = []
    for run in find_runs(outputs):
        try:
            return Recogniser.load(run)
        except UserError as problem:
            problems.append(problem)
    raise (
        problems[0] if problems else UserError(f"There is no trained network in {outputs} yet. Run `make train` first.")
    )


def read_file(path: Path | str) -> bytes:
    """Read a picture file, but no further than a picture may go.

    Args:
        path: A regular file. Devices and pipes are refused, as they may never end.

    Returns:
        Its bytes; of a file over the decoder's limit only so many that the decoder refuses them.

    Raises:
        UserError: If there is no such file or it cannot be read.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise UserError("This is a folder, not a picture.")
        if path.exists() and not path.is_file():
            raise UserError("This is a device or a pipe, not a picture file.")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            return file.read(min(size, pictures.MAX_BYTES) + 1)
    except FileNotFoundError:
        raise UserError("There is no such file. Check the spelling of its path.") from None
    except (OSError, ValueError) as problem:  # a name with a zero byte is a ValueError
        raise UserError(f"The file cannot be read: {getattr(problem, 'strerror', None) or problem}.") from None


class _NetworkPool:
    """As many interpreters as there are cores, each lent to one thread at a time, made when first needed.

    An interpreter is not thread-safe but lets go of the interpreter lock while it computes: two of them on two
    cores answer twice as many pictures a second as one behind a lock. Each computes one picture at a time,
    since batches are no faster here (3.6 ms a picture alone, 3.8 in 32), must be paid with a resize, and would
    let the answer for a picture depend on its neighbours.
    """

    def __init__(self, contents: bytes, size: int):
        self.size = size
        self._contents = contents
        self._idle: queue.LifoQueue[_Network | None] = queue.LifoQueue()
        for _ in range(size):
            self._idle.put(None)

    @contextlib.contextmanager
    def borrow(self) -> Iterator["_Network"]:
        network = self._idle.get()  # the one that was used last, if it is free
        try:
            network = network or _Network(self._contents)
            yield network
        finally:
            self._idle.put(network)


class _Network:
    """One interpreter: RGB `uint8 (size, size, 3)` to `float32 (num_characters,)`."""

    def __init__(self, contents: bytes):
        self._interpreter = Interpreter(model_content=contents, num_threads=1)
        self._interpreter.allocate_tensors()
        (inputs,) = self._interpreter.get_input_details()
        (outputs,) = self._interpreter.get_output_details()
        self._input, self._output = inputs["index"], outputs["index"]

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        self._interpreter.set_tensor(self._input, picture[np.newaxis].astype(np.float32))
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output)[0]


def _metadata(contents: bytes, run_dir: Path) -> dict[str, Any]:
    """Read and check what the model file says of itself, in the zip archive appended to it."""
    try:
        with zipfile.ZipFile(io.BytesIO(contents)) as archive, archive.open(records.MODEL_METADATA) as file:
            metadata = json.loads(file.read(MAX_METADATA_BYTES))
            version = metadata["format_version"]
    except Exception:  # whatever zipfile and json make of damaged bytes
        raise _damaged(
            run_dir, f"{records.LITERT_MODEL} is cut off or does not hold its {records.MODEL_METADATA}"
        ) from None
    records.check_version(version, run_dir)
    metadata = records.renamed(metadata)
    wrong = [key for key, is_right in METADATA_CHECKS.items() if not is_right(metadata.get(key))]
    if wrong:
        raise _damaged(run_dir, f"{records.MODEL_METADATA} in {records.LITERT_MODEL} has no valid {', '.join(wrong)}")
    return metadata


def _is_characters(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 1
        and all(isinstance(character, str) and character for character in value)
        and len(set(value)) == len(value)
    )


# What each entry must be: colours and range are not converted to, so others cannot be served.
METADATA_CHECKS: dict[str, Callable[[Any], bool]] = {
    "run": lambda value: isinstance(value, str),
    "characters": _is_characters,
    "picture_size": lambda value: isinstance(value, int) and 1 <= value <= 1024,
    "resize_mode": lambda value: value in pictures.RESIZE_MODES,
    "colour_order": lambda value: value == "RGB",
    "value_range": lambda value: value == [0, 255],
    "flip_tta_threshold": lambda value: value is None or (_is_number(value) and 0 <= value <= 1),  # not in older files
}


def _macro_f1(run_dir: Path) -> float:
    """Read a run's score, -1 if it has none."""
    score = _optional(records.read_metrics, run_dir, records.METRICS_RECORD).get("macro_f1")
    return float(score) if _is_number(score) else -1.0


def _optional(read: Callable[[Path], dict[str, Any]], run_dir: Path, name: str) -> dict[str, Any]:
    """Read a record that a run folder may lack: a model file alone is enough to predict."""
    return read(run_dir) if (run_dir / name).exists() else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _damaged(run_dir: Path, what: str) -> UserError:
    return UserError(f"{run_dir} is damaged: {what}. {RETRAIN}")


def _read_item(item: bytes | Path | str) -> bytes:
    return item if isinstance(item, bytes) else read_file(item)


def _slices(n: int, most: int) -> list[slice]:
    """Cut `range(n)` into at most `most` runs of about the same length, none so short that a thread costs more."""
    parts = max(1, min(most, n // 8))
    ends = [n * part // parts for part in range(parts + 1)]
    return [slice(start, end) for start, end in itertools.pairwise(ends)]


def _map_in_threads(function: Callable, items: Iterable, batch: int, threads: int) -> Iterator:
    """Yield `function(item)` in order; only a few batches are taken ahead of what the caller has taken."""
    executor = ThreadPoolExecutor(threads)
    ahead: deque = deque()
    items = iter(items)
    try:
        while True:
            while len(ahead) <= threads and (some := list(itertools.islice(items, batch))):
                ahead.append(executor.submit(lambda some: [function(item) for item in some], some))
            if not ahead:
                return
            yield from ahead.popleft().result()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)  # a caller that stops early need not wait for a server
