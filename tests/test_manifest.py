import os
import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from lib import paths
from lib.data import duplicates, manifest, pictures
from lib.errors import UserError

ARCHIVE = Path(
    os.environ.get("SIMPSONS_ARCHIVE") or paths.ROOT.parent / "shared" / "data" / "the-simpsons-characters-dataset.zip"
)
SPLITS = ["train", "validation", "test"]


def drawn(number):
    """A picture of coarse coloured noise; no two numbers give near-copies."""
    coarse = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=0).repeat(8, axis=1)


def faint(number, grey):
    """A picture near a grey level: its thumbnail tells the level, its hash is another for each number."""
    noise = np.random.default_rng(number).integers(-3, 4, (16, 16, 1))
    return (noise + grey).astype(np.uint8).repeat(4, axis=0).repeat(4, axis=1).repeat(3, axis=2)


def write(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture[..., ::-1])


def brighter(picture):
    """A near-copy: 5 grey levels away."""
    return np.minimum(picture, 250) + np.uint8(5)


def prepared(raw, processed, **settings):
    return manifest.prepare(raw, processed, **{"min_pictures": 5, "progress": False, **settings})


def row_of(table, path):
    return table[table.path == path].iloc[0]


@pytest.fixture
def raw(tmp_path):
    """Two characters with 20 pictures each."""
    folder = tmp_path / "raw"
    for index, character in enumerate(("bart", "lisa")):
        for number in range(20):
            write(folder / character / f"{number:02}.png", drawn(100 * index + number))
    return folder


@pytest.fixture
def processed(tmp_path):
    return tmp_path / "processed"


# ---------------------------------------------------------------- table and pixels


def test_one_row_a_picture_sorted_by_path(raw, processed):
    table = prepared(raw, processed)
    assert list(table.columns[:9]) == [
        *("path", "character", "width", "height", "sha256", "group", "split", "left_out", "image")
    ]
    assert table.path.tolist() == sorted(f"{c}/{n:02}.png" for c in ("bart", "lisa") for n in range(20))
    assert (table.character == table.path.str.split("/").str[0]).all()


def test_rows_of_the_images_are_the_decoded_pictures(raw, processed):
    prepared(raw, processed, picture_size=32, fit="pad")
    images, table = manifest.load(processed)
    assert images.shape == (40, 32, 32, 3)
    for row in table.iloc[[0, 17, 39]].itertuples():
        expected = pictures.decode((raw / row.path).read_bytes(), 32, "pad")
        np.testing.assert_array_equal(images[row.image], expected)


def test_several_processes_write_the_same_as_one(raw, processed, tmp_path, monkeypatch):
    prepared(raw, processed)
    monkeypatch.setattr(manifest, "SERIAL_UP_TO", 0)
    monkeypatch.setattr(manifest, "CHUNK", 3)
    prepared(raw, tmp_path / "parallel")
    for name in (manifest.IMAGES, manifest.MANIFEST, manifest.NEAR_COPIES):
        assert (processed / name).read_bytes() == (tmp_path / "parallel" / name).read_bytes()


def test_width_and_height_are_those_of_the_file(raw, processed):
    write(raw / "bart" / "wide.png", np.concatenate([drawn(500), drawn(501)], axis=1))
    row = row_of(prepared(raw, processed), "bart/wide.png")
    assert (row.width, row.height) == (128, 64)


def test_hidden_files_and_files_beside_the_folders_are_passed_over(raw, processed):
    (raw / "source.json").write_text("{}")
    (raw / "bart" / ".DS_Store").write_bytes(b"x")
    (raw / ".cache").mkdir()
    (raw / ".cache" / "x.png").write_bytes(b"x")
    assert len(prepared(raw, processed)) == 40


def test_the_manifest_comes_back_as_it_was_returned(raw, processed):
    (raw / "bart").rename(raw / "NA")  # a name that pandas takes for nothing
    (raw / "lisa" / 'a "quoted", name.png').write_bytes(b"broken")
    table = prepared(raw, processed)
    pd.testing.assert_frame_equal(manifest.load(processed)[1], table)
    assert "NA" in set(table.character)
    assert not table.isna().any().any()


def test_labels_follow_the_sorted_characters(raw, processed):
    (raw / "bart" / "00.png").write_bytes(b"broken")
    table = prepared(raw, processed)
    assert manifest.characters(table) == ["bart", "lisa"]
    assert manifest.labels(table, 39).tolist() == [0] * 19 + [1] * 20


