"""Rows 23 to 26: what users ask for, twice, at once, or at the wrong moment."""

import signal
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

from shared import attempt_store, job_store
from shared.errors import Cancelled, ConflictError, LostLease
from shared.job_status import TRANSITIONS, Event
from shared.tables import Job
from tests import factories
from tests.chaos.rows import expect, expect_success, row

START_SECONDS = 10.0
SAME_KEY_THREADS = 20
RACES = 50
WALK_STEPS = 150
# Workers serve none of these: what is in them is ours to move.
RACE_QUEUE, WALK_QUEUE = "chaos-races", "chaos-walks"


@row(
    23, "kill -9 of the web between the commit and the bell",
    "the job starts within seconds",
)  # fmt: skip
def kill_web_before_bell(arena, random):
    # With the broker frozen the bell cannot ring before the web is dead.
    arena.broker.process.send_signal(signal.SIGSTOP)
    try:
        job = arena.submit(steps=10)
        time.sleep(random.uniform(0, 0.2))
        arena.kill_web()
    finally:
        arena.broker.process.send_signal(signal.SIGCONT)
    began = time.monotonic()
    arena.wait_for_attempt(job, 1)
    took = time.monotonic() - began
    expect(took < START_SECONDS, f"the job started after {took:.1f} s")
    arena.heal()
    expect_success(arena, job)
    return {"recovery_seconds": round(took, 2)}


@row(
    24, "one submission sent 20 times at once, then another under its key",
    "one job; the other is refused",
)  # fmt: skip
def submit_twice(arena, random):
    first = arena.submit(steps=random.randint(5, 10))
    body = {"datasets": [1], "model_name": first.model, "specs": [{"preset": "fast"}]}
    key = f"again-{uuid.uuid4().hex}"
    other = body | {"priority": 1}
    with ThreadPoolExecutor(SAME_KEY_THREADS) as pool:
        answers = list(
            pool.map(
                lambda _: arena.client.post_once("/jobs", body, key=key),
                range(SAME_KEY_THREADS),
            )
        )
    numbers = {answer["jobs"][0]["id"] for _, answer in answers}
    expect(len(numbers) == 1, f"one submission made the jobs {numbers}")
    statuses = sorted(status for status, _ in answers)
    expect(statuses.count(201) == 1, f"it was answered with {statuses}")
    status, _ = arena.client.post_once("/jobs", other, key=key)
    expect(status == 409, f"another one under its key was answered with {status}")
    # Two jobs share a model name now, so the client is not to hold it against them.
    arena.client.adopt(numbers.pop(), first)
    expect_success(arena, first)


@row(
    25, "cancellations that race completions",
    "never both, however they fall",
)  # fmt: skip
def race_cancel(arena, random):
    ends = {"succeeded": 0, "cancelled": 0}
    for _ in range(RACES):
        with arena.database.transaction() as session:
            job_id = factories.make_job(session, owner_id=1, queue=RACE_QUEUE)
            claim = factories.claim(session, queues=[RACE_QUEUE])
        pause = random.uniform(-0.004, 0.004)
        cancelled = _race(arena.database, claim, pause)
        with arena.database.reading() as session:
            job = session.get_one(Job, job_id)
        ends[job.state] += 1
        expect(
            not (cancelled and job.state == "succeeded"),
            f"job {job_id} was cancelled and succeeded",
        )
        expect(
            cancelled or job.state == "succeeded", f"job {job_id} ended as {job.state}"
        )
    return {"races": ends}


def _race(database, claim, pause):
    """Cancels and completes one job at once; whether the cancellation was accepted."""
    accepted = []

    def cancel():
        time.sleep(max(0, pause))
        try:
            database.tx(lambda s: job_store.cancel(s, claim.job_id, actor="user:1"))
            accepted.append(True)
        except ConflictError:
            accepted.append(False)

    thread = threading.Thread(target=cancel)
    thread.start()
    time.sleep(max(0, -pause))
    try:
        database.tx(lambda s: factories.complete(s, claim.job_id, claim.fence))
    except Cancelled:
        database.tx(
            lambda s: attempt_store.end(
                s, claim.job_id, claim.fence, outcome="cancelled", charge=False
            )
        )
    thread.join()
    return accepted[0]


@row(
    26, "cancel, pause, resume, retry and finish in every state",
    "only the moves of the table of states",
)  # fmt: skip
def walk_states(arena, random):
    with arena.database.transaction() as session:
        job_id = factories.make_job(session, owner_id=1, queue=WALK_QUEUE)
    for _ in range(WALK_STEPS):
        event = random.choice(list(Event))
        before = _state(arena, job_id)
        moved = arena.database.tx(
            lambda s, job_id=job_id, event=event: _move(s, job_id, event, random)
        )
        after = _state(arena, job_id)
        allowed = TRANSITIONS.get((before, event), frozenset())
        if event in (Event.END, Event.COMPLETE):
            allowed |= {before}  # told a second time, it is known and nothing more
        expect(
            after in allowed if moved else after == before,
            f"{event} led job {job_id} from {before} to {after}",
        )
        if after == "succeeded":
            with arena.database.transaction() as session:
                job_id = factories.make_job(session, owner_id=1, queue=WALK_QUEUE)
    _end_walk(arena, job_id)


def _state(arena, job_id):
    with arena.database.reading() as session:
        return session.get_one(Job, job_id).state


def _move(session, job_id, event, random):
    """Lets `event` happen to the job; whether it was accepted."""
    fence = session.get_one(Job, job_id).fence
    asks = {
        Event.CANCEL: job_store.cancel,
        Event.PAUSE: job_store.pause,
        Event.RESUME: job_store.resume,
        Event.FINISH_NOW: job_store.finish_now,
        Event.RETRY: job_store.retry,
    }
    try:
        if event in asks:
            asks[event](session, job_id, actor="user:1")
        elif event == Event.CLAIM:
            return factories.claim(session, queues=[WALK_QUEUE]) is not None
        elif event == Event.COMPLETE:
            factories.complete(session, job_id, fence)
        else:
            charge = random.random() < 0.5
            attempt_store.end(
                session, job_id, fence, outcome="crash", charge=charge, backoff_ms=0
            )
    except (ConflictError, LostLease):
        return False
    return True


def _end_walk(arena, job_id):
    """Leaves nothing running or waiting behind."""
    with arena.database.transaction() as session:
        job = session.get_one(Job, job_id)
        if job.state in ("queued", "running", "paused"):
            job_store.cancel(session, job_id, actor="user:1")
        if job.state == "running":
            attempt_store.end(
                session, job_id, job.fence, outcome="cancelled", charge=False
            )
