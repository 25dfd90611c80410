import hashlib
import itertools

import cv2
import numpy as np
import pytest

from lib.drawing import figures, sample
from lib.drawing.pen import Pen

PICTURES = 20  # per character; the sample itself has 50


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.*"))}


def shrunk(path, size):
    return cv2.resize(cv2.imread(str(path)), (size, size), interpolation=cv2.INTER_AREA).astype(np.float32)


def digest(arrays):
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()[:16]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    sample.draw_sample(folder, seed=0, pictures_per_character=PICTURES)
    return folder


@pytest.fixture(scope="module")
def shots(drawn):
    """Per character, for each picture but the first, whether it continues the shot of the one before.

    Pictures of one size whose 16 × 16 thumbnails are closer than 15 grey levels RMS are of one shot: the measure of
    near-duplicates on frames of the real archive.
    """
    same = {}
    for character in sample.CHARACTERS:
        paths = sorted((drawn / character).iterdir())
        sizes = [cv2.imread(str(path)).shape for path in paths]
        thumbnails = [shrunk(path, 16).mean(axis=-1) for path in paths]
        distances = [np.sqrt(((a - b) ** 2).mean()) for a, b in itertools.pairwise(thumbnails)]
        same[character] = [d < 15 and a == b for d, (a, b) in zip(distances, itertools.pairwise(sizes), strict=True)]
    return same


# ---------------------------------------------------------------- the drawn sample


def test_the_sample_is_the_published_one(drawn):
    files = contents(drawn)
    assert hashlib.sha256(b"".join(files.values())).hexdigest()[:16] == "8d32c17592819dd7"


def test_a_seed_decides_every_byte(drawn, tmp_path):
    sample.draw_sample(tmp_path, seed=0, pictures_per_character=2)
    again = contents(tmp_path)
    assert len(again) == 2 * len(sample.CHARACTERS)
    assert again.items() <= contents(drawn).items()


def test_another_seed_draws_other_pictures(drawn, tmp_path):
    sample.draw_sample(tmp_path, seed=1, pictures_per_character=1)
    assert not set(contents(tmp_path).values()) & set(contents(drawn).values())


def test_each_of_18_characters_has_the_requested_number_of_pictures(drawn):
    counts = {folder.name: len(list(folder.iterdir())) for folder in drawn.iterdir()}
    assert counts == dict.fromkeys(sample.CHARACTERS, PICTURES)
    assert len(counts) == 18


def test_pictures_have_different_sizes(drawn):
    shapes = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape for path in drawn.rglob("*.*")]
    assert all(min(shape[:2]) >= 96 and shape[2] == 3 for shape in shapes)
    assert len(set(shapes)) > len(shapes) / 4


def test_most_pictures_are_jpeg_and_a_few_are_png(drawn):
    signatures = {".jpg": b"\xff\xd8", ".png": b"\x89P"}
    found = contents(drawn)
    assert all(data.startswith(signatures[name[-4:]]) for name, data in found.items())
    png = sum(name.endswith(".png") for name in found)
    assert 0 < png < len(found) / 5


def test_a_nearest_neighbour_on_pixels_recognises_less_than_70_percent(drawn, shots):
    train, test = [], []
    for label, character in enumerate(sample.CHARACTERS):
        paths = sorted((drawn / character).iterdir())
        cut = round(0.7 * PICTURES)
        while shots[character][cut - 1]:  # a shot is never divided
            cut += 1
        train += [(shrunk(path, 64).ravel(), label) for path in paths[:cut]]
        test += [(shrunk(path, 64).ravel(), label) for path in paths[cut:]]
    (known, known_labels), (asked, labels) = (map(np.array, zip(*part, strict=True)) for part in (train, test))
    # |a - b|^2 = |a|^2 - 2ab + |b|^2, where |a|^2 is the same for all that a is compared with
    nearest = ((known**2).sum(axis=1) - 2 * asked @ known.T).argmin(axis=1)
    accuracy = (known_labels[nearest] == labels).mean()
    assert 1 / 18 < accuracy < 0.7


