"""Jobs that give way to more urgent ones: the rules, and the record of them."""

import pytest

from shared import (
    attempt_store,
    job_read_store,
    job_store,
    preemption_store,
    user_limit_store,
)
from shared.errors import ConflictError
from shared.preemption import Occupant, Slot, Urgent, choose_giving_way
from shared.user_limit_store import UserLimits
from tests import factories


def slot(number, occupant=None, gpu_mem_mb=0, queues=("default",), kinds=("train",)):
    return Slot(number, frozenset(kinds), frozenset(queues), gpu_mem_mb, occupant)


def runs(number, priority=0, started_at=0, *, preemptible=True):
    return Occupant(number, 1, priority, preemptible, started_at)


def urgent(number, priority=5, gpu_mem_mb=0, queue="default"):
    return Urgent(number, "train", queue, gpu_mem_mb, priority)


def chosen(waiting, slots):
    found = choose_giving_way(waiting, slots)
    return [(occupant.job_id, job.job_id) for occupant, job in found]


def test_the_least_urgent_gives_way_and_of_equals_the_last_one():
    slots = [
        slot(1, runs(1, priority=2)),
        slot(2, runs(2, started_at=10)),
        slot(3, runs(3, started_at=20)),
    ]

    assert chosen([urgent(9)], slots) == [(3, 9)]
    assert chosen([urgent(9), urgent(8), urgent(7)], slots) == [(3, 9), (2, 8), (1, 7)]


@pytest.mark.parametrize(
    "occupant", [runs(1, preemptible=False), runs(1, priority=5), runs(1, priority=6)]
)
def test_only_a_less_urgent_job_that_may_gives_way(occupant):
    assert chosen([urgent(9)], [slot(1, occupant)]) == []


def test_nobody_gives_way_where_a_worker_is_free():
    slots = [slot(1, runs(1)), slot(2)]

    assert chosen([urgent(9)], slots) == []
    assert chosen([urgent(9), urgent(8)], slots) == [(1, 8)]


def test_who_gives_way_must_make_room_that_the_other_can_use():
    slots = [
        slot(1, runs(1), gpu_mem_mb=8_000),
        slot(2, runs(2), queues=("night",), gpu_mem_mb=80_000),
        slot(3, runs(3, priority=1), gpu_mem_mb=24_000),
    ]

    assert chosen([urgent(9, gpu_mem_mb=16_000)], slots) == [(3, 9)]
    assert chosen([urgent(9, queue="day")], slots) == []


def test_small_jobs_leave_large_workers_free():
    slots = [slot(1, gpu_mem_mb=80_000), slot(2), slot(3, runs(3), gpu_mem_mb=80_000)]

    assert chosen([urgent(9), urgent(8, gpu_mem_mb=40_000)], slots) == []


# In the records


@pytest.fixture
def place(database):
    """A worker that runs a preemptible job, and a user."""
    with database.transaction() as s:
        owner_id = factories.make_user(s).id
        worker_id = factories.make_worker(s)
        job_id = factories.make_job(s, owner_id, preemptible=True)
        claim = factories.claim(s, worker_id=worker_id)
    assert claim.job_id == job_id
    return {"owner_id": owner_id, "worker_id": worker_id, "claim": claim}


def submit(database, place, **fields):
    with database.transaction() as s:
        return factories.make_job(s, place["owner_id"], **fields)


def make_way(database, max_running=None):
    """Looks once, as the reconciler does; returns who was asked."""
    with database.reading() as s:
        pairs = preemption_store.find_giving_way(
            s, lease_ms=60_000, max_running_per_user=max_running
        )
    return [
        occupant.job_id
        for occupant, job in pairs
        if database.tx(
            lambda s, occupant=occupant, job=job: preemption_store.ask(
                s, occupant, job, actor="reconciler"
            )
        )
    ]


def get_job(database, job_id):
    with database.reading() as s:
        return job_read_store.get_job(s, job_id)


def stop(database, claim, outcome="paused", **values):
    with database.transaction() as s:
        attempt_store.end(
            s, claim.job_id, claim.fence, outcome=outcome,
            **{"charge": False, "backoff_ms": 0, **values},
        )  # fmt: skip


def test_it_saves_waits_and_the_urgent_one_is_next(database, place):
    claim = place["claim"]
    more = submit(database, place, priority=3)

    assert make_way(database) == [claim.job_id]
    assert make_way(database) == []  # it is asked once

    desired = database.tx(
        lambda s: attempt_store.renew(s, claim.job_id, claim.fence, lease_ms=1000)
    )
    assert desired == "pause"
    stop(database, claim)
    job = get_job(database, claim.job_id)
    assert (job.state, job.desired, job.gives_way_to) == ("queued", "run", None)
    with database.transaction() as s:
        taken = factories.claim(s, worker_id=place["worker_id"])
    assert taken.job_id == more
    with database.transaction() as s:
        factories.complete(s, taken.job_id, taken.fence)
        again = factories.claim(s, worker_id=place["worker_id"])
    assert (again.job_id, again.fence) == (claim.job_id, 2)
    with database.reading() as s:
        notes = job_read_store.list_notes(s, claim.job_id)
    assert any(f"gives way to job {more}" in note.message for note in notes)


