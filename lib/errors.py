"""The one exception whose text a person reads."""


class UserError(Exception):
    """A mistake that the user can put right: the text says what was wrong, what was expected, what to do."""
