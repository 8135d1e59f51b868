"""Whole groups go into one split, and every class comes near its shares."""

import hashlib
import random
from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import UserError
from worker.ingest.group_split import deal_groups
from worker.ingest.split import Keyed, SplitShares

SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


def image(number, label, given=None, group=None):
    return Keyed(hashlib.sha256(f"{number}".encode()).digest(), label, given, group)


def alone(label, count, given=None, start=0):
    return [image(f"{label} {n}", label, given) for n in range(start, start + count)]


@st.composite
def grouped(draw):
    """Groups of many sizes, of one class each."""
    images = []
    for label in "ab":
        sizes = draw(st.lists(st.integers(1, 12), min_size=3, max_size=12))
        for at, size in enumerate(sizes):
            images += [
                image(f"{label} {at} {n}", label, None, f"{label}{at}")
                for n in range(size)
            ]
    return images


@st.composite
def mixed(draw):
    """Groups that hold both classes."""
    return [
        image(f"{at} {label} {n}", label, None, f"g{at}")
        for at in range(draw(st.integers(6, 20)))
        for label in "ab"
        for n in range(draw(st.integers(1, 10)))
    ]


@settings(deadline=None, max_examples=50)
@given(st.one_of(grouped(), mixed()), st.integers(0, 3))
def test_no_group_is_ever_split(images, seed):
    splits, _ = deal_groups(images, SplitShares(seed=seed))

    found = defaultdict(set)
    for one, split in zip(images, splits, strict=True):
        found[one.group].add(split)
    assert all(len(there) == 1 for there in found.values())


@settings(deadline=None, max_examples=50)
@given(grouped())
def test_each_class_keeps_its_shares_as_well_as_its_groups_allow(images):
    splits, _ = deal_groups(images)

    for label in "ab":
        sizes = Counter(one.group for one in images if one.label == label)
        counts = Counter(
            s for one, s in zip(images, splits, strict=True) if one.label == label
        )
        for split, share in SHARES.items():
            assert counts[split] > 0
            wanted = share * sizes.total()
            assert abs(counts[split] - wanted) <= 3 * max(sizes.values())


@settings(deadline=None, max_examples=50)
@given(mixed())
def test_groups_of_several_classes_keep_the_shares_of_all(images):
    splits, _ = deal_groups(images)

    sizes = Counter(one.group for one in images)
    counts = Counter(splits)
    for split, share in SHARES.items():
        assert abs(counts[split] - share * len(images)) <= 3 * max(sizes.values())


@pytest.mark.parametrize("seed", range(5))
def test_order_decides_nothing(seed):
    draw = random.Random(seed)
    images = [
        image(f"{at} {n}", "ab"[at % 2], None, f"g{at}")
        for at in range(20)
        for n in range(draw.randrange(1, 9))
    ]
    shuffled = draw.sample(images, len(images))

    before = dict(zip(images, deal_groups(images)[0], strict=True))
    after = dict(zip(shuffled, deal_groups(shuffled)[0], strict=True))

    assert before == after


def test_images_by_themselves_are_dealt_by_the_shares():
    images = alone("a", 100) + alone("b", 3)

    splits, notes = deal_groups(images)

    counts = Counter(zip((one.label for one in images), splits, strict=True))
    assert counts["a", "train"] == 70
    assert counts["a", "val"] == counts["a", "test"] == 15
    assert {counts["b", split] for split in SHARES} == {1}
    assert notes == []


def test_what_is_kept_stays_and_what_is_new_completes_it():
    kept = (
        alone("a", 70, "train")
        + alone("a", 15, "val", 70)
        + alone("a", 15, "test", 85)
        + alone("b", 8, "train")
        + alone("b", 1, "val", 8)
        + alone("b", 1, "test", 9)
    )
    images = kept + alone("a", 100, None, 100) + alone("b", 10, None, 10)

    splits, _ = deal_groups(images)

    assert splits[: len(kept)] == [one.given for one in kept]
    counts = Counter(zip((one.label for one in images), splits, strict=True))
    assert [counts["a", split] for split in SHARES] == [140, 30, 30]
    assert [counts["b", split] for split in SHARES] == [14, 3, 3]


def test_a_group_in_two_splits_goes_where_most_of_it_is():
    images = [
        *alone("a", 20),
        *alone("b", 20),
        *(image(f"x{n}", "a", "train", "twins") for n in range(3)),
        image("x3", "a", "test", "twins"),
        image("y0", "b", "train", "pair"),
        image("y1", "b", "test", "pair"),
        image("z", "b", "val"),
        image("t", "b", "test"),
    ]

    splits, notes = deal_groups(images)

    assert splits[40:46] == ["train"] * 4 + ["test"] * 2
    assert "2 images were moved out of the given split" in notes[0]


def test_too_few_groups_are_refused():
    images = [image(f"{c}{n}", c, None, c) for c in "ab" for n in range(9)]

    with pytest.raises(UserError, match="No image is left for the validation and"):
        deal_groups(images)