def test_equals_and_jobs_that_may_not_start_interrupt_nobody(database, place):
    submit(database, place)
    submit(database, place, priority=9, queue="night")
    submit(database, place, priority=9, not_before=9_000_000_000_000)

    assert make_way(database) == []
    assert make_way(database) == []


def test_only_as_many_give_way_as_may_start(database, place):
    """The owner of the urgent ones may have one running, and has none."""
    with database.transaction() as s:
        second = factories.make_worker(s)
        factories.make_job(s, place["owner_id"], preemptible=True)
        factories.claim(s, worker_id=second)
        bob = factories.make_user(s).id
        user_limit_store.set_limits(s, bob, UserLimits(running=1), actor="user:1")
        for _ in range(3):
            factories.make_job(s, bob, priority=9)

    assert len(make_way(database)) == 1


def test_at_one_s_limit_only_one_s_own_gives_way(database, place):
    with database.transaction() as s:
        second = factories.make_worker(s)
        bob = factories.make_user(s).id
        user_limit_store.set_limits(s, bob, UserLimits(running=1), actor="user:1")
        own = factories.make_job(s, bob, preemptible=True, priority=2)
        factories.claim(s, worker_id=second)
        factories.make_job(s, bob, priority=9)

    assert make_way(database) == [own]


def test_who_has_just_failed_on_the_worker_interrupts_nobody(database, place):
    urgent_id = submit(database, place, priority=9)
    with database.transaction() as s:
        claim = factories.claim(s, worker_id=99)
        attempt_store.end(
            s, urgent_id, claim.fence, outcome="crash", charge=True, backoff_ms=0
        )

    assert make_way(database) == []


def test_who_waits_no_longer_needs_no_way(database, place):
    urgent_id = submit(database, place, priority=9)
    with database.reading() as s:
        pairs = preemption_store.find_giving_way(
            s, lease_ms=60_000, max_running_per_user=None
        )
    database.tx(lambda s: job_store.cancel(s, urgent_id, actor="user:1"))

    assert len(pairs) == 1
    asked = database.tx(lambda s: preemption_store.ask(s, *pairs[0], actor="r"))
    assert not asked


def test_a_user_may_still_pause_and_cancel_it(database, place):
    claim = place["claim"]
    submit(database, place, priority=3)
    make_way(database)

    with pytest.raises(ConflictError):
        database.tx(lambda s: job_store.resume(s, claim.job_id, actor="user:1"))
    database.tx(lambda s: job_store.pause(s, claim.job_id, actor="user:1"))
    stop(database, claim)

    assert get_job(database, claim.job_id).state == "paused"


def test_a_user_s_cancel_wins(database, place):
    claim = place["claim"]
    submit(database, place, priority=3)
    make_way(database)

    database.tx(lambda s: job_store.cancel(s, claim.job_id, actor="user:1"))
    with pytest.raises(ConflictError):
        database.tx(lambda s: job_store.pause(s, claim.job_id, actor="user:1"))
    assert get_job(database, claim.job_id).gives_way_to is None
    stop(database, claim, "cancelled")

    assert get_job(database, claim.job_id).state == "cancelled"


def test_dying_instead_of_stopping_is_charged_and_goes_on(database, place):
    claim = place["claim"]
    submit(database, place, priority=3)
    make_way(database)

    stop(database, claim, "crash", charge=True)

    job = get_job(database, claim.job_id)
    assert (job.state, job.desired, job.noprog) == ("queued", "run", 1)
    assert job.gives_way_to is None


def test_finishing_first_is_finishing(database, place):
    claim = place["claim"]
    submit(database, place, priority=3)
    make_way(database)

    with database.transaction() as s:
        factories.complete(s, claim.job_id, claim.fence)

    job = get_job(database, claim.job_id)
    assert (job.state, job.gives_way_to) == ("succeeded", None)


def test_one_job_is_asked_for_one_urgent_one(database, place):
    with database.transaction() as s:
        second = factories.make_worker(s)
        job_id = factories.make_job(s, place["owner_id"], preemptible=True)
        factories.claim(s, worker_id=second)
    submit(database, place, priority=3)

    assert make_way(database) == [job_id]
    assert make_way(database) == []  # one is about to be free
