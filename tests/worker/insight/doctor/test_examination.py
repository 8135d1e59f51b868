"""Findings are the same whatever the order, bounded, and survive their table."""

import numpy as np
import pytest

from tests.worker.insight.doctor.made_pictures import (
    encode_again,
    make_pictures,
    make_textures,
)
from worker.insight.doctor import examination
from worker.insight.doctor.examination import examine, list_readable
from worker.insight.doctor.finding import (
    KINDS,
    build_finding,
    make_key,
    read_findings,
    write_findings,
)

REPORT = {
    "skipped": [
        {"file": "a.jpg", "code": "copy", "reason": "It shows the same as “b.jpg”."},
        {"file": "c.png", "code": "damaged", "reason": "It is cut off."},
        {"file": "read me.txt", "code": "not_an_image", "reason": "It is text."},
    ],
}
CONTESTED = {
    "sha256": "f" * 64, "source_name": "d.jpg", "split": "train", "label": "",
    "labels": ["dog", "cat"],
}  # fmt: skip


@pytest.fixture(scope="module")
def pixels():
    made = make_textures(16)
    made[5], made[9] = encode_again(made[2]), encode_again(made[3])
    return made


def test_keys_do_not_depend_on_the_order_of_the_pictures(pixels):
    order = np.random.default_rng(3).permutation(16)
    hashes = [f"{row:064x}" for row in range(16)]

    first = examine(make_pictures(pixels, sha256s=hashes))
    other = examine(
        make_pictures(pixels[order], sha256s=[hashes[row] for row in order])
    )

    assert {f.key for f in first if f.kind == "near_duplicate"} == {
        f.key for f in other if f.kind == "near_duplicate"
    }
    assert make_key("outlier", ["b", "a"]) == make_key("outlier", ["a", "b"])
    assert make_key("outlier", ["a"]) != make_key("blurred", ["a"])


def test_the_report_of_ingest_is_told(pixels):
    found = {f.kind: f for f in examine(make_pictures(pixels), report=REPORT)}

    assert found["exact_duplicate"].names == ("a.jpg",)
    assert found["unreadable"].sentence == ("c.png could not be used. It is cut off.")


@pytest.mark.parametrize(
    ("file", "code", "is_told"),
    [
        ("scan 7", "damaged", True),
        ("scan.7", "too_many_pixels", True),
        ("labels.csv, line 3", "not_fetched", True),
        ("pets.zip", "cut_off", True),
        ("a.jpg", "too_large", True),
        ("a.JPG", "unsupported_compression", True),
        ("a.png", "bomb", True),
        ("film.mp4", "too_large", False),
        ("notes.txt", "encrypted", False),
        (".DS_Store", "junk", False),
    ],
)
def test_what_was_lost_is_told_whatever_it_is_called(file, code, is_told):
    nothing = make_pictures(np.zeros((0, 8, 8, 3), np.uint8))
    report = {"skipped": [{"file": file, "code": code, "reason": "It is so."}]}

    found = examine(nothing, report=report)

    assert [f.kind for f in found] == ["unreadable"] * is_told


def test_a_copy_is_shown_by_the_picture_that_is_kept(pixels):
    shas = [f"{1:064x}", CONTESTED["sha256"], "0" * 63 + "x", None]
    skips = [
        {"file": f"{at}", "code": "copy", "reason": "", "same_as": sha}
        for at, sha in enumerate(shas)
    ]
    report = {"skipped": skips}

    found = examine(make_pictures(pixels), report=report, quarantine=[CONTESTED])

    shown = {f.sentence[0]: f for f in found if f.kind == "exact_duplicate"}
    assert (shown["0"].images, shown["0"].names) == ((shas[0],), ("1.jpg",))
    assert (shown["0"].labels, shown["0"].splits) == (("class0",), ("train",))
    assert (shown["1"].images, shown["1"].names) == ((shas[1],), ("d.jpg",))
    assert [shown[at].images for at in "23"] == [(), ()]
    assert shown["2"].names == ("2",)


def test_what_lies_in_quarantine_under_several_labels_is_told(pixels):
    mine = {**CONTESTED, "sha256": "e" * 64, "label": "cat", "labels": ["cat"]}

    once_test = {**CONTESTED, "split": "test"}

    found = examine(make_pictures(pixels), quarantine=[once_test, mine])

    (conflict,) = [f for f in found if f.kind == "label_conflict"]
    assert (conflict.images, conflict.labels) == (("f" * 64,), ("cat", "dog"))
    assert conflict.splits == ("",)  # no choice for many spares it as a test picture


