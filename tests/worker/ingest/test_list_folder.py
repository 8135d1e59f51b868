"""Folders on the server, and sources that may not be read."""

import contextlib
import os
import tempfile
from pathlib import Path

import pytest

from shared.errors import UserError
from tests.worker.ingest.uploads import (
    class_folders,
    names,
    png,
    unpack,
    write_zip,
)
from worker.ingest.found import SkipList
from worker.ingest.limits import Basket, Limits
from worker.ingest.unpack import list_folder

GOOD = class_folders(each=3)


class TestFolders:
    """A folder on the server is listed where it lies."""

    def look(self, folder, report=lambda _count: None, **limits):
        skips = SkipList()
        basket = Basket(folder / "never", Limits(**limits))
        found = list_folder(
            folder, name="pets", basket=basket, skips=skips, report=report
        )
        return found, skips

    def fill(self, folder, files=GOOD):
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)

    def test_files_stay_where_they_are(self, tmp_path):
        self.fill(tmp_path)

        found, skips = self.look(tmp_path)

        assert {file.path for file in found.files} == {tmp_path / name for name in GOOD}
        assert names(found) == sorted(GOOD)
        assert skips.total == 0

    def test_links_are_never_followed(self, tmp_path):
        outside = tmp_path / "outside"
        self.fill(outside)
        inside = tmp_path / "inside"
        self.fill(inside, {"cat/1.png": png()})
        (inside / "dog").symlink_to(outside / "dog")
        (inside / "cat" / "2.png").symlink_to(outside / "cat" / "0.png")

        found, skips = self.look(inside)

        assert names(found) == ["cat/1.png"]
        assert {skip.file: skip.code for skip in skips.items} == {
            "dog": "link",
            "cat/2.png": "link",
        }

    def test_special_files_are_left_out(self, tmp_path):
        self.fill(tmp_path)
        os.mkfifo(tmp_path / "cat" / "pipe.png")

        _, skips = self.look(tmp_path)

        assert [(skip.file, skip.code) for skip in skips.items] == [
            ("cat/pipe.png", "special_file")
        ]

    def test_a_file_that_is_too_large_is_left_out_unread(self, tmp_path):
        self.fill(tmp_path)
        with (tmp_path / "cat" / "film.png").open("wb") as film:
            film.truncate(2**40)

        found, skips = self.look(tmp_path)

        assert names(found) == sorted(GOOD)
        assert [(skip.file, skip.code) for skip in skips.items] == [
            ("cat/film.png", "too_large")
        ]

    def test_a_hidden_folder_costs_one_sentence(self, tmp_path):
        self.fill(tmp_path, {**GOOD, ".git/a": b"1", ".git/b/c": b"2"})

        _, skips = self.look(tmp_path)

        assert [skip.file for skip in skips.items] == [".git"]

    def test_names_that_are_no_utf8_are_read(self, tmp_path):
        raw = os.fsdecode("Äpfel/Öl.png".encode("latin-1"))
        self.fill(tmp_path, {raw: png()})

        found, _ = self.look(tmp_path)

        assert names(found) == ["Äpfel/Öl.png"]
        assert found.files[0].path.read_bytes() == png()

    def test_too_many_files_are_refused(self, tmp_path):
        self.fill(tmp_path)

        with pytest.raises(UserError, match="more than 5 files"):
            self.look(tmp_path, max_files=5)

    def test_folders_and_links_count_as_files_do(self, tmp_path):
        for number in range(9):
            (tmp_path / f"{number}").symlink_to(tmp_path)

        with pytest.raises(UserError, match="more than 5 files and folders"):
            self.look(tmp_path, max_files=5)

    def test_a_long_listing_is_told_of_while_it_goes_on(self, tmp_path):
        self.fill(tmp_path, {f"cat/{number}": b"" for number in range(2500)})
        counts = []

        self.look(tmp_path, counts.append)

        assert counts == [1000, 2000, 2501]

    def test_what_may_not_be_read_is_left_out_alone(self, public):
        self.fill(public, GOOD | {"shut/1.png": b"", "blind/2.png": b""})
        (public / "shut").chmod(0o000)
        (public / "blind").chmod(0o744)  # its names can be listed, and no more

        with as_nobody():
            found, skips = self.look(public)

        assert names(found) == sorted(GOOD)
        assert {skip.file: skip.code for skip in skips.items} == {
            "shut": "unreadable",
            "blind/2.png": "unreadable",
        }
        assert skips.items[0].reason == "It cannot be read: Permission denied."

    def test_a_folder_that_may_not_be_read_at_all_is_refused(self, public):
        (public / "pets").mkdir(0o700)

        with (
            as_nobody(),
            pytest.raises(UserError, match="“pets” cannot be read: Permission denied"),
        ):
            self.look(public / "pets")


@pytest.fixture
def public():
    """A folder that everybody may enter, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@contextlib.contextmanager
def as_nobody():
    """Takes root's rights away, which tests have in a container."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_an_archive_that_may_not_be_read_is_refused_by_its_name(public):
    path = write_zip(public / "cats.zip", GOOD)
    path.chmod(0o000)

    with (
        as_nobody(),
        pytest.raises(UserError, match=r"“cats\.zip” cannot be read: Perm"),
    ):
        unpack(path, public)


def test_an_archive_on_a_bad_sector_is_refused_by_its_name(tmp_path):
    with pytest.raises(UserError, match="“mem” cannot be read: Input/output error"):
        unpack(Path("/proc/self/mem"), tmp_path)
