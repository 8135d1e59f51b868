"""Rows 18 to 22, 33 and 43: the database, and the way to it."""

import sqlite3
import time

from sqlalchemy import text

from tests.chaos.arena import POSTGRES, SQLITE
from tests.chaos.rows import (
    expect,
    expect_success,
    expect_untouched,
    outcomes,
    recover,
    row,
)

PG = (POSTGRES,)
RESTART_SECONDS = 4.0
RESTARTS = 3
COMMIT = b"COMMIT\0"
CLOCK_JUMP = "1 hour"


@row(
    18, "immediate restarts of Postgres every four seconds",
    "no training is killed", kinds=PG,
)  # fmt: skip
def restart_postgres(arena, random):
    jobs = [arena.submit_and_wait(step=2, steps=150) for _ in range(2)]
    for _ in range(RESTARTS):
        time.sleep(random.uniform(0.5, 1) * RESTART_SECONDS)
        arena.postgres.kill()
        arena.postgres.start()
    expect_success(arena, *jobs)
    expect_untouched(arena, *jobs)


@row(
    19, "Postgres down for several leases",
    "training goes on, what it said is recorded afterwards, nothing is reaped",
    kinds=PG,
)  # fmt: skip
def stop_postgres(arena, random):
    jobs = [arena.submit_and_wait(step=random.randint(2, 8), steps=150) for _ in "ab"]
    arena.postgres.kill()
    time.sleep(random.uniform(2, 4) * arena.timers["lease_seconds"])
    arena.postgres.start()
    expect_success(arena, *jobs)
    expect_untouched(arena, *jobs)
    for job in jobs:
        lacking = sorted(set(range(1, 151)) - arena.steps(job))
        expect(not lacking, f"steps {lacking} of job {job.job_id} are not on record")


@row(
    20,
    "the answer to the COMMIT of a claim, checkpoint, completion or submission lost",
    "one claim, one row, one version", kinds=PG,
)  # fmt: skip
def lose_answer(arena, random):
    party, words = random.choice(
        [
            ("a", b"job_claimed"),
            ("b", b"job_claimed"),
            ("a", b"periodic"),  # the kind of the checkpoint that is registered
            ("b", b"periodic"),
            ("a", b"model_published"),
            ("b", b"model_published"),
            ("web", b"job_submitted"),
        ]
    )
    proxy = arena.proxies[party]
    for host in arena.hosts:
        if party != "web" and host.proxy is not proxy:
            host.stop()  # else it may have all of the jobs
    before = proxy.lost
    proxy.lose_answer_to(COMMIT, after=words)
    jobs = [arena.submit(steps=random.randint(10, 30)) for _ in range(4)]
    expect_success(arena, *jobs)
    expect(proxy.lost == before + 1, f"{proxy.lost - before} answers were lost")


@row(
    21, "pg_terminate_backend of connections drawn at random",
    "no training is killed", kinds=PG,
)  # fmt: skip
def terminate_backends(arena, random):
    jobs = [arena.submit_and_wait(step=2, steps=100) for _ in range(2)]
    for _ in range(20):
        arena.postgres.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE datname = '{arena.name}' AND pid <> pg_backend_pid()"
            " ORDER BY random() LIMIT 2"
        )
        time.sleep(random.uniform(0, 0.3))
    expect_success(arena, *jobs)
    expect_untouched(arena, *jobs)


@row(
    22, "another writer holds SQLite's lock for five seconds",
    "all wait, nothing is lost",
    kinds=(SQLITE,),
)  # fmt: skip
def hold_sqlite(arena, random):
    jobs = [arena.submit_and_wait(step=random.randint(2, 8), steps=150) for _ in "ab"]
    connection = sqlite3.connect(
        arena.folder / "trainyard.sqlite", isolation_level=None, timeout=30
    )
    connection.execute("BEGIN IMMEDIATE")
    time.sleep(5)
    connection.execute("ROLLBACK")
    connection.close()
    expect_success(arena, *jobs)
    expect_untouched(arena, *jobs)


@row(
    33, "the clock of the database's host jumps by an hour",
    "nothing is reaped that renews its lease", kinds=PG,
)  # fmt: skip
def jump_database_clock(arena, random):
    jobs = [arena.submit_and_wait(step=random.randint(2, 8), steps=120) for _ in "ab"]
    _shift_clock(arena)
    expect_success(arena, *jobs)
    expect_untouched(arena, *jobs)
    expect_success(arena, arena.submit(steps=5))


def _shift_clock(arena):
    """Lets Postgres tell a time an hour later than before, in every session.

    A function of the same name, found before the system's own, stands in for a changed
    clock: the server runs on this machine, whose clock others use.
    """
    with arena.database.transaction() as session:
        session.execute(text("CREATE SCHEMA IF NOT EXISTS shifted"))
        session.execute(
            text("CREATE TABLE IF NOT EXISTS shifted.by (hours int NOT NULL)")
        )
        session.execute(text("INSERT INTO shifted.by VALUES (1)"))
        session.execute(
            text(
                "CREATE OR REPLACE FUNCTION shifted.clock_timestamp()"
                " RETURNS timestamptz LANGUAGE sql VOLATILE AS"
                " $$ SELECT pg_catalog.clock_timestamp() + make_interval(hours =>"
                " (SELECT sum(hours) FROM shifted.by)::int) $$"
            )
        )
    arena.postgres.execute(
        f"ALTER DATABASE {arena.name} SET search_path = shifted, pg_catalog, public"
    )
    arena.postgres.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        f" WHERE datname = '{arena.name}' AND pid <> pg_backend_pid()"
    )


@row(
    43, "a worker cut off from the database, not from the broker",
    "taken over; the zombie stops, and what it writes is refused", kinds=PG,
)  # fmt: skip
def partition(arena, random):
    job = arena.submit_and_wait(step=random.randint(2, 12), steps=400)
    host = arena.host_of(job)
    trainer = arena.trainer(job)
    facts = recover(arena, job, host.proxy.partition, redone=400)
    if random.random() < 0.5:
        limit = arena.timers["unconfirmed_lease_seconds"]
        _expect_end(trainer, limit + 10)
    else:
        time.sleep(random.uniform(0, 3))
    host.proxy.heal()
    _expect_end(trainer, arena.timers["stop_grace_seconds"] + 10)
    expect(outcomes(arena, job)[0] == "lost", f"ended as {outcomes(arena, job)}")
    return facts


def _expect_end(process, seconds):
    deadline = time.monotonic() + seconds
    while process.is_running() and process.status() != "zombie":
        expect(time.monotonic() < deadline, "the zombie's trainer trains on")
        time.sleep(0.05)
