"""What all tests share."""


def pytest_collection_modifyitems(items):
    """Start with the slow files: on several cores the quick ones fill the gaps that they leave at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
