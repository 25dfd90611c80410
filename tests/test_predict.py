"""The command line: its output, its errors and its exit status."""

import csv
import io
import json
import os
import pty
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from lib import paths, predict
from lib.serving import fetch
from tests import small_model
from tests.patience import PATIENCE

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)  # homer_simpson, krusty_the_clown, marge_simpson


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return str(small_model.write_run(tmp_path_factory.mktemp("outputs") / "small"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with pictures in it."""
    monkeypatch.chdir(tmp_path)
    for name, colour in {"homer.png": RED, "album/krusty.JPG": GREEN, "album/old/marge.gif": BLUE}.items():
        write(Path(name), colour)
    Path("album/not a picture.txt").write_text("words")
    return tmp_path


@pytest.fixture
def predicted(run_dir, capfd):
    """Run the command in this process; gives exit status, lines of standard output, lines of standard error."""

    def run(*arguments):
        status = predict.main([*arguments, "--run", run_dir])
        out, err = capfd.readouterr()
        return status, out.splitlines(), err.splitlines()

    return run


def write(path: Path, colour: tuple[int, int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(small_model.picture(colour))


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "lib.predict", *arguments]


# ---------------------------------------------------------------- plain lines


def test_a_file_is_one_line(folder, predicted):
    assert predicted("homer.png") == (0, ["homer.png\tHomer Simpson\t100%"], [])


def test_a_folder_includes_all_folders_below_it(folder, predicted):
    status, out, err = predicted("album")
    assert out == ["album/krusty.JPG\tKrusty the Clown\t100%", "album/old/marge.gif\tMarge Simpson\t100%"]
    assert (status, err) == (0, [])


def test_arguments_keep_their_order(folder, predicted):
    _, out, _ = predicted("album/old", "homer.png")
    assert [line.split("\t")[0] for line in out] == ["album/old/marge.gif", "homer.png"]


def test_all_prints_every_character_most_probable_first(folder, predicted):
    write(Path("purple.png"), (150, 0, 255))
    _, out, _ = predicted("purple.png", "--all")
    assert [line.split("\t")[:2] for line in out] == [
        ["purple.png", "Marge Simpson"],
        ["purple.png", "Homer Simpson"],
        ["purple.png", "Krusty the Clown"],
    ]
    assert [line.endswith("%") for line in out] == [True] * 3


def test_one_bad_picture_does_not_stop_the_rest(folder, predicted):
    Path("bad.jpg").write_bytes(b"no picture")
    status, out, err = predicted("bad.jpg", "missing.jpg", "homer.png")
    assert (status, out) == (1, ["homer.png\tHomer Simpson\t100%"])
    assert err[0].startswith("bad.jpg: This is not a picture")
    assert err[1].startswith("missing.jpg: There is no file")
    assert len(err) == 2


def test_a_folder_without_pictures_is_an_error(folder, predicted):
    Path("empty").mkdir()
    status, out, err = predicted("empty", "homer.png")
    assert (status, len(out)) == (1, 1)
    assert err[0].startswith("empty: The folder holds no pictures (JPEG, ")


def test_a_video_is_no_picture_and_the_options_that_look_at_it_are_named(folder, predicted):
    Path("episode.mp4").write_bytes(b"frames")
    status, out, err = predicted("episode.mp4")
    assert (status, out) == (1, [])
    assert err == ["episode.mp4: This is a video. Its frames are looked at with --out FOLDER --every SECONDS."]


def test_an_empty_argument_is_not_the_working_directory(folder, predicted):
    status, out, err = predicted("")
    assert (status, out, len(err)) == (1, [], 1)


@pytest.mark.parametrize("suffix", ["*.png", ".txt", ".png"])
def test_a_name_that_is_too_long_is_not_blamed_on_the_folder_of_answers(folder, predicted, suffix):
    _, _, err = predicted("a" * 300 + suffix, "--out", "answers")
    assert err and not any("cannot be written" in line for line in err)


def test_devices_and_pipes_are_not_waited_for(folder, predicted):
    os.mkfifo("pipe.png")
    status, out, err = predicted("/dev/zero", "pipe.png")
    assert (status, out) == (1, [])
    assert all("a device or a pipe" in line for line in err)


def test_control_characters_in_names_are_escaped(folder, predicted):
    write(Path("a\tb\nc\x1b[31m\u202e.png"), RED)
    write(Path(os.fsdecode(b"bad.d/\xff.png")), RED)
    status, out, _ = predicted("a\tb\nc\x1b[31m\u202e.png", "bad.d")
    assert status == 0
    assert out[0] == r"a\tb\nc\x1b[31m\u202e.png" + "\tHomer Simpson\t100%"
    assert out[1] == r"bad.d/\xff.png" + "\tHomer Simpson\t100%"


def test_control_characters_in_errors_are_escaped(predicted):
    _, _, err = predicted("\x1b]0;title\x07")
    assert err[0].startswith(r"\x1b]0;title\x07: ")


def test_letters_and_spaces_of_every_script_are_kept(folder, predicted):
    write(Path("Ωmér 霍默\u202f1.png"), RED)
    assert predicted("Ωmér 霍默\u202f1.png")[1] == ["Ωmér 霍默\u202f1.png\tHomer Simpson\t100%"]


# ---------------------------------------------------------------- folders


def test_hidden_files_and_folders_are_skipped(folder):
    write(Path("album/._krusty.JPG"), RED)
    write(Path("album/.trash/homer.png"), RED)
    assert predict.find_pictures("album") == ["album/krusty.JPG", "album/old/marge.gif"]


def test_a_link_to_a_parent_folder_is_not_a_loop(folder):
    Path("album/old/up").symlink_to("..", target_is_directory=True)
    assert predict.find_pictures("album") == ["album/krusty.JPG", "album/old/marge.gif"]


def test_links_to_pictures_and_folders_are_followed_once(folder):
    Path("links").mkdir()
    Path("links/a.png").symlink_to("../homer.png")
    Path("links/b").symlink_to("../album/old")
    Path("links/c").symlink_to("../album/old")
    assert predict.find_pictures("links") == ["links/a.png", "links/b/marge.gif"]


def test_a_broken_link_is_an_error(folder, predicted):
    Path("album/broken.png").symlink_to("nowhere")
    status, out, err = predicted("album")
    assert (status, len(out)) == (1, 2)
    assert err[0].startswith("album/broken.png: There is no file")


def test_pipes_in_folders_are_skipped(folder):
    os.mkfifo("album/pipe.png")
    assert "album/pipe.png" not in predict.find_pictures("album")


def test_videos_in_folders_are_skipped(folder):
    Path("album/episode.mp4").write_bytes(b"a film")
    assert predict.find_pictures("album") == ["album/krusty.JPG", "album/old/marge.gif"]


# ---------------------------------------------------------------- JSON and CSV


def test_it_declines_in_every_form_of_output(tmp_path, capsys):
    run = small_model.write_run(tmp_path / "run", metadata={"threshold": 1.0})
    (tmp_path / "grey.png").write_bytes(small_model.picture((128, 128, 128)))
    grey = str(tmp_path / "grey.png")
    assert predict.main(["--run", str(run), grey]) == 0
    assert capsys.readouterr().out == f"{grey}\tnot a known character\t\n"
    assert predict.main(["--run", str(run), "--json", grey]) == 0
    line = json.loads(capsys.readouterr().out)
    assert (line["known"], line["character"], line["name"], line["found"]) == (False, None, None, [])
    assert line["top"][0]["probability"] == line["probability"] < 1
    assert predict.main(["--run", str(run), "--csv", str(tmp_path / "table.csv"), grey]) == 0
    _, row = csv.reader((tmp_path / "table.csv").read_text().splitlines())
    assert row[1:3] == ["", ""]


def test_json_is_one_object_per_line(folder, predicted):
    status, out, err = predicted("homer.png", "missing.png", "--json")
    homer, missing = map(json.loads, out)
    assert list(homer) == ["picture", "character", "name", "probability", "top", "known", "found", "error"]
    assert homer["picture"] == "homer.png"
    assert homer["top"][0] == {"character": "homer_simpson", "name": "Homer Simpson", "probability": 1.0}
    assert {**homer, **homer["top"][0]} == homer
    assert (homer["known"], homer["error"]) == (True, None)
    assert homer["found"] == [homer["top"][0] | {"box": None}]
    assert {key: missing[key] for key in ("character", "name", "probability", "top")} == {
        "character": None,
        "name": None,
        "probability": None,
        "top": [],
    }
    assert missing["error"].startswith("There is no file")
    assert (status, err) == (1, [])


def test_json_holds_the_three_most_probable_characters_or_all(tmp_path, capsys):
    characters = ("abraham_grampa_simpson", "bart_simpson", "ned_flanders", "moe_szyslak")
    run_dir = str(small_model.write_run(tmp_path / "four", characters))
    (tmp_path / "red.png").write_bytes(small_model.picture(RED))
    counts = []
    for more in ([], ["--all"]):
        predict.main([str(tmp_path / "red.png"), "--run", run_dir, "--json", *more])
        counts.append(len(json.loads(capsys.readouterr().out)["top"]))
    assert counts == [3, 4]


def test_json_keeps_any_name_and_is_ascii(folder, predicted):
    name = os.fsdecode(b"\xff \x1b \xc3\xa9.png")
    write(Path(name), RED)
    _, (line,), _ = predicted(name, "--json")
    assert line.isascii() and line.isprintable()
    assert json.loads(line)["picture"] == name


def test_csv_is_a_table_of_all_pictures(folder, predicted):
    status, out, err = predicted("homer.png", "missing.png", "--csv", "answers.csv")
    rows = list(csv.DictReader(io.StringIO(Path("answers.csv").read_text())))
    assert (status, out, len(err)) == (1, [], 1)
    assert list(rows[0].values()) == ["homer.png", "homer_simpson", "Homer Simpson", "1.0", ""]
    assert list(rows[0]) == ["picture", "character", "name", "probability", "error"]
    assert rows[1]["error"].startswith("There is no file")


def test_csv_of_all_has_a_column_for_each_character(folder, predicted):
    predicted("homer.png", "--csv", "answers.csv", "--all")
    (row,) = csv.DictReader(io.StringIO(Path("answers.csv").read_text()))
    assert list(row)[5:] == list(small_model.CHARACTERS)
    assert [float(row[character]) for character in small_model.CHARACTERS] == [1, 0, 0]


def test_csv_keeps_names_with_line_breaks_and_invalid_bytes(folder, predicted):
    name = os.fsdecode(b'a\n"b",\xff.png')
    write(Path(name), RED)
    predicted(name, "--csv", "answers.csv")
    with Path("answers.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        assert list(csv.reader(file))[1][0] == name


@pytest.mark.parametrize("target", ["nowhere/answers.csv", "album", "/dev/null", "homer.png/answers.csv", "marge.png"])
def test_a_csv_that_cannot_be_written_is_an_error_before_the_first_picture(folder, predicted, target):
    status, out, err = predicted("homer.png", "--csv", target)
    assert (status, out) == (2, [])
    assert "cannot be written" in err[0]
    assert not Path("nowhere").exists() and not Path("marge.png").exists()


def test_an_interrupted_command_leaves_an_existing_csv_unchanged(folder, predicted, monkeypatch):
    Path("answers.csv").write_text("before")

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(predict, "_predict", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predicted("homer.png", "--csv", "answers.csv")
    assert Path("answers.csv").read_text() == "before"
    assert sorted(path.name for path in folder.iterdir()) == ["album", "answers.csv", "homer.png"]


# ---------------------------------------------------------------- URLs


def test_a_url_is_downloaded(predicted, monkeypatch):
    monkeypatch.setattr(fetch, "read_picture", lambda url, allow_private: small_model.picture(BLUE))
    assert predicted("https://pictures.example/a") == (0, ["https://pictures.example/a\tMarge Simpson\t100%"], [])


def test_a_private_address_is_rejected_and_the_option_named(predicted):
    status, out, err = predicted("http://127.0.0.1:9/homer.jpg")
    assert (status, out) == (1, [])
    assert err[0].endswith("If it is your own, add --allow-private-addresses.")


def test_the_option_allows_private_addresses(predicted, monkeypatch):
    asked = []
    monkeypatch.setattr(fetch, "read_picture", lambda *arguments: asked.append(arguments) or small_model.picture(RED))
    predicted("http://127.0.0.1/homer.jpg", "--allow-private-addresses")
    assert asked == [("http://127.0.0.1/homer.jpg", True)]


@pytest.mark.parametrize("url", ["ftp://pictures.example/a.jpg", "file:///etc/passwd"])
def test_other_schemes_are_rejected(predicted, url):
    status, _, err = predicted(url)
    assert status == 1
    assert err[0].startswith(f"{url}: The address must begin with http")


# ---------------------------------------------------------------- exit status


@pytest.mark.parametrize(
    "arguments",
    [
        *([], ["--json"], ["a.png", "--json", "--csv", "a.csv"], ["a.png", "--nonsense"], ["a.png", "--a"]),
        *(["a.png", option, ""] for option in ("--run", "--csv", "--out")),  # not the working directory
    ],
    ids=" ".join,
)
def test_unusable_arguments_end_with_2(arguments):
    with pytest.raises(SystemExit) as end:
        predict.main(arguments)
    assert end.value.code == 2


def test_a_missing_run_ends_with_2(folder, capsys):
    assert predict.main(["homer.png", "--run", "nowhere"]) == 2
    assert capsys.readouterr().err.startswith("error: There is no run folder nowhere.")


@pytest.mark.parametrize("option", ["--run", "--out"])
def test_a_folder_that_cannot_be_is_a_message(folder, run_dir, option, capsys):
    given = {"--run": run_dir, option: {"--run": "a" * 300, "--out": "homer.png"}[option]}
    assert predict.main(["homer.png", *(part for pair in given.items() for part in pair)]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_no_run_ends_with_2(folder, capsys, monkeypatch):
    monkeypatch.setenv("OUTPUTS", str(folder))
    assert predict.main(["homer.png"]) == 2
    assert capsys.readouterr().err.startswith("error: There is no trained network in")


def test_the_command_prints_nothing_but_answers(folder, run_dir):
    result = subprocess.run(command("homer.png", "--run", run_dir), capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "homer.png\tHomer Simpson\t100%\n", "")


def test_letters_that_the_terminal_lacks_are_escaped(folder, run_dir):
    write(Path("Ω.png"), RED)
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    result = subprocess.run(command("Ω.png", "--run", run_dir), capture_output=True, env=environment)
    assert (result.returncode, result.stdout) == (0, b"\\u03a9.png\tHomer Simpson\t100%\n")


def test_a_closed_pipe_ends_the_command_quietly(folder, run_dir):
    pictures = ["homer.png"] * 20_000  # 600 kB of answers, more than a pipe holds
    process = subprocess.Popen(command(*pictures, "--run", run_dir), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == -signal.SIGPIPE
    process.stderr.close()


def test_ctrl_c_ends_the_command_quietly(folder, run_dir):
    pictures = ["homer.png"] * 20_000  # 600 kB of answers, more than a pipe holds, so it is still running
    # Tests that a shell starts in the background ignore Ctrl-C, and so do their children.
    listening = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command(*pictures, "--run", run_dir), **pipes, **listening)
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (-signal.SIGINT, b"")


@pytest.mark.parametrize(("argument", "shown"), [("album", True), ("homer.png", False)])
def test_a_progress_bar_is_shown_for_folders_on_a_terminal(folder, run_dir, argument, shown):
    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, (24, 80))
    result = subprocess.run(command(argument, "--run", run_dir), stdout=subprocess.PIPE, stderr=end)
    os.close(end)
    try:
        written = os.read(terminal, 10_000)
    except OSError:  # Linux reports that nothing was written
        written = b""
    os.close(terminal)
    assert (result.returncode, b"pictures" in written) == (0, shown)


def test_the_command_runs_from_any_directory(folder):
    assert Path.cwd() != paths.ROOT
    result = subprocess.run(command("--help"), capture_output=True, text=True)
    assert (result.returncode, "--allow-private-addresses" in result.stdout) == (0, True)
