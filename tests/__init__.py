"""Tests of every module, and of the pipeline as a user runs it."""
