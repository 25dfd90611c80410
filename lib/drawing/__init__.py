"""The drawn sample, and drawn training pictures."""
