"""What the short way decodes is what training and serving see, to the bit."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.worker.ingest.uploads import encode, pixels
from worker.decode import decode_upright
from worker.ingest.plain_decode import decode_plain

TURNED = Image.Exif()
TURNED[0x0112] = 6
UPRIGHT = Image.Exif()
UPRIGHT[0x0112] = 1
NOISE = pixels(1, 33, 47)
PLAIN = {
    "jpeg": encode(NOISE, "JPEG"),
    "jpeg with half the colours": encode(NOISE, "JPEG", subsampling=2, quality=60),
    "progressive jpeg": encode(NOISE, "JPEG", progressive=True),
    "grey jpeg": encode(NOISE[..., 0], "JPEG"),
    "cmyk jpeg": encode(Image.fromarray(NOISE).convert("CMYK"), "JPEG"),
    "png": encode(NOISE),
    "grey png": encode(NOISE[..., 0]),
    "png with 16 bits": encode(
        Image.fromarray(np.arange(900, dtype=np.uint16).reshape(30, 30) * 70)
    ),
    "opaque palette": encode(Image.fromarray(NOISE).quantize(200)),
    "opaque png with alpha": encode(Image.fromarray(NOISE).convert("RGBA")),
}
OTHERS = {
    "turned jpeg": encode(NOISE, "JPEG", exif=TURNED),
    "upright jpeg with a block": encode(NOISE, "JPEG", exif=UPRIGHT),
    "turned png": encode(NOISE, exif=TURNED),
    "transparent png": encode(Image.new("RGBA", (9, 9), (1, 2, 3, 4))),
    "longer than any camera's": encode(np.zeros((1, 16_385, 3), np.uint8)),
    "neither": encode(NOISE, "BMP"),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_files_have_the_pixels_of_the_whole_graph(name):
    data = PLAIN[name]

    plain = decode_plain(data)

    assert plain is not None
    assert plain.dtype == np.uint8
    assert np.array_equal(plain, decode_upright(tf.constant(data)).numpy())


@pytest.mark.parametrize("name", OTHERS)
def test_everything_else_is_left_to_the_graph(name):
    assert decode_plain(OTHERS[name]) is None


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_damaged_file_is_refused_as_the_graph_refuses_it(kind):
    data = encode(pixels(2, 64, 64), kind)

    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_plain(data[: len(data) // 2])
