"""Which sources are taken and how: a row for each case of layout, names, encodings, links and archives."""

import gzip
import io
import os
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from typing import NamedTuple

import pytest

from lib import paths
from lib.data import archives, sources
from lib.errors import UserError

JPEG, PNG, WEBP, BMP = b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"RIFF\x10\0\0\0WEBPVP8 ", b"BM" + bytes(12) + b"\x28"
TEXT = b"not a picture"


class Case(NamedTuple):
    """One source. `files` gives the contents, or by a string a link to another name; `kinds` all by default."""

    name: str
    files: dict
    taken: list[str] | str  # the listing of the copy, or what the rejection says
    noticed: dict[str, int] | None = None  # what is passed over or renamed
    kinds: str = "zip tar folder"


def pictures(*names):
    return dict.fromkeys(names, JPEG)


TWO = pictures("homer/1.jpg", "lisa/1.jpg")
IN_OTHER_ENCODINGS = [
    ("Élodie", "cp437"),
    ("Élodie", "cp1252"),
    ("Zoë", "cp1252"),
    ("Łukasz", "cp1250"),
    ("Гомер", "cp866"),
    ("Гомер", "cp1251"),
    ("Гомер", "koi8-r"),
    ("Μπαρτ", "cp737"),
    ("Όμηρος", "cp1253"),
    ("Işıl Öğretmen", "cp1254"),
    ("הומר", "cp862"),
    ("هومر", "cp1256"),
    ("โฮเมอร์", "cp874"),
    ("ホーマー", "cp932"),
    ("表示", "cp932"),  # a letter ends in a backslash
    ("丽莎 辛普森", "gb18030"),
    ("功夫熊貓", "big5hkscs"),  # a backslash in a letter
    ("호머", "cp949"),
]
CASES = [
    # ------------------------------------------------------------ layout
    Case("flat classes", TWO, ["homer/1.jpg", "lisa/1.jpg"]),
    Case("a folder around them", pictures("my/set/homer/1.jpg", "my/set/lisa/1.jpg"), ["homer/1.jpg", "lisa/1.jpg"]),
    Case(
        "one class in folders of its own",
        pictures("homer/1.jpg", "bart/1.jpg", "lisa/season1/1.jpg", "lisa/season2/a/1.jpg"),
        ["bart/1.jpg", "homer/1.jpg", "lisa/1-2.jpg", "lisa/1.jpg"],
        {"renamed": 1},
    ),
    Case("every class in one folder", pictures("a/images/1.jpg", "b/images/2.jpg"), ["a/1.jpg", "b/2.jpg"]),
    Case("nested or flat cannot be told", pictures("a/x/1.jpg", "a/y/1.jpg", "b/x/1.jpg"), "both 'a' and 'a/x' may be"),
    Case("the set beside other pictures", pictures("docs/1.jpg", *(f"set/{c}/1.jpg" for c in "abc")), "'set/a' may be"),
    Case("classes twice", TWO | pictures("old/homer/1.jpg"), "both 'old' and 'old/homer' may be the folder"),
    Case("a picture beside the classes", TWO | pictures("cover.jpg"), [*TWO], {"not in a character's folder": 1}),
    Case(
        "pictures at the names of folders",
        pictures("set", "set/homer", "set/homer/1.jpg", "set/lisa/1.jpg"),
        [*TWO],
        {"not in a character's folder": 2},
        "zip tar",
    ),
    Case(
        "many pictures of one name",
        pictures(*(f"lisa/{n}/1.jpg" for n in range(9)), *(f"homer/{n}.jpg" for n in range(9))),
        [f"homer/{n}.jpg" for n in range(9)] + ["lisa/1.jpg"] + [f"lisa/1-{n}.jpg" for n in range(2, 10)],
        {"renamed": 8},
    ),
    Case(
        "the archive beside other pictures",
        pictures("mine/1.jpg", "more/1.jpg", *(f"simpsons_dataset/{c}/{n}.jpg" for c in "ab" for n in range(2))),
        "both 'simpsons_dataset' and 'simpsons_dataset/a' may be",
    ),
    Case(
        "the nested copy of the archive beside the classes",
        TWO | pictures("simpsons_dataset/homer/1.jpg", "simpsons_dataset/lisa/1.jpg"),
        [*TWO],
        {"not in a character's folder": 2},
    ),
    Case("one class beside its copy", pictures("a/1.jpg", "simpsons_dataset/a/1.jpg"), "holds one character only, 'a'"),
    Case(
        "folders of file systems",
        TWO | pictures("$RECYCLE.BIN/a/1.jpg", "lisa/@eaDir/1.jpg/thumb.jpg", "lost+found/1.jpg"),
        [*TWO],
        {"hidden": 3},
    ),
    Case("no classes", pictures("1.jpg", "2.jpg"), "holds pictures but no characters' folders"),
    Case("one class", pictures("homer/1.jpg", "homer/2.jpg"), "holds one character only, 'homer'"),
    Case("the test set alone", pictures("kaggle_simpson_testset/homer_1.jpg"), "no characters' folders"),
    Case("empty", {}, "holds no pictures. Expected one folder per character"),
    Case("only text", {"homer/notes.txt": TEXT}, "no pictures (skipped or renamed: 1 not a picture such as 'homer/no"),
    Case("only hidden", pictures(".x/a/1.jpg", ".x/b/1.jpg"), "2 hidden such as '.x/a/1.jpg')", kinds="zip tar"),
    Case("an archive in it", {"data.zip": b"PK\3\4"}, "1 not a picture such as 'data.zip')"),
    # ------------------------------------------------------------ splits of the source's own
    Case("flat splits", pictures("train/1.jpg", "val/1.jpg"), "names of splits are no characters"),
    Case("flat splits of COCO", pictures("train2017/1.jpg", "val2017/1.jpg"), "it holds 'train2017', 'val2017', but"),
    Case("flat splits of sets", pictures("training_set/1.jpg", "Test-Images/1.jpg"), "names of splits are no"),
    Case(
        "splits in folders of their own name",
        pictures(*(f"{split}/{split}/{c}/1.jpg" for split in ("training_set", "test_set") for c in "ab")),
        "names of splits are no characters",
    ),
    Case(
        "splits of other spellings",
        pictures(*(f"{split}/{c}/1.jpg" for split in ("training_set", "test images", "val2017") for c in "ab")),
        [f"{split}/{c}/1.jpg" for split in ("train", "test", "validation") for c in "ab"],
    ),
    Case("a class named test", TWO | pictures("test/1.jpg"), "it holds 'homer', 'lisa', 'test', but names of splits"),
    Case(
        "two names of one split", pictures("train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg", "dev/a/1.jpg"), "names of"
    ),
    Case(
        "train and test",
        pictures("train/a/1.jpg", "train/b/1.jpg", "Testing/a/1.jpg", "Testing/b/1.jpg", "Testing/x.jpg"),
        ["test/a/1.jpg", "test/b/1.jpg", "train/a/1.jpg", "train/b/1.jpg"],
        {"not in a character's folder": 1},
    ),
    # ------------------------------------------------------------ what is a picture
    Case(
        "by content, not by name",
        {"a/1": JPEG, "a/2.jfif": JPEG, "b/3.avif": PNG, "b/4.txt": WEBP, "b/5": BMP + bytes(9), "b/6.txt": TEXT},
        ["a/1", "a/2.jfif", "b/3.avif", "b/4.txt", "b/5"],
        {"not a picture": 1},
    ),
    Case("a broken picture is kept for the manifest to report", TWO | {"lisa/2.jpg": b""}, [*TWO, "lisa/2.jpg"]),
    Case(
        "hidden",
        TWO | pictures("lisa/._1.jpg", "__MACOSX/lisa/2.jpg", ".cache/x/1.jpg"),
        [*TWO],
        {"hidden": 3},
        "zip tar",
    ),
    # ------------------------------------------------------------ names
    Case(
        "unsafe files",
        TWO
        | pictures("lisa/a:b?.jpg", "lisa/ c.jpg", "lisa/d.jpg.", "lisa/=e.jpg", "lisa/\u202ef.jpg", "lisa/g\n.jpg"),
        [*TWO, *(f"lisa/{name}" for name in ("_c.jpg", "_e.jpg", "_f.jpg", "a_b_.jpg", "d.jpg_", "g_.jpg"))],
        {"renamed": 6},
    ),
    Case(
        "files by case", pictures("a/IMG_1.JPG", "a/img_1.jpg", "b/1.jpg"), ["a/IMG_1.JPG", "a/img_1-2.jpg", "b/1.jpg"]
    ),
    Case("classes by case", pictures("homer/1.jpg", "Homer/2.jpg", "x/1.jpg", "X/1.jpg"), "'X' and 'x' differ by case"),
    Case("classes by a space", pictures("homer/1.jpg", "homer /1.jpg"), "'homer' and 'homer ' differ by case, spaces"),
    Case(
        "shown alike", pictures("Moe Szyslak/1.jpg", "moe_szyslak/1.jpg"), "'Moe Szyslak' and 'moe_szyslak' differ by"
    ),
    Case("classes by nothing", pictures("a/1.jpg", "a\u200b/1.jpg"), "or what cannot be seen"),
    Case("classes made safe", pictures("a:b/1.jpg", "a?b/1.jpg", "c /1.jpg"), ["a_b-2/1.jpg", "a_b/1.jpg", "c_/1.jpg"]),
    Case("made safe and shown alike", pictures("Mr/1.jpg", "Mr./1.jpg"), ["Mr/1.jpg", "Mr_-2/1.jpg"]),
    Case("devices of Windows", pictures("con/nul.jpg", "console/1.jpg"), ["_con/_nul.jpg", "console/1.jpg"]),
    Case(
        "composed and decomposed",
        pictures("cafe\u0301/1.jpg", "caf\u00e9/1.jpg", "b/1.jpg"),
        ["b/1.jpg", "café/1-2.jpg", "café/1.jpg"],
    ),
    Case("reserved", pictures("homer/1.jpg", "Kaggle_Test/1.jpg"), "'Kaggle_Test', a reserved name"),
    Case("long", TWO | pictures("lisa/" + "é" * 110 + ".jpg"), [*TWO, "lisa/" + "é" * 100], {"renamed": 1}),
    Case("any script", pictures("辛普森/1.jpg", "Élodie/1.jpg"), ["Élodie/1.jpg", "辛普森/1.jpg"]),
    Case("twice", {"homer/1.jpg": JPEG, "lisa/1.jpg": [JPEG, JPEG]}, "it holds 'lisa/1.jpg' twice", kinds="zip tar"),
    # ------------------------------------------------------------ encodings of names, as bytes
    Case("UTF-8 without its flag", {"Élodie/1.jpg".encode(): JPEG, b"b/1.jpg": JPEG}, ["b/1.jpg", "Élodie/1.jpg"]),
    *(
        Case(
            f"{name} in {page}",
            {f"{name}/1.jpg".encode(page): JPEG, b"b/1.jpg": JPEG},
            sorted(["b/1.jpg", f"{name}/1.jpg"]),
            {f"with names read as {page}": 1},
        )
        for name, page in IN_OTHER_ENCODINGS
    ),
    Case(
        "two readings",
        {"Łukasz/1.jpg".encode("cp852"): JPEG, b"b/1.jpg": JPEG},
        "cannot be recognised (it may be cp1250 or cp852). Rename the files",
    ),
    Case("no reading", {b"\xff\x81\x9d/1.jpg": JPEG, b"b/1.jpg": JPEG}, "cannot be recognised. Rename the files"),
    # ------------------------------------------------------------ separators, links, devices
    Case("backslashes", pictures("my\\homer\\1.jpg", "my\\lisa\\1.jpg"), ["homer/1.jpg", "lisa/1.jpg"], None, "zip"),
    Case("up by backslashes", TWO | pictures("lisa\\..\\..\\x.jpg"), "leads outside", None, "zip"),
    Case("a link out", TWO | {"lisa/2.jpg": "/etc/passwd"}, [*TWO], {"links and devices": 1}, "zip tar"),
    Case("a dangling link", TWO | {"lisa/2.jpg": "nowhere"}, [*TWO], {"unreadable": 1}, "folder"),
    Case(
        "a link from one class to another",
        TWO | {"homer/lisa": "../lisa"},
        [*TWO],
        {"a folder that was read under another name": 1},
        "folder",
    ),
    Case(
        "a link to a class",
        TWO | {"also": "lisa"},
        [*TWO],
        {"a folder that was read under another name": 1},
        "folder",
    ),
    Case("an editor's lock", TWO | {"lisa/.#2.jpg": "user@host.123:456"}, [*TWO], None, "folder"),
]


