"""The one decoder of training, evaluation and serving: the bytes of a picture file to RGB pixels.

Whatever comes in is untrusted. The limits below are checked on the header, before a pixel is decoded, and
whatever Pillow fails on becomes an `UnreadablePicture` with a sentence for a person.
"""

import io
import math
from typing import NamedTuple

import cv2
import numpy as np
from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)

from lib.data.preparation import RESIZE_MODES
from lib.errors import UserError

MAX_BYTES = 20_000_000  # a 50-megapixel phone photo is 10 to 15 MB
MAX_PIXELS = 50_000_000  # 8160 × 6120, the largest that phones commonly take
MIN_SIDE = 16  # below it even a person sees no character

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
# The first bytes decide, never the name. The plugins are called directly and not through `Image.open`: it
# would open the JPEGs of many phones as MPO, a container whose damage makes a sound picture unreadable.
PLUGINS = {
    b"\xff\xd8\xff": JpegImagePlugin.JpegImageFile,
    b"\x89PNG\r\n\x1a\n": PngImagePlugin.PngImageFile,
    b"RIFF": WebPImagePlugin.WebPImageFile,
    b"GIF8": GifImagePlugin.GifImageFile,
    b"BM": BmpImagePlugin.BmpImageFile,
}
# Pillow walks through side information block by block in Python, joining or inflating on the way: 20 MB of
# nothing else would keep a core busy for minutes. A picture of 20 MB in blocks of 8 KB takes 8,000 reads.
MAX_READS = 10_000
# Each scan of a progressive JPEG passes over the whole picture. Encoders write about ten; a file within
# MAX_BYTES can hold enough for hours.
START_OF_SCAN = b"\xff\xda"
MAX_SCANNED_PIXELS = 100 * MAX_PIXELS

# A film frame is at most so many times as wide as high, and the archive's pictures that are cut out of frames at most
# so many times as high as wide (95 of 100). Clip-art of a whole figure, three times as high as wide, would be stretched
# into a shape that no frame shows; "bounded" stretches up to here and pads beyond.
LARGEST_STRETCH = 16 / 9
# "bounded" also takes off a margin: what surrounds a small figure on a page is of one colour on all four edges, within
# so many grey levels. Of the archive's frames one in a hundred has such a margin.
MARGIN_LEVELS = 20
MARGIN_EXCEPTIONS = 0.01  # share of the edges' pixels that may differ more: dust, and the noise of JPEG
MARGIN_SIDE = 256  # pixels of the longer side of the copy in which the figure is looked for
LEAST_FIGURE = 0.06  # of the longer side; anything smaller in an empty picture is no figure
AROUND_FIGURE = 0.03  # of the figure's longer side, kept around it
# libjpeg can decode at 1/2, 1/4 or 1/8 of the size, several times as fast. With at least three pixels a side
# left for each wanted one the result stays within four grey levels of the full decoding, with two within twelve.
DRAFT_FACTOR = 3

