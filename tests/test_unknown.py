"""The benchmark of unknown characters: what is left out, what is scored, and the notebook on a tiny set."""

import dataclasses

import keras
import nbformat
import numpy as np
import pandas as pd
import pytest

from lib import paths, records
from lib.data import clipart, leave_out
from lib.errors import UserError
from lib.evaluation import findings, strangers, unknown
from lib.training import networks
from lib.training.recipe import Recipe
from tests import small_data
from tests.noise_pictures import noise, prepare, write


def of_counts(**counts):
    """A set of prepared pictures with so many training pictures of each character, and one of test."""
    names = [name for name, count in counts.items() for _ in range(count + 1)]
    split = [part for count in counts.values() for part in ["train"] * count + ["test"]]
    data = small_data.dataset()
    table = pd.DataFrame({"character": names, "split": split, "image": np.arange(len(names))})
    return dataclasses.replace(data, table=table, images=np.zeros((len(names), 16, 16, 3), np.uint8))


def test_one_character_of_each_band_of_equally_frequent_ones_is_left_out():
    data = of_counts(a=40, b=30, c=9, d=8, e=3, f=2)
    chosen = [leave_out.choose(data, 3, seed) for seed in range(20)]
    for frequent, middle, rare in chosen:
        assert frequent in "ab" and middle in "cd" and rare in "ef"
    assert len({tuple(each) for each in chosen}) > 1 and chosen[0] == leave_out.choose(data, 3, 0)


def test_two_characters_at_least_remain():
    assert len(leave_out.choose(of_counts(a=4, b=4, c=4, d=4, e=4), 10, 0)) == 3
    for data, number in ((of_counts(a=4, b=4), 1), (of_counts(a=4, b=4, c=4), 0)):
        with pytest.raises(UserError, match=f"At least one character is left out, not {number}, and two stay"):
            leave_out.choose(data, number, 0)


def test_what_is_left_out_is_in_no_split_and_keeps_its_own():
    every = of_counts(a=4, b=3, c=2)
    data = leave_out.without(every, ["b"])
    assert data.characters == ["a", "c"]
    assert not set(data.rows("train")) & set(leave_out.rows(every, ["b"], "train"))
    assert leave_out.rows(every, ["b"], "test").tolist() == [8]
    assert data.manifest_sha256 != every.manifest_sha256 != leave_out.without(every, ["a"]).manifest_sha256


def test_every_score_is_higher_for_a_sure_answer_than_for_a_doubtful_one():
    logits = np.array([[9.0, 0.0, -2.0], [1.0, 0.8, 3.0]])
    features = np.array([[1.0, 0.1], [-1.0, 1.0]])
    maps = np.zeros((2, 2, 2, 2), np.float32)
    maps[0, 0, 0, 0] = 0.9
    found = unknown.scores(logits, features, np.array([[2.0, 0.0], [3.0, 0.5]]), maps, 0.5)
    assert (found.iloc[0] > found.iloc[1]).all()
    assert found["energy, without nobody"][0] == pytest.approx(np.log(np.exp(9.0) + 1))
    assert found["probability of anybody"][1] == pytest.approx(1 - np.exp(3) / np.exp([1.0, 0.8, 3.0]).sum())


def test_two_characters_that_the_map_shows_count_together():
    logits = np.log([[0.5, 0.4, 0.1]])
    maps = np.zeros((1, 2, 2, 2), np.float32)
    maps[0, 0, 0, 0] = maps[0, 1, 1, 1] = 0.9
    found = unknown.scores(logits, np.ones((1, 2)), np.ones((1, 2)), maps, 0.5)
    assert found["probability of all that the map shows"][0] == pytest.approx(0.9)
    assert found["largest probability"][0] == pytest.approx(0.5)


def one_score(values):
    return pd.DataFrame({"good": values, "useless": np.zeros(len(values))})


def test_the_table_chooses_on_validation_and_reports_test():
    known, strange = np.linspace(0.5, 1, 100), np.linspace(0, 0.4, 50)
    validation = {"known": one_score(known), "left out": one_score(strange)}
    test = validation | {"cats": one_score(np.full(10, 0.9)), "styles": one_score(np.array([0.9, 0.1, 0.1]))}
    right = {"styles": np.array([True, True, False])}
    table = unknown.table(validation, test, right)
    best = table.iloc[0]
    assert table.score.tolist() == ["good", "useless"]
    assert (best.validation_auroc, best.auroc, best.fpr_at_95_tpr) == (1, 1, 0)
    assert (best.known_named, best.unknown_named, best.strangers_named, best.changed_declined) == (0.97, 0, 1, 0.5)
    assert table.auroc[1] == 0.5
    # Three of four above both, the last above one of two: 7 of 8 pairs. The known all reach 0.2, as one of two does.
    part = {"known": one_score(np.array([0.9, 0.8, 0.7, 0.2])), "left out": one_score(np.array([0.6, 0.1]))}
    mixed = unknown.table(part, part, {}).iloc[0]
    assert (mixed.auroc, mixed.fpr_at_95_tpr) == (0.875, 0.5)
    assert "100 of 100 pairs" in findings.unknown(table)


def test_features_and_logits_are_those_that_the_answers_come_from():
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("float32")
    model = networks.build(Recipe(network="springfield", width=16, class_map=True), 3, 32)
    pictures = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    answers, found = model.predict_on_batch(pictures), networks.with_features(model).predict_on_batch(pictures)
    weights = np.exp(found["logits"])
    np.testing.assert_allclose(weights / weights.sum(axis=1, keepdims=True), answers["probabilities"], atol=1e-5)
    np.testing.assert_allclose(found["class_map"], answers["class_map"], atol=1e-6)
    assert found["features"].shape == (2, 8 * 16)


@pytest.mark.slow
def test_the_notebook_leaves_a_character_out_and_writes_the_table(tmp_path, monkeypatch):
    """Its cells are run here, where TensorFlow is loaded; `test_notebooks.py` runs notebooks as make does."""
    monkeypatch.setattr(strangers, "DRAWN", 20)
    monkeypatch.setattr(clipart, "load", lambda split, size, mode: np.zeros((5, size, size, 3), np.uint8))
    for place, name in enumerate(("bart_simpson", "homer_simpson", "lisa_simpson")):
        for number in range(20):
            write(tmp_path / "raw" / name / f"{number:02}.png", noise(100 * place + number))
    prepared = tmp_path / "prepared"  # as an absolute path it is the folder of the outputs too
    prepare(tmp_path / "raw", prepared, picture_size=32)
    small = {"width": 16, "epochs": 1, "progressive_fraction": 0.0, "drawings_per_character": 0}
    given = {"data_name": str(prepared), "overrides": small, "number": 1, "changed_pictures": 2}
    names = {}
    for cell in nbformat.read(paths.NOTEBOOKS / "07_unknown.ipynb", as_version=4).cells:
        if cell.cell_type == "code":
            exec(cell.source, names)
            names |= given if "parameters" in cell.metadata.get("tags", []) else {}
    table = pd.read_csv(prepared / records.UNKNOWN)
    assert len(table) == 6 and table.auroc.between(0, 1).all()
