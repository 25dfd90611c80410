"""What all tests share."""

import os
import sys

from lib import machine

# Several test processes share the cores; threads of their own would only wait for each other.
os.environ |= machine.thread_limits(1)

# Every process that a test starts would otherwise compile the modules anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# The files that take minutes, the longest first: the others fill the gaps that they leave at the end.
LONGEST = ["test_pipeline.py", "test_pipeline_killed.py", "test_page.py", "test_cluster.py", "test_frontend.py"]


def pytest_xdist_auto_num_workers():
    """Test with one process more than there are cores: many tests wait for a browser, a server or a kernel."""
    return machine.cores() + 1


def pytest_collection_modifyitems(items):
    """Start with the longest files."""
    order = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(LONGEST)))
