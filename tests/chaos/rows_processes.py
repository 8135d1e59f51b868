"""Rows 1 to 10 and 34 to 40: processes that die, hang, or will not die."""

import os
import shutil
import signal
import time

import psutil

from tests.chaos.records import KERAS, TOY
from tests.chaos.rows import (
    expect,
    expect_gone,
    expect_success,
    expect_untouched,
    lives,
    outcomes,
    play_zombie,
    recover,
    row,
)
from tests.chaos.toys import RAISE, RAISERS

BOTH = (TOY, KERAS)
# Processes are seen to be gone by polling, on a machine that does other things too.
AT_ONCE_SECONDS = 2.0


@row(
    1, "kill -9 of the trainer",
    "queued again at once, goes on from its last checkpoint", engines=BOTH,
)  # fmt: skip
def kill_trainer(arena, random):
    job = arena.submit_and_wait(step=random.randint(3, 20))
    facts = recover(arena, job, lambda: arena.trainer(job).kill())
    expect(outcomes(arena, job)[0] == "killed", f"ended as {outcomes(arena, job)}")
    return facts


@row(2, "kill -9 of the guardian", "the trainer is gone at once", engines=BOTH)
def kill_guardian(arena, random):
    job = arena.submit_and_wait(step=random.randint(3, 20))
    trainer = arena.trainer(job)

    def interrupt():
        trainer.parent().kill()
        expect_gone(trainer, AT_ONCE_SECONDS, "the trainer")

    return recover(arena, job, interrupt)


@row(
    3, "kill -9 of the worker, which is started again at once",
    "the slot waits for the trainer to end; then the job goes on", engines=BOTH,
)  # fmt: skip
def kill_worker(arena, random):
    if arena.engine == TOY and random.random() < 0.5:
        return _kill_worker_of_stubborn_trainer(arena, random)
    job = arena.submit_and_wait(step=random.randint(3, 20))
    host, trainer = arena.host_of(job), arena.trainer(job)
    grace = arena.timers["stop_grace_seconds"]

    def interrupt():
        host.kill()
        host.start()
        expect_gone(trainer, grace + AT_ONCE_SECONDS, "the trainer")

    return recover(arena, job, interrupt)


def _kill_worker_of_stubborn_trainer(arena, random):
    """The next job waits on the only slot there is, and must not start beside it."""
    hang = {"step": random.randint(3, 12), "do": "hang_hard", "fences": [1]}
    job = arena.submit(faults=[hang])
    arena.wait_for_step(job, hang["step"])
    host, trainer = arena.host_of(job), arena.trainer(job)
    for other in arena.hosts:
        if other is not host:
            other.stop()
    following = arena.submit(steps=10)
    trainer.parent().suspend()  # else the guardian may have ended it before we look
    host.kill()
    host.start()
    deadline = time.monotonic() + arena.timers["stop_grace_seconds"] + 10
    while lives(trainer):
        beside = [p for p in arena.trainers() if p.pid != trainer.pid]
        expect(not (beside and lives(trainer)), "two trainers ran on one slot")
        expect(time.monotonic() < deadline, "the orphan trains on")
        time.sleep(0.02)
    expect_success(arena, job, following)


@row(4, "power cut of a host", "another host takes over, under the next fence")
def cut_power(arena, random):
    job = arena.submit_and_wait(step=random.randint(3, 20))
    host = arena.host_of(job)

    def interrupt():
        host.stop()
        shutil.rmtree(host.runtime)  # it was in memory

    facts = recover(arena, job, interrupt)
    expect(arena.host_of(job) is not host, "the dead host went on")
    expect(arena.job(job).fence == 2, f"the fence is {arena.job(job).fence}")
    return facts


@row(
    5, "SIGSTOP of the worker for five leases, then SIGCONT",
    "taken over; the zombie writes nothing",
)  # fmt: skip
def freeze_worker(arena, random):
    job = arena.submit_and_wait(step=random.randint(3, 12), steps=200)
    host = arena.host_of(job)
    began = time.monotonic()
    facts = recover(arena, job, host.freeze, redone=200)  # till its lease ran out
    play_zombie(arena, job, fence=1)
    frozen = time.monotonic() - began
    time.sleep(max(0.0, 5 * arena.timers["lease_seconds"] - frozen))
    host.thaw()
    return facts


@row(
    6, "SIGSTOP of the trainer alone",
    "the lease holds; the progress watchdog ends it, and it is tried again",
    engines=BOTH,
)  # fmt: skip
def freeze_trainer(arena, random):
    job = arena.submit_and_wait(step=random.randint(3, 20))
    trainer = arena.trainer(job)
    facts = recover(arena, job, trainer.suspend)
    expect(outcomes(arena, job)[0] == "stalled", f"ended as {outcomes(arena, job)}")
    return facts


@row(
    7, "SIGSTOP of the whole tree, as of a machine that is paused",
    "on SIGCONT the guardian's deadline ends the trainer",
)  # fmt: skip
def pause_machine(arena, random):
    job = arena.submit_and_wait(step=random.randint(3, 12))
    host, trainer = arena.host_of(job), arena.trainer(job)
    facts = recover(arena, job, lambda: host.freeze(everything=True))
    host.thaw(everything=True)
    grace = arena.timers["stop_grace_seconds"]
    expect_gone(trainer, grace + AT_ONCE_SECONDS, "the zombie's trainer")
    return facts


