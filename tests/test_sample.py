import itertools

import cv2
import numpy as np
import pytest

from lib.drawing import figures, sample
from lib.errors import UserError

PICTURES = 20  # per character; in the set itself there are 50


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.*"))}


def small(path, size):
    return cv2.resize(cv2.imread(str(path)), (size, size), interpolation=cv2.INTER_AREA).astype(np.float32)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    sample.draw_sample(folder, seed=0, pictures_per_character=PICTURES)
    return folder


@pytest.fixture(scope="module")
def shots(drawn):
    """Per character, for each picture but the first, whether it goes on with the shot of the one before.

    Of the same shot are pictures of the same size whose 16 x 16 thumbnails are closer than 15 grey levels RMS, the
    measure that was taken on frames of the real data set.
    """
    same = {}
    for character in sample.CHARACTERS:
        paths = sorted((drawn / character).iterdir())
        sizes = [cv2.imread(str(path)).shape for path in paths]
        thumbnails = [small(path, 16).mean(axis=-1) for path in paths]
        distances = [np.sqrt(((a - b) ** 2).mean()) for a, b in itertools.pairwise(thumbnails)]
        same[character] = [d < 15 and a == b for d, (a, b) in zip(distances, itertools.pairwise(sizes), strict=True)]
    return same


def test_a_seed_decides_every_byte(drawn, tmp_path):
    sample.draw_sample(tmp_path, seed=0, pictures_per_character=2)
    again = contents(tmp_path)
    assert len(again) == 2 * len(sample.CHARACTERS)
    assert again.items() <= contents(drawn).items()


def test_another_seed_draws_other_pictures(drawn, tmp_path):
    sample.draw_sample(tmp_path, seed=1, pictures_per_character=1)
    assert not set(contents(tmp_path).values()) & set(contents(drawn).values())


def test_each_of_18_characters_has_the_pictures_asked_for(drawn):
    counts = {folder.name: len(list(folder.iterdir())) for folder in drawn.iterdir()}
    assert counts == dict.fromkeys(sample.CHARACTERS, PICTURES)
    assert len(counts) == 18


def test_every_picture_is_a_still_of_its_own_size(drawn):
    shapes = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape for path in drawn.rglob("*.*")]
    assert all(min(shape[:2]) >= 96 and shape[2] == 3 for shape in shapes)
    assert len(set(shapes)) > len(shapes) / 4


def test_most_pictures_are_jpeg_and_a_few_are_png(drawn):
    signatures = {".jpg": b"\xff\xd8", ".png": b"\x89P"}
    found = contents(drawn)
    assert all(data.startswith(signatures[name[-4:]]) for name, data in found.items())
    png = sum(name.endswith(".png") for name in found)
    assert 0 < png < len(found) / 5


def test_a_nearest_neighbour_on_pixels_names_less_than_70_percent(drawn, shots):
    train, test = [], []
    for label, character in enumerate(sample.CHARACTERS):
        paths = sorted((drawn / character).iterdir())
        cut = round(0.7 * PICTURES)
        while shots[character][cut - 1]:  # a shot never crosses
            cut += 1
        train += [(small(path, 64).ravel(), label) for path in paths[:cut]]
        test += [(small(path, 64).ravel(), label) for path in paths[cut:]]
    (known, known_labels), (asked, labels) = (map(np.array, zip(*part, strict=True)) for part in (train, test))
    # |a - b|^2 = |a|^2 - 2ab + |b|^2, where |a|^2 is the same for all that a is compared with
    nearest = ((known**2).sum(axis=1) - 2 * asked @ known.T).argmin(axis=1)
    accuracy = (known_labels[nearest] == labels).mean()
    assert 1 / 18 < accuracy < 0.7


def test_some_pictures_are_frames_of_one_shot(shots):
    in_shots = [a or b for same in shots.values() for a, b in zip([False, *same], [*same, False], strict=True)]
    assert 0.08 < np.mean(in_shots) < 0.25


def test_draws_one_picture_in_rgb():
    picture = sample.draw_picture("krusty_the_clown", np.random.default_rng(0))
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3


def test_the_same_generator_draws_the_same_picture():
    once, twice = (sample.draw_picture("homer_simpson", np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(once, twice)


def test_an_unknown_character_is_named_together_with_the_known_ones():
    with pytest.raises(UserError, match=r"'maude'.*homer_simpson"):
        sample.draw_picture("maude", np.random.default_rng(0))


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"pictures_per_character": 0}])
def test_a_number_that_is_too_small_leaves_nothing_behind(tmp_path, wrong):
    with pytest.raises(UserError, match="at least"):
        sample.draw_sample(tmp_path, **wrong)
    assert list(tmp_path.iterdir()) == []


def figure(character, turn, size=40):
    """Draw a figure without scene: RGB `(10 * size, 8 * size, 3)`, its neck at (4, 7) in head units."""
    canvas = np.full((10 * size, 8 * size, 3), 127, np.uint8)
    pen = figures.Pen(canvas, np.array([[size, 0, 4 * size], [0, size, 7 * size]], float))
    figures.draw_figure(pen, figures.FEATURES[character], figures.Pose(turn=turn))
    return canvas


@pytest.mark.parametrize("character", sample.CHARACTERS)
def test_a_figure_is_of_one_piece_however_it_turns(character):
    for turn in (-1.0, 0.0, 1.0):
        painted = (figure(character, turn) != 127).any(axis=-1).astype(np.uint8)
        count, _ = cv2.connectedComponents(painted)
        assert count == 2, f"turned by {turn}"  # the ground and the figure


def test_no_two_characters_have_the_same_features():
    assert len(set(figures.FEATURES.values())) == 18
