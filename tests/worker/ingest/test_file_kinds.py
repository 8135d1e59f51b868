"""What a file is, told from its first bytes and not from its name."""

import io
import tarfile

import pytest
from PIL import Image

from tests.worker.ingest.uploads import encode, png
from worker.ingest.file_kinds import HEAD_BYTES, identify

PICTURE = Image.new("RGB", (8, 8), "red")
READABLE = {
    "JPEG": encode(PICTURE, "JPEG"),
    "PNG": encode(PICTURE, "PNG"),
    "GIF": encode(PICTURE, "GIF"),
    "BMP": encode(PICTURE, "BMP"),
    "TIFF": encode(PICTURE, "TIFF"),
    "WEBP": encode(PICTURE, "WEBP"),
    "AVIF": encode(PICTURE, "AVIF"),
}


def tar_bytes():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.png"))
    return buffer.getvalue()


@pytest.mark.parametrize("decoder", READABLE)
def test_readable_pictures_get_their_decoder(decoder):
    kind = identify(READABLE[decoder][:HEAD_BYTES])

    assert kind.decoder == decoder
    assert kind.suffix.startswith(".")


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"%PDF-1.7\n", "a PDF document"),
        (b"<!DOCTYPE html><html>", "an HTML page"),
        (b"\xef\xbb\xbf\r\n<HTML>", "an HTML page"),
        (b'<?xml version="1.0"?><svg>', "an SVG drawing"),
        (b"filename,label\n", "a text file"),
        ("Größe".encode(), "a text file"),
        (b"PK\x03\x04....", "a zip archive inside the upload"),
        (tar_bytes(), "a tar archive inside the upload"),
        (b"\x1f\x8b\x08", "a gzip archive inside the upload"),
        (b"RIFF\0\0\0\0AVI LIST", "a sound or video file"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "an MP4 or QuickTime video"),
        (b"8BPS\0\1", "a Photoshop file"),
        (b"MZ\x90\0", "a Windows program"),
        (b"\x7fELF", "a program"),
        (b"\x93NUMPY\x01\0", "a file of an unknown kind"),
        (b"\0" * 100, "a file of an unknown kind"),
    ],
)
def test_anything_else_is_named_in_words(head, words):
    kind = identify(head)

    assert kind.words == words
    assert kind.decoder is None


def test_text_that_is_cut_in_the_middle_of_a_character_is_text():
    head = ("ä" * HEAD_BYTES).encode()[: HEAD_BYTES - 1] + b"\xc3"

    assert identify(head).words == "a text file"


def test_a_picture_with_something_before_it_is_none():
    assert identify(b"\n" + png()).decoder is None
