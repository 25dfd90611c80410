"""Drawings by the project itself: the drawn sample, and training pictures."""
