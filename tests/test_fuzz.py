"""Random bytes and texts for every reader of what comes from outside: one message, little time, little memory."""

import contextlib
import io
import resource
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib import records
from lib.data import archives, names, pictures
from lib.errors import UserError
from lib.inference.recogniser import Recogniser
from tests import small_model

MAX_SECONDS = 10
MAX_BYTES = 500_000_000
bounded = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(scope="module", autouse=True)
def little_memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < MAX_BYTES


@contextlib.contextmanager
def one_message():
    started = time.monotonic()
    try:
        yield
    except UserError as problem:
        assert str(problem).endswith((".", ")"))
    assert time.monotonic() - started < MAX_SECONDS


@st.composite
def damaged(draw, contents):
    """Some bytes of a file replaced, its end cut off, or something put between."""
    changed = bytearray(contents)
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(contents) - 1))
        changed[place : place + draw(st.integers(0, 4))] = draw(st.binary(max_size=6))
    return bytes(changed[: draw(st.integers(0, len(contents)))] if draw(st.booleans()) else changed)


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("homer/1.jpg", "lisa/1.jpg", "Élodie/1.jpg"):
            archive.writestr(name, b"\xff\xd8\xff" + bytes(50))
    return file.getvalue()


def tarred(mode: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name in ("homer/1.jpg", "lisa/1.jpg", "Élodie/" + "x" * 120 + ".jpg"):
            member = tarfile.TarInfo(name)
            member.size = 53
            archive.addfile(member, io.BytesIO(b"\xff\xd8\xff" + bytes(50)))
    return file.getvalue()


ARCHIVES = {"zip": zipped(), "tar": tarred("w"), "tar.gz": tarred("w:gz")}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_archives(kind):
    @bounded
    @given(damaged(ARCHIVES[kind]))
    def check(contents):
        with tempfile.TemporaryDirectory() as folder, one_message():
            path = Path(folder, "a")
            path.write_bytes(contents)
            archives.copy(path, Path(folder))

    check()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP"])
def test_pictures(form):
    @bounded
    @given(damaged(small_model.picture((200, 30, 40), form=form)))
    def check(contents):
        with one_message():
            pictures.decode(contents)

    check()


@bounded
@given(st.text("[]{}:,-&*!|>'\"%@`#?\n a1~=<.0e", max_size=400) | st.text(max_size=60))
def test_yaml(text):
    with contextlib.suppress(ValueError):
        records.parse_yaml(text)


@bounded
@given(st.binary(max_size=200) | st.text('[]{}:,"\\ a1e-.', max_size=300).map(str.encode))
def test_json(contents):
    with tempfile.TemporaryDirectory() as folder, one_message():
        Path(folder, "run.json").write_bytes(contents)
        records.read_json(Path(folder, "run.json"))


def test_model_files(tmp_path):
    model = (small_model.write_run(tmp_path / "run") / records.LITERT_MODEL).read_bytes()

    @bounded
    @given(damaged(model[-800:]))
    def check(end):  # the flatbuffer before it is LiteRT's own; its digest stands in the record
        with one_message():
            Recogniser(model[:-800] + end, tmp_path)

    check()


@bounded
@given(st.text(max_size=300))
def test_a_safe_name_is_safe(name):
    safe = names.safe(name)
    assert names.safe(safe) == safe and safe not in ("", ".", "..") and "/" not in safe and safe.isprintable()
    assert len(safe.encode(errors="surrogateescape")) <= names.MAX_NAME_BYTES
