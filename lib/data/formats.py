"""What is a picture: the one rule of sources, command line and decoder, by content and not by name."""

import re

# How each format begins. BMP: bytes 14 to 17 are the length of the second header. AVIF: the major brand, or one of the
# first compatible brands, is avif or avis.
BEGINNINGS = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "WEBP": rb"RIFF....WEBP",
    "AVIF": rb"....ftyp(....){0,8}?avi[fs]",
    "GIF": rb"GIF8",
    "BMP": rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0",
}
FORMATS = tuple(BEGINNINGS)
HEIC = rb"....ftyp(hei[cxms]|hevc|m[is]f1)"
HEAD_BYTES = 44  # of a file, that decide its format: the longest is AVIF, 8 bytes and 9 fields of 4
# A file with such a name that is no picture after all is not passed over: the user is told about it.
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".avif", ".heic", ".tif", ".tiff")


def format_of(head: bytes) -> str | None:
    """Recognise one of `FORMATS` by the first `HEAD_BYTES` bytes of a file, or more."""
    return next((name for name, begins in BEGINNINGS.items() if re.match(begins, head, re.DOTALL)), None)


def is_heic(head: bytes) -> bool:
    """Recognise the pictures of iPhones, which cannot be read here."""
    return re.match(HEIC, head, re.DOTALL) is not None


def is_picture(name: str, head: bytes) -> bool:
    """Decide whether a file is taken for a picture: one that can be read, or one that claims to be a picture."""
    return format_of(head) is not None or name.lower().endswith(SUFFIXES)
