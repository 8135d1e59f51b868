"""The one way from encoded bytes to pixels: ingest's proof, the pack, the SavedModel.

Everything is a TensorFlow op, so the exported SavedModel carries this very graph and
a picture looks the same to the model in training and in serving. JPEG and PNG only:
ingest rewrites whatever else a user brings as PNG.

Choices, all part of `DECODE_VERSION`:

- JPEG: accurate integer DCT and smooth chroma upsampling. One that is far larger than
  needed is decoded at 1/2, 1/4 or 1/8 of its size, as far as it stays at least twice
  as large as the square wants it; the resize does the rest.
- PNG: always decoded with alpha; transparent pixels lie on white. 16 bits become 8.
- Upright as the EXIF block says (JPEG `APP1`, PNG `eXIf` before the pixels), which
  `tf.io.decode_image` ignores. Malformed EXIF means "already upright", never an error.
- Resize: bilinear with antialiasing, rounded half to even and clipped to 0..255.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from shared.training_spec import Fit

DECODE_VERSION = 2

_EXIF_TAG_ORIENTATION = 0x0112
_TIFF_SHORT, _TIFF_LONG = 3, 4
# A JPEG or PNG header has a handful of blocks before the pixels; a hostile one could
# have millions of empty ones. The walk gives up after this many.
_MAX_BLOCKS = 256
_LENGTH_BYTES = 2  # a JPEG segment's length counts its own two bytes
_JPEG_MAGIC = b"\xff\xd8\xff"
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_BITS_AT = 24  # bits a channel, in the header chunk
# What libjpeg can reduce by in its inverse DCT. Decoding to no less than twice the
# wanted side keeps the mean difference from a full decode between 0.06 and 0.5 of 255,
# most of it a shift by a fraction of a pixel (measured over TrashNet, 32 to 224 px, all
# fits). A JPEG of 12 million pixels takes half the time, 45 ms against 89.
_REDUCTIONS = (1, 2, 4, 8)
_LEAST_SURPLUS = 2


def describe_decoder() -> dict[str, Any]:
    """Returns all that decides the pixels: the rules, and whose code follows them."""
    return {"version": DECODE_VERSION, "tensorflow": tf.__version__}


def decode_image(
    encoded: tf.Tensor, image_size_px: int, fit: Fit | str = Fit.STRETCH
) -> tf.Tensor:
    """Decodes one JPEG or PNG into an upright square of RGB pixels.

    Args:
        encoded: Scalar string, the bytes of the file.
        image_size_px: Side of the square, pixels, at least 1.
        fit: How another shape becomes a square: `stretch` ignores the aspect ratio,
            `crop` keeps the largest centred square, `pad` keeps everything between
            black bars.

    Returns:
        `(image_size_px, image_size_px, 3)` uint8.

    Raises:
        tf.errors.InvalidArgumentError: When the bytes are no JPEG or PNG, or are cut
            off or damaged.
    """
    return resize_image(_decode(encoded, image_size_px, fit), image_size_px, fit)


def decode_upright(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes one JPEG or PNG at its own size, upright: `(height, width, 3)` uint8."""
    return _decode(encoded, None, Fit.STRETCH)


def _decode(encoded: tf.Tensor, image_size_px: int | None, fit: Fit | str) -> tf.Tensor:
    """Decodes upright: as large as `image_size_px` needs, or at its own size."""
    is_jpeg = tf.equal(tf.strings.substr(encoded, 0, 3), _JPEG_MAGIC)
    is_png = tf.equal(tf.strings.substr(encoded, 0, 8), _PNG_MAGIC)
    known = tf.debugging.Assert(
        is_jpeg | is_png, ["The bytes are neither a JPEG nor a PNG picture."]
    )
    with tf.control_dependencies([known] if known is not None else []):
        encoded = tf.identity(encoded)
    pixels = tf.cond(
        is_jpeg,
        lambda: _decode_jpeg(encoded, image_size_px, Fit(fit)),
        lambda: _decode_png(encoded),
    )
    orientation = read_orientation(encoded)
    pixels = tf.cond(
        tf.equal(orientation, 1),
        lambda: pixels,
        lambda: _turn_upright(pixels, orientation),
    )
    return tf.ensure_shape(pixels, (None, None, 3))


