"""Archives of strangers: nothing escapes, one bad member never costs the others."""

import contextlib
import os
import stat
import struct
import tarfile
import tracemalloc
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from shared.errors import UserError
from tests.worker.ingest.uploads import (
    TAR_MODES,
    class_folders,
    contents,
    encrypted_zip,
    names,
    png,
    streamed_zip,
    unpack,
    write_archive,
    write_tar,
    write_zip,
)
from worker.ingest.disk import OwnDiskError

ZIP_SLIP = Path(__file__).parents[4] / "shared" / "data" / "messy" / "zip-slip"
GOOD = class_folders(each=3)


@pytest.fixture(params=[".zip", ".tar", ".tar.gz"])
def archive(request, tmp_path):
    """The path of an archive to be written, once of each kind."""
    return tmp_path / f"upload{request.param}"


@pytest.mark.parametrize("ending", [".zip", *TAR_MODES])
def test_every_kind_of_archive_gives_its_files_back(tmp_path, ending):
    path = write_archive(tmp_path / f"upload{ending}", GOOD)

    found, skips = unpack(path, tmp_path)

    assert contents(found) == GOOD
    assert skips.total == 0
    assert found.notes == []


def test_the_ending_of_an_archive_is_not_believed(tmp_path):
    path = write_tar(tmp_path / "upload.zip", GOOD)

    found, _ = unpack(path, tmp_path)

    assert contents(found) == GOOD


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../../evil.png", "leads out of the archive"),
        ("cat/../../evil.png", "leads out of the archive"),
        ("..\\..\\evil.png", "leads out of the archive"),
        ("/etc/evil.png", "absolute path"),
        ("C:\\Windows\\evil.png", "absolute path"),
        ("\\\\server\\share\\evil.png", "absolute path"),
    ],
)
def test_a_name_that_escapes_is_left_out_and_nothing_else(
    archive, tmp_path, name, reason
):
    write_archive(archive, [(name, png(99)), *GOOD.items()])

    found, skips = unpack(archive, tmp_path)

    assert contents(found) == GOOD
    assert [skip.code for skip in skips.items] == ["unsafe_path"]
    assert reason in skips.items[0].reason
    inside = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert all(
        path.is_relative_to(tmp_path / "unpacked") for path in inside - {archive}
    )


@pytest.mark.skipif(not ZIP_SLIP.is_dir(), reason="the zip-slip archives are not here")
@pytest.mark.parametrize("ending", ["zip", "tar"])
@pytest.mark.parametrize("system", ["zip-slip", "zip-slip-win"])
def test_published_zip_slip_archives_write_nothing_outside(tmp_path, system, ending):
    found, skips = unpack(ZIP_SLIP / f"{system}.{ending}", tmp_path)

    assert names(found) == ["good.txt"]
    assert [skip.code for skip in skips.items] == ["unsafe_path"]
    assert list(tmp_path.rglob("*evil*")) == []


def test_no_name_of_an_upload_reaches_the_disk(archive, tmp_path):
    odd = {"a" * 150 + "/" + "b" * 90 + ".png": png(), "cat/\u202eevil.png": png(1)}
    write_archive(archive, odd)

    found, _ = unpack(archive, tmp_path)

    assert len(found.files) == 2
    on_disk = [p for p in (tmp_path / "unpacked").rglob("*") if p.is_file()]
    assert all(path.name.isdecimal() for path in on_disk)


def test_control_signs_in_a_name_are_shown_as_unknown_signs(tmp_path):
    odd = {"cat/a\nb\x1b[31m.png": png(), "cat/\x9b31m\u202egnp.exe.png": png()}
    path = write_zip(tmp_path / "upload.zip", odd)

    found, _ = unpack(path, tmp_path)

    assert sorted(names(found)) == [
        "cat/a\ufffdb\ufffd[31m.png",
        "cat/\ufffd31m\ufffdgnp.exe.png",
    ]


