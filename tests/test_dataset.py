import shutil

import numpy as np
import pandas as pd
import pytest

from lib import records
from lib.data import dataset, pictures
from lib.data.preparation import Preparation
from lib.errors import UserError
from tests.noise_pictures import brighter, noise, prepare, write, write_two_characters


@pytest.fixture
def raw(tmp_path):
    return write_two_characters(tmp_path / "raw")


@pytest.fixture
def processed(tmp_path):
    return tmp_path / "processed"


# ---------------------------------------------------------------- load


def test_rows_of_the_images_are_the_decoded_pictures(raw, processed):
    prepare(raw, processed, picture_size=32, resize_mode="pad")
    data = dataset.load(processed)
    assert data.images.shape == (40, 32, 32, 3)
    for row in data.table.iloc[[0, 17, 39]].itertuples():
        expected = pictures.decode((raw / row.path).read_bytes(), 32, "pad")
        np.testing.assert_array_equal(data.images[row.image], expected)


def test_the_manifest_is_loaded_as_it_was_returned(raw, processed):
    (raw / "bart").rename(raw / "NA")  # a name that pandas by default reads as missing
    (raw / "lisa" / 'a "quoted", name.png').write_bytes(b"broken")
    table = prepare(raw, processed)
    pd.testing.assert_frame_equal(dataset.load(processed).table, table)
    assert "NA" in set(table.character)
    assert not table.isna().any().any()


def test_labels_follow_the_sorted_characters(raw, processed):
    (raw / "bart" / "00.png").write_bytes(b"broken")
    prepare(raw, processed)
    data = dataset.load(processed)
    assert data.characters == ["bart", "lisa"]
    assert data.labels.tolist() == [0] * 19 + [1] * 20


def test_excluded_pictures_have_the_label_minus_one(raw, processed):
    write(raw / "apu" / "0.png", noise(700))
    prepare(raw, processed)
    assert dataset.load(processed).labels.tolist() == [-1] + [0] * 20 + [1] * 20


def test_rows_and_groups_of_a_split_are_in_the_order_of_the_table(raw, processed):
    (raw / "bart" / "00.png").write_bytes(b"broken")
    prepare(raw, processed)
    data = dataset.load(processed)
    test = data.table[data.table.split == "test"]
    assert data.rows("test").tolist() == test.image.tolist()
    assert data.groups("test").tolist() == test.group.tolist()


def test_the_preparation_is_loaded(raw, processed):
    prepare(raw, processed, picture_size=32, resize_mode="pad", seed=3)
    expected = Preparation(picture_size=32, resize_mode="pad", min_pictures=5, seed=3)
    assert dataset.load(processed).preparation == expected


@pytest.mark.parametrize("name", [dataset.IMAGES, dataset.SETTINGS, dataset.MANIFEST])
def test_a_missing_file_is_named(raw, processed, name):
    prepare(raw, processed)
    (processed / name).unlink()
    with pytest.raises(UserError, match=rf"{name} is missing.*make data"):
        dataset.load(processed)


def test_an_unknown_setting_is_reported_with_the_file(raw, processed):
    prepare(raw, processed)
    files = records.digests(processed, dataset.MANIFEST, dataset.IMAGES)
    records.write_record(processed / dataset.SETTINGS, {"size": 64}, files)
    with pytest.raises(UserError, match=rf"{dataset.SETTINGS} is damaged or of another version.*`size`.*make data"):
        dataset.load(processed)


def test_pictures_without_digests_are_prepared_again(raw, processed):
    prepare(raw, processed)
    settings = records.read_record(processed / dataset.SETTINGS)
    records.write_json(processed / dataset.SETTINGS, {name: settings[name] for name in settings if name != "files"})
    with pytest.raises(UserError, match=rf"{dataset.SETTINGS} has no digest of it\. Delete .* and run `make data`"):
        dataset.load(processed)


def test_a_manifest_other_than_expected_is_rejected(raw, processed):
    prepare(raw, processed)
    digest = dataset.load(processed).manifest_sha256
    assert dataset.load(processed, expected_sha256=digest).manifest_sha256 == digest
    prepare(raw, processed, seed=1)
    with pytest.raises(UserError, match=r"prepared again since the run was trained.*make train"):
        dataset.load(processed, expected_sha256=digest)


# ---------------------------------------------------------------- counts and leakage


def test_counts_have_a_row_a_character_and_a_column_a_split(raw, processed):
    found = dataset.counts(prepare(raw, processed))
    assert found.index.tolist() == ["bart", "lisa"] and found.columns.tolist() == ["train", "validation", "test"]


def test_exclusion_counts_name_every_reason(raw, processed):
    shutil.copy(raw / "bart" / "03.png", raw / "bart" / "99.png")
    write(raw / "kaggle_test" / "apu" / "0.png", noise(700))
    found = dataset.exclusion_counts(prepare(raw, processed))
    assert found.index.tolist() == list(dataset.REASONS)
    assert found.frames.to_dict() == {reason: int(reason == dataset.EXACT_COPY) for reason in dataset.REASONS}
    assert found.kaggle_test.to_dict() == {reason: int(reason == dataset.TOO_FEW) for reason in dataset.REASONS}


def test_the_summary_counts_the_excluded_and_names_the_first_unreadable(raw, processed):
    table = prepare(raw, processed)
    assert dataset.exclusion_summary(table) == "Excluded pictures: none"
    for name in ("90.png", "91.png"):
        (raw / "bart" / name).write_bytes(b"")
    shutil.copy(raw / "bart" / "03.png", raw / "bart" / "99.png")
    found = dataset.exclusion_summary(prepare(raw, processed))
    expected = "Excluded pictures: 2 unreadable, 1 exact copy (first: bart/90.png: The file is empty (0 bytes)."
    assert found.startswith(expected)


def test_characters_that_are_mostly_one_group_are_named(raw, processed):
    table = prepare(raw, processed)
    assert dataset.chain_summary(table) == ""
    bart = table.character == "bart"
    table.loc[bart & (table.split == "train"), "group"] = -2
    train = (bart & (table.split == "train")).sum()
    assert dataset.chain_summary(table).startswith(
        f"Mostly one group of near-duplicates, all in one split: bart ({train} of {bart.sum()} pictures). If they are"
    )


def test_train_duplicates_of_a_random_split_are_found(raw, processed):
    for number in range(20):
        write(raw / "bart" / f"{number:02}b.png", brighter(noise(number)))
    table = prepare(raw, processed, split="random")
    groups_in_train = table.group[table.split == "train"]  # each group is a single picture or a pair
    expected = table.group[table.split == "test"].isin(groups_in_train)
    np.testing.assert_array_equal(dataset.train_duplicates(table, processed, "test"), expected)
    assert expected.any()
