"""Our own disk: never filled to the last byte, and named when it fails."""

import contextlib
import errno
import shutil

import pytest

from shared.artifacts import LOOK_BYTES, RESERVE_BYTES
from shared.source_addresses import parse_address
from tests.file_server import FileServer
from tests.worker.ingest.test_remote import make_courier
from tests.worker.ingest.uploads import class_folders, unpack, write_tar
from worker.ingest.disk import OwnDiskError, Reserve, is_unreadable, writing


@pytest.fixture
def disk(monkeypatch):
    """A disk with as much room as a test says; remembers who looked."""
    return _Disk(monkeypatch)


class _Disk:
    def __init__(self, monkeypatch):
        self.free, self.looks = RESERVE_BYTES, 0
        self._usage = shutil.disk_usage("/")
        monkeypatch.setattr("shutil.disk_usage", self._look)

    def _look(self, _path):
        self.looks += 1
        return self._usage._replace(free=self.free)


def test_unpacking_stops_while_there_is_still_room_for_others(tmp_path, disk):
    path = write_tar(tmp_path / "upload.tar", class_folders(each=3))
    disk.free = RESERVE_BYTES - 1

    with pytest.raises(OSError, match="nearly full: 255 MiB are free") as refusal:
        unpack(path, tmp_path)

    assert refusal.value.errno == errno.ENOSPC
    assert not (tmp_path / "unpacked").exists()


def test_an_archive_that_does_not_fit_is_refused_before_it_is_unpacked(tmp_path, disk):
    path = tmp_path / "upload.tar"
    with path.open("wb") as stream:
        stream.truncate(3 * 2**20)
    disk.free = RESERVE_BYTES + 2 * 2**20

    with pytest.raises(OSError, match="258 MiB are free, about 3 MiB are needed"):
        unpack(path, tmp_path)


@pytest.mark.parametrize(
    ("free_mib", "words"),
    [(2, "258 MiB are free, about 3 MiB are needed"), (-1, "255 MiB are free and")],
)
def test_an_archive_that_does_not_fit_is_not_even_fetched(
    tmp_path, disk, free_mib, words
):
    disk.free = RESERVE_BYTES + free_mib * 2**20
    with contextlib.closing(FileServer({"/a.zip": bytes(3 * 2**20)})) as server:
        courier = make_courier(tmp_path, server)

        with pytest.raises(OwnDiskError, match=words):
            courier.fetch_whole(parse_address(f"{server.url}/a.zip"))

        assert len(server.got) <= 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_disk_is_looked_at_first_and_then_every_64_mib(tmp_path, disk):
    reserve = Reserve(tmp_path / "not" / "there" / "yet")

    looks = []
    for size in (1, LOOK_BYTES - 1, -LOOK_BYTES, 1, LOOK_BYTES):
        reserve.count(size)
        looks.append(disk.looks)

    assert looks == [1, 1, 1, 2, 3]


def test_a_failure_to_write_names_the_file_and_is_no_fault_of_what_is_read(tmp_path):
    with pytest.raises(OwnDiskError) as refusal, writing(tmp_path / "x.png"):
        raise OSError(errno.EIO, "Input/output error")

    assert refusal.value.filename == str(tmp_path / "x.png")
    assert not is_unreadable(refusal.value)
    assert is_unreadable(OSError(errno.EIO, "Input/output error"))
    assert not is_unreadable(OSError(errno.ENOSPC, "No space left on device"))
