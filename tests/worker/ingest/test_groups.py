"""What one split must hold whole, by the ingest child as a real process."""

from collections import defaultdict

import pyarrow.parquet as pq
import pytest

from tests.worker.ingest.ingest_process import run
from tests.worker.ingest.test_versions import (
    GOOD,
    counts,
    diff,
    edit,
    refused,
    version,
)
from tests.worker.ingest.uploads import class_folders, encode, pixels, png, write_zip
from worker.ingest.folder_groups import name_folders


@pytest.mark.parametrize(
    ("names", "folders"),
    [
        (["cat/p7/a.png", "dog/p7/b.png", "dog/c.png"], ["p7", "p7", None]),
        (["p7/cat/a.png", "p8/dog/b.png"], ["p7", "p8"]),
        (["x/train/cat/a.png", "x/test/dog/b.png"], [None, None]),
        (["x/p7/a.png", "x/p8/b.png"], ["p7", "p8"]),
        (["x/a.png", "x/b.png"], [None, None]),
        (["cat/p7/eye/a.png", "dog/p8/eye/b.png"], ["p7/eye", "p8/eye"]),
    ],
)
def test_folders_are_those_that_say_more_than_class_and_split(names, folders):
    labels = ["cat", *["dog"] * (len(names) - 1)]

    assert name_folders(names, labels) == folders


def test_a_picture_that_was_relabelled_stays_with_its_folder():
    names = ["f/cat/p1/a.png", "f/cat/p1/b.png", "f/dog/p2/c.png"]

    assert name_folders(names, ["cat", "dog", "dog"]) == ["p1", "p1", "p2"]


def table(column, letters):
    """A label table whose column has a value for every four pictures of a class."""
    lines = [
        f"{name},{name.partition('/')[0]},{letter}{place(name) // 4}"
        for name, letter in letters.items()
    ]
    return "\n".join([f"filename,label,{column}", *lines]).encode()


def place(name):
    """The number in a picture's name."""
    return int("".join(filter(str.isdecimal, name)))