def test_some_pictures_are_frames_of_one_shot(shots):
    in_shots = [a or b for same in shots.values() for a, b in zip([False, *same], [*same, False], strict=True)]
    assert 0.08 < np.mean(in_shots) < 0.25


# ---------------------------------------------------------------- single pictures and training pictures


def test_a_picture_is_rgb_and_follows_from_the_generator():
    once, twice = (sample.draw_picture(figures.FEATURES["homer_simpson"], np.random.default_rng(5)) for _ in range(2))
    assert once.dtype == np.uint8 and once.ndim == 3 and once.shape[2] == 3
    np.testing.assert_array_equal(once, twice)


@pytest.mark.parametrize("character", sample.CHARACTERS)
def test_a_cutout_is_a_figure_on_one_colour(character):
    for seed in range(4):
        cutout = sample.draw_cutout(figures.FEATURES[character], np.random.default_rng(seed))
        assert cutout.dtype == np.uint8 and cutout.ndim == 3
        assert min(cutout.shape[:2]) >= 30 and max(cutout.shape[:2]) <= 300
        corners = cutout[[0, 0], [0, -1]].reshape(-1, 3)
        # The upper corners have the background colour. The picture is cropped, so that much of it is figure.
        assert np.ptp(corners, axis=0).max() <= 40
        assert (np.abs(cutout.astype(int) - corners[0]).max(axis=2) > 30).mean() > 0.2


def test_training_pictures_are_the_published_ones():
    drawn, _ = sample.draw_training_pictures(["bart_simpson", "moe_szyslak"], 4, seed=0)
    assert digest(drawn) == "3fa5badfa6cd3a99"


def test_every_character_that_can_be_drawn_is_drawn_and_labelled():
    drawn, labels = sample.draw_training_pictures(["bart_simpson", "nobody", "homer_simpson"], 3, seed=0)
    assert len(drawn) == 6 and labels.tolist() == [0, 0, 0, 2, 2, 2]


def test_without_drawings_there_are_none():
    drawn, labels = sample.draw_training_pictures(["bart_simpson"], 0, seed=0)
    assert drawn == [] and labels.dtype == np.int64 and len(labels) == 0


def test_training_pictures_follow_from_the_seed_whatever_the_other_characters_are():
    alone, _ = sample.draw_training_pictures(["moe_szyslak"], 2, seed=5)
    among, labels = sample.draw_training_pictures(["bart_simpson", "moe_szyslak"], 2, seed=5)
    assert digest(among[2:]) == digest(alone) and labels.tolist() == [0, 0, 1, 1]
    assert digest(sample.draw_training_pictures(["moe_szyslak"], 2, seed=6)[0]) != digest(alone)


# ---------------------------------------------------------------- the table of characters


def test_a_new_character_is_drawn_for_training_and_changes_no_other(drawn, tmp_path, monkeypatch):
    monkeypatch.setitem(figures.FEATURES, "maude", figures.Features(hair="neat"))
    sample.draw_sample(tmp_path, seed=0, pictures_per_character=2)
    assert contents(tmp_path).items() <= contents(drawn).items()
    pictures, labels = sample.draw_training_pictures(["maude"], 2, seed=0)
    assert len(pictures) == 2 and labels.tolist() == [0, 0]


def test_no_two_characters_have_the_same_features():
    assert len(set(figures.FEATURES.values())) == len(figures.FEATURES)


# ---------------------------------------------------------------- figures


def figure(character, turn, size=40):
    """Draw a figure without background: RGB `(10 * size, 8 * size, 3)`, its neck at (4, 7) in head units."""
    canvas = np.full((10 * size, 8 * size, 3), 127, np.uint8)
    pen = Pen(canvas, np.array([[size, 0, 4 * size], [0, size, 7 * size]], float))
    figures.draw_figure(pen, figures.FEATURES[character], figures.Pose(turn=turn))
    return canvas


@pytest.mark.parametrize("character", figures.FEATURES)
def test_a_figure_is_of_one_piece_however_it_turns(character):
    for turn in (-1.0, 0.0, 1.0):
        painted = (figure(character, turn) != 127).any(axis=-1).astype(np.uint8)
        count, _ = cv2.connectedComponents(painted)
        assert count == 2, f"turned by {turn}"  # the background and the figure
