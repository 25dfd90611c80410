"""The bytes of a picture → the name of a character, with the exported network of a run.

The export is a LiteRT file that contains its label order and picture size, so a run folder with that file alone is
enough. TensorFlow and Keras are never imported: they would cost seconds and half a gigabyte.
"""

import contextlib
import hashlib
import io
import math
import os
import queue
import threading
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from lib import paths, records
from lib.characters import display_name
from lib.data import pictures
from lib.errors import UserError
from lib.inference.class_map import Box, Place, find
from lib.machine import cores

MAX_MODEL_BYTES = 2**31  # of a flatbuffer
MAX_METADATA_BYTES = 1_000_000
MAX_PICTURE_SIZE = 1024
MIN_PARALLEL = 16  # pictures; for fewer, starting threads costs more than it saves
AHEAD = 16  # pictures for each thread that are read and named before the caller asks for them
READERS = 8  # pictures read beside those named: an address answers slowly, however fast the network is
DEFAULT_THRESHOLD = 0.5
RETRAIN = "Run `make train evaluate` again, or choose another run."


class Guess(NamedTuple):
    """A character and its probability."""

    character: str
    name: str
    probability: float


class Found(NamedTuple):
    """A character in a picture."""

    character: str
    name: str
    probability: float  # of the first one; of others, the score of the class map, 0 to 1
    box: Box | None  # of face and shoulders, in the picture; None without a class map


class Answer(NamedTuple):
    """The prediction for one picture."""

    known: bool  # whether the network names a character; it declines where none is probable enough
    character: str | None  # label of the most probable one, such as `homer_simpson`; None if it declines
    name: str | None  # its display name, such as `Homer Simpson`; None if it declines
    probability: float  # the highest, 0 to 1, also if it declines
    top: list[Guess]  # the most probable characters, as many as requested, highest first
    all: list[Guess]  # every character that the network knows, highest first
    found: list[Found]  # every character in the picture, the named one first; empty if it declines


class Outputs(NamedTuple):
    """What the network computes. Where the probabilities of a picture sum to less than 1, the rest is nobody's."""

    probabilities: np.ndarray  # `float32 (n, num_characters)`
    class_maps: np.ndarray | None  # `float32 (n, rows, columns, num_characters)`, 0 to 1; None if the network has none


