"""The published network and its records agree."""

import hashlib
import json

import pytest

from lib import paths, records
from lib.evaluation import card
from lib.inference.recogniser import Recogniser, load_best

# The records of the networks that know 18 characters are beside it, without a network.
FOLDER = paths.PUBLISHED / "springfield"


@pytest.fixture(scope="module")
def network():
    return Recogniser.load(FOLDER)


def test_the_published_network_is_the_default():
    assert load_best().run_dir == FOLDER


def test_labels_are_the_characters_with_at_least_25_frames_in_alphabetical_order(network):
    assert network.characters == sorted(network.characters) and len(network.characters) == 38
    assert network.characters == records.read_run(FOLDER)["characters"]
    assert {"homer_simpson", "krusty_the_clown", "maggie_simpson", "sideshow_bob"} <= set(network.characters)


def test_the_input_is_as_recorded(network):
    assert network.picture_size == records.read_run(FOLDER)["picture_size"]
    assert network.resize_mode == records.read_run(FOLDER)["resize_mode"]


def test_the_network_is_small(network):
    assert network.record["num_parameters"] <= 2_000_000
    assert (FOLDER / records.LITERT_MODEL).stat().st_size <= 4_000_000


@pytest.mark.parametrize("name", records.BESIDE_RUNS)
def test_a_table_beside_the_runs_says_of_which_pictures_it_is(name):
    record = records.read_record((paths.PUBLISHED / name).with_suffix(".json"))
    assert record["data_name"].startswith("the-simpsons-characters-dataset-no-kaggle-test")


def test_the_model_card_is_written_from_the_records():
    # To write it again: (FOLDER / records.MODEL_CARD).write_text(card.model_card(FOLDER), encoding="utf-8")
    assert (FOLDER / records.MODEL_CARD).read_text(encoding="utf-8") == card.model_card(FOLDER)
    assert hashlib.sha256((FOLDER / records.LITERT_MODEL).read_bytes()).hexdigest() in card.model_card(FOLDER)


@pytest.mark.parametrize("name", records.BESIDE_RUNS)
def test_the_tables_beside_the_runs_are_as_they_were_written(name):
    assert (paths.PUBLISHED / name).with_suffix(".json").is_file()
    records.verified(paths.PUBLISHED / name)


def test_no_frames_are_published():
    for path in paths.PUBLISHED.rglob("*.png"):
        assert path.stem in {"confusion_matrix", "learning_curves", "per_character", "robustness", "comparison"}, path


def test_no_record_has_an_absolute_path():
    for path in paths.PUBLISHED.rglob("*.json"):
        assert not any(str(value).startswith("/") for value in _leaves(json.loads(path.read_text()))), path


def _leaves(value):
    if isinstance(value, dict):
        return [leaf for part in value.values() for leaf in _leaves(part)]
    return [leaf for part in value for leaf in _leaves(part)] if isinstance(value, list) else [value]
