import numpy as np
import pytest

from lib.data import pictures
from lib.evaluation import occlusion

WHITE = np.full((16, 16, 3), 255, np.uint8)


def looks_at(rows: slice, columns: slice):
    """Make a network whose probability of the first character is the brightness of a part of the picture."""

    def predict(pixels: np.ndarray) -> np.ndarray:
        sure = pixels[:, rows, columns].mean(axis=(1, 2, 3)) / 255
        return np.stack([sure, 1 - sure], axis=1).astype(np.float32)

    return predict


def test_the_part_that_the_network_looks_at_is_most_important():
    found = occlusion.occlusion(looks_at(slice(0, 4), slice(12, 16)), WHITE)
    assert found.importance[0, 15] == found.importance.max() == 1
    assert found.importance[8:, :].max() == 0 == found.importance[:, :8].max()


def test_label_and_probabilities_are_those_of_the_answers():
    # The grey square is 16 / 4 = 4 pixels wide and covers exactly this part: 255 becomes 127.
    found = occlusion.occlusion(looks_at(slice(0, 4), slice(12, 16)), WHITE)
    assert (found.label, found.probability) == (0, 1)
    assert found.lowest == pytest.approx(127 / 255)


def test_the_network_is_called_once():
    calls = []
    occlusion.occlusion(lambda pixels: calls.append(pixels) or np.tile(np.float32([0.2, 0.8]), (len(pixels), 1)), WHITE)
    (pixels,) = calls
    assert pixels.dtype == np.uint8 and pixels.shape[1:] == (16, 16, 3)
    assert (pixels[0] == 255).all() and all((covered == 127).any() for covered in pixels[1:])


def test_importance_is_0_where_no_part_matters():
    found = occlusion.occlusion(lambda pixels: np.tile(np.float32([0.2, 0.8]), (len(pixels), 1)), WHITE)
    assert (found.label, found.importance.max()) == (1, 0)
    assert found.lowest == found.probability == pytest.approx(0.8)


def test_a_gain_counts_as_no_loss():
    def surer_when_covered(pixels: np.ndarray) -> np.ndarray:
        sure = 1 - 0.4 * looks_at(slice(0, 4), slice(0, 4))(pixels)[:, 0]
        return np.stack([sure, 1 - sure], axis=1)

    found = occlusion.occlusion(surer_when_covered, WHITE)
    assert found.importance.max() == 0
    assert found.lowest == found.probability == pytest.approx(0.6)


@pytest.mark.parametrize("size", [1, 2, 5, 64, 100])
def test_every_pixel_is_covered_at_any_size(size):
    picture = np.full((size, size, 3), 255, np.uint8)
    darker_is_worse = looks_at(slice(None), slice(None))
    assert (occlusion.occlusion(darker_is_worse, picture).importance > 0).all()


def test_a_stretched_picture_fills_the_square():
    square = np.random.default_rng(0).random((16, 16), np.float32)
    stretched = pictures.Framing((0, 0, 200, 100), (16, 16), (100, 200), 16)
    np.testing.assert_array_equal(occlusion.shown_part(square, stretched), square)


def test_a_cropped_border_has_no_importance():
    # The figure is the 40 × 20 pixels at (10, 5) of a picture of 100 × 50.
    cropped = pictures.Framing((10, 5, 50, 25), (16, 16), (50, 100), 16)
    whole = occlusion.shown_part(np.ones((16, 16), np.float32), cropped)
    assert whole.shape == (50, 100)
    assert (whole[5:25, 10:50] == 1).all() and whole.sum() == 40 * 20


def test_the_map_of_a_large_picture_is_not_as_large():
    framing = pictures.Framing((600, 0, 5400, 3000), (16, 16), (3000, 6000), 16)
    whole = occlusion.shown_part(np.ones((16, 16), np.float32), framing)
    assert whole.shape == (256, 512)
    assert (whole[:, 52:460] == 1).all() and (whole[:, :51] == 0).all()


@pytest.mark.parametrize(("width", "height"), [(200, 100), (100, 200), (301, 200), (99, 100), (2000, 16)])
def test_shown_part_removes_exactly_the_padding_of_the_decoder(width, height):
    picture = np.random.default_rng(0).integers(256, size=(height, width, 3), dtype=np.uint8)
    square, framing = pictures.resize_framed(picture, 64, "pad")
    part = occlusion.shown_part(square, framing)
    inner_height, inner_width = part.shape[:2]
    top, left = (64 - inner_height) // 2, (64 - inner_width) // 2
    padded = np.pad(part, ((top, 64 - inner_height - top), (left, 64 - inner_width - left), (0, 0)), mode="edge")
    assert (square == padded).all()
    smaller = part[1:] if top else part[:, 1:]
    assert smaller.size == 0 or not (smaller[0, 0] == part[0, 0]).all()  # no row or column of padding remains


def test_the_overlay_is_clear_on_important_parts_and_dark_elsewhere():
    importance = np.zeros((32, 64), np.float32)
    importance[:, 48:] = 1
    overlay = occlusion.heatmap_overlay(importance)
    assert overlay.shape == (128, 256, 4)
    assert overlay[64, -1, 3] == 0
    assert overlay[64, 0, 3] == pytest.approx(255 * occlusion.MAX_OPACITY, abs=1)


def test_the_overlay_is_dark_everywhere_if_nothing_matters():
    overlay = occlusion.heatmap_overlay(np.zeros((16, 16), np.float32))
    assert np.unique(overlay[..., 3]).tolist() == [round(255 * occlusion.MAX_OPACITY)]
