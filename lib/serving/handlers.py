"""What the server answers: the page, `/predict`, `/health`, and error responses; and who may ask."""

import asyncio
import base64
import collections
import hashlib
import ipaddress
import json
import logging
import re
import secrets
import socket
import time
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

import tornado.web
from tornado import httputil, routing
from voila.tornado.handler import TornadoVoilaHandler

from lib import machine
from lib.data import pictures
from lib.errors import UserError
from lib.inference.recogniser import Recogniser
from lib.serving import kernels, page

log = logging.getLogger(__name__)

# Base64 takes four bytes for three; the rest is the JSON around it and a data-URL prefix.
MAX_BODY_BYTES = pictures.MAX_BYTES * 4 // 3 + 1000
# Lists, objects and commas in a body. A picture in base64 has none; a million of them keep Python's reader, and with it
# every page, busy for a second.
MAX_JSON_PARTS = 100
MAX_DISCARDED_BYTES = 1_000_000_000  # of a body that is refused; see MessageHandler
WRONG_TOKENS, WRONG_TOKEN_SECONDS = 10, 60.0  # so many in so long; then none is looked at for a while
COOKIE = "who-is-it"
WIDGET = "application/vnd.jupyter.widget-view+json"  # Voila sends a notebook that failed too, with status 200

# For whatever is not the page. No script, and styles only because an error page has a few lines of its own.
STRICT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# For the page. Nothing comes from another host. Inline scripts run only if they are those that the template holds
# (their digests are listed). Beyond that the page needs:
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
    "Cross-Origin-Opener-Policy": "same-origin",
}


class SecurityHeaders(tornado.web.OutputTransform):
    """Puts the headers on every answer, whichever handler gives it and however it fails."""

    def transform_first_chunk(self, status: int, headers: httputil.HTTPHeaders, chunk: bytes, _: bool) -> tuple:
        for name, value in HEADERS.items():
            headers.setdefault(name, value)
        headers.pop("Server", None)  # which version answers is nobody's business
        return status, headers, chunk


