"""The one exception whose text a person reads, and how a command tells it."""

import sys

EXIT_USAGE = 2


class UserError(Exception):
    """A mistake that the user can put right: the text says what was wrong, what was expected, what to do."""


def report_error(problem: Exception) -> int:
    """Print what was wrong, on one line without a traceback, and give the exit status of a mistake."""
    print(f"error: {problem}", file=sys.stderr)
    return EXIT_USAGE