class TestGroups:
    """Whole groups in one split, whatever makes them."""

    def splits(self, ingest):
        found = defaultdict(set)
        for row in ingest.rows().values():
            found[row["group"]].add(row["split"])
        return found

    def test_by_a_column_of_the_table(self, tmp_path):
        files = {f"{n}.png": png(n) for n in range(60)}
        lines = [f"{n}.png,{'cat' if n % 2 else 'dog'},p{n // 6}" for n in range(60)]
        files["labels.csv"] = "\n".join(["filename,label,Patient", *lines]).encode()
        split = {"by": "column", "column": "patient"}

        ingest = run(tmp_path, write_zip(tmp_path / "a.zip", files), split=split)

        found = self.splits(ingest)
        assert set(found) == {f"p{n}" for n in range(10)}
        assert all(len(splits) == 1 for splits in found.values())
        assert {s for splits in found.values() for s in splits} == {
            "train", "val", "test",
        }  # fmt: skip
        self._add_to(ingest, tmp_path)

    def test_a_column_with_a_usual_name_is_kept_without_being_asked_for(self, tmp_path):
        """Of splits that came with it the doctor tells, and they can be dealt by it."""
        files = {f"{n}.png": png(n) for n in range(60)}
        parts = ("train", "val", "test")
        lines = [
            f"{n}.png,{'cat' if n % 2 else 'dog'},p{n // 6},{parts[n // 2 % 3]}"
            for n in range(60)
        ]
        head = "filename,label,Patient ID,split"
        files["labels.csv"] = "\n".join([head, *lines]).encode()

        ingest = run(tmp_path, write_zip(tmp_path / "a.zip", files))

        report = ingest.report()
        assert report["split"]["by"] is None
        assert report["split"]["column"] == "Patient ID"
        assert any("“Patient ID” are kept" in note for note in report["notes"])
        assert set(self.splits(ingest)) == {None}
        again = {"by": "column", "column": "Patient ID", "again": True}
        dealt = run(tmp_path / "dealt", version(ingest), split=again)
        found = self.splits(dealt)
        assert set(found) == {f"p{n}" for n in range(10)}
        assert all(len(splits) == 1 for splits in found.values())

    def _add_to(self, parent, tmp_path):
        """A picture of a known patient joins the others of theirs, without a word."""
        files = {f"new {n}.png": png(700 + n) for n in range(10)}
        lines = [f"new {n}.png,cat,p{n}" for n in range(10)]
        files["labels.csv"] = "\n".join(["filename,label,Patient", *lines]).encode()
        archive = write_zip(tmp_path / "b.zip", files)

        ingest = run(tmp_path / "more", version(parent), archive)

        assert all(len(splits) == 1 for splits in self.splits(ingest).values())
        assert counts(ingest) == {"added": 10}

    def test_a_mended_table_moves_its_pictures(self, tmp_path):
        """The same pictures with other patients, or splits, are another version."""
        files = {f"{n}.png": png(n) for n in range(40)}

        def pack(name, patients, split=""):
            lines = [
                f"{n}.png,{'cat' if n % 2 else 'dog'},p{n // patients},{split}"
                for n in range(40)
            ]
            table = "\n".join(["filename,label,patient,split", *lines])
            return write_zip(tmp_path / name, {**files, "l.csv": table.encode()})

        first = run(tmp_path / "1", pack("1.zip", 2))
        second = run(tmp_path / "2", version(first), pack("2.zip", 4), mode="add")

        words = "38 pictures have another value in the label table's column of groups."
        assert words in diff(second)["sentences"]
        table = pq.read_table(second.final / "contents.parquet")
        assert set(table["given_group"].to_pylist()) == {f"p{n}" for n in range(10)}
        again = pack("3.zip", 4)
        message = refused(tmp_path / "3", version(second, 2), again, mode="add")
        assert "This changes nothing" in message

    def test_by_folder(self, tmp_path):
        files = {
            f"{label}/scene {n // 4}/{n}.png": png(1000 * at + n)
            for at, label in enumerate(("cat", "dog"))
            for n in range(24)
        }

        ingest = run(
            tmp_path, write_zip(tmp_path / "a.zip", files), split={"by": "folder"}
        )

        found = self.splits(ingest)
        assert set(found) == {f"scene {n}" for n in range(6)}
        assert all(len(splits) == 1 for splits in found.values())

    def test_folder_of_a_class_that_was_merged_into_another_is_no_group(self, tmp_path):
        files = class_folders(("cat", "dog", "dogs"), each=6)
        first = run(tmp_path / "a", write_zip(tmp_path / "a.zip", files))
        rows = first.rows()
        dogs = [row["sha256"] for row in rows.values() if row["label"] == "dogs"]
        edits = [edit("relabel", *dogs, label="dog")]
        second = run(tmp_path / "b", version(first), edits=edits)
        edits = [edit("exclude", rows["cat/0.png"]["sha256"])]
        third = run(tmp_path / "c", version(second, 2), edits=edits)
        split = {"by": "folder", "again": True}

        message = refused(tmp_path / "d", version(third, 3), split=split)

        assert "needs folders beside the class folders" in message
        for ingest in (second, third):
            folders = ingest.report()["split"]["class_folders"]
            assert folders == ["cat", "dog", "dogs"]

    def test_by_likeness(self, tmp_path):
        files = {}
        for at, label in enumerate(("cat", "dog")):
            for n in range(12):
                scene = pixels(1000 * at + n, 8, 8).repeat(8, axis=0).repeat(8, axis=1)
                for quality in (95, 60, 30):
                    name = f"{label}/{n} {quality}.jpg"
                    files[name] = encode(scene, "JPEG", quality=quality)

        ingest = run(
            tmp_path, write_zip(tmp_path / "a.zip", files), split={"by": "duplicates"}
        )

        scenes = defaultdict(set)
        for name, row in ingest.rows().items():
            scenes[name.rsplit(" ", 1)[0]].add((row["group"], row["split"]))
        assert len(scenes) == 24
        assert all(len(there) == 1 for there in scenes.values())
        table = pq.read_table(ingest.final / "contents.parquet")
        assert None not in table["picture_hash"].to_pylist()

    def test_by_folders_above_the_classes(self, tmp_path):
        labels = {
            f"site/patient {n // 4}/{label}/{n}.png": label
            for label in ("cat", "dog")
            for n in range(24)
        }
        files = {name: png(at) for at, name in enumerate(labels)}
        lines = [f"{name},{label}" for name, label in labels.items()]
        files["labels.csv"] = "\n".join(["filename,label", *lines]).encode()
        archive = write_zip(tmp_path / "a.zip", files)

        ingest = run(tmp_path, archive, split={"by": "folder"})

        found = self.splits(ingest)
        assert set(found) == {f"patient {n}" for n in range(6)}
        assert all(len(splits) == 1 for splits in found.values())

    def test_what_is_known_to_look_alike_joins_its_groups(self, tmp_path):
        """As on a doctor's page: copies that no hash finds, patients of an upload."""
        files = {f"{n}.png": png(n) for n in range(60)}
        lines = [f"{n}.png,{'cat' if n % 2 else 'dog'},p{n // 3}" for n in range(60)]
        files["labels.csv"] = "\n".join(["filename,label,patient", *lines]).encode()
        column = {"by": "column", "column": "patient"}
        first = run(tmp_path / "a", write_zip(tmp_path / "a.zip", files), split=column)
        rows = first.rows()
        pairs = [(f"{n}.png", f"{n + 30}.png") for n in (0, 10, 20)]
        alike = [[rows[one]["sha256"] for one in pair] for pair in pairs]
        split = {"by": "duplicates", "again": True, "alike": [*alike, ["f" * 64]]}

        second = run(tmp_path / "b", version(first), split=split)

        made = second.rows()
        for one, other in pairs:
            assert made[one]["group"] == made[other]["group"]
        for n in range(60):
            assert made[f"{n}.png"]["split"] == made[f"{n // 3 * 3}.png"]["split"]
        assert all(len(splits) == 1 for splits in self.splits(second).values())
        assert made["12.png"]["group"] == "p4"  # a patient that has no copy elsewhere
        table = b"filename,label,patient\nnew.png,cat,p4"
        more = {"new.png": png(900), "labels.csv": table}
        archive = write_zip(tmp_path / "more.zip", more)
        added = run(tmp_path / "more", version(second, 2), archive).rows()
        assert added["new.png"]["split"] == made["12.png"]["split"]
        third = run(
            tmp_path / "c",
            version(second, 2),
            edits=[edit("exclude", rows["1.png"]["sha256"])],
        )
        assert third.rows()["0.png"]["group"] == third.rows()["32.png"]["group"]

    @pytest.mark.parametrize("mode", ["add", "replace"])
    def test_table_that_comes_later_tells_of_pictures_that_are_there(
        self, tmp_path, mode
    ):
        first = run(tmp_path / "a", write_zip(tmp_path / "a.zip", GOOD))
        files = {**GOOD, "labels.csv": table("eye", dict.fromkeys(GOOD, "e"))}
        archive = write_zip(tmp_path / "b.zip", files)
        split = {"by": "column", "column": "eye", "again": True}

        second = run(tmp_path / "b", version(first), archive, mode=mode, split=split)

        groups = {name: row["group"] for name, row in second.rows().items()}
        assert groups == {name: f"e{place(name) // 4}" for name in GOOD}
        assert all(len(splits) == 1 for splits in self.splits(second).values())
        assert second.report()["split"]["column"] == "eye"

    def test_column_is_the_same_in_any_case(self, tmp_path):
        files = {**GOOD, "labels.csv": table("Patient", dict.fromkeys(GOOD, "p"))}
        first = run(tmp_path / "a", write_zip(tmp_path / "a.zip", files))
        more = {f"cat/new {n}.png": png(700 + n) for n in range(4)}
        more["labels.csv"] = table("PATIENT", dict.fromkeys(more, "p"))
        archive = write_zip(tmp_path / "b.zip", more)
        split = {"by": "column", "column": "patient", "again": True}

        second = run(tmp_path / "b", version(first), archive, split=split)

        groups = {name: row["group"] for name, row in second.rows().items()}
        assert {name: groups[name] for name in GOOD} == {
            name: f"p{place(name) // 4}" for name in GOOD
        }
        assert groups["cat/new 3.png"] == groups["cat/3.png"]
        assert second.report()["split"]["column"] == "Patient"

    def test_values_of_one_column_are_none_of_another(self, tmp_path):
        """Nobody is at the site “p1”, whatever happens to the version afterwards."""
        files = {**GOOD, "labels.csv": table("patient", dict.fromkeys(GOOD, "p"))}
        first = run(tmp_path / "a", write_zip(tmp_path / "a.zip", files))
        new = {f"{label}/new {n}.png": png(700 + n + 50 * at)
               for at, label in enumerate(("cat", "dog"))
               for n in range(12)}  # fmt: skip
        more = {**new, "labels.csv": table("site", dict.fromkeys(new, "s"))}
        archive = write_zip(tmp_path / "b.zip", more)
        split = {"by": "column", "column": "site"}
        edits = [edit("exclude", first.rows()["cat/0.png"]["sha256"])]

        second = run(tmp_path / "b", version(first), archive, split=split)
        third = run(tmp_path / "c", version(second, 2), edits=edits)

        for ingest in (second, third):
            groups = {name: row["group"] for name, row in ingest.rows().items()}
            assert {groups[name] for name in set(GOOD) & set(groups)} == {None}
            assert {name: groups[name] for name in new} == {
                name: f"s{place(name) // 4}" for name in new
            }
            left = len(groups) - len(new)
            assert any(
                f"{left} of {len(groups)} pictures have no value of the column “site”"
                in note
                for note in ingest.report()["notes"]
            )

    @pytest.mark.parametrize(
        ("split", "words"),
        [
            ({"by": "folder"}, "needs folders beside the class folders"),
            ({"by": "column", "column": "eye"}, "a value of “eye”"),
            ({"by": "column"}, "`split.column` must name"),
            ({"by": "moon"}, "`split.by` must be one of"),
            ({"again": 3}, "`split.again` must be true or false"),
            ({"by": "folder", "alike": [["a"]]}, "`split.alike` must list clusters"),
        ],
    )
    def test_what_makes_no_groups_is_refused(self, tmp_path, split, words):
        archive = write_zip(tmp_path / "a.zip", GOOD)

        assert words in refused(tmp_path, archive, split=split)
