"""Decodes plain JPEG and PNG files without the graph around the decoder.

The graph of `worker/decode.py` costs five times what its decoder takes for a small
photograph: reading EXIF byte by byte, branches, conversions. A file without any EXIF
block and without transparency needs none of that, and most files are such. For them
this calls the same two operations with the same attributes, so the pixels are the same
to the bit; `tests/worker/ingest/test_plain_decode.py` holds it to that.

Source: measured over 1,500 JPEGs of 96 x 72 pixels on one core: 0.17 ms against 1.33.
"""

import numpy as np
import tensorflow as tf

_JPEG_MAGIC = b"\xff\xd8\xff"
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
# Without these bytes there is no block that could turn the picture.
_JPEG_EXIF, _PNG_EXIF = b"Exif\0\0", b"eXIf"
_OPAQUE = 255
# Bringing a picture to a square can fail of its sides alone, never of its content: one
# dot high and a hundred million wide it does. No decoded side up to this ever has.
_LONGEST_SIDE_PX = 16_384


def decode_plain(data: bytes) -> np.ndarray | None:
    """Returns the pixels of a file that needs neither turning nor mixing.

    Args:
        data: A whole file.

    Returns:
        `(height, width, 3)` uint8; None for a file that only the whole graph can
        judge.

    Raises:
        tf.errors.InvalidArgumentError: When the file is damaged.
        tf.errors.ResourceExhaustedError: When its pixels take too much memory.
    """
    pixels = _decode(data)
    if pixels is None or max(pixels.shape) > _LONGEST_SIDE_PX:
        return None
    return pixels


def _decode(data: bytes) -> np.ndarray | None:
    if data.startswith(_JPEG_MAGIC) and _JPEG_EXIF not in data:
        return tf.io.decode_jpeg(
            data,
            channels=3,
            ratio=1,
            dct_method="INTEGER_ACCURATE",
            fancy_upscaling=True,
        ).numpy()
    if data.startswith(_PNG_MAGIC) and _PNG_EXIF not in data:
        pixels = tf.io.decode_png(data, channels=4).numpy()
        is_opaque = (pixels[..., 3] == _OPAQUE).all()
        return np.ascontiguousarray(pixels[..., :3]) if is_opaque else None
    return None
