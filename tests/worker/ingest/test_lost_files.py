"""A lost file of a version stops nobody who leaves it out or brings it again."""

import shutil

import pytest

from tests.worker.ingest.ingest_process import run
from tests.worker.ingest.made_versions import aside, counts, edit, shas, version
from tests.worker.ingest.test_versions import refused
from tests.worker.ingest.uploads import class_folders, encode, pixels, png, write_zip

GOOD = class_folders(each=8)
CONFLICT = {"cat/both.png": png(777), "dog/both too.png": png(777)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A version with nothing lost, and a picture in quarantine."""
    folder = tmp_path_factory.mktemp("whole")
    return run(folder, write_zip(folder / "pets.zip", {**GOOD, **CONFLICT}))


@pytest.fixture
def lossy(whole, tmp_path):
    """That version, as a source, when the file of `cat/7.png` is gone."""
    folder = tmp_path / "parent"
    shutil.copytree(whole.final, folder)
    (folder / whole.rows()["cat/7.png"]["path"]).unlink()
    source = version(whole)
    return {**source, "path": str(folder)}


def test_it_is_named_with_how_many_more_there_are(whole, lossy, tmp_path):
    (tmp_path / "parent" / whole.rows()["dog/2.png"]["path"]).write_bytes(b"")
    (one,) = shas(whole, "cat/3.png")

    message = refused(tmp_path / "x", lossy, edits=[edit("exclude", one)])

    assert "of version 1 is missing on the server" in message or (
        "of version 1 has changed on the server" in message
    )
    assert "Exclude it, or add it again. 1 more of its files are lost." in message


def test_excluding_it_makes_a_version(whole, lossy, tmp_path):
    edits = [edit("exclude", *shas(whole, "cat/7.png"))]

    new = run(tmp_path / "x", lossy, edits=edits)

    assert counts(new) == {"removed": 1}


@pytest.mark.parametrize("mode", ["add", "replace"])
def test_the_same_file_once_more_takes_its_place(whole, lossy, tmp_path, mode):
    archive = write_zip(tmp_path / "again.zip", GOOD)

    new = run(tmp_path / "x", lossy, archive, mode=mode)

    before, after = whole.rows(), new.rows()
    assert after == before
    path = new.final / after["cat/7.png"]["path"]
    assert path.read_bytes() == GOOD["cat/7.png"]
    assert any("whose files were lost came again" in n for n in new.report()["notes"])
    told = {skip["file"] for skip in new.report()["skipped"]}
    assert "cat/7.png" not in told


def test_the_same_pixels_in_another_file_take_its_place(whole, lossy, tmp_path):
    bitmap = encode(pixels(7), "BMP")
    files = {"cat/as bitmap.bmp": bitmap, "dog/0.png": GOOD["dog/0.png"]}
    archive = write_zip(tmp_path / "again.zip", files)

    new = run(tmp_path / "x", lossy, archive, mode="add")

    before, after = whole.rows()["cat/7.png"], new.rows()["cat/7.png"]
    assert (after["label"], after["split"]) == (before["label"], before["split"])
    assert after["original"].endswith(".bmp")
    assert counts(new) == {"added": 1, "removed": 1}


def test_one_in_quarantine_comes_again_and_stays_there(whole, tmp_path):
    folder = tmp_path / "parent"
    shutil.copytree(whole.final, folder)
    ((name, row),) = aside(whole).items()
    (folder / row["original"]).unlink()
    source = {**version(whole), "path": str(folder)}
    files = {"cat/both.png": png(777), "dog/0.png": GOOD["dog/0.png"]}
    archive = write_zip(tmp_path / "again.zip", files)

    new = run(tmp_path / "x", source, archive, mode="add")

    assert set(aside(new)) == {name}
    assert aside(new)[name]["labels"] == ["cat", "dog"]
    assert (new.final / row["original"]).read_bytes() == png(777)
