"""Ten thousand jobs on record: what workers and pages ask stays quick."""

import itertools
import re

import pytest
from sqlalchemy import event, text

from shared import (
    forecast_store,
    job_read_store,
    reconcile_store,
    training_promise_store,
)
from shared.tables import Job
from tests import factories

DOUBLINGS = 10  # of ten jobs each time: 10,240


@pytest.fixture
def crowded(database):
    """A database of ten thousand jobs, a tenth of which wait."""
    with database.transaction() as s:
        owner_id = factories.make_user(s).id
        model_id = factories.make_model(s, owner_id).id
        for _ in range(10):
            factories.make_job(s, owner_id, model_id=model_id)
        names = [c.name for c in Job.__table__.columns]
        copied = ", ".join(n for n in names if n not in {"id", "idempotency_key"})
        for number in range(DOUBLINGS):
            s.execute(
                text(
                    f"INSERT INTO jobs (idempotency_key, {copied}) SELECT "
                    f"idempotency_key || '-{number}', {copied} FROM jobs"
                )
            )
        s.execute(text("UPDATE jobs SET state = 'succeeded' WHERE id % 10 <> 0"))
    analyze(database)
    return database


def analyze(database):
    """Lets the planner know how many rows there are."""
    with database.engine.connect() as connection:
        connection.execute(text("ANALYZE"))
        connection.commit()


def listen(database, action):
    """Returns the statements, with their values, that `action` sends."""
    heard = []

    def note(_connection, _cursor, statement, values, _context, _many):
        heard.append((statement, values))

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        with database.transaction() as session:
            action(session)
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
    return heard


def explain(database, statement, values):
    """Returns the plan of a statement as one text; on Postgres the generic one.

    That is the plan which a server may keep for a prepared statement, made before any
    value is known: the hardest one to get right.
    """
    with database.engine.connect() as connection:
        if database.dialect == "postgresql":
            numbers = itertools.count(1)
            bare = re.sub(r"%\(\w+\)s", lambda _: f"${next(numbers)}", statement)
            rows = connection.exec_driver_sql(f"EXPLAIN (GENERIC_PLAN) {bare}").all()
        else:
            explained = f"EXPLAIN QUERY PLAN {statement}"
            rows = connection.exec_driver_sql(explained, values).all()
        connection.rollback()
    return "\n".join(str(row[-1]) for row in rows)


def test_claim_walks_the_index_over_queued_jobs_in_its_order(crowded):
    heard = listen(crowded, lambda s: factories.claim(s, kinds=["train"]))
    (claim,) = [(sql, values) for sql, values in heard if "WITH best" in sql]

    plan = explain(crowded, *claim)

    assert "ix_jobs_claim" in plan
    assert "Sort" not in plan
    assert "TEMP B-TREE" not in plan


def test_claim_looks_for_forecasts_and_trainings_by_the_same_index(crowded):
    with crowded.transaction() as s:
        owner_id = s.execute(text("SELECT min(id) FROM users")).scalar_one()
        factories.make_job(s, owner_id, kind="forecast", priority=-1)
    heard = listen(crowded, lambda s: factories.claim(s, kinds=["train", "forecast"]))
    looks = [
        (sql, values)
        for sql, values in heard
        if "ORDER BY jobs.priority DESC" in sql and "FROM jobs" in sql
    ]

    plans = [explain(crowded, *look) for look in looks]

    assert len(plans) == 3  # the best forecast, the best training, and its claim
    for plan in plans:
        assert "ix_jobs_claim" in plan
        assert "Sort" not in plan
        assert "TEMP B-TREE" not in plan


def test_newest_forecast_and_its_job_are_found_by_index(crowded):
    with crowded.transaction() as s:
        owner_id = s.execute(text("SELECT min(id) FROM users")).scalar_one()
        dataset_id = factories.make_dataset(s, owner_id).id
        s.execute(
            text(
                "INSERT INTO dataset_versions (id, dataset_id, version, job_id, "
                "fingerprint, rel_path, images, size_bytes, report, created_at) "
                "SELECT id, :dataset, id, id, 'f', 'r', 1, 1, '{}', 1 FROM jobs"
            ),
            {"dataset": dataset_id},
        )
        s.execute(
            text(
                "INSERT INTO forecasts (dataset_version_id, job_id, rel_path, summary, "
                "created_at) SELECT id, id, 'r', '{}', 1 FROM jobs"
            )
        )
        s.execute(text("UPDATE jobs SET dataset_id = id, dataset_version_id = id"))
    analyze(crowded)
    forecast = listen(crowded, lambda s: forecast_store.find_newest(s, 1))
    job = listen(crowded, lambda s: forecast_store.find_job(s, 1, 1))

    (statement,) = [found for found in forecast if "FROM forecasts" in found[0]]
    assert "ix_forecasts_dataset_version_id" in explain(crowded, *statement)
    (statement,) = [found for found in job if "FROM jobs" in found[0]]
    assert "ix_jobs_dataset_id" in explain(crowded, *statement)


def test_promises_are_measured_by_index(crowded):
    with crowded.transaction() as s:
        s.execute(
            text(
                "INSERT INTO training_promises (job_id, forecast_id, dataset_name, "
                "preset, accuracy_low, accuracy, accuracy_high, made_at, delivered_at) "
                "SELECT id, 1, 'd', 'fast', 0.1, 0.2, 0.3, id, id FROM jobs"
            )
        )
    analyze(crowded)
    heard = listen(crowded, training_promise_store.measure)
    (statement,) = [found for found in heard if "training_promises" in found[0]]

    assert "ix_training_promises_made" in explain(crowded, *statement)


def test_last_attempts_of_a_worker_are_found_by_index(crowded):
    with crowded.transaction() as s:
        worker_id = factories.make_worker(s)
        claim = factories.claim(s, worker_id=worker_id)
        s.execute(
            text(
                "INSERT INTO attempts (job_id, fence, uuid, worker_id, host, slot, "
                "started_at, charged, start_step, oom) SELECT id, 2, CAST(id AS TEXT), "
                "id, 'host', 'cpu', 0, false, 0, false FROM jobs WHERE id <> :own"
            ),
            {"own": claim.job_id},
        )
    analyze(crowded)
    heard = listen(crowded, reconcile_store.find_failing_workers)
    (last,) = [(sql, values) for sql, values in heard if "FROM attempts" in sql]

    assert "ix_attempts_worker" in explain(crowded, *last)


def test_list_of_ten_thousand_jobs_is_read_a_page_at_a_time(crowded):
    pages = []
    heard = listen(
        crowded, lambda s: pages.append(job_read_store.list_jobs(s, page=150))
    )

    (page,) = pages
    assert (len(page.items), page.total) == (50, 10_240)
    selects = [sql for sql, _ in heard if sql.startswith("SELECT")]
    assert len(selects) == 2  # one count, one page: nothing for each row
    assert {job.owner.email for job in page.items}  # read with the page
