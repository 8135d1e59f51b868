"""Proves one picture, in a child process that may die of it.

A picture is good when the function that packs and the exported model use decodes it.
JPEG and PNG are decoded by that function alone, so what training sees of them is what
serving sees, to the bit; the other kinds go through Pillow and become PNG. Whatever is
not an upright 8-bit RGB or grey JPEG or PNG is written anew as one.
"""

import functools
import hashlib
import io
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import tensorflow as tf
from PIL import Image, UnidentifiedImageError

from shared.progress_words import say_size
from worker.decode import decode_upright, read_orientation, resize_image
from worker.ingest.disk import Reserve, is_unreadable, unreadable_reason, writing
from worker.ingest.file_kinds import (
    HEAD_BYTES,
    JPEG,
    PNG,
    READABLE,
    FileKind,
    identify,
)
from worker.ingest.limits import MemberFaultError
from worker.ingest.plain_decode import decode_plain

# Any size proves that a picture can be brought to a square; a small one costs little.
_PROOF_SIZE_PX = 64
_EXIF_ORIENTATION = 0x0112
_PLAIN_MODES = ("RGB", "L")
_ALPHA_MODES = ("RGBA", "LA", "PA", "La", "RGBa")
_DEEP_MODES = ("I;16", "I;16B", "I;16L", "I;16N")
_NO_RANGE = "which say nothing of how bright white is"
_MODE_WORDS = {
    "I": f"signed or 32-bit whole numbers, {_NO_RANGE}; save it with 8 bits a channel",
    "F": f"floating-point numbers, {_NO_RANGE}; save it with 8 bits a channel",
    "LAB": "Lab colours, which Trainyard does not convert; save it as RGB",
}
# TensorFlow refuses what would be larger, at 3 bytes a pixel of a JPEG, 4 of a PNG.
_DECODER_BYTES = 2**29
_PNG_GREY, _PNG_RGB = 0, 2
_PNG_BITS_AT = 24  # the colour type follows
_STRAY_BYTES = 64  # that may follow the end mark of a small picture
_TIFF_BITS, _TIFF_PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0


@dataclass(slots=True)
class Proof:
    """A picture that is good.

    Args:
        sha256: Of the original bytes.
        content: Hash of the upright pixels, the same for a PNG and a BMP of them.
        size_bytes: Of the original.
        suffix: Ending that fits the original's kind.
        width_px: Upright width.
        height_px: Upright height.
        mtime_ns: When the original had last changed as it was read.
        rewritten: Whether an upright PNG was written beside it.
        rewritten_sha256: Of that PNG.
        remarks: What was done to it, as codes of `verify.REMARKS`.
    """

    sha256: str
    content: str
    size_bytes: int
    suffix: str
    width_px: int
    height_px: int
    mtime_ns: int
    rewritten: bool = False
    rewritten_sha256: str | None = None
    remarks: list[str] = field(default_factory=list)


# `asdict` copies what it finds, which takes longer than hashing a small picture.
_PROOF_FIELDS = tuple(field.name for field in fields(Proof))


def prepare() -> None:
    """Makes a fresh process ready: one thread, no GPU, and every format known."""
    tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    know_formats()


def know_formats() -> None:
    """Lets `prove` open every format; what is decoded first wakes the framework."""
    pillow_heif.register_heif_opener()
    warnings.simplefilter("ignore")
    decode_plain(_encode_png(np.zeros((2, 2, 3), np.uint8)))


def prove(path: str, rewritten: str, max_pixels: int) -> dict[str, Any]:
    """Proves the picture at `path`.

    Args:
        path: The untouched file.
        rewritten: Where its upright PNG goes if it needs one.
        max_pixels: Largest picture accepted.

    Returns:
        A `Proof` as mapping.

    Raises:
        MemberFaultError: Saying why it is left out.
    """
    data, kind, mtime_ns = _read(Path(path))
    digest = hashlib.sha256(data).hexdigest()
    proof = Proof(digest, "", len(data), kind.suffix, 0, 0, mtime_ns)
    try:
        pixels = _upright_pixels(data, kind, proof, max_pixels)
    except MemoryError as error:
        raise MemberFaultError("out_of_memory", _MEMORY_REASON) from error
    proof.height_px, proof.width_px = pixels.shape[:2]
    proof.content = _digest_pixels(pixels)
    if proof.rewritten:
        png = _encode_png(pixels)
        proof.rewritten_sha256 = hashlib.sha256(png).hexdigest()
        _write_rewritten(Path(rewritten), png)
    return {name: getattr(proof, name) for name in _PROOF_FIELDS}


def _write_rewritten(path: Path, png: bytes) -> None:
    _find_reserve(path.parent.parent).count(len(png))
    with writing(path):
        path.write_bytes(png)


