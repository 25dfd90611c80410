"""Answers for many pictures: files written whole, continued after a kill, the same on a cluster and at an address."""

import functools
import gc
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as parquet
import pytest
from fsspec.implementations import memory

from lib import predict, report, shards
from lib.errors import UserError
from lib.inference.recogniser import Recogniser
from tests import dask_processes, small_model

NAMES = ["Homer Simpson", "Krusty the Clown", "Marge Simpson"]
COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
COUNT = 57
READ = functools.partial(shards.read_picture, allow_private=False)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return small_model.write_run(tmp_path_factory.mktemp("run") / "small")


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """57 pictures of three characters in turn; the last is broken."""
    folder = tmp_path_factory.mktemp("frames")
    (folder / "below").mkdir()
    for number in range(COUNT):
        place = folder / "below" if number % 2 else folder
        content = b"no picture" if number == COUNT - 1 else small_model.picture(COLOURS[number % 3])
        (place / f"{number:03}.png").write_bytes(content)
    return folder


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(shards, "PICTURES_A_SHARD", 5)


def write(arguments, out, run_dir, address=""):
    reader = functools.partial(READ, any_address=True)
    return shards.write([str(a) for a in arguments], out, Recogniser.load(run_dir), reader, address)


def rows(out):
    """Give all rows of a folder of answers, by picture."""
    found = [row for path in sorted(out.glob("part-*.parquet")) for row in parquet.read_table(path).to_pylist()]
    by_picture = {row["picture"]: row for row in found}
    assert len(by_picture) == len(found), "a picture is there twice"
    return by_picture


def test_every_picture_is_a_row_and_a_broken_one_says_why(frames, run_dir, tmp_path):
    assert write([frames], tmp_path / "out", run_dir) == (COUNT, 1)
    found = rows(tmp_path / "out")
    listed = [json.loads(line) for line in (tmp_path / "out" / shards.LIST).read_text().splitlines()]
    assert sorted(listed) == sorted(found) == sorted(str(path) for path in frames.rglob("*.png"))
    for picture, row in found.items():
        number = int(Path(picture).stem)
        if number == COUNT - 1:
            assert row["character"] is None and row["error"].startswith("This is not a picture")
        else:
            assert (row["name"], row["known"], row["error"]) == (NAMES[number % 3], True, None)
            assert row["top"][0]["name"] == row["found"][0]["name"] == row["name"]


def test_a_second_call_does_nothing(frames, run_dir, tmp_path):
    write([frames], tmp_path / "out", run_dir)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert write([frames], tmp_path / "out", run_dir) == (COUNT, 1)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


def test_a_folder_of_answers_is_not_mixed_with_others(frames, run_dir, tmp_path):
    write([frames], tmp_path / "out", run_dir)
    with pytest.raises(UserError, match="holds answers for other pictures or of another network"):
        write([frames / "below"], tmp_path / "out", run_dir)


def test_parquet_files_of_something_else_are_left_alone(frames, run_dir, tmp_path):
    (tmp_path / "part-0.parquet").write_bytes(b"of something else")
    with pytest.raises(UserError, match="holds Parquet files of something else"):
        write([frames], tmp_path, run_dir)
    assert [path.name for path in tmp_path.iterdir()] == ["part-0.parquet"]


@pytest.mark.parametrize("damage", [b"", b"{}\n", b"\xff", None])
def test_a_damaged_list_is_noticed(damage, frames, run_dir, tmp_path):
    write([frames], tmp_path / "out", run_dir)
    (tmp_path / "out" / shards.LIST).unlink()
    if damage is not None:
        (tmp_path / "out" / shards.LIST).write_bytes(damage)
    (tmp_path / "out" / "part-000003.parquet").unlink()
    with pytest.raises(UserError, match=r"out holds answers for other pictures .* or is damaged\. Name another folder"):
        write([frames], tmp_path / "out", run_dir)


def with_a_flipped_bit(whole):
    """In the middle of the first page."""
    return whole[:60] + bytes([whole[60] ^ 1]) + whole[61:]


@pytest.mark.parametrize("damage", [lambda whole: b"", lambda whole: whole[:-1], with_a_flipped_bit])
def test_a_damaged_part_is_made_again(damage, frames, run_dir, tmp_path):
    write([frames], tmp_path / "out", run_dir)
    part = tmp_path / "out" / "part-000003.parquet"
    part.write_bytes(damage(part.read_bytes()))
    assert write([frames], tmp_path / "out", run_dir) == (COUNT, 1)
    assert len(rows(tmp_path / "out")) == COUNT


