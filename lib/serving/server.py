"""Serves the page to its owner, with `/predict` and `/health`, as `make dashboard` does.

Voila runs standalone, so that a visitor's browser can send messages to widgets and nothing else; as an extension of a
Jupyter server it would let every visitor run code. It is not for the open internet: `lib.serving.site` is.
"""

import argparse
import asyncio
import contextlib
import ipaddress
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import tornado.netutil
import tornado.web
from jupyter_server.auth.identity import IdentityProvider, User
from jupyter_server.base.handlers import FileFindHandler
from jupyter_server.services.kernels.handlers import KernelHandler
from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream
from traitlets.config import Config
from voila.app import Voila
from voila.shutdown_kernel_handler import VoilaShutdownKernelHandler
from voila.static_file_handler import MultiStaticFileHandler, TemplateStaticFileHandler
from voila.tornado.handler import TornadoVoilaHandler
from voila.tornado.kernel_websocket_handler import VoilaKernelWebsocketHandler

from lib import machine, paths
from lib.errors import UserError, report_error
from lib.inference.recogniser import Recogniser
from lib.serving import handlers, kernels, page

log = logging.getLogger("lib.serving.server")  # __name__ is "__main__" when it is run

TEMPLATES = Path(__file__).parent / "templates"
NOTEBOOK = paths.NOTEBOOKS / "dashboard.ipynb"

MAX_MESSAGE_BYTES = 16 * 2**20  # of a websocket; the page shrinks pictures, so only a hostile one is near it
MAX_TOKEN_LETTERS = 1_000
# Characters that the path of a socket may have on macOS (107 on Linux), and those after the folder for temporary files.
MAX_SOCKET_PATH, SOCKET_NAME = 103, 83
MAX_CONNECTIONS = 100  # a page takes a dozen; fewer than the files that a process may open
PREDICTIONS_PER_CORE = 16  # under way at once: a queue that is empty in about 150 ms
BODY_SECONDS, IDLE_CONNECTION_SECONDS = 60, 120
FOLDERS = "who-is-it-"  # how the names of the temporary folders begin, before the process that owns them

# Of Voila's own handlers only these, so that one that a later version adds is not served unseen. What is not here: the
# files beside the notebook (its pattern `public/.*` lets `public/../secret` pass), the folder view, the socket that
# tells of other visitors' requests, themes, and logging in and out.
KEPT_HANDLERS = {
    KernelHandler,
    VoilaKernelWebsocketHandler,
    VoilaShutdownKernelHandler,
    MultiStaticFileHandler,
    FileFindHandler,
}
TEMPLATE_FILES = r"/voila/templates/([\w-]+/static(?:/\w[\w.-]*)+)"  # Voila raises at any other path


class AnyVisitor(IdentityProvider):
    """Whoever came through the gate is welcome, without Jupyter's own logins and cookies."""

    def get_user(self, handler: tornado.web.RequestHandler) -> User:
        return User("visitor")


# What is not as Voila has it by default; each entry was a way to break or to abuse the page.
CONFIG = {
    "Voila": {
        "log_level": logging.ERROR,  # a visitor could fill the disk with warnings, of messages not allowed
        "config_file_paths": [],  # a voila.json that lies about would undo this
        "identity_provider_class": AnyVisitor,
        "kernel_websocket_connection_class": kernels.Connection,
    },
    "VoilaConfiguration": {
        # The parts of JupyterLab that widgets need; the rest of what is installed stays out of the page.
        "extension_allowlist": [
            "@jupyter-widgets/jupyterlab-manager",
            "@voila-dashboards/widgets-manager8",
            "anywidget",
        ],
        "multi_kernel_manager_class": kernels.Kernels,
        "preheat_kernel": True,
    },
    "VoilaExecutor": {"timeout": 60},  # seconds, after which a cell that hangs has failed
    # A kernel that died and was started again knows nothing of its page: it is ended instead.
    "KernelRestarter": {"restart_limit": 0},
    # Sockets in a folder of ours instead of ports, which another process might take or listen to.
    "KernelManager": {
        "transport": "ipc" if len(tempfile.gettempdir()) + SOCKET_NAME <= MAX_SOCKET_PATH else "tcp",
    },
    # Nothing is signed, so no key is written to the home folder.
    "NotebookNotary": {"secret": secrets.token_bytes(), "db_file": ":memory:"},
}