def test_labels_are_minus_one_for_what_is_left_out(raw, processed):
    write(raw / "apu" / "0.png", drawn(700))
    table = prepared(raw, processed)
    assert manifest.labels(table, 41).tolist() == [-1] + [0] * 20 + [1] * 20


def test_settings_are_kept(raw, processed):
    prepared(raw, processed, picture_size=32, fit="pad", seed=3)
    expected = dict(picture_size=32, fit="pad", min_pictures=5, split="grouped", seed=3, exclude_kaggle_test=False)
    assert manifest.settings(processed) == expected


# ---------------------------------------------------------------- left out


def test_an_unreadable_picture_is_kept_in_the_table_with_the_reason(raw, processed):
    (raw / "bart" / "broken.jpg").write_bytes(b"no picture")
    row = row_of(prepared(raw, processed), "bart/broken.jpg")
    assert (row.left_out, row.split, row.image, row.group) == (manifest.UNREADABLE, "", -1, -1)
    assert "not a picture" in row.detail


def test_of_exact_copies_the_first_stays(raw, processed):
    shutil.copy(raw / "bart" / "03.png", raw / "bart" / "99.png")
    table = prepared(raw, processed)
    assert row_of(table, "bart/99.png").left_out == manifest.EXACT_COPY
    assert row_of(table, "bart/03.png").left_out == ""


def test_the_same_picture_under_two_labels_is_left_out_under_both(raw, processed):
    write(raw / "lisa" / "copy.png", np.minimum(drawn(3), 254) + np.uint8(1))
    table = prepared(raw, processed)
    left_out = table[table.left_out == manifest.TWO_LABELS]
    assert left_out.path.tolist() == ["bart/03.png", "lisa/copy.png"]


def test_a_neighbouring_frame_under_another_label_stays(raw, processed):
    write(raw / "lisa" / "neighbour.png", brighter(drawn(3)))
    table = prepared(raw, processed)
    assert row_of(table, "lisa/neighbour.png").left_out == ""
    assert row_of(table, "lisa/neighbour.png").group == row_of(table, "bart/03.png").group


@pytest.mark.parametrize(("min_pictures", "kept"), [(7, ["apu", "bart", "lisa"]), (8, ["bart", "lisa"])])
def test_characters_with_fewer_pictures_are_left_out(raw, processed, min_pictures, kept):
    for number in range(7):
        write(raw / "apu" / f"{number}.png", drawn(300 + number))
    assert manifest.characters(prepared(raw, processed, min_pictures=min_pictures)) == kept


def test_what_is_left_out_does_not_count_as_a_picture_of_the_character(raw, processed):
    for number in range(4):
        write(raw / "apu" / f"{number}.png", drawn(300 + number))
    shutil.copy(raw / "apu" / "0.png", raw / "apu" / "copy.png")
    (raw / "apu" / "broken.png").write_bytes(b"no picture")
    table = prepared(raw, processed)
    assert table[table.character == "apu"].left_out.value_counts().to_dict() == {
        manifest.TOO_FEW: 4,
        manifest.EXACT_COPY: 1,
        manifest.UNREADABLE: 1,
    }


def test_left_out_counts_name_every_reason(raw, processed):
    shutil.copy(raw / "bart" / "03.png", raw / "bart" / "99.png")
    found = manifest.left_out_counts(prepared(raw, processed))
    assert found.index.tolist() == list(manifest.REASONS)
    assert found.frames.to_dict() == {reason: int(reason == manifest.EXACT_COPY) for reason in manifest.REASONS}


# ---------------------------------------------------------------- splits


@pytest.mark.parametrize("split", manifest.SPLITS)
def test_every_character_is_divided_70_15_15(raw, processed, split):
    found = manifest.counts(prepared(raw, processed, split=split))
    assert found.to_dict("split")["data"] == [[14, 3, 3], [14, 3, 3]]
    assert found.index.tolist() == ["bart", "lisa"] and found.columns.tolist() == SPLITS


def test_near_copies_stay_in_one_split_and_shares_hold(raw, processed):
    for number in range(0, 20, 2):
        write(raw / "bart" / f"{number:02}b.png", brighter(drawn(number)))
    table = prepared(raw, processed)
    assert (table.groupby("group").split.nunique() == 1).all()
    assert manifest.counts(table).loc["bart"].sub([21, 4.5, 4.5]).abs().max() <= 1
    assert manifest.leaks(table, processed, "test").sum() == 0


