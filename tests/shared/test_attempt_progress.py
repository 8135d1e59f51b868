"""Checkpoints, curves and notes, on both databases."""

import time

import pytest

from shared import attempt_store, job_read_store, job_store
from shared.attempt_store import MetricPoint
from tests import factories


@pytest.fixture
def job_id(database):
    with database.transaction() as s:
        return factories.make_job(s)


@pytest.fixture
def claim(database, job_id):
    return database.tx(factories.claim)


def lose(database, claim):
    """Ends the attempt, and claims the job again."""
    with database.transaction() as s:
        attempt_store.end(
            s, claim.job_id, claim.fence, outcome="lost", charge=False, backoff_ms=0
        )
    return database.tx(factories.claim)


def add_losses(database, claim, steps, seq=0):
    points = [MetricPoint("loss", seq + n, n, claim.fence) for n in steps]
    database.tx(
        lambda s: attempt_store.add_metrics(s, claim.job_id, claim.fence, points)
    )


def read_curve(database, job_id):
    with database.reading() as s:
        return [
            (point.step, point.value)
            for point in job_read_store.metrics_curve(s, job_id)
        ]


def test_resume_begins_at_the_newest_checkpoint_that_is_whole(database, job_id, claim):
    with database.transaction() as s:
        for step in (10, 20, 30):
            factories.checkpoint(s, job_id, 1, step, rel_path=f"c/{step}")
        attempt_store.mark_checkpoint_corrupt(s, job_id, 1, "c/30")

    with database.reading() as s:
        found = attempt_store.list_resume_checkpoints(s, job_id, 0)
    assert [row.step for row in found] == [20, 10]


def test_a_checkpoint_registered_twice_is_kept_once(database, job_id, claim):
    for _ in range(2):
        database.tx(lambda s: factories.checkpoint(s, job_id, 1, 5))

    with database.reading() as s:
        assert len(job_read_store.list_checkpoints(s, job_id)) == 1


def test_memory_kills_are_counted_by_job_where_smaller_passes_help(database, job_id):
    with database.transaction() as s:
        other = factories.make_job(s)
    ends = [
        ("fine_tune", "oom"),
        ("fine_tune", "killed"),
        ("evaluate", "oom"),
        ("prepare", "oom"),
        ("export", "oom"),
    ]
    for phase, outcome in ends:
        claim = database.tx(factories.claim)
        with database.transaction() as s:
            attempt_store.record_progress(
                s, job_id, claim.fence, phase=phase, done=1, total=2, unit="steps"
            )
            attempt_store.end(
                s, job_id, claim.fence, outcome=outcome, charge=False, backoff_ms=0
            )

    with database.reading() as s:
        counts = [attempt_store.count_memory_kills(s, n) for n in (job_id, other)]
    assert counts == [2, 0]


def test_divergences_are_counted_by_phase_and_anew_after_a_retry(database, job_id):
    def diverge(phase, **ending):
        claim = database.tx(factories.claim)
        with database.transaction() as s:
            attempt_store.record_progress(
                s, job_id, claim.fence, phase=phase, done=1, total=2, unit="steps"
            )
            attempt_store.end(
                s, job_id, claim.fence, outcome="diverged", charge=True, backoff_ms=0,
                **ending,
            )  # fmt: skip

    def count():
        with database.reading() as s:
            return attempt_store.count_divergences(s, job_id)

    diverge("frozen")
    diverge("fine_tune")
    diverge("fine_tune", permanent=True)
    assert count() == {"frozen": 1, "fine_tune": 2}

    with database.transaction() as s:
        job_store.retry(s, job_id, actor="user:1")
    assert count() == {}
    time.sleep(0.002)  # the clock counts milliseconds
    diverge("fine_tune")
    assert count() == {"fine_tune": 1}


