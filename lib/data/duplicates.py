"""Near-copies among pictures: which pictures show the same frame, or a neighbour of it, and form a group.

Two pictures are near-copies if their thumbnails differ by less than `THUMBNAIL_RMS` grey levels or their
difference hashes by at most `HASH_BITS` bits. Groups are the connected components: a picture belongs to each
group in which it has a near-copy. On the Simpsons archive chaining stays harmless: among 18,775 frames the
largest group has 12, all of one scene.

Mirrored copies do not count. Against the 6,641 plain pairs of the archive (its own test set included) only ten
more pairs in different groups would be found by mirroring one side, and most of those are other pictures on a
similar ground.
"""

from collections.abc import Iterator

import cv2
import faiss
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

# What a near-copy is, settled by looking at pairs of the Simpsons archive: beyond these limits other scenes begin.
THUMBNAIL_RMS = 15  # grey levels, 0 to 255; nearer than this
HASH_BITS = 24  # of 256; at most this many

SIDE = 16  # of the thumbnail and of the grid of the hash
POOLED_SIDE = 8
POOLED_DIMENSIONS = POOLED_SIDE**2

# Up to here every pair is compared, which takes the square of the pictures: 50,000 make 2.5 billion distances.
EXACT_UP_TO = 50_000
# Beyond it a picture is compared with those of the nearest cells. The centres are pictures drawn from this seed.
SEED = 0
PICTURES_PER_CELL = 256
HASH_PROBES = 8
THUMBNAIL_PROBES = 12

QUERIES = 4096  # of one search, so that what it finds fits into memory
VERIFIED = 50_000  # pairs of thumbnails compared at once, 50 MB of differences


