import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from lib import paths
from lib.data import corrections, dataset, duplicates, manifest, sources
from lib.errors import UserError
from tests.noise_pictures import brighter, noise, prepare, write, write_two_characters

ARCHIVE = Path(
    os.environ.get("SIMPSONS_ARCHIVE") or paths.ROOT.parent / "shared" / "data" / "the-simpsons-characters-dataset.zip"
)
SPLITS = ["train", "validation", "test"]


def faint(number, grey):
    """Make a picture close to one grey level; its hash differs for each number."""
    noise = np.random.default_rng(number).integers(-3, 4, (16, 16, 1))
    return (noise + grey).astype(np.uint8).repeat(4, axis=0).repeat(4, axis=1).repeat(3, axis=2)


def row_of(table, path):
    return table[table.path == path].iloc[0]


@pytest.fixture
def raw(tmp_path):
    return write_two_characters(tmp_path / "raw")


@pytest.fixture
def processed(tmp_path):
    return tmp_path / "processed"


def verdict(table, path, verdict):
    row = row_of(table, path)
    return (path, row.sha256, row.character, verdict, "me", "2026-01-01")


def test_a_picture_that_was_kept_is_not_excluded_for_one_that_a_reviewer_excluded(raw, processed):
    write(raw / "lisa" / "also.png", noise(3))  # which is bart/03.png
    write(raw / "lisa" / "again.png", noise(100))  # which is lisa/00.png
    table = prepare(raw, processed)
    assert row_of(table, "lisa/also.png").exclusion_reason == dataset.TWO_LABELS
    assert row_of(table, "lisa/again.png").exclusion_reason == dataset.EXACT_COPY or (
        row_of(table, "lisa/00.png").exclusion_reason == dataset.EXACT_COPY
    )
    rows = [verdict(table, *each) for each in (("lisa/also.png", "exclude"), ("lisa/00.png", "exclude"))]
    rows.append(verdict(table, "bart/03.png", "keep"))
    table = prepare(raw, processed, corrected=pd.DataFrame(rows, columns=list(corrections.COLUMNS)))
    assert row_of(table, "bart/03.png").exclusion_reason == row_of(table, "lisa/again.png").exclusion_reason == ""


# ---------------------------------------------------------------- table and pixels


def test_one_row_a_picture_sorted_by_path(raw, processed):
    table = prepare(raw, processed)
    assert list(table.columns[:9]) == [
        *("path", "character", "width", "height", "sha256", "group", "split", "exclusion_reason", "image")
    ]
    assert table.path.tolist() == sorted(f"{c}/{n:02}.png" for c in ("bart", "lisa") for n in range(20))
    assert (table.character == table.path.str.split("/").str[0]).all()


def test_several_processes_write_the_same_as_one(raw, processed, tmp_path, monkeypatch):
    prepare(raw, processed)
    monkeypatch.setattr(manifest, "SERIAL_UP_TO", 0)
    monkeypatch.setattr(manifest, "CHUNK", 3)
    monkeypatch.setattr(manifest, "PENDING_CHUNKS", 1)
    prepare(raw, tmp_path / "parallel")
    for name in (dataset.IMAGES, dataset.MANIFEST, dataset.NEAR_DUPLICATES):
        assert (processed / name).read_bytes() == (tmp_path / "parallel" / name).read_bytes()