def resize_image(
    pixels: tf.Tensor, image_size_px: int, fit: Fit | str = Fit.STRETCH
) -> tf.Tensor:
    """Brings `(height, width, 3)` uint8 pixels to a square; see `decode_image`."""
    fit = Fit(fit)
    if fit is Fit.CROP:
        pixels = _crop_to_square(pixels)
    size = tf.constant([image_size_px, image_size_px])
    if fit is Fit.PAD:
        size = _padded_size(pixels, image_size_px)
    resized = tf.image.resize(
        pixels, size, method=tf.image.ResizeMethod.BILINEAR, antialias=True
    )
    resized = tf.cast(tf.clip_by_value(tf.round(resized), 0.0, 255.0), tf.uint8)
    if fit is Fit.PAD:
        gap = image_size_px - size
        before = gap // 2
        after = gap - before
        paddings = tf.stack([before, after], axis=1)
        resized = tf.pad(resized, tf.concat([paddings, [[0, 0]]], axis=0))
    return tf.ensure_shape(resized, (image_size_px, image_size_px, 3))


def read_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Reads the EXIF orientation of JPEG or PNG bytes: scalar int32, 1 to 8.

    Returns 1 (upright) where there is no EXIF block or it makes no sense.
    """
    is_png = tf.equal(tf.strings.substr(encoded, 0, 8), _PNG_MAGIC)
    tiff = tf.cond(
        is_png, lambda: _find_exif_in_png(encoded), lambda: _find_exif_in_jpeg(encoded)
    )
    return _orientation_of_tiff(tiff)


def _decode_jpeg(encoded: tf.Tensor, image_size_px: int | None, fit: Fit) -> tf.Tensor:
    def reduced_by(ratio: int) -> Callable[[], tf.Tensor]:
        # The ratio is fixed when a graph is built: one branch for each.
        return lambda: tf.io.decode_jpeg(
            encoded,
            channels=3,
            ratio=ratio,
            dct_method="INTEGER_ACCURATE",
            fancy_upscaling=True,
        )

    if image_size_px is None:
        return reduced_by(1)()
    choice = _choose_reduction(encoded, image_size_px, fit)
    return tf.switch_case(choice, [reduced_by(ratio) for ratio in _REDUCTIONS])


def _choose_reduction(encoded: tf.Tensor, image_size_px: int, fit: Fit) -> tf.Tensor:
    """The place in `_REDUCTIONS` of the largest that leaves pixels enough.

    A turn by 90 degrees exchanges the sides and so changes nothing here.
    """
    sides = tf.io.extract_jpeg_shape(encoded, output_type=tf.int32)[:2]
    # The side that ends as the square's: the other one is shrunk no more than it.
    side = tf.reduce_max(sides) if fit is Fit.PAD else tf.reduce_min(sides)
    is_enough = side >= tf.constant(_REDUCTIONS[1:]) * (_LEAST_SURPLUS * image_size_px)
    return tf.reduce_sum(tf.cast(is_enough, tf.int32))


def _decode_png(encoded: tf.Tensor) -> tf.Tensor:
    # Four channels, because only then does the decoder turn palettes and colour keys
    # into alpha; with three it drops alpha and shows what the transparency hid.
    pixels = tf.io.decode_png(encoded, channels=4)
    colours, alpha = pixels[..., :3], pixels[..., 3:]
    # Of a picture with 1, 2 or 4 bits the decoder calls "opaque" 1, 3 or 15, not 255;
    # where a colour is transparent, alpha is 0 or 255 at every depth.
    bits = tf.clip_by_value(_big_endian(encoded, tf.constant(_PNG_BITS_AT), 1), 1, 8)
    opaque = tf.cast(tf.bitwise.left_shift(1, bits) - 1, tf.uint8)
    return tf.cond(
        tf.reduce_all(tf.equal(alpha, opaque)) | tf.reduce_all(tf.equal(alpha, 255)),
        lambda: colours,
        lambda: _lay_on_white(colours, alpha),
    )


def _lay_on_white(colours: tf.Tensor, alpha: tf.Tensor) -> tf.Tensor:
    share = tf.cast(alpha, tf.int32)
    mixed = tf.cast(colours, tf.int32) * share + 255 * (255 - share)
    return tf.cast((mixed + 127) // 255, tf.uint8)


def _turn_upright(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    # The eight orientations are a transposition followed by mirrorings (Exif 2.32,
    # tag 0x0112).
    def one_of(*values: int) -> tf.Tensor:
        return tf.reduce_any(tf.equal(orientation, tf.constant(values)))

    pixels = tf.cond(
        one_of(5, 6, 7, 8), lambda: tf.transpose(pixels, (1, 0, 2)), lambda: pixels
    )
    pixels = tf.cond(
        one_of(2, 3, 6, 7), lambda: tf.reverse(pixels, [1]), lambda: pixels
    )
    return tf.cond(one_of(3, 4, 7, 8), lambda: tf.reverse(pixels, [0]), lambda: pixels)


def _crop_to_square(pixels: tf.Tensor) -> tf.Tensor:
    height, width = tf.unstack(tf.shape(pixels)[:2])
    side = tf.minimum(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


def _padded_size(pixels: tf.Tensor, image_size_px: int) -> tf.Tensor:
    size = tf.shape(pixels)[:2]
    longest = tf.reduce_max(size)
    # Whole numbers only, so that no float rounding differs between machines:
    # round(size * target / longest), half up, at least one pixel.
    scaled = (2 * size * image_size_px + longest) // (2 * longest)
    return tf.clip_by_value(scaled, 1, image_size_px)


def _big_endian(encoded: tf.Tensor, at: tf.Tensor, count: int) -> tf.Tensor:
    """The unsigned number in `count` bytes at `at`; -1 beyond the end.

    Four-byte lengths above 2**31 - 1 are not legal in PNG and come back negative.
    """
    end = tf.strings.length(encoded)
    is_inside = (at >= 0) & (at + count <= end)
    octets = tf.io.decode_raw(
        tf.strings.substr(encoded, tf.where(is_inside, at, 0), count),
        tf.uint8,
    )
    octets = tf.cast(octets, tf.int32)
    octets = tf.pad(octets, [[0, tf.maximum(0, count - tf.size(octets))]])
    weights = tf.constant([256**power for power in range(count - 1, -1, -1)], tf.int32)
    return tf.where(is_inside, tf.reduce_sum(octets[:count] * weights), -1)


def _find_exif_in_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    """Walks the JPEG's segments; the TIFF block of the first EXIF one, or ''."""
    end = tf.strings.length(encoded)

    def body(
        at: tf.Tensor, left: tf.Tensor, _found: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        marker = _big_endian(encoded, at, 2)
        length = _big_endian(encoded, at + 2, 2)
        # Fill bytes (FF FF ..) may stand before a marker; they have no length.
        is_fill = tf.equal(marker, 0xFFFF)
        # EXIF stands among the application segments (FFE0 to FFEF) and comments
        # (FFFE) at the front. Stopping at the first other one, mostly a quantisation
        # table, saves six turns of this loop per picture: a third of the whole cost.
        is_application = tf.equal(tf.bitwise.bitwise_and(marker, 0xFFF0), 0xFFE0)
        is_known = is_fill | is_application | tf.equal(marker, 0xFFFE)
        is_over = tf.logical_not(is_known) | (
            tf.logical_not(is_fill) & (length < _LENGTH_BYTES)
        )
        is_exif = (
            tf.equal(marker, 0xFFE1)
            & tf.equal(_bytes_at(encoded, at + 4, 6), b"Exif\0\0")
            & ~is_over
        )
        tiff = _bytes_at(encoded, at + 10, tf.maximum(length - 8, 0))
        found = tf.where(is_exif, tiff, "")
        step = tf.where(is_fill, 1, _LENGTH_BYTES + length)
        at = tf.where(is_over | is_exif, end, at + step)
        return at, left - 1, found

    return _walk(body, tf.constant(2), end)


def _find_exif_in_png(encoded: tf.Tensor) -> tf.Tensor:
    """Walks the PNG's chunks up to the pixels; the TIFF block of `eXIf`, or ''."""
    end = tf.strings.length(encoded)

    def body(
        at: tf.Tensor, left: tf.Tensor, _found: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        length = _big_endian(encoded, at, 4)
        name = _bytes_at(encoded, at + 4, 4)
        is_over = (length < 0) | (length > end - at) | tf.equal(name, b"IDAT")
        is_exif = tf.equal(name, b"eXIf") & ~is_over
        tiff = _bytes_at(encoded, at + 8, tf.where(is_over, 0, length))
        found = tf.where(is_exif, tiff, "")
        at = tf.where(is_over | is_exif, end, at + tf.where(is_over, 0, length) + 12)
        return at, left - 1, found

    return _walk(body, tf.constant(len(_PNG_MAGIC)), end)


def _walk(body: object, start: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
    _, _, found = tf.while_loop(
        lambda at, left, _found: (at < end - 4) & (left > 0),
        body,
        (start, tf.constant(_MAX_BLOCKS), tf.constant("")),
    )
    return found


def _bytes_at(encoded: tf.Tensor, at: tf.Tensor, count: tf.Tensor | int) -> tf.Tensor:
    """Up to `count` bytes at `at`; fewer or none beyond the end, never an error."""
    end = tf.strings.length(encoded)
    return tf.strings.substr(encoded, tf.clip_by_value(at, 0, end), count)


def _orientation_of_tiff(tiff: tf.Tensor) -> tf.Tensor:
    """The orientation in the first directory of a TIFF block; 1 where it is unclear."""
    header_bytes = 8
    return tf.cond(
        tf.strings.length(tiff) > header_bytes + 2,
        lambda: _orientation_of_directory(tiff),
        lambda: tf.constant(1),
    )


def _orientation_of_directory(tiff: tf.Tensor) -> tf.Tensor:
    octets = tf.cast(tf.io.decode_raw(tiff, tf.uint8), tf.int32)
    end = tf.size(octets)
    is_little = tf.equal(octets[0], ord("I"))

    def number(at: tf.Tensor) -> tf.Tensor:
        at = tf.clip_by_value(at, 0, end - 2)
        first, second = tf.gather(octets, at), tf.gather(octets, at + 1)
        return tf.where(is_little, first + 256 * second, 256 * first + second)

    def long_number(at: tf.Tensor) -> tf.Tensor:
        low, high = (
            number(tf.where(is_little, at, at + 2)),
            number(tf.where(is_little, at + 2, at)),
        )
        # A value beyond 16 bits is neither an offset inside one EXIF block of a JPEG
        # nor an orientation.
        return tf.where(tf.equal(high, 0), low, -1)

    directory = long_number(tf.constant(4))
    count = tf.clip_by_value(number(directory), 0, (end - directory - 2) // 12)
    count = tf.where((directory >= 0) & (directory < end - 2), count, 0)
    entries = directory + 2 + 12 * tf.range(tf.maximum(count, 0))
    kinds = number(entries + 2)
    values = tf.where(
        tf.equal(kinds, _TIFF_LONG), long_number(entries + 8), number(entries + 8)
    )
    is_ours = tf.equal(number(entries), _EXIF_TAG_ORIENTATION) & (
        tf.equal(kinds, _TIFF_SHORT) | tf.equal(kinds, _TIFF_LONG)
    )
    value = tf.concat([tf.boolean_mask(values, is_ours), [1]], axis=0)[0]
    makes_sense = (
        (value >= 1)
        & (value <= 8)  # noqa: PLR2004 - eight orientations
        & (is_little | tf.equal(octets[0], ord("M")))
        & tf.equal(octets[0], octets[1])
        & tf.equal(number(tf.constant(2)), 42)
    )
    return tf.where(makes_sense, value, 1)
