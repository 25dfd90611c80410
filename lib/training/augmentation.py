"""Random changes of a training picture that leave the character the same."""

import math

import cv2
import numpy as np

from lib.training.recipe import Recipe

# A flood that covers more of a picture has run into the figure.
MOST_BACKGROUND = 0.8
LEAST_FIGURE = 0.35  # share of height and of width that a figure takes up, to be enlarged to the whole


def augment(picture: np.ndarray, recipe: Recipe, rng: np.random.Generator) -> np.ndarray:
    """Change one picture at random.

    Args:
        picture: `uint8 (height, width, 3)`, RGB.
        recipe: Says how much; see the fields from `shift` to `style_jitter`.
        rng: Where chance comes from.

    Returns:
        A new picture of the same shape and type.
    """
    warped = _warp(picture, recipe, rng)
    if recipe.background_swap and rng.random() < recipe.background_swap:
        warped = _repaint(warped, rng)
    if recipe.shrink_and_paste and rng.random() < recipe.shrink_and_paste:
        warped = _place(warped, rng)
    if recipe.style_jitter and rng.random() < recipe.style_jitter:
        warped = _restyle(warped, rng)
    if recipe.colour_jitter:
        warped = _recolour(warped, recipe.colour_jitter, rng)
    if recipe.quality_jitter and rng.random() < recipe.quality_jitter:
        warped = _degrade(warped, rng)
    if recipe.random_erasing:
        warped = _cut_out(warped, recipe.random_erasing, rng)
    return warped


def _warp(picture: np.ndarray, recipe: Recipe, rng: np.random.Generator) -> np.ndarray:
    """Flip, shift, zoom and turn in one resampling, so that the picture is blurred once at most."""
    height, width = picture.shape[:2]
    mirror = -1.0 if recipe.flip and rng.random() < 0.5 else 1.0
    right, down = rng.uniform(-recipe.shift, recipe.shift, 2) * (width, height)
    if not recipe.zoom and not recipe.rotate:
        return _shift(picture[:, ::-1] if mirror < 0 else picture, round(right), round(down))
    # Plain numbers: with arrays as small as these, NumPy takes nearly as long as OpenCV for the picture.
    scale = math.exp(rng.uniform(-1, 1) * math.log1p(recipe.zoom))
    angle = math.radians(rng.uniform(-recipe.rotate, recipe.rotate))
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    x, y = (width - 1) / 2, (height - 1) / 2  # stay where they are, but for the shift
    across = (mirror * cosine, -sine, x + right - mirror * cosine * x + sine * y)
    along = (mirror * sine, cosine, y + down - mirror * sine * x - cosine * y)
    matrix = np.array((across, along))
    return cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _shift(picture: np.ndarray, right: int, down: int) -> np.ndarray:
    """Shift by whole pixels, which leaves them as they are; the edge is repeated."""
    height, width = picture.shape[:2]
    edges = (max(down, 0), max(-down, 0), max(right, 0), max(-right, 0))  # top, bottom, left, right
    larger = cv2.copyMakeBorder(np.ascontiguousarray(picture), *edges, cv2.BORDER_REPLICATE)
    top, left = max(-down, 0), max(-right, 0)
    return larger[top : top + height, left : left + width]


