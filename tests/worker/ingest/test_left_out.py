"""Files that are no pictures of a version: told by it and by those made from it."""

import zipfile

import pytest

from tests.worker.ingest.ingest_process import run
from tests.worker.ingest.made_versions import aside, edit, shas, skipped, version
from tests.worker.ingest.uploads import class_folders, encode, pixels, png, write_zip

GOOD = class_folders(each=20)
CONFLICT = {"cat/both.png": png(777), "dog/both too.png": png(777)}
LOST = {
    "cat/half.jpg": encode(pixels(905, 64, 64), "JPEG")[:2000],
    "cat/late.jpg": b"",
    "dog/copy of 0.png": GOOD["dog/0.png"],
    "dog/copy of 1.png": GOOD["dog/1.png"],
    "dog/.DS_Store": b"x",
}


@pytest.fixture(scope="module")
def lossy(tmp_path_factory):
    """A version of an upload of which some files were left out."""
    folder = tmp_path_factory.mktemp("lossy")
    upload = write_zip(folder / "pets.zip", {**GOOD, **CONFLICT, **LOST})
    return run(folder, upload)


class TestLeftOut:
    """What was left out of a version is told by those that are made from it."""

    def test_a_copy_names_the_picture_that_is_kept(self, lossy):
        (kept,) = shas(lossy, "dog/0.png")
        (both,) = (row["sha256"] for row in aside(lossy).values())

        assert skipped(lossy)["dog/copy of 0.png"]["same_as"] == kept
        assert skipped(lossy)["dog/both too.png"]["same_as"] == both
        assert "same_as" not in skipped(lossy)["cat/half.jpg"]

    def test_an_edit_forgets_nothing_of_it_but_what_is_settled(self, lossy, tmp_path):
        (gone,) = shas(lossy, "dog/1.png")
        (both,) = (row["sha256"] for row in aside(lossy).values())
        edits = [edit("exclude", gone), edit("relabel", both, label="cat")]

        new = run(tmp_path, version(lossy), edits=edits)

        settled = {"dog/copy of 1.png", *CONFLICT}
        assert set(skipped(new)) == set(skipped(lossy)) - settled
        report = new.report()
        assert report["skipped_total"] == len(skipped(new))
        assert report["skipped_by_code"] == {
            "copy": 1, "damaged": 1, "empty_file": 1, "junk": 1,
        }  # fmt: skip
        reason = skipped(new)["cat/half.jpg"]["reason"]
        assert reason.startswith("It came with an earlier version. The JPEG picture is")

    def test_it_is_said_once_that_it_came_earlier(self, lossy, tmp_path):
        shown = shas(lossy, "cat/3.png", "cat/4.png")
        edits = [[edit("exclude", one)] for one in shown]
        second = run(tmp_path / "2", version(lossy), edits=edits[0])

        third = run(tmp_path / "3", version(second, 2), edits=edits[1])

        assert skipped(third) == skipped(second)

    def test_what_comes_later_settles_it(self, lossy, tmp_path):
        files = {
            **class_folders(each=3, start=5000),
            "cat/late.jpg": encode(pixels(906, 64, 64), "JPEG"),
            "cat/half.jpg": LOST["cat/half.jpg"],
        }
        archive = write_zip(tmp_path / "more.zip", files)

        new = run(tmp_path, version(lossy), archive, mode="add")

        assert "cat/late.jpg" in new.rows()
        assert set(skipped(new)) == set(skipped(lossy)) - {"cat/late.jpg"}
        assert "earlier version" not in skipped(new)["cat/half.jpg"]["reason"]
        assert new.report()["skipped_by_code"]["damaged"] == 1

    def test_a_copy_that_comes_later_settles_it(self, lossy, tmp_path):
        files = {"cat/late.jpg": GOOD["cat/5.png"], **class_folders(each=3, start=7000)}
        archive = write_zip(tmp_path / "more.zip", files)

        new = run(tmp_path, version(lossy), archive, mode="add")

        assert skipped(new)["cat/late.jpg"]["code"] == "again"
        assert "empty_file" not in new.report()["skipped_by_code"]

    def test_an_archive_and_a_table_that_are_read_again_settle_it(self, tmp_path):
        lines = [*(f"{name},{name[:3]}" for name in GOOD), "x.jpg,cat"]
        table = "\n".join(["filename,label", *lines]).encode()
        # The table lies in front, so that it comes whole.
        files = {"labels.csv": table, **GOOD}
        archive = write_zip(tmp_path / "pets.zip", files, method=zipfile.ZIP_STORED)
        whole = archive.read_bytes()
        archive.write_bytes(whole[: len(whole) * 3 // 4])
        first = run(tmp_path / "1", archive)
        lost = set(skipped(first))
        assert {"pets.zip", "labels.csv, line 42"} <= lost
        picture = encode(pixels(904), "JPEG")
        write_zip(archive, {**files, "x.jpg": picture})

        second = run(tmp_path / "2", version(first), archive, mode="add")

        assert "x.jpg" in second.rows()
        assert not lost & {
            name for name, one in skipped(second).items() if one["code"] != "again"
        }

    def test_what_comes_again_is_counted_once_and_told_by_one_version(
        self, lossy, tmp_path
    ):
        def bring(parent, number, folder):
            new = class_folders(each=3, start=5000 * number)
            new = {name.replace("/", f"/{number} "): data for name, data in new.items()}
            files = {**GOOD, **CONFLICT, **LOST, **new}
            archive = write_zip(tmp_path / f"{number}.zip", files)
            return run(tmp_path / folder, version(parent, number), archive, mode="add")

        second = bring(lossy, 1, "2")
        third = bring(second, 2, "3")
        (one,) = shas(lossy, "cat/3.png")
        fourth = run(tmp_path / "4", version(third, 3), edits=[edit("exclude", one)])

        codes = lossy.report()["skipped_by_code"]
        for ingest in (second, third):
            report = ingest.report()
            assert report["skipped_by_code"] == {**codes, "again": len(GOOD)}
            assert skipped(ingest)["cat/3.png"]["code"] == "again"
            assert any(
                note.startswith(f"{len(GOOD)} files show pictures that version ")
                for note in report["notes"]
            )
        assert fourth.report()["skipped_by_code"] == codes

    def test_what_shows_the_same_names_the_picture_that_the_version_has(
        self, lossy, tmp_path
    ):
        """The same pixels in other files: the version keeps the files that it had."""
        five, six = (encode(pixels(1000 + n), "BMP") for n in (5, 6))
        files = {
            "dog/five.bmp": five, "dog/five too.bmp": five, "cat/six.bmp": six,
            "dog/six.bmp": six, "cat/1st.png": png(777), "cat/2nd.png": png(777),
        }  # fmt: skip
        archive = write_zip(tmp_path / "more.zip", files)

        new = run(tmp_path, version(lossy), archive, mode="add")

        told = skipped(new)
        there, contested = shas(lossy, "dog/5.png", "dog/6.png")
        copy = next(one for one in told.values() if "“dog/5.png”, which is used" in
                    one["reason"])  # fmt: skip
        assert (copy["code"], copy["same_as"]) == ("copy", there)
        for name in ("cat/six.bmp", "dog/six.bmp"):
            assert (told[name]["code"], told[name]["same_as"]) == (
                "conflict",
                contested,
            )
        assert any(
            "which lies in quarantine." in one["reason"] for one in told.values()
        )
        known = {row["sha256"] for row in [*new.rows().values(), *aside(new).values()]}
        assert {one["same_as"] for one in told.values() if "same_as" in one} <= known

    def test_a_version_of_new_pictures_alone_tells_of_them_alone(self, lossy, tmp_path):
        archive = write_zip(tmp_path / "new.zip", class_folders(each=5, start=9000))

        new = run(tmp_path, version(lossy), archive, mode="replace")

        assert skipped(new) == {}


@pytest.fixture(scope="module")
def contested(tmp_path_factory):
    """A version of an upload whose label table contradicts itself."""
    folder = tmp_path_factory.mktemp("contested")
    lines = [f"{name},{name.split('/')[0]}" for name in GOOD]
    lines += ["cat/phone.webp,cat", "cat/phone.webp,dog", "dog/2.png,cat"]
    table = "\n".join(["filename,label", *lines])
    phone = {"cat/phone.webp": encode(pixels(903), "WEBP")}
    upload = {**GOOD, **phone, "labels.csv": table.encode()}
    return run(folder, write_zip(folder / "pets.zip", upload))


class TestContradictions:
    """A file that a label table gives several labels waits for the user."""

    def test_it_lies_in_quarantine_with_a_picture_and_its_labels(self, contested):
        rows = aside(contested)

        assert set(rows) == {"cat/phone.webp", "dog/2.png"}
        for row in rows.values():
            assert (row["label"], row["labels"]) == ("", ["cat", "dog"])
            thumbnail = f"{row['sha256']}.jpg"
            assert (contested.final / "thumbnails" / thumbnail).is_file()
        assert not set(rows) & set(contested.rows())

    def test_the_report_names_it_once(self, contested):
        report = contested.report()

        assert sorted(report["conflicts"], key=str) == [
            {"files": [name], "files_total": 1, "labels": ["cat", "dog"]}
            for name in ("cat/phone.webp", "dog/2.png")
        ]
        assert "1 picture was rewritten as PNG." in report["notes"]
        assert report["skipped_total"] == 2
        assert skipped(contested)["dog/2.png"]["reason"].startswith(
            "The label table calls it “cat” and “dog”. It is kept in quarantine"
        )

    def test_it_comes_back_under_the_label_that_is_chosen(self, contested, tmp_path):
        (row,) = (r for r in aside(contested).values() if "phone" in r["source_name"])

        new = run(
            tmp_path,
            version(contested),
            edits=[edit("relabel", row["sha256"], label="dog")],
        )

        assert new.rows()["cat/phone.webp"]["label"] == "dog"
        assert set(aside(new)) == {"dog/2.png"}
        assert set(skipped(new)) == {"dog/2.png"}
