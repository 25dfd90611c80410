"""What the server answers: the page, `/predict`, `/health`, and error responses."""

import asyncio
import base64
import collections
import concurrent.futures
import contextlib
import hashlib
import html.parser
import json
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

import tornado.web
from tornado import httputil, routing
from voila.static_file_handler import TemplateStaticFileHandler

from lib.data import pictures
from lib.errors import UserError
from lib.inference.recogniser import Recogniser
from lib.serving import limits, visitors

log = logging.getLogger(__name__)

# Base64 takes four bytes for three; the rest is the JSON around it and a data-URL prefix.
MAX_BODY_BYTES = pictures.MAX_BYTES * 4 // 3 + 1000
# The bodies held at once, of all clients together: a dozen of the largest, or thousands of usual ones. Half of it is
# the most that one client may fill.
MAX_RECEIVED_BYTES = 12 * MAX_BODY_BYTES
# Lists, objects and commas in a body. A picture in base64 has none; a million of them keep Python's reader, and with
# it every page, busy for a second.
MAX_JSON_PARTS = 100
# Pictures of more pixels are decoded one at a time: of 50 megapixels, each takes up to 0.75 GB.
LARGE_PIXELS = 4_000_000
MAX_DISCARDED_BYTES = 1_000_000_000  # of a body that is refused; see EarlyHandler
BODY_SECONDS = 60

NO_MODEL = "No trained network is ready on this server. Its log says why; `make train` makes one."
COME_BACK = {"Retry-After": "30"}
TRY_AGAIN = {"Retry-After": "1"}

# For whatever is not the page. No script, and styles only because an honest page has a few lines of its own.
STRICT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# For the page. Nothing comes from another host. Inline scripts run only if they are those that the template
# holds (their digests are listed). Beyond that the page needs:
# - script blob:, as anywidget imports a widget's code from one;
# - 'unsafe-inline' for styles, as JupyterLab and ipywidgets set them on elements;
# - pictures from data: and blob:, as widgets hand them over so.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self' blob: {scripts}; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": STRICT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",  # for browsers that do not know frame-ancestors
    "Referrer-Policy": "same-origin",  # "no-referrer" would make the Origin of the page's own requests "null"
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=(), display-capture=(), payment=(), usb=()",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class NoModel(Exception):
    """There is no network that could answer; the text says why, and is not for visitors: it names folders."""


class SecurityHeaders(tornado.web.OutputTransform):
    """Puts the headers on every answer, whichever handler gives it and however it fails."""

    def __init__(self, request: httputil.HTTPServerRequest) -> None:
        """Tornado makes one for each request."""

    def transform_first_chunk(
        self, status_code: int, headers: httputil.HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, httputil.HTTPHeaders, bytes]:
        """Add the headers that the handler did not set itself."""
        for name, value in HEADERS.items():
            headers.setdefault(name, value)
        headers.pop("Server", None)  # which version answers is nobody's business
        return status_code, headers, chunk


