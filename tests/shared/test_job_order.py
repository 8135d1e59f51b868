"""Where waiting jobs stand, and what moving them does, on both databases."""

import pytest
from sqlalchemy import select, update

from shared import attempt_store, job_order_store, job_store
from shared.errors import ConflictError, NotFoundError, UserError
from shared.job_order_store import GAP, Target
from shared.tables import Audit, Job
from tests import factories


@pytest.fixture
def jobs(database, owner_id):
    """Five jobs of one owner, in the order in which they were submitted."""
    with database.transaction() as s:
        return [factories.make_job(s, owner_id) for _ in range(5)]


def order(database, kind="train"):
    with database.reading() as s:
        return [job.id for job in job_order_store.list_waiting(s, kind).items]


def move(database, job_id, neighbour_id, side="before"):
    target = Target(neighbour_id, side)
    database.tx(lambda s: job_order_store.move(s, job_id, target, actor="user:1"))


def step(database, job_id, step):
    with database.reading() as s:
        target = job_order_store.find_neighbour(s, job_id, step)
    if target is not None:
        move(database, job_id, target.neighbour_id, target.side)


def claim_all(database):
    claimed = []
    while (claim := database.tx(factories.claim)) is not None:
        claimed.append(claim.job_id)
    return claimed


def test_the_list_is_the_order_in_which_jobs_are_claimed(database, owner_id, jobs):
    with database.transaction() as s:
        other = factories.make_user(s, email="b@b.c").id
        urgent = factories.make_job(s, owner_id, priority=3)
        fair = factories.make_job(s, other)
    move(database, jobs[4], jobs[1])
    expected = [urgent, jobs[0], fair, jobs[4], jobs[1], jobs[2], jobs[3]]

    assert order(database) == expected
    assert claim_all(database) == expected


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ((4, 0, "before"), [4, 0, 1, 2, 3]),
        ((4, 0, "after"), [0, 4, 1, 2, 3]),
        ((0, 4, "after"), [1, 2, 3, 4, 0]),
        ((0, 2, "before"), [1, 0, 2, 3, 4]),
        ((1, 2, "before"), [0, 1, 2, 3, 4]),
    ],
)
def test_a_job_stands_where_it_was_put(database, jobs, wish, expected):
    moved, beside, side = wish
    move(database, jobs[moved], jobs[beside], side)

    assert order(database) == [jobs[n] for n in expected]


def test_a_job_goes_to_either_end_whatever_the_priorities(database, owner_id, jobs):
    with database.transaction() as s:
        urgent = factories.make_job(s, owner_id, priority=9)
        idle = factories.make_job(s, owner_id, priority=-9)

    step(database, jobs[2], "first")
    step(database, jobs[0], "last")

    rest = [jobs[1], jobs[3], jobs[4]]
    assert order(database) == [jobs[2], urgent, *rest, idle, jobs[0]]
    with database.reading() as s:
        priorities = [s.get_one(Job, jobs[n]).priority for n in (2, 0)]
    assert priorities == [9, -9]


def test_a_job_goes_past_its_neighbour_whoever_that_is(database, owner_id, jobs):
    with database.transaction() as s:
        other = factories.make_user(s, email="b@b.c").id
        fair = factories.make_job(s, other)
        urgent = factories.make_job(s, owner_id, priority=9)
    assert order(database) == [urgent, jobs[0], fair, *jobs[1:]]

    step(database, jobs[1], "up")
    step(database, jobs[2], "down")
    step(database, jobs[0], "up")
    step(database, urgent, "down")

    expected = [jobs[0], jobs[1], urgent, fair, jobs[3], jobs[2], jobs[4]]
    assert order(database) == expected


def test_the_only_job_is_at_both_ends(database, owner_id):
    with database.transaction() as s:
        job_id = factories.make_job(s, owner_id)

    for name in ("first", "up", "down", "last"):
        step(database, job_id, name)

    assert order(database) == [job_id]


