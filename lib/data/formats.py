"""What is a picture: the one rule of sources, command line and decoder, by content and not by name."""

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP")
AVIF_BRANDS = (b"avif", b"avis")
HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
HEAD_BYTES = 18  # of a file, that decide its format
BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # lengths of the second header of a BMP, in bytes
# A file with such a name that is no picture after all is not passed over: the user is told about it.
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".avif", ".heic", ".tif", ".tiff")


def format_of(head: bytes) -> str | None:
    """Recognise one of `FORMATS` by the first `HEAD_BYTES` bytes of a file, or more."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp" and head[8:12] in AVIF_BRANDS:
        return "AVIF"
    if head.startswith(b"GIF8"):
        return "GIF"
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in BMP_HEADERS:
        return "BMP"
    return None


def is_heic(head: bytes) -> bool:
    """Recognise the pictures of iPhones, which cannot be read here."""
    return head[4:8] == b"ftyp" and head[8:12] in HEIC_BRANDS


def is_picture(name: str, head: bytes) -> bool:
    """Decide whether a file is taken for a picture: one that can be read, or one that claims to be a picture."""
    return format_of(head) is not None or name.lower().endswith(SUFFIXES)
