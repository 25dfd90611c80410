"""The page as one widget: `dropzone.js` draws it, this answers what it asks.

A visitor can send whatever they like, and set every trait. So a question is checked here as if nobody had
checked it before, and no trait is read, only written.
"""

import base64
import concurrent.futures
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from lib.data import pictures
from lib.errors import UserError
from lib.serving import page

log = logging.getLogger(__name__)

# What the browser cannot shrink travels as it is, so that the decoder can say what is wrong with it. It has to
# fit into a message to the server, which ends the connection at 16 MiB.
MAX_SENT_BYTES = 12_000_000
MAX_WAITING_ADDRESSES = 3
NO_NETWORK = (
    "There is no trained network yet, so no picture can be named. Run `make train evaluate` in the project's "
    "folder (it takes some minutes), then look again."
)
UNKNOWN = "The page asked for something that does not exist. Load it again."
FAILED = "Something went wrong on the server; its log says what. Try again, or try another picture."

# What the page shows, in the widget's output, for `drawAhead`; other front ends pass over a kind they do not know.
ABOUT = "application/vnd.simpsons-recognition.about+json"

Reply = tuple[dict[str, Any], list[bytes]]


class DropZone(anywidget.AnyWidget):
    """Takes pictures and shows who is in them.

    Questions are messages `{"id": …, "ask": …, …}`, with the bytes of a picture as their buffer; the answer, or
    `{"problem": "<sentence>"}`, comes back under the same `id`:

    - `recognise` with `networks` (keys), and `shrink` where the browser could not make the picture small;
    - `fetch` with `url` and `networks`, whose answer brings the picture;
    - `explain` with `network`, whose answer brings a veil to lay over the picture;
    - `look`, whether there is a network now.

    Args:
        networks: Who answers.
        drawings: Pictures for those who have none, as `page.drawings` gives them.
    """

    _esm = Path(__file__).with_suffix(".js")
    _css = Path(__file__).with_suffix(".css")
    about = traitlets.Dict().tag(sync=True)

    def __init__(self, networks: page.Networks, drawings: Sequence[dict[str, Any]] = ()):
        self._networks = networks
        self._drawings = list(drawings)
        self._questions: dict[str, Callable[[dict, list], Reply]] = {
            "recognise": self._recognise,
            "fetch": self._fetch,
            "explain": self._explain,
            "look": self._look,
        }
        # A slow server elsewhere must not hold up the pictures that come meanwhile.
        self._fetching = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="fetch")
        self._places = threading.BoundedSemaphore(MAX_WAITING_ADDRESSES)
        super().__init__(about=self._about())
        self.on_msg(self._on_question)

    def _about(self) -> dict[str, Any]:
        """Say what the page has to know before anything is asked."""
        networks = self._networks.facts()
        return {
            "networks": networks,
            "problem": "" if networks else NO_NETWORK,
            "drawings": self._drawings,
            "side": page.LONGEST_SIDE,
            "keptBytes": page.MAX_KEPT_BYTES,
            "quality": page.JPEG_QUALITY / 100,
            "sentBytes": MAX_SENT_BYTES,
            "pixels": pictures.MAX_PIXELS,
            "together": page.MAX_LOADED,
        }

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """Say in the output, too, what the page shows: it is drawn from there while the widget is on its way."""
        data, metadata = super()._repr_mimebundle_(**kwargs)
        about = self._about()
        about["drawings"] = [
            drawing | {"picture": base64.b64encode(drawing["picture"]).decode()} for drawing in about["drawings"]
        ]
        return data | {ABOUT: about}, metadata

    def _on_question(self, _: Any, question: Any, buffers: list) -> None:
        number = question.get("id") if isinstance(question, dict) else None
        if not isinstance(number, int):
            return  # not from our page, so there is nobody to tell
        if question.get("ask") != "fetch":
            self._reply(number, question, buffers)
        elif self._places.acquire(blocking=False):
            self._fetching.submit(self._reply_from_afar, number, question, buffers)
        else:
            self.send({"id": number, "problem": "Several addresses are being read already. Wait for them."})

    def _reply_from_afar(self, number: int, question: dict, buffers: list) -> None:
        try:
            self._reply(number, question, buffers)
        finally:
            self._places.release()

    def _reply(self, number: int, question: dict, buffers: list) -> None:
        try:
            answer, attached = self.answer(question, buffers)
        except UserError as problem:
            answer, attached = {"problem": str(problem)}, []
        except Exception:
            log.exception("A question of the page failed.")
            answer, attached = {"problem": FAILED}, []
        self.send({"id": number} | answer, attached)

    def answer(self, question: dict[str, Any], buffers: Sequence[Any]) -> Reply:
        """Answer a question of the page.

        Args:
            question: See above; not to be trusted.
            buffers: At most the bytes of one picture.

        Returns:
            The answer, and what comes with it.

        Raises:
            UserError: If there is no answer; the text is for the visitor.
        """
        kind = question.get("ask")
        if not isinstance(kind, str) or kind not in self._questions:
            raise UserError(UNKNOWN)
        return self._questions[kind](question, list(buffers))

    def _recognise(self, question: dict, buffers: list) -> Reply:
        contents = _picture(buffers)
        if question.get("shrink") is not True:
            return {"answers": self._networks.recognise(contents, self._asked(question))}, []
        return self._recognise_shrunk(contents, question)

    def _fetch(self, question: dict, buffers: list) -> Reply:
        url = question.get("url")
        if not isinstance(url, str):
            raise UserError(UNKNOWN)
        return self._recognise_shrunk(read_url(url), question)

    def _recognise_shrunk(self, contents: bytes, question: dict) -> Reply:
        """Do what the browser could not: make the picture small, and hand it over to be shown."""
        contents = page.small_enough(contents)
        return {"answers": self._networks.recognise(contents, self._asked(question))}, [contents]

    def _explain(self, question: dict, buffers: list) -> Reply:
        (key,) = self._asked({"networks": [question.get("network")]})
        facts, veil = self._networks.explain(_picture(buffers), key)
        return facts, [veil]

    def _look(self, question: dict, buffers: list) -> Reply:
        self._networks.look()
        self.about = self._about()
        return {}, []

    def _asked(self, question: dict) -> list[str]:
        """Take the keys of known networks from a question."""
        keys = question.get("networks")
        if not isinstance(keys, list) or not 1 <= len(keys) <= page.MAX_LOADED:
            raise UserError(UNKNOWN)
        if not all(isinstance(key, str) and key in self._networks.keys for key in keys):
            raise UserError("This network is not there any more. Load the page again to see which are.")
        return list(dict.fromkeys(keys))


def _picture(buffers: list) -> bytes:
    if len(buffers) != 1:
        raise UserError(UNKNOWN)
    return bytes(buffers[0])


def read_url(url: str) -> bytes:
    """Read the picture behind a URL; see `fetch.read_picture`."""
    from lib.serving import fetch  # a third of a second that only URLs are worth

    return fetch.read_picture(url)
