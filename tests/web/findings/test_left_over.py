"""Of more pictures than one job carries what fits is decided, and the rest is told."""

import pytest

from tests.web.findings.decided import (
    key_of,
    list_edits,
    list_ingests,
    picture_of,
    suspects,
)
from tests.web.forecast_example import digest_of, make_findings
from web.datasets.findings import FindingKind, count_unlisted


@pytest.fixture
def few(monkeypatch):
    """Lets one decision be about so many pictures."""

    def limit(most):
        monkeypatch.setattr("web.datasets.finding_choices.MAX_IMAGES", most)

    return limit


class TestFindings:
    def test_worst_that_fit_are_decided_and_the_rest_is_counted(
        self, rows, dataset, ask, few
    ):
        few(3)

        answer = ask(kind="suspect_label", action="exclude", include_test=True)

        assert answer.status_code == 202, answer.text
        assert (answer.json["images"], answer.json["left"]) == ({"exclude": 3}, 1)
        assert list_edits(rows, dataset) == [("exclude", None, suspects(0, 1, 2))]
        assert "1 finding is left for the next version" in answer.json["notes"][0]

    def test_page_says_so(self, ana, dataset, decide, few):
        few(2)

        decide(whole="suspect_label", action="exclude", key="k")

        shown = ana.get(f"/datasets/{dataset}").text
        assert "2 pictures excluded" in shown
        assert "2 findings are left for the next version" in shown

    def test_what_was_chosen_one_by_one_goes_first(self, rows, dataset, ask, few):
        few(2)
        own = {"key": key_of("suspect_label", 3), "action": "exclude"}

        answer = ask(choices=[own], kind="suspect_label", action="exclude")

        assert answer.json["left"] == 2
        assert list_edits(rows, dataset) == [("exclude", None, suspects(3, 0))]

    def test_smaller_one_is_decided_where_a_large_one_does_not_fit(
        self, ana, rows, dataset, ask, few
    ):
        few(2)
        found = make_findings(counts={"near_duplicate": 1, "blurred": 1})
        found[0]["splits"] = ["train"] * 3
        rows.forecast(ana.user_id, dataset, found)
        choices = [{"key": row["key"], "action": "exclude"} for row in found]

        answer = ask(choices=choices, keep="none")

        assert answer.json["left"] == 1
        assert list_edits(rows, dataset) == [
            ("exclude", None, [picture_of("blurred")])
        ]  # fmt: skip

    def test_where_nothing_fits_nothing_is_made(self, rows, dataset, ask, few):
        few(0)

        answer = ask(kind="suspect_label", action="exclude")

        assert answer.status_code == 400
        assert "fewer pictures at a time" in answer.json["detail"]
        assert list_ingests(rows, dataset) == []

    def test_where_all_fits_nothing_is_left(self, ask):
        answer = ask(kind="suspect_label", action="exclude").json

        assert (answer["left"], answer["notes"], answer["clusters"]) == (0, [], None)


class TestClusters:
    def test_those_that_did_not_fit_are_counted(self, ana, rows, dataset, ask, few):
        few(7)
        found = make_findings(counts={"split_leak": 1, "near_duplicate": 3})
        rows.forecast(ana.user_id, dataset, found)

        answer = ask(split={"by": "duplicates", "again": True}).json

        assert answer["clusters"] == {
            "held": 2, "left": 2, "left_images": 6, "cut": 0, "unlisted": 0,
        }  # fmt: skip
        assert "2 clusters with 6 pictures that look alike" in answer["notes"][0]
        (job,) = list_ingests(rows, dataset)
        assert job.spec["split"]["alike"] == [row["images"] for row in found[:2]]

    def test_cut_ones_are_told_on_the_page(self, ana, rows, dataset, decide):
        (row,) = make_findings(counts={"near_duplicate": 1})
        names = [f"copy {number}.png" for number in range(200)]
        row |= {"names": names, "images": [digest_of(name) for name in names]}
        row |= {"labels": ["intact"] * 200, "splits": ["train"] * 200}
        rows.forecast(ana.user_id, dataset, [row])

        decide(deal="duplicates", key="k")

        shown = ana.get(f"/datasets/{dataset}").text
        assert "Of 1 cluster only the first 200 pictures are held together" in shown

    def test_one_that_is_a_leak_and_a_conflict_counts_once(
        self, ana, rows, dataset, ask
    ):
        found = make_findings(counts={"label_conflict": 1, "split_leak": 1})
        found[0]["images"] = found[1]["images"][::-1]
        rows.forecast(ana.user_id, dataset, found)

        answer = ask(split={"by": "duplicates", "again": True}).json

        assert answer["clusters"]["held"] == 1

    def test_those_beyond_the_list_are_counted_by_the_forecast(self):
        counts = {"near_duplicate": 2_005, "split_leak": 3}
        summary = {"findings": {"counts": counts, "most_listed": 2_000}}

        unlisted = [
            count_unlisted(summary, kind)
            for kind in (FindingKind.NEAR_DUPLICATE, FindingKind.SPLIT_LEAK)
        ]

        assert unlisted == [5, 0]
        assert count_unlisted({}, FindingKind.SPLIT_LEAK) == 0