def test_links_and_devices_in_a_tar_are_left_out(tmp_path):
    def entry(name, kind, target=""):
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        return info, b""

    special = [
        entry("cat/soft.png", tarfile.SYMTYPE, "/etc/passwd"),
        entry("cat/hard.png", tarfile.LNKTYPE, "cat/0.png"),
        entry("cat/pipe.png", tarfile.FIFOTYPE),
        entry("cat/disk.png", tarfile.BLKTYPE),
        entry("cat/null.png", tarfile.CHRTYPE),
    ]
    path = write_tar(tmp_path / "upload.tar", [*GOOD.items(), *special], mode="w")

    found, skips = unpack(path, tmp_path)

    assert contents(found) == GOOD
    assert {skip.file: skip.code for skip in skips.items} == {
        "cat/soft.png": "link",
        "cat/hard.png": "link",
        "cat/pipe.png": "special_file",
        "cat/disk.png": "special_file",
        "cat/null.png": "special_file",
    }


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (stat.S_IFLNK, "link"),
        (stat.S_IFCHR, "special_file"),
        (stat.S_IFIFO, "special_file"),
    ],
)
def test_links_and_devices_in_a_zip_are_left_out(tmp_path, kind, code):
    entry = zipfile.ZipInfo("cat/x.png")
    entry.external_attr = (kind | 0o644) << 16
    path = tmp_path / "upload.zip"
    write_zip(path, GOOD)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(entry, "/etc/passwd")

    found, skips = unpack(path, tmp_path)

    assert contents(found) == GOOD
    assert [(skip.file, skip.code) for skip in skips.items] == [("cat/x.png", code)]


def test_too_many_files_refuse_the_upload_with_the_number(archive, tmp_path):
    write_archive(archive, GOOD)

    with pytest.raises(UserError, match="more than 5 files"):
        unpack(archive, tmp_path, max_files=5)


def test_a_zip_with_too_many_entries_is_refused_before_any_is_unpacked(tmp_path):
    path = write_zip(tmp_path / "upload.zip", GOOD)

    with pytest.raises(UserError, match="more than 5 files and folders"):
        unpack(path, tmp_path, max_files=5)

    assert not (tmp_path / "unpacked").exists()


def test_folders_and_links_count_as_files_do(archive, tmp_path):
    names = [f"cat/{number}/" for number in range(9)]
    if archive.suffix == ".zip":
        write_zip(archive, [(name, b"") for name in names])
    else:
        entries = [tarfile.TarInfo(name) for name in names]
        for entry in entries:
            entry.type = tarfile.DIRTYPE
        mode = TAR_MODES["".join(archive.suffixes)]
        write_tar(archive, [(entry, b"") for entry in entries], mode=mode)

    with pytest.raises(UserError, match="more than 5 files and folders"):
        unpack(archive, tmp_path, max_files=5)


def test_a_zip_whose_list_of_contents_would_fill_the_memory_is_refused(tmp_path):
    path, size = tmp_path / "upload.zip", 600 * 2**20
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, size, 0, 0)
    with path.open("wb") as stream:
        stream.write(b"PK\3\4")
        stream.truncate(size)
        stream.seek(size)
        stream.write(end)

    with memory_growth() as growth:
        _, skips = unpack(path, tmp_path)

    assert [skip.code for skip in skips.items] == ["too_large"]
    assert "512.0 MiB" in skips.items[0].reason
    assert growth.peak_bytes < 2**23


def test_too_many_bytes_refuse_the_upload_with_the_size(archive, tmp_path):
    write_archive(archive, {f"cat/{n}.bin": os.urandom(3000) for n in range(5)})

    with pytest.raises(UserError, match=r"larger than 9\.8 KiB"):
        unpack(archive, tmp_path, max_unpacked_bytes=10_000)


def test_one_file_that_is_too_large_is_left_out_alone(archive, tmp_path):
    write_archive(archive, [("cat/film.png", os.urandom(9000)), *GOOD.items()])

    found, skips = unpack(archive, tmp_path, max_file_bytes=8192)

    assert contents(found) == GOOD
    assert [(skip.file, skip.code) for skip in skips.items] == [
        ("cat/film.png", "too_large")
    ]
    assert "8.0 KiB" in skips.items[0].reason


def test_a_bomb_in_a_zip_is_left_out_alone(tmp_path):
    path = write_zip(
        tmp_path / "upload.zip", [("cat/bomb.png", bytes(2**25)), *GOOD.items()]
    )

    found, skips = unpack(path, tmp_path)

    assert contents(found) == GOOD
    assert [(skip.file, skip.code) for skip in skips.items] == [
        ("cat/bomb.png", "bomb")
    ]