def test_a_part_that_another_one_replaced_is_named(frames, run_dir, tmp_path):
    write([frames], tmp_path / "out", run_dir)
    part, other = (tmp_path / "out" / f"part-{number:06}.parquet" for number in (3, 4))
    write([frames / "below"], tmp_path / "other", run_dir)
    foreign = (tmp_path / "other" / part.name).read_bytes()
    for contents in (other.read_bytes(), foreign):
        part.write_bytes(contents)
        with pytest.raises(UserError, match=r"part-000003\.parquet holds answers of another folder or place\. Move it"):
            write([frames], tmp_path / "out", run_dir)
    parquet.write_table(parquet.read_table(part).select(["name"]).replace_schema_metadata(), part)
    with pytest.raises(UserError, match="holds answers of another folder"):
        write([frames], tmp_path / "out", run_dir)
    part.unlink()
    assert write([frames], tmp_path / "out", run_dir) == (COUNT, 1)
    assert len(rows(tmp_path / "out")) == COUNT


def test_answers_in_files_of_another_length_are_not_continued(frames, run_dir, tmp_path, monkeypatch):
    # Else pictures would be lost between the files of one length and those of another.
    write([frames], tmp_path / "out", run_dir)
    (tmp_path / "out" / "part-000001.parquet").unlink()
    monkeypatch.setattr(shards, "PICTURES_A_SHARD", 4)
    with pytest.raises(UserError, match="holds answers for other pictures or of another network"):
        write([frames], tmp_path / "out", run_dir)


def test_no_picture_at_all_is_an_error(run_dir, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="There are no pictures"):
        write([tmp_path / "empty"], tmp_path / "out", run_dir)


def test_a_pattern_and_a_list_name_pictures(frames, run_dir, tmp_path):
    half = len(range(0, COUNT, 2))
    assert write([frames / "*.png"], tmp_path / "pattern", run_dir) == (half, 1)
    # As Windows writes it: with a mark before the first line, and two letters at the end of each.
    (tmp_path / "list.txt").write_bytes(f"\ufeff{frames}/000.png\r\n{frames}/below/001.png\r\n\r\n".encode())
    assert write([tmp_path / "list.txt"], tmp_path / "list", run_dir) == (2, 0)
    assert list(rows(tmp_path / "list")) == [f"{frames}/000.png", f"{frames}/below/001.png"]


@pytest.mark.parametrize("pattern", ["{}/**/*.png", "{}/**", "{}/**/below/*.png", "{}/b*/../**/0*.png", "{}/**/**/*"])
def test_links_in_a_circle_end_a_pattern_and_name_no_picture_twice(pattern, frames, tmp_path):
    folder = tmp_path / "frames [1]"
    shutil.copytree(frames, folder)
    for name in ("one", "below/two"):
        (folder / name).symlink_to(folder)
    (tmp_path / "elsewhere").mkdir()
    (folder / "below/001.png").rename(tmp_path / "elsewhere/0.png")
    (folder / "below/link").symlink_to(tmp_path / "elsewhere")
    found = list(shards.listed(pattern.format(tmp_path / "frames*")))
    assert len({os.path.realpath(name) for name in found}) == len(found) == (27 if "/below" in pattern else COUNT)


def test_a_name_that_is_no_text_is_escaped(run_dir, tmp_path):
    name = os.fsdecode(b"\xff")
    (tmp_path / name).mkdir()
    (tmp_path / name / f"{name}.png").write_bytes(small_model.picture(COLOURS[0]))
    (tmp_path / name / f"{name}.jpg").write_bytes(b"no picture")
    assert write([tmp_path / name], tmp_path / "out", run_dir) == (2, 1)
    assert sorted(rows(tmp_path / "out")) == [str(tmp_path / r"\xff" / rf"\xff.{end}") for end in ("jpg", "png")]
    assert write([tmp_path / name], tmp_path / "out", run_dir) == (2, 1)


def test_the_command_says_how_many_have_no_answer(frames, run_dir, tmp_path, capsys):
    out = tmp_path / "out"
    assert predict.main([str(frames), "--run", str(run_dir), "--out", str(out)]) == predict.SOME_UNANSWERED
    assert capsys.readouterr().out == f"Pictures in {out}: 57, of these without an answer (column `error`): 1.\n"


