"""What all tests share."""

from collections import Counter

from lib import machine


def pytest_xdist_auto_num_workers():
    """Test with two processes more than there are cores: many tests wait for a browser, a server or a kernel."""
    return machine.cores() + 2


def pytest_collection_modifyitems(items):
    """Start with the files of many slow tests: on several cores the others fill the gaps that they leave at the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])
