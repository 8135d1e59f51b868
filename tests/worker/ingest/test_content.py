"""Identity by content: copies, conflicts, the fingerprint."""

import tracemalloc
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.ingest.test_split import Entry
from worker.ingest.content import fingerprint_rows, merge_identical


def entry(sha, label="cat", name="a.jpg", split=None):
    return Entry(sha, label, split, name)


def test_copies_in_one_class_are_kept_once():
    merged = merge_identical(
        [entry("1", name="b.jpg"), entry("1", name="a.jpg"), entry("2", name="c.jpg")]
    )

    assert [image.name for image in merged.kept] == ["a.jpg", "c.jpg"]
    assert [(copy.name, kept.name) for copy, kept in merged.copies] == [
        ("b.jpg", "a.jpg")
    ]
    assert merged.conflicts == []


def test_identical_files_under_two_labels_are_all_left_out():
    merged = merge_identical([entry("1", "cat"), entry("1", "dog"), entry("2")])

    assert [image.sha256 for image in merged.kept] == ["2"]
    assert [{one.label for one in group} for group in merged.conflicts] == [
        {"cat", "dog"}
    ]
    assert merged.copies == []


def test_a_copy_of_a_test_picture_is_not_trained_on():
    merged = merge_identical(
        [entry("1", split="train"), entry("1", split="test"), entry("1", split="val")]
    )

    assert [image.split for image in merged.kept] == ["test"]
    assert merged.leaks == 1


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"))), st.randoms()
)
def test_the_order_of_files_changes_nothing(pairs, shuffler):
    images = [entry(sha, label, f"{at}") for at, (sha, label) in enumerate(pairs)]
    shuffled = list(images)
    shuffler.shuffle(shuffled)

    assert merge_identical(images) == merge_identical(shuffled)


def test_merging_copies_no_hash():
    """There may be a million pictures, and a hash written out takes 113 bytes."""
    count = 10_000
    images = [
        SimpleNamespace(
            digest=number.to_bytes(32), pixels_digest=number.to_bytes(32),
            label="cat", split=None, name="a.jpg",
        )
        for number in range(count)
    ]  # fmt: skip

    tracemalloc.start()
    merged = merge_identical(images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert len(merged.kept) == count
    assert peak < 60 * count


def test_the_fingerprint_depends_on_content_label_and_split_alone():
    rows = [("1", "cat", "train"), ("2", "dog", "test"), ("3", "cat", "val")]

    with pytest.raises(ValueError, match="order of hashes"):
        fingerprint_rows(rows[::-1])
    for other in (("0", "cat", "train"), ("1", "emu", "train"), ("1", "cat", "val")):
        assert fingerprint_rows([other, *rows[1:]]) != fingerprint_rows(rows)


def test_the_fingerprint_is_the_one_that_was_published():
    """A change of it would make every published version another one."""
    rows = [("1" * 64, "cat", "train"), ("2" * 64, "dog", "test")]

    assert fingerprint_rows(rows).startswith("127ff4b74b8f097fced7f784a484d9ae")