UPRIGHT = {  # EXIF orientation: what sets the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
TURNED = (5, 6, 7, 8)  # the orientations that exchange width and height


class UnreadablePicture(UserError):
    """These bytes are no picture that can be used; the text says why."""


class _LimitedReader(io.BytesIO):
    """A file in memory that fails after `MAX_READS` reads."""

    reads = 0

    def read(self, size: int | None = -1) -> bytes:
        self.reads += 1
        if self.reads > MAX_READS:
            raise OSError(f"more than {MAX_READS} reads")
        return super().read(size)


def decode(contents: bytes, size: int = 64, resize_mode: str = "stretch") -> np.ndarray:
    """Decode a picture into a square.

    Args:
        contents: The bytes of a JPEG, PNG, WebP, GIF or BMP file, told apart by content, not by name.
        size: Pixels a side of the result.
        resize_mode: `"stretch"` ignores the aspect ratio, as the original study did; `"pad"` keeps it, with the
            picture centred and its border pixels repeated outwards; `"bounded"` takes off a margin of one
            colour, pads only what is longer than 16:9, up to that, and stretches the rest.

    Returns:
        RGB `uint8` array of shape `(size, size, 3)`: upright as EXIF says, transparency on white, the first
        frame of an animation.

    Raises:
        UnreadablePicture: If the bytes cannot be used as a picture.
        ValueError: If `resize_mode` is unknown.
    """
    _check_resize_mode(resize_mode)
    image, orientation = _open(contents)
    shown = _shown_size(image, orientation)
    inner = _inner_size(shown, size, resize_mode)
    pixels = _pixels(image, orientation, inner)
    if resize_mode != "bounded":
        return _fill_square(pixels, inner, size)
    height, width = pixels.shape[:2]
    left, top, right, bottom = framing(pixels, size, resize_mode).box
    if (width, height) != shown and (right - left, bottom - top) != (width, height):
        # A JPEG, decoded at a fraction that would do for the whole picture; the figure in it needs more.
        larger = max(width, height) / max(right - left, bottom - top)
        pixels = _pixels(*_open(contents), (math.ceil(inner[0] * larger), math.ceil(inner[1] * larger)))
    return resize(pixels, size, resize_mode)


def decode_full(contents: bytes, longest: int | None = None) -> np.ndarray:
    """Decode a picture in its own aspect ratio.

    Args:
        contents: As in `decode`.
        longest: If set, a larger picture is shrunk until its longer side has this many pixels.

    Returns:
        RGB `uint8` array of shape `(height, width, 3)`.

    Raises:
        UnreadablePicture: If the bytes cannot be used as a picture.
    """
    image, orientation = _open(contents)
    if longest is None or max(image.size) <= longest:
        return _pixels(image, orientation)
    wanted = _scaled(_shown_size(image, orientation), longest)
    return _resample(_pixels(image, orientation, wanted), wanted)


def probe(contents: bytes) -> tuple[int, int]:
    """Check a picture and measure it without decoding a pixel.

    Args:
        contents: As in `decode`.

    Returns:
        Width and height in pixels as shown, that is upright.

    Raises:
        UnreadablePicture: If the bytes are no picture or break a limit. Damage further inside shows only when
            the picture is decoded.
    """
    return _shown_size(*_open(contents))


def resize(picture: np.ndarray, size: int, resize_mode: str = "stretch") -> np.ndarray:
    """Bring a picture to a square, by area averaging where it shrinks.

    Padding repeats the border pixels: the plain background of clip-art and cut-outs goes on without an edge
    that a network could mistake for an outline.

    Args:
        picture: `uint8` array of shape `(height, width, 3)`.
        size: Pixels a side of the result.
        resize_mode: `"stretch"`, `"pad"` or `"bounded"`, as in `decode`.

    Returns:
        `uint8` array of shape `(size, size, 3)`.

    Raises:
        ValueError: If `resize_mode` is unknown.
    """
    frame = framing(picture, size, resize_mode)
    left, top, right, bottom = frame.box
    return _fill_square(picture[top:bottom, left:right], frame.inner, size)


class Framing(NamedTuple):
    """Which part of a picture becomes which part of the square.

    Attributes:
        box: Left, top, right and bottom of the part that is taken, pixels of the picture.
        inner: Its width and height in the square, pixels, centred there.
    """

    box: tuple[int, int, int, int]
    inner: tuple[int, int]


def framing(picture: np.ndarray, size: int, resize_mode: str = "stretch") -> Framing:
    """Say how `resize` brings a picture to a square.

    Args:
        picture: `uint8` array of shape `(height, width, 3)`.
        size: Pixels a side of the square.
        resize_mode: As in `decode`.

    Returns:
        What is taken, and how large it becomes.

    Raises:
        ValueError: If `resize_mode` is unknown.
    """
    _check_resize_mode(resize_mode)
    height, width = picture.shape[:2]
    box = (_figure_box(picture) if resize_mode == "bounded" else None) or (0, 0, width, height)
    left, top, right, bottom = box
    return Framing(box, _inner_size((right - left, bottom - top), size, resize_mode))


def _figure_box(picture: np.ndarray) -> tuple[int, int, int, int] | None:
    """Find what is not margin: left, top, right, bottom; None where there is no margin, or nothing else."""
    edges = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]]).astype(np.int16)
    paper = np.median(edges, axis=0)
    if (np.abs(edges - paper).max(axis=1) > MARGIN_LEVELS).mean() > MARGIN_EXCEPTIONS:
        return None
    height, width = picture.shape[:2]
    small = _resample(picture, _scaled((width, height), min(MARGIN_SIDE, max(width, height))))
    drawn = (np.abs(small - paper).max(axis=2) > MARGIN_LEVELS).astype(np.uint8)
    # Two pixels a side at least: dust is no figure. By the two anchors what is left stays where it was.
    dot = np.ones((2, 2), np.uint8)
    drawn = cv2.dilate(cv2.erode(drawn, dot, anchor=(0, 0)), dot, anchor=(1, 1))
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    if not len(rows) or max(np.ptp(rows), np.ptp(columns)) + 1 < LEAST_FIGURE * max(small.shape):
        return None
    scale = max(width, height) / max(small.shape)
    around = AROUND_FIGURE * (max(np.ptp(rows), np.ptp(columns)) + 1)
    left, right = columns[0] - around, columns[-1] + 1 + around
    top, bottom = rows[0] - around, rows[-1] + 1 + around
    return (
        max(0, math.floor(left * scale)),
        max(0, math.floor(top * scale)),
        min(width, math.ceil(right * scale)),
        min(height, math.ceil(bottom * scale)),
    )


