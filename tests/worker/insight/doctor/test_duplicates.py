"""Copies are found whatever was done to them, and what is merely alike is not."""

import json

import numpy as np
import pytest

from tests.worker.insight.doctor.made_pictures import (
    crop,
    draw_texture,
    encode_again,
    make_pictures,
    make_textures,
)
from worker.insight.doctor import duplicates
from worker.insight.doctor.comparison import compare_pairs
from worker.insight.doctor.examination import examine, find_likeness

CHANGES = {
    "encoded again": encode_again,
    "brighter": lambda p: np.clip(p * 1.15, 0, 255).astype(np.uint8),
    "cropped": crop,
    "cropped by more": lambda p: crop(p, 0.05),
    "the same": lambda p: p,
}


def find_kinds(pictures):
    return [f for f in examine(pictures) if f.group >= 0]


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_copy_is_the_same(change):
    picture = draw_texture(0, 224)
    pixels = np.stack([picture, change(picture), draw_texture(1, 224)])

    likeness = compare_pairs(pixels, np.array([[0, 1], [0, 2], [1, 2]]))

    assert likeness[0] > 0.6
    assert likeness[1:].tolist() == [0, 0]


def test_objects_behind_one_grid_are_no_copies():
    pixels = np.stack([draw_texture(seed, 160) // 4 + 90 for seed in range(220)])
    pixels[:, ::28] = 20
    pixels[:, :, ::56] = 20
    pixels[1] = encode_again(pixels[0], 90)

    likeness = compare_pairs(pixels, np.array([[0, 1], [0, 2], [3, 4], [5, 6]]))

    assert likeness[0] > 0.9
    assert likeness[1:].tolist() == [0, 0, 0]


def test_plain_pictures_are_no_copies_of_each_other():
    pixels = np.full((3, 96, 96, 3), 255, np.uint8)

    assert compare_pairs(pixels, np.array([[0, 1], [1, 2]])).tolist() == [0, 0]


def test_pairs_that_are_too_many_to_be_compared_are_told(monkeypatch, capfd):
    monkeypatch.setattr(duplicates, "MOST_COMPARED", 1)
    pixels = make_textures(12)
    pixels[3], pixels[5] = encode_again(pixels[7]), encode_again(pixels[9])

    found = find_kinds(make_pictures(pixels))

    assert len(found) == 1
    told = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    (note,) = [event["message"] for event in told if event["event"] == "note"]
    assert "2 pairs of pictures may show the same; the 1 likest are compared" in note


def test_copies_in_one_split_are_near_duplicates():
    pixels = make_textures(12)
    pixels[3] = encode_again(pixels[7])

    (finding,) = find_kinds(make_pictures(pixels))

    assert (finding.kind, finding.action) == ("near_duplicate", "exclude")
    assert set(finding.names) == {"3.jpg", "7.jpg"}
    assert "3.jpg and 7.jpg show the same, in training: keep 3.jpg alone" in (
        finding.sentence
    )


def test_copies_across_splits_are_leaks_and_the_test_split_is_worst():
    pixels = make_textures(12)
    pixels[6], pixels[9] = encode_again(pixels[0]), encode_again(pixels[1])
    splits = {"train": range(6), "val": range(6, 9), "test": range(9, 12)}
    splits = {name: np.array(rows) for name, rows in splits.items()}

    found = find_kinds(make_pictures(pixels, splits=splits))

    assert [f.kind for f in found] == ["split_leak", "split_leak"]
    assert [f.names for f in found] == [("9.jpg", "1.jpg"), ("6.jpg", "0.jpg")]
    assert found[0].score > found[1].score
    assert found[0].sentence == (
        "9.jpg in test and 1.jpg in training show the same: what test measures is "
        "known by heart. Keep 9.jpg alone, or all of them in one split."
    )
    assert found[0].splits == ("test", "train")


def test_copies_in_validation_and_test_alone_are_not_known_by_heart():
    pixels = make_textures(12)
    pixels[9] = encode_again(pixels[6])
    splits = {"train": range(6), "val": range(6, 9), "test": range(9, 12)}
    splits = {name: np.array(rows) for name, rows in splits.items()}

    (finding,) = find_kinds(make_pictures(pixels, splits=splits))

    assert "by heart" not in finding.sentence
    assert (
        "9.jpg in test and 6.jpg in validation show the same: validation chooses"
        in (finding.sentence)
    )


def test_what_several_splits_measure_is_said_of_all_of_them():
    pixels = make_textures(12)
    pixels[6], pixels[9] = encode_again(pixels[0], 80), encode_again(pixels[0], 70)
    splits = {"train": range(6), "val": range(6, 9), "test": range(9, 12)}
    splits = {name: np.array(rows) for name, rows in splits.items()}

    (finding,) = find_kinds(make_pictures(pixels, splits=splits))

    assert "what validation and test measure is known by heart" in finding.sentence
    assert finding.splits == ("test", "val", "train")


def test_copies_under_two_labels_are_a_conflict():
    pixels = make_textures(12)
    pixels[3] = encode_again(pixels[7])
    labels = [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]

    (finding,) = find_kinds(make_pictures(pixels, labels=labels))

    assert finding.kind == "label_conflict"
    assert "“class0”" in finding.sentence
    assert "under different labels" in finding.sentence
    assert set(finding.labels) == {"class0", "class1"}


def test_copies_share_a_group_so_that_folds_keep_them_together():
    pixels = make_textures(6)
    pixels[5] = encode_again(pixels[2])

    groups = find_likeness(make_pictures(pixels)).duplicates.groups

    assert groups[5] == groups[2]
    assert len(np.unique(groups)) == 5