def test_a_zip_of_many_small_bombs_is_stopped(tmp_path):
    path = write_zip(
        tmp_path / "upload.zip",
        [*GOOD.items(), *((f"cat/{n}.bmp", bytes(15 * 2**20)) for n in range(6))],
    )

    found, skips = unpack(path, tmp_path)

    assert set(GOOD) <= set(names(found))
    assert skips.codes["bomb"] == 1
    assert len(found.files) < len(GOOD) + 6
    assert any("was not unpacked to its end" in note for note in found.notes)


def test_a_compressed_tar_that_grows_like_a_bomb_is_stopped(tmp_path):
    path = write_tar(
        tmp_path / "upload.tar.gz",
        [*GOOD.items(), ("cat/bomb.png", bytes(2**26)), ("cat/later.png", png(5))],
    )

    found, skips = unpack(path, tmp_path)

    assert set(GOOD) <= set(names(found))
    assert "cat/later.png" not in names(found)
    assert skips.codes["bomb"] == 1


@pytest.mark.parametrize("kind", [b"L", b"K", b"x", b"g"])
def test_a_name_that_is_a_bomb_costs_no_memory(tmp_path, kind):
    """A tar keeps long names in members of their own, which are read at once."""
    name = tarfile.TarInfo("././@LongLink")
    name.type = kind
    path = write_tar(tmp_path / "upload.tar.gz", [*GOOD.items(), (name, bytes(2**26))])

    with memory_growth() as growth:
        found, skips = unpack(path, tmp_path)

    assert contents(found) == GOOD
    assert skips.codes["cut_off"] == 1
    assert growth.peak_bytes < 2**25


def test_what_is_skipped_in_a_compressed_tar_counts_as_unpacked(tmp_path):
    """Ten megabytes of bzip2 may hold ten terabytes of zeros, to be skipped."""
    path = write_tar(
        tmp_path / "upload.tar.bz2",
        [*GOOD.items(), ("cat/film.png", bytes(2**26)), ("cat/later.png", png(5))],
        mode="w:bz2",
    )

    with memory_growth() as growth:
        found, skips = unpack(path, tmp_path, max_file_bytes=2**20)

    assert contents(found) == GOOD
    assert skips.codes == {"too_large": 1, "bomb": 1}
    assert growth.peak_bytes < 2**24


def test_what_is_left_out_keeps_nothing_but_its_reason(archive, tmp_path):
    data = os.urandom(300_000)
    write_archive(archive, {f"cat/{number}.bin": data for number in range(100)})

    with memory_growth() as growth:
        _, skips = unpack(archive, tmp_path, max_file_bytes=200_000)

    assert skips.codes == {"too_large": 100}
    assert growth.peak_bytes < 2**23


@contextlib.contextmanager
def memory_growth():
    """Measures how much more Python's own objects take at most than before."""
    growth = SimpleNamespace(peak_bytes=0)
    tracemalloc.start()
    try:
        yield growth
        growth.peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_encrypted_members_are_named_with_the_fix(tmp_path):
    path = encrypted_zip(tmp_path / "upload.zip", {"cat/1.png": png()})

    found, skips = unpack(path, tmp_path)

    assert found.files == []
    assert [skip.code for skip in skips.items] == ["encrypted"]
    assert "without a password" in skips.items[0].reason


def test_an_unknown_compression_is_named_with_the_fix(tmp_path):
    path = write_zip(tmp_path / "upload.zip", GOOD, method=zipfile.ZIP_STORED)
    data = path.read_bytes()
    first = data.find(b"PK\x01\x02")
    data = data[: first + 10] + b"\x61\0" + data[first + 12 :]  # PPMd
    path.write_bytes(data)

    found, skips = unpack(path, tmp_path)

    assert len(found.files) == len(GOOD) - 1
    assert [skip.code for skip in skips.items] == ["unsupported_compression"]