class LimitedServer(HTTPServer):
    """Closes connections beyond `MAX_CONNECTIONS` at once, before the process is out of files."""

    def handle_stream(self, stream: IOStream, address: tuple) -> None:
        if len(self._connections) < MAX_CONNECTIONS:
            super().handle_stream(stream, address)
        else:
            stream.close()


class Server(Voila):
    """Voila with one notebook, its defaults changed, and the handlers of this project before its own."""

    def __init__(self, given: argparse.Namespace, **kwargs: Any) -> None:
        super().__init__(config=Config(CONFIG), notebook_path=str(NOTEBOOK), **kwargs)
        self.given = given
        networks = page.Networks(os.environ.get("OUTPUTS") or paths.OUTPUTS, os.environ.get("MODEL_DIR"))
        self.predictor = handlers.Predictor(networks.answering, PREDICTIONS_PER_CORE * machine.cores())

    def setup_template_dirs(self) -> None:
        super().setup_template_dirs()
        self.template_paths[:0] = [str(TEMPLATES), str(TEMPLATES.parent / "frontend")]

    def init_settings(self) -> dict[str, Any]:
        settings = super().init_settings()
        # Compression takes longer than it saves on the way within one machine.
        packed = [] if is_loopback(self.given.host) else [tornado.web.GZipContentEncoding]
        return settings | {
            "predictor": self.predictor,
            "jinja2_env": settings["voila_jinja2_env"],  # so that Jupyter's handlers use our error.html
            "headers": {"Content-Security-Policy": handlers.STRICT_POLICY},
            "transforms": [handlers.SecurityHeaders, *packed],
            "log_function": log_request,
            # Their names hold a digest of their contents; asking for each again costs a second visit half its time.
            "static_immutable_cache": ["/voila/labextensions/"],
            "websocket_max_message_size": MAX_MESSAGE_BYTES,
            # The page says goodbye without Jupyter's cookie; its kernel's random number is what nobody else knows.
            "disable_check_xsrf": True,
        }

    def init_handlers(self) -> list[tuple]:
        not_found = {"message": (404, "There is nothing at this address. The page is at the start of it.")}
        routes = super().init_handlers()
        (options,) = (route[2] for route in routes if route[1] is TornadoVoilaHandler)  # at every address
        return [
            ("/", handlers.PageHandler, options),
            (TEMPLATE_FILES, TemplateStaticFileHandler),
            ("/predict", handlers.PredictHandler),
            ("/health", handlers.HealthHandler),
            *(route for route in routes if route[1] in KEPT_HANDLERS),
            (r".*", handlers.MessageHandler, not_found),
        ]

    def start(self) -> None:
        """Serve until SIGINT or SIGTERM; raises UserError if the address cannot be listened on."""
        sockets = listen_on(self.given.host, self.given.port)
        self.port = sockets[0].getsockname()[1]
        remove_left_folders()
        folder = tempfile.TemporaryDirectory(prefix=f"{FOLDERS}{os.getpid()}-", ignore_cleanup_errors=True)
        with folder as self.connection_dir_root:
            try:
                asyncio.run(self._serve(sockets))
            finally:
                end_children()

    def listen(self) -> None:
        """Nothing: Voila's own way tries other ports and stops with the loop half done."""

    async def _serve(self, sockets: list[socket.socket]) -> None:
        stopped = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        super().start()  # also begins to make a page ahead
        server = LimitedServer(
            handlers.Gate(self.app, self.given.token),
            max_body_size=handlers.MAX_BODY_BYTES,
            body_timeout=BODY_SECONDS,
            idle_connection_timeout=IDLE_CONNECTION_SECONDS,
        )
        server.add_sockets(sockets)
        self._say_hello()
        await stopped.wait()
        log.info("Stopping.")
        logging.disable()  # what was under way fails now, and that is no news
        server.stop()
        await server.close_all_connections()
        end_children()  # before running predictions are waited for; `start` repeats it for a kernel that was starting

    def _say_hello(self) -> None:
        try:
            recogniser = self.predictor.recogniser()
            log.info("The network is %s (%s).", recogniser.name, recogniser.run_dir)
        except UserError as problem:
            log.warning("No picture can be recognised yet: %s", problem)
        host = self.given.host if self.given.host not in ("", "0.0.0.0", "::") else socket.gethostname()
        host = f"[{host}]" if ":" in host else host
        if not is_loopback(self.given.host):
            log.warning("Whoever can reach this machine and has the token can use the page. Nothing is encrypted.")
        query = f"/?token={self.given.shown_token}" if self.given.token else "/"
        log.info("The page is at http://%s:%d%s (Ctrl-C stops it).", host, self.port, query)