@functools.cache
def _find_reserve(folder: Path) -> Reserve:
    """One for all that this process writes."""
    return Reserve(folder)


def _digest_pixels(pixels: np.ndarray) -> str:
    colours = np.ascontiguousarray(_as_rgb(pixels))
    digest = hashlib.sha256(f"{colours.shape}".encode())
    digest.update(colours.data)
    return digest.hexdigest()


def _read(path: Path) -> tuple[bytes, FileKind, int]:
    """A picture's bytes, kind and time; what is none is not read to its end."""
    try:
        with path.open("rb") as stream:
            mtime_ns = os.fstat(stream.fileno()).st_mtime_ns
            head = stream.read(HEAD_BYTES)
            kind = _identify_picture(head)
            return head + stream.read(), kind, mtime_ns
    except OSError as error:
        if not is_unreadable(error):
            raise
        raise MemberFaultError("unreadable", unreadable_reason(error)) from error


def _identify_picture(head: bytes) -> FileKind:
    if not head:
        raise MemberFaultError("empty_file", "The file is empty (0 bytes).")
    kind = identify(head)
    if kind.decoder is None:
        raise MemberFaultError(
            "not_an_image", f"It is {kind.words}. Trainyard reads {READABLE}."
        )
    return kind


_MEMORY_REASON = "Decoding it takes more memory than one picture may."


def _upright_pixels(
    data: bytes, kind: FileKind, proof: Proof, max_pixels: int
) -> np.ndarray:
    header = _open_header(data, kind, max_pixels)
    if kind in (JPEG, PNG):
        pixels, orientation = _decode(data)
        if orientation != 1:
            proof.remarks.append("turned")
        _remark_header(data, kind, header, proof)
    else:
        proof.remarks.append("other_format")
        pixels = _through_pillow(header, kind, proof)
        if not np.array_equal(_decode(_encode_png(pixels))[0], _as_rgb(pixels)):
            raise MemberFaultError("damaged", _damaged(data, kind))
    proof.rewritten = bool(set(proof.remarks) - {"more_frames_kept"})
    return pixels


@tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
def _decode_graph(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    pixels = decode_upright(encoded)
    with tf.control_dependencies([resize_image(pixels, _PROOF_SIZE_PX)]):
        return tf.identity(pixels), read_orientation(encoded)


def _decode(data: bytes) -> tuple[np.ndarray, int]:
    """Upright pixels and the orientation the file had; as a graph 3 times as fast."""
    try:
        plain = decode_plain(data)
        if plain is not None:
            return plain, 1
        pixels, orientation = _decode_graph(tf.constant(data))
        return pixels.numpy(), int(orientation)
    except tf.errors.ResourceExhaustedError as error:
        raise MemoryError from error
    except tf.errors.InvalidArgumentError as error:
        kind = identify(data[:HEAD_BYTES])
        raise MemberFaultError("damaged", _damaged(data, kind)) from error


def _open_header(data: bytes, kind: FileKind, max_pixels: int) -> Image.Image:
    """Reads size and mode without decoding, so that a bomb is refused unexploded."""
    Image.MAX_IMAGE_PIXELS = None  # the limit is ours and comes right below
    try:
        decoder = kind.decoder or ""
        formats = (decoder, "DIB") if decoder == "BMP" else (decoder,)
        header = Image.open(io.BytesIO(data), formats=formats)
    except Exception as error:  # Pillow's decoders raise whatever Python does
        raise MemberFaultError("damaged", _damaged(data, kind, error)) from error
    most = min(max_pixels, _DECODER_BYTES // (3 if kind is JPEG else 4) - 1)
    if header.width * header.height > most:
        raise MemberFaultError(
            "too_many_pixels",
            f"It claims {header.width:,} x {header.height:,} pixels in "
            f"{say_size(len(data))}; at most {most:,} pixels are read.",
        )
    return header


def _remark_header(
    data: bytes, kind: FileKind, header: Image.Image, proof: Proof
) -> None:
    """Notes what is not plain about a JPEG or PNG."""
    add = proof.remarks.append
    if getattr(header, "n_frames", 1) > 1:
        add("more_frames_kept" if kind is JPEG else "more_frames")
    if kind is JPEG and header.mode not in _PLAIN_MODES:
        add("cmyk")
    if kind is PNG:
        bits, colour_type = data[_PNG_BITS_AT], data[_PNG_BITS_AT + 1]
        if bits > 8:  # noqa: PLR2004 - bits a channel
            add("deep")
        if colour_type not in (_PNG_GREY, _PNG_RGB) or "transparency" in header.info:
            is_palette = header.mode == "P" and "transparency" not in header.info
            add("palette" if is_palette else "alpha")
        elif bits < 8:  # noqa: PLR2004
            add("palette")


def _through_pillow(header: Image.Image, kind: FileKind, proof: Proof) -> np.ndarray:
    """Decodes the first frame into upright 8-bit RGB or grey pixels."""
    try:
        if getattr(header, "n_frames", 1) > 1:
            proof.remarks.append("more_frames")
        header.seek(0)
        if _read_tags(header).get(_EXIF_ORIENTATION, 1) in _TRANSPOSITIONS:
            proof.remarks.append("turned")
        header.load()
        image = _to_plain_mode(_turn_upright(header, proof), proof)
        return np.asarray(image)
    except (MemberFaultError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise whatever Python does
        raise MemberFaultError("damaged", _damaged(b"", kind, error)) from error


def _read_tags(image: Image.Image) -> Mapping[int, Any]:
    """The tags of a TIFF; loading one turns it upright and takes that tag away."""
    return getattr(image, "tag_v2", {})


def _turn_upright(image: Image.Image, proof: Proof) -> Image.Image:
    """Obeys EXIF; TIFF and HEIC come upright from their decoders."""
    block = image.info.get("exif")
    if not block or image.format not in ("PNG", "WEBP", "AVIF"):
        return image
    exif = Image.Exif()
    exif.load(block)
    orientation = exif.get(_EXIF_ORIENTATION, 1)
    method = _TRANSPOSITIONS.get(orientation)
    if method is None:
        return image
    proof.remarks.append("turned")
    return image.transpose(method)


_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _to_plain_mode(image: Image.Image, proof: Proof) -> Image.Image:
    mode = image.mode
    if mode in _MODE_WORDS:
        raise MemberFaultError(
            "unsupported_mode",
            f"Its pixels are {_MODE_WORDS[mode]}.",
        )
    if mode in _DEEP_MODES:
        proof.remarks.append("deep")
        return Image.fromarray(_to_eight_bits(image))
    if mode in _ALPHA_MODES or "transparency" in image.info:
        proof.remarks.append("alpha")
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    if mode == "CMYK":
        proof.remarks.append("cmyk")
    if mode in _PLAIN_MODES:
        return image
    return image.convert("L" if mode == "1" else "RGB")


def _to_eight_bits(image: Image.Image) -> np.ndarray:
    """Scales deep grey values so that white becomes 255.

    Pillow unpacks the 12 bits of a microscope's or an X-ray's TIFF into 16 without
    scaling them, and leaves those where 0 is white as they are.
    """
    tags = _read_tags(image)
    white = 2 ** tags.get(_TIFF_BITS, (16,))[0] - 1
    values = np.minimum(np.asarray(image).astype(np.uint32), white) * 255 // white
    grey = values.astype(np.uint8)
    return 255 - grey if tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO else grey


def _as_rgb(pixels: np.ndarray) -> np.ndarray:
    return np.dstack([pixels] * 3) if pixels.ndim == 2 else pixels  # noqa: PLR2004


def _encode_png(pixels: np.ndarray) -> bytes:
    """Encodes as grey where the three channels agree, else as RGB."""
    if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():  # noqa: PLR2004
        pixels = pixels[..., 0]
    buffer = io.BytesIO()
    # Level 1 is four times as fast as the default and some 10 % larger.
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _damaged(data: bytes, kind: FileKind, error: Exception | None = None) -> str:
    """The sentence for a picture that will not decode."""
    marks = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
    mark = marks.get(kind.decoder or "")
    what = kind.words.removeprefix("an ").removeprefix("a ")
    if (mark and _lacks_end(data, mark)) or "truncated" in str(error):
        return f"The {what} is cut off: its end is missing."
    if mark:
        return f"The {what} is damaged and cannot be decoded."
    # Of these kinds there are many that hardly any program writes, and Pillow cannot
    # tell one that it does not know from one that is broken.
    detail = f" ({_brief(error)})" if _says_something(error) else ""
    return f"The {what} is damaged, or of a form that Trainyard cannot decode{detail}."


def _lacks_end(data: bytes, mark: bytes) -> bool:
    # What follows the last end mark of a whole file is a few stray bytes at most; an
    # embedded thumbnail has an end mark too, but far from the end.
    at = data.rfind(mark)
    return at < 0 or len(data) - at > max(_STRAY_BYTES, len(data) // 10)


def _says_something(error: Exception | None) -> bool:
    """Whether an error of Pillow's holds more than that it failed."""
    text = str(error or "").strip()
    is_bare = isinstance(error, UnidentifiedImageError) or "decoder error" in text
    return bool(text) and not is_bare


def _brief(error: Exception | None) -> str:
    return str(error).strip().splitlines()[0][:120]
