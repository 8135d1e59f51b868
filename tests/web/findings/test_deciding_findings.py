"""Deciding about findings: what is chosen for many, by the API, and by two at once."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from shared import user_store
from shared.errors import ConflictError
from tests.web.findings.decided import (
    key_of,
    list_accepted,
    list_edits,
    list_ingests,
    picture_of,
)
from tests.web.forecast_example import make_findings
from web.auth.datastore import make_account
from web.datasets.finding_choices import Choice, Wishes, decide_findings


@pytest.fixture
def doubted(ana, rows, dataset):
    """Four doubtful labels, the last two of them in the test split."""
    found = make_findings(counts={"suspect_label": 4})
    for row in found[2:]:
        row["splits"] = ["test"]
    rows.forecast(ana.user_id, dataset, found)
    return [row["key"] for row in found]


@pytest.fixture
def ask(api, ana, dataset):
    """Sends decisions to the API."""
    client = api(ana.user_id)

    def send(**body):
        path = f"/datasets/{dataset}/findings/decisions"
        return client("POST", path, json={"version": 1, **body})

    return send


def suspects(*numbers):
    return [picture_of("suspect_label", number) for number in numbers]


class TestTestPictures:
    def test_what_is_chosen_for_many_leaves_them(
        self,
        ana,
        rows,
        dataset,
        decide,
        doubted,
    ):
        decide(chosen=doubted, action="relabel", key="k")

        assert list_edits(rows, dataset) == [("relabel", "defective", suspects(0, 1))]
        shown = ana.get(f"/datasets/{dataset}").text
        assert "2 pictures of the test split stayed as they were" in shown

    @pytest.mark.usefixtures("doubted")
    def test_whoever_includes_them_gets_them(self, rows, dataset, decide):
        decide(whole="suspect_label", action="exclude", test="yes", key="k")

        assert list_edits(rows, dataset) == [("exclude", None, suspects(0, 1, 2, 3))]

    def test_a_choice_of_its_own_holds(self, rows, dataset, decide, doubted):
        decide(**{f"do__{doubted[3]}": "exclude"}, key="k")

        assert list_edits(rows, dataset) == [("exclude", None, suspects(3))]

    def test_of_them_alone_nothing_is_made(self, rows, dataset, decide, doubted):
        answer = decide(chosen=doubted[2:], action="exclude", key="k")

        assert answer.status_code == 400
        assert "about pictures of the test split alone" in answer.text
        assert list_ingests(rows, dataset) == []


class TestApi:
    def test_each_finding_gets_what_was_chosen_for_it(self, rows, dataset, ask):
        answer = ask(
            choices=[
                {"key": key_of("suspect_label"), "action": "relabel"},
                {"key": key_of("outlier"), "action": "quarantine"},
                {"key": key_of("blurred"), "action": "accept"},
            ]
        )

        assert answer.status_code == 202, answer.text
        assert answer.json["images"] == {"relabel": 1, "quarantine": 1}
        assert (answer.json["accepted"], answer.json["passed_over"]) == (1, 0)
        (job,) = list_ingests(rows, dataset)
        assert answer.json["job_id"] == job.id
        assert list_accepted(rows, dataset) == {key_of("blurred")}

    @pytest.mark.usefixtures("doubted")
    def test_all_of_a_kind_leave_test_pictures(self, rows, dataset, ask):
        answer = ask(kind="suspect_label", action="relabel")

        assert answer.json["left_in_test"] == 2
        assert list_edits(rows, dataset) == [("relabel", "defective", suspects(0, 1))]

    def test_splits_are_dealt_anew(self, rows, dataset, ask):
        ask(split={"by": "folder", "again": True})

        (job,) = list_ingests(rows, dataset)
        assert job.spec["split"] == {"by": "folder", "again": True}

    @pytest.mark.parametrize(
        ("body", "told"),
        [
            ({}, "400: Nothing is chosen"),
            ({"kind": "blurred"}, "422: go together"),
            ({"choices": [{"key": "f" * 32, "action": "accept"}]}, "409: newest"),
            ({"choices": [{"key": "f" * 32, "action": "restore"}]}, "422: accept"),
            (
                {"choices": [{"key": "a", "action": "accept"}] * 2},
                "422: choose once for each finding",
            ),
            (
                {"kind": "group_leak", "action": "accept"},
                "400: no findings of this kind",
            ),
            ({"version": 7, "kind": "blurred", "action": "accept"}, "404: version 7"),
        ],
    )
    def test_what_cannot_be_is_told(self, rows, dataset, ask, body, told):
        answer = ask(**body)

        status, _, words = told.partition(": ")
        assert answer.status_code == int(status), answer.text
        assert words in answer.text
        assert list_ingests(rows, dataset) == []


def test_of_two_who_decide_at_once_one_is_told_of_the_other(app, ana, rows, dataset):
    here = app.extensions["trainyard"]
    with rows.database.reading() as s:
        account = make_account(user_store.get_user(s, ana.user_id))

    def exclude(number):
        choices = {key_of("blurred", number % 2): Choice("exclude")}
        try:
            wishes = Wishes(dataset, 1, choices, key=f"key {number}")
            return decide_findings(here, account, wishes)
        except ConflictError as error:
            return error

    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(exclude, range(4)))

    refused = [one for one in told if isinstance(one, ConflictError)]
    assert len(refused) == 3
    assert len(list_ingests(rows, dataset)) == 1


class TestCopies:
    def test_those_in_the_test_split_stay_too(self, ana, rows, dataset, decide):
        (row,) = make_findings(counts={"near_duplicate": 1})
        row["splits"] = ["test", "test", "train"]
        rows.forecast(ana.user_id, dataset, [row])

        decide(whole="near_duplicate", action="exclude", keep="none", key="k")

        assert list_edits(rows, dataset) == [("exclude", None, row["images"][2:])]
