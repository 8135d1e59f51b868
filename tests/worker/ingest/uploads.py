"""Uploads as strangers make them: pictures, archives, and what breaks them."""

import io
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from worker.ingest.found import SkipList
from worker.ingest.limits import Basket, Limits
from worker.ingest.unpack import unpack_archive


def pixels(seed=0, height=12, width=16):
    """Noise: no two seeds give the same picture, and no compression shrinks it."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3))
    return noise.astype(np.uint8)


def encode(picture, kind="PNG", **options):
    """The bytes of a picture file."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(seed=0, **shape):
    return encode(pixels(seed, **shape))


def class_folders(classes=("cat", "dog"), each=6, start=0):
    """Names and bytes of a good dataset, every picture another one."""
    return {
        f"{label}/{number}.png": png(start + 1000 * at + number)
        for at, label in enumerate(classes)
        for number in range(each)
    }


class _RawName(zipfile.ZipInfo):
    """An entry whose name is written as the bytes it is given, with no UTF-8 flag."""

    raw = b""

    def _encodeFilenameFlags(self):  # noqa: N802 - zipfile's own name
        return self.raw, self.flag_bits & ~0x800


def write_zip(path, files, *, method=zipfile.ZIP_DEFLATED):
    """Writes a zip of (name, content); a name of bytes is written as it is."""
    pairs = files.items() if isinstance(files, dict) else files
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in pairs:
            if isinstance(name, bytes):
                entry = _RawName(repr(name))
                entry.raw, entry.compress_type = name, method
            else:
                entry = zipfile.ZipInfo(name)
                entry.compress_type = method
            archive.writestr(entry, content)
    return path


def write_tar(path, files, *, mode="w:gz", **options):
    """Writes a tar of (name or TarInfo, content)."""
    pairs = files.items() if isinstance(files, dict) else files
    with tarfile.open(path, mode, **options) as archive:
        for name, content in pairs:
            entry = tarfile.TarInfo(name) if isinstance(name, str) else name
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def encrypted_zip(path, files):
    """A zip that says of every member that a password is needed."""
    write_zip(path, files, method=zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    for magic, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(magic)
        while at >= 0:
            data[at + place] |= 1
            at = data.find(magic, at + 4)
    path.write_bytes(data)
    return path


def streamed_zip(files):
    """A deflated zip whose sizes stand behind the data, as a pipe writes it."""
    buffer = io.BytesIO()
    pipe = _Pipe(buffer)
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


class _Pipe(io.RawIOBase):
    def __init__(self, target):
        super().__init__()
        self._target = target

    def writable(self):
        return True

    def write(self, data):
        return self._target.write(data)


def huge_png_header(width, height):
    """A PNG that claims a size and holds nearly nothing."""

    def chunk(kind, body):
        crc = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )


TAR_MODES = {".tar": "w", ".tar.gz": "w:gz", ".tar.bz2": "w:bz2", ".tar.xz": "w:xz"}


def write_archive(path, files):
    """Writes the kind of archive that the path's ending names."""
    if path.suffix == ".zip":
        return write_zip(path, files)
    return write_tar(path, files, mode=TAR_MODES["".join(path.suffixes)])


def unpack(path, folder, **limits):
    """Unpacks one archive; returns what was found and what was left out."""
    skips = SkipList()
    basket = Basket(Path(folder) / "unpacked", Limits(**limits))
    found = unpack_archive(path, name=path.name, basket=basket, skips=skips)
    return found, skips


def names(found):
    return sorted(file.name for file in found.files)


def contents(found):
    return {file.name: file.path.read_bytes() for file in found.files}
