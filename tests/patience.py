"""How long a test waits for what another process is to do."""

import subprocess
import time
from collections.abc import Callable
from typing import Any

# Seconds. On a slow machine, beside other tests, a training of a minute takes four.
PATIENCE = 300


def until(condition: Callable[[], Any], process: subprocess.Popen | None = None) -> Any:
    """Ask again until the answer is true, and give it; fail when that takes too long or the process has ended."""
    deadline = time.monotonic() + PATIENCE
    while not (answer := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        assert process is None or process.poll() is None, f"ended with exit status {process.returncode}"
        time.sleep(0.02)
    return answer