def test_there_is_always_room_between_two_jobs(database, jobs):
    """Each move halves the gap, so that all are spaced anew more than once."""
    expected = [*jobs]
    move(database, jobs[4], jobs[0], "after")
    expected = [jobs[0], jobs[4], *jobs[1:4]]
    for turn in range(70):
        last = expected[2]
        move(database, last, expected[0], "after")
        expected = [expected[0], last, *(j for j in expected[1:] if j != last)]
        if turn % 2:  # a pair that changes places keeps halving what is between them
            assert order(database) == expected

    assert order(database) == expected


def test_places_too_close_are_spaced_anew(database, owner_id, jobs):
    with database.transaction() as s:
        s.execute(update(Job).values(fair_rank=0, place=7))

    move(database, jobs[4], jobs[2])

    assert order(database) == [jobs[0], jobs[1], jobs[4], jobs[2], jobs[3]]
    with database.reading() as s:
        places = s.scalars(select(Job.place).order_by(*job_order_store.CLAIM_ORDER))
        assert list(places) == [n * GAP for n in range(5)]


def test_a_new_job_comes_behind_its_owners_others(database, owner_id, jobs):
    move(database, jobs[4], jobs[0])
    with database.transaction() as s:
        new = factories.make_job(s, owner_id)

    assert order(database)[-1] == new


def test_moving_is_on_record(database, jobs):
    move(database, jobs[3], jobs[1])

    with database.reading() as s:
        (line,) = s.scalars(select(Audit).where(Audit.event == "job_moved"))
    assert (line.actor, line.object_id) == ("user:1", str(jobs[3]))
    assert line.detail == {"before": jobs[1]}


def test_what_does_not_wait_has_no_place(database, owner_id, jobs):
    with database.transaction() as s:
        running = factories.claim(s).job_id
        job_store.pause(s, jobs[1], actor="user:1")
        reading = factories.make_job(s, owner_id, kind="ingest")

    with pytest.raises(ConflictError, match=f"Job {running} is running"):
        move(database, running, jobs[2])
    with pytest.raises(ConflictError, match=f"Job {jobs[1]} is paused"):
        move(database, jobs[2], jobs[1])
    with pytest.raises(NotFoundError, match="no job 999"):
        move(database, jobs[2], 999)
    with pytest.raises(UserError, match="beside itself"):
        move(database, jobs[2], jobs[2])
    with pytest.raises(UserError, match="of two kinds"):
        move(database, jobs[2], reading)
    assert order(database) == jobs[2:]


def test_moved_twice_by_one_request_it_stands_where_it_was_put(database, jobs):
    with database.reading() as s:
        target = job_order_store.find_neighbour(s, jobs[3], "up")
    for _ in range(2):  # as when the answer to the first COMMIT got lost
        move(database, jobs[3], target.neighbour_id, target.side)

    assert order(database) == [jobs[n] for n in (0, 1, 3, 2, 4)]


def test_another_priority_or_another_try_forgets_the_place(database, owner_id, jobs):
    step(database, jobs[4], "first")
    with database.transaction() as s:
        urgent = factories.make_job(s, owner_id, priority=5)
        job_store.set_priority(s, jobs[4], 5, "user:1")
    assert order(database)[:2] == [urgent, jobs[4]]

    step(database, jobs[4], "first")
    with database.transaction() as s:
        job_store.cancel(s, jobs[4], actor="user:1")
        job_store.retry(s, jobs[4], actor="user:1")
    assert order(database)[:2] == [urgent, jobs[4]]


def test_a_job_that_is_tried_again_keeps_a_place_of_its_own(database, jobs):
    move(database, jobs[4], jobs[0])
    claim = database.tx(factories.claim)
    with database.transaction() as s:
        attempt_store.end(
            s, claim.job_id, claim.fence, outcome="lost", charge=False, backoff_ms=0
        )

    assert claim.job_id == jobs[4]
    assert order(database)[0] == jobs[4]