def test_a_group_of_two_characters_stays_in_one_split(raw, processed):
    for number in range(6):
        write(raw / "lisa" / f"near-{number}.png", brighter(drawn(number)))
    table = prepared(raw, processed)
    mixed = table.groupby("group").filter(lambda group: group.character.nunique() == 2)
    assert mixed.group.nunique() == 6
    assert (mixed.groupby("group").split.nunique() == 1).all()


def test_a_random_split_leaks_and_says_how_much(raw, processed):
    for number in range(20):
        write(raw / "bart" / f"{number:02}b.png", brighter(drawn(number)))
    table = prepared(raw, processed, split="random")
    groups_in_train = table.group[table.split == "train"]  # each group is a single picture or a pair
    expected = table.group[table.split == "test"].isin(groups_in_train).sum()
    assert manifest.leaks(table, processed, "test").sum() == expected > 0


def test_the_split_follows_from_the_seed(raw, processed, tmp_path):
    first, again = prepared(raw, processed, seed=1), prepared(raw, tmp_path / "again", seed=1)
    other = prepared(raw, tmp_path / "other", seed=2)
    pd.testing.assert_frame_equal(first, again)
    assert (first.split != other.split).any()


def test_the_split_is_the_same_at_every_picture_size_and_fit(raw, processed, tmp_path):
    for number in range(10):
        write(raw / "bart" / f"{number:02}b.png", brighter(drawn(number)))
    small, padded = prepared(raw, processed), prepared(raw, tmp_path / "padded", picture_size=96, fit="pad")
    pd.testing.assert_frame_equal(small, padded)


# ---------------------------------------------------------------- the archive's own test set


@pytest.fixture
def with_test_set(raw):
    """A test set: a near-copy of bart/03, a stranger, and a character that has no frames."""
    write(raw / "kaggle_test" / "bart" / "bart_0.png", brighter(drawn(3)))
    write(raw / "kaggle_test" / "lisa" / "lisa_0.png", drawn(900))
    write(raw / "kaggle_test" / "apu" / "apu_0.png", drawn(901))
    return raw


def test_the_test_set_is_a_split_of_its_own(with_test_set, processed):
    table = prepared(with_test_set, processed)
    assert table[table.split == "kaggle_test"].path.tolist() == [
        "kaggle_test/bart/bart_0.png",
        "kaggle_test/lisa/lisa_0.png",
    ]
    assert row_of(table, "kaggle_test/apu/apu_0.png").left_out == manifest.TOO_FEW
    assert row_of(table, "kaggle_test/bart/bart_0.png").character == "bart"
    assert manifest.counts(table)["kaggle_test"].tolist() == [1, 1]


def test_the_test_set_does_not_touch_the_other_splits(raw, with_test_set, processed, tmp_path):
    write(with_test_set / "kaggle_test" / "lisa" / "bridge.png", (drawn(3) // 2 + drawn(4) // 2))
    shutil.copy(raw / "lisa" / "05.png", raw / "kaggle_test" / "lisa" / "same.png")
    with_it = prepared(with_test_set, processed)
    shutil.rmtree(raw / "kaggle_test")
    without = prepared(raw, tmp_path / "without")
    frames = with_it[~with_it.path.str.startswith("kaggle_test/")].reset_index(drop=True)
    pd.testing.assert_frame_equal(frames[["path", "split", "left_out"]], without[["path", "split", "left_out"]])


def test_a_test_picture_does_not_join_groups_of_frames(raw, processed):
    chain = {"bart/a.png": faint(1, 100), "kaggle_test/bart/b.png": faint(2, 112), "lisa/c.png": faint(3, 124)}
    for name, picture in chain.items():
        write(raw / name, picture)
    joined = duplicates.near_duplicate_groups(*duplicates.fingerprint(np.stack(list(chain.values()))))
    assert joined.tolist() == [0, 0, 0]
    table = prepared(raw, processed)
    assert len({row_of(table, name).group for name in chain}) == 3


def test_leaks_into_the_test_set_are_counted(with_test_set, processed):
    for number in range(8):  # so many that some are in train
        write(with_test_set / "bart" / f"03-{number}.png", brighter(drawn(3)) - np.uint8(number % 5))
    table = prepared(with_test_set, processed, split="random")
    assert manifest.leaks(table, processed, "kaggle_test").sum() == 1


def test_frames_that_match_the_test_set_can_be_left_out_with_their_group(raw, processed):
    write(raw / "kaggle_test" / "bart" / "bart_0.png", faint(1, 100))
    write(raw / "bart" / "near.png", faint(2, 112))
    write(raw / "lisa" / "chained.png", faint(3, 124))
    table = prepared(raw, processed, exclude_kaggle_test=True)
    left_out = table[table.left_out == manifest.IN_TEST_SET].path.tolist()
    assert left_out == ["bart/near.png", "lisa/chained.png"]
    assert manifest.leaks(table, processed, "kaggle_test").sum() == 0
    assert (table.split == "kaggle_test").sum() == 1


def test_copies_inside_the_test_set_stay(with_test_set, processed):
    own = with_test_set / "kaggle_test" / "bart"
    shutil.copy(own / "bart_0.png", own / "bart_1.png")
    assert (prepared(with_test_set, processed).split == "kaggle_test").sum() == 3


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"picture_size": 15}, "16 to 512 pixels, not 15"),
        ({"picture_size": 513}, "16 to 512 pixels, not 513"),
        ({"fit": "crop"}, "stretch, pad, bounded, not 'crop'"),
        ({"split": "half"}, "grouped, random, not 'half'"),
        ({"min_pictures": 0}, "1 or more, not 0"),
        ({"min_pictures": 21}, "No character has at least 21 .* bart has the most, 20, .* MIN_PICTURES=20"),
    ],
)
def test_arguments_out_of_range_are_named(raw, processed, settings, says):
    with pytest.raises(UserError, match=says):
        prepared(raw, processed, **settings)
    assert not processed.exists() or not list(processed.iterdir())


