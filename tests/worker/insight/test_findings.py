"""Which pictures of findings get a small copy, where not all can have one."""

import json
from itertools import count

import numpy as np

from tests.worker.insight.doctor.made_pictures import make_pictures
from worker.insight.doctor.examination import MOST_FINDINGS
from worker.insight.doctor.finding import KINDS, Finding, make_key
from worker.insight.doctor.ingest_report import tell_report
from worker.insight.findings import count_findings, list_shown
from worker.insight.write import MOST_THUMBNAILS

NOTHING = {"confusions": []}


def make_findings(**sizes):
    """For each kind so many findings of so many pictures; no two share one."""
    row = count()
    return [
        Finding(make_key(kind, [str(at)]), kind, 1.0, "", "none", images=images)
        for kind, (findings, pictures) in sizes.items()
        for at in range(findings)
        for images in [tuple(f"{next(row):064x}" for _ in range(pictures))]
    ]


def list_thumbnails(findings, confusions=NOTHING):
    total = sum(len(finding.images) for finding in findings)
    pictures = make_pictures(np.zeros((total, 1, 1, 3), np.uint8))
    rows = list(dict.fromkeys(list_shown(pictures, findings, confusions)))
    return [pictures.sha256s[row] for row in rows[:MOST_THUMBNAILS]]


def test_beside_two_thousand_suspects_twenty_large_groups_have_pictures():
    findings = make_findings(suspect_label=(2_000, 1), group_leak=(20, 200))

    shown = list_thumbnails(findings)

    assert len(shown) == 2_000 + 20 * 24
    for finding in findings:
        assert set(finding.images[:24]) <= set(shown)


def test_every_finding_has_its_first_picture_before_any_has_its_second():
    findings = make_findings(suspect_label=(50, 1), group_leak=(20, 200))

    shown = list_thumbnails(findings)

    assert set(shown[:70]) == {finding.images[0] for finding in findings}
    at_once = {sha for finding in findings for sha in finding.images[:4]}
    assert set(shown[: len(at_once)]) == at_once


def test_kinds_take_turns():
    findings = make_findings(suspect_label=(3, 1), blurred=(2, 1))

    assert [int(sha, 16) for sha in list_thumbnails(findings)] == [0, 3, 1, 4, 2]


def test_all_findings_that_can_be_listed_have_a_picture():
    kinds = [kind for kind in KINDS if kind != "unreadable"]
    findings = make_findings(**dict.fromkeys(kinds, (MOST_FINDINGS, 1)))

    assert len(list_thumbnails(findings)) == len(findings)


def test_files_that_ingest_counted_and_did_not_list_count(tmp_path):
    copies = [
        {"file": f"{at}.jpg", "code": "copy", "reason": "It is so."} for at in range(2)
    ]
    report = {
        "skipped": [*copies, {"file": "b.jpg", "code": "again", "reason": "It is so."}],
        "skipped_by_code": {"copy": 90_000, "damaged": 7, "again": 500, "junk": 80},
    }
    (tmp_path / "report.json").write_text(json.dumps(report))
    nothing = make_pictures(np.zeros((0, 1, 1, 3), np.uint8))
    found = tell_report(report, nothing)

    counted = count_findings(found, frozenset([found[0].key]), tmp_path)

    assert [finding.names for finding in found] == [("0.jpg",), ("1.jpg",)]
    assert counted["counts"] == {"exact_duplicate": 89_999, "unreadable": 7}
    assert (counted["total"], counted["accepted"]) == (90_006, 1)


def test_examples_of_confusions_come_first():
    findings = make_findings(blurred=(2, 1))
    examples = [{"sha256": findings[1].images[0], "name": "1.jpg"}]

    shown = list_thumbnails(findings, {"confusions": [{"examples": examples}]})

    assert shown == [findings[1].images[0], findings[0].images[0]]
