"""The one decode function: formats, orientation, fits, rounding, hostile bytes."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from shared.training_spec import Fit
from worker import decode
from worker.decode import (
    decode_image,
    decode_upright,
    read_orientation,
    resize_image,
)

ORIENTATIONS = range(1, 9)


def encode(pixels, kind="PNG", **options):
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def exif(orientation, *, byte_order=">", kind=3):
    """An EXIF block whose second entry is the orientation, SHORT (3) or LONG (4)."""
    header = {">": b"MM\0*", "<": b"II*\0"}[byte_order]
    other = struct.pack(byte_order + "HHI4s", 0x010F, 2, 4, b"abc\0")
    entry = struct.pack(byte_order + "HHI", 0x0112, kind, 1)
    entry += struct.pack(byte_order + {3: "H2x", 4: "I"}[kind], orientation)
    start = struct.pack(byte_order + "IH", 8, 2)
    return b"Exif\0\0" + header + start + other + entry + b"\0\0\0\0"


@pytest.fixture(scope="module")
def picture():
    """A picture in which every corner and edge differs."""
    ramp = np.linspace(0, 200, 24, dtype=np.uint8)
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[..., 0] = ramp
    pixels[..., 1] = ramp[:16, None]
    pixels[:4, :4, 2] = 255
    return pixels


@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_jpeg_comes_upright_in_all_eight_orientations(
    picture, orientation, byte_order, kind
):
    encoded = encode(
        picture,
        "JPEG",
        quality=95,
        exif=exif(orientation, byte_order=byte_order, kind=kind),
    )

    upright = decode_upright(tf.constant(encoded)).numpy()

    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded)))
    assert read_orientation(tf.constant(encoded)).numpy() == orientation
    np.testing.assert_array_equal(upright, np.asarray(expected))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_png_comes_upright_in_all_eight_orientations(picture, orientation):
    encoded = encode(picture, "PNG", exif=exif(orientation)[6:])

    upright = decode_upright(tf.constant(encoded)).numpy()

    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded)))
    np.testing.assert_array_equal(upright, np.asarray(expected))


def test_orientation_is_found_behind_other_segments(picture):
    plain = encode(picture, "JPEG", exif=exif(6))
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x/>"
    segment = b"\xff\xe1" + struct.pack(">H", len(xmp) + 2) + xmp
    filled = plain[:2] + segment + b"\xff\xff" + plain[2:]

    assert read_orientation(tf.constant(filled)).numpy() == 6


@pytest.mark.parametrize("orientation", [0, 9, 0xFFFF])
def test_orientation_out_of_range_means_upright(picture, orientation):
    encoded = encode(picture, "JPEG", exif=exif(orientation))

    assert read_orientation(tf.constant(encoded)).numpy() == 1
    assert decode_upright(tf.constant(encoded)).shape == picture.shape


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_mangled_exif_never_fails(picture, data):
    block = bytearray(exif(6))
    for _ in range(data.draw(st.integers(1, 6))):
        block[data.draw(st.integers(6, len(block) - 1))] = data.draw(
            st.integers(0, 255)
        )
    cut = data.draw(st.integers(0, len(block)))
    encoded = encode(picture, "JPEG", exif=bytes(block[:cut]) or b"x")

    shape = decode_upright(tf.constant(encoded)).shape

    assert sorted(shape) == sorted(picture.shape)


@settings(max_examples=100, deadline=None)
@given(tail=st.binary(max_size=200), is_png=st.booleans())
def test_reading_the_orientation_of_garbage_gives_one_to_eight(tail, is_png):
    magic = b"\x89PNG\r\n\x1a\n" if is_png else b"\xff\xd8\xff"

    assert 1 <= read_orientation(tf.constant(magic + tail)).numpy() <= 8


def test_grey_becomes_rgb(picture):
    grey = picture[..., 0]

    for kind in ("PNG", "JPEG"):
        pixels = decode_upright(tf.constant(encode(grey, kind))).numpy()
        assert pixels.shape == (16, 24, 3)
        assert (pixels[..., 0] == pixels[..., 2]).all()


def test_transparent_pixels_lie_on_white():
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0] = (10, 20, 30, 255)
    rgba[0, 1] = (0, 0, 0, 128)

    pixels = decode_upright(tf.constant(encode(rgba))).numpy()

    assert pixels[0, 0].tolist() == [10, 20, 30]
    assert pixels[0, 1].tolist() == [127, 127, 127]
    assert pixels[1, 1].tolist() == [255, 255, 255]


def test_palette_and_sixteen_bit_png_become_eight_bit_rgb(picture):
    palette = Image.fromarray(picture).quantize(200)
    deep = Image.fromarray(picture[..., 0].astype(np.uint16) * 257)

    from_palette = decode_upright(tf.constant(encode(palette))).numpy()
    from_deep = decode_upright(tf.constant(encode(deep))).numpy()

    np.testing.assert_array_equal(from_palette, np.asarray(palette.convert("RGB")))
    np.testing.assert_array_equal(from_deep[..., 0], picture[..., 0])


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("is_palette", [False, True])
def test_png_of_few_bits_is_as_bright_as_it_was_meant(bits, is_palette):
    levels = np.arange(2**bits, dtype=np.uint8) * (255 // (2**bits - 1))
    indices = np.arange(8) % 2**bits

    encoded = write_png_of_few_bits(indices, bits, levels if is_palette else None)
    pixels = decode_upright(tf.constant(encoded)).numpy()

    np.testing.assert_array_equal(pixels[0, :, 0], levels[indices])


def write_png_of_few_bits(indices, bits, palette):
    """Encodes one row of numbers; Pillow would write a grey one with 8 bits."""
    kind = 0 if palette is None else 3
    header = struct.pack(">IIBBBBB", len(indices), 1, bits, kind, 0, 0, 0)
    chunks = [(b"IHDR", header)]
    if palette is not None:
        chunks.append((b"PLTE", np.repeat(palette, 3).tobytes()))
    places = ((indices[:, None] >> np.arange(bits)[::-1]) & 1).astype(np.uint8)
    row = b"\0" + np.packbits(places.ravel()).tobytes()
    chunks += [(b"IDAT", zlib.compress(row)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body))
        + name
        + body
        + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


@pytest.mark.parametrize("fit", list(Fit))
@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (97, 31), (31, 97)])
def test_every_fit_gives_a_square(fit, shape):
    encoded = encode(np.full((*shape, 3), 200, np.uint8))

    pixels = decode_image(tf.constant(encoded), 32, fit).numpy()

    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8
    assert pixels.max() == 200


def test_pad_keeps_the_picture_between_black_bars():
    encoded = encode(np.full((20, 40, 3), 255, np.uint8))

    pixels = decode_image(tf.constant(encoded), 40, "pad").numpy()

    assert (pixels[10:30] == 255).all()
    assert (pixels[:10] == 0).all()
    assert (pixels[30:] == 0).all()


def test_crop_keeps_the_centre():
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 255

    pixels = decode_image(tf.constant(encode(wide)), 20, "crop").numpy()

    assert (pixels == 255).all()


def test_a_rotated_jpeg_and_its_upright_png_give_identical_pixels(picture):
    rotated = encode(picture, "JPEG", exif=exif(6))
    upright = encode(decode_upright(tf.constant(rotated)).numpy(), "PNG")

    for fit in Fit:
        np.testing.assert_array_equal(
            decode_image(tf.constant(rotated), 11, fit),
            decode_image(tf.constant(upright), 11, fit),
        )


def test_eager_graph_and_saved_model_agree_to_the_bit(picture, tmp_path):
    encoded = tf.constant(encode(picture, "JPEG", exif=exif(8)))
    module = tf.Module()
    module.serve = tf.function(
        lambda one: decode_image(one, 17, "pad"),
        input_signature=[tf.TensorSpec([], tf.string)],
    )

    tf.saved_model.save(module, str(tmp_path))
    reloaded = tf.saved_model.load(str(tmp_path)).serve(encoded)

    np.testing.assert_array_equal(reloaded, decode_image(encoded, 17, "pad"))
    np.testing.assert_array_equal(reloaded, module.serve(encoded))


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"\xff\xd8\xff",
        b"<html>",
        encode(Image.new("RGB", (4, 4)), "GIF"),
        encode(Image.new("RGB", (4, 4)), "BMP"),
        encode(Image.effect_noise((64, 64), 50), "JPEG")[:-400],
        encode(Image.effect_noise((64, 64), 50), "PNG")[:-400],
    ],
    ids=["empty", "magic", "html", "gif", "bmp", "half-jpeg", "half-png"],
)
def test_what_is_no_whole_jpeg_or_png_is_refused(encoded):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_image(tf.constant(encoded), 32)


def make_photo(height, width):
    """A picture with soft areas, edges and some noise, like a photograph."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = 100 + 60 * np.sin(columns / 37)[..., None] + np.zeros(3)
    pixels[..., 1] += 50 * np.cos(rows / 23)
    pixels[(rows // 61 + columns // 83) % 2 == 0] += 40
    pixels += random.normal(0, 3, pixels.shape)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def list_decoded_shapes(encoded, size, fit, monkeypatch):
    """The shapes that the decoder hands to the resize."""
    shapes = []
    monkeypatch.setattr(
        decode,
        "resize_image",
        lambda pixels, *rest: (
            shapes.append(tuple(pixels.shape[:2])) or resize_image(pixels, *rest)
        ),
    )
    decode_image(tf.constant(encoded), size, fit)
    return shapes


@pytest.mark.parametrize(
    ("shape", "fit", "size", "reduced"),
    [
        ((600, 800), "stretch", 301, (600, 800)),
        ((600, 800), "stretch", 150, (300, 400)),
        ((600, 800), "crop", 150, (300, 400)),
        ((600, 800), "pad", 151, (300, 400)),
        ((600, 800), "pad", 100, (150, 200)),
        ((600, 800), "stretch", 75, (150, 200)),
        ((600, 800), "stretch", 32, (75, 100)),
        ((600, 800), "stretch", 1, (75, 100)),
        ((601, 803), "stretch", 150, (301, 402)),
        ((16, 4000), "stretch", 32, (16, 4000)),
        ((16, 4000), "pad", 32, (2, 500)),
        ((1, 1), "stretch", 32, (1, 1)),
    ],
)
def test_a_jpeg_is_decoded_at_most_as_small_as_twice_the_square(
    shape, fit, size, reduced, monkeypatch
):
    encoded = encode(make_photo(*shape), "JPEG")

    shapes = list_decoded_shapes(encoded, size, fit, monkeypatch)

    assert shapes == [reduced]


@pytest.mark.parametrize("fit", list(Fit))
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("size", [40, 75, 150])
def test_a_reduced_decode_looks_like_a_full_one(fit, orientation, size):
    encoded = tf.constant(
        encode(make_photo(600, 803), "JPEG", quality=90, exif=exif(orientation))
    )

    reduced = decode_image(encoded, size, fit).numpy().astype(int)

    full = resize_image(decode_upright(encoded), size, fit).numpy().astype(int)
    assert full.std() > 30
    assert np.abs(reduced - full).mean() < 2.5
    assert np.abs(reduced - full).max() < 30


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("kept", [0.98, 0.9, 0.5, 0.05])
def test_a_reduced_decode_still_refuses_what_is_cut_off(kept, progressive):
    encoded = encode(make_photo(600, 800), "JPEG", progressive=progressive)

    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_image(tf.constant(encoded[: int(len(encoded) * kept)]), 32)


def test_a_saved_model_reduces_by_the_same_rule(tmp_path):
    files = [encode(make_photo(height, 500), "JPEG") for height in (60, 140, 300, 900)]
    files.append(encode(make_photo(300, 500), "PNG"))
    module = tf.Module()
    module.serve = tf.function(
        lambda all_files: tf.map_fn(
            lambda one: decode_image(one, 32, "crop"),
            all_files,
            fn_output_signature=tf.TensorSpec((32, 32, 3), tf.uint8),
        ),
        input_signature=[tf.TensorSpec([None], tf.string)],
        autograph=False,
    )

    tf.saved_model.save(module, str(tmp_path))
    served = tf.saved_model.load(str(tmp_path)).serve(tf.constant(files)).numpy()

    here = [decode_image(tf.constant(one), 32, "crop").numpy() for one in files]
    np.testing.assert_array_equal(served, here)