class RawName(zipfile.ZipInfo):
    """An entry whose name is written as it is, without the flag of UTF-8."""

    def _encodeFilenameFlags(self):
        return os.fsencode(self.filename), self.flag_bits


def named(name) -> str:
    return os.fsdecode(name) if isinstance(name, bytes) else name


def make_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, contents in files.items():
            for content in contents if isinstance(contents, list) else [contents]:
                info = RawName(named(name)) if isinstance(name, bytes) else zipfile.ZipInfo(name)
                if isinstance(content, str):
                    info.external_attr = (stat.S_IFLNK | 0o777) << 16
                archive.writestr(info, content)


def make_tar(path, files):
    mode = "w:gz" if path.suffix in (".gz", ".tgz") else "w"
    with tarfile.open(path, mode, errors="surrogateescape") as archive:
        for name, contents in files.items():
            for content in contents if isinstance(contents, list) else [contents]:
                member = tarfile.TarInfo(named(name))
                if isinstance(content, str):
                    member.type, member.linkname, content = tarfile.SYMTYPE, content, b""
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def make_folder(path, files):
    path.mkdir(parents=True, exist_ok=True)
    for name, contents in files.items():
        file = path / named(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(contents, str):
            file.symlink_to(contents)
        else:
            file.write_bytes(contents)


MAKERS = {"zip": make_zip, "tar": make_tar, "folder": make_folder}


@pytest.fixture(autouse=True)
def in_this_process(request, monkeypatch):
    if "isolated" not in request.keywords:
        monkeypatch.setattr(archives, "copy_isolated", archives.copy)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("case", "kind"),
    [pytest.param(case, kind, id=f"{case.name}-{kind}") for case in CASES for kind in case.kinds.split()],
)
def test_a_source_is_taken_as_the_table_says(case, kind, tmp_path):
    source, raw = tmp_path / f"source.{kind}", tmp_path / "raw"
    MAKERS[kind](source, case.files)
    if isinstance(case.taken, str):
        with pytest.raises(UserError) as problem:
            sources.fetch(str(source), "it", raw)
        assert case.taken in str(problem.value)
        assert list(raw.iterdir()) == []
        return
    copy = sources.fetch(str(source), "it", raw)
    found = {path.relative_to(copy).as_posix() for path in copy.glob("*/**/*") if path.is_file()}
    assert found == set(case.taken)
    record = sources.records.read_json(copy / sources.RECORD)
    assert (case.noticed or {}).items() <= record["passed_over"].items()
    if not case.noticed and found == {named(name) for name in case.files}:
        assert record["passed_over"] == {}
    assert archives.read_sums(copy).keys() == found


