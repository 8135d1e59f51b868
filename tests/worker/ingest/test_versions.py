"""Versions made of others, by the ingest child as a real process."""

import json
import os
import shutil
import signal
from collections import Counter

import pyarrow.parquet as pq
import pytest

from shared import artifacts
from shared.artifacts import verify_manifest
from tests.worker.ingest.ingest_process import Ingest, IngestHere, run
from tests.worker.ingest.made_versions import (
    aside,
    counts,
    diff,
    edit,
    shas,
    version,
)
from tests.worker.ingest.uploads import class_folders, encode, pixels, png, write_zip
from worker.ingest.content import fingerprint_rows
from worker.training.labelled_images import read_dataset

# In one process, so that what its tests share is made once.
pytestmark = pytest.mark.xdist_group("versions")

GOOD = class_folders(each=20)
CONFLICT = {"cat/both.png": png(777), "dog/both too.png": png(777)}
ODD = {"cat/phone.webp": encode(pixels(903), "WEBP")}


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A first version, with a picture under two labels."""
    folder = tmp_path_factory.mktemp("first")
    upload = {**GOOD, **ODD, **CONFLICT}
    return run(folder, write_zip(folder / "pets.zip", upload))


def new_pictures(each, start=5000):
    files = class_folders(each=each, start=start)
    return {name.replace("/", "/new "): data for name, data in files.items()}


def refused(folder, *sources, **spec):
    ingest = IngestHere(folder, *sources, **spec)
    assert ingest.wait() == 64
    assert ingest.leftovers() == []
    return ingest.last["message"]


def test_a_picture_under_two_labels_is_kept_in_quarantine(first):
    (row,) = aside(first).values()

    assert row["labels"] == ["cat", "dog"]
    assert (row["label"], row["split"]) == ("", "")
    assert "“cat” and “dog”" in row["reason"]
    assert (first.final / row["original"]).read_bytes() == png(777)
    assert (first.final / "thumbnails" / f"{row['sha256']}.jpg").is_file()
    assert first.report()["quarantine_total"] == 1
    assert first.report()["quarantine"][0]["labels"] == ["cat", "dog"]


@pytest.fixture(scope="module")
def edited(first, tmp_path_factory):
    """A version by every kind of edit at once."""

    gone, set_aside, renamed = shas(first, "cat/0.png", "cat/1.png", "dog/2.png")
    (both,) = aside(first).values()
    edits = [
        edit("exclude", gone),
        edit("quarantine", set_aside, reason="blurred"),
        edit("relabel", renamed, label=" cat "),
        edit("relabel", both["sha256"], label="dog"),
        edit("restore", both["sha256"]),
    ]
    return run(tmp_path_factory.mktemp("edited"), version(first), edits=edits)


class TestEdits:
    """Every kind of edit, told and carried out."""

    def test_the_manifest_holds_what_is_left(self, first, edited):
        rows = edited.rows()

        names = {*first.rows(), "cat/both.png"} - {"cat/0.png", "cat/1.png"}
        assert set(rows) == names
        assert rows["dog/2.png"]["label"] == "cat"
        assert rows["cat/both.png"]["label"] == "dog"
        assert rows["cat/both.png"]["split"] in {"train", "val", "test"}

    def test_quarantine_says_why_and_where_it_was(self, first, edited):
        (row,) = aside(edited).values()

        assert row["source_name"] == "cat/1.png"
        assert (row["reason"], row["labels"]) == ("blurred", ["cat"])
        assert row["split"] == first.rows()["cat/1.png"]["split"]

    def test_pictures_keep_their_split(self, first, edited):
        before, after = first.rows(), edited.rows()

        for name in set(before) & set(after):
            assert after[name]["split"] == before[name]["split"]

    def test_the_diff_tells_it_all(self, first, edited):
        told = diff(edited)

        assert told["parent"] == {
            "version": 1, "fingerprint": first.report()["fingerprint"],
        }  # fmt: skip
        assert told["counts"] == {
            "added": 0, "removed": 1, "relabelled": 1, "moved": 0, "quarantined": 1,
            "restored": 1,
        }  # fmt: skip
        assert told["listed"] == told["counts"]
        assert told["relabelled"][0]["name"] == "dog/2.png"
        assert (told["relabelled"][0]["from"], told["relabelled"][0]["to"]) == (
            "dog", "cat",
        )  # fmt: skip
        assert told["restored"][0]["label"] == "dog"
        assert "1 picture was relabelled: 1 from “dog” to “cat”." in told["sentences"]

    def test_the_diff_is_a_table_too(self, edited):
        rows = pq.read_table(edited.final / "diff.parquet").to_pylist()

        found = [
            {"kind": kind, **entry}
            for kind in diff(edited)["counts"]
            for entry in diff(edited)[kind]
        ]
        as_told = [{k: v for k, v in row.items() if v is not None} for row in rows]
        assert sorted(as_told, key=str) == sorted(found, key=str)

    def test_files_are_those_of_the_parent(self, first, edited):
        for row in edited.rows().values():
            for name in {row["path"], row["original"]}:
                assert (edited.final / name).samefile(first.final / name)

    def test_the_folder_verifies_and_its_fingerprint_is_right(self, edited):
        facts = verify_manifest(edited.final, edited.last["manifest_sha"])
        rows = [(r["sha256"], r["label"], r["split"]) for r in edited.rows().values()]

        tables = {"quarantine.parquet", "diff.json", "diff.parquet"}
        assert tables <= set(facts["files"])
        assert edited.report()["fingerprint"] == fingerprint_rows(rows)

    def test_training_reads_what_is_in_use_alone(self, edited):
        images = read_dataset(edited.final)

        assert len(images) == edited.report()["images"]
        assert images.fingerprint == edited.report()["fingerprint"]

    @pytest.mark.usefixtures("edited")
    def test_the_parent_is_untouched(self, first):
        verify_manifest(first.final, first.last["manifest_sha"])

    def test_it_outlives_its_parent(self, first, edited, tmp_path):
        """Whoever deletes one name of a file leaves the other."""
        parent = tmp_path / "parent"
        shutil.copytree(first.final, parent, copy_function=os.link)
        shutil.rmtree(parent)

        for row in edited.rows().values():
            assert (edited.final / row["path"]).stat().st_size


def test_a_set_aside_picture_comes_back_to_where_it_was(first, tmp_path):
    (one,) = shas(first, "cat/3.png")
    away = run(tmp_path / "a", version(first), edits=[edit("quarantine", one)])

    back = run(tmp_path / "b", version(away, 2), edits=[edit("restore", one)])

    assert counts(back) == {"restored": 1}
    assert back.report()["fingerprint"] == first.report()["fingerprint"]


@pytest.mark.parametrize(
    ("edits", "words"),
    [
        ([edit("exclude", "0" * 64)], "version 1 has no picture 0000"),
        ([edit("restore", "KNOWN")], "The edits change nothing"),
        ([edit("relabel", "KNOWN", label="cat")], "The edits change nothing"),
        ([edit("relabel", "KNOWN")], "`edits.label` must be the new label"),
        ([edit("burn", "KNOWN")], "`edits.action` must be one of"),
        ([edit("restore", "BOTH")], "is there as “cat” and “dog”"),
        ([edit("exclude")], "`edits.images` must list"),
        ([edit("relabel", "KNOWN", label="emu")], "Too small: “emu” (1)"),
        ([], "This changes nothing"),
    ],
)
def test_edits_that_cannot_be_are_refused(first, tmp_path, edits, words):
    (known,) = shas(first, "cat/3.png")
    (both,) = (row["sha256"] for row in aside(first).values())
    text = json.dumps(edits).replace("KNOWN", known).replace("BOTH", both)

    assert words in refused(tmp_path, version(first), edits=json.loads(text))


@pytest.fixture(scope="module")
def added(first, tmp_path_factory):
    """New pictures beside the old ones, some of them known."""
    folder = tmp_path_factory.mktemp("added")
    bitmap = encode(pixels(1000 + 5), "BMP")  # the pixels of dog/5.png
    upload = {
        **new_pictures(40),
        "cat/again.png": GOOD["cat/4.png"],
        "cat/other.bmp": bitmap,
        **CONFLICT,
        "cat/new both.png": png(888),
        "dog/new both.png": png(888),
    }
    archive = write_zip(folder / "more.zip", upload)
    return run(folder, version(first), archive, mode="add")


class TestAdding:
    """What comes of new pictures beside the old ones."""

    def test_the_old_keep_their_splits_and_the_new_keep_the_shares(self, first, added):
        before, after = first.rows(), added.rows()

        assert all(after[name]["split"] == before[name]["split"] for name in before)
        found = Counter((row["label"], row["split"]) for row in after.values())
        for label in ("cat", "dog"):
            total = sum(found[label, split] for split in ("train", "val", "test"))
            assert found[label, "val"] == pytest.approx(total * 0.15, abs=1)
            assert found[label, "test"] == pytest.approx(total * 0.15, abs=1)

    def test_the_newest_statement_wins(self, added):
        assert added.rows()["dog/5.png"]["label"] == "cat"
        assert [row["name"] for row in diff(added)["relabelled"]] == ["dog/5.png"]

    def test_what_is_there_is_named_and_not_added(self, added):
        reasons = {s["file"]: s["reason"] for s in added.report()["skipped"]}

        assert "“cat/4.png” of version 1, which stays" in reasons["cat/again.png"]
        assert "relabelled to “cat”" in reasons["cat/other.bmp"]
        assert counts(added) == {"added": 80, "relabelled": 1, "quarantined": 1}

    def test_quarantine_grows_and_forgets_nothing(self, added):
        assert set(aside(added)) == {"cat/both.png", "cat/new both.png"}

    def test_the_manifest_stays_in_the_order_of_hashes(self, added):
        table = pq.read_table(added.final / "manifest.parquet", columns=["sha256"])

        hashes = table["sha256"].to_pylist()
        assert hashes == sorted(hashes)

    def test_the_same_upload_again_is_refused(self, added, tmp_path):
        archive = write_zip(tmp_path / "again.zip", class_folders(each=3))

        message = refused(tmp_path, version(added, 2), archive, mode="add")

        assert "version 2 holds the same pictures" in message


def test_a_table_that_comes_later_says_the_splits(first, tmp_path):
    rows = first.rows()
    names = [name for name in GOOD if rows[name]["split"] == "train"][:6]
    lines = [f"{name},{rows[name]['label']},test" for name in names]
    table = "\n".join(["filename,label,split", *lines]).encode()
    pictures = {name: GOOD[name] for name in names}
    archive = write_zip(tmp_path / "t.zip", {**pictures, "labels.csv": table})

    new = run(tmp_path, version(first), archive, mode="add")

    assert counts(new) == {"moved": 6}
    assert {new.rows()[name]["split"] for name in names} == {"test"}


def test_an_old_version_without_contents_still_knows_its_pictures(first, tmp_path):
    old = tmp_path / "old" / "final"
    shutil.copytree(first.final, old)
    for name in ("contents.parquet", "quarantine.parquet", "MANIFEST.json"):
        (old / name).unlink()
    rows = pq.read_table(old / "manifest.parquet").drop_columns(["group"])
    pq.write_table(rows, old / "manifest.parquet")
    artifacts.write_manifest(old, ["manifest.parquet", "report.json"], step=0)
    files = {**class_folders(each=3, start=9000), "dog/5 again.bmp": encode(
        pixels(1000 + 5), "BMP"
    )}  # fmt: skip
    source = {"type": "version", "path": str(old), "name": "version 1", "version": 1}

    new = run(tmp_path, source, write_zip(tmp_path / "more.zip", files))

    assert counts(new) == {"added": 6}


def test_replacing_takes_the_new_alone_and_keeps_splits(first, tmp_path):
    files = {name: data for name, data in GOOD.items() if name != "cat/0.png"}
    files |= class_folders(("emu",), each=4, start=7000)

    new = run(
        tmp_path, version(first), write_zip(tmp_path / "p.zip", files), mode="replace"
    )

    before, after = first.rows(), new.rows()
    assert set(after) == set(files)
    assert counts(new) == {"added": 4, "removed": 3}  # one of them in quarantine
    for name in set(before) & set(after):
        assert after[name]["split"] == before[name]["split"]
        path = after[name]["path"]
        assert (new.final / path).samefile(first.final / path)


def test_dealt_again_pictures_move(first, tmp_path):
    new = run(tmp_path, version(first), split={"again": True, "seed": 7})

    assert set(counts(new)) == {"moved"}


def test_killed_while_it_writes_the_next_attempt_publishes(tmp_path):
    parent = run(
        tmp_path / "a",
        write_zip(tmp_path / "pets.zip", class_folders(each=200), method=0),
    )
    (one,) = shas(parent, "cat/3.png")
    spec = {"edits": [edit("exclude", one)]}
    killed = Ingest(tmp_path / "b", version(parent), **spec)
    killed.wait_for(event="phase", phase="write")
    killed.end(signal.SIGKILL)

    again = run(tmp_path / "b", version(parent), **spec)

    assert counts(again) == {"removed": 1}
    assert again.leftovers() == []
    verify_manifest(parent.final, parent.last["manifest_sha"])
