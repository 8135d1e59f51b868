"""Every picture comes out upright, 8-bit, RGB or grey, or is refused by name."""

import hashlib
import io
import shutil
import struct

import numpy as np
import pillow_heif
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from shared.artifacts import RESERVE_BYTES
from tests.worker.ingest.uploads import encode, huge_png_header, pixels
from worker.decode import decode_upright
from worker.ingest.limits import MemberFaultError
from worker.ingest.prove import know_formats, prove
from worker.ingest.small_copy import draw

ORIENTATIONS = range(1, 9)
MOST_PIXELS = 1_000_000


@pytest.fixture(scope="module", autouse=True)
def _prepared():
    know_formats()


@pytest.fixture(scope="module")
def picture():
    """A smooth picture in which every corner differs: it survives lossy formats."""
    across, down = np.meshgrid(np.linspace(20, 220, 48), np.linspace(20, 220, 32))
    return np.dstack([across, down, 240 - across]).astype(np.uint8)


def show(data, tmp_path):
    """Proves `data`; returns the proof and what training will see."""
    original, rewritten = tmp_path / "original", tmp_path / "rewritten.png"
    original.write_bytes(data)
    proof = prove(str(original), str(rewritten), MOST_PIXELS)
    assert original.read_bytes() == data
    assert proof["rewritten"] == rewritten.exists()
    seen = rewritten.read_bytes() if proof["rewritten"] else data
    return proof, decode_upright(tf.constant(seen)).numpy()


def refuse(data, tmp_path):
    with pytest.raises(MemberFaultError) as refusal:
        show(data, tmp_path)
    assert not (tmp_path / "rewritten.png").exists()
    return refusal.value


def exif(orientation):
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


def assert_close(seen, expected, most=12):
    assert seen.shape == expected.shape
    assert np.abs(seen.astype(int) - expected.astype(int)).max() <= most


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_an_upright_eight_bit_picture_is_used_as_it_is(picture, kind, tmp_path):
    data = encode(picture, kind)

    proof, seen = show(data, tmp_path)

    assert not proof["rewritten"]
    assert proof["remarks"] == []
    assert proof["sha256"] == hashlib.sha256(data).hexdigest()
    assert proof["size_bytes"] == len(data)
    assert (proof["width_px"], proof["height_px"]) == (48, 32)
    assert_close(seen, picture)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_grey_is_used_as_it_is(picture, kind, tmp_path):
    proof, seen = show(encode(picture[..., 0], kind), tmp_path)

    assert not proof["rewritten"]
    assert_close(seen, np.dstack([picture[..., 0]] * 3))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_orientation_comes_upright(picture, kind, orientation, tmp_path):
    data = encode(picture, kind, exif=exif(orientation), **lossless(kind))

    proof, seen = show(data, tmp_path)

    with Image.open(io.BytesIO(data)) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    assert_close(seen, expected)
    assert (proof["height_px"], proof["width_px"]) == expected.shape[:2]
    assert proof["rewritten"] == (orientation != 1 or kind not in {"JPEG", "PNG"})
    assert ("turned" in proof["remarks"]) == (orientation != 1)


def lossless(kind):
    return {"JPEG": {"quality": 98}, "WEBP": {"lossless": True}}.get(kind, {})


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_heic_comes_upright(picture, orientation, tmp_path):
    pillow_heif.register_heif_opener()
    data = encode(picture, "HEIF", exif=exif(orientation), quality=95)

    proof, seen = show(data, tmp_path)

    turned = ImageOps.exif_transpose(with_orientation(picture, orientation))
    assert_close(seen, np.asarray(turned), 24)
    assert proof["rewritten"]
    assert proof["suffix"] == ".heic"


def with_orientation(picture, orientation):
    image = Image.fromarray(picture)
    image.getexif()[0x0112] = orientation
    return image


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [("BMP", ".bmp"), ("GIF", ".gif"), ("TIFF", ".tif"), ("WEBP", ".webp")],
)
def test_other_formats_become_png_and_keep_their_ending(
    picture, kind, suffix, tmp_path
):
    plain = Image.fromarray(picture).quantize(64).convert("RGB")

    proof, seen = show(encode(plain, kind, **lossless(kind)), tmp_path)

    assert proof["remarks"][0] == "other_format"
    assert proof["suffix"] == suffix
    assert_close(seen, np.asarray(plain), 0)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(picture, kind, tmp_path):
    data = encode(Image.fromarray(picture).convert("CMYK"), kind, **lossless(kind))

    proof, seen = show(data, tmp_path)

    assert "cmyk" in proof["remarks"]
    assert proof["rewritten"]
    assert_close(seen, picture, 16)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_to_eight(picture, kind, tmp_path):
    deep = picture[..., 0].astype(np.uint16) * 257

    proof, seen = show(encode(deep, kind), tmp_path)

    assert "deep" in proof["remarks"]
    assert_close(seen, np.dstack([picture[..., 0]] * 3), 0)


