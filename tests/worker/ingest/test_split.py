"""The split: stratified, by content alone, never guessed where the user gave one."""

import contextlib
import hashlib
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import UserError
from worker.ingest.content import merge_identical
from worker.ingest.split import Keyed, SplitShares, assign_splits


@dataclass
class Entry:
    """A picture as far as its content goes."""

    sha256: str
    label: str
    split: str | None
    name: str

    @property
    def digest(self):
        return self.sha256.encode()

    @property
    def pixels_digest(self):
        return self.digest


def images(label, count, given=None, start=0):
    return [
        Keyed(hashlib.sha256(f"{label}{n}".encode()).digest(), label, given)
        for n in range(start, start + count)
    ]


def count(keyed, **options):
    """Returns {(label, split): images} and the notes."""
    splits, notes = assign_splits(keyed, **options)
    return Counter((k.label, s) for k, s in zip(keyed, splits, strict=True)), notes


def test_each_class_is_dealt_seventy_fifteen_fifteen():
    counts, notes = count(images("cat", 1000) + images("dog", 200))

    assert counts == {
        ("cat", "train"): 700,
        ("cat", "val"): 150,
        ("cat", "test"): 150,
        ("dog", "train"): 140,
        ("dog", "val"): 30,
        ("dog", "test"): 30,
    }
    assert notes == []


@pytest.mark.parametrize("size", range(3, 12))
def test_the_smallest_classes_have_an_image_in_every_split(size):
    counts, _ = count(images("cat", size) + images("dog", 50))

    assert min(counts["cat", split] for split in ("train", "val", "test")) >= 1
    assert counts["cat", "train"] >= size / 3


def test_other_shares_and_another_seed_deal_otherwise():
    keyed = images("cat", 100) + images("dog", 100)

    counts, _ = count(keyed, shares=SplitShares(0.5, 0.25, 0.25))
    first, _ = assign_splits(keyed)
    second, _ = assign_splits(keyed, SplitShares(seed=1))

    assert counts["cat", "test"] == counts["dog", "val"] == 25
    assert first != second


@given(st.randoms())
def test_neither_order_nor_other_classes_change_where_an_image_goes(shuffler):
    keyed = images("cat", 30) + images("dog", 20)
    more = keyed + images("emu", 9)
    shuffler.shuffle(more)

    before = dict(zip(keyed, assign_splits(keyed)[0], strict=True))
    after = dict(zip(more, assign_splits(more)[0], strict=True))

    assert {key: after[key] for key in keyed} == before


def test_the_split_of_an_image_is_the_same_for_ever():
    """A new version of a dataset must not move test images into training."""
    splits, _ = assign_splits(images("cat", 10) + images("dog", 10))

    assert "".join(split[1] for split in splits) == "ererrararraerrarerrr"


@given(
    st.lists(
        st.tuples(
            st.integers(0, 8),
            st.sampled_from(["cat", "dog"]),
            st.sampled_from([None, "train", "val", "test"]),
        ),
        min_size=20,
    )
)
def test_identical_images_never_straddle_whatever_was_given(uploads):
    entries = [
        Entry(f"{content}{label}", label, split, f"{at}.jpg")
        for at, (content, label, split) in enumerate(uploads)
    ]
    merged = merge_identical(entries)
    keyed = [Keyed(one.digest, one.label, one.split) for one in merged.kept]
    contents = [one.sha256 for one in merged.kept]

    assert len(contents) == len(set(contents))
    assert set(contents) == {one.sha256 for one in entries}
    with contextlib.suppress(UserError):
        assert set(assign_splits(keyed)[0]) <= {"train", "val", "test"}


def test_given_splits_are_kept():
    keyed = (
        images("cat", 10, "train")
        + images("cat", 3, "val", 10)
        + images("cat", 5, "test", 13)
        + images("dog", 4, "train")
        + images("dog", 2, "val", 10)
        + images("dog", 1, "test", 20)
    )

    splits, notes = assign_splits(keyed)

    assert splits == [image.given for image in keyed]
    assert notes == []


@pytest.mark.parametrize(("absent", "word"), [("val", "validation"), ("test", "test")])
def test_an_absent_split_is_dealt_from_the_training_images(absent, word):
    other = {"val": "test", "test": "val"}[absent]
    keyed = [
        *images("cat", 85, "train"),
        *images("cat", 15, other, 90),
        *images("dog", 85, "train"),
        *images("dog", 15, other, 90),
    ]

    counts, notes = count(keyed)

    assert counts["cat", absent] == counts["dog", absent] == 15
    assert counts["cat", other] == 15
    assert notes == [
        f"No {word} images were given: they were taken from the training images."
    ]


def test_a_given_test_split_stays_closed():
    """Images without a given split never join those that the user chose to judge by."""
    keyed = [
        *images("cat", 20, "test"),
        *images("cat", 85, None, 20),
        *images("dog", 20, "test"),
        *images("dog", 85, None, 20),
    ]

    counts, _ = count(keyed)

    assert counts["cat", "test"] == counts["dog", "test"] == 20
    assert counts["cat", "val"] == 15
    assert counts["cat", "train"] == 70


def test_a_class_without_given_splits_is_dealt_whole_beside_one_with():
    keyed = [
        *images("cat", 7, "train"),
        *images("cat", 2, "val", 7),
        *images("cat", 2, "test", 9),
        *images("dog", 100),
    ]

    counts, _ = count(keyed)

    assert counts["dog", "train"] == 70
    assert counts["dog", "val"] == counts["dog", "test"] == 15


def test_splits_without_a_training_image_are_set_aside_and_said_so():
    counts, notes = count(images("cat", 20, "test") + images("dog", 20, "test"))

    assert counts["cat", "train"] == 14
    assert "dealt anew" in notes[0]


def test_a_class_missing_from_a_given_split_is_said():
    keyed = [
        *images("cat", 5, "train"),
        *images("cat", 2, "val", 5),
        *images("cat", 2, "test", 7),
        *images("dog", 5, "train"),
        *images("dog", 2, "val", 5),
    ]

    _, notes = count(keyed)

    assert notes == ["The given splits leave “dog” without a test image."]


@pytest.mark.parametrize(
    ("keyed", "words"),
    [
        ([], "at least 2 classes. Found: none"),
        (images("cat", 9), "Found: only “cat”"),
        (images("cat", 9) + images("dog", 2), "Too small: “dog” \\(2\\)"),
        (
            images("cat", 9, "train") + images("dog", 9, "test"),
            "without a training image: “dog”",
        ),
    ],
)
def test_what_cannot_be_split_is_refused_with_the_reason(keyed, words):
    with pytest.raises(UserError, match=words):
        assign_splits(keyed)


def test_of_very_many_small_classes_only_some_are_named():
    keyed = [one for n in range(500) for one in images(f"class{n:03d}", 1)]

    with pytest.raises(UserError, match="and 490 more") as refusal:
        assign_splits(keyed)

    assert len(str(refusal.value)) < 700


def test_a_label_of_any_length_leaves_the_reason_of_a_refusal_to_be_read():
    label = "x" * 131_072

    for keyed in (images(label, 9), images("cat", 9) + images(label, 1)):
        with pytest.raises(UserError, match=r"(Put|Add) .*images") as refusal:
            assign_splits(keyed)
        assert len(str(refusal.value)) < 500
