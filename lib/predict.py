"""Name the characters in pictures from the command line: `python -m lib.predict PICTURE…`.

Exit status: 0 if every picture was answered, 1 if some were not, 2 for unusable arguments.
"""

import argparse
import contextlib
import csv
import functools
import itertools
import json
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tqdm import tqdm

from lib import machine, records, shards
from lib.data import formats
from lib.errors import UserError, printable, report_error
from lib.inference import recogniser
from lib.inference.recogniser import Answer, Recogniser
from lib.shards import TOP, Reader, as_record, is_folder, is_url, is_video, pictures_below

ANSWERED, SOME_UNANSWERED = 0, 1
DECLINED = "not a known character"
SHORTEST = 0.001  # seconds between two frames of a video
COLUMNS = ("picture", "character", "name", "probability", "error")  # of a CSV file

Writer = Callable[[str, Answer | UserError], None]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parse(arguments)
    try:
        with machine.stderr_to(Path(os.devnull)):  # LiteRT's C++ code writes there, such as the name of its delegate
            network = Recogniser.load(options.run) if options.run else recogniser.load_best()
        for problem in network.passed_over:
            print(f"warning: {problem}", file=sys.stderr)
        private, out = options.allow_private_addresses, options.out
        read = functools.partial(shards.read_picture, allow_private=private, any_address=bool(out))
        if out:
            return _predict_to_folder(options, network, read)
        printed = contextlib.nullcontext(functools.partial(_print, options))
        characters = network.characters if options.all else []
        with _csv_writer(options.csv, characters) if options.csv else printed as write:
            return _predict(options, network, read, write)
    except BrokenPipeError:
        raise
    except (UserError, OSError) as problem:
        return report_error(problem)


def find_pictures(argument: str) -> list[str]:
    """List the pictures that a file, a folder or a URL names.

    Returns:
        For a folder, `pictures_below` it without videos, sorted. Otherwise, and for a folder without pictures, the
        argument itself.
    """
    if is_url(argument) or not is_folder(argument):
        return [argument]
    return sorted(itertools.filterfalse(is_video, pictures_below(argument))) or [argument]


def _path(text: str) -> Path:
    """Take a path from the command line; the empty one would be the working directory."""
    if not text:
        raise argparse.ArgumentTypeError("expected a name, received an empty one")
    return Path(text)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m lib.predict",
        description="Name the characters of The Simpsons in pictures.",
        epilog="Exit status: 0 when every picture got an answer, 1 when some did not, 2 for unusable arguments.",
        allow_abbrev=False,
    )
    parser.add_argument("pictures", nargs="+", metavar="PICTURE", help="a file, a folder (with all below it) or a URL")
    parser.add_argument("--run", type=_path, metavar="DIR", help="run folder of the network; by default the best one")
    parser.add_argument("--all", action="store_true", help="every character with its percentage, highest first")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object a line")
    form.add_argument("--csv", type=_path, metavar="FILE", help="a table, written when all is done")
    form.add_argument("--out", type=_path, metavar="DIR", help="Parquet files, for very many pictures; continues")
    parser.add_argument(
        "--cluster", default="", metavar="ADDRESS", help="with --out: local, or the address of a Dask scheduler"
    )
    parser.add_argument("--every", type=float, metavar="SECONDS", help="with --out: a frame of each video so often")
    parser.add_argument(
        "--allow-private-addresses", action="store_true", help="let URLs lead to this machine and its own network"
    )
    options = parser.parse_args(arguments)
    if options.cluster and not options.out:
        parser.error("--cluster needs --out, the folder of the answers")
    if options.all and options.out:
        parser.error(f"--out writes the {TOP} most probable characters of each picture; leave --all out")
    if options.every is not None and not (options.out and SHORTEST <= options.every < math.inf):
        parser.error(f"--every needs --out, the folder of the answers, and a number of seconds of at least {SHORTEST}")
    return options