def test_sixteen_bit_colour_png_is_scaled_to_eight(tmp_path):
    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    row = b"\0" + struct.pack(">3H", 0xFFFF, 0x8080, 0)

    proof, seen = show(png_of(header, row), tmp_path)

    assert proof["remarks"] == ["deep"]
    assert seen.tolist() == [[[255, 128, 0]]]


def png_of(header, rows):
    """A PNG from its header and its unpacked rows."""
    import zlib  # noqa: PLC0415 - for this alone

    def chunk(kind, body):
        crc = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def tiff_of(bits, photometric, row):
    """A grey TIFF of one row of four pixels."""
    facts = [(256, 4), (257, 1), (258, bits), (259, 1), (262, photometric)]
    facts += [(273, 8 + 2 + 9 * 12 + 4), (277, 1), (278, 1), (279, len(row))]
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, fact, 0) for tag, fact in facts)
    head = b"II*\0" + struct.pack("<IH", 8, len(facts))
    return head + entries + struct.pack("<I", 0) + row


def test_a_twelve_bit_tiff_is_as_bright_as_it_was_meant(tmp_path):
    row = bytes([0x00, 0x07, 0xFF, 0xBF, 0xFF, 0xFF])  # 0, 2047, 3071, 4095

    proof, seen = show(tiff_of(12, 1, row), tmp_path)

    assert "deep" in proof["remarks"]
    assert seen[0, :, 0].tolist() == [0, 127, 191, 255]


def test_a_deep_tiff_whose_zero_is_white_is_no_negative(tmp_path):
    row = struct.pack("<4H", 0, 16384, 49152, 65535)

    _, seen = show(tiff_of(16, 0, row), tmp_path)

    assert seen[0, :, 0].tolist() == [255, 192, 64, 0]


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("colours", [2, 4, 16, 32])
def test_a_palette_becomes_plain_colours(picture, kind, colours, tmp_path):
    palette = Image.fromarray(picture).quantize(colours)

    proof, seen = show(encode(palette, kind), tmp_path)

    assert proof["rewritten"]
    assert_close(seen, np.asarray(palette.convert("RGB")), 0)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_black_and_white_becomes_grey(picture, kind, tmp_path):
    line = Image.fromarray(picture).convert("1")

    proof, seen = show(encode(line, kind), tmp_path)

    assert proof["rewritten"]
    assert_close(seen, np.asarray(line.convert("RGB")), 0)


@pytest.mark.parametrize(("bits", "white"), [(1, 1), (2, 3), (4, 15)])
def test_a_grey_png_of_few_bits_is_as_bright_as_it_was_meant(bits, white, tmp_path):
    header = struct.pack(">IIBBBBB", 2, 1, bits, 0, 0, 0, 0)
    row = bytes([0, white << (8 - 2 * bits)])  # the filter, then black and white

    proof, seen = show(png_of(header, row), tmp_path)

    assert proof["remarks"] == ["palette"]
    assert seen[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_png_of_few_bits_comes_upright(picture, orientation, tmp_path):
    palette = Image.fromarray(picture).quantize(4)

    _, seen = show(encode(palette, "PNG", exif=exif(orientation)), tmp_path)

    turned = with_orientation(np.asarray(palette.convert("RGB")), orientation)
    assert_close(seen, np.asarray(ImageOps.exif_transpose(turned)), 0)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_lies_on_white(kind, mode, tmp_path):
    if (kind, mode) == ("WEBP", "LA"):
        mode = "RGBA"
    image = Image.new(mode, (4, 2), (0,) * len(mode))
    image.putpixel((1, 0), (10,) * (len(mode) - 1) + (255,))

    proof, seen = show(encode(image, kind, **lossless(kind)), tmp_path)

    assert "alpha" in proof["remarks"]
    assert seen[0, 0].tolist() == [255, 255, 255]
    assert seen[0, 1].tolist() == [10, 10, 10]


def test_a_transparent_colour_of_a_palette_lies_on_white(picture, tmp_path):
    palette = Image.fromarray(picture).quantize(8)
    clear = palette.getpixel((0, 0))

    for kind in ("PNG", "GIF"):
        proof, seen = show(encode(palette, kind, transparency=clear), tmp_path)
        (tmp_path / "rewritten.png").unlink()

        assert "alpha" in proof["remarks"]
        assert seen[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_frames_the_first_is_used(kind, tmp_path):
    first, second = (Image.new("RGB", (9, 7), colour) for colour in ("red", "blue"))
    options = {"save_all": True, "append_images": [second], **lossless(kind)}

    proof, seen = show(encode(first, kind, **options), tmp_path)

    assert "more_frames" in proof["remarks"]
    assert seen.shape == (7, 9, 3)
    assert (seen == [255, 0, 0]).all()


def test_a_jpeg_with_more_frames_stays_the_jpeg_it_is(picture, tmp_path):
    image = Image.fromarray(picture)
    data = encode(image, "MPO", save_all=True, append_images=[image])

    proof, seen = show(data, tmp_path)

    assert proof["remarks"] == ["more_frames_kept"]
    assert not proof["rewritten"]
    assert_close(seen, picture)


@pytest.mark.parametrize(
    ("mode", "word"), [("F", "floating-point"), ("I", "32-bit"), ("LAB", "Lab")]
)
def test_pixels_without_a_known_white_are_refused_with_the_fix(mode, word, tmp_path):
    image = Image.new(mode, (4, 4))

    fault = refuse(encode(image, "TIFF"), tmp_path)

    assert fault.code == "unsupported_mode"
    assert word in fault.reason
    assert "save it" in fault.reason


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "AVIF"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_half_a_picture_is_refused_by_what_it_is(kind, share, tmp_path):
    data = encode(pixels(1, 64, 64), kind)

    fault = refuse(data[: int(len(data) * share)], tmp_path)

    assert fault.code == "damaged"
    assert kind.lower() in fault.reason.lower()
    assert "cut off" in fault.reason or "cannot decode" in fault.reason


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (b"", "empty_file", "empty (0 bytes)"),
        (b"<html><body>404</body></html>", "not_an_image", "It is an HTML page."),
        (b"hello", "not_an_image", "It is a text file."),
        (b"\xff\xd8\xff", "damaged", "JPEG picture"),
        (b"\x89PNG\r\n\x1a\n", "damaged", "PNG picture"),
        (b"GIF89a", "damaged", "GIF picture"),
        (b"II*\0", "damaged", "TIFF picture"),
        (b"RIFF\0\0\0\0WEBP", "damaged", "WebP picture"),
        (b"\0\0\0\x18ftypheic\0\0\0\0heic", "damaged", "HEIC picture"),
        (b"\0\0\0\x18ftypavif\0\0\0\0avif", "damaged", "AVIF picture"),
    ],
)
def test_what_is_no_picture_is_refused_by_what_it_is(data, code, words, tmp_path):
    fault = refuse(data, tmp_path)

    assert fault.code == code
    assert words in fault.reason


