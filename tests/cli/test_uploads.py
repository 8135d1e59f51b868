"""What is packed of a folder before it is uploaded."""

import os
import zipfile

import pytest

from cli import uploads
from shared.errors import UserError


class Catcher:
    """Keeps the archive that a real client would send."""

    def upload_dataset(self, *, filename, name, content, length_bytes, **_key):
        self.filename, self.name = filename, name
        self.content = b"".join(content)
        assert len(self.content) == length_bytes
        return {"id": 1, "job_id": 2}

    def members(self, tmp_path):
        (tmp_path / "caught.zip").write_bytes(self.content)
        with zipfile.ZipFile(tmp_path / "caught.zip") as archive:
            return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "birds" / "robin").mkdir(parents=True)
    (tmp_path / "birds" / "robin" / "1.jpg").write_bytes(b"a picture")
    (tmp_path / "birds" / "labels.csv").write_text("filename,label\n1.jpg,old\n")
    return tmp_path / "birds"


def test_a_folder_is_packed_as_it_is(folder, tmp_path):
    catcher = Catcher()

    uploads.add_local(catcher, folder, name=None, labels=None)

    assert catcher.filename == "birds.zip"
    assert set(catcher.members(tmp_path)) == {"robin/1.jpg", "labels.csv"}


def test_a_table_that_is_named_is_the_only_one(folder, tmp_path):
    table = tmp_path / "mine.csv"
    table.write_text("filename,label\n1.jpg,new\n")
    catcher = Catcher()

    uploads.add_local(catcher, folder, name="b", labels=table)

    assert catcher.members(tmp_path) == {
        "robin/1.jpg": b"a picture",
        "labels.csv": table.read_bytes(),
    }


def test_a_file_without_a_date_is_packed(folder, tmp_path):
    os.utime(folder / "robin" / "1.jpg", (0, 0))
    catcher = Catcher()

    uploads.add_local(catcher, folder, name=None, labels=None)

    assert catcher.members(tmp_path)["robin/1.jpg"] == b"a picture"


@pytest.mark.parametrize(
    ("path", "labels", "sentence"),
    [
        ("missing", None, "There is nothing at"),
        ("birds/labels.csv", None, "goes with its folder"),
        ("birds", "missing.csv", "there is no file"),
        ("empty", None, "holds no files"),
    ],
)
def test_what_cannot_be_packed_is_said(folder, tmp_path, path, labels, sentence):
    (tmp_path / "empty").mkdir()
    table = tmp_path / labels if labels else None

    with pytest.raises(UserError, match=sentence):
        uploads.add_local(Catcher(), tmp_path / path, name=None, labels=table)
