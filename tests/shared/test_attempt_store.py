"""The job protocol as workers use it, on both databases."""

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import update

from shared import (
    attempt_store,
    dataset_store,
    job_read_store,
    job_store,
    model_store,
    worker_store,
)
from shared.errors import Cancelled, LostLease, NotFoundError, OutdatedError
from shared.retry_policy import Limits
from shared.tables import Job
from tests import factories

AT_ONCE = Limits(retry_backoff_seconds=0)


@pytest.fixture
def job_id(database):
    with database.transaction() as s:
        return factories.make_job(s)


@pytest.fixture
def claim(database, job_id):
    with database.transaction() as s:
        return factories.claim(s)


def get_job(database, job_id):
    with database.reading() as s:
        return job_read_store.get_job(s, job_id)


def end(database, claim, **fields):
    values = {"outcome": "crash", "charge": True, "limits": AT_ONCE, **fields}
    return database.tx(
        lambda s: attempt_store.end(s, claim.job_id, claim.fence, **values)
    )


def claim_again(database):
    return database.tx(factories.claim)


def test_claim_returns_none_when_nothing_waits(database):
    assert claim_again(database) is None


def test_claim_gives_the_next_fence_and_a_lease(database, job_id, claim):
    assert (claim.job_id, claim.fence, claim.last_step) == (job_id, 1, 0)
    job = get_job(database, job_id)
    assert job.state == "running"
    assert 55_000 < job.lease_until - job.started_at <= 60_000


def test_a_claim_whose_answer_was_lost_is_found_again(database, job_id):
    attempt_uuid = uuid.uuid4().hex
    with database.transaction() as s:
        factories.make_job(s)
    answers = [
        database.tx(lambda s: factories.claim(s, attempt_uuid=attempt_uuid))
        for _ in range(2)
    ]

    assert answers[0] == answers[1]


def test_claim_takes_only_what_fits_the_slot(database):
    with database.transaction() as s:
        factories.make_job(s, queue="night")
        factories.make_job(s, gpu_mem_mb=8000)
        factories.make_job(s, kind="ingest")

    def claimed(**slot):
        return database.tx(lambda s: factories.claim(s, **slot))

    assert claimed(kinds=["train"]) is None
    assert claimed(kinds=["train"], gpu_mem_mb=8000).kind == "train"
    assert claimed(kinds=["train"], queues=["night", "default"]).kind == "train"
    assert claimed(kinds=["ingest"]).kind == "ingest"


@pytest.mark.parametrize("status", ["draining", "quarantined"])
def test_a_worker_out_of_service_gets_no_job(database, job_id, status):
    with database.transaction() as s:
        worker_id = factories.make_worker(s)
        worker_store.set_status(s, worker_id, status)
        assert factories.claim(s, worker_id=worker_id) is None
        worker_store.set_status(s, worker_id, "active")
        assert factories.claim(s, worker_id=worker_id).job_id == job_id


def test_two_claims_one_winner(database):
    with database.transaction() as s:
        jobs = [factories.make_job(s) for _ in range(5)]
    start = threading.Barrier(10)

    def race(_):
        start.wait()
        return database.tx(factories.claim)

    with ThreadPoolExecutor(10) as pool:
        claims = [claim for claim in pool.map(race, range(10)) if claim]

    assert sorted(claim.job_id for claim in claims) == jobs
    assert {claim.fence for claim in claims} == {1}


def test_a_job_whose_dataset_is_gone_fails_with_a_sentence(database, job_id):
    with database.transaction() as s:
        orphan = factories.make_job(s, priority=9)
        s.execute(update(Job).where(Job.id == orphan).values(dataset_id=12345))

    assert claim_again(database).job_id == job_id
    job = get_job(database, orphan)
    assert (job.state, job.failure_code) == ("failed", "data_deleted")
    assert job.reason == (
        "Its dataset has been deleted, so there is nothing to work on."
    )


def test_renew_extends_the_lease_and_tells_the_users_wish(database, job_id, claim):
    before = get_job(database, job_id)
    with database.transaction() as s:
        job_store.finish_now(s, job_id, actor="user:1")

    desired = database.tx(lambda s: attempt_store.renew(s, job_id, 1, lease_ms=90_000))

    after = get_job(database, job_id)
    assert desired == "finish"
    assert after.lease_until > before.lease_until
    assert after.hb == before.hb + 1


