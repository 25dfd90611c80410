"""Serves one notebook of the study as a page for the user of this machine."""

import os
import re
import subprocess
import sys
from pathlib import Path

from lib import paths
from lib.errors import UserError

PORT = 8867  # beside the dashboard's 8866
# Ends with make, which it would outlive on its port. Voila allows any host name, by which a page of somebody else could
# send requests from the user's own browser (DNS rebinding); Jupyter's check of the name is taken back.
VOILA = """
from lib import machine
from voila.app import Voila
machine.end_with_parent()
settings = Voila.init_settings
Voila.init_settings = lambda app: settings(app) | {"allow_remote_access": False}
Voila.launch_instance()
"""


def command(notebook: Path, port: int) -> list[str]:
    """Give the command line that serves a notebook by Voila on a port, to this machine alone.

    Voila runs standalone, so a browser can send messages to widgets and no code.
    """
    settings = ["--no-browser", "--Voila.ip=127.0.0.1", f"--port={port}", "--Voila.port_retries=0"]
    settings += ["--VoilaConfiguration.allow_template_override=NO", "--VoilaConfiguration.allow_theme_override=NO"]
    settings += ["--VoilaConfiguration.file_allowlist=(?!)", "--Voila.log_level=WARN"]  # no file at all
    return [sys.executable, "-c", VOILA, str(notebook), *settings]


def page(notebook: Path, port: str, names: dict[str, str]) -> None:
    """Serve a notebook until Ctrl-C.

    Args:
        notebook: The notebook.
        port: Where to listen; empty takes `PORT`.
        names: What the notebook finds in its environment.

    Raises:
        UserError: The port is no number, or the server could not start.
    """
    if port and not (re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 65_536):
        raise UserError(f"PORT must be a number from 1 to 65535, not {port!r}.")
    number = int(port or PORT)
    print(f"Open http://127.0.0.1:{number}/ (Ctrl-C ends it)", file=sys.stderr, flush=True)
    environment = os.environ | {name: value for name, value in names.items() if value}
    try:
        served = subprocess.run(command(notebook, number), cwd=paths.ROOT, env=environment)
    except KeyboardInterrupt:
        return
    if served.returncode:
        raise UserError(
            f"The page could not be served: is another program listening on port {number}? Choose another PORT."
        )
