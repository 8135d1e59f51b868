"""What a second upload says of pictures that are there already."""

import pytest

from worker.ingest.content import Merged
from worker.ingest.diff import compare
from worker.ingest.found import FoundFile, SkipList
from worker.ingest.grouping import Grouping
from worker.ingest.join import join, take_alone
from worker.ingest.verify import Picture
from worker.ingest.version_source import KeptPicture, Parent

SHA = bytes(32)


def came(*, split=None, given=None):
    """The same file once more."""
    return Picture(
        digest=SHA, pixels_digest=SHA, label="cat", split=split, name="again.png",
        file=FoundFile("/again.png", "again.png"), png=None, suffix=".png",
        size_bytes=1, width_px=1, height_px=1, remarks=(), given=given,
    )  # fmt: skip


@pytest.fixture
def parent(tmp_path):
    kept = KeptPicture(
        sha256=SHA.hex(), known_content=SHA.hex(), label="cat", split="train",
        name="cat.png", root=tmp_path, suffix=".png", is_rewritten=False,
        size_bytes=1, width_px=1, height_px=1, given="p1",
    )  # fmt: skip
    counts = {"train": 1, "val": 0, "test": 0}
    return Parent(
        tmp_path, "version 1", 1, "f" * 64, Grouping(), counts, pictures=[kept]
    )


@pytest.fixture(params=["add", "replace"])
def bring(request, parent):
    """Brings one picture to the parent, in either mode."""

    def bring(picture):
        merged = Merged([picture], [], [], 0)
        if request.param == "add":
            return join(merged, parent, SkipList(), ())
        return take_alone(merged, parent, ())

    return bring


@pytest.mark.parametrize(("said", "split"), [("test", "test"), (None, "train")])
def test_the_split_that_is_stated_is_taken(bring, said, split):
    (picture,) = bring(came(split=said)).pictures

    assert picture.split == split


@pytest.mark.parametrize(("said", "changed"), [("p2", 1), ("p1", 0), (None, 0)])
def test_another_group_is_a_change(bring, parent, said, changed):
    joined = bring(came(given=said))

    assert joined.regrouped == changed
    told = compare(parent, joined, ["train"])["sentences"]
    words = "1 picture has another value in the label table's column of groups."
    assert (words in told) == bool(changed)
