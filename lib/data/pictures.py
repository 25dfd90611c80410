"""The one decoder of training, evaluation and serving: from the bytes of a picture file to RGB pixels.

Every file is untrusted. The limits below are checked on the header, before a pixel is decoded, and every failure of
Pillow becomes an `UnreadablePicture` with a message for the user.
"""

import contextlib
import getpass
import io
import math
import tempfile
from pathlib import Path
from typing import NamedTuple

import cv2
import filelock
import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)

from lib.data import formats
from lib.errors import UserError

MAX_BYTES = 20_000_000  # a 50-megapixel phone photo is 10 to 15 MB
MAX_PIXELS = 50_000_000  # 8160 × 6120, the largest that phones commonly take
# Memory that decoding takes at its peak, by measurement of 49 megapixels: up to 0.75 GB, and a WebP or AVIF, of which
# several copies are kept, half as much again.
MAX_COPIED_PIXELS = 30_000_000
COPIED = ("WEBP", "AVIF")
LARGE_PIXELS = 12_000_000  # larger ones are decoded one at a time; see `_turn`
TURN_SECONDS = 60.0  # that one waits for its turn: a process that hangs must not stop all others for ever
MIN_SIDE = 16  # smaller pictures show no character, even to a person

# The plugins are called directly and not through `Image.open`, which opens the JPEGs of many phones as MPO, a container
# whose damage makes an intact picture unreadable.
PLUGINS = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
}
# Pillow reads metadata block by block in Python, joining or inflating them: 20 MB of metadata would keep a core busy
# for minutes. A picture of 20 MB in blocks of 8 KB takes 8,000 reads.
MAX_READS = 10_000
# Of a grey PNG of 2 or 4 bits Pillow gives pixels of 8 bits, but the transparent grey level as it is in the file.
GREY_STEPS = {"L;2": 85, "L;4": 17}
# Each scan of a progressive JPEG covers the whole picture. Encoders write about ten; a file within MAX_BYTES can hold
# enough scans for hours.
START_OF_SCAN = b"\xff\xda"
MAX_SCANNED_PIXELS = 100 * MAX_PIXELS

# Up to which ratio of its sides a picture is stretched; beyond it, it is padded. 16:9 is the largest ratio of width to
# height of a film frame; 95 of 100 of the archive's upright pictures are within its inverse. Clip-art of a whole
# figure, three times as high as wide, would be stretched into a shape that no frame shows.
LARGEST_STRETCH = {"stretch": math.inf, "pad": 1.0, "bounded": 16 / 9}
RESIZE_MODES = tuple(LARGEST_STRETCH)
# "bounded" also crops uniform borders: all four edges have one colour, within this many grey levels. One in a hundred
# of the archive's frames has such borders.
BORDER_LEVELS = 20
BORDER_EXCEPTIONS = 0.01  # fraction of the pixels of the edges that may differ more: dust, and the noise of JPEG
BORDER_SIDE = 256  # pixels, longer side of the reduced copy in which the figure is located
MIN_FIGURE = 0.06  # of the longer side of the picture; anything smaller is no figure
FIGURE_MARGIN = 0.03  # of the longer side of the figure, kept around it
# libjpeg can decode at 1/2, 1/4 or 1/8 of the size, several times as fast. With at least three decoded pixels a side
# for each one of the result, that stays within four grey levels of the full decoding, with two within twelve.
DRAFT_FACTOR = 3

