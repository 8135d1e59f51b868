"""The rows of the fault matrix, as they register themselves, and what they share."""

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from shared import attempt_store
from shared.attempt_store import MetricPoint
from shared.errors import LostLease
from tests import factories
from tests.chaos.arena import POSTGRES, SQLITE
from tests.chaos.oracles import count_redone
from tests.chaos.records import CHECKPOINT_STEPS, KERAS, TOY
from tests.services import wait_until

ROWS = {}
REACTION_SECONDS = 60


@dataclass(frozen=True)
class Row:
    """One row of the matrix.

    Args:
        number: In the matrix, from 1.
        title: What is done.
        expected: What must come of it.
        inject: Does it in an arena, and checks it; raises `Broken`.
        kinds: Of databases in which it can happen.
        engines: `toy` or `keras`: what it is injected into.
    """

    number: int
    title: str
    expected: str
    inject: Callable
    kinds: tuple[str, ...]
    engines: tuple[str, ...]


class Broken(AssertionError):  # noqa: N818 - the platform is, not this code
    """The platform did not do what the row expects."""


class CannotInject(Exception):  # noqa: N818 - no error: this machine does not allow it
    """This machine does not let the fault be injected."""


def row(number, title, expected, *, kinds=(SQLITE, POSTGRES), engines=(TOY,)):
    """Registers a function `(arena, random)` as a row of the matrix."""

    def register(inject):
        assert number not in ROWS, f"row {number} is there twice"
        ROWS[number] = Row(number, title, expected, inject, kinds, engines)
        return inject

    return register


def expect(condition, sentence):
    """Raises `Broken` with the sentence unless the condition holds."""
    if not condition:
        raise Broken(sentence)


class Recovery:
    """Measures what an interruption of one job costs.

    Args:
        arena: Where it runs.
        promise: The job, running.
    """

    def __init__(self, arena, promise):
        self._arena, self._promise = arena, promise
        self.fence = arena.job(promise).fence
        self.began = time.time()

    def wait(self, fence=None):
        """Waits for the first step of a later attempt; returns the seconds it took."""
        fence = fence or self.fence + 1
        trained_at = self._arena.wait(
            lambda: find_first_step(self._arena, self._promise, fence),
            f"attempt {fence} of job {self._promise.job_id} to train",
        )
        return max(0.0, trained_at - self.began)


def find_first_step(arena, promise, fence):
    """When an attempt from `fence` on first trained a step, by its own log, or None."""
    for folder in find_attempts(arena, promise, fence):
        for event in read_events(folder):
            is_step = event.get("event") == "metrics" or (
                event.get("event") == "stage" and event.get("name") == "first step"
            )
            if is_step:
                return event["at"]
    return None


def find_attempts(arena, promise, fence=1):
    """The folders of attempts from `fence` on, oldest first."""
    folder = arena.storage / "jobs" / str(promise.job_id) / "attempts"
    numbered = [(int(path.name.split("-")[0]), path) for path in folder.glob("*-*")]
    return [path for number, path in sorted(numbered) if number >= fence]


def read_events(folder):
    """The whole lines of an attempt's log."""
    events = []
    with contextlib.suppress(FileNotFoundError):
        for line in (folder / "log.jsonl").read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                events.append(json.loads(line))
    return events


def recover(arena, promise, interrupt, *, redone=None):
    """Interrupts a job and waits until it trains again; returns the facts of it.

    Args:
        arena: Where it runs.
        promise: The job, training.
        interrupt: Called once; what it does ends the running attempt.
        redone: Most steps that may be trained again. Defaults to what lies between two
            checkpoints, and those that had no time to be written down.
    """
    recovery = Recovery(arena, promise)
    interrupt()
    seconds = recovery.wait()
    steps = count_redone(arena, promise.job_id)
    # The real engine leaves a checkpoint out while the last one is being written.
    intervals = {TOY: 2, KERAS: 6}[arena.engine]
    most = redone or intervals * CHECKPOINT_STEPS[arena.engine] + 1
    expect(steps <= most, f"{steps} steps were trained again, at most {most} expected")
    return {"recovery_seconds": round(seconds, 2), "steps_redone": steps}


def expect_untouched(arena, *promises):
    """Expects that the jobs have had one attempt each, and wait for nothing."""
    for promise in promises:
        attempts = arena.job(promise).attempts
        expect(
            attempts == 1,
            f"job {promise.job_id} was to be left alone and has {attempts} attempts",
        )


def expect_success(arena, *promises):
    """Waits until the jobs have succeeded."""
    for promise in promises:
        arena.wait_for_state(promise, "succeeded", "failed", "cancelled")
        job = arena.job(promise)
        expect(job.state == "succeeded", f"job {job.id} is {job.state}: {job.reason}")


def expect_gone(process, seconds, what):
    """Expects that a process is gone within so many seconds; returns how many."""
    began = time.monotonic()
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: not lives(process), REACTION_SECONDS, what)
    took = time.monotonic() - began
    expect(took <= seconds, f"{what} was there for {took:.1f} s, not {seconds} s")
    return took


def lives(process):
    """Whether a process is there and no zombie."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def play_zombie(arena, promise, fence):
    """Writes what a superseded attempt would write; each must be refused, all of it.

    A zombie wakes up wherever it was: before any of these.
    """
    job = promise.job_id
    writes = {
        "renew": lambda s: attempt_store.renew(s, job, fence, lease_ms=60_000),
        "checkpoint": lambda s: factories.checkpoint(s, job, fence, 10**6),
        "metrics": lambda s: attempt_store.add_metrics(
            s, job, fence, points=[MetricPoint("loss", 10**6, 10**6, 0.0)]
        ),
        "note": lambda s: attempt_store.add_note(
            s, job, fence, level="info", message="a zombie was here"
        ),
        "durable": lambda s: attempt_store.record_durable(s, job, fence, 10**6),
        "progress": lambda s: attempt_store.record_progress(
            s, job, fence, phase="frozen", done=0, total=1, unit="steps"
        ),
        "complete": lambda s: factories.complete(s, job, fence),
        "end": lambda s: attempt_store.end(
            s, job, fence, outcome="crash", charge=True, backoff_ms=0
        ),
    }
    for name, write in writes.items():
        try:
            arena.database.tx(write)
        except LostLease:
            continue
        raise Broken(f"a superseded attempt's {name} was not refused")


def outcomes(arena, promise):
    """How each attempt ended."""
    return [attempt.outcome for attempt in arena.attempts(promise)]