def _predict_to_folder(options: argparse.Namespace, network: Recogniser, read: Reader) -> int:
    """Write the answers for very many pictures to a folder; returns the exit status."""
    for argument in options.pictures:  # those of a list are checked where they are read
        shards.check_address(argument, options.allow_private_addresses)
    try:
        count, errors = shards.write(options.pictures, options.out, network, read, options.cluster, options.every)
    except OSError as problem:
        raise UserError(f"The answers cannot be written to {options.out}: {problem}.") from None
    print(f"Pictures in {options.out}: {count:,}, of these without an answer (column `error`): {errors:,}.")
    return SOME_UNANSWERED if errors else ANSWERED


def _predict(options: argparse.Namespace, network: Recogniser, read: Reader, write: Writer) -> int:
    """Write an answer for every picture, in order; returns the exit status."""
    names = [picture for argument in options.pictures for picture in find_pictures(argument)]
    top = len(network.characters) if options.all else TOP
    answers = network.predict_many(names, read, top)
    status = ANSWERED
    with (
        contextlib.closing(answers),
        tqdm(total=len(names), unit=" pictures", disable=names == options.pictures or not sys.stderr.isatty()) as bar,
    ):
        for picture, answer in zip(names, answers, strict=True):
            with bar.external_write_mode():
                write(picture, answer)
            bar.update()
            if isinstance(answer, UserError):
                status = SOME_UNANSWERED
    return status


def _print(options: argparse.Namespace, picture: str, answer: Answer | UserError) -> None:
    """Print an answer; flushed, so that a reader has each line at once, and one that has exited is noticed."""
    if options.json:
        print(json.dumps(as_record(picture, answer)), flush=True)  # ASCII without control characters
    elif isinstance(answer, UserError):
        _print_error(picture, answer)
    else:
        shown = [(guess.name, f"{guess.probability:.0%}") for guess in answer.top[: None if options.all else 1]]
        for fields in shown if options.all or answer.known else [(DECLINED, "")]:
            print("\t".join(map(printable, (picture, *fields))), flush=True)


def _print_error(picture: str, problem: UserError) -> None:
    print(f"{printable(picture)}: {printable(str(problem))}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _csv_writer(path: Path, characters: list[str]) -> Iterator[Writer]:
    """Write a table atomically: a row for each picture, and a column for each of `characters`."""
    if not path.parent.is_dir():
        raise UserError(f"{path} cannot be written: there is no folder {path.parent}. Make it, or choose another.")
    if path.exists() and not path.is_file():
        raise UserError(f"{path} cannot be written: it is a folder or a device. Name a file.")
    if formats.is_picture(path.name, b""):  # a picture would be lost where the name of the table was forgotten
        raise UserError(f"{path} cannot be written: it is named as a picture. Name a table, such as answers.csv.")
    try:
        with (
            records.atomic_write(path) as temporary,
            temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
        ):
            table = csv.writer(file)

            def write_row(cells: list) -> None:
                table.writerow(map(records.csv_cell, cells))

            def write(picture: str, answer: Answer | UserError) -> None:
                if isinstance(answer, UserError):
                    _print_error(picture, answer)
                record = as_record(picture, answer)
                probabilities = {guess["character"]: guess["probability"] for guess in record["top"]}
                write_row([*map(record.get, COLUMNS), *map(probabilities.get, characters)])

            write_row([*COLUMNS, *characters])
            yield write
    except OSError as problem:
        raise UserError(f"{path} cannot be written: {problem.strerror}.") from None


def _end_by(number: int) -> None:
    """End as if the signal were not handled: at once, and with the exit status that the shell expects."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _run() -> None:
    # A character that the terminal's encoding lacks must not stop the command.
    sys.stdout.reconfigure(errors="backslashreplace")
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        _end_by(signal.SIGINT)
    except BrokenPipeError:  # the reader has exited, as `head` does
        _end_by(signal.SIGPIPE)


if __name__ == "__main__":
    _run()
