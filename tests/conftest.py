"""What all tests share."""

from collections import Counter


def pytest_collection_modifyitems(items):
    """Start with the files of many slow tests: on several cores the others fill the gaps that they leave at the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])