def listen_on(host: str, port: int) -> list[socket.socket]:
    """Listen; raises UserError if that is not possible."""
    if not 0 <= port < 2**16:  # the system takes a larger one modulo 65536
        raise UserError(f"PORT must be a number from 0 to 65535, not {port}.")
    try:
        return tornado.netutil.bind_sockets(port, host)
    except (socket.gaierror, UnicodeError):
        raise UserError(
            f"HOST must be an address or a name of this machine, such as 127.0.0.1 or 0.0.0.0, not {host!r}."
        ) from None
    except OSError as problem:
        raise UserError(
            f"The server cannot listen on {host}:{port}: {problem.strerror}. Another program, perhaps another "
            "`make dashboard`, may have it. Choose another HOST or PORT, or leave them out."
        ) from None


def is_loopback(host: str) -> bool:
    """Check whether only programs on this machine can connect to an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_token(host: str, environment: Mapping[str, str]) -> str:
    """Read the token from TOKEN or the file TOKEN_FILE; without either, make one for anything but loopback.

    Raises:
        UserError: The file cannot be read, or make has the token on its command line, which `ps` shows to everybody.
    """
    if "TOKEN=" in environment.get("MAKEFLAGS", ""):
        raise UserError(
            "Everybody on this machine can read a command line. Put TOKEN before it: TOKEN=… make dashboard."
        )
    token = environment.get("TOKEN", "")
    if path := environment.get("TOKEN_FILE"):
        try:
            with Path(path).open(encoding="utf-8") as file:
                token = file.read(MAX_TOKEN_LETTERS + 1).strip()  # a pipe may hold it, a device never ends
        except (OSError, ValueError) as problem:
            reason = getattr(problem, "strerror", None) or problem
            raise UserError(f"TOKEN_FILE={path} cannot be read: {reason}.") from None
        if not 0 < len(token) <= MAX_TOKEN_LETTERS:
            raise UserError(f"TOKEN_FILE={path} must hold a token of 1 to {MAX_TOKEN_LETTERS} letters.")
    return token or ("" if is_loopback(host) else secrets.token_urlsafe(16))


def end_children() -> None:
    """Kill the kernels, including one that is still starting, on which Jupyter's own shutdown raises an error."""
    children = psutil.Process().children(recursive=True)
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(children, timeout=5)


def remove_left_folders() -> None:
    """Remove the temporary folders of servers that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDERS}*-*"):
        owner = folder.name.removeprefix(FOLDERS).partition("-")[0]
        if owner.isdecimal() and len(owner) < 9 and not psutil.pid_exists(int(owner)):  # a larger one is none
            shutil.rmtree(folder, ignore_errors=True)


def log_request(handler: tornado.web.RequestHandler) -> None:
    """Log a request that failed, without what its address says after the path: that may be the token."""
    if handler.get_status() >= 500 and handler.get_status() != 503:
        log.warning("%d %s %s", handler.get_status(), handler.request.method, handler.request.path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status, 0 after Ctrl-C or SIGTERM, 2 for unusable arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m lib.serving.server",
        description="Serve the page to its owner, with POST /predict and GET /health.",
        epilog="For anything but loopback every visitor must show a token: that of TOKEN in the environment or of the "
        "file TOKEN_FILE, or else a new one, which is printed.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s); 0.0.0.0 for all")
    parser.add_argument("--port", default=8866, type=int, help="port to listen on (%(default)s); 0 takes a free one")
    given = parser.parse_args(arguments)
    try:
        if run := os.environ.get("MODEL_DIR"):
            Recogniser.load(paths.ROOT / run)  # a run that cannot be used is a mistake now, not at the first picture
        given.token = read_token(given.host, os.environ)
        given.shown_token = "…" if os.environ.get("TOKEN") or os.environ.get("TOKEN_FILE") else given.token
        logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
        logging.getLogger("lib.serving").setLevel(logging.INFO)
        logging.getLogger("tornado.general").setLevel(logging.ERROR)  # visitors' mistakes, as many as they like
        if "MAKELEVEL" in os.environ:
            machine.end_with_parent()  # also where make is killed
        os.environ.pop("TOKEN", None)  # the kernels get this environment
        server = Server.instance(given)
        server.initialize([])
        server.start()
    except (UserError, OSError) as problem:
        return report_error(problem)
    return 0


if __name__ == "__main__":
    sys.exit(main())
