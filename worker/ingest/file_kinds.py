"""Tells from its first bytes what a file is, in words that a user knows.

The ending of a name is never believed. Only pictures of known kinds reach a decoder:
the fewer decoders strangers' bytes can reach, the fewer faults of theirs can be used.
"""

from dataclasses import dataclass

HEAD_BYTES = 4096
READABLE = "JPEG, PNG, BMP, GIF, TIFF, WebP, HEIC and AVIF"


@dataclass(frozen=True, slots=True)
class FileKind:
    """What a file is.

    Args:
        words: For a sentence: "a PDF document".
        decoder: Pillow's name of the decoder for it; None when it is refused.
        suffix: The ending its original is kept under.
    """

    words: str
    decoder: str | None = None
    suffix: str = ""


JPEG = FileKind("a JPEG picture", "JPEG", ".jpg")
PNG = FileKind("a PNG picture", "PNG", ".png")
_BMP = FileKind("a BMP picture", "BMP", ".bmp")
_GIF = FileKind("a GIF picture", "GIF", ".gif")
_TIFF = FileKind("a TIFF picture", "TIFF", ".tif")
_WEBP = FileKind("a WebP picture", "WEBP", ".webp")
_HEIC = FileKind("a HEIC picture", "HEIF", ".heic")
_AVIF = FileKind("an AVIF picture", "AVIF", ".avif")

_BY_START: tuple[tuple[bytes, FileKind], ...] = (
    (b"\xff\xd8\xff", JPEG),
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"GIF87a", _GIF),
    (b"GIF89a", _GIF),
    (b"II*\0", _TIFF),
    (b"MM\0*", _TIFF),
    (b"II+\0", _TIFF),
    (b"MM\0+", _TIFF),
    (b"BM", _BMP),
    (b"8BPS", FileKind("a Photoshop file")),
    (b"%PDF", FileKind("a PDF document")),
    (b"%!PS", FileKind("an EPS or PostScript file")),
    (b"\xc5\xd0\xd3\xc6", FileKind("an EPS file")),
    (b"\0\0\1\0", FileKind("a Windows icon")),
    (b"\0\0\2\0", FileKind("a Windows cursor")),
    (b"icns", FileKind("an Apple icon")),
    (b"\0\0\0\x0cjP", FileKind("a JPEG 2000 picture")),
    (b"\xff\x4f\xff\x51", FileKind("a JPEG 2000 picture")),
    (b"\xff\x0a", FileKind("a JPEG XL picture")),
    (b"\0\0\0\x0cJXL ", FileKind("a JPEG XL picture")),
    (b"DDS ", FileKind("a DDS texture")),
    (b"BLP", FileKind("a BLP texture")),
    (b"\x01\xda", FileKind("an SGI picture")),
    (b"qoif", FileKind("a QOI picture")),
    (b"SIMPLE  =", FileKind("a FITS file")),
    (b"\x89HDF\r\n\x1a\n", FileKind("an HDF5 file")),
    (b"BUFR", FileKind("a BUFR weather file")),
    (b"GRIB", FileKind("a GRIB weather file")),
    (b"\xd0\xcf\x11\xe0", FileKind("a Microsoft compound file")),
    (b"PK\x03\x04", FileKind("a zip archive inside the upload")),
    (b"\x1f\x8b", FileKind("a gzip archive inside the upload")),
    (b"Rar!", FileKind("a RAR archive inside the upload")),
    (b"7z\xbc\xaf", FileKind("a 7-Zip archive inside the upload")),
    (b"\x1aE\xdf\xa3", FileKind("a Matroska or WebM video")),
    (b"\x7fELF", FileKind("a program")),
    (b"MZ", FileKind("a Windows program")),
    (b"GIMP Palette", FileKind("a GIMP palette")),
    (b"GIMP Gradient", FileKind("a GIMP gradient")),
)
_BY_PLACE: tuple[tuple[int, bytes, FileKind], ...] = (
    (4, b"\x11\xaf", FileKind("an FLI animation")),
    (4, b"\x12\xaf", FileKind("an FLC animation")),
    (257, b"ustar", FileKind("a tar archive inside the upload")),
)
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"})
_TEXT = FileKind("a text file")
_UNKNOWN = FileKind("a file of an unknown kind")


def identify(head: bytes) -> FileKind:
    """Names the kind of file that begins with `head` (`HEAD_BYTES` are enough)."""
    for start, kind in _BY_START:
        if head.startswith(start):
            return kind
    for place, mark, kind in _BY_PLACE:
        if head[place : place + len(mark)] == mark:
            return kind
    if head[:4] == b"RIFF":
        return _WEBP if head[8:12] == b"WEBP" else FileKind("a sound or video file")
    if head[4:8] == b"ftyp":
        return _identify_boxes(head)
    return _identify_text(head)


def _identify_boxes(head: bytes) -> FileKind:
    """HEIC, AVIF and MP4 share one container; its brands tell them apart."""
    length = int.from_bytes(head[:4], "big")
    brands = [head[at : at + 4] for at in range(8, min(length, len(head)), 4)]
    if b"avif" in brands or b"avis" in brands:
        return _AVIF
    if _HEIC_BRANDS & set(brands) or b"mif1" in brands:
        return _HEIC
    return FileKind("an MP4 or QuickTime video")


def _identify_text(head: bytes) -> FileKind:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:256].lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return FileKind("an HTML page")
    if start.startswith((b"<svg", b"<?xml")) and b"<svg" in head.lower():
        return FileKind("an SVG drawing")
    try:
        # A character may be cut at the end of the piece read.
        text = (
            head.decode("utf-8", "strict")
            if len(head) < HEAD_BYTES
            else head.decode("utf-8", "ignore")
        )
    except UnicodeDecodeError:
        return _UNKNOWN
    is_text = all(sign.isprintable() or sign in "\t\r\n\f" for sign in text)
    return _TEXT if text and is_text else _UNKNOWN