@pytest.mark.parametrize("side", [1001, 100_000])
def test_a_picture_with_too_many_pixels_is_refused_undecoded(side, tmp_path):
    fault = refuse(huge_png_header(side, side), tmp_path)

    assert fault.code == "too_many_pixels"
    assert f"{side:,} x {side:,} pixels" in fault.reason
    assert "at most 1,000,000" in fault.reason


@pytest.mark.parametrize(
    ("kind", "most"), [("JPEG", 178_956_969), ("PNG", 134_217_727)]
)
def test_a_picture_that_the_decoder_cannot_hold_is_not_called_damaged(
    kind, most, tmp_path
):
    line = encode(Image.new("L", (60_000, 1)), kind)
    at = line.find(struct.pack(">HH", 1, 60_000))  # JPEG: height, then width
    claim = struct.pack(">HH", 60_000, 60_000)
    data = huge_png_header(60_000, 60_000)
    if kind == "JPEG":
        data = line[:at] + claim + line[at + 4 :]
    (tmp_path / "original").write_bytes(data)

    with pytest.raises(MemberFaultError, match=f"at most {most:,} pixels") as refusal:
        prove(str(tmp_path / "original"), str(tmp_path / "x.png"), 10**12)

    assert refusal.value.code == "too_many_pixels"


def test_a_png_that_holds_less_than_it_claims_is_damaged(tmp_path):
    assert refuse(huge_png_header(900, 900), tmp_path).code == "damaged"


def test_a_tiny_png_that_is_whole_and_damaged_is_not_called_cut_off(tmp_path):
    """A few bytes are more than a tenth of it."""
    fault = refuse(huge_png_header(9, 9), tmp_path)

    assert fault.reason == "The PNG picture is damaged and cannot be decoded."


@pytest.mark.parametrize(
    ("path", "words"),
    [("gone.png", "No such file"), ("/proc/self/mem", "Input/output error")],
)
def test_a_file_that_cannot_be_read_is_left_out(path, words, tmp_path):
    with pytest.raises(MemberFaultError, match=f"It cannot be read: {words}") as fault:
        prove(str(tmp_path / path), str(tmp_path / "x.png"), MOST_PIXELS)

    assert fault.value.code == "unreadable"


def test_no_picture_is_rewritten_onto_a_disk_that_is_nearly_full(
    picture, tmp_path, monkeypatch
):
    (tmp_path / "original").write_bytes(encode(picture, "WEBP"))
    target = tmp_path / "rewritten" / "00000" / "00000000.png"
    target.parent.mkdir(parents=True)
    usage = shutil.disk_usage("/")._replace(free=RESERVE_BYTES - 1)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)

    with pytest.raises(OSError, match="the disk is nearly full: 255 MiB are free"):
        prove(str(tmp_path / "original"), str(target), MOST_PIXELS)

    assert not target.exists()


def test_a_thumbnail_is_small_and_keeps_the_shape(tmp_path):
    path, target = tmp_path / "big.png", tmp_path / "thumb.jpg"
    path.write_bytes(encode(pixels(0, 300, 600)))

    draw(str(path), str(target))

    with Image.open(target) as small:
        assert small.format == "JPEG"
        assert small.size == (256, 128)
