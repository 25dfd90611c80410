import contextlib
import errno
import gzip
import hashlib
import json
import os
import shutil
import stat
import sys
import tarfile
import types
import zipfile
from pathlib import Path

import pytest

from lib import records
from lib.data import archives, sources
from lib.errors import UserError
from tests import test_source_table

PICTURE = b"not decoded here"
# The layout of the Kaggle archive, and where each of its files goes.
KAGGLE = {
    "simpsons_dataset/homer_simpson/pic_0000.jpg": "homer_simpson/pic_0000.jpg",
    "simpsons_dataset/homer_simpson/pic_0001.JPG": "homer_simpson/pic_0001.JPG",
    "simpsons_dataset/lisa_simpson/pic_0000.png": "lisa_simpson/pic_0000.png",
    "simpsons_dataset/simpsons_dataset/homer_simpson/pic_0000.jpg": None,
    "simpsons_dataset/simpsons_dataset/lisa_simpson/pic_0000.png": None,
    "kaggle_simpson_testset/kaggle_simpson_testset/lisa_simpson_1.jpg": "kaggle_test/lisa_simpson/lisa_simpson_1.jpg",
    "annotation.txt": None,
    "number_pic_char.csv": None,
}
CLUTTER = {
    "simpsons_dataset/homer_simpson/.DS_Store": None,
    "simpsons_dataset/homer_simpson/._pic_0000.jpg": None,
    "simpsons_dataset/homer_simpson/Thumbs.db": None,
    "__MACOSX/simpsons_dataset/homer_simpson/pic_0000.jpg": None,
    "simpsons_dataset/.hidden/pic_0000.jpg": None,
}
TWO = ["homer/1.jpg", "lisa/1.jpg"]


def maker(make):
    def make_with_pictures(path: Path, names) -> Path:
        make(path, dict.fromkeys(names, PICTURE))
        return path

    return make_with_pictures


make_zip, make_tar, make_folder = map(maker, test_source_table.MAKERS.values())
MAKERS = {"a.zip": make_zip, "a.tar": make_tar, "a.tar.gz": make_tar, "a.tgz": make_tar, "folder": make_folder}


@pytest.fixture(autouse=True)
def in_this_process(request, monkeypatch):
    """A process for each archive would take most of the time; `isolated` marks the tests of that process."""
    if "isolated" not in request.keywords:
        monkeypatch.setattr(archives, "copy_isolated", archives.copy)


def listing(folder: Path) -> set[str]:
    ours = {sources.RECORD, archives.SUMS}
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - ours


def rejection(source, tmp_path: Path) -> str:
    """Return the message with which a source is rejected; nothing is left of the attempt."""
    with pytest.raises(UserError) as error:
        sources.fetch(str(source), "it", tmp_path / "raw")
    assert list((tmp_path / "raw").glob("*")) == []
    return str(error.value)


@pytest.mark.parametrize("kind", MAKERS)
def test_kaggle_layout(kind, tmp_path):
    source = MAKERS[kind](tmp_path / kind, KAGGLE | CLUTTER)
    raw = sources.fetch(str(source), "it", tmp_path / "raw")
    assert listing(raw) == {place for place in KAGGLE.values() if place}
    assert (raw / "homer_simpson/pic_0000.jpg").read_bytes() == PICTURE


def test_record_names_the_source_of_the_pictures(tmp_path):
    source = make_zip(tmp_path / "a.zip", KAGGLE | CLUTTER)
    raw = sources.fetch(str(source), "it", tmp_path / "raw")
    record, sums = json.loads((raw / "source.json").read_text()), raw / "SHA256SUMS"
    assert record.pop("fetched") and record.pop("signature") and record.pop("examples") and record.pop("digest")
    assert record == {
        "origin": str(source),
        "kind": "archive",
        "bytes": source.stat().st_size,
        "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "pictures": 3,
        "characters": 2,
        "kaggle_test_pictures": 1,
        "given_splits": False,
        "pictures_sha256": hashlib.sha256(sums.read_bytes()).hexdigest(),
        # .DS_Store, ._pic, __MACOSX, .hidden / annotation, number_pic_char, Thumbs.db / the nested copy
        "passed_over": {"hidden": 4, "not a picture": 3, "not in a character's folder": 2},
        "licence": "CC BY-NC-SA 4.0, by Alexandre Attia",
        "files": {},
    }


