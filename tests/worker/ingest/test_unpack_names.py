"""Names in archives: whatever their encoding, people read what they wrote."""

import struct
import tarfile
import zipfile
import zlib

import pytest

from tests.worker.ingest.uploads import (
    names,
    png,
    unpack,
    write_tar,
    write_zip,
)

NAMES = {
    "utf-8": (["猫/1.png", "狗/2.png", "Äpfel/é.png"], "utf-8", None),
    "gbk": (["猫咪/图片一.png", "小狗/照片.png"], "gbk", "Chinese (GBK)"),
    "shift_jis": (["ネコ/しゃしん.png", "いぬ/え.png"], "shift_jis", "Japanese"),
    "latin-1": (["Äpfel/Grün.png", "Bäume/Öl.png"], "latin-1", "Latin-1"),
    "cp437": (["Äpfel/Grün.png", "Bäume/Öl.png"], "cp437", "code page 437"),
    "cp1251": (["кошки/первая.png", "собаки/вторая.png"], "cp1251", "Cyrillic"),
}


@pytest.mark.parametrize("case", NAMES)
def test_names_of_a_zip_that_vouches_for_nothing_are_read_right(tmp_path, case):
    expected, encoding, words = NAMES[case]
    raw = [(name.encode(encoding), png(at)) for at, name in enumerate(expected)]
    path = write_zip(tmp_path / "upload.zip", raw)

    found, skips = unpack(path, tmp_path)

    assert names(found) == sorted(expected)
    assert skips.total == 0
    assert len(found.notes) == (words is not None)
    assert not words or words in found.notes[0]


def test_one_name_in_an_old_encoding_spoils_no_other(tmp_path):
    good = ["猫/1.png", "Äpfel/é.png", "狗/2.png"]
    raw = [name.encode() for name in good] + ["Müller/alt.png".encode("latin-1")]
    path = write_zip(
        tmp_path / "upload.zip", [(n, png(at)) for at, n in enumerate(raw)]
    )

    found, _ = unpack(path, tmp_path)

    assert names(found) == sorted([*good, "Müller/alt.png"])
    assert "1 of them are no UTF-8 and were read as Western" in found.notes[0]


def test_a_zip_that_vouches_for_utf8_is_believed(tmp_path):
    path = write_zip(tmp_path / "upload.zip", {"猫/1.png": png(), "Ä/2.png": png(1)})

    found, _ = unpack(path, tmp_path)

    assert names(found) == ["Ä/2.png", "猫/1.png"]
    assert found.notes == []


@pytest.mark.parametrize("cut", [0, 40])
def test_a_name_in_unicode_beside_the_old_one_is_taken(tmp_path, cut):
    """Info-ZIP and others keep it in an extra field, with the old name's checksum."""
    old, name = b"#U732b/1.png", "猫/1.png"
    entry = zipfile.ZipInfo(old.decode())
    body = b"\1" + struct.pack("<L", zlib.crc32(old)) + name.encode()
    entry.extra = struct.pack("<HH", 0x7075, len(body)) + body
    path = tmp_path / "upload.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(entry, png())
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - cut])

    found, _ = unpack(path, tmp_path)

    assert names(found) == [name]


@pytest.mark.parametrize("encoding", ["utf-8", "gbk", "latin-1"])
def test_names_of_a_tar_are_read_right(tmp_path, encoding):
    expected = {"utf-8": "猫/1.png", "gbk": "猫咪/图片.png", "latin-1": "Äpfel/Öl.png"}
    name = expected[encoding]
    path = write_tar(
        tmp_path / "upload.tar",
        {name: png()},
        mode="w",
        encoding=encoding,
        format=tarfile.GNU_FORMAT,
    )

    found, _ = unpack(path, tmp_path)

    assert names(found) == [name]