def test_every_problem_of_the_names_is_told_at_once(tmp_path):
    make_zip(tmp_path / "a.zip", pictures("a/1.jpg", "A/1.jpg", "b/1.jpg", "B/1.jpg", "kaggle_test/1.jpg"))
    with pytest.raises(UserError) as problem:
        sources.fetch(str(tmp_path / "a.zip"), "it", tmp_path / "raw")
    assert len(str(problem.value).splitlines()) == 3


def test_a_hard_link_of_gnu_tar_is_the_file_itself(tmp_path):
    make_tar(tmp_path / "a.tar", TWO)
    with tarfile.open(tmp_path / "a.tar", "a") as archive:
        for name, target in (("lisa/2.jpg", "homer/1.jpg"), ("lisa/3.jpg", "/etc/passwd")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.LNKTYPE, target
            archive.addfile(member)
        member = tarfile.TarInfo("lisa/4.jpg")
        member.type = tarfile.FIFOTYPE
        archive.addfile(member)
    copy = sources.fetch(str(tmp_path / "a.tar"), "it", tmp_path / "raw")
    assert sorted(path.name for path in (copy / "lisa").iterdir()) == ["1.jpg", "2.jpg"]
    assert (copy / "lisa/2.jpg").read_bytes() == JPEG
    assert "2 links and devices such as 'lisa/3.jpg'" in sources.summary(copy)


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path):
    make_zip(tmp_path / "a.zip", pictures("moe/1.jpg", "apu/1.jpg"))
    make_tar(tmp_path / "a.tar", TWO | {"more.zip": (tmp_path / "a.zip").read_bytes()})
    assert fetched(tmp_path / "a.tar", tmp_path / "raw") == sorted(TWO)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_joined_tars_are_refused_since_only_the_first_would_be_read(pack, tmp_path):
    make_tar(tmp_path / "a.tar", TWO)
    joined = tmp_path / "joined"
    joined.write_bytes(2 * pack((tmp_path / "a.tar").read_bytes()))
    with pytest.raises(UserError, match="more follows its end, as where two archives were joined"):
        fetched(joined, tmp_path / "raw")