def test_sample_is_drawn(tmp_path, monkeypatch):
    drawing = types.SimpleNamespace(draw_sample=lambda folder: make_folder(folder, TWO))
    monkeypatch.setitem(sys.modules, "lib.drawing.sample", drawing)
    monkeypatch.setattr("lib.drawing.sample", drawing, raising=False)
    raw = sources.fetch("sample", "it", tmp_path)
    assert listing(raw) == set(TWO)
    assert json.loads((raw / "source.json").read_text())["pictures"] == 2


def pretend_kagglehub(monkeypatch, download) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", types.SimpleNamespace(dataset_download=download))


def test_kaggle_is_downloaded_in_a_pinned_version(tmp_path, monkeypatch):
    downloaded = make_folder(tmp_path / "cache", KAGGLE)
    asked = []
    pretend_kagglehub(monkeypatch, lambda handle: asked.append(handle) or str(downloaded))
    raw = sources.fetch("kaggle", "it", tmp_path / "raw")
    assert asked == ["alexattia/the-simpsons-characters-dataset/versions/4"]
    assert listing(raw) == {place for place in KAGGLE.values() if place}


def test_without_network_the_message_names_the_manual_download(tmp_path, monkeypatch):
    def download(handle):
        raise ConnectionError("no route to host")

    pretend_kagglehub(monkeypatch, download)
    assert "no route to host" in rejection("kaggle", tmp_path)
    assert "DATA=path/of/archive.zip" in rejection("kaggle", tmp_path)


# ---------------------------------------------------------------- completely or not at all, and never changed