UPRIGHT = {  # EXIF orientation: what turns the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
TURNED = (5, 6, 7, 8)  # orientations that swap width and height


class UnreadablePicture(UserError):
    """The bytes cannot be used as a picture; the text says why."""


class _LimitedReader(io.BytesIO):
    """A file in memory that fails after `MAX_READS` reads."""

    reads = 0

    def read(self, size: int | None = -1) -> bytes:
        self.reads += 1
        if self.reads > MAX_READS:
            raise OSError(f"more than {MAX_READS} reads")
        return super().read(size)


class Framing(NamedTuple):
    """How a picture is put into a square: the part of it that is used, resized and centred.

    Attributes:
        box: Left, top, right and bottom of the part, pixels of the picture.
        inner: Its width and height in the square, pixels.
        shape: Height and width of the picture, pixels.
        size: Side of the square, pixels.
    """

    box: tuple[int, int, int, int]
    inner: tuple[int, int]
    shape: tuple[int, int]
    size: int

    def to_square(self, box: np.ndarray) -> np.ndarray:
        """Convert a box (left, top, right, bottom) from fractions of the picture to fractions of the square."""
        scale, padding, whole, origin = self._geometry()
        return (((np.reshape(box, (2, 2)) * whole - origin) * scale + padding) / self.size).reshape(4)

    def from_square(self, box: np.ndarray) -> np.ndarray:
        """Convert a box in the square back to one in the picture, clipped to it."""
        scale, padding, whole, origin = self._geometry()
        return np.clip((((np.reshape(box, (2, 2)) * self.size - padding) / scale + origin) / whole).reshape(4), 0, 1)

    def _geometry(self) -> tuple[np.ndarray, ...]:
        """Give scale, padding, size of the picture and origin of its part, each for x and y, in pixels."""
        left, top, right, bottom = self.box
        inner = np.array(self.inner)
        scale, padding = inner / (right - left, bottom - top), (self.size - inner) // 2
        return scale, padding, np.array(self.shape[::-1]), np.array([left, top])


class Square(NamedTuple):
    """A picture in a square, RGB `uint8 (size, size, 3)`, and how it fits there."""

    pixels: np.ndarray
    framing: Framing


def decode(contents: bytes, size: int = 64, resize_mode: str = "stretch") -> np.ndarray:
    """Decode a picture into a square.

    Args:
        contents: The bytes of a JPEG, PNG, WebP, AVIF, GIF or BMP file, recognised by content, not by name.
        size: Pixels a side of the result.
        resize_mode: `"stretch"` ignores the aspect ratio, as the original study did; `"pad"` keeps it, with the
            picture centred and its border pixels repeated outwards; `"bounded"` crops uniform borders, pads what is
            longer than 16:9 up to that ratio, and stretches the rest.

    Returns:
        RGB `uint8 (size, size, 3)`: upright according to EXIF, transparency on white, the first frame of an
        animation.

    Raises:
        UnreadablePicture: The bytes cannot be used as a picture.
    """
    return decode_framed(contents, size, resize_mode).pixels


def decode_framed(contents: bytes, size: int = 64, resize_mode: str = "stretch") -> Square:
    """Decode a picture into a square, and say how it fits there; see `decode`."""
    image, orientation = _open(contents)
    shown = _shown_size(image, orientation)
    inner = inner_size(shown, size, resize_mode)
    pixels = _pixels(image, orientation, inner)
    if resize_mode != "bounded":
        return Square(_fill_square(pixels, inner, size), Framing((0, 0, *shown), inner, shown[::-1], size))
    if (box := figure_box(pixels)) and pixels.shape[1::-1] != shown:
        # A JPEG, decoded at a fraction of its size that suffices for the whole picture but not for the figure in it.
        larger = max(pixels.shape) / max(box[2] - box[0], box[3] - box[1])
        pixels = _pixels(*_open(contents), (math.ceil(inner[0] * larger), math.ceil(inner[1] * larger)))
    return resize_framed(pixels, size, resize_mode)


def decode_full(contents: bytes, longest: int | None = None) -> np.ndarray:
    """Decode a picture in its own aspect ratio, RGB `uint8 (height, width, 3)`; see `decode`.

    If `longest` is set, a larger picture is shrunk until its longer side has this many pixels.
    """
    image, orientation = _open(contents)
    if longest is None or max(image.size) <= longest:
        return _pixels(image, orientation)
    wanted = _scaled(_shown_size(image, orientation), longest)
    return _resample(_pixels(image, orientation, wanted), wanted)


def probe(contents: bytes) -> tuple[int, int]:
    """Check a picture and read its upright width and height, pixels, without decoding one.

    Raises:
        UnreadablePicture: The bytes are no picture or exceed a limit. Damage after the header is found only by
            decoding.
    """
    return _shown_size(*_open(contents))


def resize(picture: np.ndarray, size: int, resize_mode: str = "stretch") -> np.ndarray:
    """Resize a picture, `uint8 (height, width, 3)`, to a square, by area averaging where it shrinks; see `decode`.

    Padding repeats the border pixels: the plain background of clip-art and cut-outs continues without an edge that a
    network could mistake for an outline.
    """
    return resize_framed(picture, size, resize_mode).pixels


def resize_framed(picture: np.ndarray, size: int, resize_mode: str = "stretch") -> Square:
    """Resize a picture to a square, and say how it fits there; see `resize`."""
    frame = framing(picture, size, resize_mode)
    left, top, right, bottom = frame.box
    return Square(_fill_square(picture[top:bottom, left:right], frame.inner, size), frame)


def framing(picture: np.ndarray, size: int, resize_mode: str = "stretch") -> Framing:
    """Compute how `resize` fits a picture into a square."""
    height, width = picture.shape[:2]
    box = (figure_box(picture) if resize_mode == "bounded" else None) or (0, 0, width, height)
    left, top, right, bottom = box
    return Framing(box, inner_size((right - left, bottom - top), size, resize_mode), (height, width), size)


def inner_size(shown: tuple[int, int], size: int, resize_mode: str) -> tuple[int, int]:
    """Compute the width and height, in the square, of a picture of `shown` (width, height), without padding."""
    largest = LARGEST_STRETCH[resize_mode]
    return tuple(max(1, round(size * min(1.0, largest * side / max(shown)))) for side in shown)


def figure_box(picture: np.ndarray) -> tuple[int, int, int, int] | None:
    """Find the figure within uniform borders: left, top, right, bottom; None without borders or without a figure."""
    edges = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]]).astype(np.int16)
    background = np.median(edges, axis=0)
    if (np.abs(edges - background).max(axis=1) > BORDER_LEVELS).mean() > BORDER_EXCEPTIONS:
        return None
    height, width = picture.shape[:2]
    small = _resample(picture, _scaled((width, height), min(BORDER_SIDE, max(width, height))))
    drawn = (np.abs(small - background).max(axis=2) > BORDER_LEVELS).astype(np.uint8)
    # An opening of 2 × 2 pixels removes dust; the two anchors keep the rest in place.
    kernel = np.ones((2, 2), np.uint8)
    drawn = cv2.dilate(cv2.erode(drawn, kernel, anchor=(0, 0)), kernel, anchor=(1, 1))
    left, top, wide, high = cv2.boundingRect(drawn)
    if max(wide, high) < MIN_FIGURE * max(small.shape):
        return None
    scale = max(width, height) / max(small.shape)
    margin = FIGURE_MARGIN * max(wide, high)
    return (
        max(0, math.floor((left - margin) * scale)),
        max(0, math.floor((top - margin) * scale)),
        min(width, math.ceil((left + wide + margin) * scale)),
        min(height, math.ceil((top + high + margin) * scale)),
    )