def test_one_damaged_member_of_a_zip_is_left_out_alone(tmp_path):
    path = write_zip(tmp_path / "upload.zip", GOOD, method=zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.find(GOOD["cat/1.png"]) + 100] ^= 0xFF
    path.write_bytes(data)

    found, skips = unpack(path, tmp_path)

    assert "cat/1.png" not in names(found)
    assert len(found.files) == len(GOOD) - 1
    assert [(skip.file, skip.code) for skip in skips.items] == [
        ("cat/1.png", "damaged")
    ]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_what_lies_before_the_cut_of_a_zip_is_had(tmp_path, method):
    whole = write_zip(tmp_path / "whole.zip", GOOD, method=method).read_bytes()
    fourth = whole.find(list(GOOD)[3].encode())
    path = tmp_path / "cut.zip"
    path.write_bytes(whole[: fourth + 200])

    found, skips = unpack(path, tmp_path)

    assert contents(found) == dict(list(GOOD.items())[:3])
    assert [skip.code for skip in skips.items] == ["cut_off", "cut_off"]
    assert (
        "“cut.zip” is cut off or damaged. 3 files could be unpacked" in found.notes[0]
    )


def test_a_cut_zip_that_was_written_by_a_pipe_is_had_too(tmp_path):
    whole = streamed_zip(GOOD)
    path = tmp_path / "cut.zip"
    path.write_bytes(whole[: whole.find(list(GOOD)[4].encode()) + 200])

    found, _ = unpack(path, tmp_path)

    assert contents(found) == dict(list(GOOD.items())[:4])


def test_a_folder_whose_name_begins_like_bzip2_is_none(tmp_path):
    path = write_tar(tmp_path / "upload.tar", {"BZh/1.png": png()}, mode="w")

    found, _ = unpack(path, tmp_path)

    assert names(found) == ["BZh/1.png"]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "empty (0 bytes)"),
        (b"Rar!\x1a\x07\x01\0", "a RAR archive"),
        (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
        (b"<html>not found</html>", "no archive that can be read"),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\x03", "gzip"),
    ],
)
def test_what_is_no_archive_is_refused_by_what_it_is(tmp_path, data, sentence):
    path = tmp_path / "upload.zip"
    path.write_bytes(data)

    found, skips = unpack(path, tmp_path)

    assert found.files == []
    assert [skip.code for skip in skips.items] == ["not_an_archive"]
    assert sentence in skips.items[0].reason


def test_what_an_operating_system_adds_is_left_out(archive, tmp_path):
    junk = {
        "__MACOSX/cat/._0.png": b"x",
        "cat/.DS_Store": b"x",
        "cat/Thumbs.db": b"x",
        "cat/._1.png": b"x",
        ".git/config": b"x",
    }
    write_archive(archive, GOOD | junk)

    found, skips = unpack(archive, tmp_path)

    assert contents(found) == GOOD
    assert {skip.file for skip in skips.items} == set(junk)
    assert set(skips.codes) == {"junk"}


def test_a_folder_without_files_is_remembered(tmp_path):
    path = write_zip(tmp_path / "upload.zip", {**GOOD, "bird/": b""})

    found, skips = unpack(path, tmp_path)

    assert found.folders == ["bird"]
    assert skips.total == 0


def test_many_members_are_unpacked_in_flat_memory(archive, tmp_path):
    data = os.urandom(20_000)
    write_archive(archive, {f"cat/{number}.png": data for number in range(1500)})

    peaks = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        with memory_growth() as growth:
            found, _ = unpack(archive, tmp_path / name)
        assert len(found.files) == 1500
        peaks.append(growth.peak_bytes)

    # The smaller one: a thread that another test has left may allocate meanwhile.
    assert min(peaks) < 1500 * 20_000 / 2


def test_one_large_file_is_unpacked_in_flat_memory(archive, tmp_path):
    write_archive(archive, {"cat/film.png": os.urandom(2**20) * 32})

    with memory_growth() as growth:
        found, _ = unpack(archive, tmp_path)

    assert found.files[0].path.stat().st_size == 2**25
    assert growth.peak_bytes < 2**23


def test_our_own_disk_is_no_fault_of_the_archive(archive, tmp_path):
    write_archive(archive, GOOD)
    (tmp_path / "unpacked").write_bytes(b"no folder")

    with pytest.raises(OwnDiskError, match="Not a directory"):
        unpack(archive, tmp_path)