@row(8, "a trainer that ignores SIGTERM", "killed after the grace period")
def ignore_sigterm(arena, random):
    hang = {"step": random.randint(3, 12), "do": "hang_hard"}
    job = arena.submit(faults=[hang])
    arena.wait_for_step(job, hang["step"])
    trainer = arena.trainer(job)
    began = time.monotonic()
    arena.client.ask(job, "cancel")
    grace = arena.timers["stop_grace_seconds"]
    expect_gone(trainer, grace + 3, "the trainer")
    arena.wait_for_state(job, "cancelled")
    return {"recovery_seconds": round(time.monotonic() - began, 2)}


@row(
    9, "a trainer that leaves a daemon behind, the guardian killed or not",
    "the daemon is killed before the slot is used again",
)  # fmt: skip
def leave_daemon(arena, random):
    step = random.randint(3, 12)
    fault = {"step": step, "do": "leave_daemon", "fences": [1]}
    job = arena.submit(faults=[fault])
    arena.wait_for_step(job, step + 1)
    host = arena.host_of(job)
    for other in arena.hosts:
        if other is not host:
            other.stop()  # so that the job goes on where the daemon is
    folder = next((arena.storage / "jobs" / str(job.job_id)).glob("attempts/1-*"))
    daemon = psutil.Process(int((folder / "daemon").read_text()))
    trainer = arena.trainer(job)
    victim = random.choice([trainer, trainer.parent()])
    facts = recover(arena, job, victim.kill)
    expect(not lives(daemon), "the slot was used again beside the daemon")
    return facts


@row(
    10, "a trainer that never lets go of the interpreter",
    "the lease is renewed; only the progress watchdog acts",
)  # fmt: skip
def hold_interpreter(arena, random):
    step = random.randint(3, 12)
    job = arena.submit(faults=[{"step": step, "do": "hold_interpreter", "fences": [1]}])
    arena.wait_for_step(job, step)
    facts = recover(arena, job, lambda: None)
    expect(outcomes(arena, job)[0] == "stalled", f"ended as {outcomes(arena, job)}")
    return facts


@row(
    34, "a poison job: SIGSEGV before its first step",
    "failed after exactly three attempts; other jobs go on",
)  # fmt: skip
def poison(arena, random):
    others = [arena.submit(steps=random.randint(10, 40)) for _ in range(2)]
    job = arena.submit(faults=[{"step": 0, "do": "crash"}], may_fail=True)
    arena.wait_for_state(job, "failed")
    expect(arena.job(job).attempts == 3, f"{arena.job(job).attempts} attempts")
    expect("without any progress" in arena.job(job).reason, arena.job(job).reason)
    expect_success(arena, *others)
    expect_untouched(arena, *others)


@row(
    36, "memory errors and exits, in the trainer or in the worker's own code",
    "its job fails or is tried again; the worker takes the next one",
)  # fmt: skip
def leave_wrongly(arena, random):
    if random.random() < 0.5:
        return _raise_in_supervisor(arena, random)
    code = random.choice([1, 3, 70, 71, 255])
    step = random.randint(1, 12)
    fault = {"step": step, "do": "exit", "code_number": code, "fences": [1]}
    job = arena.submit(faults=[fault], may_fail=code == 71)
    arena.wait_for_state(job, "failed" if code == 71 else "succeeded")
    expect_success(arena, arena.submit(steps=5))
    return None


def _raise_in_supervisor(arena, random):
    """The one worker there is goes on with the same job, and with the next one."""
    host, other = random.sample(arena.hosts, 2)
    other.stop()
    host.stop()
    error = random.choice(["MemoryError", "SystemExit", "RecursionError"])
    host.start(**{RAISE: f"{error}:{random.choice(RAISERS)}"})
    job = arena.submit(steps=random.randint(10, 40))
    expect_success(arena, job, arena.submit(steps=5))
    found = outcomes(arena, job)
    expect(found == ["worker_error", "succeeded"], f"ended as {found}")
    expect(host.lives, "it took the worker down")
    host.stop()  # the next row gets one as it should be
    host.start()


@row(
    38, "50 preemptions of a job that makes progress",
    "it succeeds, and its budget is untouched",
)  # fmt: skip
def preempt(arena, random):
    job = arena.submit(steps=100_000, step_seconds=0.02)
    for fence in range(1, 51):
        arena.wait_for_attempt(job, fence)
        saved = arena.job(job).last_step
        arena.wait_for_checkpoint(job, saved)
        number = random.choice([signal.SIGTERM, signal.SIGKILL])
        os.kill(arena.trainer(job).pid, number)
        arena.wait_for_attempt(job, fence + 1)
    arena.client.ask(job, "finish")
    expect_success(arena, job)
    spent = arena.job(job)
    budgets = (spent.noprog, spent.lost, spent.failures)
    expect(budgets == (0, 0, 0), f"of its budgets it has spent {budgets}")


@row(
    40, "SIGQUIT, SIGINT, SIGTERM or SIGHUP to the worker",
    "a drain, or nothing: never a stuck row", engines=BOTH,
)  # fmt: skip
def signal_worker(arena, random):
    job = arena.submit_and_wait(step=random.randint(3, 20))
    host = arena.host_of(job)
    number = random.choice(
        [signal.SIGQUIT, signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    )
    if number == signal.SIGHUP:
        host.signal(number)
        expect_success(arena, job)
        expect_untouched(arena, job)
        return None
    facts = recover(arena, job, lambda: host.signal(number))
    expect(outcomes(arena, job)[0] == "preempted", f"ended as {outcomes(arena, job)}")
    grace = arena.timers["stop_grace_seconds"]
    host.process.wait(grace + 10)
    return facts