def _check_resize_mode(resize_mode: str) -> None:
    if resize_mode not in RESIZE_MODES:
        raise ValueError(
            f"Invalid value for argument `resize_mode`. Expected one of {RESIZE_MODES}. Received: {resize_mode!r}"
        )


def _inner_size(shown: tuple[int, int], size: int, resize_mode: str) -> tuple[int, int]:
    """Width and height that the picture itself takes in the square."""
    stretch = {"stretch": float("inf"), "pad": 1.0, "bounded": LARGEST_STRETCH}[resize_mode]
    width, height = (max(1, round(size * min(1.0, stretch * side / max(shown)))) for side in shown)
    return width, height


def _scaled(shown: tuple[int, int], longest: int) -> tuple[int, int]:
    """Scale (width, height) so that the longer side is `longest` and no side vanishes."""
    width, height = (max(1, round(side * longest / max(shown))) for side in shown)
    return width, height


def _fill_square(picture: np.ndarray, inner: tuple[int, int], size: int) -> np.ndarray:
    """Resize to `inner` (width, height) and repeat the border pixels up to the square."""
    left, top = (size - inner[0]) // 2, (size - inner[1]) // 2
    right, bottom = size - inner[0] - left, size - inner[1] - top
    return cv2.copyMakeBorder(_resample(picture, inner), top, bottom, left, right, borderType=cv2.BORDER_REPLICATE)


def _resample(picture: np.ndarray, wanted: tuple[int, int]) -> np.ndarray:
    """Resize to (width, height), each axis by area averaging if it shrinks and linearly if it grows.

    Linear, because cubic overshoots: it would draw halos round the outlines of flat-coloured drawings.
    """
    smaller = min(wanted[0], picture.shape[1]), min(wanted[1], picture.shape[0])
    picture = cv2.resize(picture, smaller, interpolation=cv2.INTER_AREA)
    return picture if smaller == wanted else cv2.resize(picture, wanted, interpolation=cv2.INTER_LINEAR)