def kill_worker(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_process_is_reported(raw, processed, monkeypatch):
    monkeypatch.setattr(manifest, "SERIAL_UP_TO", 0)
    monkeypatch.setattr(manifest, "_decode_chunk", kill_worker)
    with pytest.raises(UserError, match="A process that decodes pictures was killed"):
        prepare(raw, processed)
    assert not list(processed.iterdir())


def test_width_and_height_are_those_of_the_file(raw, processed):
    write(raw / "bart" / "wide.png", np.concatenate([noise(500), noise(501)], axis=1))
    row = row_of(prepare(raw, processed), "bart/wide.png")
    assert (row.width, row.height) == (128, 64)


def test_hidden_files_and_files_beside_the_folders_are_skipped(raw, processed):
    (raw / "notes.json").write_text("{}")
    (raw / "bart" / ".DS_Store").write_bytes(b"x")
    (raw / ".cache").mkdir()
    (raw / ".cache" / "x.png").write_bytes(b"x")
    assert len(prepare(raw, processed)) == 40


# ---------------------------------------------------------------- exclusion


def test_an_unreadable_picture_is_kept_in_the_table_with_the_reason(raw, processed):
    (raw / "bart" / "broken.jpg").write_bytes(b"no picture")
    row = row_of(prepare(raw, processed), "bart/broken.jpg")
    assert (row.exclusion_reason, row.split, row.image, row.group) == (dataset.UNREADABLE, "", -1, -1)
    assert "not a picture" in row.detail


def test_of_exact_copies_the_first_stays(raw, processed):
    shutil.copy(raw / "bart" / "03.png", raw / "bart" / "99.png")
    table = prepare(raw, processed)
    assert row_of(table, "bart/99.png").exclusion_reason == dataset.EXACT_COPY
    assert row_of(table, "bart/03.png").exclusion_reason == ""


def test_the_same_picture_under_two_labels_is_excluded_under_both(raw, processed):
    write(raw / "lisa" / "copy.png", np.minimum(noise(3), 254) + np.uint8(1))
    table = prepare(raw, processed)
    excluded = table[table.exclusion_reason == dataset.TWO_LABELS]
    assert excluded.path.tolist() == ["bart/03.png", "lisa/copy.png"]


def test_a_neighbouring_frame_under_another_label_stays(raw, processed):
    write(raw / "lisa" / "neighbour.png", brighter(noise(3)))
    table = prepare(raw, processed)
    assert row_of(table, "lisa/neighbour.png").exclusion_reason == ""
    assert row_of(table, "lisa/neighbour.png").group == row_of(table, "bart/03.png").group


@pytest.mark.parametrize(("min_pictures", "kept"), [(7, ["apu", "bart", "lisa"]), (8, ["bart", "lisa"])])
def test_characters_with_fewer_pictures_are_excluded(raw, processed, min_pictures, kept):
    for number in range(7):
        write(raw / "apu" / f"{number}.png", noise(300 + number))
    assert dataset.characters(prepare(raw, processed, min_pictures=min_pictures)) == kept


def test_excluded_pictures_do_not_count_for_the_character(raw, processed):
    for number in range(4):
        write(raw / "apu" / f"{number}.png", noise(300 + number))
    shutil.copy(raw / "apu" / "0.png", raw / "apu" / "copy.png")
    (raw / "apu" / "broken.png").write_bytes(b"no picture")
    table = prepare(raw, processed)
    assert table[table.character == "apu"].exclusion_reason.value_counts().to_dict() == {
        dataset.TOO_FEW: 4,
        dataset.EXACT_COPY: 1,
        dataset.UNREADABLE: 1,
    }


# ---------------------------------------------------------------- splits


@pytest.mark.parametrize("split", ["grouped", "random", "resampled"])
def test_every_character_is_divided_70_15_15(raw, processed, split):
    found = dataset.counts(prepare(raw, processed, split=split))
    assert found.to_dict("split")["data"] == [[14, 3, 3], [14, 3, 3]]


def test_near_duplicates_stay_in_one_split_and_the_fractions_hold(raw, processed):
    for number in range(0, 20, 2):
        write(raw / "bart" / f"{number:02}b.png", brighter(noise(number)))
    table = prepare(raw, processed)
    assert (table.groupby("group").split.nunique() == 1).all()
    assert dataset.counts(table).loc["bart"].sub([21, 4.5, 4.5]).abs().max() <= 1
    assert dataset.train_duplicates(table, processed, "test").sum() == 0


def test_a_group_of_two_characters_stays_in_one_split(raw, processed):
    for number in range(6):
        write(raw / "lisa" / f"near-{number}.png", brighter(noise(number)))
    table = prepare(raw, processed)
    mixed = table.groupby("group").filter(lambda group: group.character.nunique() == 2)
    assert mixed.group.nunique() == 6
    assert (mixed.groupby("group").split.nunique() == 1).all()


def test_a_resampled_split_has_copies_on_both_sides(with_test_set, processed):
    write(with_test_set / "bart" / "near.png", brighter(noise(3)))
    table = prepare(with_test_set, processed, split="resampled")
    frames = table[~dataset.in_official_test(table)]
    drawn = frames[frames.split != ""]
    assert drawn.character.value_counts().to_dict() == {"bart": 21, "lisa": 20}  # as many as there are
    left = frames[frames.split == ""]
    assert len(left) and set(left.exclusion_reason) == {dataset.NOT_DRAWN}
    assert not set(left.path) & set(drawn.path)
    assert drawn.duplicated(["path", "image", "group"]).sum() == len(left)
    # A test picture leaks if it, or the one picture that it is nearly the same as, was drawn for train too.
    known = set(drawn.path[drawn.split == "train"])
    twins = {"bart/03.png": "bart/near.png", "bart/near.png": "bart/03.png"}
    for split in ("validation", "test"):
        expected = [path in known or twins.get(path) in known for path in table.path[table.split == split]]
        assert dataset.train_duplicates(table, processed, split).tolist() == expected
    assert len(dataset.load(processed).rows("train")) == (drawn.split == "train").sum()
    pd.testing.assert_frame_equal(table, prepare(with_test_set, processed, split="resampled"))


def test_the_split_follows_from_the_seed(raw, processed, tmp_path):
    first, again = prepare(raw, processed, seed=1), prepare(raw, tmp_path / "again", seed=1)
    other = prepare(raw, tmp_path / "other", seed=2)
    pd.testing.assert_frame_equal(first, again)
    assert (first.split != other.split).any()


def test_the_split_is_the_same_at_every_picture_size_and_resize_mode(raw, processed, tmp_path):
    for number in range(10):
        write(raw / "bart" / f"{number:02}b.png", brighter(noise(number)))
    small, padded = prepare(raw, processed), prepare(raw, tmp_path / "padded", picture_size=96, resize_mode="pad")
    pd.testing.assert_frame_equal(small, padded)


# ---------------------------------------------------------------- the archive's own test set


@pytest.fixture
def with_test_set(raw):
    """Add a test set: a near-duplicate of bart/03, an unrelated picture, and a character without frames."""
    write(raw / "kaggle_test" / "bart" / "bart_0.png", brighter(noise(3)))
    write(raw / "kaggle_test" / "lisa" / "lisa_0.png", noise(900))
    write(raw / "kaggle_test" / "apu" / "apu_0.png", noise(901))
    return raw


def test_the_test_set_is_a_split_of_its_own(with_test_set, processed):
    table = prepare(with_test_set, processed)
    assert table[table.split == "kaggle_test"].path.tolist() == [
        "kaggle_test/bart/bart_0.png",
        "kaggle_test/lisa/lisa_0.png",
    ]
    assert row_of(table, "kaggle_test/apu/apu_0.png").exclusion_reason == dataset.TOO_FEW
    assert row_of(table, "kaggle_test/bart/bart_0.png").character == "bart"
    assert dataset.counts(table)["kaggle_test"].tolist() == [1, 1]


def test_the_test_set_does_not_change_the_other_splits(raw, with_test_set, processed, tmp_path):
    write(with_test_set / "kaggle_test" / "lisa" / "bridge.png", (noise(3) // 2 + noise(4) // 2))
    shutil.copy(raw / "lisa" / "05.png", raw / "kaggle_test" / "lisa" / "same.png")
    with_it = prepare(with_test_set, processed)
    shutil.rmtree(raw / "kaggle_test")
    without = prepare(raw, tmp_path / "without")
    frames = with_it[~with_it.path.str.startswith("kaggle_test/")].reset_index(drop=True)
    pd.testing.assert_frame_equal(
        frames[["path", "split", "exclusion_reason"]], without[["path", "split", "exclusion_reason"]]
    )


def test_a_test_picture_does_not_join_groups_of_frames(raw, processed):
    chain = {"bart/a.png": faint(1, 100), "kaggle_test/bart/b.png": faint(2, 112), "lisa/c.png": faint(3, 124)}
    for name, picture in chain.items():
        write(raw / name, picture)
    pairs = duplicates.near_duplicate_pairs(*duplicates.fingerprint(np.stack(list(chain.values()))))
    assert pairs.tolist() == [[0, 1], [1, 2]]
    table = prepare(raw, processed)
    assert len({row_of(table, name).group for name in chain}) == 3


def test_leaks_into_the_test_set_are_counted(with_test_set, processed):
    for number in range(8):  # so many that some are in train
        write(with_test_set / "bart" / f"03-{number}.png", brighter(noise(3)) - np.uint8(number % 5))
    table = prepare(with_test_set, processed, split="random")
    assert dataset.train_duplicates(table, processed, "kaggle_test").sum() == 1


def test_frames_that_match_the_test_set_can_be_excluded_with_their_group(raw, processed):
    write(raw / "kaggle_test" / "bart" / "bart_0.png", faint(1, 100))
    write(raw / "bart" / "near.png", faint(2, 112))
    write(raw / "lisa" / "chained.png", faint(3, 124))
    table = prepare(raw, processed, exclude_kaggle_test=True)
    excluded = table[table.exclusion_reason == dataset.IN_TEST_SET].path.tolist()
    assert excluded == ["bart/near.png", "lisa/chained.png"]
    assert dataset.train_duplicates(table, processed, "kaggle_test").sum() == 0
    assert (table.split == "kaggle_test").sum() == 1


def test_copies_inside_the_test_set_stay(with_test_set, processed):
    own = with_test_set / "kaggle_test" / "bart"
    shutil.copy(own / "bart_0.png", own / "bart_1.png")
    assert (prepare(with_test_set, processed).split == "kaggle_test").sum() == 3


# ---------------------------------------------------------------- a split that the source brings


def write_given(raw, splits=("train", "validation", "test"), characters=("bart", "lisa")):
    for number, split in enumerate(splits):
        for index, character in enumerate(characters):
            for each in range(8):
                write(raw / split / character / f"{each}.png", noise(1000 * number + 100 * index + each))


def test_a_given_split_is_kept(tmp_path, processed):
    write_given(tmp_path / "raw")
    table = prepare(tmp_path / "raw", processed, split="given")
    assert (table.split == table.path.str.split("/").str[0]).all()
    assert dataset.characters(table) == ["bart", "lisa"]
    pooled = prepare(tmp_path / "raw", processed)
    assert (pooled.split != pooled.path.str.split("/").str[0]).any()


def test_without_a_validation_of_its_own_it_is_taken_from_train(tmp_path, processed):
    write_given(tmp_path / "raw", ("train", "test"))
    table = prepare(tmp_path / "raw", processed, split="given")
    folder = table.path.str.split("/").str[0]
    assert (table.split[folder == "test"] == "test").all()
    found = dataset.counts(table)
    assert found.validation.between(1, 2).all() and (found.train + found.validation == 8).all()


def test_a_source_without_a_split_has_none_to_give(raw, processed):
    with pytest.raises(UserError, match=r"there is no test and no train\. Use SPLIT=grouped"):
        prepare(raw, processed, split="given")


def test_every_character_that_lacks_a_split_is_named(tmp_path, processed):
    write_given(tmp_path / "raw", characters=("bart", "lisa", "apu"))
    for character in ("bart", "lisa"):
        shutil.rmtree(tmp_path / "raw" / "test" / character)
    with pytest.raises(UserError) as problem:
        prepare(tmp_path / "raw", processed, split="given")
    lines = str(problem.value).splitlines()
    assert [line.split(" has no usable picture in test")[0] for line in lines] == ["bart", "lisa"]


# ---------------------------------------------------------------- plain drawings


def drawn(number, shape):
    """Draw a filled or outlined shape on white, somewhere."""
    rng = np.random.default_rng(number)
    picture = np.full((64, 64, 3), 255, np.uint8)
    (x, y), r, colour = rng.integers(15, 49, 2).tolist(), int(rng.integers(6, 15)), rng.integers(0, 200, 3).tolist()
    thickness = -1 if number % 2 else 2
    if shape == "circle":
        cv2.circle(picture, (x, y), r, colour, thickness)
    else:
        cv2.rectangle(picture, (x - r, y - r), (x + r, y + r), colour, thickness)
    return picture


def test_plain_drawings_are_no_near_duplicates_of_each_other(tmp_path, processed):
    for number in range(60):
        for shape in ("circle", "square"):
            write(tmp_path / "raw" / shape / f"{number:02}.png", drawn(number, shape))
    table = prepare(tmp_path / "raw", processed)
    assert (table.exclusion_reason == "").all()
    assert table.groupby("group").size().max() <= 3
    shutil.copy(tmp_path / "raw" / "circle" / "00.png", tmp_path / "raw" / "square" / "copy.png")
    table = prepare(tmp_path / "raw", processed)
    assert table[table.exclusion_reason == dataset.TWO_LABELS].path.tolist() == ["circle/00.png", "square/copy.png"]


def test_frames_of_one_colour_are_near_duplicates_and_the_same_picture_if_equal(raw, processed):
    black = np.zeros((64, 64, 3), np.uint8)
    for path, level in {"bart/black.png": 0, "lisa/black.png": 0, "lisa/nearly.png": 1, "bart/grey.png": 9}.items():
        write(raw / path, black + np.uint8(level))
    table = prepare(raw, processed)
    assert table[table.exclusion_reason == dataset.TWO_LABELS].path.tolist() == ["bart/black.png", "lisa/black.png"]
    assert row_of(table, "lisa/nearly.png").group == row_of(table, "bart/black.png").group
    assert row_of(table, "bart/grey.png").group != row_of(table, "bart/black.png").group


def test_the_limits_are_settings(raw, processed):
    write(raw / "bart" / "one.png", faint(1, 100))
    write(raw / "bart" / "other.png", faint(2, 112))  # 12 grey levels away
    assert len(np.unique(prepare(raw, processed).group)) == 41
    assert len(np.unique(prepare(raw, processed, near_rms=5.0).group)) == 42


# ---------------------------------------------------------------- errors


def test_too_few_characters_are_named_with_the_number_that_would_do(raw, processed):
    with pytest.raises(UserError, match=r"21 usable pictures or more; .* bart \(20\), lisa \(20\).*MIN_PICTURES=20"):
        prepare(raw, processed, min_pictures=21)
    assert not list(processed.iterdir())


def test_two_characters_need_enough_pictures(raw, processed):
    for number in range(15):
        (raw / "lisa" / f"{number:02}.png").unlink()
    with pytest.raises(UserError, match=r"bart \(20\), lisa \(5\).*MIN_PICTURES=5"):
        prepare(raw, processed, min_pictures=6)


def test_one_folder_is_too_few(raw, processed):
    shutil.rmtree(raw / "lisa")
    with pytest.raises(UserError, match=r"At least two characters.* bart \(20\)\. Add pictures\."):
        prepare(raw, processed)


def test_a_source_without_a_readable_picture_is_rejected(tmp_path, processed):
    (tmp_path / "raw" / "bart").mkdir(parents=True)
    (tmp_path / "raw" / "bart" / "1.jpg").write_bytes(b"x")
    message = r"those with the most are: none\. Add pictures\. Excluded.*1 unreadable \(first: bart/1\.jpg: This is not"
    with pytest.raises(UserError, match=message):
        prepare(tmp_path / "raw", processed)


def test_a_character_that_cannot_be_in_all_splits_is_named(raw, processed):
    for number in range(5):
        write(raw / "apu" / f"{number}.png", noise(300) // 2 + np.uint8(number))
    message = (
        "apu has 5 usable pictures in 1 group of near-duplicates.*NEAR_RMS and NEAR_BITS.*SPLIT=random.*MIN_PICTURES"
    )
    with pytest.raises(UserError, match=message):
        prepare(raw, processed)


def test_too_few_pictures_for_three_splits_are_named(tmp_path, processed):
    for number, character in enumerate(["bart", "homer"]):
        write(tmp_path / "raw" / character / "1.png", noise(number))
    with pytest.raises(UserError, match="bart has 1 usable picture in 1 group"):
        prepare(tmp_path / "raw", processed, min_pictures=1)


def test_a_character_of_test_pictures_alone_is_named(raw, processed):
    for number in range(3):
        write(raw / "apu" / f"{number}.png", noise(300 + number))
        write(raw / "kaggle_test" / "apu" / f"{number}.png", noise(300 + number))
    with pytest.raises(UserError, match="apu has 0 usable pictures in 0 groups"):
        prepare(raw, processed, min_pictures=3, exclude_kaggle_test=True)


def test_three_pictures_are_enough_for_three_splits(raw, processed):
    for number in range(3):
        write(raw / "apu" / f"{number}.png", noise(300 + number))
    assert dataset.counts(prepare(raw, processed, min_pictures=3)).loc["apu"].tolist() == [1, 1, 1]


def test_a_folder_that_cannot_be_written_is_named(raw, processed):
    processed.write_text("a file")
    with pytest.raises(UserError, match="cannot be prepared in"):
        prepare(raw, processed)


def test_a_failed_preparation_leaves_the_earlier_result(raw, processed):
    before = prepare(raw, processed)
    with pytest.raises(UserError):
        prepare(raw, processed, min_pictures=100)
    pd.testing.assert_frame_equal(dataset.load(processed).table, before)
    assert sorted(path.name for path in processed.iterdir()) == sorted(
        [dataset.IMAGES, dataset.NEAR_DUPLICATES, dataset.SETTINGS, dataset.MANIFEST]
    )


def test_the_notebook_of_the_preparation_loads_neither_tensorflow_nor_keras():
    cells = json.loads((paths.NOTEBOOKS / "01_prepare.ipynb").read_text(encoding="utf-8"))["cells"]
    imports = ["".join(cell["source"]) for cell in cells if "import " in "".join(cell["source"])]
    check = "\nimport sys; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    command = [sys.executable, "-c", "\n".join(imports) + check]
    assert subprocess.run(command, cwd=paths.ROOT, check=False).returncode == 0


# ---------------------------------------------------------------- the Simpsons archive


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    if not ARCHIVE.is_file():
        pytest.skip(f"no Simpsons archive at {ARCHIVE}; SIMPSONS_ARCHIVE names another place")
    return sources.fetch(str(ARCHIVE), "archive", tmp_path_factory.mktemp("raw"))


def digest(table, columns):
    return hashlib.sha256(table[columns].to_csv(index=False).encode()).hexdigest()[:16]


@pytest.mark.slow
def test_the_archive_on_a_grouped_split(archive, processed):
    table = prepare(archive, processed, min_pictures=290, exclude_kaggle_test=True)
    found = dataset.counts(table)
    characters = table.groupby(dataset.in_official_test(table)).character
    assert (characters.size().tolist(), characters.nunique().tolist()) == ([18_775, 990], [42, 20])
    assert len(found) == 18
    columns = ["path", "character", "sha256", "group", "split", "exclusion_reason"]
    assert digest(table, columns) == "69eae5b729f5d3a1"  # the published runs depend on it
    assert [
        dataset.train_duplicates(table, processed, name).sum() for name in ("validation", "test", "kaggle_test")
    ] == [0, 0, 0]
    fractions = found[SPLITS].div(found[SPLITS].sum(axis="columns"), axis="index")
    assert (fractions - [0.70, 0.15, 0.15]).abs().to_numpy().max() < 0.01
    two_labels = table[table.exclusion_reason == dataset.TWO_LABELS].path.tolist()
    assert two_labels == ["chief_wiggum/pic_0258.jpg", "krusty_the_clown/pic_0345.jpg"]
    assert (table.split == "kaggle_test").sum() == 890


def test_rare_characters_leave_the_splits_of_the_frequent_ones_as_they_are(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "FREQUENT", 20)
    for number in range(8):
        write(raw / "maggie" / f"{number:02}.png", noise(200 + number))
    write(raw / "maggie" / "08.png", brighter(noise(0)))  # a near-duplicate of bart's first picture
    frequent = prepare(raw, tmp_path / "two", min_pictures=20).set_index("path").split
    everyone = prepare(raw, tmp_path / "three", min_pictures=5).set_index("path").split
    studied = frequent[frequent != ""].index
    assert len(studied) == 40
    assert (everyone[studied] == frequent[studied]).all()
    assert everyone["maggie/08.png"] == everyone["bart/00.png"]
    assert set(everyone[everyone.index.str.startswith("maggie")]) == set(SPLITS)