def test_what_was_accepted_of_one_label_is_not_accepted_of_another():
    pixels = np.zeros((3, 8, 8, 3), np.uint8)
    keys = {
        kind: [
            build_finding(
                make_pictures(pixels, labels=labels), kind, [0, 1],
                score=1, sentence="", action="none",
            ).key
            for labels in ([0, 1, 1], [1, 0, 1], [1, 1, 0])
        ]
        for kind in ("suspect_label", "outlier", "label_conflict", "blurred")
    }  # fmt: skip

    for kind in ("suspect_label", "outlier", "label_conflict"):
        assert keys[kind][0] == keys[kind][1] != keys[kind][2]
    assert len(set(keys["blurred"])) == 1
    assert make_key("outlier", ["a", "b"]) != make_key("outlier", ["a"], ["b"])


def test_accepted_findings_come_last_and_take_nobodys_place(pixels, monkeypatch):
    monkeypatch.setattr(examination, "MOST_FINDINGS", 1)
    pictures = make_pictures(pixels)
    worst = examine(pictures)[0]

    found = examine(pictures, accepted=[worst.key])
    listed = [f for f in list_readable(found, [worst.key]) if f.group >= 0]

    assert worst.kind == "near_duplicate"
    assert [f.key == worst.key for f in listed] == [False, True]
    assert len([f for f in list_readable(found) if f.group >= 0]) == 1


def test_kinds_come_in_the_order_of_the_pages(pixels):
    kinds = [f.kind for f in examine(make_pictures(pixels), report=REPORT)]

    assert kinds == sorted(kinds, key=KINDS.index)


def test_findings_survive_their_table(tmp_path, pixels):
    found = examine(make_pictures(pixels), report=REPORT)
    path = tmp_path / "findings.parquet"

    write_findings(found, path)

    again = read_findings(path)
    assert [f.key for f in again] == [f.key for f in found]
    assert again[0].names == found[0].names
    assert again[0].score == pytest.approx(found[0].score)


def test_no_findings_make_a_table_too(tmp_path):
    write_findings([], tmp_path / "findings.parquet")

    assert read_findings(tmp_path / "findings.parquet") == []


@pytest.mark.parametrize("value", [np.nan, 1.0], ids=["no number", "constant"])
def test_useless_features_are_no_reason_to_fail(pixels, value):
    features = np.full((16, 8), value, np.float32)

    found = examine(make_pictures(pixels, features=features, labels=[0, 1] * 8))

    assert {"label_conflict", "near_duplicate"} & {f.kind for f in found}


def test_a_single_picture_has_nothing_wrong_with_it(pixels):
    assert examine(make_pictures(pixels[:1])) == []


def test_an_empty_version_has_what_ingest_found():
    nothing = make_pictures(np.zeros((0, 8, 8, 3), np.uint8))

    assert len(examine(nothing, report=REPORT, quarantine=[CONTESTED])) == 3


@pytest.mark.parametrize(("by", "torn"), [("folder", 0), ("duplicates", 2)])
def test_folders_are_looked_at_unless_they_are_the_groups(pixels, by, torn):
    pictures = make_pictures(
        pixels,
        names=[f"class0/film{row % 2}/{row}.jpg" for row in range(16)],
        splits={"train": np.arange(12), "test": np.arange(12, 16)},
        groups=["copies", "copies", *[None] * 14],
    )

    found = examine(pictures, report={"split": {"by": by}})

    assert len([f for f in found if f.kind == "group_leak"]) == torn


def test_progress_is_told_while_labels_are_judged(pixels):
    told = []

    examine(
        make_pictures(pixels, labels=[0, 1] * 8),
        threads=1,
        tell=lambda unit, done, total: told.append((unit, done, total)),
    )

    done = {unit for unit, done, total in told if done == total}
    assert {"pictures compared", "folds judged"} <= done


@pytest.mark.parametrize(
    ("size", "strength"),
    [((2_000, 128, 6), 0.01), ((100_000, 128, 1_000), None)],
)
def test_many_classes_are_judged_by_what_takes_seconds(size, strength):
    assert examination._choose_recipe(*size).strength == strength
