"""What an upload is after its job has failed or was cancelled: free for another one."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask

from shared import job_store, job_submit_store, upload_use_store, user_store
from shared.database import Database
from shared.deletion import DeletionPlan
from shared.errors import ConflictError
from shared.file_locks import try_lock
from shared.garbage import UPLOAD_LOCK, YOUNG_SECONDS, collect_garbage
from tests.waiting import wait_until
from tests.web.findings.test_deciding_findings import count_waiting
from tests.web.rows import Rows, make_archive
from tests.web.test_finished_uploads import add, count_datasets, spec_of
from tests.web.tus import Tus
from web.auth.datastore import make_account
from web.datasets.add import record_ingest
from web.datasets.wishes import Wish
from web.deleting import remove_files
from web.installation import install


@pytest.fixture
def tus(api, ana):
    return Tus(api(ana.user_id))


@pytest.fixture
def failed(tus, rows):
    """An upload whose ingest has failed: (its id, the answer that made the job)."""
    upload_id = tus.send(make_archive())
    wrong = {"split_by": "column", "split_column": "patinet"}
    answer = add(tus, upload_id, **wrong)
    rows.fail(answer.json["job_id"], "ingest", "There is no column “patinet”.")
    return upload_id, answer


def folder_of(rows, upload_id):
    return rows.storage.upload(upload_id)


def age(rows, upload_id, seconds=2 * YOUNG_SECONDS):
    then = time.time() - seconds
    folder = folder_of(rows, upload_id)
    for path in (*folder.iterdir(), folder):
        os.utime(path, (then, then))


def collect(rows):
    return collect_garbage(rows.database, rows.storage, max_feature_cache_bytes=0)


def test_a_wish_that_was_wrong_costs_no_second_upload(tus, rows, failed):
    upload_id, first = failed

    (listed,) = tus.api("GET", "/uploads").json["items"]
    again = add(tus, upload_id, split_by="column", split_column="patient")
    repeated = add(tus, upload_id, split_by="column", split_column="patient")

    assert (listed["id"], listed["had_by"]) == (upload_id, first.json["job_id"])
    assert again.status_code == 201, again.text
    assert again.json["job_id"] != first.json["job_id"]
    assert spec_of(rows, again)["split"] == {"by": "column", "column": "patient"}
    assert (repeated.status_code, repeated.json["id"]) == (200, again.json["id"])
    assert tus.api("GET", "/uploads").json["items"] == []


def test_a_cancelled_job_lets_go_as_often_as_it_happens(tus, rows):
    upload_id = tus.send(make_archive())

    jobs = []
    for _ in range(3):
        answer = add(tus, upload_id)
        assert answer.status_code == 201, answer.text
        jobs.append(answer.json["job_id"])
        with rows.database.transaction() as session:
            job_store.cancel(session, jobs[-1], actor="user:1")

    assert len(set(jobs)) == 3


def test_the_name_that_was_asked_for_is_still_to_be_had(tus, api, bob, rows):
    upload_id = tus.send(make_archive())
    first = add(tus, upload_id, name="cells")
    rows.fail(first.json["job_id"], "ingest")
    foreign = Tus(api(bob.user_id))

    refused = add(foreign, foreign.send(make_archive()), name="cells")
    again = add(tus, upload_id, name="cells")
    other = add(tus, tus.send(make_archive()), name="cells")

    assert (refused.status_code, other.status_code) == (409, 409)
    assert (again.status_code, again.json["id"]) == (201, first.json["id"])
    assert count_datasets(rows) == 1


def test_of_two_who_ask_for_a_given_up_name_on_postgres_one_gets_it(
    postgres_url, settings
):
    """Both ask while nobody has a job that reads the dataset of this name."""
    database = Database(postgres_url)
    here = install(Flask(__name__), settings, database)
    owner_id = Rows(database, here.storage).user()
    with database.reading() as session:
        account = make_account(user_store.get_user(session, owner_id))

    def ask(key):
        spec = {"sources": [], "asked": {"key": key}}
        try:
            return record_ingest(here, account, Wish(name="cells"), spec, key)
        except ConflictError:
            return None

    first = ask("first")
    with database.transaction() as session:
        job_store.cancel(session, first.job_id, actor="user:1")
    with ThreadPoolExecutor(2) as pool:
        with database.transaction() as session:
            job_submit_store.hold_dataset_alone(session, first.dataset_id)
            asked = [pool.submit(ask, key) for key in "ab"]
            wait_until(lambda: count_waiting(database) == 2, 30, "both requests")
        (taken,) = filter(None, [one.result() for one in asked])

    assert taken.dataset_id == first.dataset_id
    assert taken.job_id != first.job_id
    database.dispose()


def test_what_a_failed_job_keeps_neither_expires_nor_is_collected(tus, rows, failed):
    upload_id, _ = failed
    age(rows, upload_id)

    assert collect(rows) == []
    (listed,) = tus.api("GET", "/uploads").json["items"]
    told = tus.ask("HEAD", f"/uploads/{upload_id}")
    again = add(tus, upload_id, name="again")

    assert (listed["id"], listed["expires_at"]) == (upload_id, None)
    assert "Upload-Expires" not in told.headers
    assert again.status_code == 201, again.text


def test_of_two_who_ask_at_once_one_gets_it(api, ana, rows, failed):
    upload_id, _ = failed
    start, answers = threading.Barrier(2), []

    def ask(name):
        client = Tus(api(ana.user_id))
        start.wait()
        answers.append(add(client, upload_id, name=name, key=name).status_code)

    threads = [threading.Thread(target=ask, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answers) == [201, 409]


def test_a_job_whose_upload_was_taken_cannot_be_tried_again(tus, ana, rows, failed):
    upload_id, first = failed
    job_id = first.json["job_id"]
    taker = add(tus, upload_id, name="again").json["job_id"]

    refused = tus.api("POST", f"/jobs/{job_id}/retry")
    with rows.database.transaction() as session:
        job_store.cancel(session, taker, actor="user:1")
    taken_back = tus.api("POST", f"/jobs/{job_id}/retry")
    late = add(tus, upload_id, name="late")

    assert refused.status_code == 409
    assert f"belongs to job {taker}" in refused.json["detail"]
    assert taken_back.status_code == 200
    assert late.status_code == 409
    with rows.database.transaction() as session, pytest.raises(ConflictError):
        upload_use_store.hold(session, ana.user_id, [upload_id])


def test_deleting_what_failed_leaves_the_upload_to_its_new_job(tus, rows, failed):
    upload_id, first = failed
    again = add(tus, upload_id, name="again")

    gone = tus.api("DELETE", f"/datasets/{first.json['id']}")

    assert gone.status_code == 200, gone.text
    source = spec_of(rows, again)["sources"][0]
    assert (rows.storage.root / source["path"]).read_bytes() == make_archive()


def test_deleting_what_failed_removes_an_upload_that_nobody_else_wants(
    tus, rows, failed
):
    upload_id, first = failed

    assert tus.api("DELETE", f"/jobs/{first.json['job_id']}").status_code == 200

    assert not folder_of(rows, upload_id).exists()
    assert add(tus, upload_id, name="again").status_code == 404


def test_an_upload_taken_between_rows_and_files_stays(tus, app, rows, failed):
    upload_id, _ = failed
    here = app.extensions["trainyard"]
    plan = DeletionPlan("a job", paths=[f"uploads/{upload_id}"])

    with try_lock(folder_of(rows, upload_id) / UPLOAD_LOCK, shared=False):
        remove_files(here, plan)
    assert folder_of(rows, upload_id).exists(), "somebody was making a dataset of it"
    add(tus, upload_id, name="again")
    remove_files(here, plan)
    assert folder_of(rows, upload_id).exists(), "a job reads it by now"


def test_who_needs_no_second_try_discards_the_upload(tus, rows, failed):
    upload_id, _ = failed

    assert tus.ask("DELETE", f"/uploads/{upload_id}").status_code == 204
    assert not folder_of(rows, upload_id).exists()
