"""The queue played ahead, without any database."""

import random

from shared.expected_starts import (
    Allowance,
    Expected,
    Taker,
    Waiting,
    expect_starts,
)

NOW = 1_000_000


def taker(number, free_in=0, queues=("default",), kinds=("train",), gpu_mem_mb=0):
    return Taker(number, frozenset(kinds), frozenset(queues), gpu_mem_mb, NOW + free_in)


def waiting(count, **facts):
    return [Waiting(n, "train", **({"queue": "default"} | facts)) for n in range(count)]


def ten_seconds(_job, _slot):
    return 10


def times(expected):
    """What is expected, in seconds from now, by job."""
    return {
        job: ((e.starts_at - NOW) / 1000, e.ends_at and (e.ends_at - NOW) / 1000)
        for job, e in expected.items()
    }


def test_one_worker_does_one_job_after_the_other_once_it_is_free():
    expected = expect_starts(waiting(3), [taker(1, free_in=5000)], ten_seconds, NOW)

    assert times(expected) == {0: (5, 15), 1: (15, 25), 2: (25, 35)}


def test_whoever_is_free_first_takes_the_next():
    takers = [taker(1, free_in=-50_000), taker(2, free_in=3000)]

    expected = expect_starts(waiting(4), takers, lambda _j, s: 4 * s.worker_id, NOW)

    assert times(expected) == {0: (0, 4), 1: (3, 11), 2: (4, 8), 3: (8, 12)}


def test_jobs_wait_for_a_worker_that_may_take_them():
    jobs = [
        Waiting(1, "train", "default", gpu_mem_mb=8000),
        Waiting(2, "train", "night"),
        Waiting(3, "ingest", "default"),
        Waiting(4, "train", "default"),
    ]
    takers = [
        taker(1),
        taker(2, free_in=60_000, gpu_mem_mb=16_000, queues=("default",)),
    ]

    assert times(expect_starts(jobs, takers, ten_seconds, NOW)) == {
        1: (60, 70),
        4: (0, 10),
    }


def test_who_is_not_due_is_overtaken_and_then_comes_in_its_place():
    jobs = [Waiting(1, "train", "default", not_before=NOW + 12_000), *waiting(1)]
    jobs += [Waiting(2, "train", "default"), Waiting(3, "train", "default")]

    expected = times(expect_starts(jobs, [taker(1)], ten_seconds, NOW))

    assert expected == {0: (0, 10), 2: (10, 20), 1: (20, 30), 3: (30, 40)}


def test_an_idle_worker_waits_for_who_is_due_later():
    jobs = [Waiting(1, "train", "default", not_before=NOW + 12_000)]

    assert times(expect_starts(jobs, [taker(1)], ten_seconds, NOW)) == {1: (12, 22)}


def test_a_job_of_unknown_length_has_a_start_and_keeps_its_worker():
    expected = expect_starts(
        waiting(3), [taker(1)], lambda job, _: None if job.job_id == 1 else 10, NOW
    )

    assert times(expected) == {0: (0, 10), 1: (10, None)}


def test_without_workers_nothing_is_expected():
    assert expect_starts(waiting(2), [], ten_seconds, NOW) == {}


def test_the_queue_is_played_as_it_would_be_step_by_step():
    """Against a plain search of the whole queue at each choice."""
    rng = random.Random(7)
    for _ in range(30):
        jobs = [
            Waiting(
                n, rng.choice(["train", "ingest"]), rng.choice("ab"),
                rng.choice([0, 8000]), NOW + rng.choice([0, 0, rng.randrange(60_000)]),
            )
            for n in range(40)
        ]  # fmt: skip
        takers = [
            taker(
                n, rng.randrange(30_000), rng.sample("ab", rng.randint(1, 2)),
                ["train", "ingest"], rng.choice([0, 8000]),
            )
            for n in range(4)
        ]  # fmt: skip

        def seconds(job, taker):
            return 1 + (7 * job.job_id + 3 * taker.worker_id) % 11

        assert expect_starts(jobs, takers, seconds, NOW) == play_plainly(
            jobs, takers, seconds
        )


def play_plainly(jobs, takers, seconds):
    left, expected = list(jobs), {}
    free = {s.worker_id: (max(NOW, s.free_at), s) for s in takers}
    while free:
        at, taker = min(free.values(), key=lambda found: (found[0], found[1].worker_id))
        mine = [
            j for j in left
            if j.kind in taker.kinds and j.queue in taker.queues
            and j.gpu_mem_mb <= taker.gpu_mem_mb
        ]  # fmt: skip
        due = [j for j in mine if j.not_before <= at]
        if due:
            ends_at = at + 1000 * seconds(due[0], taker)
            expected[due[0].job_id] = Expected(at, ends_at)
            left.remove(due[0])
            free[taker.worker_id] = (ends_at, taker)
        elif mine:
            free[taker.worker_id] = (min(j.not_before for j in mine), taker)
        else:
            del free[taker.worker_id]
    return expected


# Owners who are limited


def owned(number, owner_id, **facts):
    return Waiting(number, "train", "default", owner_id=owner_id, **facts)


def test_who_may_have_one_running_starts_one_after_the_other():
    jobs = [owned(0, 7), owned(1, 7), Waiting(2, "train", "default")]

    expected = expect_starts(
        jobs, [taker(1), taker(2)], ten_seconds, NOW, {7: Allowance(1, [])}
    )

    assert times(expected) == {0: (0, 10), 2: (0, 10), 1: (10, 20)}


def test_what_runs_already_counts():
    ends = [NOW + 4_000.5, NOW + 30_000, NOW - 1]

    expected = expect_starts(
        [owned(0, 7), owned(1, 7)], [taker(1), taker(2)], ten_seconds, NOW,
        {7: Allowance(2, ends)},
    )  # fmt: skip

    assert times(expected) == {0: (4.001, 14.001), 1: (14.001, 24.001)}


def test_behind_a_job_that_may_take_any_time_nobody_can_tell():
    expected = expect_starts(
        [owned(0, 7), owned(1, 7)], [taker(1), taker(2)], lambda *_: None, NOW,
        {7: Allowance(1, [])},
    )  # fmt: skip

    assert times(expected) == {0: (0, None)}


def test_a_wait_for_room_and_for_a_time_is_the_longer_of_both():
    jobs = [owned(0, 7), owned(1, 7, not_before=NOW + 25_000)]

    expected = expect_starts(
        jobs, [taker(1), taker(2)], ten_seconds, NOW, {7: Allowance(1, [])}
    )

    assert times(expected) == {0: (0, 10), 1: (25, 35)}
