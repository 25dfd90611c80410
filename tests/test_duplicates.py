import os
import subprocess
import sys

import numpy as np
import pytest

from lib import paths
from lib.data import duplicates


def drawn(number, size=64, seed=0):
    """Pictures of coarse coloured noise: no two are near-copies by accident."""
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
    """Fingerprints in families: each has `copies` members that differ by a few bits and grey levels."""
    rng = np.random.default_rng(seed)
    hashes, thumbnails = (part.repeat(copies, axis=0) for part in random_fingerprints(number // copies, seed))
    hashes[:, 0] ^= rng.integers(0, 256, len(hashes), dtype=np.uint8)
    noise = rng.integers(-10, 11, thumbnails.shape)
    return hashes, np.clip(thumbnails + noise, 0, 255).astype(np.uint8)


def brute_force_pairs(hashes, thumbnails):
    found = []
    for i in range(len(hashes)):
        bits = np.bitwise_count(hashes[i] ^ hashes[i + 1 :]).sum(axis=1)
        squares = ((thumbnails[i].astype(int) - thumbnails[i + 1 :]) ** 2).mean(axis=1)
        found += [(i, i + 1 + j) for j in np.flatnonzero((bits <= 24) | (squares < 15**2))]
    return np.array(found, np.int64).reshape(-1, 2)


def test_fingerprint_shapes_and_types():
    hashes, thumbnails = duplicates.fingerprint(drawn(3))
    assert (hashes.shape, hashes.dtype) == ((3, 32), np.uint8)
    assert (thumbnails.shape, thumbnails.dtype) == ((3, 256), np.uint8)


def test_fingerprint_of_nothing_is_empty():
    hashes, thumbnails = duplicates.fingerprint(np.empty((0, 64, 64, 3), np.uint8))
    assert (hashes.shape, thumbnails.shape) == ((0, 32), (0, 256))


def test_hash_bits_say_where_it_grows_brighter():
    ramp = np.broadcast_to(np.arange(0, 256, 4, dtype=np.uint8)[None, :, None], (64, 64, 3))
    hashes, _ = duplicates.fingerprint(np.stack([ramp, ramp[:, ::-1]]))
    assert (hashes[0] == 255).all() and (hashes[1] == 0).all()


def test_hash_is_blind_to_brightness_and_thumbnail_is_not():
    picture = drawn(1) // 2
    hashes, thumbnails = duplicates.fingerprint(np.concatenate([picture, picture + 100]))
    assert np.bitwise_count(hashes[0] ^ hashes[1]).sum() <= 4  # rounding in areas of one grey
    np.testing.assert_allclose(thumbnails[1].astype(int) - thumbnails[0], 100, atol=1)


def test_thumbnail_of_a_plain_picture_is_its_grey():
    _, thumbnails = duplicates.fingerprint(np.full((1, 64, 64, 3), 77, np.uint8))
    assert (thumbnails == 77).all()


@pytest.mark.parametrize("images", [np.zeros((2, 64, 64), np.uint8), np.zeros((2, 64, 64, 3), np.float32)])
def test_fingerprint_refuses_what_is_no_stack_of_pictures(images):
    with pytest.raises(ValueError, match="Expected uint8 of shape"):
        duplicates.fingerprint(images)


@pytest.mark.parametrize(("bits", "near"), [(24, True), (25, False)])
def test_hashes_within_24_bits_are_near_copies(bits, near):
    hashes, thumbnails = random_fingerprints(2)
    hashes[1] = flip_bits(hashes[0], bits)
    assert (len(duplicates.near_duplicate_pairs(hashes, thumbnails)) == 1) is near


@pytest.mark.parametrize(("levels", "near"), [(14, True), (15, False)])
def test_thumbnails_closer_than_15_levels_are_near_copies(levels, near):
    hashes, thumbnails = random_fingerprints(2)
    thumbnails[0] = 100
    thumbnails[1] = 100 + levels
    assert (len(duplicates.near_duplicate_pairs(hashes, thumbnails)) == 1) is near


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
    assert (duplicates.near_duplicate_groups(hashes, thumbnails) == 0).all()


def test_groups_are_chains_of_near_copies():
    hashes, _ = random_fingerprints(3)
    thumbnails = np.stack([np.full(256, grey, np.uint8) for grey in (100, 110, 120)])  # the ends are 20 apart
    assert duplicates.near_duplicate_groups(hashes, thumbnails).tolist() == [0, 0, 0]


def test_groups_are_numbered_by_first_appearance():
    pairs = np.array([[0, 3], [2, 4]])
    groups = duplicates.groups_of_pairs(pairs, 6)
    assert groups.tolist() == [0, 1, 2, 0, 2, 3]
    assert groups.dtype == np.int64


@pytest.mark.parametrize("number", [0, 1, 2])
def test_strangers_are_groups_of_their_own(number):
    assert duplicates.near_duplicate_groups(*random_fingerprints(number)).tolist() == list(range(number))


def test_mirrored_copies_do_not_count():
    picture = drawn(1)
    fingerprints = duplicates.fingerprint(np.concatenate([picture, picture[:, :, ::-1]]))
    assert duplicates.near_duplicate_groups(*fingerprints).tolist() == [0, 1]


def test_the_inverted_file_finds_close_families_and_nothing_else(monkeypatch):
    monkeypatch.setattr(duplicates, "EXACT_UP_TO", 0)
    hashes, thumbnails = clustered_fingerprints(6000, copies=3)
    pairs = duplicates.near_duplicate_pairs(hashes, thumbnails)
    assert len(pairs) >= 0.99 * 6000
    assert (pairs[:, 0] // 3 == pairs[:, 1] // 3).all()


def test_the_inverted_file_gives_the_same_twice(monkeypatch):
    monkeypatch.setattr(duplicates, "EXACT_UP_TO", 0)
    fingerprints = clustered_fingerprints(6000, copies=3)
    first, second = (duplicates.near_duplicate_pairs(*fingerprints) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_thumbnail_rms():
    thumbnails = np.array([[0] * 256, [10] * 256, [0] * 192 + [20] * 64], np.uint8)
    pairs = np.array([[0, 1], [0, 2]])  # sqrt(10**2), sqrt(20**2 / 4)
    np.testing.assert_allclose(duplicates.thumbnail_rms(thumbnails, pairs), [10, 10])


def test_one_thread_and_two_find_the_same():
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