def test_a_folder_that_cannot_be_written_is_said(frames, run_dir, tmp_path, capsys):
    (tmp_path / "out").write_text("a file")
    assert predict.main([str(frames), "--run", str(run_dir), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith(f"error: The answers cannot be written to {tmp_path}/out: ")


def test_a_cluster_without_a_folder_for_the_answers_is_a_mistake(capsys):
    with pytest.raises(SystemExit, match="2"):
        predict.main(["a.png", "--cluster", "local"])
    assert "--cluster needs --out" in capsys.readouterr().err


PREDICT = """
import sys
from lib import predict, shards
shards.PICTURES_A_SHARD = 5
sys.exit(predict.main(sys.argv[1:]))
"""


def test_killed_anywhere_it_continues_and_loses_and_doubles_no_picture(frames, run_dir, tmp_path):
    write([frames], tmp_path / "whole", run_dir)
    out = tmp_path / "killed"
    command = [sys.executable, "-c", PREDICT, str(frames), "--run", str(run_dir), "--out", str(out)]
    moments = [lambda: (out / shards.LIST).exists(), lambda: (out / "part-000003.parquet").exists()]
    for moment in moments:
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and not moment():
                time.sleep(0.001)
            process.kill()
    write([frames], out, run_dir)
    assert rows(out) == rows(tmp_path / "whole")


# ---------------------------------------------------------------- videos


@pytest.fixture
def video(tmp_path):
    """Six seconds: two of each character."""
    path = tmp_path / "episode.avi"
    film = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for colour in COLOURS:
        for _ in range(20):
            film.write(np.full((48, 64, 3), colour[::-1], np.uint8))
    film.release()
    return path


def test_frames_of_a_video_are_rows_with_their_time(video, run_dir, tmp_path, capsys):
    out = tmp_path / "out"
    assert predict.main([str(video), "--run", str(run_dir), "--out", str(out), "--every", "0.5"]) == 0
    found = [row for path in sorted(out.glob("part-*.parquet")) for row in parquet.read_table(path).to_pylist()]
    assert [row["time"] for row in found] == [0.5 * n for n in range(12)]
    assert {row["picture"] for row in found} == {str(video)}
    assert [row["name"] for row in found] == [name for name in NAMES for _ in range(4)]
    assert report.main(["timeline", str(out)]) == 0
    (figure,) = out.glob("*.png")
    assert (figure.name, figure.read_bytes()[:4]) == ("timeline-000-episode.png", b"\x89PNG")


def test_moments_far_into_a_video_are_as_exact_as_at_its_beginning(monkeypatch):
    monkeypatch.setattr(shards, "_moments", lambda video, every: [0, 10_000, 10_000.04])
    expected = [f"/episode.mp4#t={time}" for time in ("0.000", "10000.000", "10000.040")]
    assert list(shards.listed("/episode.mp4", every=0.04)) == expected


def test_a_header_that_claims_endless_frames_is_not_believed(video):
    contents = bytearray(video.read_bytes())
    place = contents.index(b"strh") + 8
    contents[place + 32 : place + 36] = b"\xff\xff\xff\x7f"  # their number
    contents[place + 20 : place + 28] = b"\xff\xff\xff\x7f\1\0\0\0"  # and how many seconds each lasts
    video.write_bytes(contents)
    assert 1 < sum(1 for _ in shards.listed(str(video), 1)) < len(contents)


def test_a_frame_of_a_film_in_4k_is_answered(run_dir, tmp_path):
    path = tmp_path / "film.avi"
    film = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (3840, 2160))
    film.write(np.full((2160, 3840, 3), COLOURS[0][::-1], np.uint8))
    film.release()
    (row,) = shards.rows(Recogniser.load(run_dir), READ, [f"{path}#t=0.000"])
    assert (row["name"], row["error"]) == (NAMES[0], None)


@pytest.mark.parametrize("time", ["0.000", "--"])
def test_what_looks_like_a_frame_at_an_address_is_read_as_an_address(run_dir, time):
    # OpenCV would open it without looking whether it leads to this machine.
    (row,) = shards.rows(Recogniser.load(run_dir), READ, [f"http://127.0.0.1:9/episode.mp4#t={time}"])
    assert row["error"].endswith("If it is your own, add --allow-private-addresses.")
    assert list(shards.listed("http://127.0.0.1:9/episode.mp4", every=1.0)) == ["http://127.0.0.1:9/episode.mp4"]


def test_a_name_with_a_time_that_is_none_is_a_row_with_its_error(video, run_dir):
    (row,) = shards.rows(Recogniser.load(run_dir), READ, [f"{video}#t=--"])
    assert row["error"].startswith("There is no file")


def test_a_video_that_cannot_be_read_is_a_row_with_its_error(run_dir, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    assert shards.write([str(tmp_path)], tmp_path / "out", Recogniser.load(run_dir), READ, every=1.0) == (1, 1)
    assert rows(tmp_path / "out")[str(tmp_path / "broken.mp4")]["error"].startswith("The video has no frame at 0 s")


def test_the_name_of_a_video_need_not_be_valid_text(video, run_dir, tmp_path):
    odd = video.rename(tmp_path / os.fsdecode(b"\xff.avi"))
    assert shards.write([str(odd)], tmp_path / "out", Recogniser.load(run_dir), READ, every=3.0) == (2, 0)


@pytest.mark.parametrize("every", ["inf", "nan", "-1", "0.0001"])
def test_seconds_between_frames_that_are_none_are_a_mistake(every, video, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        predict.main([str(video), "--out", str(tmp_path / "out"), "--every", every])
    assert "a number of seconds of at least 0.001" in capsys.readouterr().err


def test_a_video_without_the_seconds_between_its_frames_is_a_mistake(video, run_dir, tmp_path):
    with pytest.raises(UserError, match=r"is a video\. Say how many seconds apart its frames are: --every 1\."):
        write([video], tmp_path / "out", run_dir)


@pytest.mark.parametrize("flipped", [True, False])
def test_a_timeline_of_damaged_answers_is_a_mistake(flipped, video, run_dir, tmp_path, capsys):
    part = tmp_path / "part-000000.parquet"
    if flipped:
        shards.write([str(video)], tmp_path, Recogniser.load(run_dir), READ, every=1.0)
        capsys.readouterr()
    part.write_bytes(with_a_flipped_bit(part.read_bytes()) if flipped else b"no table")
    assert report.main(["timeline", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path} cannot be read: ")


def test_a_timeline_of_pictures_is_a_mistake(frames, run_dir, tmp_path, capsys):
    write([frames], tmp_path / "out", run_dir)
    assert report.main(["timeline", str(tmp_path / "out")]) == 2
    assert "holds no frames of a video" in capsys.readouterr().err


# ---------------------------------------------------------------- elsewhere


@pytest.fixture(scope="module")
def dask_cluster(tmp_path_factory):
    with dask_processes.started(tmp_path_factory.mktemp("dask")) as cluster:
        yield cluster


@pytest.mark.slow
def test_a_killed_worker_costs_no_answer(frames, run_dir, tmp_path, dask_cluster, monkeypatch):
    write([frames], tmp_path / "whole", run_dir)
    written = []

    def kill_after_the_second(table, *arguments, **options):
        written.append(table)
        if len(written) == 2:
            dask_cluster.kill_a_worker()
        return write_table(table, *arguments, **options)

    write_table = parquet.write_table
    monkeypatch.setattr(parquet, "write_table", kill_after_the_second)
    assert write([frames], tmp_path / "out", run_dir, dask_cluster.address) == (COUNT, 1)
    assert rows(tmp_path / "out") == rows(tmp_path / "whole")


@pytest.mark.slow
def test_a_scheduler_that_dies_is_said_and_the_same_command_continues(frames, run_dir, tmp_path, monkeypatch):
    from lib import scheduler

    monkeypatch.setattr(scheduler, "CONNECT_SECONDS", 1)
    # The first picture is in no folder: that is its own row, and no worker's fault.
    (tmp_path / "list.txt").write_text("\n".join(["/nowhere/a.png", *map(str, sorted(frames.rglob("*.png")))]))
    write_table = parquet.write_table
    with dask_processes.started(tmp_path, workers=1) as alone:

        def kill_at_the_second(table, *arguments, **options):
            if list((tmp_path / "out").glob("part-*.parquet")):
                alone.scheduler.kill()
                alone.scheduler.wait()
            return write_table(table, *arguments, **options)

        monkeypatch.setattr(parquet, "write_table", kill_at_the_second)
        with pytest.raises(UserError, match=r"The cluster at tcp://.* has failed: .*The same command continues\."):
            write([tmp_path / "list.txt"], tmp_path / "out", run_dir, alone.address)
    monkeypatch.undo()
    monkeypatch.setattr(shards, "PICTURES_A_SHARD", 5)
    assert write([tmp_path / "list.txt"], tmp_path / "out", run_dir) == (COUNT + 1, 2)
    found = rows(tmp_path / "out")
    assert len(found) == COUNT + 1 and found["/nowhere/a.png"]["error"].startswith("There is no file")


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "tcp://", "nonsense://x"])
def test_no_scheduler_is_said(frames, run_dir, tmp_path, address, monkeypatch):
    from lib import scheduler

    monkeypatch.setattr(scheduler, "CONNECT_SECONDS", 1)
    with pytest.raises(UserError, match="No Dask scheduler with a worker answers at"):
        write([frames], tmp_path / "out", run_dir, address)
    gc.collect()  # Dask's client is closed here; where that happens while the next one starts, both wait for ever


@pytest.fixture
def bucket(monkeypatch):
    """A bucket of a real S3 server on this machine; gives its client."""
    import boto3
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    variables = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in (variables | {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}).items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()  # of the server of another test
    client = boto3.client("s3")
    client.create_bucket(Bucket="town")
    yield client
    server.stop()


def test_pictures_are_read_from_s3(run_dir, tmp_path, bucket):
    for number in range(7):
        key = f"frames/{'below/' if number % 2 else ''}{number}.png"
        bucket.put_object(Bucket="town", Key=key, Body=small_model.picture(COLOURS[number % 3]))
    bucket.put_object(Bucket="town", Key="frames/broken.png", Body=b"no picture")
    bucket.put_object(Bucket="town", Key="frames/notes.txt", Body=b"not listed")
    assert write(["s3://town/frames"], tmp_path / "out", run_dir) == (8, 1)
    found = rows(tmp_path / "out")
    assert found["s3://town/frames/below/1.png"]["name"] == NAMES[1]
    assert found["s3://town/frames/broken.png"]["error"].startswith("This is not a picture")
    assert write(["s3://town/frames/*.png"], tmp_path / "pattern", run_dir) == (5, 1)


@pytest.mark.parametrize("address", ["zip://frames::{}", "zip://frames/*::{}", "zip://::{}"])
def test_pictures_are_read_from_an_archive_at_its_address(run_dir, tmp_path, address):
    archive = tmp_path / "frames.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("frames/0.png", small_model.picture(COLOURS[0]))
        file.writestr("frames/1.png", small_model.picture(COLOURS[1]))
    assert write([address.format(archive)], tmp_path / "out", run_dir) == (2, 0)
    found = rows(tmp_path / "out")
    assert {picture: row["name"] for picture, row in found.items()} == {
        f"zip://frames/{number}.png::{archive}": NAMES[number] for number in range(2)
    }


def test_an_archive_at_a_web_address_is_not_listed(run_dir, tmp_path, capsys):
    arguments = ["zip://::http://127.0.0.1:9/a.zip", "--out", str(tmp_path / "out"), "--run", str(run_dir)]
    assert predict.main(arguments) == 2
    assert "Download it; or add --allow-private-addresses" in capsys.readouterr().err


def test_a_folder_below_a_pattern_that_cannot_be_listed_is_a_row_of_its_own(tmp_path, monkeypatch):
    def walk(top, onerror, **options):
        onerror(PermissionError(13, "Permission denied", f"{top}/lost+found"))
        yield str(top), [], []

    (tmp_path / "a.png").touch()
    monkeypatch.setattr(shards.os, "walk", walk)
    names = [Path(name).name for name in shards.listed(f"{tmp_path}/**/*.png")]
    assert names == ["a.png", "lost+found"]


def test_a_link_that_leads_to_itself_hides_no_picture(tmp_path):
    for name in ("a.png", "z.png", "below/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "loop").symlink_to("loop")
    names = {Path(name).relative_to(tmp_path).as_posix() for name in shards.pictures_below(str(tmp_path))}
    assert names == {"a.png", "z.png", "below/b.png"}


def test_a_video_in_a_list_gets_an_answer_that_says_what_is_missing(tmp_path):
    (tmp_path / "list.txt").write_text("a.png\nepisode.mp4\n")
    assert [Path(name).name for name in shards.listed(str(tmp_path / "list.txt"))] == ["a.png", "episode.mp4"]


def test_more_characters_than_the_files_have_are_a_mistake(tmp_path, capsys):
    with pytest.raises(SystemExit):
        predict.main(["a.png", "--all", "--out", str(tmp_path / "out")])
    assert "--out writes the 3 most probable characters" in capsys.readouterr().err


def test_a_folder_in_a_list_is_said_to_be_one(frames):
    with pytest.raises(UserError, match="or is in a list, which names pictures alone"):
        READ(str(frames))


SERVERS = [
    "zip://0.png::http://127.0.0.1:9/a.zip",
    "filecache://x::HTTPS://127.0.0.1/a.png",
    "webhdfs://10.0.0.1:9870/frames/0.png",
    "FTP://pictures/0.png",
    "tar://0.png::simplecache::sftp://pictures/a.tar",
    "zip://0.png::jupyter",
]


@pytest.mark.parametrize("address", SERVERS)
def test_an_address_that_names_a_server_leads_nowhere_unless_that_is_allowed(address, monkeypatch):
    monkeypatch.setattr(shards, "_read_address", lambda address: b"read")
    with pytest.raises(UserError, match="Download it; or add --allow-private-addresses"):
        shards.read_picture(address, allow_private=False, any_address=True)
    assert shards.read_picture(address, allow_private=True, any_address=True) == b"read"


@pytest.mark.parametrize(
    "address", ["s3://b/0.png", "github://o:r@main/0.png", "zip://0.png::simplecache::s3://b/a.zip"]
)
def test_a_store_of_a_provider_needs_no_permission(address, monkeypatch):
    monkeypatch.setattr(shards, "_read_address", lambda address: b"read")
    assert shards.read_picture(address, allow_private=False, any_address=True) == b"read"


def test_a_folder_of_an_address_that_cannot_be_listed_is_not_passed_over(run_dir, tmp_path, monkeypatch):
    def ls(self, path, **options):
        if path.endswith("below"):
            raise PermissionError("access denied")
        return [{"name": f"{path}/0.png", "type": "file"}, {"name": f"{path}/below", "type": "directory"}]

    monkeypatch.setattr(memory.MemoryFileSystem, "ls", ls)
    monkeypatch.setattr(memory.MemoryFileSystem, "isdir", lambda *arguments: True)
    with pytest.raises(UserError, match="memory://frames cannot be listed: access denied"):
        list(shards.listed("memory://frames"))


@pytest.mark.parametrize(
    "address",
    [
        *("http://me:it@[fe80::1]/x.png", "ftp://me:it@host/a::b.png", "s3://k:it@b/x::y"),
        *("http://host/a?from=//me:it@other", "https:////me:it@host/x.png"),
    ],
)
def test_a_password_is_found_wherever_it_stands(address):
    with pytest.raises(UserError, match="has a password, which would stand beside every answer"):
        shards._absolute(address)


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("chain", ["", "zip://a::", "simplecache::"])
def test_a_password_in_an_address_is_not_kept_beside_the_answers(run_dir, tmp_path, listed, chain):
    address, shown = (f"{chain}ftp://{who}@pictures.example/frames" for who in ("me:se@cret", "…"))
    (tmp_path / "list.txt").write_text(address)
    with pytest.raises(UserError) as problem:
        write([tmp_path / "list.txt" if listed else address], tmp_path / "out", run_dir)
    assert str(problem.value).startswith(f"{shown} has a password")
    assert "FSSPEC_FTP_PASSWORD" in str(problem.value)
    assert not any(b"cret" in path.read_bytes() for path in (tmp_path / "out").glob("*"))


def test_an_address_that_cannot_be_listed_is_said(run_dir, tmp_path, bucket):
    with pytest.raises(UserError, match=r"There are no pictures .* in s3://nowhere/frames/\*"):
        write(["s3://nowhere/frames/*"], tmp_path / "out", run_dir)
    with pytest.raises(UserError, match="abc://x cannot be listed"):
        write(["abc://x"], tmp_path / "other", run_dir)


def test_without_the_extra_the_message_says_what_to_install(frames, run_dir, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[predictions\]'"):
        write([frames], tmp_path / "out", run_dir)
