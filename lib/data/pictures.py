"""The one decoder of training, evaluation and serving: the bytes of a picture file to RGB pixels.

Whatever comes in is untrusted. The limits below are checked on the header, before a pixel is decoded, and
whatever Pillow fails on becomes an `UnreadablePicture` with a sentence for a person.
"""

import io
import math

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageFile

from lib.errors import UserError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
MAX_BYTES = 20_000_000  # a 50-megapixel phone photo is 10 to 15 MB
MAX_PIXELS = 50_000_000  # the largest that phones commonly take: 8160 × 6120; 0.2 GB once decoded
MIN_SIDE = 16  # below it even a person sees no character

FITS = ("stretch", "pad")
# libjpeg can decode at 1/2, 1/4 or 1/8 of the size, several times as fast. While that keeps at least this
# many pixels a side for each wanted one, the area average is the same to within a grey level.
DRAFT_FACTOR = 2
# A progressive JPEG may hold any number of scans and each passes over the whole picture: a file within
# MAX_BYTES could otherwise keep a core busy for an hour. Encoders write about ten scans.
MAX_SCANNED_PIXELS = 100 * MAX_PIXELS
START_OF_SCAN = b"\xff\xda"

Orientation = Image.Transpose
UPRIGHT = {  # EXIF orientation: what makes the picture upright
    2: Orientation.FLIP_LEFT_RIGHT,
    3: Orientation.ROTATE_180,
    4: Orientation.FLIP_TOP_BOTTOM,
    5: Orientation.TRANSPOSE,
    6: Orientation.ROTATE_270,
    7: Orientation.TRANSVERSE,
    8: Orientation.ROTATE_90,
}
TURNED = (5, 6, 7, 8)  # the orientations that exchange width and height


class UnreadablePicture(UserError):
    """These bytes are no picture that can be used; the text says why."""


def decode(contents: bytes, size: int = 64, fit: str = "stretch") -> np.ndarray:
    """Decode a picture into a square.

    Args:
        contents: The bytes of a JPEG, PNG, WebP, GIF or BMP file, told apart by content, not by name.
        size: Pixels a side of the result.
        fit: `"stretch"` ignores the aspect ratio, as the original study did; `"pad"` keeps it, with the
            picture centred and its border pixels repeated outwards.

    Returns:
        RGB `uint8` array of shape `(size, size, 3)`: upright as EXIF says, transparency on white, the first
        frame of an animation.

    Raises:
        UnreadablePicture: If the bytes cannot be used as a picture.
        ValueError: If `fit` is unknown.
    """
    _check_fit(fit)
    image, orientation = _open(contents)
    width, height = _scaled(image.size, size) if fit == "pad" else (size, size)
    return resize(_pixels(image, orientation, (width, height)), size, fit)


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
    picture = _pixels(image, orientation, _scaled(image.size, longest))
    return _resample(picture, *_scaled(picture.shape[1::-1], longest))


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
    image, orientation = _open(contents)
    return image.size[::-1] if orientation in TURNED else image.size


def resize(picture: np.ndarray, size: int, fit: str = "stretch") -> np.ndarray:
    """Bring a picture to a square, by area averaging where it shrinks.

    Padding repeats the border pixels: on clip-art and cut-outs the plain background goes on without an edge,
    and on frames it is what the shift of the augmentation fills in as well.

    Args:
        picture: `uint8` array of shape `(height, width, 3)`.
        size: Pixels a side of the result.
        fit: `"stretch"` or `"pad"`, as in `decode`.

    Returns:
        `uint8` array of shape `(size, size, 3)`.

    Raises:
        ValueError: If `fit` is unknown.
    """
    _check_fit(fit)
    if fit == "stretch":
        return _resample(picture, size, size)
    width, height = _scaled(picture.shape[1::-1], size)
    left, top = (size - width) // 2, (size - height) // 2
    return cv2.copyMakeBorder(
        _resample(picture, width, height),
        top,
        size - height - top,
        left,
        size - width - left,
        cv2.BORDER_REPLICATE,
    )