def test_joined_zips_are_refused_since_only_the_last_would_be_read(tmp_path):
    make_zip(tmp_path / "a.zip", TWO)
    make_zip(tmp_path / "b.zip", pictures("moe/1.jpg", "apu/1.jpg"))
    whole = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "joined.zip").write_bytes(whole + (tmp_path / "b.zip").read_bytes())
    with pytest.raises(UserError, match="more precedes it, as where two archives were joined"):
        fetched(tmp_path / "joined.zip", tmp_path / "raw")
    (tmp_path / "unpacks-itself.zip").write_bytes(b"MZ program" + whole)
    assert fetched(tmp_path / "unpacks-itself.zip", tmp_path / "raw") == sorted(TWO)


def test_a_picture_that_is_too_large_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_PICTURE_BYTES", 1000)
    make_folder(tmp_path / "a", TWO | {"lisa/scan.tif": bytes(2000), "film.mkv": bytes(4000)})
    assert fetched(tmp_path / "a", tmp_path / "raw") == sorted(TWO)
    assert "1 larger than 0 MB such as 'lisa/scan.tif'" in sources.summary(tmp_path / "raw/a")


def test_a_film_beside_the_characters_is_not_read(tmp_path):
    make_folder(tmp_path / "a", TWO | {"film.mkv": b""})
    os.truncate(tmp_path / "a" / "film.mkv", 10**12)  # of holes: it takes no room, and half an hour to hash
    assert fetched(tmp_path / "a", tmp_path / "raw") == sorted(TWO)


