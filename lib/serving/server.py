"""Serves the dashboard, `/predict` and `/health`: `python -m lib.serving.server`, as `make dashboard` does.

Voila runs standalone, so that a visitor's browser can send messages to widgets and nothing else; as an
extension of a Jupyter server it would let every visitor run code.
"""

import argparse
import asyncio
import contextlib
import errno
import ipaddress
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import tornado.netutil
import tornado.web
from jupyter_server.auth.identity import IdentityProvider, User
from jupyter_server.base.handlers import FileFindHandler
from jupyter_server.services.kernels.handlers import KernelHandler
from jupyter_server.utils import url_path_join
from tornado import httputil
from tornado.httpserver import HTTPServer
from traitlets.config import Config
from voila.app import Voila
from voila.static_file_handler import MultiStaticFileHandler
from voila.tornado.kernel_websocket_handler import VoilaKernelWebsocketHandler

from lib import paths
from lib.errors import UserError, report_error
from lib.inference.recogniser import Recogniser, load_best
from lib.machine import cores
from lib.serving import handlers, limits, visitors

log = logging.getLogger("lib.serving.server")  # __name__ is "__main__" when it is run

TEMPLATES = Path(__file__).parent / "templates"
NOTEBOOK = paths.NOTEBOOKS / "dashboard.ipynb"

MAX_MESSAGE_BYTES = 16 * 2**20  # of a websocket; the page shrinks pictures, so only a hostile one is near it
MAX_SMALL_BODY_BYTES = 65_536  # of any request but those to /predict, whose handler counts itself
IDLE_SECONDS = 600  # after which a page that nobody uses loses its kernel, and says so
CULL_INTERVAL_SECONDS = 60
CELL_SECONDS = 60  # after which a notebook that hangs has failed
IDLE_CONNECTION_SECONDS = 120
OPEN_FILES = 8192  # a visitor takes a dozen of them
MAX_IPC_FOLDER = 38  # the path of a socket in it has 65 characters more, and may have 103 on macOS, 107 on Linux

# Of Voila's own handlers only these, so that one that a later version adds is not served unseen. What is not
# here: the files beside the notebook (its pattern `public/.*` lets `public/../secret` pass), the folder view,
# the socket that tells of other visitors' requests, ending a kernel by form, themes, and logging in and out.
KEPT_HANDLERS = (
    KernelHandler,
    VoilaKernelWebsocketHandler,
    MultiStaticFileHandler,
    FileFindHandler,
)
# The parts of JupyterLab that widgets need; the rest of what is installed beside them stays out of the page.
LAB_EXTENSIONS = ["@jupyter-widgets/jupyterlab-manager", "@voila-dashboards/widgets-manager8", "anywidget"]


@dataclass(frozen=True)
class Settings:
    """What can be chosen about the server.

    Attributes:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        token: Secret that every visitor must show; "" for none.
        hostnames: Names, besides the machine's own, under which it may be addressed.
        base_url: Path that everything lies under, with a slash at both ends.
        behind_proxy: Whether to believe the headers X-Forwarded-For and X-Forwarded-Proto.
        max_visitors: How many kernels at most, the one made ahead included.
        max_predictions: How many predictions at most may run or wait.
        make_ahead: Whether to keep a page ready for the next visitor.
        leave_seconds: How long a kernel outlives its page's connection.
        outputs: Folder of the runs.
        run: Folder of the run that answers; None takes the best in `outputs`.
        notebook: The page.
    """

    host: str = "127.0.0.1"
    port: int = 8866
    token: str = ""
    hostnames: tuple[str, ...] = ()
    base_url: str = "/"
    behind_proxy: bool = False
    max_visitors: int = 1
    max_predictions: int = 32
    make_ahead: bool = True
    leave_seconds: float = 60
    outputs: Path = paths.OUTPUTS
    run: Path | None = None
    notebook: Path = NOTEBOOK


class AnyVisitor(IdentityProvider):
    """Whoever came through the gate is welcome, without Jupyter's own logins and cookies."""

    auth_enabled = False

    def get_user(self, handler: tornado.web.RequestHandler) -> User:
        """Every visitor is the same to Jupyter's handlers."""
        return User("visitor")

    def get_handlers(self) -> list[tuple[str, object]]:
        """No pages for logging in and out."""
        return []


class ProxiedServer(HTTPServer):
    """Believes of a proxy what README tells to set, and no more.

    tornado prefers `X-Real-Ip` and `X-Scheme`, which a proxy that sets others passes on as the client sent them.
    """

    def start_request(self, server_conn: object, request_conn: httputil.HTTPConnection) -> "_Believing":
        """Look at the headers before tornado does."""
        return _Believing(super().start_request(server_conn, request_conn))