def _check_fit(fit: str) -> None:
    if fit not in FITS:
        raise ValueError(f"Invalid value for argument `fit`. Expected one of {FITS}. Received: fit={fit!r}")


def _scaled(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Scale (width, height) so that the longer side is `longest` and no side vanishes."""
    factor = longest / max(size)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _resample(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resize each axis by area averaging if it shrinks, linearly if it grows.

    Linear, because cubic overshoots: it would draw halos round the outlines of flat-coloured drawings.
    """
    smaller = min(width, picture.shape[1]), min(height, picture.shape[0])
    picture = cv2.resize(picture, smaller, interpolation=cv2.INTER_AREA)
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)


def _open(contents: bytes) -> tuple[ImageFile.ImageFile, int]:
    """Read the header and check every limit; returns the image, not loaded, and its EXIF orientation."""
    if not contents:
        raise UnreadablePicture("The file is empty (0 bytes). Choose a picture file.")
    if len(contents) > MAX_BYTES:
        raise UnreadablePicture(
            f"The file has {len(contents) / 1e6:.1f} MB, at most {MAX_BYTES / 1e6:.0f} MB can be read. "
            "Make the picture smaller."
        )
    # Pillow's settings are global, and another library may have set them: damaged pictures filled up with
    # grey must not pass as whole ones, and no plugin may set up a canvas larger than ours.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    try:
        image = Image.open(io.BytesIO(contents), formats=FORMATS)
    except Image.DecompressionBombError:
        raise UnreadablePicture(_too_many_pixels("far more")) from None
    except Exception:
        raise UnreadablePicture(
            "This is not a picture that can be read. Expected a JPEG, PNG, WebP, GIF or BMP file."
        ) from None
    _check_size(image.size)
    if contents.count(START_OF_SCAN) * math.prod(image.size) > MAX_SCANNED_PIXELS and image.format != "PNG":
        raise UnreadablePicture(
            "The picture is stored in too many passes. Save it again as a usual JPEG or PNG."
        )
    return image, _orientation(image)


def _check_size(size: tuple[int, int]) -> None:
    if math.prod(size) > MAX_PIXELS:
        raise UnreadablePicture(_too_many_pixels(f"{size[0]} × {size[1]}"))
    if min(size) < MIN_SIDE:
        raise UnreadablePicture(
            f"The picture has {size[0]} × {size[1]} pixels, at least {MIN_SIDE} a side are needed. "
            "Choose a larger picture."
        )


def _too_many_pixels(received: str) -> str:
    limit = MAX_PIXELS // 1_000_000
    return f"The picture has {received} pixels, at most {limit} million can be read. Make it smaller."


def _orientation(image: Image.Image) -> int:
    """Read the EXIF orientation (1 to 8); damaged EXIF data says nothing about the pixels, so it is 1."""
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        orientation = exif.get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1
    return orientation if orientation in UPRIGHT else 1


def _pixels(
    image: ImageFile.ImageFile, orientation: int, wanted: tuple[int, int] | None = None
) -> np.ndarray:
    """Decode to upright RGB; where `wanted` (width, height) allows, a JPEG at a fraction of its size."""
    try:
        if wanted is not None:
            image.draft(None, (DRAFT_FACTOR * wanted[0], DRAFT_FACTOR * wanted[1]))
        image.load()
        rgb = _on_white(image)
        if orientation in UPRIGHT:
            rgb = rgb.transpose(UPRIGHT[orientation])
        return np.asarray(rgb)
    except Exception:
        raise UnreadablePicture(
            "The picture is damaged or incomplete. Open it in a picture viewer to see whether it is whole, "
            "and save or download it again."
        ) from None


def _on_white(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB, with white behind what is transparent."""
    if image.mode.startswith("I"):  # 16-bit grey: `convert` would clip it to white
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image)
    return white
