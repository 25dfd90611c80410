"""The page as one widget: the modules in `frontend/` draw it, this answers what it asks.

A visitor can send whatever they like, and set every trait. So a question is checked here as if nobody had checked it
before, and no trait is read, only written.
"""

import concurrent.futures
import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from lib.errors import UserError
from lib.serving import page

log = logging.getLogger(__name__)

FRONTEND = Path(__file__).parent / "frontend"
GONE = "This network is not there any more. Load the page again to see which are."
UNKNOWN = "The page asked for something that does not exist. Load it again."
FAILED = "Something went wrong on the server; its log says what. Try again, or try another picture."


def modules(name: str, folder: Path = FRONTEND) -> dict[str, str]:
    """Give the sources, by name, of a module in a folder and of all that it imports, each after those that it needs."""
    source = (folder / name).read_text(encoding="utf-8")
    needed: dict[str, str] = {}
    for other in re.findall(r' from "\./(.+?)";', source):
        needed |= modules(other, folder)
    return needed | {name: source}


class Widget(anywidget.AnyWidget):
    """Takes pictures and shows who is in them.

    Questions are messages `{"id": …, "ask": …, …}`, with the bytes of a picture as their buffer; the answer, or
    `{"problem": "<message>"}`, comes back under the same `id`:

    - `recognise` with `networks` (keys);
    - `fetch` with `url`, whose answer is the picture;
    - `explain` with `network`, whose answer brings an overlay for the picture;
    - `look`, whether there is a network now.

    Args:
        networks: Who answers.
        drawings: Pictures for those who have none, as `page.drawings` gives them.
    """

    _esm = (
        f"const sources = {json.dumps(modules('kernel.js'))};\n{(FRONTEND / 'loader.js').read_text(encoding='utf-8')}"
    )
    _css = FRONTEND / "style.css"
    about = traitlets.Dict().tag(sync=True)

    def __init__(self, networks: page.Networks, drawings: Sequence[dict[str, Any]] = ()):
        self._networks = networks
        self._drawings = list(drawings)
        # A slow server elsewhere must not hold up the pictures that come meanwhile.
        self._fetching = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="fetch")
        super().__init__(about=self._about())
        self.on_msg(self._on_question)

    def _about(self) -> dict[str, Any]:
        return self._networks.about() | {"drawings": self._drawings}

    def _on_question(self, _: Any, question: Any, buffers: list) -> None:
        number = question.get("id") if isinstance(question, dict) else None
        if not isinstance(number, int):
            return  # not from our page, so there is nobody to tell
        if question.get("ask") == "fetch":
            self._fetching.submit(self._reply, number, question, buffers)
        else:
            self._reply(number, question, buffers)

    def _reply(self, number: int, question: dict, buffers: list) -> None:
        try:
            answer, attached = self.answer(question, buffers)
        except UserError as problem:
            answer, attached = {"problem": str(problem)}, []
        except Exception:
            log.exception("A question of the page failed.")
            answer, attached = {"problem": FAILED}, []
        self.send({"id": number} | answer, attached)

    def answer(self, question: dict[str, Any], buffers: Sequence[Any]) -> tuple[dict[str, Any], list[bytes]]:
        """Answer a question of the page, which is not to be trusted; raises UserError, which the visitor is told."""
        match question.get("ask"):
            case "recognise":
                keys = self._asked(question.get("networks"))
                answers = self._networks.recognise(_picture(buffers), keys)
                self.about = self._about()  # a network may have been trained again
                return {"answers": answers}, []
            case "explain":
                (key,) = self._asked([question.get("network")])
                facts, overlay = self._networks.explain(_picture(buffers), key, str(question.get("character", "")))
                return facts, [overlay]
            case "fetch" if isinstance(url := question.get("url"), str):
                from lib.serving import fetch  # a third of a second that only URLs are worth

                return {}, [fetch.read_picture(url)]
            case "look":
                self._networks.look()
                self.about = self._about()
                return {}, []
        raise UserError(UNKNOWN)

    def _asked(self, keys: Any) -> list[str]:
        """Check that these are keys of known networks."""
        if not isinstance(keys, list) or not 1 <= len(keys) <= page.MAX_TOGETHER:
            raise UserError(UNKNOWN)
        if not all(key in self._networks.keys for key in keys):
            raise UserError(GONE)
        return keys


def _picture(buffers: Sequence[Any]) -> bytes:
    if len(buffers) != 1:
        raise UserError(UNKNOWN)
    return bytes(buffers[0])