class _Believing(httputil.HTTPMessageDelegate):
    def __init__(self, delegate: httputil.HTTPMessageDelegate) -> None:
        self._delegate = delegate
        self.data_received = delegate.data_received
        self.finish = delegate.finish
        self.on_connection_close = delegate.on_connection_close

    def headers_received(self, start_line: Any, headers: httputil.HTTPHeaders) -> Any:
        for name in ("X-Real-Ip", "X-Scheme"):
            headers.pop(name, None)
        return self._delegate.headers_received(start_line, headers)


class Server(Voila):
    """Voila with one notebook, its defaults changed, and the handlers of this project before its own."""

    def __init__(self, settings: Settings, **kwargs: Any) -> None:
        super().__init__(config=voila_config(settings), notebook_path=str(settings.notebook), **kwargs)
        self.chosen = settings
        self.predictor = handlers.Predictor(
            lambda: Recogniser.load(settings.run) if settings.run else load_best(settings.outputs),
            cores(),
            settings.max_predictions,
        )

    def setup_template_dirs(self) -> None:
        """Put this project's templates before Voila's."""
        super().setup_template_dirs()
        # Beside them lie the page's own script and style, which the template puts into the page.
        self.template_paths[:0] = [str(TEMPLATES), str(TEMPLATES.parent)]

    def init_settings(self) -> dict[str, Any]:
        """Add to tornado's settings."""
        settings = super().init_settings()
        return settings | {
            "jinja2_env": settings["voila_jinja2_env"],  # so that Jupyter's handlers use our error.html
            "headers": {"Content-Security-Policy": handlers.STRICT_POLICY},
            "transforms": [handlers.SecurityHeaders],
            "log_function": log_request,
            # Their names hold a digest of their contents; asking for each again costs a second visit half its time.
            "static_immutable_cache": [url_path_join(self.base_url, "voila/labextensions/")],
            "websocket_max_message_size": MAX_MESSAGE_BYTES,
        }

    def init_handlers(self) -> list[tuple]:
        """Put our handlers before Voila's, of which only some are kept."""
        self.pages = visitors.Pages(
            self, self.chosen.max_visitors, kernel_environment(self.chosen), self.chosen.make_ahead
        )
        not_found = {"status": 404, "sentence": "There is nothing at this address. The page is at the start of it."}
        before = [
            ("predict", handlers.PredictHandler, {"predictor": self.predictor}),
            ("health", handlers.HealthHandler, {"predictor": self.predictor, "pages": self.pages}),
            (r"voila/api/shutdown/([\w-]+)", handlers.LeaveHandler, {"kernels": self.kernel_manager}),
            ("voila/templates/(.*)", handlers.TemplateFiles, {}),
        ]
        return [
            (self.server_url, handlers.PageHandler, {"pages": self.pages}),
            *((url_path_join(self.server_url, path), handler, kwargs) for path, handler, kwargs in before),
            *(route for route in super().init_handlers() if route[1] in KEPT_HANDLERS),
            (r".*", handlers.MessageHandler, not_found),
        ]

    def start(self) -> None:
        """Serve until SIGINT or SIGTERM.

        Raises:
            UserError: If the address cannot be listened on.
        """
        self.sockets = listen_on(self.chosen.host, self.chosen.port)
        self.port = self.sockets[0].getsockname()[1]
        try:
            super().start()
        finally:
            end_children()
            shutil.rmtree(self.connection_dir, ignore_errors=True)

    def listen(self) -> None:
        """Replace Voila's own way, which tries other ports and stops with the loop half done."""
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        stopped = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
            with contextlib.suppress(NotImplementedError):  # on Windows Ctrl-C cancels this coroutine instead
                asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        server = self._http_server()
        server.add_sockets(self.sockets)
        self.pages.prepare_spare()
        self._say_hello()
        try:
            await stopped.wait()
        finally:
            log.info("Stopping.")
            logging.disable()  # what was under way fails now, and that is no news
            server.stop()
            self.predictor.close()
            await self.pages.close()
            await server.close_all_connections()

    def _http_server(self) -> HTTPServer:
        access = limits.Access(self.chosen.token, self.chosen.hostnames)
        health = frozenset({url_path_join(self.base_url, "health")})
        return ProxiedServer(
            handlers.Gate(self.app, access, health),
            xheaders=self.chosen.behind_proxy,
            max_body_size=MAX_SMALL_BODY_BYTES,
            body_timeout=handlers.BODY_SECONDS,
            idle_connection_timeout=IDLE_CONNECTION_SECONDS,
        )

    def _say_hello(self) -> None:
        chosen = self.chosen
        try:
            recogniser = self.predictor.recogniser()
            log.info("The network is %s (%s).", recogniser.name, recogniser.run_dir)
        except handlers.NoModel as problem:
            log.warning("No picture can be recognised yet: %s", problem)
        log.info(
            "Up to %d visitors (MAX_VISITORS) and %d predictions (MAX_PREDICTIONS) at once; %.1f GB of memory free.",
            *(chosen.max_visitors, chosen.max_predictions, limits.available_memory() / 1e9),
        )
        if not is_loopback(chosen.host):
            log.warning(open_to_all(chosen))
        host = chosen.host if chosen.host not in ("", "0.0.0.0", "::") else socket.gethostname()
        host = f"[{host}]" if ":" in host else host
        query = "?token=…" if chosen.token else ""
        log.info("The page is at http://%s:%d%s%s (Ctrl-C stops it).", host, self.port, self.base_url, query)