class Handler(tornado.web.RequestHandler):
    """Error responses: JSON for programs, a small page for people."""

    for_programs = False

    def say(self, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        """Finish with what is wrong and what to do."""
        headers = {"Cache-Control": "no-store"} | dict(headers or {})
        self.clear()
        self.set_status(status)
        for name, value in headers.items():
            self.set_header(name, value)
        if self.for_programs or "application/json" in self.request.headers.get("Accept", ""):
            self.set_header("Content-Type", "application/json; charset=UTF-8")
            self.reply(json.dumps({"error": sentence}))
        else:
            template = self.settings["voila_jinja2_env"].get_template("message.html")
            again = headers.get("Retry-After")
            self.reply(template.render(status=status, sentence=sentence, retry_after=again))

    def reply(self, content: str) -> None:
        """Send the whole of an answer."""
        self.finish(content)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer what tornado refuses, or what raised; the log has the traceback."""
        if status_code == 405:
            self.say(405, "This address does not take that kind of request.")
        elif status_code < 500:
            self.say(status_code, "The request is malformed.")
        else:
            self.say(status_code, "Something went wrong on the server; its log says what. Try again later.")


@tornado.web.stream_request_body
class EarlyHandler(Handler):
    """May answer before the body of a request has arrived; what comes of it then is thrown away.

    tornado closes the connection when a request is finished early, and a client that still sends would see
    that instead of the answer. So the answer goes out whole, and the request is finished when the body has
    arrived, or took too long.
    """

    is_answered = False

    def prepare(self) -> None:
        """Accept bodies that will be thrown away."""
        self.request.connection.set_max_body_size(MAX_DISCARDED_BYTES)

    def reply(self, content: str) -> None:
        """Send the whole of an answer, now."""
        self.is_answered = True
        self.set_header("Content-Length", str(len(content.encode())))
        self.write(content)
        self.flush()

    def data_received(self, chunk: bytes) -> None:
        """Throw the body away."""

    def body_arrived(self) -> None:
        """Add nothing to the answer."""

    get = head = post = put = patch = delete = options = body_arrived


class MessageHandler(EarlyHandler):
    """Answers every request with the same sentence."""

    def initialize(
        self, status: int, sentence: str, headers: Mapping[str, str] | None = None, for_programs: bool = False
    ) -> None:
        """Take what to say from the route."""
        self.answer = status, sentence, headers
        self.for_programs = for_programs

    def prepare(self) -> None:
        """Say it."""
        super().prepare()
        self.say(*self.answer)


class TokenHandler(Handler):
    """Remembers in a cookie that a visitor has shown the token, and takes it out of the address."""

    def initialize(self, name: str, value: str) -> None:
        """Take the cookie from the gate."""
        self.cookie = name, value

    def get(self) -> None:
        """Set the cookie and go on to the page."""
        page = self.settings["base_url"]
        self.set_header("Cache-Control", "no-store")
        self.set_cookie(
            *self.cookie, path=page, httponly=True, samesite="Strict", secure=self.request.protocol == "https"
        )
        if self.request.headers.get("Sec-Fetch-Site") == "cross-site":
            # After a link on another site, a redirect still counts as that site's request and travels without
            # a strict cookie. From a page of ours it does not.
            self.finish(f'<!DOCTYPE html><meta http-equiv="refresh" content="0;url={page}"><title>…</title>')
        else:
            self.redirect(page, status=303)


class Gate(routing.Router):
    """The one door: no handler, of Voila or of this module, sees a request that is refused here.

    Voila's own token does not cover its static files and the files beside the notebook, compares in a time
    that depends on the guess, leaves the token in the address, and lifts the check of the origin.

    Args:
        application: What lies behind.
        access: The rules.
        open_paths: Paths that need no token.
    """

    def __init__(
        self,
        application: tornado.web.Application,
        access: limits.Access,
        open_paths: frozenset[str],
    ) -> None:
        self._application = application
        self._access = access
        self._open_paths = open_paths

    def find_handler(self, request: httputil.HTTPServerRequest, **kwargs: Any) -> httputil.HTTPMessageDelegate | None:
        """Choose who answers: the application, or a refusal."""
        host, _ = httputil.split_host_and_port(request.host)
        if not self._access.knows_host(host):
            return self._refuse(
                request,
                403,
                "This server does not answer to the name in the address. Use the machine's own name or address, "
                "or start the server with HOSTNAMES set to this name.",
            )
        if self._access.needs_token and request.path not in self._open_paths:
            return self._check_token(request) or self._application.find_handler(request, **kwargs)
        return self._application.find_handler(request, **kwargs)

    def _check_token(self, request: httputil.HTTPServerRequest) -> httputil.HTTPMessageDelegate | None:
        given = request.query_arguments.get("token")
        if given and request.method == "GET":
            if not self._access.is_token(given[-1].decode(errors="replace")):
                return self._refuse(request, 403, "The token in the address is not the right one.")
            cookie = {"name": self._access.cookie_name, "value": self._access.cookie}
            return self._application.get_handler_delegate(request, TokenHandler, cookie)
        cookie = request.cookies.get(self._access.cookie_name)
        if cookie is not None and self._access.is_cookie(cookie.value):
            return None
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._access.is_token(token.strip()):
            return None
        return self._refuse(
            request,
            401,
            "This server asks for a token. Open its address with ?token=… at the end, or send the header "
            "“Authorization: Bearer …”.",
            {"WWW-Authenticate": "Bearer"},
        )

    def _refuse(
        self,
        request: httputil.HTTPServerRequest,
        status: int,
        sentence: str,
        headers: Mapping[str, str] | None = None,
    ) -> httputil.HTTPMessageDelegate:
        answer = {
            "status": status,
            "sentence": sentence,
            "headers": headers,
            "for_programs": request.method == "POST",
        }
        return self._application.get_handler_delegate(request, MessageHandler, answer)


class PageHandler(Handler):
    """The page; every visit gets a kernel of its own."""

    def initialize(self, pages: visitors.Pages) -> None:
        """Take the maker of pages from the route."""
        self.pages = pages

    async def get(self) -> None:
        """Hand out a page. What the address says besides its path is of no account."""
        # A foreign page with this address as that of a picture, many times over, would take all places.
        headers = self.request.headers
        if (
            headers.get("Sec-Fetch-Site") in ("cross-site", "same-site")
            and headers.get("Sec-Fetch-Dest", "document") != "document"
        ):
            self.say(403, "This is a page of its own, not a part of another site. Open its address in the browser.")
            return
        try:
            page = await self.pages.take()
        except visitors.Full:
            self.say(
                503,
                "All places are taken at the moment. This page tries again by itself; or come back later.",
                COME_BACK,
            )
            return
        except visitors.PageFailed:
            self.say(500, "The page could not be prepared; the server's log says why. Try again later.")
            return
        self.set_header("Cache-Control", "no-store")
        self.set_header("Content-Security-Policy", page_policy(page.html))
        self.finish(page.html)


class LeaveHandler(Handler):
    """Ends a visitor's kernel when the page says that it is closed.

    Whoever knows the number of a kernel is its visitor: it is random and stands in no other page.
    """

    def initialize(self, kernels: visitors.Kernels) -> None:
        """Take the kernels from the route."""
        self.kernels = kernels

    async def post(self, kernel_id: str) -> None:
        """End it."""
        await self.kernels.end(kernel_id)
        self.set_status(204)


class HealthHandler(Handler):
    """Whether the server is fit for work, for whoever watches it."""

    for_programs = True

    def initialize(self, predictor: "Predictor", pages: visitors.Pages) -> None:
        """Take what to report from the route."""
        self.predictor, self.pages = predictor, pages

    def get(self) -> None:
        """Report; 503 while no network can answer."""
        self.set_header("Cache-Control", "no-store")
        report = {
            "kernels": self.pages.in_use,
            "max_visitors": self.pages.max_visitors,
            "page_ready": self.pages.is_ready,
            "predictions": self.predictor.slots.under_way,
            "max_predictions": self.predictor.slots.limit,
        }
        try:
            recogniser = self.predictor.recogniser()
        except NoModel:
            self.set_status(503)
            self.finish({"status": "no model", "error": NO_MODEL} | report)
        else:
            self.finish({"status": "ok", "model": recogniser.name, "digest": recogniser.digest} | report)


class TemplateFiles(TemplateStaticFileHandler):
    """Voila's own files; a malformed path is not found, where Voila would raise."""

    async def get(self, path: str, include_body: bool = True) -> None:
        """Send a file."""
        try:
            await super().get(path, include_body)
        except (AssertionError, ValueError):
            raise tornado.web.HTTPError(404) from None


class Predictor:
    """Recognises pictures beside the event loop, so that pages stay responsive.

    Args:
        load: Loads the recogniser. Where it raises UserError it is called again at the next request, so that
            a network trained meanwhile is found.
        threads: How many predictions run at once.
        limit: How many may run or wait.
    """

    def __init__(self, load: Callable[[], Recogniser], threads: int, limit: int) -> None:
        self.slots = limits.Slots(limit)
        self.received: collections.Counter[str] = collections.Counter()  # bytes of bodies held just now, by client
        self._load = load
        self._recogniser: Recogniser | None = None
        self._executor = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="predict")
        self._large = threading.Lock()

    def recogniser(self) -> Recogniser:
        """The recogniser, loaded when it is first asked for.

        Raises:
            NoModel: If there is none, or none that can be loaded.
        """
        if self._recogniser is None:
            try:
                self._recogniser = self._load()
            except UserError as problem:
                raise NoModel(str(problem)) from None
        return self._recogniser

    async def predict(self, body: bytes | bytearray, client: str) -> dict[str, Any]:
        """Answer the body of a request.

        Args:
            body: JSON, `{"image": "<base64>"}`.
            client: Who asks, an address.

        Returns:
            `character`, `name`, `probability` and `probabilities`, the last by character, highest first.

        Raises:
            NoModel: If there is no network to ask.
            UserError: If the body or the picture cannot be used.
            limits.Busy: If too much is under way.
            limits.TooManyAtOnce: If too much of it is this client's.
        """
        with self.slots.one(client):
            return await asyncio.get_running_loop().run_in_executor(self._executor, self._answer, body)

    def close(self) -> None:
        """Take no more work."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _answer(self, body: bytes | bytearray) -> dict[str, Any]:
        picture = picture_in(body)
        width, height = pictures.probe(picture)
        with self._large if width * height > LARGE_PIXELS else contextlib.nullcontext():
            answer = self.recogniser().predict(picture)
        return {
            "character": answer.character,
            "name": answer.name,
            "probability": answer.probability,
            "probabilities": {guess.character: guess.probability for guess in answer.all},
            "known": answer.known,
            "found": [found._asdict() for found in answer.found],
        }


class PredictHandler(EarlyHandler):
    """`POST /predict`: a picture in base64, the answer in JSON.

    No token against cross-site request forgery is needed: a foreign page may send JSON only after asking with
    OPTIONS whether it may, and is told no.
    """

    for_programs = True

    def initialize(self, predictor: Predictor) -> None:
        """Take the predictor from the route."""
        self.predictor, self.received = predictor, predictor.received
        self.client = limits.client(self.request.remote_ip)
        self.body = bytearray()

    def prepare(self) -> None:
        """Refuse what can be refused before the body arrives."""
        super().prepare()
        kind = self.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if self.request.method != "POST":
            self.say(405, "Send the picture by POST.", {"Allow": "POST"})
        elif kind != "application/json":
            self.say(415, 'Send {"image": "<base64>"} with the header “Content-Type: application/json”.')
        elif _declared_bytes(self.request) > MAX_BODY_BYTES:
            self._say_too_large()

    def data_received(self, chunk: bytes) -> None:
        """Collect the body, as long as there is room for it."""
        if self.is_answered:
            return
        if len(self.body) + len(chunk) > MAX_BODY_BYTES:
            self._say_too_large()
        elif self.received.total() + len(chunk) > MAX_RECEIVED_BYTES:
            self._say_busy()
        elif self.received[self.client] + len(chunk) > MAX_RECEIVED_BYTES // 2:
            self._say_too_many()
        else:
            self.body += chunk
            self.received[self.client] += len(chunk)

    async def post(self) -> None:
        """Answer."""
        if self.is_answered:
            return
        try:
            self.finish(await self.predictor.predict(self.body, self.client))
        except NoModel:
            self.say(503, NO_MODEL, COME_BACK)
        except UserError as problem:
            self.say(400, str(problem))
        except limits.TooManyAtOnce:
            self._say_too_many()
        except limits.Busy:
            self._say_busy()

    def on_finish(self) -> None:
        """Forget the body."""
        self._forget()

    def on_connection_close(self) -> None:
        """Forget the body of a client that went away."""
        self._forget()
        super().on_connection_close()

    def _forget(self) -> None:
        self.received[self.client] -= len(self.body)
        if not self.received[self.client]:
            del self.received[self.client]
        self.body = bytearray()

    def _say_too_large(self) -> None:
        limit = pictures.MAX_BYTES // 1_000_000
        self.say(413, f"The picture is too large, at most {limit} MB can be read. Make it smaller.")

    def _say_too_many(self) -> None:
        self.say(429, "Too many of your pictures are under way. Wait for answers.", TRY_AGAIN)

    def _say_busy(self) -> None:
        self.say(503, "Too many pictures are under way. Try again in a moment.", TRY_AGAIN)


def picture_in(body: bytes | bytearray) -> bytes:
    """Take the picture out of a request.

    Args:
        body: JSON, `{"image": "<base64>"}`, the value with or without the prefix of a data URL.

    Returns:
        The bytes of the picture file, not yet looked at.

    Raises:
        UserError: If the body is something else.
    """
    try:
        if sum(body.count(sign) for sign in b"[{,") > MAX_JSON_PARTS:
            raise ValueError
        encoded = json.loads(body)["image"]
        if encoded.startswith("data:"):
            encoded = encoded.partition(",")[2]
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        raise UserError('The body is not JSON of the form {"image": "<base64>"}.') from None
    try:
        return base64.b64decode(encoded.encode("ascii").translate(None, b" \t\r\n"), validate=True)
    except ValueError:
        raise UserError("The image is not valid base64. Encode the bytes of the picture file.") from None


def page_policy(page: str) -> str:
    """Say what the page may do: `Content-Security-Policy` with the digests of its inline scripts.

    Args:
        page: HTML that holds nothing from a visitor.
    """
    scripts = _InlineScripts()
    scripts.feed(page)
    return PAGE_POLICY.format(scripts=" ".join(sorted(scripts.digests)))


class _InlineScripts(html.parser.HTMLParser):
    """Collects the digests of the scripts that stand in a page."""

    def __init__(self) -> None:
        super().__init__()
        self.digests: set[str] = set()
        self._script: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        kind = attributes.get("type") or "text/javascript"
        if tag == "script" and "src" not in attributes and kind in ("text/javascript", "module"):
            self._script = ""

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self._script += data

    def handle_endtag(self, tag: str) -> None:
        if self._script is not None:
            digest = base64.b64encode(hashlib.sha256(self._script.encode()).digest()).decode()
            self.digests.add(f"'sha256-{digest}'")
            self._script = None


def _declared_bytes(request: httputil.HTTPServerRequest) -> int:
    length = request.headers.get("Content-Length", "0")
    return int(length) if length.isdecimal() else 0  # tornado refuses what is no number
