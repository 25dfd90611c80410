import os
import subprocess
import sys

import numpy as np
import pytest

from lib import paths
from lib.data import duplicates
from lib.data.preparation import Preparation


def noise(number, size=64, seed=0):
    """Make pictures of coarse coloured noise, no two of which are near-duplicates."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (number, 8, 8, 3), dtype=np.uint8)
    return coarse.repeat(size // 8, axis=1).repeat(size // 8, axis=2)


def random_fingerprints(number, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (number, 32), dtype=np.uint8), rng.integers(0, 256, (number, 256), dtype=np.uint8)


def flip_bits(hashes, number):
    bits = np.unpackbits(hashes)
    bits[:number] ^= 1
    return np.packbits(bits)


def clustered_fingerprints(number, copies, seed=0):
    """Make fingerprints in families of `copies` members, which differ by a few bits and grey levels."""
    rng = np.random.default_rng(seed)
    hashes, thumbnails = (part.repeat(copies, axis=0) for part in random_fingerprints(number // copies, seed))
    hashes[:, 0] ^= rng.integers(0, 256, len(hashes), dtype=np.uint8)
    change = rng.integers(-10, 11, thumbnails.shape)
    return hashes, np.clip(thumbnails + change, 0, 255).astype(np.uint8)


def groups(hashes, thumbnails):
    return duplicates.groups_of_pairs(duplicates.near_duplicate_pairs(hashes, thumbnails), len(hashes)).tolist()


def brute_force_pairs(hashes, thumbnails):
    found = []
    for i in range(len(hashes)):
        bits = np.bitwise_count(hashes[i] ^ hashes[i + 1 :]).sum(axis=1)
        squares = ((thumbnails[i].astype(int) - thumbnails[i + 1 :]) ** 2).mean(axis=1)
        found += [(i, i + 1 + j) for j in np.flatnonzero((bits <= 24) | (squares < 15**2))]
    return np.array(found, np.int64).reshape(-1, 2)


def test_fingerprint_shapes_and_types():
    hashes, thumbnails = duplicates.fingerprint(noise(3))
    assert (hashes.shape, hashes.dtype) == ((3, 32), np.uint8)
    assert (thumbnails.shape, thumbnails.dtype) == ((3, 256), np.uint8)


def test_fingerprint_of_no_pictures_is_empty():
    hashes, thumbnails = duplicates.fingerprint(np.empty((0, 64, 64, 3), np.uint8))
    assert (hashes.shape, thumbnails.shape) == ((0, 32), (0, 256))


def test_hash_bits_mark_where_brightness_increases():
    ramp = np.broadcast_to(np.arange(0, 256, 4, dtype=np.uint8)[None, :, None], (64, 64, 3))
    hashes, _ = duplicates.fingerprint(np.stack([ramp, ramp[:, ::-1]]))
    assert (hashes[0] == 255).all() and (hashes[1] == 0).all()


def test_the_hash_ignores_brightness_and_the_thumbnail_does_not():
    picture = noise(1) // 2
    hashes, thumbnails = duplicates.fingerprint(np.concatenate([picture, picture + 100]))
    assert np.bitwise_count(hashes[0] ^ hashes[1]).sum() <= 4  # rounding in areas of one grey
    np.testing.assert_allclose(thumbnails[1].astype(int) - thumbnails[0], 100, atol=1)


def test_thumbnail_of_a_plain_picture_is_its_grey():
    _, thumbnails = duplicates.fingerprint(np.full((1, 64, 64, 3), 77, np.uint8))
    assert (thumbnails == 77).all()


@pytest.mark.parametrize(("bits", "near"), [(24, True), (25, False)])
def test_hashes_within_24_bits_are_near_duplicates(bits, near):
    hashes, thumbnails = random_fingerprints(2)
    hashes[1] = flip_bits(hashes[0], bits)
    assert (len(duplicates.near_duplicate_pairs(hashes, thumbnails)) == 1) is near


@pytest.mark.parametrize(("levels", "near"), [(14, True), (15, False)])
def test_thumbnails_closer_than_15_levels_are_near_duplicates(levels, near):
    hashes, thumbnails = random_fingerprints(2)
    thumbnails[0] = 100
    thumbnails[1] = 100 + levels
    assert (len(duplicates.near_duplicate_pairs(hashes, thumbnails)) == 1) is near


@pytest.mark.parametrize("levels", [1, 2, 6])
def test_bright_thumbnails_just_inside_a_small_limit_are_near_duplicates(levels):
    hashes, thumbnails = random_fingerprints(2000)
    thumbnails = 225 + thumbnails % 19
    change = levels * np.random.default_rng(1).choice([-1, 1], (1000, 8, 8)).repeat(2, axis=1).repeat(2, axis=2)
    thumbnails[1000:] = thumbnails[:1000] + change.reshape(1000, 256)
    pairs = duplicates.near_duplicate_pairs(hashes, thumbnails, Preparation(near_rms=levels + 1e-6, near_bits=0))
    np.testing.assert_array_equal(pairs, np.stack([np.arange(1000), np.arange(1000, 2000)], axis=1))


def test_a_thumbnail_may_differ_much_in_few_places():
    hashes, thumbnails = random_fingerprints(2)
    thumbnails[1] = thumbnails[0]
    thumbnails[0, :4], thumbnails[1, :4] = 0, 100  # sqrt(4 * 100**2 / 256) = 12.5
    assert len(duplicates.near_duplicate_pairs(hashes, thumbnails)) == 1


def test_finds_the_pairs_that_brute_force_finds():
    hashes, thumbnails = clustered_fingerprints(600, copies=3)
    pairs = duplicates.near_duplicate_pairs(hashes, thumbnails)
    np.testing.assert_array_equal(pairs, brute_force_pairs(hashes, thumbnails))
    assert len(pairs) == 600


def test_identical_pictures_are_one_group():
    hashes, thumbnails = (part.repeat(50, axis=0) for part in random_fingerprints(1))
    assert len(duplicates.near_duplicate_pairs(hashes, thumbnails)) == 50 * 49 / 2
    assert groups(hashes, thumbnails) == [0] * 50


def test_groups_are_chains_of_near_duplicates():
    hashes, _ = random_fingerprints(3)
    thumbnails = np.stack([np.full(256, grey, np.uint8) for grey in (100, 110, 120)])  # the ends are 20 apart
    assert groups(hashes, thumbnails) == [0, 0, 0]


def test_groups_are_numbered_by_first_appearance():
    pairs = np.array([[0, 3], [2, 4]])
    found = duplicates.groups_of_pairs(pairs, 6)
    assert found.tolist() == [0, 1, 2, 0, 2, 3]
    assert found.dtype == np.int64


@pytest.mark.parametrize("number", [0, 1, 2])
def test_unrelated_pictures_are_groups_of_their_own(number):
    assert groups(*random_fingerprints(number)) == list(range(number))


def test_mirrored_copies_do_not_count():
    picture = noise(1)
    fingerprints = duplicates.fingerprint(np.concatenate([picture, picture[:, :, ::-1]]))
    assert groups(*fingerprints) == [0, 1]


def test_the_search_in_cells_finds_close_families_and_nothing_else_and_the_same_twice(monkeypatch):
    monkeypatch.setattr(duplicates, "EXACT_UP_TO", 0)
    hashes, thumbnails = clustered_fingerprints(6000, copies=3)
    pairs, again = (duplicates.near_duplicate_pairs(hashes, thumbnails) for _ in range(2))
    assert len(pairs) >= 0.99 * 6000
    assert (pairs[:, 0] // 3 == pairs[:, 1] // 3).all()
    np.testing.assert_array_equal(pairs, again)


def test_thumbnail_rms():
    thumbnails = np.array([[0] * 256, [10] * 256, [0] * 192 + [20] * 64], np.uint8)
    pairs = np.array([[0, 1], [0, 2]])  # sqrt(10**2), sqrt(20**2 / 4)
    np.testing.assert_allclose(duplicates.thumbnail_rms(thumbnails, *pairs.T), [10, 10])


def test_one_and_two_threads_find_the_same_pairs():
    code = (
        "import numpy as np; from lib.data import duplicates; from tests import test_duplicates as t;"
        "print(duplicates.near_duplicate_pairs(*t.clustered_fingerprints(900, copies=3)).tobytes().hex())"
    )
    command = [sys.executable, "-c", code]
    answers = [
        subprocess.check_output(command, env={**os.environ, "OMP_NUM_THREADS": threads}, cwd=paths.ROOT)
        for threads in ("1", "2")
    ]
    assert answers[0] == answers[1] and len(answers[0]) > 1