def _repaint(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Paint over what is flat and reaches the edge.

    Cartoons are drawn in outlines: filled from the edge, a background runs up to the figure and stops. What is left
    is near enough to a figure cut out, at no cost for outlining it.
    """
    height, width = picture.shape[:2]
    picture = np.ascontiguousarray(picture)
    filled = np.zeros((height + 2, width + 2), dtype="uint8")
    step = (int(rng.integers(4, 14)),) * 3
    # Not from below, where figures leave the picture.
    top = [(x, 0) for x in np.linspace(0, width - 1, 5).astype(int)]
    sides = [(x, y) for x in (0, width - 1) for y in np.linspace(0, height - 1, 5).astype(int)[1:4]]
    for x, y in top + sides:
        if not filled[y + 1, x + 1]:
            cv2.floodFill(picture, filled, (int(x), int(y)), 0, step, step, 4 | cv2.FLOODFILL_MASK_ONLY | 1 << 8)
    background = filled[1:-1, 1:-1]
    # More than that is no background but the figure too.
    if cv2.countNonZero(background) > MOST_BACKGROUND * background.size:
        return picture
    figure = 1 - background
    painted = cv2.copyTo(picture, figure, _ground(height, width, rng))
    return _trim(painted, figure) if rng.random() < 0.5 else painted


def _trim(picture: np.ndarray, figure: np.ndarray) -> np.ndarray:
    """Enlarge what a figure, 1 in `uint8 (height, width)`, takes up to the whole picture, as clip-art is cut out."""
    height, width = figure.shape
    left, top, figure_width, figure_height = cv2.boundingRect(figure)
    # A sliver of a figure, enlarged, shows nobody.
    if min(figure_height / height, figure_width / width) < LEAST_FIGURE:
        return picture
    cut = picture[top : top + figure_height, left : left + figure_width]
    return cv2.resize(cut, (width, height), interpolation=cv2.INTER_LINEAR)


def _place(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shrink the picture and put it somewhere on a ground that is no film frame: white, plain, or noise."""
    height, width = picture.shape[:2]
    share = rng.uniform(0.35, 0.95)
    stretch = np.exp(rng.uniform(-0.3, 0.3, 2))
    new_width, new_height = (
        max(8, min(n, round(n * share * s))) for n, s in zip((width, height), stretch, strict=True)
    )
    # Often the picture's own corner goes on, as around a figure on a white page.
    own = rng.random() < 0.4
    ground = _plain(height, width, picture[0, 0]) if own else _ground(height, width, rng)
    top, left = rng.integers(0, height - new_height + 1), rng.integers(0, width - new_width + 1)
    small = cv2.resize(picture, (new_width, new_height), interpolation=cv2.INTER_AREA)
    ground[top : top + new_height, left : left + new_width] = small
    return ground


def _ground(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    kind = rng.random()
    if kind < 0.35:
        return np.full((height, width, 3), 255, dtype="uint8")
    if kind < 0.7:
        return _plain(height, width, rng.integers(0, 256, 3).astype("uint8"))
    # Noise of a few cells, enlarged, is as busy as a background and shows nothing.
    cells = rng.integers(0, 256, (*rng.integers(2, 9, 2), 3), dtype="uint8")
    return cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)


def _plain(height: int, width: int, colour: np.ndarray) -> np.ndarray:
    # Ten times as fast as `np.full`, whose inner loop is three bytes long.
    return cv2.resize(colour.reshape(1, 1, 3), (width, height), interpolation=cv2.INTER_NEAREST)


def _recolour(picture: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    contrast = np.exp(rng.uniform(-1, 1) * np.log1p(amount))
    brightness = rng.uniform(-amount, amount) * 128
    weights = np.exp(rng.uniform(-1, 1, 3) * np.log1p(amount) / 2)
    # One table of 256 values a channel is the whole of it, and fast.
    values = (np.arange(256.0) - 128) * contrast * weights[:, None] + 128 + brightness
    table = np.clip(values, 0, 255).astype("uint8")
    return cv2.LUT(np.ascontiguousarray(picture), np.ascontiguousarray(table.T)[:, None, :])


def _restyle(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw the picture in another manner, by simple filters: what a character is known by must survive it."""
    picture = np.ascontiguousarray(picture)
    kind = rng.integers(6)
    if kind == 0:  # flat colours, as in vector drawings
        levels = int(rng.integers(4, 9))
        table = np.rint(np.floor(np.arange(256) / 256 * levels) * 255 / (levels - 1)).astype("uint8")
        return cv2.LUT(cv2.medianBlur(picture, int(rng.choice((3, 5)))), table)
    if kind == 1:  # thick outlines: the darkest neighbour wins
        side = int(rng.integers(2, 4))
        return cv2.erode(picture, np.ones((side, side), "uint8"))
    if kind == 2:  # other paints
        hue, saturation, value = cv2.split(cv2.cvtColor(picture, cv2.COLOR_RGB2HSV))
        turned = (hue.astype("int16") + int(rng.integers(-12, 13))) % 180  # OpenCV's hues go to 180
        richer = np.clip(saturation * rng.uniform(0.4, 1.8), 0, 255)
        return cv2.cvtColor(cv2.merge([turned.astype("uint8"), richer.astype("uint8"), value]), cv2.COLOR_HSV2RGB)
    if kind == 3:  # hard edges, with the halo that sharpening leaves
        soft = cv2.GaussianBlur(picture, (0, 0), 1.5)
        strength = rng.uniform(0.8, 2.5)
        return cv2.addWeighted(picture, 1 + strength, soft, -strength, 0)
    if kind == 4:  # coarse pixels
        height, width = picture.shape[:2]
        share = rng.uniform(0.25, 0.6)
        small = cv2.resize(picture, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
        return cv2.resize(small, (width, height), interpolation=int(rng.choice((cv2.INTER_NEAREST, cv2.INTER_CUBIC))))
    # Lines alone: what is darker than its surroundings, on a paper that may keep some of the colours.
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    surroundings = cv2.GaussianBlur(grey, (0, 0), 3)
    lines = np.clip(255 + 4.0 * (grey.astype("float32") - surroundings + 4), 0, 255)[:, :, None]
    colours = rng.uniform(0, 0.6) if rng.random() < 0.5 else 0.0
    return np.rint(lines * (1 - colours) + picture * (lines / 255) * colours).astype("uint8")


def _degrade(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    kind = rng.integers(4)
    if kind == 0:
        return cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 1.3))
    if kind == 1:
        quality = int(rng.integers(12, 60))
        bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
        return cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)
    if kind == 2:
        return cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    noise = rng.normal(0, rng.uniform(3, 16), picture.shape)
    return np.clip(picture + noise, 0, 255).astype("uint8")


def _cut_out(picture: np.ndarray, largest: float, rng: np.random.Generator) -> np.ndarray:
    height, width = picture.shape[:2]
    side = max(1, round(rng.uniform(0, largest) * min(height, width)))
    top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
    picture = picture.copy()
    picture[top : top + side, left : left + side] = rng.integers(0, 256)
    return picture
