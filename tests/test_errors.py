"""How a mistake is told on the terminal."""

from lib.errors import MAX_LETTERS, UserError, report_error


def test_each_line_is_a_mistake_and_an_indented_one_belongs_to_the_one_before(capsys):
    assert report_error(UserError("one\n    more of it\ntwo")) == 2
    assert capsys.readouterr().err.splitlines() == ["error: one", "    more of it", "error: two"]


def test_control_characters_are_escaped(capsys):
    report_error(UserError("no picture: \x1b]0;title\x07\u202e"))
    assert capsys.readouterr().err == "error: no picture: \\x1b]0;title\\x07\\u202e\n"


def test_what_was_received_is_quoted_up_to_a_limit(capsys):
    report_error(UserError("not " + "x" * 100_000))
    assert capsys.readouterr().err == f"error: not {'x' * (MAX_LETTERS - 4)}…\n"


def test_an_error_of_the_system_names_the_file(capsys):
    report_error(OSError(28, "No space left on device", "run.json"))
    assert capsys.readouterr().err == "error: run.json: No space left on device.\n"
