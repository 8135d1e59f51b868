"""Tars that are cut, damaged or packed in parts: what is there is had, and told."""

import bz2
import gzip
import io
import tarfile

import pytest

from tests.worker.ingest.uploads import (
    class_folders,
    contents,
    png,
    unpack,
    write_archive,
    write_tar,
)

GOOD = class_folders(each=3)


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tar.xz"])
def test_what_lies_before_the_cut_of_a_tar_is_had(tmp_path, ending):
    files = {f"cat/{number}.png": png(number, height=600) for number in range(9)}
    path = write_archive(tmp_path / f"cut{ending}", files)
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size * 2 // 3)

    found, skips = unpack(path, tmp_path)

    got = contents(found)
    assert 3 <= len(got) <= 7
    assert got.items() <= files.items()
    assert skips.codes["cut_off"] >= 1


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_one_wrong_bit_in_a_header_of_a_tar_is_told(tmp_path, pack):
    data = bytearray(write_tar(tmp_path / "whole.tar", GOOD, mode="w").read_bytes())
    data[data.find(b"dog/1.png")] ^= 1
    path = tmp_path / "wrong.tar"
    path.write_bytes(pack(bytes(data)))

    found, skips = unpack(path, tmp_path)

    assert contents(found) == dict(list(GOOD.items())[:4])
    assert skips.codes == {"cut_off": 1}
    assert "“wrong.tar” is cut off or damaged. 4 files" in found.notes[0]


def endless_tar(files):
    """The bytes of a tar whose writer was interrupted between two members."""
    buffer = io.BytesIO()
    archive = tarfile.open(fileobj=buffer, mode="w")  # noqa: SIM115 - never closed
    for name, content in files.items():
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize("more", [0, 100])
def test_a_tar_without_an_end_is_told(tmp_path, more):
    path = tmp_path / "upload.tar"
    path.write_bytes(endless_tar(GOOD) + b"x" * more)

    found, skips = unpack(path, tmp_path)

    assert contents(found) == GOOD
    assert skips.codes == {"cut_off": 1}


def test_zeros_behind_a_tar_are_no_damage(tmp_path):
    path = write_tar(tmp_path / "upload.tar", GOOD, mode="w")
    path.write_bytes(path.read_bytes() + bytes(100_000))

    found, skips = unpack(path, tmp_path)

    assert contents(found) == GOOD
    assert (skips.total, found.notes) == (0, [])


def test_a_member_that_claims_more_than_there_is_takes_no_time(tmp_path):
    claim = tarfile.TarInfo("cat/film.png")
    claim.size = 2**62
    path = tmp_path / "upload.tar"
    path.write_bytes(endless_tar(GOOD) + claim.tobuf(tarfile.GNU_FORMAT) + b"x" * 999)

    found, skips = unpack(path, tmp_path)

    assert contents(found) == GOOD
    assert skips.codes == {"damaged": 1, "cut_off": 1}


@pytest.mark.parametrize("pack", [bz2.compress, gzip.compress])
def test_a_tar_packed_in_several_parts_is_read_to_its_end(tmp_path, pack):
    """Programs that pack with all cores write it so."""
    data = write_tar(tmp_path / "whole.tar", GOOD, mode="w").read_bytes()
    path = tmp_path / "upload.tar.bz2"
    path.write_bytes(pack(data[:3000]) + pack(data[3000:]))

    found, skips = unpack(path, tmp_path)

    assert contents(found) == GOOD
    assert skips.total == 0