def test_a_reading_in_another_encoding_is_said_with_an_example(tmp_path):
    make_zip(tmp_path / "a.zip", {"Гомер/1.jpg".encode("cp1251"): JPEG, b"b/1.jpg": JPEG})
    fetched(tmp_path / "a.zip", tmp_path / "raw")
    assert "1 with names read as cp1251 such as 'Гомер/1.jpg')" in sources.summary(tmp_path / "raw" / "a")


def test_many_small_pictures_have_the_time_that_their_number_takes(tmp_path):
    make_zip(tmp_path / "a.zip", pictures(*(f"{c}/{n}.png" for c in "ab" for n in range(300))))
    allowed = []
    archives.copy(tmp_path / "a.zip", tmp_path, allowed.append)
    assert allowed[0] > archives.LIST_SECONDS + 600 / archives.COPY_PICTURES_PER_SECOND


def test_the_unicode_name_of_info_zip_is_preferred(tmp_path):
    raw, name = "ホーマー/1.jpg".encode("cp932"), "ホーマー/1.jpg".encode()
    info = RawName(os.fsdecode(raw))
    info.extra = struct.pack("<HHBI", archives.UNICODE_PATH, 5 + len(name), 1, zlib.crc32(raw)) + name
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, JPEG)
        archive.writestr("b/1.jpg", JPEG)
    copy = sources.fetch(str(tmp_path / "a.zip"), "it", tmp_path / "raw")
    assert (copy / "ホーマー/1.jpg").is_file()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_passed_over_and_counted(tmp_path):
    make_folder(tmp_path / "folder", TWO | pictures("lisa/2.jpg", "bart/1.jpg"))
    (tmp_path / "folder/lisa/2.jpg").chmod(0)
    (tmp_path / "folder/bart").chmod(0)
    copy = sources.fetch(str(tmp_path / "folder"), "it", tmp_path / "raw")
    assert "2 unreadable such as 'bart'" in sources.summary(copy)