def voila_config(settings: Settings) -> Config:
    """Say what is not as Voila has it by default; each entry was a way to break or to abuse the page."""
    ipc = os.name == "posix" and len(tempfile.gettempdir()) <= MAX_IPC_FOLDER
    return Config(
        {
            "Application": {"log_level": logging.ERROR},
            "Voila": {
                "log_level": logging.ERROR,
                "config_file_paths": [],  # a voila.json that lies about would undo this
                "base_url": settings.base_url,
                "open_browser": False,
                "identity_provider_class": AnyVisitor,
                "kernel_websocket_connection_class": visitors.VisitorConnection,
            },
            "VoilaConfiguration": {
                "allow_template_override": "NO",
                "allow_theme_override": "NO",
                "file_allowlist": [],
                "show_tracebacks": False,
                "extension_allowlist": LAB_EXTENSIONS,
                "multi_kernel_manager_class": visitors.Kernels,
            },
            "VoilaExecutor": {"timeout": CELL_SECONDS},
            "Kernels": {
                "leave_seconds": settings.leave_seconds,
                "cull_idle_timeout": IDLE_SECONDS,
                "cull_interval": CULL_INTERVAL_SECONDS,
                "cull_connected": True,  # a page left open must not keep a place for ever
            },
            # A kernel that died and was started again knows nothing of its page: it is ended instead.
            "KernelRestarter": {"restart_limit": 0},
            # Sockets in a folder of ours instead of ports, which another process might take or listen to.
            "KernelManager": {"transport": "ipc" if ipc else "tcp"},
        }
    )


def kernel_environment(settings: Settings) -> dict[str, str]:
    """Give what the kernels find in their environment: ours without the token, and where the runs are."""
    # make passes what stood on its command line on in variables of its own, the token among it.
    ours = {"TOKEN", "MODEL_DIR", "MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES"}
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    environment["OUTPUTS"] = str(settings.outputs.resolve())
    if settings.run is not None:
        environment["MODEL_DIR"] = str(settings.run.resolve())
    return environment


def listen_on(host: str, port: int) -> list[socket.socket]:
    """Listen.

    Raises:
        UserError: If that is not possible.
    """
    try:
        return tornado.netutil.bind_sockets(port, host)
    except socket.gaierror:
        reason = f"HOST={host} is no address of this machine. Leave it out, or use HOST=0.0.0.0 for all."
    except OverflowError:
        reason = f"PORT must be a number from 0 to 65535. Received: {port}."
    except OSError as problem:
        reason = {
            errno.EADDRINUSE: f"Port {port} is taken by another program, perhaps by another `make dashboard`. Stop "
            f"it, or choose another port: make dashboard PORT={port + 1}.",
            errno.EACCES: f"Port {port} is not for ordinary users. Choose one above 1023: make dashboard PORT=8866.",
            errno.EADDRNOTAVAIL: f"HOST={host} is no address of this machine. Leave it out, or use HOST=0.0.0.0 for "
            "all.",
        }.get(problem.errno, f"The server cannot listen on {host}:{port}: {problem.strerror}.")
    raise UserError(reason)


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine can connect to the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def open_to_all(settings: Settings) -> str:
    """Say what it means to listen on more than loopback."""
    if settings.token:
        return (
            f"HOST={settings.host}: everybody who can reach this machine over the network and has the token can use "
            "the page. Nothing is encrypted on the way; put a proxy with https in front."
        )
    return (
        f"HOST={settings.host}: everybody who can reach this machine over the network can use the page, and nothing "
        f"is encrypted. To ask for a secret: make dashboard HOST={settings.host} TOKEN={secrets.token_urlsafe(16)}"
    )


def end_children() -> None:
    """Kill what is still there of the kernels, one that was just being started for instance."""
    children = psutil.Process().children(recursive=True)
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(children, timeout=5)