class Recogniser:
    """The exported network of a run. It may be called from several threads at once.

    Example:
        >>> recogniser = load_best()
        >>> recogniser.predict(Path("homer.jpg").read_bytes()).name
        'Homer Simpson'
    """

    def __init__(self, contents: bytes, run_dir: Path):
        """Use the bytes of a model file that was read from a run folder; see `load`."""
        self.run_dir = run_dir
        self.passed_over: list[str] = []  # what `load_best` found wrong with better networks, a sentence each
        self.digest = hashlib.sha256(contents).hexdigest()  # of the model file
        metadata = read_metadata(contents, run_dir)
        self.name: str = metadata["run"]
        self.characters: list[str] = metadata["characters"]  # labels, in the order of the network's outputs
        self.names = [display_name(character) for character in self.characters]
        self.picture_size: int = metadata["picture_size"]  # height and width of the network's input, pixels
        self.resize_mode: str = metadata["resize_mode"]  # as in `pictures.decode`
        # Probability below which the answer is averaged with that of the mirrored picture.
        self.flip_tta_threshold: float = metadata.get("flip_tta_threshold") or 0.0
        second = metadata.get("second_threshold")  # score of the class map from which a further character is named
        self.second_threshold: float = 1.0 if second is None else second
        self._nobody: bool = metadata.get("nobody") or False  # whether there is a further probability, of nobody
        # A model file alone is enough: `record` and `metrics` are empty without `run.json` and `metrics.json`.
        self.record = records.read_run(run_dir) if (run_dir / records.RUN_RECORD).exists() else {}
        if self.record.get("model_sha256", self.digest) != self.digest:
            raise _damaged(run_dir, f"{records.LITERT_MODEL} was changed since it was written")
        self.metrics = _metrics(run_dir)
        # Probability from which a character is named; old files have none.
        candidates = (metadata.get("threshold"), self.metrics.get("threshold"), DEFAULT_THRESHOLD)
        self.threshold = float(next(value for value in candidates if _is_number(value)))
        self._contents = contents
        # A network for each core, made when it is first needed; the one used last comes first, so that few are made.
        self._idle: queue.LifoQueue[_Network | None] = queue.LifoQueue()
        for _ in range(cores()):
            self._idle.put(None)
        self._try_out()

    @classmethod
    def load(cls, run_dir: Path | str) -> "Recogniser":
        """Load the network of a run folder, of which `model.tflite` is enough, and try it on one picture.

        Raises:
            UserError: The run is missing, unfinished, damaged or of another format version.
        """
        run_dir = Path(run_dir)
        if not run_dir.is_dir():
            raise UserError(f"There is no run folder {run_dir}. `ls outputs/*` lists the runs, `make train` adds one.")
        try:
            contents = records.read_bytes(run_dir / records.LITERT_MODEL, MAX_MODEL_BYTES)
        except FileNotFoundError:
            raise UserError(
                f"{run_dir} holds no {records.LITERT_MODEL}: it is not a run folder, or its training is not finished. "
                "`make train` finishes it."
            ) from None
        except (OSError, ValueError) as problem:
            reason = getattr(problem, "strerror", None) or problem
            raise UserError(f"{run_dir / records.LITERT_MODEL} cannot be read: {reason}.") from None
        return cls(contents, run_dir)

    def predict(self, contents: bytes, top: int = 3) -> Answer:
        """Name the character in a picture.

        Args:
            contents: Bytes of a JPEG, PNG, WebP, AVIF, GIF or BMP file.
            top: Number of characters in `Answer.top`.

        Raises:
            UnreadablePicture: The bytes are not a picture, or exceed a limit.
        """
        pixels, framing = pictures.decode_framed(contents, self.picture_size, self.resize_mode)
        outputs = self.outputs(pixels[np.newaxis])
        (known,), (places,) = self.decisions(outputs)
        probabilities = outputs.probabilities[0]
        order = np.argsort(-probabilities, kind="stable")
        guesses = [Guess(self.characters[i], self.names[i], float(probabilities[i])) for i in order]
        best = guesses[0]
        if not known:
            return Answer(False, None, None, best.probability, guesses[:top], guesses, [])
        found = [
            Found(self.characters[label], self.names[label], score, box and tuple(framing.from_square(box).tolist()))
            for label, score, box in places
        ]
        found[0] = found[0]._replace(probability=best.probability)
        return Answer(True, best.character, best.name, best.probability, guesses[:top], guesses, found)

    def predict_many(
        self, items: Iterable[Any], read: Callable[[Any], bytes], top: int = 3, at_once: int | None = None
    ) -> Iterator[Answer | UserError]:
        """Name the characters in many pictures, several at a time; `top` as in `predict`.

        Args:
            items: What stands for the pictures, consumed as answers are, so that an endless iterator works.
            read: Function from an item to the bytes of a picture, which may raise `UserError`.
            at_once: Pictures that are named at a time; by default as many as there are cores.

        Yields:
            For each item, in order, the answer, or the error if it has none.
        """

        at_once = at_once or cores()
        naming = threading.Semaphore(at_once)

        def answer(item: Any) -> Answer | UserError:
            try:
                contents = read(item)
                with naming:
                    return self.predict(contents, top)
            except UserError as problem:
                return problem

        executor = ThreadPoolExecutor(READERS + at_once)
        ahead: deque[Future] = deque()
        try:
            for item in items:
                ahead.append(executor.submit(answer, item))
                if len(ahead) > AHEAD * (READERS + at_once):
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            executor.shutdown(wait=False, cancel_futures=True)  # a caller that stops early does not wait

    def predict_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """Compute the probabilities of decoded pictures; see `outputs`."""
        return self.outputs(pixels).probabilities

    def outputs(self, pixels: np.ndarray) -> Outputs:
        """Compute the outputs for decoded pictures.

        Flip test-time augmentation: if the highest probability is below `flip_tta_threshold`, the outputs are averaged
        with those of the mirrored picture. Confident answers are most and would not change, so the extra time is small.

        Args:
            pixels: `uint8 (n, picture_size, picture_size, 3)`, RGB.

        Returns:
            The outputs, in the order of `characters`.

        Raises:
            ValueError: The shape or the type of `pixels` is different.
        """
        if pixels.shape[1:] != (self.picture_size, self.picture_size, 3) or pixels.dtype != np.uint8:
            raise ValueError(
                f"`pixels` must be uint8 of shape (n, {self.picture_size}, {self.picture_size}, 3). "
                f"Received: {pixels.dtype} of shape {pixels.shape}"
            )
        if len(pixels) < MIN_PARALLEL:
            rows = [self._outputs_of_one(picture) for picture in pixels]
        else:
            with ThreadPoolExecutor(cores()) as executor:
                rows = list(executor.map(self._outputs_of_one, pixels))
        known = [probabilities[: len(self.characters)] for probabilities, _ in rows]
        class_maps = [class_map for _, class_map in rows if class_map is not None]
        return Outputs(
            np.array(known, np.float32).reshape(len(pixels), len(self.characters)),
            np.array(class_maps) if class_maps else None,
        )

    def _outputs_of_one(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        network = self._idle.get()
        try:
            network = network or _Network(self._contents)
            probabilities, class_map = network(picture)
            if probabilities[: len(self.characters)].max() < self.flip_tta_threshold:
                mirrored, mirrored_map = network(picture[:, ::-1])
                probabilities = (probabilities + mirrored) / 2
                class_map = None if class_map is None else (class_map + mirrored_map[:, ::-1]) / 2
            return probabilities, class_map
        finally:
            self._idle.put(network)

    def decisions(self, outputs: Outputs) -> tuple[np.ndarray, list[list[Place]]]:
        """Decide whether pictures show known characters, and which.

        The probability is divided among the characters in a picture, so that of all that the class map shows counts.

        Returns:
            For each picture whether anyone is named, `bool (n,)`, and the characters, the most probable first.
        """
        known, found = [], []
        for row, probabilities in enumerate(outputs.probabilities):
            first = int(probabilities.argmax())
            places = [Place(first, float(probabilities[first]), None)]
            if outputs.class_maps is not None:
                places = find(outputs.class_maps[row], first, self.second_threshold)
            known.append(probabilities[[place.label for place in places]].sum() >= self.threshold)
            found.append(places)
        return np.array(known, bool), found

    def _try_out(self) -> None:
        """Predict once, so that a damaged network is found now and the first real prediction is fast."""
        grey = np.full((self.picture_size, self.picture_size, 3), 128, np.uint8)
        try:
            probabilities, class_map = self._outputs_of_one(grey)
            fits = len(probabilities) == len(self.characters) + self._nobody
            fits &= class_map is None or class_map.shape[2] == len(self.characters)
        except (ValueError, RuntimeError, KeyError):  # from LiteRT for a damaged file
            fits = False
        if not fits:
            what = f"{records.LITERT_MODEL} holds no network, or one that does not match its metadata"
            raise _damaged(self.run_dir, what)
        total = probabilities.sum()
        if not abs(total - 1) < 0.01:  # true for NaN too
            raise _damaged(self.run_dir, f"its probabilities add up to {total:.3g} instead of 1")


def find_runs(outputs: Path = paths.OUTPUTS) -> list[Path]:
    """List the runs that a recogniser can be loaded from, best first: `published/<run>/` and `<data name>/<run>/`.

    Returns:
        The default of the published runs, which `make publish MODEL=1` records, the other published runs, then the
        finished runs of this machine; in each group by macro F1, with runs that are not evaluated last.
    """
    published = Path(outputs) / paths.PUBLISHED.name
    record, found = published / records.DEFAULT, []
    name = records.read_json(record).get("run") if record.exists() else None
    default = published / name if isinstance(name, str) else None
    for run in {model.parent for model in Path(outputs).glob(f"*/*/{records.LITERT_MODEL}")} - {default}:
        is_own = run.parent != published
        with contextlib.suppress(UserError):
            if is_own or (run / records.RUN_RECORD).exists():
                records.read_run(run)  # raises if the training is not finished
            score = _metrics(run).get("macro_f1")
            found.append((is_own, -score if _is_number(score) else 1, str(run), run))
    # The default also where it is damaged, which loading it says.
    return [*([default] if default else []), *(run for *_, run in sorted(found))]


def load_best(outputs: Path | None = None) -> Recogniser:
    """Load the first of `find_runs` that can be loaded; its `passed_over` says what is wrong with those before.

    Args:
        outputs: The folder of the runs; by default that in the variable OUTPUTS of make, or else `outputs`.

    Raises:
        UserError: There is none; or all are damaged, in which case the error is that of the first.
    """
    outputs = outputs or paths.ROOT / (os.environ.get("OUTPUTS") or paths.OUTPUTS)
    problems = []
    for run in find_runs(outputs):
        try:
            found = Recogniser.load(run)
        except UserError as problem:
            problems.append(problem)
        else:
            found.passed_over = [f"{problem} {found.run_dir} answers instead." for problem in problems]
            return found
    raise problems[0] if problems else UserError(f"There is no trained network in {outputs}. Run `make train` first.")


def read_file(path: Path | str) -> bytes:
    """Read a picture file; of one larger than the decoder's limit one byte more, which the decoder rejects.

    Raises:
        UserError: There is no such file, it cannot be read, or it is a device or a pipe, which may never end.
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
        raise UserError(f"There is no file {path}. Check its spelling.") from None
    except (OSError, ValueError) as problem:  # ValueError: a null byte in the path
        raise UserError(f"The file cannot be read: {getattr(problem, 'strerror', None) or problem}.") from None


class _Network:
    """One interpreter: from `uint8 (picture_size, picture_size, 3)`, RGB, to probabilities and class map.

    An interpreter is not thread-safe, but releases Python's global lock while it computes: two interpreters on two
    cores process twice as many pictures a second as one behind a lock. Each computes one picture at a time. Batches are
    not faster (3.6 ms per picture alone, 3.8 in batches of 32), need a resize of the tensors, and would make the answer
    for a picture depend on its neighbours.
    """

    def __init__(self, contents: bytes):
        self._interpreter = Interpreter(model_content=contents, num_threads=1)
        self._interpreter.allocate_tensors()
        (inputs,) = self._interpreter.get_input_details()
        self._input = inputs["index"]
        # LiteRT gives outputs an order of its own; the number of their axes identifies them.
        self._outputs = {len(output["shape"]): output["index"] for output in self._interpreter.get_output_details()}

    def __call__(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return `float32 (num_outputs,)`, and `float32 (rows, columns, num_characters)` or None."""
        self._interpreter.set_tensor(self._input, picture[np.newaxis].astype(np.float32))
        self._interpreter.invoke()
        found = {axes: self._interpreter.get_tensor(index)[0] for axes, index in self._outputs.items()}
        return found[2], found.get(4)


def read_metadata(contents: bytes, run_dir: Path) -> dict[str, Any]:
    """Read and check the metadata in the zip archive appended to a model file; raises UserError for a damaged one."""
    try:
        with zipfile.ZipFile(io.BytesIO(contents)) as archive, archive.open(records.MODEL_METADATA) as file:
            metadata = records.parse_json(file.read(MAX_METADATA_BYTES))
            version = metadata["format_version"]
    except Exception:  # zipfile and json raise many kinds for damaged bytes
        raise _damaged(run_dir, f"{records.LITERT_MODEL} is truncated or lacks its {records.MODEL_METADATA}") from None
    records.check_version(version, run_dir)
    metadata = records.renamed(metadata)
    invalid = [key for key, is_valid in METADATA_CHECKS.items() if not is_valid(metadata.get(key))]
    if invalid:
        raise _damaged(run_dir, f"{records.MODEL_METADATA} in {records.LITERT_MODEL} has no valid {', '.join(invalid)}")
    return metadata


def _is_characters(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 1
        and all(isinstance(character, str) and character for character in value)
        and len(set(value)) == len(value)
    )


# What each entry must be. Pictures are always decoded as RGB with values 0 to 255.
METADATA_CHECKS: dict[str, Callable[[Any], bool]] = {
    "run": lambda value: isinstance(value, str),
    "characters": _is_characters,
    "picture_size": lambda value: isinstance(value, int) and 1 <= value <= MAX_PICTURE_SIZE,
    "resize_mode": lambda value: value in pictures.RESIZE_MODES,
    "colour_order": lambda value: value == "RGB",
    "value_range": lambda value: value == [0, 255],
    # Missing in older files.
    "nobody": lambda value: value in (None, True, False),
    **dict.fromkeys(
        ("flip_tta_threshold", "threshold", "second_threshold"),
        lambda value: value is None or (_is_number(value) and 0 <= value <= 1),
    ),
}


def _metrics(run_dir: Path) -> dict[str, Any]:
    """Read the metrics of a run; empty if it is not evaluated."""
    return records.read_metrics(run_dir) if (run_dir / records.METRICS_RECORD).exists() else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _damaged(run_dir: Path, what: str) -> UserError:
    return UserError(f"{run_dir} is damaged: {what}. {RETRAIN}")
