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
    "conflicts": [{"files": ["d.jpg", "e.jpg"], "labels": ["cat", "dog"]}],
}


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
    assert "came as “cat” and “dog”" in found["label_conflict"].sentence


def test_conflicts_in_quarantine_take_the_place_of_those_in_the_report(pixels):
    row = {"sha256": "f" * 64, "source_name": "d.jpg", "split": "train", "label": ""}
    mine = {**row, "sha256": "e" * 64, "label": "cat", "labels": ["cat"]}
    kept = [{**row, "labels": ["dog", "cat"]}, mine]

    found = examine(make_pictures(pixels), report=REPORT, quarantine=kept)

    (conflict,) = [f for f in found if f.kind == "label_conflict"]
    assert (conflict.images, conflict.labels) == (("f" * 64,), ("cat", "dog"))


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

    assert len(examine(nothing, report=REPORT)) == 3
