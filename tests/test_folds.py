import contextlib
from types import SimpleNamespace

import numpy as np
import pytest

from lib.data import dataset, folds
from lib.errors import UserError
from lib.training import fit
from lib.training import folds as training
from lib.training.recipe import Recipe
from tests.noise_pictures import brighter, noise, prepare, write, write_two_characters

RECIPE = Recipe(network="cnn", dense_units=4, epochs=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folds")
    raw = write_two_characters(folder / "raw")
    for number in range(4):
        write(raw / "bart" / f"near-{number}.png", brighter(noise(number)))  # of bart/00 to bart/03
    prepare(raw, folder / "processed", picture_size=16)
    return dataset.load(folder / "processed")


def test_every_frame_is_in_the_test_split_of_one_fold(data):
    rows = np.concatenate([folds.fold(data, number).rows("test") for number in range(folds.FOLDS)])
    assert sorted(rows) == list(range(44))


def test_no_near_duplicate_of_a_test_picture_is_trained_on(data):
    for number in range(folds.FOLDS):
        of_fold = folds.fold(data, number)
        seen = set(of_fold.groups("train")) | set(of_fold.groups("validation"))
        assert not seen & set(of_fold.groups("test"))
        assert of_fold.characters == data.characters


def test_too_few_pictures_are_said(tmp_path):
    for character in range(2):
        for number in range(8):
            write(tmp_path / "raw" / "ab"[character] / f"{number}.png", noise(100 * character + number))
    prepare(tmp_path / "raw", tmp_path / "processed", picture_size=16)
    with pytest.raises(UserError, match=r"at least 10 pictures of a character, and no one has more than 8\."):
        folds.fold(dataset.load(tmp_path / "processed"), 0)


def answering(answer):
    """A network that answers by a function, and its training, as from `fit.train`."""
    return SimpleNamespace(predict_on_batch=answer), SimpleNamespace(delete=lambda: None)


def test_a_network_with_a_class_map_answers_with_its_characters(data, tmp_path, monkeypatch):
    def answer(pictures):
        number = len(pictures)
        return {"probabilities": np.tile(np.float32([0.2, 0.3, 0.5]), (number, 1)), "class_map": np.zeros((number, 1))}

    monkeypatch.setattr(fit, "train", lambda *_: answering(answer))
    training.compute(data, tmp_path, RECIPE)
    assert (folds.read(tmp_path, data)[1] == np.float32([0.2, 0.3])).all()


def test_finished_folds_are_not_computed_again(data, tmp_path, monkeypatch):
    trained = []

    def train(of_fold, folder, recipe):
        trained.append(folder.name)
        if len(trained) == 3:
            raise KeyboardInterrupt
        return answering(lambda pictures: np.full((len(pictures), 2), 0.5, np.float32))

    monkeypatch.setattr(fit, "train", train)
    with pytest.raises(KeyboardInterrupt):
        training.compute(data, tmp_path, RECIPE)
    rows, probabilities, finished = folds.read(tmp_path, data)
    assert finished == 2 and len(rows) == len(probabilities) > 0
    training.compute(data, tmp_path, RECIPE)
    assert trained == ["fold-0", "fold-1", "fold-2", "fold-2", "fold-3", "fold-4"]
    assert sorted(folds.read(tmp_path, data)[0]) == list(range(44))


def test_a_fold_is_trained_without_its_test_pictures(data, tmp_path):
    of_fold = folds.fold(data, 0)
    model, finished = fit.train(of_fold, tmp_path, RECIPE.model_copy(update={"precision": "float32"}))
    assert finished.epoch == 1
    assert model.predict_on_batch(data.images[of_fold.rows("test")]).shape == (len(of_fold.rows("test")), 2)


def test_damaged_answers_and_those_of_another_fold_are_named(data, tmp_path):
    first, second = (folds.answers_file(tmp_path, data, number) for number in range(2))
    probabilities = np.full((5, len(data.characters)), 0.5, np.float32)
    folds.write(first, np.arange(5), probabilities)
    assert folds.read(tmp_path, data)[1].tolist() == probabilities.tolist()
    whole = first.read_bytes()
    folds.write(second, np.arange(5), probabilities)
    for position in range(0, len(whole), 7):
        first.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        with contextlib.suppress(UserError):
            rows, found, _ = folds.read(tmp_path, data)
            assert (rows.tolist(), found.tolist()) == (2 * [*range(5)], [*probabilities.tolist()] * 2)
    for contents in (second.read_bytes(), b"", whole[:-1]):
        first.write_bytes(contents)
        with pytest.raises(UserError, match=r"answers-.*\.npz is damaged: .* Delete it"):
            folds.read(tmp_path, data)
