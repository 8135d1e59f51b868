"""Rows 11 to 17: the broker, and the messages in it."""

import base64
import json
import signal
import time
import uuid

from shared import queue
from tests.chaos.rows import Broken, expect, expect_success, expect_untouched, row

ANSWER_SECONDS = 2.0
KICKS = 1000
# Two idle looks and the longest wait between them.
IDLE_START_SECONDS = 10.0
WORKER_START_SECONDS = 10.0
# Of the matrix: what waits has started by then, whatever becomes of the broker.
AFTER_LOSS_SECONDS = 35.0
TRAIN_KEY = f"{queue.KEY_PREFIX}{queue.TRAIN_QUEUE}"
TRIES = 40  # a worker asks for messages about once a second


@row(
    11, "kill -9 of the broker, empty afterwards",
    "what runs is untouched; what waits starts",
)  # fmt: skip
def kill_broker(arena, random):
    running = [arena.submit_and_wait(step=random.randint(2, 8)) for _ in range(2)]
    waiting = [arena.submit(steps=10) for _ in range(2)]
    arena.broker.kill()
    lost_at = time.monotonic()
    time.sleep(random.uniform(0, 2))
    arena.broker.start()
    return _expect_start(arena, running, waiting, lost_at)


def _expect_start(arena, running, waiting, lost_at):
    """What runs is untouched; what waits starts in time, and all of it succeeds."""
    for job in waiting:
        arena.wait_for_attempt(job, 1)
    took = time.monotonic() - lost_at
    expect(took <= AFTER_LOSS_SECONDS, f"the last job started after {took:.1f} s")
    expect_success(arena, *running, *waiting)
    expect_untouched(arena, *running, *waiting)
    return {"recovery_seconds": round(took, 2)}


@row(
    12, "a frozen broker",
    "submitting is answered within two seconds; what runs is untouched",
)  # fmt: skip
def freeze_broker(arena, random):
    running = arena.submit_and_wait(step=random.randint(2, 8))
    arena.broker.process.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        job = arena.submit(steps=10)
        took = time.monotonic() - began
        expect(took < ANSWER_SECONDS, f"submitting took {took:.1f} s")
        expect_success(arena, job)
        time.sleep(random.uniform(0, 5))
    finally:
        arena.broker.process.send_signal(signal.SIGCONT)
    expect_success(arena, running)
    expect_untouched(arena, running, job)


@row(13, "FLUSHALL", "what runs is untouched; what waits starts")
def flush_broker(arena, random):
    running = [arena.submit_and_wait(step=random.randint(2, 8)) for _ in range(2)]
    waiting = [arena.submit(steps=10) for _ in range(2)]
    lost_at = time.monotonic()
    arena.broker.client().flushall()
    return _expect_start(arena, running, waiting, lost_at)


@row(14, "no broker for a long time", "jobs start by the workers' own looks")
def stop_broker(arena, random):
    arena.broker.kill()
    began = time.monotonic()
    jobs = [arena.submit(steps=10) for _ in range(random.randint(1, 3))]
    for job in jobs:
        arena.wait_for_attempt(job, 1)
    took = time.monotonic() - began
    expect(took < IDLE_START_SECONDS, f"the last job started after {took:.1f} s")
    expect_success(arena, *jobs)
    expect_untouched(arena, *jobs)
    return {"recovery_seconds": round(took, 2)}


@row(15, "1,000 doubled kicks", "each job runs once")
def double_kicks(arena, random):
    jobs = [arena.submit(steps=random.randint(5, 30)) for _ in range(4)]
    for _ in range(KICKS // 100):
        _ring(arena, 100)
        time.sleep(random.uniform(0, 0.1))
    expect_success(arena, *jobs)
    expect_untouched(arena, *jobs)


@row(
    16, "garbage in the queue, unknown tasks, wrong arguments",
    "a worker restarts at worst; no job is lost",
)  # fmt: skip
def push_garbage(arena, random):
    job = arena.submit_and_wait(step=random.randint(2, 8))
    garbage = [
        b"\x00\xff no json",
        b"{}",
        json.dumps({"body": "x", "headers": {}, "properties": {}}).encode(),
        _message("trainyard.unknown", [queue.TRAIN_QUEUE]),
        _message(queue.KICK, [1, 2, 3]),
        _message(queue.KICK, ["../../etc/passwd"]),
    ]
    random.shuffle(garbage)
    for piece in garbage:
        arena.broker.client().lpush(TRAIN_KEY, piece)
        time.sleep(random.uniform(0, 0.3))
        arena.heal()
    expect_success(arena, job, arena.submit(steps=5))


@row(
    17, "a worker killed between taking a message and acting on it",
    "another one that comes starts the job within seconds",
)  # fmt: skip
def kill_between_message_and_start(arena, random):
    host, other = random.sample(arena.hosts, 2)
    other.stop()
    _freeze_with_message(arena, host, random)
    job = arena.submit(steps=10)
    arena.broker.client().delete(TRAIN_KEY)  # its own message is lost with the worker
    expect(arena.job(job).state == "queued", "a frozen worker has started the job")
    time.sleep(random.uniform(0, 1))
    host.kill()
    began = time.monotonic()
    other.start()
    arena.wait_for_attempt(job, 1)
    took = time.monotonic() - began
    expect(took < WORKER_START_SECONDS + IDLE_START_SECONDS, f"it took {took:.1f} s")
    expect_success(arena, job)
    return {"recovery_seconds": round(took, 2)}


def _freeze_with_message(arena, host, random):
    """Freezes an idle worker that has been sent a message and has not read it."""

    def is_empty():
        return not arena.broker.client().llen(TRAIN_KEY)

    for _ in range(TRIES):
        arena.wait(is_empty, "the worker to have read all messages")
        time.sleep(random.uniform(0.5, 1))  # it looks for a job, and asks again
        host.freeze()
        _ring(arena, 1)
        time.sleep(0.2)
        if is_empty():
            return
        host.thaw()  # it was between two questions for messages
    raise Broken("no message was taken")


def _ring(arena, times):
    """Puts many kicks of our own kind into the queue at once."""
    kick = _message(queue.KICK, [queue.TRAIN_QUEUE])
    arena.broker.client().lpush(TRAIN_KEY, *[kick] * times)


def _message(task, arguments):
    """A message as Celery's protocol 2 puts it into a Redis list.

    Source: the Celery documentation, "Message Protocol".
    """
    body = base64.b64encode(
        json.dumps([arguments, {}, {"callbacks": None, "errbacks": None}]).encode()
    ).decode()
    number = str(uuid.uuid4())
    return json.dumps(
        {
            "body": body,
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"lang": "py", "task": task, "id": number, "root_id": number},
            "properties": {
                "correlation_id": number,
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": queue.TRAIN_QUEUE},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": number,
            },
        }
    ).encode()
