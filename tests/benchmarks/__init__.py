"""Measurements, each printed as a ratio of two ways in one run."""
