"""Near-duplicates among pictures: the same frame or a neighbouring one, and the groups that they form.

Two pictures are near-duplicates if their thumbnails differ by less than 15 grey levels (`near_rms` of the preparation)
or their difference hashes by at most 24 bits (`near_bits`). Groups are the connected components. Chains do no harm on
the Simpsons archive: among 18,775 frames the largest group has 12, all of one scene.

Plain drawings, such as shapes or digits on white, have hashes of almost nothing but zeros, whatever they show. So a
hash alone does not decide about them: the thumbnails must agree too. No group of the archive changes by that.

Mirrored copies do not count. Compared with the 6,641 plain pairs of the archive (its own test set included) only ten
more pairs in different groups would be found by mirroring one side, and most of those are other pictures with a
similar background.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import cv2
import faiss
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lib.data.preparation import DEFAULTS, Preparation

# The structure of a picture: bits of its hash that differ from most others. The archive's frames have 26 to 128, half
# of them more than 110; its plain drawings on white have 30 to 39. Drawn shapes have 6 to 33, scanned digits 50 to 108.
PLAIN_BITS = 30  # with less structure, thumbnails must agree as near-duplicates do
STRUCTURED_BITS = 100  # with less, by this multiple of the limit; the farthest of the archive are 36.8 levels apart
LOOSE = 2.5
# Thumbnails of plain drawings are mostly background: they must agree by fractions of their own contrast (standard
# deviation) too.
PLAIN_NEAR = 0.4
PLAIN_SAME = 0.05
LEAST_CONTRAST = 5.0  # taken for pictures of one colour, such as black frames, which have none; the archive's have 9

SIDE = 16  # of the thumbnail and of the grid of the hash
POOLED_SIDE = 8

# Up to here every pair is compared, at a cost that grows with the square: 50,000 pictures make 2.5 billion distances.
EXACT_UP_TO = 50_000
# Beyond it a picture is compared with those of the nearest cells. The centres are pictures drawn from this seed.
SEED = 0
PICTURES_PER_CELL = 256
HASH_PROBES = 8
THUMBNAIL_PROBES = 12

QUERIES = 4096  # of one search, so that its results fit into memory
COMPARED_AT_ONCE = 50_000  # thumbnails, 50 MB of differences


def fingerprint(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reduce pictures to what near-duplicates are found by.

    The difference hash is that of a grey picture averaged to 17 × 16: bit (y, x) says whether column x + 1 is
    brighter than column x in row y. It ignores brightness and contrast; the thumbnail does not.

    Args:
        images: `uint8 (n, size, size, 3)`, RGB. The result depends a little on `size`.

    Returns:
        Hashes, `uint8 (n, 32)`, 256 bits row by row, most significant bit first; and grey thumbnails of 16 × 16,
        `uint8 (n, 256)`, 0 to 255.
    """
    hashes = np.empty((len(images), SIDE * SIDE // 8), np.uint8)
    thumbnails = np.empty((len(images), SIDE * SIDE), np.uint8)
    for row, image in enumerate(images):
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        columns = cv2.resize(grey, (SIDE + 1, SIDE), interpolation=cv2.INTER_AREA)
        hashes[row] = np.packbits(columns[:, 1:] > columns[:, :-1])
        thumbnails[row] = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA).ravel()
    return hashes, thumbnails


def near_duplicate_pairs(hashes: np.ndarray, thumbnails: np.ndarray, preparation: Preparation = DEFAULTS) -> np.ndarray:
    """Find the pairs of near-duplicates, by what `fingerprint` gives and the limits of the preparation.

    Up to `EXACT_UP_TO` pictures every pair is found and the result depends on the input alone. Beyond it the search
    uses an inverted file with centres drawn from `SEED`: every reported pair is one of near-duplicates, but some
    pairs are missed, mostly those close to the limit (`tests.benchmarks.bench_duplicates` prints the recall). It then
    gives the same result every time on one machine; on another one, or with another number of threads, rounding may
    move a picture halfway between two centres to the other cell.

    Returns:
        `int64 (m, 2)`: positions of two near-duplicates, the smaller first; sorted, each pair once. Its length grows
        with the square of the largest set of near-duplicates.
    """
    structure, contrast = _structure(hashes), _contrast(thumbnails)

    def agree(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Say which pairs, near by one measure, are near enough by the other for their structure: `bool (m,)`."""
        least = np.minimum(structure[one], structure[other])
        near = np.ones(len(one), bool)
        doubtful = np.flatnonzero(least < STRUCTURED_BITS)
        one, other, plain = one[doubtful], other[doubtful], least[doubtful] < PLAIN_BITS
        rms = thumbnail_rms(thumbnails, one, other)
        plain_limit = np.minimum(preparation.near_rms, PLAIN_NEAR * np.minimum(contrast[one], contrast[other]))
        bits = np.bitwise_count(hashes[one] ^ hashes[other]).sum(axis=1)
        near[doubtful] = np.where(
            plain, (rms < plain_limit) & (bits <= preparation.near_bits), rms < LOOSE * preparation.near_rms
        )
        return near

    index = _index(hashes, faiss.IndexBinaryFlat, faiss.IndexBinaryIVF, hashes.shape[1] * 8, HASH_PROBES)
    by_hash = _range_search(index, hashes, preparation.near_bits + 1)  # nearer than that
    by_thumbnail = _thumbnail_matches(thumbnails, preparation.near_rms)
    keys = [np.empty(0, np.int64)]
    for one, other in itertools.chain(by_hash, by_thumbnail):
        near = agree(one, other) & (one != other)
        low, high = np.minimum(one, other)[near], np.maximum(one, other)[near]
        keys.append(np.unique(low * len(hashes) + high))  # eight bytes for a pair instead of sixteen
    return np.stack(np.divmod(np.unique(np.concatenate(keys)), max(len(hashes), 1)), axis=1)


def groups_of_pairs(pairs: np.ndarray, num_pictures: int) -> np.ndarray:
    """Number the connected components of pairs of positions, `int64 (m, 2)`.

    Returns:
        `int64 (num_pictures,)`: the group of each position, numbered from 0 by first appearance. A picture without
        near-duplicates is a group of its own.
    """
    edges = (np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1]))
    _, component = connected_components(coo_array(edges, shape=(num_pictures, num_pictures)), directed=False)
    _, first, group = np.unique(component, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first)).astype(np.int64)[group]


def thumbnail_rms(thumbnails: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Measure how much thumbnails differ, given their positions, `int64 (m,)`: RMS, grey levels, `float64 (m,)`."""
    squares = np.empty(len(one), np.int64)
    for start in range(0, len(one), COMPARED_AT_ONCE):
        part = slice(start, start + COMPARED_AT_ONCE)
        difference = thumbnails[one[part]].astype(np.int16) - thumbnails[other[part]]
        squares[part] = np.einsum("ij,ij->i", difference, difference, dtype=np.int32)
    return np.sqrt(squares / thumbnails.shape[1])


def are_same_picture(
    hashes: np.ndarray, thumbnails: np.ndarray, pairs: np.ndarray, preparation: Preparation
) -> np.ndarray:
    """Say which near-duplicates, `int64 (m, 2)`, are one and the same picture, such as scaled copies: `bool (m,)`."""
    contrast = _contrast(thumbnails)[pairs].min(axis=1)
    plain = _structure(hashes)[pairs].min(axis=1) < PLAIN_BITS
    limit = np.where(plain, np.minimum(preparation.same_rms, PLAIN_SAME * contrast), preparation.same_rms)
    return thumbnail_rms(thumbnails, *pairs.T) < limit


def _structure(hashes: np.ndarray) -> np.ndarray:
    """Count the bits of each hash that differ from most of its others, 0 to 128: `int64 (n,)`."""
    ones = np.bitwise_count(hashes).sum(axis=1, dtype=np.int64)
    return np.minimum(ones, hashes.shape[1] * 8 - ones)


def _contrast(thumbnails: np.ndarray) -> np.ndarray:
    return np.maximum(thumbnails.std(axis=1, dtype=np.float32), LEAST_CONTRAST)


def _thumbnail_matches(thumbnails: np.ndarray, limit: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield positions whose thumbnails differ by less than `limit` grey levels RMS.

    Averaging over squares of 2 × 2 never enlarges the root mean square of a difference (Cauchy-Schwarz), so the
    search on 8 × 8 loses no pair and costs a quarter; its results are verified on 16 × 16.
    """
    squares = thumbnails.reshape(-1, POOLED_SIDE, 2, POOLED_SIDE, 2)
    pooled = squares.mean(axis=(2, 4), dtype=np.float32).reshape(-1, POOLED_SIDE**2)
    # Squared. In float32 the distances of bright thumbnails are off by up to 5, as much as a small limit allows.
    radius = (limit**2 + 1) * pooled.shape[1]
    index = _index(pooled, faiss.IndexFlatL2, faiss.IndexIVFFlat, pooled.shape[1], THUMBNAIL_PROBES)
    for one, other in _range_search(index, pooled, radius):
        near = thumbnail_rms(thumbnails, one, other) < limit
        yield one[near], other[near]


def _index(vectors: np.ndarray, flat: Any, inverted: Any, width: int, probes: int) -> Any:
    """Index vectors: a few exactly, many in the cells around some of them, of which a search probes the nearest.

    The centres are drawn and not trained: k-means finds as many pairs for two thirds of the work, but depends on
    rounding.
    """
    index = flat(width)
    if len(vectors) > EXACT_UP_TO:
        number = len(vectors) // PICTURES_PER_CELL
        centres = np.sort(np.random.default_rng(SEED).choice(len(vectors), number, replace=False))
        index.add(vectors[centres])
        index = inverted(index, width, number)
        index.is_trained = True  # by the centres
        index.nprobe = probes
    index.add(vectors)
    return index


def _range_search(
    index: faiss.Index | faiss.IndexBinary, queries: np.ndarray, radius: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the positions of queries and of what is nearer to them than `radius`, in the distance of the index."""
    for start in range(0, len(queries), QUERIES):
        limits, _, found = index.range_search(queries[start : start + QUERIES], radius)
        yield start + np.repeat(np.arange(len(limits) - 1), np.diff(limits.astype(np.int64))), found