class Handler(tornado.web.RequestHandler):
    """Error responses: JSON for programs, a small page for people."""

    for_programs = False
    method = "GET"  # the one that it answers

    def set_default_headers(self) -> None:
        self.set_header("Cache-Control", "no-store")

    def say(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        """Answer with what is wrong and what to do."""
        self.clear()
        self.set_status(status)
        for name, value in (headers or {}).items():
            self.set_header(name, value)
        if self.for_programs or "application/json" in self.request.headers.get("Accept", ""):
            self.set_header("Content-Type", "application/json; charset=UTF-8")
            content = json.dumps({"error": message})
        else:
            template = self.settings["voila_jinja2_env"].get_template("message.html")
            content = template.render(status=status, message=message)
        self.set_header("Content-Length", str(len(content.encode())))
        self.write(content)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer what tornado refuses, or what raised; the log has the traceback."""
        if status_code == 405:
            return self.say(405, f"This address answers to {self.method} alone.", {"Allow": self.method})
        failed = "Something went wrong on the server; its log says what. Try again later."
        self.say(status_code, "The request is malformed." if status_code < 500 else failed)


@tornado.web.stream_request_body
class MessageHandler(Handler):
    """Answers every request with the same message, before its body has arrived.

    tornado closes the connection when a request is finished early, and a client that still sends would see that instead
    of the answer. So the answer goes out whole, the body is thrown away, and then the request is finished.
    """

    def initialize(self, message: tuple) -> None:
        self.message, self.for_programs = message, self.request.method == "POST"

    def prepare(self) -> None:
        self.request.connection.set_max_body_size(MAX_DISCARDED_BYTES)
        self.say(*self.message)
        self.flush()

    def ignore(self, *_: Any) -> None:
        """Throw the body away, and add nothing to the answer."""

    data_received = get = head = post = put = patch = delete = options = ignore


class Gate(routing.Router):
    """The one door: no handler, of Voila or of this module, sees a request that is refused here.

    Voila's own token does not cover its static files, compares in a time that depends on the guess, leaves the token in
    the address, and lifts the check of the origin.

    Args:
        application: What lies behind.
        token: The secret that every request must show, or "" for none.
    """

    def __init__(self, application: tornado.web.Application, token: str) -> None:
        self._application = application
        self._token = token.encode()
        # Were it made from the token, guesses could come as cookies, as many as anybody likes.
        self._cookie = secrets.token_urlsafe()
        self._wrong: collections.deque[float] = collections.deque(maxlen=WRONG_TOKENS)

    def find_handler(self, request: httputil.HTTPServerRequest, **kwargs: Any) -> httputil.HTTPMessageDelegate | None:
        if not is_own_name(httputil.split_host_and_port(request.host)[0]):
            return self._say(request, 403, "This server answers to its machine's own name and addresses alone.")
        length = request.headers.get("Content-Length", "0")
        digits = length.lstrip("0")[:12] or "0"  # Python refuses to read thousands
        if length.isdecimal() and int(digits) > MAX_BODY_BYTES:
            return self._say(request, 413, f"Too large: pictures may have {pictures.MAX_BYTES // 1_000_000} MB.")
        refusal = self._check_token(request) if self._token and request.path != "/health" else None
        return refusal or self._application.find_handler(request, **kwargs)

    def _check_token(self, request: httputil.HTTPServerRequest) -> httputil.HTTPMessageDelegate | None:
        cookie = request.cookies.get(COOKIE)
        if cookie is not None and secrets.compare_digest(cookie.value.encode(), self._cookie.encode()):
            return None
        scheme, _, header = request.headers.get("Authorization", "").partition(" ")
        is_header = scheme.lower() == "bearer"
        query = urllib.parse.parse_qs(request.query.replace("+", "%2B"))  # a token is no form, where + is a space
        # Headers are read as Latin-1, whatever their encoding.
        given = header.strip().encode("latin-1") if is_header else query.get("token", [""])[-1].encode()
        if not given:
            message = (
                "This server asks for a token. Open the address that it printed, or send “Authorization: Bearer …”."
            )
            return self._say(request, 401, message, {"WWW-Authenticate": "Bearer"})
        now = time.monotonic()
        if len(self._wrong) == WRONG_TOKENS and now - self._wrong[0] < WRONG_TOKEN_SECONDS:
            wait = {"Retry-After": str(int(WRONG_TOKEN_SECONDS))}
            return self._say(request, 429, "Too many wrong tokens were tried. Wait a minute.", wait)
        if not secrets.compare_digest(given, self._token):
            self._wrong.append(now)
            log.warning("A wrong token came from %s.", request.remote_ip)
            return self._say(request, 403, "The token is not the right one.")
        if is_header:
            return None
        # A cookie remembers it, and the address loses it.
        cookie = f"{COOKIE}={self._cookie}; HttpOnly; Path=/; SameSite=Strict"
        return self._say(request, 303, "The token is right.", {"Location": "/", "Set-Cookie": cookie})

    def _say(self, request: httputil.HTTPServerRequest, *message: Any) -> httputil.HTTPMessageDelegate:
        return self._application.get_handler_delegate(request, MessageHandler, {"message": message})


def is_own_name(host: str) -> bool:
    """Check whether the server may be addressed by this name, that of the `Host` header without the port.

    A foreign page can point a name of its own at this server (DNS rebinding) and would then count as the server's own
    page. It needs a name for that, so addresses are always accepted.
    """
    own, host = socket.gethostname().lower(), host.lower().rstrip(".")
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host in {"localhost", own, f"{own}.local"}
    return True


class PageHandler(Handler, TornadoVoilaHandler):
    """The page; every visit gets a kernel of its own. What its address says besides the path is of no account."""

    async def get(self, path: str | None = None) -> None:
        # A foreign page with this address as that of a picture, many times over, would start all kernels.
        site, use = (self.request.headers.get(f"Sec-Fetch-{name}") for name in ("Site", "Dest"))
        if site in ("cross-site", "same-site") and use != "document":
            message = "This is a page of its own, not a part of another site. Open its address in the browser."
            return self.say(403, message)
        self.request.arguments.clear()
        self.request.query = ""
        try:
            await self.kernel_manager.make_place()
            html = "".join([part async for part in self.get_generator()])
        except kernels.Full:
            return self.say(503, "As many pages are open as memory has room for. Close one, then load this one again.")
        finally:
            self.kernel_manager.fill_if_needed(notebook_name=self.notebook_path)
        is_made = WIDGET in html
        kernel_id = re.search(r'"kernelId": "([\w-]+)"', html)[1]
        # A page that is made has some time to connect; a slow network may take its own.
        self.kernel_manager.end_after(2 * kernels.LEAVE_SECONDS if is_made else 0, kernel_id)
        if not is_made:
            return self.say(500, "The page could not be prepared; the server's log says why. Try again later.")
        self.set_header("Content-Security-Policy", page_policy(html))
        self.write(html)


class HealthHandler(Handler):
    """Whether the server is fit for work; 503 while no network can answer."""

    for_programs = True

    def get(self) -> None:
        predictor = self.settings["predictor"]
        report = {"pages": self.settings["kernel_manager"].pages, "predictions": predictor.under_way}
        try:
            recogniser = predictor.recogniser()
            self.write({"status": "ok", "model": recogniser.name, "digest": recogniser.digest} | report)
        except UserError:
            self.set_status(503)  # to strangers too, so without the names of folders
            self.write({"status": "no model", "error": "No network can answer; the page says why."} | report)


class Predictor:
    """Recognises pictures beside the event loop, so that pages stay responsive.

    Args:
        recogniser: Gives the network that answers; raises UserError, with the reason, while there is none.
        limit: How many predictions may run or wait; one runs per core, since decoding takes memory.
    """

    def __init__(self, recogniser: Callable[[], Recogniser], limit: int) -> None:
        self.recogniser, self.limit, self.under_way = recogniser, limit, 0
        self._running = asyncio.Semaphore(machine.cores())

    async def predict(self, recogniser: Recogniser, body: bytes) -> dict[str, Any]:
        """Answer a request's body; see `page.answer_record`. Raises UserError where it or the picture is unusable."""
        self.under_way += 1
        try:
            async with self._running:
                return page.answer_record(await asyncio.to_thread(lambda: recogniser.predict(_picture_in(body))))
        finally:
            self.under_way -= 1


class PredictHandler(Handler):
    """`POST /predict`: a picture in base64, the answer in JSON.

    No token against cross-site request forgery is needed: a foreign page may send JSON only after asking with OPTIONS
    whether it may, and is told no.
    """

    for_programs = True
    method = "POST"

    async def post(self) -> None:
        predictor = self.settings["predictor"]
        kind = self.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            return self.say(415, 'Send {"image": "<base64>"} with the header “Content-Type: application/json”.')
        if predictor.under_way >= predictor.limit:
            return self.say(503, "Too many pictures are under way. Try again in a moment.", {"Retry-After": "1"})
        try:
            recogniser = predictor.recogniser()
        except UserError as problem:
            return self.say(503, str(problem), {"Retry-After": "30"})
        try:
            self.write(await predictor.predict(recogniser, self.request.body))
        except UserError as problem:
            self.say(400, str(problem))


def _picture_in(body: bytes) -> bytes:
    """Take a picture out of `{"image": "<base64>"}`, whose value may be a data URL; raises UserError without one."""
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


def page_policy(html: str) -> str:
    """Say what the page may do: `Content-Security-Policy` with the digests of its inline scripts, none a visitor's."""
    scripts = re.findall(r'<script(?: type="(?:module|text/javascript)")?>(.*?)</script>', html, re.DOTALL)
    digests = {base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts}
    return PAGE_POLICY.format(scripts=" ".join(f"'sha256-{digest}'" for digest in sorted(digests)))