def _scaled(shown: tuple[int, int], longest: int) -> tuple[int, int]:
    """Scale (width, height) so that the longer side is `longest` and the other at least 1."""
    return tuple(max(1, round(side * longest / max(shown))) for side in shown)


def _fill_square(picture: np.ndarray, inner: tuple[int, int], size: int) -> np.ndarray:
    """Resize to `inner` (width, height) and repeat the border pixels up to the square."""
    left, top = (size - inner[0]) // 2, (size - inner[1]) // 2
    right, bottom = size - inner[0] - left, size - inner[1] - top
    return cv2.copyMakeBorder(_resample(picture, inner), top, bottom, left, right, borderType=cv2.BORDER_REPLICATE)


def _resample(picture: np.ndarray, wanted: tuple[int, int]) -> np.ndarray:
    """Resize to (width, height), each axis by area averaging if it shrinks and linearly if it grows.

    Cubic interpolation would overshoot and draw halos around the outlines of flat-coloured drawings.
    """
    smaller = min(wanted[0], picture.shape[1]), min(wanted[1], picture.shape[0])
    picture = cv2.resize(picture, smaller, interpolation=cv2.INTER_AREA)
    return picture if smaller == wanted else cv2.resize(picture, wanted, interpolation=cv2.INTER_LINEAR)


def _open(contents: bytes) -> tuple[ImageFile.ImageFile, int | None]:
    """Check every limit; return the image, its pixels not yet decoded, and its EXIF orientation."""
    if not contents:
        raise UnreadablePicture("The file is empty (0 bytes). Choose a picture file.")
    if len(contents) > MAX_BYTES:
        raise UnreadablePicture(
            f"The file has {len(contents) / 1e6:.1f} MB, at most {MAX_BYTES / 1e6:.0f} MB can be read. "
            "Make the picture smaller."
        )
    plugin = PLUGINS.get(formats.format_of(contents))
    if plugin is None and formats.is_heic(contents):
        raise UnreadablePicture(
            "HEIC pictures cannot be read. Open it in your photo app and export it as JPEG; or set an iPhone to "
            "Settings → Camera → Formats → Most Compatible."
        )
    if plugin is None:
        raise UnreadablePicture(
            "This is not a picture that can be read. Expected a JPEG, PNG, WebP, AVIF, GIF or BMP file; "
            "save the picture as one of these."
        )
    # Pillow's settings are global and another library may have changed them: a damaged picture, filled up with grey,
    # must not count as complete, and no plugin may allocate a canvas that exceeds the limit.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    try:
        image = plugin(_LimitedReader(contents))
    except Image.DecompressionBombError:  # at twice the limit
        raise _too_many_pixels(f"more than {2 * MAX_PIXELS // 1_000_000} million") from None
    except Exception:
        raise _damaged(plugin.format) from None
    (width, height), limit = image.size, MAX_COPIED_PIXELS if image.format in COPIED else MAX_PIXELS
    if width * height > limit:
        raise _too_many_pixels(f"{width} × {height}", limit)
    if min(width, height) < MIN_SIDE:
        raise UnreadablePicture(
            f"The picture has {width} × {height} pixels, at least {MIN_SIDE} a side are needed. "
            "Choose a larger picture."
        )
    if image.format == "JPEG" and contents.count(START_OF_SCAN) * width * height > MAX_SCANNED_PIXELS:
        raise UnreadablePicture("The JPEG has far too many scans. Save it again as an ordinary JPEG.")
    if image.tile and image.tile[0][0] == "bmp_rle":  # Pillow decodes it in Python, 50 megapixels in 10 s
        raise UnreadablePicture("Run-length encoded BMP files cannot be read. Save the picture as PNG.")
    return image, _orientation(image)


