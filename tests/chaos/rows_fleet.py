"""Rows 32, 35, 37, 41, 42 and 46: clocks, slots, reconcilers, and all at once."""

import contextlib
import os
import signal
import time
from pathlib import Path

from sqlalchemy import update

from shared import worker_store
from shared.tables import Job
from tests.chaos.arena import POSTGRES
from tests.chaos.hosts import Host
from tests.chaos.oracles import count_redone
from tests.chaos.records import CHECKPOINT_STEPS
from tests.chaos.rows import (
    CannotInject,
    expect,
    expect_success,
    expect_untouched,
    outcomes,
    recover,
    row,
)
from tests.chaos.toys import CLOCK, GROUP

HOUR_SECONDS = 3600
CONTROL_GROUPS = Path("/sys/fs/cgroup")
GROUP_SECONDS = 10
MEMORY_BYTES = 600 << 20
NEMESIS_SECONDS = 20.0
NEMESIS_JOBS = 4
STEP_SECONDS = 0.05


@row(
    32, "a worker whose clock is an hour ahead, or behind", "no effect",
)  # fmt: skip
def shift_worker_clock(arena, random):
    host = random.choice(arena.hosts)
    other = next(each for each in arena.hosts if each is not host)
    host.stop()
    host.start(**{CLOCK: str(random.choice([HOUR_SECONDS, -HOUR_SECONDS]))})
    other.freeze()  # so that this one gets the job
    try:
        job = arena.submit_and_wait(step=random.randint(2, 8))
        other.thaw()
        expect_success(arena, job)
        expect_untouched(arena, job)
    finally:
        other.thaw()
        host.stop()
        host.start()


@row(
    35, "the kernel kills the trainer for lack of memory",
    "the page says so, and it counts against the budget",
)  # fmt: skip
def exhaust_memory(arena, random):
    host, other = random.sample(arena.hosts, 2)
    host.stop()
    with _memory_group() as group:
        host.start(**{GROUP: str(group)})
        other.stop()
        fault = {"step": random.randint(2, 10), "do": "eat_memory", "fences": [1]}
        job = arena.submit(faults=[fault])
        arena.wait_for_step(job, fault["step"])
        facts = recover(arena, job, lambda: None)
        expect(outcomes(arena, job)[0] == "oom", f"ended as {outcomes(arena, job)}")
        told = [n for n in arena.notes(job) if "ran out of memory" in n]
        expect(told, "its page does not tell")
        expect_success(arena, job)
        host.stop()
    return facts


@contextlib.contextmanager
def _memory_group():
    """A control group whose processes may use little memory, to be joined.

    Source: the Linux kernel's documentation of control groups, versions 1 and 2.
    """
    is_new = (CONTROL_GROUPS / "cgroup.controllers").exists()
    parent = CONTROL_GROUPS if is_new else CONTROL_GROUPS / "memory"
    limit = "memory.max" if is_new else "memory.limit_in_bytes"
    group = parent / f"trainyard-chaos-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(str(MEMORY_BYTES))
    except OSError as error:
        raise CannotInject(f"no control group can be made here: {error}") from error
    try:
        yield group
    finally:
        deadline = time.monotonic() + GROUP_SECONDS
        while group.exists() and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                group.rmdir()
            time.sleep(0.1)


@row(
    37, "a slot that fails every job",
    "out of service after three jobs, which succeed elsewhere",
)  # fmt: skip
def dig_black_hole(arena, random):
    name = f"hole-{random.randrange(10**6)}"
    hole = Host(name, arena, arena.hosts[0].proxy, TOY_HOLE="1")
    hole.start()
    try:
        arena.wait(lambda: _status(arena, name), "the bad worker")
        jobs = [arena.submit(steps=random.randint(20, 40)) for _ in range(8)]
        arena.wait(
            lambda: _status(arena, name) == worker_store.QUARANTINED, "the quarantine"
        )
        expect_success(arena, *jobs)
    finally:
        hole.stop()


def _status(arena, host):
    items = arena.client.get("/workers")["items"]
    return next((row["status"] for row in items if row["host"] == host), None)


@row(
    41, "no reconciler, two, or ten", "slower, the same, the same",
)  # fmt: skip
def count_reconcilers(arena, random):
    job = arena.submit_and_wait(step=random.randint(2, 12), steps=100)
    host = arena.host_of(job)
    number = random.choice([0, 2, 10])
    if number == 0:
        arena.kill_reconcilers()
        arena.kill_web()  # which sweeps as well
        host.stop()
        time.sleep(2 * arena.timers["lease_seconds"])
        expect(arena.job(job).fence == 1, "nobody was there to reap it")
        arena.heal()
        arena.wait_for_attempt(job, 2)
    else:
        while len(arena.reconcilers) < number:
            arena.start_reconciler()
        recover(arena, job, host.stop)
        for process in arena.reconcilers[1:]:
            process.kill()
            process.wait(10)
    expect_success(arena, job)
    expect(arena.job(job).attempts == 2, f"{arena.job(job).attempts} attempts")


