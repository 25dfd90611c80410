import io
import struct
import subprocess
import sys
import tempfile
import zlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from lib.data import formats, pictures
from lib.data.pictures import UnreadablePicture
from tests.patience import PATIENCE

WIDTH, HEIGHT = 80, 60


@pytest.fixture(scope="module")
def scene() -> Image.Image:
    """Make four plain quarters, red, green / blue, yellow, which every flip and every rotation changes."""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[:30, :40], picture[:30, 40:] = (255, 0, 0), (0, 255, 0)
    picture[30:, :40], picture[30:, 40:] = (0, 0, 255), (255, 255, 0)
    return Image.fromarray(picture)


def encode(image: Image.Image, file_format: str, **options) -> bytes:
    contents = io.BytesIO()
    image.save(contents, file_format, **options)
    return contents.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, bits: int, colour: int, rows: bytes, metadata: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + metadata + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def assert_close(received: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    assert received.shape == expected.shape
    assert np.abs(received.astype(int) - expected.astype(int)).mean() <= tolerance


@pytest.mark.parametrize("file_format", formats.FORMATS)
def test_decodes_each_format_to_the_same_square(scene, file_format):
    square = pictures.decode(encode(scene, file_format, quality=95), size=64)
    assert square.dtype == np.uint8
    assert_close(square, pictures.resize(np.asarray(scene), 64), tolerance=3)


@pytest.mark.parametrize(
    ("mode", "expected"), [("L", "L"), ("1", "1"), ("P", "RGB"), ("LA", "L"), ("RGBA", "RGB"), ("I;16", "L")]
)
def test_decodes_each_mode_of_png(scene, mode, expected):
    image = scene.convert("L") if mode == "I;16" else scene.convert(mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    shown = np.asarray(scene.convert(expected).convert("RGB"))
    assert_close(pictures.decode_full(encode(image, "PNG")), shown, tolerance=0)


def test_decodes_inverted_cmyk_of_adobe(scene):
    contents = encode(scene.convert("CMYK"), "JPEG", quality=95)
    assert b"Adobe" in contents
    assert_close(pictures.decode_full(contents), np.asarray(scene), tolerance=3)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(scene, file_format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    contents = encode(scene, file_format, exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(contents))).convert("RGB"))
    assert_close(pictures.decode_full(contents), upright, tolerance=0)
    assert pictures.probe(contents) == upright.shape[1::-1]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_data_is_ignored(scene):
    assert pictures.decode(encode(scene, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")).shape == (64, 64, 3)


def test_transparent_pixels_are_white_whatever_colour_they_hide():
    hidden_black = np.zeros((32, 32, 4), np.uint8)
    assert pictures.decode_full(encode(Image.fromarray(hidden_black), "PNG")).min() == 255


def test_half_transparent_black_is_grey_on_white():
    translucent = np.full((32, 32, 4), (0, 0, 0, 127), np.uint8)
    # 255 × (1 − 127 / 255) = 128
    assert (pictures.decode_full(encode(Image.fromarray(translucent), "PNG")) == 128).all()


def test_transparent_grey_level_of_16_bits_is_white():
    rows = (b"\0" + struct.pack(">HH", 300, 0x8080) * 16) * 32
    picture = pictures.decode_full(png(32, 32, 16, 0, rows, chunk(b"tRNS", struct.pack(">H", 300))))
    assert (picture[:, ::2] == 255).all()
    assert (picture[:, 1::2] == 0x80).all()


def test_transparent_colour_of_16_bits_is_white():
    rows = (b"\0" + struct.pack(">HHH", 300, 600, 900) * 16) * 32
    transparent = chunk(b"tRNS", struct.pack(">HHH", 300, 600, 900))
    assert (pictures.decode_full(png(16, 32, 16, 2, rows, transparent)) == 255).all()


@pytest.mark.parametrize(("bits", "black_and_next"), [(1, 2 * b"\x55"), (2, 4 * b"\x11"), (4, 8 * b"\x01")])
def test_transparent_grey_level_of_few_bits_is_white(bits, black_and_next):
    contents = png(16, 16, bits, 0, (b"\0" + black_and_next) * 16, chunk(b"tRNS", struct.pack(">H", 1)))
    assert pictures.decode_full(contents)[:2, :2, 0].tolist() == [[0, 255]] * 2


def test_a_bmp_whose_fourth_byte_is_unused_is_not_transparent(scene):
    header = struct.pack(
        "<IiiHHIIiiIIIIII", 108, WIDTH, -HEIGHT, 1, 32, 3, 0, 0, 0, 0, 0, 0xFF0000, 0xFF00, 0xFF, 0xFF << 24
    )
    pixels = np.dstack([np.asarray(scene)[:, :, ::-1], np.zeros((HEIGHT, WIDTH), np.uint8)])
    contents = b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + 108) + header.ljust(108, b"\0") + pixels.tobytes()
    assert_close(pictures.decode_full(contents), np.asarray(scene), tolerance=0)


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG"])
def test_decodes_the_first_frame_of_an_animation(scene, file_format):
    second = Image.new("RGB", scene.size, "black")
    contents = encode(scene, file_format, save_all=True, append_images=[second], lossless=True)
    assert_close(pictures.decode_full(contents), np.asarray(scene), tolerance=3)


def test_decodes_the_first_picture_of_an_mpo_of_a_phone(scene):
    contents = encode(scene, "MPO", save_all=True, append_images=[Image.new("RGB", scene.size)], quality=95)
    assert Image.open(io.BytesIO(contents)).format == "MPO"
    assert_close(pictures.decode(contents), pictures.resize(np.asarray(scene), 64), tolerance=3)


def test_a_gif_frame_smaller_than_its_canvas_is_filled_up(scene):
    small = encode(scene, "GIF")
    larger_canvas = small[:6] + struct.pack("<HH", 2 * WIDTH, 2 * HEIGHT) + small[10:]
    picture = pictures.decode_full(larger_canvas)
    assert picture.shape == (2 * HEIGHT, 2 * WIDTH, 3)
    assert_close(picture[:HEIGHT, :WIDTH], np.asarray(scene), tolerance=3)


def test_drafting_a_large_jpeg_stays_close_to_the_full_decoding():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (27, 36, 3), dtype=np.uint8)
    picture = cv2.resize(coarse, (576, 432), interpolation=cv2.INTER_CUBIC)
    contents = encode(Image.fromarray(picture), "JPEG", quality=90)
    assert_close(pictures.decode(contents), pictures.resize(pictures.decode_full(contents), 64), tolerance=0.6)


def test_shrinking_averages_areas():
    # Each 2 × 2 block of a board of 0 and 100 holds two of each: (0 + 100 + 100 + 0) / 4 = 50.
    board = np.indices((128, 128)).sum(axis=0) % 2 * 100
    assert (pictures.resize(np.dstack([board] * 3).astype(np.uint8), 64) == 50).all()


def test_enlarging_adds_no_brighter_or_darker_colours():
    edge = np.full((20, 20, 3), 100, np.uint8)
    edge[:, 10:] = 200
    enlarged = pictures.resize(edge, 64)
    assert (enlarged.min(), enlarged.max()) == (100, 200)


def test_pad_centres_the_picture_and_repeats_its_border():
    wide = np.zeros((32, 64, 3), np.uint8)
    wide[0], wide[-1] = 10, 20
    square = pictures.resize(wide, 64, resize_mode="pad")
    # 64 × 32 fits as it is; (64 - 32) / 2 = 16 rows above and below.
    assert (square[:16] == 10).all()
    assert (square[16:48] == wide).all()
    assert (square[48:] == 20).all()


@pytest.mark.parametrize("side", [(3000, 16), (16, 3000)])
def test_pads_a_thin_strip(side):
    assert pictures.decode(encode(Image.new("RGB", side), "PNG"), resize_mode="pad").shape == (64, 64, 3)


def test_decode_full_keeps_the_aspect_ratio(scene):
    # 80 × 60 with the longer side at 40 is 40 × 30.
    assert pictures.decode_full(encode(scene, "PNG"), longest=40).shape == (30, 40, 3)


def test_decode_full_does_not_enlarge(scene):
    assert pictures.decode_full(encode(scene, "PNG"), longest=1000).shape == (HEIGHT, WIDTH, 3)


def test_bounded_stretches_up_to_16_to_9():
    wide = np.random.default_rng(0).integers(0, 256, (90, 160, 3), dtype=np.uint8)
    np.testing.assert_array_equal(pictures.resize(wide, 64, resize_mode="bounded"), pictures.resize(wide, 64))


def test_bounded_pads_beyond_16_to_9():
    tall = np.zeros((300, 100, 3), np.uint8)
    tall[:, 0], tall[:, -1] = 255, 255
    square = pictures.resize(tall, 90, resize_mode="bounded")
    # 100 of 300 wide, stretched by 16:9: 90 × 16 / 9 / 3 = 53 columns; (90 - 53) // 2 = 18 of border on the left.
    dark = np.flatnonzero((square < 128).all(axis=(0, 2)))
    assert dark[0] in (18, 19, 20) and dark[-1] in (68, 69, 70)


def on_background(figure, shape, top, left, level=255):
    page = np.full((*shape, 3), level, np.uint8)
    page[top : top + figure.shape[0], left : left + figure.shape[1]] = figure
    return page


def test_bounded_crops_uniform_borders():
    figure = np.random.default_rng(0).integers(0, 200, (60, 80, 3), dtype=np.uint8)
    frame = pictures.framing(on_background(figure, (200, 240), 100, 30), 64, "bounded")
    left, top, right, bottom = frame.box
    # 3 % of 80 pixels are kept around the figure, 2.4, outwards to whole pixels.
    assert (left, top) == (27, 97) and (right, bottom) == (113, 163)
    assert frame.inner == (64, 64)


def test_noise_of_jpeg_does_not_prevent_cropping_and_a_touching_figure_does(scene):
    figure = np.zeros((100, 100, 3), np.uint8)
    noisy = on_background(figure, (300, 300), 50, 50, level=230)
    noisy = np.clip(noisy + np.random.default_rng(0).normal(0, 4, noisy.shape), 0, 255).astype(np.uint8)
    left, top, right, bottom = pictures.framing(noisy, 64, "bounded").box
    assert min(left, top) >= 40 and max(right, bottom) <= 160
    touching = on_background(figure, (300, 300), 200, 50)  # a figure that is cut off below
    assert pictures.framing(touching, 64, "bounded").box == (0, 0, 300, 300)


@pytest.mark.parametrize("speck", [0, 1, 10])
def test_a_picture_without_a_figure_is_not_cropped(speck):
    page = on_background(np.zeros((speck, speck, 3), np.uint8), (400, 400), 100, 100)
    assert pictures.framing(page, 64, "bounded").box == (0, 0, 400, 400)
    assert pictures.resize(page, 64, "bounded").shape == (64, 64, 3)


def test_decode_and_resize_crop_the_same_part():
    figure = np.random.default_rng(0).integers(0, 200, (30, 90, 3), dtype=np.uint8)
    page = on_background(figure, (120, 100), 60, 5)
    decoded = pictures.decode(encode(Image.fromarray(page), "PNG"), 64, "bounded")
    np.testing.assert_array_equal(decoded, pictures.resize(page, 64, "bounded"))


def test_a_small_figure_in_a_large_jpeg_keeps_its_detail():
    # libjpeg would give 300 × 225 pixels of this page, and 30 of them to the figure.
    figure = cv2.resize(np.random.default_rng(0).integers(0, 200, (24, 24, 3), dtype=np.uint8), (240, 240))
    page = on_background(figure, (1800, 2400), 700, 1200)
    contents = encode(Image.fromarray(page), "JPEG", quality=95)
    decoded, wanted = pictures.decode(contents, 96, "bounded"), pictures.resize(page, 96, "bounded")
    assert np.abs(decoded.astype(int) - wanted).mean() < 4


@pytest.mark.parametrize("contents", [b"<!DOCTYPE html><html>", b"\0" * 100, b"\xff", b"II*\0" + bytes(50)])
def test_rejects_bytes_that_are_no_picture(contents):
    with pytest.raises(UnreadablePicture, match="JPEG, PNG, WebP, AVIF, GIF or BMP"):
        pictures.decode(contents)


def test_an_avif_is_recognised_by_a_compatible_brand():
    file = io.BytesIO()
    Image.new("RGB", (40, 40), (200, 200, 200)).save(file, "AVIF")
    contents = file.getvalue().replace(b"ftypavif", b"ftypmif1", 1)
    assert formats.format_of(contents[: formats.HEAD_BYTES]) == "AVIF"
    assert np.abs(pictures.decode(contents, 16).astype(int) - 200).max() < 8


def test_a_heic_is_told_how_to_become_a_jpeg():
    with pytest.raises(UnreadablePicture, match=r"HEIC pictures cannot be read.*export it as JPEG"):
        pictures.decode(b"\0\0\0\x18ftypheic" + bytes(100))


def test_rejects_an_empty_file():
    with pytest.raises(UnreadablePicture, match="empty"):
        pictures.probe(b"")


def test_rejects_a_file_above_the_byte_limit(scene):
    contents = encode(scene, "JPEG")
    with pytest.raises(UnreadablePicture, match=r"20\.0 MB, at most 20 MB"):
        pictures.probe(contents + bytes(pictures.MAX_BYTES + 1 - len(contents)))


@pytest.mark.parametrize("file_format", pictures.COPIED)
def test_a_format_that_takes_more_memory_has_a_limit_of_its_own(scene, monkeypatch, file_format):
    assert pictures.MAX_COPIED_PIXELS < pictures.MAX_PIXELS
    monkeypatch.setattr(pictures, "MAX_COPIED_PIXELS", 100)
    with pytest.raises(UnreadablePicture, match="pixels, at most 0 million can be read"):
        pictures.probe(encode(scene, file_format))
    pictures.probe(encode(scene, "PNG"))


def test_large_pictures_are_decoded_one_at_a_time(scene, monkeypatch):
    monkeypatch.setattr(pictures, "LARGE_PIXELS", 100)
    at_once, most, decoded = [], [], pictures._decoded

    def counted(*arguments):
        at_once.append(1)
        most.append(len(at_once))
        result = decoded(*arguments)
        at_once.pop()
        return result

    monkeypatch.setattr(pictures, "_decoded", counted)
    with ThreadPoolExecutor(4) as executor:
        list(executor.map(pictures.decode, [encode(scene, "PNG")] * 12))
    assert max(most) == 1


@pytest.fixture
def elsewhere(monkeypatch):
    """Another process that is at a large picture until its input is closed; here every picture is a large one."""
    held = (
        "import sys; from lib.data import pictures\n"
        "with pictures._turn():\n    print('held', flush=True); sys.stdin.read()"
    )
    monkeypatch.setattr(pictures, "LARGE_PIXELS", 100)
    with subprocess.Popen([sys.executable, "-c", held], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        yield other


def test_large_pictures_are_decoded_one_at_a_time_by_all_processes(scene, elsewhere):
    with ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(pictures.decode, encode(scene, "PNG"))
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.5)
        elsewhere.stdin.close()
        assert waiting.result(timeout=PATIENCE).shape == (64, 64, 3)


def test_a_process_that_hangs_at_a_large_picture_stops_no_other(scene, elsewhere, monkeypatch):
    monkeypatch.setattr(pictures, "TURN_SECONDS", 0.1)
    assert pictures.decode(encode(scene, "PNG")).shape == (64, 64, 3)


def test_without_a_place_for_the_lock_large_pictures_are_decoded(scene, monkeypatch):
    monkeypatch.setattr(pictures, "LARGE_PIXELS", 100)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/nowhere")
    assert pictures.decode(encode(scene, "PNG")).shape == (64, 64, 3)


def test_rejects_a_picture_below_the_shorter_side():
    with pytest.raises(UnreadablePicture, match="200 × 15 pixels, at least 16"):
        pictures.probe(encode(Image.new("RGB", (200, 15)), "PNG"))


BOMBS = {
    "PNG": lambda: png(30_000, 30_000, 1, 0, bytes(3_751 * 30_000)),
    "GIF": lambda: b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + encode(Image.new("L", (16, 16)), "GIF")[10:],
    "BMP": lambda: b"BM" + struct.pack("<IHHIIiiHHIIiiII", 0, 0, 0, 54, 40, 30_000, 30_000, 1, 24, *[0] * 6),
    "WEBP": lambda: b"RIFF\x2a\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0" + b"\xfe\x3f\0" * 2 + b"ANIM\x06\0\0\0" + bytes(6),
}


@pytest.mark.parametrize("file_format", BOMBS)
def test_rejects_too_many_pixels_before_anything_is_decoded(file_format, monkeypatch):
    monkeypatch.setattr(Image.core, "new", lambda *_: pytest.fail("pixels were allocated"))
    with pytest.raises(UnreadablePicture, match="at most 50 million"):
        pictures.decode(BOMBS[file_format]())


def repeated_in_jpeg(block: bytes) -> bytes:
    contents = encode(Image.new("RGB", (64, 64)), "JPEG")
    return contents[:2] + block * (5_000_000 // len(block)) + contents[2:]


FLOODS = {
    "EXIF blocks": lambda: repeated_in_jpeg(b"\xff\xe1\0\x12Exif\0\0" + bytes(10)),
    "fill bytes": lambda: repeated_in_jpeg(b"\xff"),
    "empty PNG chunks": lambda: png(64, 64, 8, 0, bytes(64 * 65), chunk(b"abCd", b"") * 400_000),
    "GIF comments": lambda: b"GIF89a" + b"\x40\0\x40\0\0\0\0\x21\xfe" + b"\x01a" * 1_000_000,
}


@pytest.mark.parametrize("flood", FLOODS)
def test_rejects_endless_metadata(flood):
    with pytest.raises(UnreadablePicture, match="damaged"):
        pictures.probe(FLOODS[flood]())


def test_rejects_a_jpeg_of_thousands_of_scans():
    contents = encode(Image.new("L", (3000, 3000)), "JPEG", progressive=True)
    scan = contents[contents.rfind(pictures.START_OF_SCAN) : -2]
    with pytest.raises(UnreadablePicture, match="too many scans"):
        pictures.probe(contents[:-2] + scan * 1000 + contents[-2:])


@pytest.mark.parametrize("file_format", formats.FORMATS)
def test_rejects_a_truncated_file(scene, file_format):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8))
    contents = encode(noise, file_format)
    with pytest.raises(UnreadablePicture, match="damaged or incomplete"):
        pictures.decode(contents[: len(contents) // 2])


def test_global_settings_of_pillow_do_not_matter(scene, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    contents = encode(scene, "JPEG")
    assert pictures.decode(contents).shape == (64, 64, 3)
    with pytest.raises(UnreadablePicture):
        pictures.decode(contents[:-200])


def test_threads_get_the_same_pixels(scene):
    files = [encode(scene.rotate(angle), name) for angle in range(10) for name in formats.FORMATS]
    with ThreadPoolExecutor(8) as threads:
        decoded = list(threads.map(pictures.decode, files))
    assert all((one == pictures.decode(file)).all() for one, file in zip(decoded, files, strict=True))
