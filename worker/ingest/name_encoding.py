"""Reads names and tables whose encoding nobody recorded.

A zip stores names as bytes and mostly does not say how to read them. Names that are
UTF-8 are read so, where most are. The others are guessed by rules that can be followed,
all of one archive together: Chinese (GBK), Japanese (Shift-JIS), Cyrillic, then Latin-1
against the code page 437 of old DOS and Windows tools.
"""

import codecs
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

_HIGH = re.compile(rb"[\x80-\xff]+")
_GB2312_SHARE = 0.9
_LONG_RUN = 3
_PIECE_BYTES = 1 << 20
_SAMPLE_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class DecodedNames:
    """The names of one archive as text.

    Args:
        names: In the order in which they were given.
        guessed: How many are no UTF-8.
        encoding: In which those were read, such as `gbk` or `latin-1`.
    """

    names: list[str]
    guessed: int
    encoding: str


def decode_names(names: Sequence[bytes]) -> DecodedNames:
    """Decodes all names of one archive: as UTF-8, and the rest as fits it best."""
    strange = [at for at, name in enumerate(names) if not name.isascii()]
    legacy = [at for at in strange if not _decodes(names[at], "utf-8")]
    # A short name in an old encoding may be UTF-8 by chance, but not most of them.
    if 2 * len(legacy) >= len(strange):
        legacy = strange
    encoding = detect_encoding(b"\n".join(names[at] for at in legacy))
    is_legacy = bytearray(len(names))
    for at in legacy:
        is_legacy[at] = True
    decoded = [
        name.decode(encoding if guess else "utf-8", "replace")
        for name, guess in zip(names, is_legacy, strict=True)
    ]
    return DecodedNames(decoded, 0 if encoding == "utf-8" else len(legacy), encoding)


def open_text(stream: BinaryIO, newline: str | None = None) -> io.TextIOWrapper:
    """Opens a text of any size in the encoding that fits it; memory stays flat.

    Args:
        stream: Read from its beginning.
        newline: As for `open`.
    """
    encoding = _find_encoding(stream)
    stream.seek(0)
    return io.TextIOWrapper(
        stream, encoding=encoding, errors="replace", newline=newline
    )


def detect_encoding(data: bytes) -> str:
    """Names the encoding in which `data` makes most sense; never fails."""
    if _decodes(data, "utf-8"):
        return "utf-8"
    if _looks_like_gbk(data):
        return "gbk"
    if _looks_like_shift_jis(data):
        return "shift_jis"
    return _single_byte_encoding(data)


def _find_encoding(stream: BinaryIO) -> str:
    head = stream.read(2)
    if head in {b"\xff\xfe", b"\xfe\xff"}:
        return "utf-16"
    stream.seek(0)
    decoder = codecs.getincrementaldecoder("utf-8")()
    before = b""
    for piece in iter(lambda: stream.read(_PIECE_BYTES), b""):
        try:
            decoder.decode(piece)
        except UnicodeDecodeError:
            # What is around the first letter that is no UTF-8 tells what it is.
            rest = stream.read(_SAMPLE_BYTES)
            return detect_encoding(_whole_lines(before + piece + rest))
        before = piece
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return detect_encoding(_whole_lines(before))
    return "utf-8-sig"


def _whole_lines(sample: bytes) -> bytes:
    """A sample without its broken ends: half a letter would mislead."""
    if len(sample) <= _PIECE_BYTES:
        return sample
    return sample[sample.find(b"\n") + 1 : sample.rfind(b"\n") + 1] or sample


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _looks_like_gbk(data: bytes) -> bool:
    """Whether the high bytes pair up, and nearly all pairs are everyday characters.

    Nearly any bytes decode as GBK. Real Chinese text uses the GB2312 block (first byte
    B0 to F7, second from A1), while an accented Latin letter followed by a plain one
    lands in the rare characters outside it.
    """
    if not _decodes(data, "gbk"):
        return False
    text = data.decode("gbk")
    pairs = [char.encode("gbk") for char in text if ord(char) > 0x7F]  # noqa: PLR2004
    everyday = sum(
        0xA1 <= pair[0] <= 0xF7 and pair[-1] >= 0xA1  # noqa: PLR2004
        for pair in pairs
        if len(pair) > 1
    )
    return bool(pairs) and everyday >= _GB2312_SHARE * len(pairs)


def _looks_like_shift_jis(data: bytes) -> bool:
    """Whether it decodes and is mostly kana: Japanese names seldom lack them."""
    if not _decodes(data, "shift_jis"):
        return False
    high = [char for char in data.decode("shift_jis") if ord(char) > 0x7F]  # noqa: PLR2004
    kana = sum("\u3040" <= char <= "\u30ff" for char in high)
    return bool(high) and kana * 3 >= len(high)


def _single_byte_encoding(data: bytes) -> str:
    runs = _HIGH.findall(data)
    high = b"".join(runs)
    # In the languages of Western Europe accented letters stand alone among plain ones;
    # whole words of high bytes are Cyrillic.
    if len(high) >= _LONG_RUN * len(runs):
        upper = sum(byte >= 0xC0 for byte in high)  # noqa: PLR2004
        dos = sum(0x80 <= byte <= 0xAF for byte in high)  # noqa: PLR2004
        return "cp866" if dos > upper / 2 else "cp1251"
    # 80 to 9F are letters in code page 437 and control characters in Latin-1; from A0
    # it is the other way round: frames and Greek against letters.
    if any(0x80 <= byte <= 0x9F for byte in high):  # noqa: PLR2004
        return "cp437"
    return "latin-1"