def fingerprint(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reduce pictures to what near-copies are found by.

    The difference hash is that of a grey picture averaged to 17 × 16: bit (y, x) says whether column x + 1 is
    brighter than column x in row y. It is blind to brightness and contrast; the thumbnail is not.

    Args:
        images: RGB `uint8` array of shape `(n, size, size, 3)`. The result depends a little on `size`.

    Returns:
        Hashes, `uint8` of shape `(n, 32)`, 256 bits row by row, the first in the highest place; and grey
        thumbnails of 16 × 16, `uint8` of shape `(n, 256)`, 0 to 255.

    Raises:
        ValueError: If `images` is no such array.
    """
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        raise ValueError(
            "Invalid value for argument `images`. Expected uint8 of shape (n, size, size, 3). "
            f"Received: {images.dtype} of shape {images.shape}"
        )
    hashes = np.empty((len(images), SIDE * SIDE // 8), np.uint8)
    thumbnails = np.empty((len(images), SIDE * SIDE), np.uint8)
    for row, image in enumerate(images):
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        columns = cv2.resize(grey, (SIDE + 1, SIDE), interpolation=cv2.INTER_AREA)
        hashes[row] = np.packbits(columns[:, 1:] > columns[:, :-1])
        thumbnails[row] = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA).ravel()
    return hashes, thumbnails


def near_duplicate_groups(hashes: np.ndarray, thumbnails: np.ndarray) -> np.ndarray:
    """Number the groups of near-copies.

    Args:
        hashes: `uint8` of shape `(n, 32)`, from `fingerprint`.
        thumbnails: `uint8` of shape `(n, 256)`, from `fingerprint`.

    Returns:
        `int64` of shape `(n,)`: the group of each picture, numbered from 0 by first appearance. A picture without
        near-copy is a group of its own.
    """
    return groups_of_pairs(near_duplicate_pairs(hashes, thumbnails), len(hashes))


def near_duplicate_pairs(hashes: np.ndarray, thumbnails: np.ndarray) -> np.ndarray:
    """Find the pairs of near-copies.

    Up to `EXACT_UP_TO` pictures every pair is found and the answer depends on the input alone. Beyond it the
    search goes through an inverted file with centres drawn from `SEED`: pairs that are reported are near-copies,
    but some are missed, mostly those close to the limit (`tests.benchmarks.bench_duplicates` prints the share).
    It then gives the same answer every time on one machine; on another one, or with another number of threads,
    rounding may send a picture halfway between two centres to the other cell.

    Args:
        hashes: `uint8` of shape `(n, 32)`, from `fingerprint`.
        thumbnails: `uint8` of shape `(n, 256)`, from `fingerprint`.

    Returns:
        `int64` of shape `(m, 2)`: places of two near-copies, the smaller first; sorted, each pair once. Its length
        grows with the square of the largest set of near-copies.
    """
    if len(hashes) < 2:
        return np.empty((0, 2), np.int64)
    by_hash = _keys(_pairs_by_hash(np.ascontiguousarray(hashes)), len(hashes))
    by_thumbnail = _keys(_pairs_by_thumbnail(np.ascontiguousarray(thumbnails)), len(hashes))
    keys = np.union1d(by_hash, by_thumbnail)
    return np.stack(np.divmod(keys, len(hashes)), axis=1)


def groups_of_pairs(pairs: np.ndarray, num_pictures: int) -> np.ndarray:
    """Number the connected components.

    Args:
        pairs: `int64` of shape `(m, 2)`: places that are joined.
        num_pictures: How many places there are.

    Returns:
        `int64` of shape `(num_pictures,)`: the group of each place, numbered from 0 by first appearance.
    """
    joined = (np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1]))
    _, component = connected_components(coo_array(joined, shape=(num_pictures, num_pictures)), directed=False)
    _, first, group = np.unique(component, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first)).astype(np.int64)[group]


def thumbnail_rms(thumbnails: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Measure how far the thumbnails of pairs differ.

    Args:
        thumbnails: `uint8` of shape `(n, 256)`.
        pairs: `int64` of shape `(m, 2)`.

    Returns:
        `float64` of shape `(m,)`: root mean square of the differences, grey levels, 0 to 255.
    """
    return np.sqrt(_squared_distances(thumbnails, pairs[:, 0], pairs[:, 1]) / thumbnails.shape[1])


def _keys(found: Iterator[tuple[np.ndarray, np.ndarray]], num_pictures: int) -> np.ndarray:
    """Write each pair (i, j), i < j, as i * n + j, eight bytes instead of sixteen; sorted, each once."""
    keys = []
    for one, other in found:
        different = one != other
        one, other = one[different], other[different]
        keys.append(np.unique(np.minimum(one, other) * num_pictures + np.maximum(one, other)))
    return np.unique(np.concatenate(keys)) if keys else np.empty(0, np.int64)


def _pairs_by_hash(hashes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield places whose hashes differ by at most `HASH_BITS` bits."""
    bits = hashes.shape[1] * 8
    if len(hashes) <= EXACT_UP_TO:
        index = faiss.IndexBinaryFlat(bits)
    else:
        centres = _centres(len(hashes))
        coarse = faiss.IndexBinaryFlat(bits)
        coarse.add(hashes[centres])
        index = faiss.IndexBinaryIVF(coarse, bits, len(centres))
        index.is_trained = True  # the centres are there already
        index.nprobe = HASH_PROBES
    index.add(hashes)
    for start in range(0, len(hashes), QUERIES):
        limits, _, found = index.range_search(hashes[start : start + QUERIES], HASH_BITS + 1)  # nearer than that
        yield start + _queries(limits), found


def _pairs_by_thumbnail(thumbnails: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield places whose thumbnails differ by less than `THUMBNAIL_RMS`.

    Averaging over squares of 2 × 2 never enlarges the root mean square of a difference (Cauchy-Schwarz), so the
    search on 8 × 8 loses no pair and costs a quarter; what it finds is checked on 16 × 16 in whole numbers.
    """
    pooled = _pooled(thumbnails)
    radius = THUMBNAIL_RMS**2 * POOLED_DIMENSIONS * 1.001  # squared, with room for the rounding of float32
    limit = THUMBNAIL_RMS**2 * thumbnails.shape[1]
    cells = [(None, None)] if len(thumbnails) <= EXACT_UP_TO else _cells(pooled)
    for members, visitors in cells:
        index = faiss.IndexFlatL2(POOLED_DIMENSIONS)
        index.add(pooled if members is None else pooled[members])
        visiting = np.arange(len(pooled)) if visitors is None else visitors
        for start in range(0, len(visiting), QUERIES):
            queries = visiting[start : start + QUERIES]
            limits, _, found = index.range_search(pooled[queries], radius)
            one, other = queries[_queries(limits)], found if members is None else members[found]
            once = one < other if members is None else one != other
            one, other = one[once], other[once]
            near = _squared_distances(thumbnails, one, other) < limit
            yield one[near], other[near]


def _pooled(thumbnails: np.ndarray) -> np.ndarray:
    """Average thumbnails over squares of 2 × 2: `float32` of shape `(n, 64)`."""
    pooled = np.empty((len(thumbnails), POOLED_DIMENSIONS), np.float32)
    for start in range(0, len(thumbnails), VERIFIED):
        squares = thumbnails[start : start + VERIFIED].reshape(-1, POOLED_SIDE, 2, POOLED_SIDE, 2)
        pooled[start : start + VERIFIED] = squares.mean(axis=(2, 4), dtype=np.float32).reshape(-1, POOLED_DIMENSIONS)
    return pooled


def _centres(num_pictures: int) -> np.ndarray:
    """Draw the places of the pictures that are the centres of cells.

    Drawn and not trained: k-means finds as many pairs for two thirds of the work, but follows from rounding.
    """
    number = num_pictures // PICTURES_PER_CELL
    return np.sort(np.random.default_rng(SEED).choice(num_pictures, number, replace=False))


def _cells(vectors: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield, cell by cell, the places whose nearest centre is its own, and those that have it among their nearest."""
    centres = _centres(len(vectors))
    coarse = faiss.IndexFlatL2(vectors.shape[1])
    coarse.add(vectors[centres])
    nearest = np.empty((len(vectors), THUMBNAIL_PROBES), np.int32)
    for start in range(0, len(vectors), QUERIES):
        nearest[start : start + QUERIES] = coarse.search(vectors[start : start + QUERIES], THUMBNAIL_PROBES)[1]
    members, first_member = _by_cell(nearest[:, 0], len(centres))
    visits, first_visit = _by_cell(nearest.ravel(), len(centres))
    for cell in range(len(centres)):
        visitors = visits[first_visit[cell] : first_visit[cell + 1]] // THUMBNAIL_PROBES
        yield members[first_member[cell] : first_member[cell + 1]], visitors


def _by_cell(cells: np.ndarray, num_cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Sort places by cell; returns them and where each cell begins, `num_cells + 1` numbers."""
    order = np.argsort(cells, kind="stable")
    return order, np.concatenate([[0], np.cumsum(np.bincount(cells, minlength=num_cells))])


def _queries(limits: np.ndarray) -> np.ndarray:
    """Say for each result of a range search which query it answers."""
    return np.repeat(np.arange(len(limits) - 1), np.diff(limits.astype(np.int64)))


def _squared_distances(thumbnails: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    squared = np.empty(len(one), np.int64)
    for start in range(0, len(one), VERIFIED):
        part = slice(start, start + VERIFIED)
        difference = thumbnails[one[part]].astype(np.int16) - thumbnails[other[part]]
        squared[part] = np.einsum("ij,ij->i", difference, difference, dtype=np.int32)
    return squared
