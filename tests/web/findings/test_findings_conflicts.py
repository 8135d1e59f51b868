"""Deciding about findings beside others: newer versions, other people, permissions."""

import re

import pytest
from sqlalchemy import text

from shared import job_store
from tests.web.findings.decided import (
    add_version,
    key_of,
    list_accepted,
    list_ingests,
)
from tests.web.forecast_example import COUNTS


class TestConflicts:
    def test_older_version_is_refused_with_a_link_and_nothing_is_lost(
        self, ana, rows, dataset, decide
    ):
        add_version(rows, ana.user_id, dataset)
        key, suspect = key_of("outlier"), key_of("suspect_label")

        answer = decide(
            chosen=[key, key_of("blurred")],
            action="quarantine",
            **{f"do__{suspect}": "exclude"},
        )

        assert answer.status_code == 409
        assert "has a version 2 by now" in answer.text
        assert f'<a href="/datasets/{dataset}/findings">Go to the' in answer.text
        assert re.search(f'id="do-{suspect}-exclude"[^>]* checked', answer.text)
        assert re.search(f'id="tick-{key}" checked', answer.text)
        assert '<option value="quarantine" selected>' in answer.text
        assert list_ingests(rows, dataset) == []
        assert list_accepted(rows, dataset) == set()

    def test_older_version_is_shown_without_buttons_for_a_new_one(
        self, ana, rows, dataset
    ):
        add_version(rows, ana.user_id, dataset)

        html = ana.get(f"/datasets/{dataset}/findings?version=1").text

        assert "This version is not the newest" in html
        assert 'value="exclude"' not in html
        newest = ana.get(f"/datasets/{dataset}/findings").text
        assert "Version 2 has not been examined" in newest
        assert "Findings of version 1" in newest

    def test_the_same_form_twice_makes_one_version(self, rows, dataset, decide):
        values = {"chosen": key_of("outlier"), "action": "exclude", "key": "once"}

        first, second = decide(**values), decide(**values)

        assert first.location == second.location == f"/datasets/{dataset}"
        assert len(list_ingests(rows, dataset)) == 1

    def test_second_person_waits_for_the_version_of_the_first(
        self, root, rows, dataset, decide
    ):
        decide(chosen=key_of("outlier"), action="exclude", key="ana")

        answer = decide(root, chosen=key_of("blurred"), action="exclude", key="root")

        assert answer.status_code == 409
        assert "is being made (job" in answer.text
        assert len(list_ingests(rows, dataset)) == 1
        page = root.get(f"/datasets/{dataset}/findings").text
        assert "A new version is being made" in page
        accepted = decide(root, chosen=key_of("blurred"), action="accept")
        assert accepted.status_code == 302

    def test_upload_that_is_being_read_holds_nobody_up(
        self, ana, rows, dataset, decide
    ):
        with rows.database.transaction() as s:
            job_store.submit(
                s, owner_id=ana.user_id, kind="ingest", title="cells",
                spec={"sources": [], "mode": "add"}, idempotency_key="upload",
                dataset_id=dataset,
            )  # fmt: skip

        decide(chosen=key_of("outlier"), action="exclude", key="ana")

        assert len(list_ingests(rows, dataset)) == 1

    def test_upload_that_replaces_all_pictures_comes_first(
        self, ana, rows, dataset, decide
    ):
        with rows.database.transaction() as s:
            job_id = job_store.submit(
                s, owner_id=ana.user_id, kind="ingest", title="cells",
                spec={"sources": [], "mode": "replace"}, idempotency_key="upload",
                dataset_id=dataset,
            ).job_id  # fmt: skip

        key = key_of("outlier")
        answer = decide(chosen=key, action="exclude", key="ana")

        assert answer.status_code == 409
        assert f"is being made (job {job_id})" in answer.text
        assert f'id="tick-{key}" checked' in answer.text
        assert list_ingests(rows, dataset) == []
        page = ana.get(f"/datasets/{dataset}/findings").text
        assert "A new version is being made" in page

    def test_accepts_that_cannot_be_written_take_the_job_with_them(
        self, rows, dataset, decide
    ):
        with rows.database.transaction() as s:
            s.execute(
                text(
                    "CREATE TRIGGER broken BEFORE INSERT ON finding_decisions BEGIN "
                    "SELECT RAISE(ABORT, 'the disk is gone'); END"
                )
            )

        answer = decide(
            chosen=key_of("blurred"),
            action="accept",
            **{f"do__{key_of('outlier')}": "exclude"},
        )

        assert answer.status_code == 500
        assert list_ingests(rows, dataset) == []

    def test_failed_decision_holds_nobody_up(self, rows, dataset, decide):
        decide(chosen=key_of("outlier"), action="exclude", key="ana")
        (job,) = list_ingests(rows, dataset)
        rows.fail(job.id, "ingest")

        answer = decide(chosen=key_of("outlier"), action="exclude", key="again")

        assert answer.status_code == 302
        assert len(list_ingests(rows, dataset)) == 2


class TestPermissions:
    def test_other_members_see_but_do_not_decide(self, bob, dataset):
        html = bob.get(f"/datasets/{dataset}/findings").text

        assert html.count("<article") == sum(COUNTS.values())
        assert "Only its owner or an admin decides" in html
        for control in ("checkbox", "radio", "Accept"):
            assert control not in html

    @pytest.mark.parametrize("verb", ["decide", "accept", "take-back"])
    def test_their_requests_are_refused(self, bob, rows, dataset, verb):
        key = key_of("outlier")

        answer = bob.send(
            f"/datasets/{dataset}/findings/{verb}", version="1", chosen=key,
            accept=key, action="exclude",
        )  # fmt: skip

        assert answer.status_code == 403
        assert list_accepted(rows, dataset) == set()
        assert list_ingests(rows, dataset) == []

    def test_admins_decide_and_it_is_in_the_audit(self, root, decide, dataset):
        decide(root, chosen=key_of("outlier"), action="accept")
        root.send(f"/datasets/{dataset}/findings/take-back", one=key_of("outlier"))

        audit = root.get("/audit").text
        assert "findings accepted" in audit
        assert "findings taken back" in audit

    def test_form_of_another_site_is_refused(self, ana, rows, dataset):
        answer = ana.post(f"/datasets/{dataset}/findings/decide", data={"version": "1"})

        assert answer.status_code == 400
        assert list_ingests(rows, dataset) == []