WRITES = {
    "renew": lambda s, j: attempt_store.renew(s, j, 1, lease_ms=1),
    "checkpoint": lambda s, j: factories.checkpoint(s, j, 1, 9),
    "corrupt": lambda s, j: attempt_store.mark_checkpoint_corrupt(s, j, 1, "x"),
    "progress": lambda s, j: attempt_store.record_progress(
        s, j, 1, phase="frozen", done=1, total=2, unit="epochs"
    ),
    "durable": lambda s, j: attempt_store.record_durable(s, j, 1, 3),
    "resumed": lambda s, j: attempt_store.record_resumed(s, j, 1, 3),
    "metrics": lambda s, j: attempt_store.add_metrics(
        s, j, 1, [attempt_store.MetricPoint("loss", 1, 1, 0.5)]
    ),
    "note": lambda s, j: attempt_store.add_note(s, j, 1, "info", "hello"),
    "complete": lambda s, j: factories.complete(s, j, 1),
    "complete_ingest": lambda s, j: factories.complete_ingest(s, j, 1),
    "end": lambda s, j: attempt_store.end(s, j, 1, outcome="failed", charge=True),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_stale_attempt_writes_nothing(database, job_id, claim, write):
    end(database, claim, outcome="lost", charge=False)
    claim_again(database)
    before = dump(database, job_id)

    with pytest.raises(LostLease):
        database.tx(lambda s: WRITES[write](s, job_id))

    assert dump(database, job_id) == before


def dump(database, job_id):
    """Everything on record about a job, as plain values."""
    with database.reading() as s:
        rows = [
            job_read_store.get_job(s, job_id),
            *job_read_store.list_attempts(s, job_id),
            *job_read_store.list_checkpoints(s, job_id),
            *job_read_store.list_notes(s, job_id),
            *job_read_store.metrics_curve(s, job_id),
        ]
        return [
            {column.key: getattr(row, column.key) for column in row.__table__.columns}
            for row in rows
        ]


def test_complete_publishes_once_and_says_so_the_second_time(database, job_id, claim):
    first, second = (
        database.tx(lambda s: factories.complete(s, job_id, claim.fence))
        for _ in range(2)
    )

    assert (first.version, first.already) == (1, False)
    assert (second.version, second.already) == (1, True)
    job = get_job(database, job_id)
    assert (job.state, job.result, job.lease_until) == (
        "succeeded",
        {"accuracy": 0.9},
        None,
    )


def test_versions_of_a_model_have_no_gaps_whoever_publishes_first(database):
    with database.transaction() as s:
        owner_id = factories.make_user(s).id
        model_id = factories.make_model(s, owner_id, "shared").id
        for _ in range(8):
            factories.make_job(s, owner_id, model_id=model_id)
        claims = [factories.claim(s) for _ in range(8)]

    with ThreadPoolExecutor(8) as pool:
        done = pool.map(
            lambda c: database.tx(lambda s: factories.complete(s, c.job_id, c.fence)),
            claims,
        )

    assert sorted(completed.version for completed in done) == list(range(1, 9))
    with database.reading() as s:
        assert model_store.get_model(s, model_id).last_version == 8


def test_a_cancelled_job_is_not_published(database, job_id, claim):
    with database.transaction() as s:
        job_store.cancel(s, job_id, actor="user:1")

    with pytest.raises(Cancelled):
        database.tx(lambda s: factories.complete(s, job_id, claim.fence))

    assert end(database, claim, outcome="cancelled", charge=False) == "cancelled"
    with database.reading() as s:
        assert model_store.find_version_of_job(s, job_id) is None


def test_cancel_racing_complete_never_gives_both(database):
    with database.transaction() as s:
        owner_id = factories.make_user(s).id
        for _ in range(20):
            factories.make_job(s, owner_id)
        claims = [factories.claim(s) for _ in range(20)]

    def ask(claim):
        try:
            database.tx(lambda s: job_store.cancel(s, claim.job_id, actor="user:1"))
        except job_store.ConflictError:
            return "refused"
        return "asked"

    def publish(claim):
        try:
            database.tx(lambda s: factories.complete(s, claim.job_id, claim.fence))
        except Cancelled:
            return "cancelled"
        return "published"

    with ThreadPoolExecutor(2) as pool:
        for claim in claims:
            asked, published = pool.submit(ask, claim), pool.submit(publish, claim)
            assert (asked.result(), published.result()) in {
                ("refused", "published"),
                ("asked", "cancelled"),
            }


def test_an_ending_told_twice_is_told_once(database, job_id, claim):
    assert end(database, claim) == "queued"
    assert end(database, claim) == "queued"

    assert get_job(database, job_id).noprog == 1
    with pytest.raises(LostLease):
        end(database, claim, outcome="oom")


def test_a_job_that_kills_every_attempt_stops_after_three(database, job_id):
    states = [end(database, claim_again(database), signal=11) for _ in range(3)]

    assert states == ["queued", "queued", "failed"]
    assert get_job(database, job_id).reason == (
        "3 attempts in a row ended without any progress."
    )


def test_twenty_preemptions_with_progress_cost_nothing(database, job_id):
    for step in range(1, 21):
        claim = claim_again(database)
        with database.transaction() as s:
            factories.checkpoint(s, job_id, claim.fence, step)
        state = end(database, claim, outcome="preempted", charge=False)

    job = get_job(database, job_id)
    assert state == "queued"
    assert (job.noprog, job.lost, job.last_step) == (0, 0, 20)


def test_ten_losses_without_progress_fail_the_job_and_name_the_hosts(database, job_id):
    for number in range(10):
        claim = database.tx(lambda s, n=number: factories.claim(s, host=f"node{n % 2}"))
        state = end(database, claim, outcome="lost", charge=False)

    job = get_job(database, job_id)
    assert state == "failed"
    assert job.reason == (
        "10 attempts in a row were lost without any progress. "
        "They ran on: node0, node1."
    )


def test_ten_outages_fail_the_job_and_speak_of_what_is_out_of_reach(database, job_id):
    away = "https://data.example.org/a.zip could not be fetched."
    for _ in range(10):
        claim = claim_again(database)
        state = end(database, claim, outcome="outage", charge=False, reason=away)

    job = get_job(database, job_id)
    assert (state, job.failures, job.noprog) == ("failed", 0, 0)
    assert job.reason == (
        f"{away} 10 attempts in a row got nowhere. Try the job again when that can be "
        "reached."
    )


def test_durable_shards_are_progress_too(database, job_id):
    for count in range(1, 6):
        claim = claim_again(database)
        database.tx(
            lambda s, c=claim, n=count: attempt_store.record_durable(
                s, job_id, c.fence, n
            )
        )
        assert end(database, claim) == "queued"


def test_the_same_shards_again_are_no_progress(database, job_id):
    states = []
    for _ in range(4):
        claim = claim_again(database)
        database.tx(
            lambda s, c=claim: attempt_store.record_durable(s, job_id, c.fence, 2)
        )
        states.append(end(database, claim))

    assert states == ["queued", "queued", "queued", "failed"]


def fail_for_a_file(database, times):
    """Ends attempts of the only job for a file; returns the job's states."""
    return [
        end(database, claim_again(database), outcome="io", charge=False)
        for _ in range(times)
    ]


def test_a_file_that_fails_five_attempts_fails_the_job(database, job_id):
    assert fail_for_a_file(database, 5) == ["queued"] * 4 + ["failed"]


def test_failures_of_files_are_counted_since_the_last_progress(database, job_id):
    fail_for_a_file(database, 4)
    claim = claim_again(database)
    with database.transaction() as s:
        factories.checkpoint(s, job_id, claim.fence, 5)
    end(database, claim, outcome="io", charge=False)

    assert fail_for_a_file(database, 5) == ["queued"] * 4 + ["failed"]


def test_failures_of_files_before_a_retry_do_not_count(database, job_id):
    fail_for_a_file(database, 5)
    database.tx(lambda s: job_store.retry(s, job_id, actor="user:1"))

    assert fail_for_a_file(database, 1) == ["queued"]


def test_a_second_exception_of_the_training_code_fails_the_job(database, job_id):
    states = [
        end(database, claim_again(database), user_failure=True, reason="ValueError: x.")
        for _ in range(2)
    ]

    assert states == ["queued", "failed"]
    assert get_job(database, job_id).reason == (
        "ValueError: x. The training code failed 2 times."
    )


def test_a_permanent_error_fails_at_once_with_its_sentence(database, job_id, claim):
    state = end(
        database,
        claim,
        outcome="failed",
        permanent=True,
        reason="`base_model` is not known.",
        failure_code="bad_spec",
    )

    job = get_job(database, job_id)
    assert state == "failed"
    assert (job.reason, job.failure_code) == ("`base_model` is not known.", "bad_spec")


def test_a_pausing_job_is_paused_when_its_attempt_ends(database, job_id, claim):
    with database.transaction() as s:
        job_store.pause(s, job_id, actor="user:1")

    assert end(database, claim, outcome="stopped", charge=False) == "paused"
    with database.transaction() as s:
        assert job_store.resume(s, job_id, actor="user:1") == "queued"


def test_the_wish_to_finish_outlives_a_crash(database, job_id, claim):
    with database.transaction() as s:
        job_store.finish_now(s, job_id, actor="user:1")
    end(database, claim)

    again = claim_again(database)

    renew = database.tx(
        lambda s: attempt_store.renew(s, job_id, again.fence, lease_ms=1000)
    )
    assert renew == "finish"


def test_a_charged_attempt_waits_before_the_next(database, job_id, claim):
    end(database, claim, limits=Limits(retry_backoff_seconds=30))

    assert claim_again(database) is None
    job = get_job(database, job_id)
    assert 23_000 < job.not_before - job.updated_at <= 30_000


def test_running_time_adds_up(database, job_id, claim):
    with database.transaction() as s:
        attempt = s.get(factories.attempt_store.Attempt, (job_id, 1))
        attempt.started_at -= 5000
    end(database, claim)

    assert 5000 <= get_job(database, job_id).running_ms < 10_000


def test_an_ingest_publishes_a_dataset_version(database):
    with database.transaction() as s:
        owner_id = factories.make_user(s).id
        dataset_id = factories.make_dataset(s, owner_id).id
        for _ in range(2):
            factories.make_job(s, owner_id, kind="ingest", dataset_id=dataset_id)
        claims = [factories.claim(s) for _ in range(2)]
        versions = [
            factories.complete_ingest(s, c.job_id, c.fence).version for c in claims
        ]

    assert versions == [1, 2]
    again = database.tx(
        lambda s: factories.complete_ingest(s, claims[0].job_id, claims[0].fence)
    )
    assert (again.version, again.already) == (1, True)
    assert get_job(database, claims[1].job_id).dataset_version_id is not None


class TestVersionsOfOthers:
    """A dataset version that is made from another one."""

    def claims(self, session, count):
        owner_id = factories.make_user(session).id
        dataset_id = factories.make_dataset(session, owner_id).id
        for _ in range(count):
            factories.make_job(session, owner_id, kind="ingest", dataset_id=dataset_id)
        return dataset_id, [factories.claim(session) for _ in range(count)]

    def test_its_row_names_its_parent_and_what_changed(self, database):
        changes = {"parent_version": 1, "counts": {"added": 3}, "sentences": ["x"]}
        with database.transaction() as s:
            dataset_id, (one, two) = self.claims(s, 2)
            factories.complete_ingest(s, one.job_id, one.fence, made_from=0)
            factories.complete_ingest(
                s, two.job_id, two.fence, made_from=1, changes=changes
            )

        with database.reading() as s:
            newest = dataset_store.latest_version(s, dataset_id)
            first = dataset_store.get_numbered_version(s, dataset_id, 1)
            assert dataset_store.find_parent_number(s, newest) == 1
            assert dataset_store.find_parent_number(s, first) is None
            with pytest.raises(NotFoundError, match="has no version 7"):
                dataset_store.get_numbered_version(s, dataset_id, 7)
        assert (newest.changes, first.changes) == (changes, None)

    @pytest.mark.parametrize("made_from", [0, 2])
    def test_what_is_not_made_from_the_newest_is_not_published(
        self, database, made_from
    ):
        with database.transaction() as s:
            _, (one, two) = self.claims(s, 2)
            factories.complete_ingest(s, one.job_id, one.fence)

        with pytest.raises(OutdatedError, match="Version 1 was made"):
            database.tx(
                lambda s: factories.complete_ingest(
                    s, two.job_id, two.fence, made_from=made_from
                )
            )

        assert get_job(database, two.job_id).state == "running"
