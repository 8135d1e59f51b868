"""Small classes and groups that several splits share are told."""

import numpy as np
import pytest

from tests.worker.insight.doctor.made_pictures import make_pictures
from worker.insight.doctor.dealing import find_imbalance, find_shared_groups

SPLITS = {"train": np.arange(4), "val": np.arange(4, 6), "test": np.arange(6, 8)}
PLAIN = np.zeros((8, 8, 8, 3), np.uint8)


def test_a_small_class_is_told_by_name():
    labels = np.array([0] * 30 + [1] * 3)

    (finding,) = find_imbalance(
        make_pictures(np.zeros((33, 8, 8, 3), np.uint8), labels=labels)
    )

    assert "“class1” has 3 pictures and “class0” 30" in finding.sentence
    assert finding.names == ("30.jpg", "31.jpg", "32.jpg")
    assert len(finding.images) == 3
    assert find_imbalance(make_pictures(PLAIN)) == []


def test_who_accepts_a_small_class_has_not_accepted_a_much_smaller_one():
    keys = []
    for few in (16, 14, 5):
        labels = np.array([0] * 100 + [1] * few)
        pixels = np.zeros((len(labels), 8, 8, 3), np.uint8)
        (finding,) = find_imbalance(make_pictures(pixels, labels=labels))
        assert len(finding.images) == 4
        keys.append(finding.key)

    assert keys[0] == keys[1] != keys[2]


def test_a_group_in_several_splits_is_told():
    groups = ["ann", "ann", "bob", "bob", "cyd", None, "ann", None]

    (finding,) = find_shared_groups(make_pictures(PLAIN, splits=SPLITS, groups=groups))

    assert finding.kind == "group_leak"
    assert finding.names == ("0.jpg", "6.jpg", "1.jpg")  # one of each split first
    assert "“ann” is spread over several splits (2 in training and 1 in test)" in (
        finding.sentence
    )
    assert "what test measures is known by heart" in finding.sentence
    assert finding.action == "split"


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        (
            ["ann", None, None, None, "ann", None, None, None],
            "what validation measures",
        ),
        ([None] * 4 + ["ann", None, "ann", None], "so the test flatters it a little"),
    ],
)
def test_what_a_group_spoils_depends_on_its_splits(groups, words):
    (finding,) = find_shared_groups(make_pictures(PLAIN, splits=SPLITS, groups=groups))

    assert words in finding.sentence


def test_folders_that_name_more_than_class_or_split_are_groups():
    names = [f"train/class0/film1/{row}.jpg" for row in range(2)]
    names += [f"class0/film{row}/{row}.jpg" for row in range(2, 7)]
    names += ["class0/film1/7.jpg"]

    (finding,) = find_shared_groups(make_pictures(PLAIN, splits=SPLITS, names=names))

    assert "folder “film1”" in finding.sentence


def test_folder_of_a_class_that_is_no_more_is_no_group():
    names = [f"class0/{row}.jpg" for row in range(5)] + ["old/5.jpg"] * 3
    pictures = make_pictures(PLAIN, splits=SPLITS, names=names)

    assert len(find_shared_groups(pictures)) == 1
    assert find_shared_groups(pictures, class_folders=["class0", "old"]) == []


FILMS = [f"class0/film{row % 2}/{row}.jpg" for row in range(8)]


def test_clusters_of_copies_do_not_hide_torn_folders():
    groups = ["copies", "copies", *[None] * 6]

    found = find_shared_groups(
        make_pictures(PLAIN, splits=SPLITS, names=FILMS, groups=groups)
    )

    assert [f.sentence[:18] for f in found] == [
        "The folder “film0”",
        "The folder “film1”",
    ]


def test_values_of_a_column_that_lie_in_several_splits_are_told():
    pictures = make_pictures(
        PLAIN,
        splits=SPLITS,
        column="patient",
        values=[f"p{row % 2}" for row in range(8)],
    )

    found = find_shared_groups(pictures)

    assert [f.kind for f in found] == ["group_leak"] * 2
    assert all(f.sentence.startswith("The patient “p") for f in found)
    assert all(f.sentence.endswith("Deal the splits by patient.") for f in found)


@pytest.mark.parametrize(("of_rare", "is_told"), [(12, True), (20, False)])
def test_patient_with_most_of_a_rare_class_is_told_but_not_its_other_name(
    of_rare, is_told
):
    values = [f"p{row % 40}" for row in range(80)] + [
        "ann" if row < of_rare else f"p{row}" for row in range(20)
    ]
    ends = {"train": (0, 90), "val": (90, 95), "test": (95, 100)}
    pictures = make_pictures(
        np.zeros((100, 8, 8, 3), np.uint8),
        splits={name: np.arange(*span) for name, span in ends.items()},
        labels=[0] * 80 + [1] * 20,
        column="patient",
        values=values,
    )

    found = find_shared_groups(pictures)

    assert any("patient “ann”" in finding.sentence for finding in found) is is_told


def test_folders_that_are_the_groups_are_told_once():
    groups = [f"film{row % 2}" for row in range(8)]
    pictures = make_pictures(PLAIN, splits=SPLITS, names=FILMS, groups=groups)

    by_folder = find_shared_groups(pictures, is_by_folder=True)
    by_column = find_shared_groups(pictures)

    assert ["The group “film" in f.sentence for f in by_folder] == [True, True]
    assert [f.key for f in by_column] == [f.key for f in by_folder]


def test_a_folder_that_holds_most_of_a_class_is_no_group():
    names = [f"everything/class0/{row}.jpg" for row in range(8)]

    pictures = make_pictures(PLAIN, splits=SPLITS, names=names)

    assert find_shared_groups(pictures) == []


def test_places_that_hold_all_classes_are_groups_however_large():
    names = [f"place{row % 4}/class{row // 4 % 2}/{row}.jpg" for row in range(40)]
    ends = {"train": (0, 30), "val": (30, 35), "test": (35, 40)}
    splits = {name: np.arange(*span) for name, span in ends.items()}
    pictures = make_pictures(
        np.zeros((40, 8, 8, 3), np.uint8),
        splits=splits,
        names=names,
        labels=[row // 4 % 2 for row in range(40)],
    )

    found = find_shared_groups(pictures)

    assert [f.sentence.split("“")[1].split("”")[0] for f in found] == [
        "place0", "place1", "place2", "place3",
    ]  # fmt: skip
