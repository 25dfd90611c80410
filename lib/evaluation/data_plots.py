"""Figures about the pictures before any training: shapes, resize modes, and where near-duplicates end."""

import faiss
import numpy as np
import pandas as pd

from lib.data import duplicates
from lib.data.preparation import DEFAULTS, Preparation
from lib.evaluation import plots

COMPARED = 4000  # pictures: enough to find pairs at the limit, in a second


@plots.styled
def shapes(table: pd.DataFrame) -> plots.Chart:
    """Draw `width` against `height` of pictures, pixels, and a histogram of their ratio; a line is the square."""
    figure, (sizes, ratios) = plots.panels(3.2, 2, grid="y")
    longest = float(table[["width", "height"]].max().max())
    sizes.plot([0, longest], [0, longest], **plots.DASHED)
    sizes.plot(table["width"], table["height"], "o", color=plots.BLUE, markersize=4, alpha=0.3)
    sizes.set(xlabel="width, pixels", ylabel="height, pixels", title="Sizes", aspect="equal")
    sizes.set(xlim=(0, 1.05 * longest), ylim=(0, 1.05 * longest))
    ratio = np.log2(table["width"] / table["height"])
    reach = max(1.0, float(np.abs(ratio).max()) + 0.1)
    ratios.hist(ratio, bins=np.linspace(-reach, reach, 42), color=plots.SKY)
    ratios.axvline(0, **plots.DASHED)
    ticks = np.arange(-np.floor(reach), np.floor(reach) + 0.5)
    ratios.set_xticks(ticks, [f"1:{2**-tick:g}" if tick < 0 else f"{2**tick:g}:1" for tick in ticks])
    ratios.yaxis.set_major_formatter(plots.THOUSANDS)
    ratios.set(ylabel="pictures", title="Width divided by height (dashed: square)")
    return figure


def pairs_at_the_limit(
    images: np.ndarray, rows: np.ndarray, preparation: Preparation = DEFAULTS, number: int = 3
) -> tuple[list[np.ndarray], list[str]]:
    """Find the pairs of pictures just inside and just outside the limit of near-duplicates.

    Args:
        images: RGB uint8 `(num_pictures, size, size, 3)`.
        rows: Those that are compared, `int (n,)`; of many, `COMPARED` random ones.
        preparation: Has the limits.
        number: Pairs on each side of the limit.

    Returns:
        The pictures of each pair one after the other, those inside first, and a title for each: how much the
        thumbnails differ (grey levels RMS) and the hashes (bits). A pair counts as outside when both differ too much.
    """
    rows = np.sort(np.random.default_rng(0).permutation(np.sort(rows))[:COMPARED])
    hashes, thumbnails = duplicates.fingerprint([images[row] for row in rows])
    vectors = thumbnails.astype(np.float32)
    _, nearest = faiss.knn(vectors, vectors, min(4, len(rows)))
    every = [(one, int(other)) for one, found in enumerate(nearest) for other in found if one < other]
    pairs = np.array(every, np.int64).reshape(-1, 2)
    rms = duplicates.thumbnail_rms(thumbnails, *pairs.T)
    bits = np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]]).sum(axis=1)
    # How far inside or outside a pair is, by the measure that it meets best.
    order = np.argsort(np.minimum(rms / (preparation.near_rms or 1), bits / (preparation.near_bits + 1)))
    near = set(map(tuple, duplicates.near_duplicate_pairs(hashes, thumbnails, preparation).tolist()))
    is_near = np.array([pair in near for pair in every], bool)
    inside = order[is_near[order]][::-1][:number]
    outside = order[~is_near[order]][:number]
    pictures, titles = [], []
    for pair in (*inside, *outside):
        pictures += [images[rows[row]] for row in pairs[pair]]
        which = "inside" if is_near[pair] else "outside"
        titles += [f"{which}: {bits[pair]} bits,\n{rms[pair]:.0f} grey levels", ""]
    return pictures, titles