@row(
    42, "a reconciler that starts where leases have run out, or have long to run",
    "it waits for one lease, and who lives is left alone",
)  # fmt: skip
def restart_reconciler(arena, random):
    job = arena.submit_and_wait(step=random.randint(2, 8), steps=200)
    host = arena.host_of(job)
    lease = arena.timers["lease_seconds"]
    before = _count_reconcilers(arena)
    arena.kill_reconcilers()
    arena.kill_web()  # which sweeps as well
    host.freeze()
    if random.random() < 0.5:
        # As after a time in which nobody could reach the database.
        _move_lease(arena, job, -5 * lease)
        frozen = random.uniform(0.2, 0.6) * lease
    else:
        # As of a worker that was given longer leases than this reconciler knows of.
        _move_lease(arena, job, 10 * lease)
        frozen = 2.5 * lease
    arena.start_reconciler()
    arena.wait(lambda: _count_reconcilers(arena) > before, "the reconciler to start")
    time.sleep(frozen)
    expect(arena.job(job).fence == 1, "it was reaped")
    host.thaw()
    arena.heal()
    expect_success(arena, job)
    # What the guardian ended meanwhile goes on in another attempt, which is no reaping.
    expect("lost" not in outcomes(arena, job), f"ended as {outcomes(arena, job)}")


def _count_reconcilers(arena):
    """How many reconcilers have begun to sweep so far, by their log."""
    return (arena.folder / "reconciler.log").read_text().count("reconciler_started")


def _move_lease(arena, promise, seconds):
    def move(session):
        session.execute(
            update(Job)
            .where(Job.id == promise.job_id)
            .values(lease_until=Job.lease_until + int(1000 * seconds))
        )

    arena.database.tx(move)


@row(
    46, "everything is restarted, by chance and under load",
    "all jobs end; no kill costs more than what no checkpoint on record holds",
)  # fmt: skip
def rage(arena, random):
    jobs = [
        arena.submit(steps=random.randint(40, 150), step_seconds=STEP_SECONDS)
        for _ in range(NEMESIS_JOBS)
    ]
    deadline = time.monotonic() + NEMESIS_SECONDS
    outage = _Outage(arena)
    while time.monotonic() < deadline:
        time.sleep(random.uniform(0.2, 2))
        with outage.watched():
            _harm(arena, random)
    with outage.watched():
        arena.heal()
    expect_success(arena, *jobs)
    redone = max(count_redone(arena, job.job_id) for job in jobs)
    # A trainer whose worker is dead goes on until its guardian's word is heard. And
    # while the database is away no checkpoint gets its row, without which it is none.
    most = 4 * CHECKPOINT_STEPS[arena.engine] + outage.longest_seconds / STEP_SECONDS
    expect(redone <= most, f"{redone} steps were redone, {most:.0f} at most expected")
    return {"steps_redone": redone}


class _Outage:
    """The longest time for which the arena's Postgres was away."""

    def __init__(self, arena):
        self._server = arena.postgres
        self._since = None
        self.longest_seconds = 0.0

    @contextlib.contextmanager
    def watched(self):
        """Looks at the server before and after something that may end or start it."""
        began, pid = time.monotonic(), self._server and self._server.pid
        yield
        if self._server is None or (pid == self._server.pid and pid is not None):
            return  # it was there all the time
        self._since = self._since or began
        if self._server.pid is not None:
            away_seconds = time.monotonic() - self._since
            self.longest_seconds = max(self.longest_seconds, away_seconds)
            self._since = None


def _harm(arena, random):
    host = random.choice(arena.hosts)
    harms = [
        host.kill,
        host.stop,
        lambda: host.signal(signal.SIGTERM),
        lambda: _kill_any(arena.trainers(), random),
        lambda: _kill_any([p.parent() for p in arena.trainers()], random),
        arena.kill_web,
        arena.kill_reconcilers,
        arena.broker.kill,
    ]
    if arena.kind == POSTGRES:
        harms += [arena.postgres.kill, host.proxy.cut]
    harm = random.choice(harms)
    with contextlib.suppress(Exception):  # it is dead already
        harm()
    if random.random() < 0.6:
        arena.heal()


def _kill_any(processes, random):
    if processes:
        random.choice(processes).kill()
