"""Deciding about findings: what is chosen for many, by the API, and by two at once."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from shared import job_submit_store, user_store
from shared.database import Database
from shared.errors import ConflictError
from tests.services import wait_until
from tests.web.findings.decided import (
    key_of,
    list_accepted,
    list_edits,
    list_ingests,
    suspects,
)
from tests.web.forecast_example import make_findings
from tests.web.rows import Rows
from web.app import create_app
from web.auth.datastore import make_account
from web.datasets.finding_choices import Wishes, decide_findings
from web.datasets.finding_plan import Choice


@pytest.fixture
def doubted(ana, rows, dataset):
    """Four doubtful labels, the last two of them in the test split."""
    found = make_findings(counts={"suspect_label": 4})
    for row in found[2:]:
        row["splits"] = ["test"]
    rows.forecast(ana.user_id, dataset, found)
    return [row["key"] for row in found]


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


def test_double_on_postgres_is_answered_with_the_job_of_the_first(
    postgres_url, settings
):
    """Both have looked the key up before either has queued anything."""
    database = Database(postgres_url)
    settings = settings.model_copy(update={"database_url": postgres_url})
    settings.storage.mkdir(parents=True)
    here = create_app(settings, database, {"TESTING": True}).extensions["trainyard"]
    rows = Rows(database, here.storage)
    owner_id = rows.user()
    dataset = rows.dataset(owner_id)
    rows.forecast(owner_id, dataset)
    with database.reading() as s:
        account = make_account(user_store.get_user(s, owner_id))
    choices = {
        key_of("outlier"): Choice("exclude"),
        key_of("blurred"): Choice("accept"),
    }
    wishes = Wishes(dataset, 1, choices, key="one form")

    with ThreadPoolExecutor(2) as pool:
        with database.transaction() as s:
            job_submit_store.hold_dataset_alone(s, dataset)
            told = [pool.submit(decide_findings, here, account, wishes) for _ in "ab"]
            wait_until(lambda: count_waiting(database) == 2, 30, "both requests")
        added = [one.result().added for one in told]

    assert added[0].job_id == added[1].job_id
    assert sorted(one.created for one in added) == [False, True]
    assert len(list_ingests(rows, dataset)) == 1
    assert list_accepted(rows, dataset) == {key_of("blurred")}
    database.dispose()


def count_waiting(database):
    """How many sessions of this Postgres database wait for a lock."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND wait_event_type = 'Lock'"
    )
    with database.reading() as s:
        return s.execute(waiting).scalar_one()


class TestPassedOver:
    @pytest.fixture
    def found(self, ana, rows, dataset):
        """A leaking group, a picture in quarantine, copies, and what can be done."""
        kinds = ("group_leak", "label_conflict", "near_duplicate", "unreadable")
        rows.forecast(
            ana.user_id, dataset, make_findings(counts=dict.fromkeys(kinds, 1))
        )

    @pytest.mark.usefixtures("found")
    @pytest.mark.parametrize(
        ("kind", "action", "why"),
        [
            ("group_leak", "exclude", "only dealing the splits anew"),
            ("label_conflict", "quarantine", "in quarantine already"),
            ("label_conflict", "relabel", "no label is suggested"),
            ("near_duplicate", "relabel", "copies can be excluded"),
            ("unreadable", "exclude", "no picture of this version"),
        ],
    )
    def test_reason_is_the_true_one(self, ask, decide, kind, action, why):
        split = {"by": "duplicates", "again": True}
        answer = ask(kind=kind, action=action, split=split).json
        alone = decide(whole=kind, action=action, version="1")

        assert answer["passed_over"] == 1
        ((words, number),) = answer["passed_over_because"].items()
        assert why in words
        assert number == 1
        assert alone.status_code == 400
        assert why in alone.text

    @pytest.mark.usefixtures("found")
    def test_page_tells_each_reason(self, ana, dataset, decide):
        keys = [key_of("group_leak"), key_of("unreadable")]

        decide(chosen=keys, action="exclude", deal="duplicates", key="k")

        shown = ana.get(f"/datasets/{dataset}").text
        assert "1 finding is passed over: only dealing the splits anew" in shown
        assert "1 finding is passed over: no picture of this version" in shown


class TestAcceptedTwice:
    """A second click, after the first has done all of it."""

    def test_form_is_answered_as_before(self, ana, rows, dataset, decide):
        values = {"whole": "blurred", "action": "accept", "key": "once"}

        first = decide(query="?kind=blurred", **values)
        second = decide(query="?kind=blurred", **values)

        assert first.location == second.location
        assert second.status_code == 302
        assert len(list_accepted(rows, dataset)) == 2
        assert "All of it has been accepted" in ana.get(second.location).text

    def test_so_is_the_api(self, ask):
        answers = [ask(kind="blurred", action="accept") for _ in range(2)]

        assert [answer.status_code for answer in answers] == [200, 200]
        assert [answer.json["accepted"] for answer in answers] == [2, 0]

    def test_what_is_to_be_excluded_is_another_matter(self, ask):
        ask(kind="blurred", action="accept")

        assert ask(kind="blurred", action="exclude").status_code == 400


class TestCopies:
    @pytest.mark.parametrize("keep", ["test", "first", "none"])
    def test_copy_that_stays_in_the_test_split_is_the_one_that_stays(
        self, ana, rows, dataset, decide, keep
    ):
        (row,) = make_findings(counts={"split_leak": 1})
        row["splits"] = ["train", "test"]
        rows.forecast(ana.user_id, dataset, [row])

        decide(whole="split_leak", action="exclude", keep=keep, key="k")

        assert list_edits(rows, dataset) == [("exclude", None, row["images"][:1])]

    def test_those_in_the_test_split_stay_too(self, ana, rows, dataset, decide):
        (row,) = make_findings(counts={"near_duplicate": 1})
        row["splits"] = ["test", "test", "train"]
        rows.forecast(ana.user_id, dataset, [row])

        decide(whole="near_duplicate", action="exclude", keep="none", key="k")

        assert list_edits(rows, dataset) == [("exclude", None, row["images"][2:])]