def _too_many_pixels(received: str, limit: int = MAX_PIXELS) -> UnreadablePicture:
    return UnreadablePicture(
        f"The picture has {received} pixels, at most {limit // 1_000_000} million can be read. Make it smaller."
    )


def _damaged(file_format: str) -> UnreadablePicture:
    return UnreadablePicture(
        f"The file begins like a {file_format} picture but is damaged or incomplete. Check it in a picture "
        "viewer, and save or download it again."
    )


def _orientation(image: Image.Image) -> int | None:
    """Read the EXIF orientation; None if there is none, or the EXIF data is damaged."""
    exif = Image.Exif()
    with contextlib.suppress(Exception):
        exif.load(image.info.get("exif", b""))
        return exif.get(ExifTags.Base.Orientation)
    return None


def _shown_size(image: Image.Image, orientation: int | None) -> tuple[int, int]:
    return image.size[::-1] if orientation in TURNED else image.size


def _pixels(image: ImageFile.ImageFile, orientation: int | None, wanted: tuple[int, int] | None = None) -> np.ndarray:
    """Decode to upright RGB; a JPEG at a fraction of its size, if `wanted` (width, height) is small enough."""
    with _turn() if math.prod(image.size) > LARGE_PIXELS else contextlib.nullcontext():
        return _decoded(image, orientation, wanted)


def _turn() -> contextlib.AbstractContextManager:
    """Wait until no other thread or process of this user decodes a large picture: several would fill the memory."""
    # Without a place for the lock or a name of the user nobody waits; `Timeout` is an OSError too.
    with contextlib.suppress(OSError, KeyError):
        lock = Path(tempfile.gettempdir(), f"large-picture-{getpass.getuser()}.lock")
        return filelock.FileLock(lock, TURN_SECONDS).acquire()
    return contextlib.nullcontext()


def _decoded(image: ImageFile.ImageFile, orientation: int | None, wanted: tuple[int, int] | None) -> np.ndarray:
    try:
        if wanted is not None:
            width, height = wanted[::-1] if orientation in TURNED else wanted
            image.draft(None, (DRAFT_FACTOR * width, DRAFT_FACTOR * height))
        if image.format == "PNG" and image.mode == "L" and "transparency" in image.info:
            image.info["transparency"] *= GREY_STEPS.get(image.tile[0][3], 1)
        if image.format == "PNG" and "transparency" in image.info and image.tile[0][3] == "RGB;16B":
            image.info["transparency"] = tuple(level >> 8 for level in image.info["transparency"])
        image.load()
        rgb = _on_white(image)
        if orientation in UPRIGHT:
            rgb = rgb.transpose(UPRIGHT[orientation])
        return np.array(rgb)
    except MemoryError:
        raise UnreadablePicture("There is too little free memory for this picture. Make it smaller.") from None
    except Exception:
        raise _damaged(image.format) from None


def _on_white(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB, with white behind transparent pixels."""
    if image.mode.startswith("I"):  # 16-bit grey, which `convert` would clip to white
        grey = np.asarray(image)
        transparent = image.info.get("transparency")
        image = Image.fromarray((grey >> 8).astype(np.uint8))
        if transparent is not None:
            image.putalpha(Image.fromarray(grey != transparent))
    if image.format == "BMP" and image.mode == "RGBA" and image.getextrema()[3] == (0, 0):
        image = image.convert("RGB")  # the fourth byte is no opacity: nothing would be seen
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image)
    return white