@pytest.mark.parametrize("source", ["/dev/zero", "pipe"])
def test_a_device_or_a_pipe_is_no_source(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with pytest.raises(UserError, match="is a device or a pipe"):
        sources.fetch(source, "it", tmp_path / "raw")


# ---------------------------------------------------------------- a source that changes, and two of one name


def fetched(source, raw):
    copy = sources.fetch(str(source), sources.name_of(str(source), raw), raw)
    return sorted(path.relative_to(copy).as_posix() for path in copy.glob("*/**/*") if path.is_file())


@pytest.mark.parametrize("kind", MAKERS)
def test_a_changed_source_is_taken_again_and_that_is_said(kind, tmp_path, capsys):
    source, raw = tmp_path / f"a.{kind}", tmp_path / "raw"
    MAKERS[kind](source, TWO)
    assert fetched(source, raw) == sorted(TWO)
    if kind == "folder":
        (source / "lisa/2.jpg").write_bytes(JPEG)
    else:
        MAKERS[kind](source, TWO | pictures("lisa/2.jpg"))
    assert sources.is_stale(str(source), raw / sources.name_of(str(source), raw))
    assert fetched(source, raw) == sorted([*TWO, "lisa/2.jpg"])
    assert "has changed since its pictures were copied" in capsys.readouterr().out
    assert not sources.is_stale(str(source), raw / sources.name_of(str(source), raw))
    assert [path.name for path in raw.iterdir()] == [sources.name_of(str(source), raw)]


def test_a_copy_behind_a_link_stays_there(tmp_path):
    source, raw, disk = tmp_path / "a", tmp_path / "raw", tmp_path / "disk"
    make_folder(source, TWO)
    fetched(source, raw)
    (raw / "a").rename(disk)
    (raw / "a").symlink_to(disk)
    for name in ("lisa/2.jpg", "lisa/3.jpg"):
        (source / name).write_bytes(JPEG)
        assert name in fetched(source, raw)
    assert (raw / "a").is_symlink() and [path.name for path in raw.iterdir()] == ["a"]


@pytest.mark.parametrize("kind", MAKERS)
def test_a_touched_source_is_the_same(kind, tmp_path, capsys):
    source, raw = tmp_path / f"a.{kind}", tmp_path / "raw"
    MAKERS[kind](source, TWO)
    fetched(source, raw)
    os.utime(source / "lisa/1.jpg" if kind == "folder" else source, (1, 1))
    before = (raw / sources.name_of(str(source), raw) / "lisa").stat().st_mtime_ns
    fetched(source, raw)
    assert (raw / sources.name_of(str(source), raw) / "lisa").stat().st_mtime_ns == before
    assert capsys.readouterr().out == ""


def test_contents_that_change_with_size_and_name_kept_are_noticed(tmp_path):
    source, raw = tmp_path / "folder", tmp_path / "raw"
    make_folder(source, TWO)
    fetched(source, raw)
    (source / "lisa/1.jpg").write_bytes(JPEG[:3] + b"x")
    fetched(source, raw)
    assert (raw / "folder/lisa/1.jpg").read_bytes() == JPEG[:3] + b"x"


def test_two_sources_never_share_a_name_and_a_copy_elsewhere_is_the_same(tmp_path):
    raw = tmp_path / "raw"
    for place in ("one", "other", "copy"):
        (tmp_path / place).mkdir()
    make_zip(tmp_path / "one/a b.zip", TWO)
    make_zip(tmp_path / "one/a;b.zip", TWO | pictures("bart/1.jpg"))
    make_zip(tmp_path / "other/a b.zip", TWO | pictures("apu/1.jpg"))
    (tmp_path / "copy/a b.zip").write_bytes((tmp_path / "one/a b.zip").read_bytes())
    assert fetched(tmp_path / "one/a b.zip", raw) == sorted(TWO)
    assert fetched(tmp_path / "one/a;b.zip", raw) == sorted([*TWO, "bart/1.jpg"])
    assert fetched(tmp_path / "other/a b.zip", raw) == sorted([*TWO, "apu/1.jpg"])
    assert sources.name_of(str(tmp_path / "copy/a b.zip"), raw) == "a-b"
    assert len(list(raw.glob("a-b*"))) == 3


@pytest.mark.parametrize("kind", MAKERS)
def test_what_changes_while_it_is_copied_is_noticed_the_next_time(kind, tmp_path, monkeypatch):
    source, raw, copy = tmp_path / f"a.{kind}", tmp_path / "raw", archives.copy
    MAKERS[kind](source, TWO)

    def changed(*arguments):
        copied = copy(*arguments)
        if kind == "folder":
            make_folder(source / "bart", pictures("1.jpg"))
        else:
            MAKERS[kind](source, TWO | pictures("bart/1.jpg"))
        return copied

    with monkeypatch.context() as patched:
        patched.setattr(archives, "copy", changed)
        patched.setattr(archives, "copy_isolated", changed)
        assert fetched(source, raw) == sorted(TWO)
    assert fetched(source, raw) == sorted([*TWO, "bart/1.jpg"])


@pytest.mark.parametrize(("path", "name"), [("สิมป์สัน.zip", "สิมป์สัน"), ("सिम्पसन", "सिम्पसन"), ("a  (1).tar.gz", "a-1")])
def test_a_name_keeps_its_letters_and_marks(path, name, tmp_path):
    assert sources.name_of(path, tmp_path) == name
    with pytest.raises(UserError, match="There is no file"):  # and the name is a valid one
        sources.fetch(str(tmp_path / path), name, tmp_path)


def test_a_path_without_a_letter_gets_a_name_of_its_own(tmp_path):
    make_zip(tmp_path / "🍩.zip", TWO)
    make_zip(tmp_path / "💥.zip", TWO | pictures("bart/1.jpg"))
    assert fetched(tmp_path / "🍩.zip", tmp_path / "raw") == sorted(TWO)
    assert fetched(tmp_path / "💥.zip", tmp_path / "raw") == sorted([*TWO, "bart/1.jpg"])


def test_a_path_that_is_not_utf_8_is_refused_and_a_link_to_it_is_taken(tmp_path):
    source = tmp_path / os.fsdecode(b"Daten_\xfc")
    make_folder(source, TWO)
    with pytest.raises(UserError, match=r"is not UTF-8\. Rename"):
        fetched(source, tmp_path / "raw")
    (tmp_path / "link").symlink_to(source)
    assert fetched(tmp_path / "link", tmp_path / "raw") == sorted(TWO)
    assert not sources.is_stale(str(tmp_path / "link"), tmp_path / "raw/link")


# ---------------------------------------------------------------- malice, in a process of its own


def tar_header(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    header = bytearray(name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + size.ljust(12, b"\0")[:12])
    header += b"00000000000\0" + b" " * 8 + kind + bytes(100) + b"ustar  \0" + bytes(247)
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    return bytes(header)


def pax(records: bytes) -> bytes:
    padded = records.ljust(-(-len(records) // 512) * 512, b"\0")
    return tar_header(b"x", f"{len(records):011o}".encode(), b"x") + padded


HOSTILE = {
    # CVE-2024-6232: a regular expression that backtracks over the digits of a header
    "digits.tar": pax(b"1" * 60_000 + b" "),
    # CVE-2025-8194: a negative size, as base 256, leads back to the same header
    "negative.tar": tar_header(b"homer/1.jpg", b"\xff" * 11 + b"\0") * 3,
    "global.tar": b"".join(pax(f"{12 + len(str(n))} k{n}=v\n".encode()) for n in range(300)),
    "folders.zip": None,
}


@pytest.mark.isolated
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_ends_in_one_message_within_its_limits(name, tmp_path, capfd, monkeypatch):
    path = tmp_path / name
    if HOSTILE[name] is not None:
        path.write_bytes(HOSTILE[name] + bytes(1024))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for number in range(3000):
                archive.writestr(f"{number}/", b"")
    with pytest.raises(UserError) as problem:
        sources.fetch(str(path), "it", tmp_path / "raw")
    assert str(path) in str(problem.value) and "\n" not in str(problem.value)
    assert "Traceback" not in capfd.readouterr().err
    assert list((tmp_path / "raw").iterdir()) == []


BOMBS = {
    "memory": ("bytearray(2_000_000_000)", "more memory than its size accounts for"),
    "time": ("while True: pass", "far more time than its size accounts for"),
}


@pytest.mark.isolated
@pytest.mark.parametrize("bomb", BOMBS)
def test_time_and_memory_of_reading_an_archive_are_limited(bomb, tmp_path, monkeypatch):
    code, says = BOMBS[bomb]
    make_zip(tmp_path / "a.zip", TWO)
    program = (
        "import sys; from lib.data import archives\narchives.LIST_SECONDS = 2\n"
        f"def copy(*_):\n    {code}\narchives.copy = copy\narchives.main()"
    )
    run = archives.subprocess.run

    def bombed(command, **options):
        return run([command[0], "-c", program, *command[3:]], **options)

    monkeypatch.setattr(archives.subprocess, "run", bombed)
    with pytest.raises(UserError, match=says):
        archives.copy_isolated(tmp_path / "a.zip", tmp_path)


@pytest.mark.isolated
def test_an_honest_archive_is_copied_by_the_other_process(tmp_path):
    make_zip(tmp_path / "a.zip", TWO)
    assert fetched(tmp_path / "a.zip", tmp_path / "raw") == sorted(TWO)


@pytest.mark.skipif(archives.resource is None, reason="there are no such limits")
def test_an_archive_is_read_within_a_limit_that_the_user_has_set(tmp_path):
    make_zip(tmp_path / "a.zip", TWO)
    code = "import sys, resource; from lib.data import sources; resource.setrlimit(resource.RLIMIT_CPU, (5, 5)); "
    code += "sources.fetch(*sys.argv[1:3], sources.Path(sys.argv[3]))"
    command = [sys.executable, "-c", code, str(tmp_path / "a.zip"), "it", str(tmp_path)]
    assert subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True).stderr == ""
    assert (tmp_path / "it/lisa/1.jpg").is_file()


def test_a_changed_byte_of_a_gzip_is_found_by_its_checksum(tmp_path):
    make_tar(tmp_path / "a.tar", TWO | {"lisa/2.jpg": JPEG + bytes(3000)})
    packed = bytearray(gzip.compress((tmp_path / "a.tar").read_bytes(), compresslevel=0))
    packed[packed.rindex(JPEG) + 100] ^= 1
    (tmp_path / "a.tar.gz").write_bytes(packed)
    with pytest.raises(UserError, match=r"a\.tar\.gz cannot be read as a zip, tar or tar\.gz archive \(CRC"):
        sources.fetch(str(tmp_path / "a.tar.gz"), "it", tmp_path / "raw")
