"""Augmentation: random changes of a training picture that leave the character the same."""

import math

import cv2
import numpy as np

from lib.training.recipe import Recipe

# A flood fill that covers more of the picture has leaked into the figure.
MAX_BACKGROUND_FRACTION = 0.8
# Of height and width: a figure that is smaller or thinner is too coarse when enlarged to the whole picture.
MIN_FIGURE_FRACTION = 0.35

IDENTITY = np.eye(2, 3)


def augment(picture: np.ndarray, recipe: Recipe, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Augment one picture, and say where its points are now, so that boxes can follow it.

    Args:
        picture: `uint8 (height, width, 3)`, RGB.
        recipe: Its fields from `shift` to `style_jitter` set the amounts.
        rng: Decides what happens.

    Returns:
        A new picture of the same shape and type, and an affine matrix, `float64 (2, 3)`: a point `(x, y)`, in fractions
        of width and height, is at `matrix @ (x, y, 1)` in the new picture.
    """
    changed, matrix = _warp(picture, recipe, rng)
    if recipe.background_swap and rng.random() < recipe.background_swap:
        changed, then = _swap_background(changed, rng)
        matrix = _composed(then, matrix)
    if recipe.shrink_and_paste and rng.random() < recipe.shrink_and_paste:
        changed, then = _shrink_and_paste(changed, rng)
        matrix = _composed(then, matrix)
    if recipe.style_jitter and rng.random() < recipe.style_jitter:
        changed = _jitter_style(changed, rng)
    if recipe.colour_jitter:
        changed = _jitter_colour(changed, recipe.colour_jitter, rng)
    if recipe.quality_jitter and rng.random() < recipe.quality_jitter:
        changed = _jitter_quality(changed, rng)
    if recipe.random_erasing:
        changed = _erase(changed, recipe.random_erasing, rng)
    return changed, matrix


def _composed(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    return second @ np.vstack([first, (0, 0, 1)])


def _in_fractions(matrix: np.ndarray, width: int, height: int) -> np.ndarray:
    """Convert a matrix between pixel centres into one between fractions of width and height."""
    # Pixel n covers the fractions n / width to (n + 1) / width; its centre is at n.
    to_fractions = np.array([[1 / width, 0, 0.5 / width], [0, 1 / height, 0.5 / height], [0, 0, 1]])
    to_pixels = np.array([[width, 0, -0.5], [0, height, -0.5], [0, 0, 1]])
    return (to_fractions @ np.vstack([matrix, (0, 0, 1)]) @ to_pixels)[:2]


def _warp(picture: np.ndarray, recipe: Recipe, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Flip, shift, zoom and rotate in one resampling, so that the picture is interpolated at most once."""
    height, width = picture.shape[:2]
    direction = -1.0 if recipe.flip and rng.random() < 0.5 else 1.0
    right, down = rng.uniform(-recipe.shift, recipe.shift, 2) * (width, height)
    scale, angle = 1.0, 0.0
    if recipe.zoom or recipe.rotate:
        # Plain floats: for matrices this small, NumPy would take nearly as long as OpenCV takes for the picture.
        scale = math.exp(rng.uniform(-1, 1) * math.log1p(recipe.zoom))
        angle = math.radians(rng.uniform(-recipe.rotate, recipe.rotate))
    else:
        right, down = round(right), round(down)  # whole pixels, which interpolation leaves as they are
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    x, y = (width - 1) / 2, (height - 1) / 2  # the centre, which only the shift moves
    to_x = (direction * cosine, -sine, x + right - direction * cosine * x + sine * y)
    to_y = (direction * sine, cosine, y + down - direction * sine * x - cosine * y)
    matrix = np.array((to_x, to_y))
    warped = cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return warped, _in_fractions(matrix, width, height)


def _swap_background(picture: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Replace the flat area that reaches the edge; half of the time, crop to the figure, as clip-art is cropped.

    A figure that is large enough is enlarged to the whole picture.
    """
    swapped, figure = cut_out(picture, rng)
    if figure is None or rng.random() >= 0.5:
        return swapped, IDENTITY
    height, width = figure.shape
    left, top, figure_width, figure_height = cv2.boundingRect(figure)
    if min(figure_height / height, figure_width / width) < MIN_FIGURE_FRACTION:
        return swapped, IDENTITY
    cropped = swapped[top : top + figure_height, left : left + figure_width]
    matrix = np.array([[width, 0, -left], [0, height, -top]]) / [[figure_width], [figure_height]]
    return cv2.resize(cropped, (width, height), interpolation=cv2.INTER_LINEAR), matrix


def cut_out(picture: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
    """Replace the flat area that reaches the edge of a picture, `uint8 (height, width, 3)`, and find the figure.

    Cartoons have outlines: a flood fill from the edge covers the background up to the figure and stops there. This
    segments a figure well enough, without any annotation.

    Returns:
        The picture on another background, and the mask of the figure, `uint8 (height, width)`, 0 or 1. Where the flood
        leaked into the figure, the picture as it is and None.
    """
    height, width = picture.shape[:2]
    picture = np.require(picture, requirements=("C", "W"))  # a row of a memory-mapped array is read-only
    filled = np.zeros((height + 2, width + 2), dtype="uint8")
    step = (int(rng.integers(4, 14)),) * 3
    # Not from the lower edge, where figures extend out of the picture.
    top = [(x, 0) for x in np.linspace(0, width - 1, 5).astype(int)]
    sides = [(x, y) for x in (0, width - 1) for y in np.linspace(0, height - 1, 5).astype(int)[1:4]]
    for x, y in top + sides:
        if not filled[y + 1, x + 1]:
            cv2.floodFill(picture, filled, (int(x), int(y)), 0, step, step, 4 | cv2.FLOODFILL_MASK_ONLY | 1 << 8)
    background = filled[1:-1, 1:-1]
    if cv2.countNonZero(background) > MAX_BACKGROUND_FRACTION * background.size:
        return picture, None
    figure = 1 - background
    return cv2.copyTo(picture, figure, _background(height, width, rng)), figure


def _shrink_and_paste(picture: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Shrink the picture and paste it at a random place on a white, solid or noisy background."""
    height, width = picture.shape[:2]
    scale = rng.uniform(0.35, 0.95)
    stretch = np.exp(rng.uniform(-0.3, 0.3, 2))
    new_width, new_height = (
        max(8, min(n, round(n * scale * s))) for n, s in zip((width, height), stretch, strict=True)
    )
    # Often the colour of the corner continues, as around a figure on a white page.
    continued = rng.random() < 0.4
    pasted = _solid(height, width, picture[0, 0]) if continued else _background(height, width, rng)
    top, left = rng.integers(0, height - new_height + 1), rng.integers(0, width - new_width + 1)
    small = cv2.resize(picture, (new_width, new_height), interpolation=cv2.INTER_AREA)
    pasted[top : top + new_height, left : left + new_width] = small
    return pasted, np.array([[new_width, 0, left], [0, new_height, top]]) / [[width], [height]]


def _background(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Make a white, solid or noisy picture."""
    kind = rng.random()
    if kind < 0.35:
        return np.full((height, width, 3), 255, dtype="uint8")
    if kind < 0.7:
        return _solid(height, width, rng.integers(0, 256, 3).astype("uint8"))
    # A few random cells, enlarged, are as busy as a real background and show no object.
    cells = rng.integers(0, 256, (*rng.integers(2, 9, 2), 3), dtype="uint8")
    return cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)


def _solid(height: int, width: int, colour: np.ndarray) -> np.ndarray:
    # Ten times as fast as `np.full`, whose inner loop covers three bytes.
    return cv2.resize(colour.reshape(1, 1, 3), (width, height), interpolation=cv2.INTER_NEAREST)


def _jitter_colour(picture: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Change contrast, brightness and tint."""
    contrast = np.exp(rng.uniform(-1, 1) * np.log1p(amount))
    brightness = rng.uniform(-amount, amount) * 128
    weights = np.exp(rng.uniform(-1, 1, 3) * np.log1p(amount) / 2)
    # One look-up table per channel, of 256 values, applies all of them at once.
    values = (np.arange(256.0) - 128) * contrast * weights[:, None] + 128 + brightness
    table = np.clip(values, 0, 255).astype("uint8")
    return cv2.LUT(np.ascontiguousarray(picture), np.ascontiguousarray(table.T)[:, None, :])


def _jitter_style(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Filter the picture so that it looks drawn in another style, with the character still recognisable."""
    picture = np.ascontiguousarray(picture)
    kind = rng.integers(6)
    if kind == 0:  # flat colours, as in vector drawings
        levels = int(rng.integers(4, 9))
        table = np.rint(np.floor(np.arange(256) / 256 * levels) * 255 / (levels - 1)).astype("uint8")
        return cv2.LUT(cv2.medianBlur(picture, int(rng.choice((3, 5)))), table)
    if kind == 1:  # thick outlines: each pixel takes its darkest neighbour
        side = int(rng.integers(2, 4))
        return cv2.erode(picture, np.ones((side, side), "uint8"))
    if kind == 2:  # other hue and saturation
        hue, saturation, value = cv2.split(cv2.cvtColor(picture, cv2.COLOR_RGB2HSV))
        shifted = (hue.astype("int16") + int(rng.integers(-12, 13))) % 180  # OpenCV's hues are 0 to 179
        scaled = np.clip(saturation * rng.uniform(0.4, 1.8), 0, 255)
        return cv2.cvtColor(cv2.merge([shifted.astype("uint8"), scaled.astype("uint8"), value]), cv2.COLOR_HSV2RGB)
    if kind == 3:  # sharpened edges, with the halo of an unsharp mask
        blurred = cv2.GaussianBlur(picture, (0, 0), 1.5)
        strength = rng.uniform(0.8, 2.5)
        return cv2.addWeighted(picture, 1 + strength, blurred, -strength, 0)
    if kind == 4:  # coarse pixels
        height, width = picture.shape[:2]
        scale = rng.uniform(0.25, 0.6)
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        return cv2.resize(small, (width, height), interpolation=int(rng.choice((cv2.INTER_NEAREST, cv2.INTER_CUBIC))))
    # A line drawing: pixels darker than their surroundings, on white paper or over faint colours.
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    surroundings = cv2.GaussianBlur(grey, (0, 0), 3)
    lines = np.clip(255 + 4.0 * (grey.astype("float32") - surroundings + 4), 0, 255)[:, :, None]
    colours = rng.uniform(0, 0.6) if rng.random() < 0.5 else 0.0
    return np.rint(lines * (1 - colours) + picture * (lines / 255) * colours).astype("uint8")


def _jitter_quality(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur, compress, desaturate, or add noise."""
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


def _erase(picture: np.ndarray, max_fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Erase a random square (Zhong et al. 2017, arXiv:1708.04896), its side a fraction of the shorter side."""
    height, width = picture.shape[:2]
    side = max(1, round(rng.uniform(0, max_fraction) * min(height, width)))
    top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
    picture = picture.copy()
    picture[top : top + side, left : left + side] = rng.integers(0, 256)
    return picture