def _open(contents: bytes) -> tuple[ImageFile.ImageFile, int]:
    """Check every limit; returns the image, its pixels not yet decoded, and its EXIF orientation."""
    if not contents:
        raise UnreadablePicture("The file is empty (0 bytes). Choose a picture file.")
    if len(contents) > MAX_BYTES:
        raise UnreadablePicture(
            f"The file has {len(contents) / 1e6:.1f} MB, at most {MAX_BYTES / 1e6:.0f} MB can be read. "
            "Make the picture smaller."
        )
    plugin = next((plugin for start, plugin in PLUGINS.items() if contents.startswith(start)), None)
    if plugin is None:
        raise UnreadablePicture(
            "This is not a picture that can be read. Expected a JPEG, PNG, WebP, GIF or BMP file; "
            "save the picture as one of these."
        )
    # Pillow's settings are global and any other library may have changed them: a damaged picture, filled up
    # with grey, must not pass for a whole one, and no plugin may set up a canvas that is out of bounds.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    try:
        image = plugin(_LimitedReader(contents))
    except Image.DecompressionBombError:  # raised at twice the limit
        raise UnreadablePicture(_too_many_pixels(f"more than {2 * MAX_PIXELS // 1_000_000} million")) from None
    except Exception:
        raise UnreadablePicture(_damaged(plugin.format)) from None
    _check_size(*image.size)
    if image.format == "JPEG" and contents.count(START_OF_SCAN) * math.prod(image.size) > MAX_SCANNED_PIXELS:
        raise UnreadablePicture("The JPEG is stored in far too many passes. Save it again as a usual JPEG.")
    if image.tile and image.tile[0][0] == "bmp_rle":  # which Pillow unpacks in Python, 50 megapixels in 10 s
        raise UnreadablePicture("Run-length encoded BMP files cannot be read. Save the picture as PNG.")
    return image, _orientation(image)


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise UnreadablePicture(_too_many_pixels(f"{width} × {height}"))
    if min(width, height) < MIN_SIDE:
        raise UnreadablePicture(
            f"The picture has {width} × {height} pixels, at least {MIN_SIDE} a side are needed. "
            "Choose a larger picture."
        )


def _too_many_pixels(received: str) -> str:
    limit = MAX_PIXELS // 1_000_000
    return f"The picture has {received} pixels, at most {limit} million can be read. Make it smaller."


def _damaged(file_format: str) -> str:
    return (
        f"The file begins like a {file_format} picture but is damaged or incomplete. Look at it in a picture "
        "viewer, and save or download it again."
    )


def _orientation(image: Image.Image) -> int:
    """Read the EXIF orientation, 1 to 8; damaged EXIF data says nothing about the pixels, so it is 1."""
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        orientation = exif.get(ExifTags.Base.Orientation)
        return orientation if orientation in UPRIGHT else 1
    except Exception:
        return 1


def _shown_size(image: Image.Image, orientation: int) -> tuple[int, int]:
    return image.size[::-1] if orientation in TURNED else image.size


def _pixels(image: ImageFile.ImageFile, orientation: int, wanted: tuple[int, int] | None = None) -> np.ndarray:
    """Decode to upright RGB; where `wanted` (width, height) allows, a JPEG at a fraction of its size."""
    try:
        if wanted is not None:
            width, height = wanted[::-1] if orientation in TURNED else wanted
            image.draft(None, (DRAFT_FACTOR * width, DRAFT_FACTOR * height))
        image.load()
        rgb = _on_white(image)
        if orientation in UPRIGHT:
            rgb = rgb.transpose(UPRIGHT[orientation])
        return np.array(rgb)
    except MemoryError:
        raise UnreadablePicture("There is too little memory free for this picture. Make it smaller.") from None
    except Exception:
        raise UnreadablePicture(_damaged(image.format)) from None


def _on_white(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB, with white behind what is transparent."""
    if image.mode.startswith("I"):
        image = _eight_bit(image)
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image)
    return white


def _eight_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey down, which `convert` would clip to white."""
    grey = np.asarray(image)
    scaled = Image.fromarray((grey >> 8).astype(np.uint8))
    if "transparency" in image.info:
        scaled.putalpha(Image.fromarray(grey != image.info["transparency"]))
    return scaled