def test_second_fetch_changes_nothing_even_when_the_source_is_gone(tmp_path):
    source = make_zip(tmp_path / "a.zip", TWO)
    raw = sources.fetch(str(source), "it", tmp_path / "raw")
    before = (raw / "source.json").stat().st_mtime_ns
    source.unlink()
    assert sources.fetch(str(source), "it", tmp_path / "raw") == raw
    assert (raw / "source.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("kind", ["a.zip", "folder"])
def test_same_content_at_another_path_is_the_same_source(kind, tmp_path):
    source = MAKERS[kind](tmp_path / kind, TWO)
    raw = sources.fetch(str(source), "it", tmp_path / "raw")
    moved = source.rename(tmp_path / f"moved-{kind}")
    assert sources.fetch(str(moved), "it", tmp_path / "raw") == raw


@pytest.mark.parametrize("kind", ["a.zip", "folder"])
def test_a_path_spelt_in_another_way_is_not_read_again(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    raw = sources.fetch(str(MAKERS[kind](tmp_path / kind, TWO)), "it", tmp_path / "raw")
    assert not any(sources.is_stale(source, raw) for source in (kind, f"./{kind}", str(tmp_path / kind)))


def test_another_source_under_the_same_name_is_rejected(tmp_path):
    one = make_zip(tmp_path / "one.zip", TWO)
    other = make_zip(tmp_path / "other.zip", [*TWO, "bart/1.jpg"])
    raw = sources.fetch(str(one), "it", tmp_path / "raw")
    with pytest.raises(UserError, match=r"one\.zip.*other\.zip.*[Rr]emove.*rename"):
        sources.fetch(str(other), "it", tmp_path / "raw")
    assert listing(raw) == set(TWO)


def test_folder_that_was_not_fetched_is_left_alone(tmp_path):
    own = make_folder(tmp_path / "raw" / "it", TWO)
    with pytest.raises(UserError, match=r"no undamaged source\.json.*Move the folder away"):
        sources.fetch(str(make_zip(tmp_path / "a.zip", TWO)), "it", tmp_path / "raw")
    assert listing(own) == set(TWO)


def test_a_record_of_the_copy_that_lost_a_key_is_named(tmp_path):
    copy = sources.fetch(str(make_folder(tmp_path / "source", TWO)), "it", tmp_path / "raw")
    record = copy / sources.RECORD
    record.write_text(record.read_text().replace('"characters"', '"charakters"'))
    with pytest.raises(UserError, match=r"no undamaged source\.json"):
        sources.summary(copy)


def test_what_a_killed_process_left_is_removed(tmp_path):
    make_folder(tmp_path / "raw" / ".it.partial", ["bart/1.jpg"])
    raw = sources.fetch(str(make_zip(tmp_path / "a.zip", TWO)), "it", tmp_path / "raw")
    assert listing(raw) == set(TWO)
    assert not (tmp_path / "raw" / ".it.partial").exists()


def test_interrupt_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(entry, path, copied):
        raise KeyboardInterrupt

    monkeypatch.setattr(archives, "_write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        sources.fetch(str(make_zip(tmp_path / "a.zip", TWO)), "it", tmp_path / "raw")
    assert listing(tmp_path / "raw") == set()


def test_full_disk_is_reported(tmp_path, monkeypatch):
    def full(entry, path, copied):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(archives, "_write", full)
    assert "No space left on device" in rejection(make_zip(tmp_path / "a.zip", TWO), tmp_path)


def test_too_little_space_is_reported_before_anything_is_copied(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=3))
    assert "0 MB free. Make room" in rejection(make_zip(tmp_path / "a.zip", TWO), tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_missing_write_permission_is_reported(tmp_path):
    (tmp_path / "raw").mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    assert "Permission denied" in rejection(make_zip(tmp_path / "a.zip", TWO), tmp_path)


def test_file_in_place_of_the_raw_folder_is_reported(tmp_path):
    (tmp_path / "raw").write_text("in the way")
    with pytest.raises(UserError, match="cannot be made"):
        sources.fetch(str(make_zip(tmp_path / "a.zip", TWO)), "it", tmp_path / "raw")


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize("source", ["", "nowhere.zip"])
def test_missing_source(source, tmp_path):
    assert "There is no file or folder" in rejection(source, tmp_path)
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".hidden", "-x", "a\n"])
def test_invalid_name(name, tmp_path):
    with pytest.raises(UserError, match="cannot be named"):
        sources.fetch("sample", name, tmp_path)


def test_summary_counts_what_was_copied_and_what_was_skipped(tmp_path):
    folder = sources.fetch(str(make_zip(tmp_path / "a.zip", [*TWO, "notes.txt"])), "it", tmp_path / "raw")
    assert sources.summary(folder) == (
        f"{folder}: 2 pictures of 2 characters (skipped or renamed: 1 not a picture such as 'notes.txt')"
    )


def test_what_a_system_puts_beside_the_pictures_is_not_sealed_with_them(tmp_path):
    for name in ("bart/1.jpg", "kaggle_test/bart/1.jpg", "bart/.nfs0001", "bart/@eaDir/1.jpg/thumbnail.jpg"):
        records.write_text(tmp_path / name, "")
    archives.write_sums(tmp_path)
    assert [*archives.read_sums(tmp_path)] == archives.pictures_in(tmp_path) == ["bart/1.jpg", "kaggle_test/bart/1.jpg"]


# ---------------------------------------------------------------- unsafe and damaged archives


@pytest.mark.parametrize("name", ["../1.jpg", "lisa/../../1.jpg", "/etc/1.jpg", "C:/1.jpg", "a/.."])
@pytest.mark.parametrize("kind", ["a.zip", "a.tar"])
def test_paths_that_lead_outside(kind, name, tmp_path):
    assert "leads outside" in rejection(MAKERS[kind](tmp_path / kind, [*TWO, name]), tmp_path)
    assert listing(tmp_path) == {kind}


def test_nul_in_a_name(tmp_path):
    source = make_zip(tmp_path / "a.zip", [*TWO, "lisa/2.jpg#.txt"])
    source.write_bytes(source.read_bytes().replace(b"2.jpg#", b"2.jpg\0"))
    assert "leads outside" in rejection(source, tmp_path)


def test_links_in_a_folder_are_followed_but_not_in_a_circle(tmp_path):
    source = make_folder(tmp_path / "folder", TWO)
    make_folder(tmp_path / "elsewhere", ["1.jpg"])
    (source / "bart").symlink_to(tmp_path / "elsewhere")
    (source / "lisa" / "again").symlink_to(source)
    assert listing(sources.fetch(str(source), "it", tmp_path / "raw")) == {*TWO, "bart/1.jpg"}


def test_pipe_in_a_folder_is_skipped(tmp_path):
    source = make_folder(tmp_path / "folder", TWO)
    os.mkfifo(source / "lisa" / "2.jpg")
    assert listing(sources.fetch(str(source), "it", tmp_path / "raw")) == set(TWO)


def test_password(tmp_path):
    source = make_zip(tmp_path / "a.zip", TWO)
    contents = bytearray(source.read_bytes())
    contents[contents.index(b"PK\x01\x02") + 8] |= 1  # the flag of an encrypted entry
    source.write_bytes(contents)
    assert "password" in rejection(source, tmp_path)


def test_overlapping_entries(tmp_path):
    source = make_zip(tmp_path / "a.zip", ["homer/1.jpg", "lisa/1.jpg", "lisa/2.jpg"])
    contents = bytearray(source.read_bytes())
    last = contents.rindex(b"PK\x01\x02")
    contents[last + 42 : last + 46] = bytes(4)  # the last entry begins where the first does
    source.write_bytes(contents)
    assert "overlap" in rejection(source, tmp_path)


def test_zip_that_declares_less_than_it_inflates_to(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in TWO:
            archive.writestr(name, bytes(1_000_000))
    contents = (tmp_path / "a.zip").read_bytes().replace((1_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    (tmp_path / "a.zip").write_bytes(contents)
    assert "cannot be read as a zip" in rejection(tmp_path / "a.zip", tmp_path)


def test_a_bomb_of_many_pictures_is_refused(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in TWO:
            archive.writestr(name, bytes(200_000))
    monkeypatch.setattr(archives, "SMALL_BYTES", 0)
    assert "its pictures take more than 0 GB" in rejection(tmp_path / "a.zip", tmp_path)


@pytest.mark.isolated
def test_huge_tar_header_is_not_inflated_into_memory(tmp_path):
    header = tarfile.TarInfo("long")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 1_000_000_000
    with gzip.open(tmp_path / "a.tar.gz", "wb") as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
    assert "more memory than its size accounts for" in rejection(tmp_path / "a.tar.gz", tmp_path)


@pytest.mark.parametrize("kind", ["a.zip", "a.tar", "a.tar.gz"])
@pytest.mark.parametrize("fraction", [0, 0.3, 0.6, 0.9])
def test_truncated_archive_is_named(kind, fraction, tmp_path):
    source = MAKERS[kind](tmp_path / kind, KAGGLE)
    if kind == "a.tar":  # without the zeros that pad it
        source.write_bytes(source.read_bytes()[: 1024 * len(KAGGLE)])
    source.write_bytes(source.read_bytes()[: int(fraction * source.stat().st_size)])
    assert f"{source} cannot be read as a zip, tar or tar.gz archive" in rejection(source, tmp_path)


@pytest.mark.parametrize("kind", ["a.zip", "a.tar.gz"])
def test_random_damage_raises_nothing_but_user_errors(kind, tmp_path):
    intact = MAKERS[kind](tmp_path / kind, KAGGLE).read_bytes()
    for position in range(0, len(intact), 13):
        (tmp_path / kind).write_bytes(intact[:position] + bytes([intact[position] ^ 0xFF]) + intact[position + 1 :])
        with contextlib.suppress(UserError):
            shutil.rmtree(sources.fetch(str(tmp_path / kind), "it", tmp_path / "raw"))
        assert listing(tmp_path / "raw") == set()