def log_request(handler: tornado.web.RequestHandler) -> None:
    """Log a request that failed, without what its address says after the path: that may be the token."""
    if handler.get_status() >= 500 and handler.get_status() != 503:
        request = handler.request
        log.warning("%d %s %s", handler.get_status(), request.method, request.path)


def allow_open_files() -> None:
    """Raise the limit on open files as far as this user may."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Read the command line; what it leaves open the environment decides, then the default.

    Raises:
        UserError: If a value is unusable.
    """
    given = _parser().parse_args(arguments)

    def value(name: str, convert: Callable[[str], Any], default: Any, variable: str = "") -> Any:
        text = getattr(given, name)
        text = environment.get(variable or name.upper(), "") if text is None else text
        return convert(text) if text else default

    return Settings(
        host=value("host", str, "127.0.0.1"),
        port=value("port", _number("PORT", 0, 65535), 8866),
        token=value("token", str, ""),
        hostnames=value("hostnames", lambda text: tuple(text.replace(",", " ").split()), ()),
        base_url=value("base_url", _base_url, "/"),
        behind_proxy=value("behind_proxy", _switch("BEHIND_PROXY"), False),
        max_visitors=value("max_visitors", _number("MAX_VISITORS", 1, 1000), None) or limits.default_max_visitors(),
        max_predictions=value("max_predictions", _number("MAX_PREDICTIONS", 1, 10_000), None)
        or limits.default_max_predictions(cores()),
        make_ahead=value("make_ahead", _switch("MAKE_AHEAD"), True),
        leave_seconds=value("leave_seconds", _number("LEAVE_SECONDS", 1, 86_400), 60),
        outputs=value("outputs", Path, paths.OUTPUTS),
        run=value("run", _run, None, variable="MODEL_DIR"),
        notebook=value("notebook", _notebook, None) or _notebook(str(NOTEBOOK)),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lib.serving.server",
        description="Serve the dashboard, POST /predict and GET /health.",
        epilog="Each option can also be set in the environment: HOST, PORT, TOKEN (better there than on the "
        "command line, which other users of the machine can see), HOSTNAMES, …",
    )
    parser.add_argument("--host", help="address to listen on (127.0.0.1; 0.0.0.0 is the whole network)")
    parser.add_argument("--port", help="port to listen on (8866; 0 takes a free one)")
    parser.add_argument("--token", help="secret that every visitor must show (none)")
    parser.add_argument("--max-visitors", help="pages at once (as many as memory has room for)")
    parser.add_argument("--max-predictions", help="requests to /predict at once (16 for each core)")
    parser.add_argument("--outputs", help="folder of the runs (outputs)")
    parser.add_argument("--run", help="run folder of the network that answers (the best in the folder of the runs)")
    parser.add_argument("--notebook", help="the page (notebooks/dashboard.ipynb)")
    parser.add_argument("--hostnames", help="more names of this server, as a proxy passes them on")
    parser.add_argument("--base-url", help="path that everything lies under (/)")
    parser.add_argument("--behind-proxy", help="1 believes X-Forwarded-For and X-Forwarded-Proto (0)")
    parser.add_argument("--make-ahead", help="0 keeps no page ready for the next visitor (1)")
    parser.add_argument("--leave-seconds", help="how long a page's kernel outlives its connection (60)")
    return parser


def _number(name: str, least: int, most: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and least <= int(text) <= most):
            raise UserError(f"{name} must be a whole number from {least} to {most}. Received: {text!r}.")
        return int(text)

    return convert


def _switch(name: str) -> Callable[[str], bool]:
    def convert(text: str) -> bool:
        if text not in ("0", "1"):
            raise UserError(f"{name} must be 0 or 1. Received: {text!r}.")
        return text == "1"

    return convert


def _base_url(text: str) -> str:
    return f"/{text.strip('/')}/" if text.strip("/") else "/"


def _run(text: str) -> Path:
    Recogniser.load(text)  # a run that was asked for and cannot be used is a mistake now, not at the first picture
    return Path(text)


def _notebook(text: str) -> Path:
    path = Path(text)
    if path.suffix != ".ipynb" or not path.is_file():
        raise UserError(f"There is no notebook {text}. Expected the path of an .ipynb file.")
    return path.resolve()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        Exit status: 0 after Ctrl-C or SIGTERM, 2 for unusable arguments.
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("lib.serving").setLevel(logging.INFO)
    logging.getLogger("tornado.general").setLevel(logging.ERROR)  # visitors' mistakes, as many as they like
    try:
        settings = parse(sys.argv[1:] if arguments is None else arguments, os.environ)
        allow_open_files()
        server = Server.instance(settings)
        server.initialize([])
        server.start()
    except UserError as problem:
        return report_error(problem)
    return 0


if __name__ == "__main__":
    sys.exit(main())
