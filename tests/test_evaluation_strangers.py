"""What a recogniser does with strangers, pairs and boxes."""

import numpy as np
import pytest

from lib.evaluation import strangers
from lib.inference import recogniser
from lib.inference.recogniser import Recogniser
from tests import small_model


@pytest.fixture
def few(monkeypatch):
    """Fewer strangers than a result needs, where it matters what is asked and not how often."""
    monkeypatch.setattr(strangers, "DRAWN", 20)


def test_strangers_are_of_several_kinds_and_follow_from_the_seed(few):
    far, again = (strangers.far(24, "stretch") for _ in range(2))
    assert all(strange.shape[1:] == (24, 24, 3) and len(strange) >= 20 for strange in far.values())
    assert all((far[kind] == again[kind]).all() for kind in far)
    other = strangers.far(24, "stretch", split="validation")
    assert all(far[kind].shape != other[kind].shape or (far[kind] != other[kind]).any() for kind in far)


def by_halves(_, picture):
    """See red (first) or green (second) in each half, and nobody in grey pictures."""
    class_map = np.zeros((4, 4, 3), np.float32)
    for columns, half in ((slice(0, 2), picture[:, :8]), (slice(2, 4), picture[:, 8:])):
        colour = half.reshape(-1, 3).mean(axis=0)
        if colour.max() - colour.min() > 60:
            class_map[:, columns, colour.argmax()] = 0.9
    seen = class_map.max(axis=(0, 1))
    probabilities = np.append(seen / max(1, (seen > 0).sum()), 0.1)
    return (probabilities if seen.any() else np.array([0, 0, 0, 1])).astype(np.float32), class_map


def test_a_recogniser_that_sees_everything_scores_full_marks(tmp_path, monkeypatch, few):
    monkeypatch.setattr(recogniser._Network, "__call__", by_halves)
    metadata = {"nobody": True, "threshold": 0.5, "second_threshold": 0.7}
    network = Recogniser.load(small_model.write_run(tmp_path / "run", metadata=metadata))
    originals = [np.full((32, 32, 3), 128, np.uint8) for _ in range(20)]
    actual = np.arange(20) % 2
    for picture, label in zip(originals, actual, strict=True):
        picture[:, :, label] = 250
    places = np.tile([0.0, 0.0, 1.0, 1.0], (20, 1))
    found = strangers.summary(network, originals, actual, places)
    assert (found["named"], found["both_found"], found["second_name"]) == (1.0, 1.0, 0.0)
    assert (found["pointing"], found["box_overlap"]) == (1.0, 1.0)
    assert set(found["declined_though_right"]) == set(strangers.STRANGER_STYLES)
    assert found["named_strangers"]["patterns"] < 1
    numbers = found["numbers"]
    assert (numbers["named"], numbers["pointing"], numbers["photographs"]) == (20, 20, 20)
    assert 0 < numbers["both_found"] < 20  # not two of one character
    table = strangers.table(found).set_index("pictures")
    row = table.loc["one figure alone, a second name"]
    assert (row.fraction, row.number, row.low) == (0, 20, 0) and row.high == pytest.approx(0.161, abs=1e-3)  # Wilson
    older = strangers.table({name: value for name, value in found.items() if name != "numbers"})
    assert older[["number", "low", "high"]].isna().all(axis=None)


def test_pictures_of_one_character_make_no_pair(tmp_path, monkeypatch, few):
    monkeypatch.setattr(recogniser._Network, "__call__", by_halves)
    metadata = {"nobody": True, "threshold": 0.5, "second_threshold": 0.7}
    network = Recogniser.load(small_model.write_run(tmp_path / "run", metadata=metadata))
    originals = [np.full((32, 32, 3), (250, 0, 0), np.uint8)] * 3
    found = strangers.summary(network, originals, np.zeros(3, int), np.full((3, 4), np.nan))
    assert "both_found" not in found and found["named"] == 1


def test_without_a_class_map_places_are_not_measured(tmp_path, few):
    network = Recogniser.load(small_model.write_run(tmp_path / "run"))
    originals = [np.full((32, 32, 3), (250, 0, 0), np.uint8)] * 3
    found = strangers.summary(network, originals, np.zeros(3, int), np.full((3, 4), np.nan))
    assert "pointing" not in found and found["named"] == 1
    # Nobody is recognised in some of the styles: there is no fraction of nothing, which no record can hold.
    wrong = strangers.summary(network, originals, np.ones(3, int), np.full((3, 4), np.nan))
    assert wrong["declined_though_right"] == {} and len(strangers.table(wrong)) == 7