def test_one_character_with_enough_pictures_is_too_few(raw, processed):
    for number in range(15):
        (raw / "lisa" / f"{number:02}.png").unlink()
    with pytest.raises(UserError, match=r"Only bart has at least 6 .* lisa comes next with 5"):
        prepared(raw, processed, min_pictures=6)


def test_one_folder_is_too_few(raw, processed):
    shutil.rmtree(raw / "lisa")
    with pytest.raises(UserError, match=r"Only bart has pictures .* at least two characters"):
        prepared(raw, processed)


def test_no_readable_picture_is_said(tmp_path, processed):
    (tmp_path / "raw" / "bart").mkdir(parents=True)
    (tmp_path / "raw" / "bart" / "1.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match="No picture that can be used"):
        prepared(tmp_path / "raw", processed)


@pytest.mark.parametrize("exists", [True, False])
def test_a_missing_and_an_empty_folder_are_named(tmp_path, processed, exists):
    if exists:
        (tmp_path / "raw").mkdir()
    with pytest.raises(UserError, match="raw"):
        prepared(tmp_path / "raw", processed)


def test_a_character_that_cannot_be_in_all_splits_is_named(raw, processed):
    for number in range(5):
        write(raw / "apu" / f"{number}.png", drawn(300) // 2 + np.uint8(number))
    with pytest.raises(UserError, match="apu has 5 usable pictures in 1 groups"):
        prepared(raw, processed)


def test_too_few_pictures_for_three_splits_are_named(tmp_path, processed):
    for number, character in enumerate(["bart", "homer"]):
        write(tmp_path / "raw" / character / "1.png", drawn(number))
    with pytest.raises(UserError, match="bart has 1 usable pictures in 1 groups"):
        prepared(tmp_path / "raw", processed, min_pictures=1)


def test_a_character_of_test_pictures_alone_is_named(raw, processed):
    for number in range(3):
        write(raw / "apu" / f"{number}.png", drawn(300 + number))
        write(raw / "kaggle_test" / "apu" / f"{number}.png", drawn(300 + number))
    with pytest.raises(UserError, match="apu has 0 usable pictures"):
        prepared(raw, processed, min_pictures=3, exclude_kaggle_test=True)


def test_three_pictures_are_enough_for_three_splits(raw, processed):
    for number in range(3):
        write(raw / "apu" / f"{number}.png", drawn(300 + number))
    assert manifest.counts(prepared(raw, processed, min_pictures=3)).loc["apu"].tolist() == [1, 1, 1]


def test_a_folder_that_cannot_be_written_is_said(raw, processed):
    processed.write_text("a file")
    with pytest.raises(UserError, match="cannot be prepared in"):
        prepared(raw, processed)


def test_a_failed_preparation_leaves_the_earlier_result(raw, processed):
    before = prepared(raw, processed)
    with pytest.raises(UserError):
        prepared(raw, processed, min_pictures=100)
    pd.testing.assert_frame_equal(manifest.load(processed)[1], before)
    assert sorted(path.name for path in processed.iterdir()) == sorted(
        [manifest.IMAGES, manifest.NEAR_COPIES, manifest.SETTINGS, manifest.MANIFEST]
    )


@pytest.mark.parametrize("name", [manifest.IMAGES, manifest.SETTINGS, manifest.MANIFEST])
def test_a_missing_part_is_said(raw, processed, name):
    prepared(raw, processed)
    (processed / name).unlink()
    with pytest.raises(UserError, match=rf"{name} is missing.*make data"):
        manifest.load(processed)


@pytest.mark.parametrize("name", [manifest.IMAGES, manifest.SETTINGS, manifest.MANIFEST])
def test_a_cut_off_part_is_said(raw, processed, name):
    prepared(raw, processed)
    path = processed / name
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=rf"{name} is damaged.*make data"):
        manifest.load(processed)


def test_images_of_another_preparation_are_noticed(raw, processed, tmp_path):
    prepared(raw, processed)
    prepared(raw, tmp_path / "other", picture_size=32)
    shutil.copy(tmp_path / "other" / manifest.IMAGES, processed / manifest.IMAGES)
    with pytest.raises(UserError, match="should hold 40 pictures of 64"):
        manifest.load(processed)


def test_damaged_pairs_are_noticed(raw, processed):
    table = prepared(raw, processed)
    np.save(processed / manifest.NEAR_COPIES, np.array([[0, 40]]))
    with pytest.raises(UserError, match="near_copies"):
        manifest.leaks(table, processed)


def test_a_manifest_other_than_expected_is_refused(raw, processed):
    prepared(raw, processed)
    digest = manifest.manifest_sha256(processed)
    manifest.load(processed, expected_sha256=digest)
    prepared(raw, processed, seed=1)
    with pytest.raises(UserError, match="prepared anew"):
        manifest.load(processed, expected_sha256=digest)


# ---------------------------------------------------------------- the Simpsons archive


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """The raw folder of the archive, laid out as `sources.fetch` does."""
    if not ARCHIVE.is_file():
        pytest.skip(f"no Simpsons archive at {ARCHIVE}; SIMPSONS_ARCHIVE names another place")
    raw = tmp_path_factory.mktemp("archive") / "raw"
    with zipfile.ZipFile(ARCHIVE) as entries:
        for name in entries.namelist():
            parts = name.split("/")
            if parts[0] == "simpsons_dataset" and len(parts) == 3 and parts[2]:
                place = raw / parts[1] / parts[2]
            elif parts[0] == "kaggle_simpson_testset" and parts[-1].endswith(".jpg"):
                place = raw / "kaggle_test" / parts[-1].rpartition("_")[0] / parts[-1]
            else:
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(entries.read(name))
    return raw


@pytest.mark.slow
def test_the_archive_on_a_grouped_split(archive, processed):
    table = manifest.prepare(archive, processed, exclude_kaggle_test=True, progress=False)
    found = manifest.counts(table)
    assert len(table) == 18_775 + 990
    assert len(found) == 18
    assert [manifest.leaks(table, processed, name).sum() for name in ("validation", "test", "kaggle_test")] == [0, 0, 0]
    shares = found[SPLITS].div(found[SPLITS].sum(axis="columns"), axis="index")
    assert (shares - [0.70, 0.15, 0.15]).abs().to_numpy().max() < 0.01
    two_labels = table[table.left_out == manifest.TWO_LABELS].path.tolist()
    assert two_labels == ["chief_wiggum/pic_0258.jpg", "krusty_the_clown/pic_0345.jpg"]
    assert (table.split == "kaggle_test").sum() == 890


@pytest.mark.slow
def test_the_archive_on_a_random_split_leaks(archive, processed):
    table = manifest.prepare(archive, processed, split="random", progress=False)
    assert manifest.leaks(table, processed, "test").sum() > 0.2 * (table.split == "test").sum()
    assert manifest.leaks(table, processed, "kaggle_test").sum() > 0.6 * (table.split == "kaggle_test").sum()


def test_characters_that_join_leave_the_test_pictures_of_the_others_where_they_were(raw, tmp_path):
    for number in range(8):
        write(raw / "maggie" / f"{number:02}.png", drawn(200 + number))
    write(raw / "maggie" / "08.png", brighter(drawn(0)))  # a near-copy of bart's first picture
    alone = prepared(raw, tmp_path / "two", min_pictures=20).set_index("path").split
    joined = prepared(raw, tmp_path / "three", divide_first=20).set_index("path").split
    studied = alone[alone != ""].index
    assert len(studied) == 40
    assert (joined[studied] == alone[studied]).all()
    assert joined["maggie/08.png"] == joined["bart/00.png"]
    assert set(joined[joined.index.str.startswith("maggie")]) == set(SPLITS)
    assert manifest.settings(tmp_path / "three")["divide_first"] == 20