def test_the_finished_result_is_no_place_to_resume_from(database, job_id, claim):
    with database.transaction() as s:
        factories.checkpoint(s, job_id, 1, 20)
        factories.checkpoint(s, job_id, 1, 20, kind="final", rel_path="final")

    with database.reading() as s:
        assert attempt_store.find_final_checkpoint(s, job_id, 0).rel_path == "final"
        found = attempt_store.list_resume_checkpoints(s, job_id, 0)
    assert [row.kind for row in found] == ["periodic"]


def test_going_back_to_an_older_checkpoint_lets_the_same_steps_count_again(
    database, job_id, claim
):
    with database.transaction() as s:
        factories.checkpoint(s, job_id, 1, 100)
    second = lose(database, claim)
    with database.transaction() as s:
        attempt_store.record_resumed(s, job_id, second.fence, 50)
        factories.checkpoint(s, job_id, second.fence, 60)

    with database.reading() as s:
        job = job_read_store.get_job(s, job_id)
    assert (job.last_step, job.attempt_start_step) == (60, 50)


def test_a_curve_has_neither_gaps_nor_doubles(database, job_id, claim):
    add_losses(database, claim, range(1, 8))
    database.tx(lambda s: factories.checkpoint(s, job_id, 1, 4))
    second = lose(database, claim)
    add_losses(database, second, range(5, 7))
    third = lose(database, second)  # nothing was saved after step 4
    add_losses(database, third, range(5, 10))

    curve = read_curve(database, job_id)

    assert curve == [(n, 1 if n <= 4 else 3) for n in range(1, 10)]


def test_a_step_told_by_two_attempts_is_shown_once(database, job_id, claim):
    add_losses(database, claim, [1, 2])
    database.tx(lambda s: factories.checkpoint(s, job_id, 1, 2))
    second = lose(database, claim)
    add_losses(database, second, [2, 3])

    assert read_curve(database, job_id) == [(1, 1), (2, 2), (3, 2)]


def test_a_job_begun_anew_draws_a_new_curve(database, job_id, claim):
    add_losses(database, claim, range(1, 5))
    database.tx(lambda s: factories.checkpoint(s, job_id, 1, 4))
    with database.transaction() as s:
        attempt_store.end(s, job_id, 1, outcome="failed", charge=False, permanent=True)
        job_store.retry(s, job_id, actor="user:1", from_scratch=True)
        again = factories.claim(s)
    add_losses(database, again, [1])

    assert read_curve(database, job_id) == [(1, 2)]


def test_metrics_sent_again_or_out_of_order_are_kept_once(database, job_id, claim):
    for steps in ([3, 4], [1, 2, 3], [4]):
        add_losses(database, claim, steps)

    assert [step for step, _ in read_curve(database, job_id)] == [1, 2, 3, 4]


def test_two_thousand_points_at_once(database, job_id, claim):
    add_losses(database, claim, range(2000))

    assert len(read_curve(database, job_id)) == 2000


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_values_that_no_chart_can_show_are_left_out(database, job_id, claim, value):
    event = {"seq": 1, "step": 1, "values": {"loss": value, "accuracy": 0.5}}
    database.tx(
        lambda s: attempt_store.add_metrics(
            s, job_id, 1, attempt_store.points_of(event)
        )
    )

    assert read_curve(database, job_id) == [(1, 0.5)]


def test_progress_is_shown_with_its_eta(database, job_id, claim):
    with database.transaction() as s:
        attempt_store.record_progress(
            s, job_id, 1, phase="frozen", done=3, total=40, unit="epochs", eta_seconds=9
        )

    with database.reading() as s:
        job = job_read_store.get_job(s, job_id)
    assert (job.phase, job.progress_done, job.progress_total, job.eta_seconds) == (
        "frozen",
        3,
        40,
        9,
    )


def test_a_note_said_twice_is_shown_once(database, job_id, claim):
    for _ in range(2):
        database.tx(
            lambda s: attempt_store.add_note(s, job_id, 1, "warning", "Disk is slow.")
        )

    with database.reading() as s:
        assert [n.message for n in job_read_store.list_notes(s, job_id)] == [
            "Disk is slow."
        ]
