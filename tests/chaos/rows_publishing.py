"""Rows 29, 39 and 44: dying, or being told to leave, at every line of a publication."""

import signal
import time

from tests.chaos.arena import SQLITE
from tests.chaos.records import KERAS, TOY
from tests.chaos.rows import (
    expect,
    expect_success,
    find_attempts,
    outcomes,
    read_events,
    recover,
    row,
)
from tests.chaos.toys import DIE_AT, DIE_BETWEEN, PUBLICATION_LINES
from tests.services import wait_until

BOTH = (TOY, KERAS)
EXIT_SECONDS = 25.0
WRITE_SECONDS = 20.0
DEATH_SECONDS = 30.0


@row(
    29, "kill -9 at a line of a publication: of a checkpoint, or of the model",
    "what is whole counts; the result is published once, by whoever comes next",
    engines=BOTH,
)  # fmt: skip
def die_publishing(arena, random):
    if arena.engine == KERAS or random.random() < 0.5:
        return _die_writing(arena, random)
    line = random.randint(1, PUBLICATION_LINES)
    while not _die_once(arena, random, **{DIE_AT: str(line)}):
        line //= 2  # so far a publication does not go every time
    return {"line": line}


def _die_writing(arena, random):
    """Kills the trainer while a checkpoint of it is half written."""
    job = arena.submit_and_wait(step=random.randint(3, 12))

    def interrupt():
        trainer, folder = arena.trainer(job), find_attempts(arena, job)[-1] / "ckpt"
        deadline = time.monotonic() + WRITE_SECONDS
        while not any(folder.glob(".tmp-*")):
            expect(time.monotonic() < deadline, "no checkpoint was written")
            time.sleep(0.0005)
        time.sleep(random.uniform(0, 0.003))
        trainer.kill()

    return recover(arena, job, interrupt)


@row(
    44, "kill -9 between the artifact's rename and the commit, or after the commit",
    "one version; nothing is trained again",
)  # fmt: skip
def die_around_commit(arena, random):
    if arena.kind == SQLITE or random.random() < 0.5:
        job = _die_once(arena, random, **{DIE_BETWEEN: "1"})
        expect(job, "the worker has not died")
        last = read_events(find_attempts(arena, job)[-1])
        again = [e["step"] for e in last if e.get("event") == "metrics"]
        expect(not again, f"steps {again} were trained again")
    else:
        job = _die_after_commit(arena)
    expect(len(arena.attempts(job)) <= 2, f"it was tried {outcomes(arena, job)}")


def _die_once(arena, random, **environment):
    """Lets one host do a job alone and die where its environment says.

    Returns:
        The job, or None when it ended without the host's death.
    """
    first, second = arena.hosts
    second.stop()
    first.stop()
    first.start(**environment)
    arena.wait(lambda: first.name in _seen(arena), "the worker")
    # Of a length of its own: what is published already is not published again.
    job = arena.submit(steps=random.randint(6, 60))
    arena.wait(
        lambda: not first.lives or arena.job(job).state == "succeeded", "the death"
    )
    has_died = not first.lives
    if not has_died:  # the line was not reached this time
        first.stop()
    first.start()
    second.start()
    expect_success(arena, job)
    return job if has_died else None


def _seen(arena):
    items = arena.client.get("/workers")["items"]
    return {row["host"] for row in items if row["status"] == "active"}


def _die_after_commit(arena):
    """The version is there, and the worker dies before it hears so."""
    job = arena.submit(steps=30)
    arena.wait_for_attempt(job, 1)
    host = arena.host_of(job)
    host.proxy.lose_answer_to(b"COMMIT\0", after=b"model_published", then=host.kill)
    expect_success(arena, job)
    wait_until(lambda: not host.lives, DEATH_SECONDS, "the worker's death")
    return job


@row(
    39, "SIGTERM to the worker at any moment of a short job's life",
    "it leaves within 25 seconds, and no row is stuck", engines=BOTH,
)  # fmt: skip
def leave_any_time(arena, random):
    job = arena.submit(steps=random.randint(4, 12), evaluate_seconds=0.5)
    arena.wait_for_attempt(job, 1)
    host = arena.host_of(job)
    seconds = random.uniform(0, 1.5 if arena.engine == TOY else 25)
    time.sleep(seconds)
    host.signal(signal.SIGTERM)
    host.process.wait(EXIT_SECONDS)
    expect_success(arena, job)
    charged = [a.fence for a in arena.attempts(job) if a.charged]
    expect(not charged, f"attempts {charged} were charged for the worker's leaving")
