"""What can be asked of a job that exists: which buttons it has, and what they do."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from shared import job_read_store, job_store, queue, user_limit_store
from shared.errors import ConflictError, NotFoundError
from shared.job_status import Desired, JobKind, JobStatus
from shared.tables import Job
from shared.user_limit_store import UserLimits
from web.auth.datastore import Account
from web.installation import Installation
from web.permissions import require_change


@dataclass(frozen=True)
class Ask:
    """One thing that can be asked of a job.

    Args:
        verb: Its name in addresses.
        words: What the button says.
        help: What it does, in a sentence.
        icon: The button's icon.
        harsh: Whether work is thrown away.
        rings: Whether a worker should look at the queue afterwards.
    """

    verb: str
    words: str
    help: str
    icon: str
    harsh: bool = False
    rings: bool = False


FINISH = Ask(
    "finish", "Stop now and keep the best",
    "Ends training, evaluates the best weights so far and publishes them.", "flag",
)  # fmt: skip
PAUSE = Ask(
    "pause", "Pause", "Saves its state and frees the worker until resumed.", "pause"
)
RESUME = Ask(
    "resume", "Resume", "Puts it back in the queue; it goes on where it was.", "play",
    rings=True,
)  # fmt: skip
CANCEL = Ask("cancel", "Cancel", "Stops it; nothing is published.", "x-lg", harsh=True)
RETRY = Ask(
    "retry", "Retry", "Queues it again from its newest checkpoint.", "arrow-clockwise",
    rings=True,
)  # fmt: skip
RESTART = Ask(
    "restart", "Retry from scratch", "Queues it again from the beginning.",
    "arrow-counterclockwise", rings=True,
)  # fmt: skip
ASKS = {a.verb: a for a in (FINISH, PAUSE, RESUME, CANCEL, RETRY, RESTART)}


def list_asks(job: Job) -> list[Ask]:
    """Returns what makes sense to ask of `job` now, the gentlest first."""
    if job.state == JobStatus.RUNNING:
        return _list_running_asks(job)
    if job.state == JobStatus.QUEUED:
        return [CANCEL] if job.kind == JobKind.FORECAST else [PAUSE, CANCEL]
    if job.state == JobStatus.PAUSED:
        return [RESUME, CANCEL]
    if job.state in {JobStatus.FAILED, JobStatus.CANCELLED}:
        return [RETRY, RESTART] if job.kind == JobKind.TRAIN else [RETRY]
    return []


def _list_running_asks(job: Job) -> list[Ask]:
    if job.desired == Desired.CANCEL:
        return []
    if job.gives_way_to is not None:
        return [PAUSE, CANCEL]
    if job.desired == Desired.PAUSE:
        return [RESUME, CANCEL]
    if job.desired == Desired.FINISH:
        return [CANCEL]
    return [FINISH, PAUSE, CANCEL] if job.kind == JobKind.TRAIN else [CANCEL]


def ask(here: Installation, account: Account, job_id: int, verb: str) -> str:
    """Asks `verb` of a job and returns the job's state afterwards.

    Raises:
        NotFoundError: When there is no such job or verb.
        NotAllowedError: When the job is somebody else's.
        ConflictError: When the job's kind or state does not admit it.
    """
    if verb not in ASKS:
        raise NotFoundError(f"A job cannot be asked to {verb!r}.")

    def write(session: Session) -> tuple[str, str]:
        job = job_read_store.get_job(session, job_id)
        require_change(account, job, "job")
        if job.kind == JobKind.FORECAST and ASKS[verb] in {PAUSE, FINISH}:
            raise ConflictError(
                f"Job {job_id} is a forecast: it is short, and can only be cancelled."
            )
        state = _MOVES[verb](session, job_id, account.actor)
        _require_room(session, here, verb, [job])
        return state, job.kind

    state, kind = here.database.tx(write)
    if ASKS[verb].rings:
        queue.ring(kind)
    return state


@dataclass(frozen=True)
class AskedAll:
    """What became of a request to all jobs of a submission.

    Args:
        done: Jobs that were asked.
        left: How many others could not be asked that, in their states.
    """

    done: list[int]
    left: int


def ask_all(
    here: Installation, account: Account, group_key: str, verb: str
) -> AskedAll:
    """Asks `verb` of every job of a submission that admits it, all in one go.

    Raises:
        ConflictError: When no job admits it now.
        NotAllowedError: When the submission is somebody else's.
        NotFoundError: When there is no such submission or verb.
    """
    if verb not in ASKS:
        raise NotFoundError(f"A job cannot be asked to {verb!r}.")

    asked, kinds = here.database.tx(
        lambda session: _ask_each(session, here, account, group_key, verb)
    )
    if not asked.done:
        raise ConflictError(
            f"None of the {asked.left} jobs can be asked to {verb} now: see their "
            "states."
        )
    if ASKS[verb].rings:
        for kind in kinds:
            queue.ring(kind)
    return asked


def _ask_each(
    session: Session, here: Installation, account: Account, group_key: str, verb: str
) -> tuple[AskedAll, set[str]]:
    jobs = job_read_store.list_group(session, group_key)
    for job in jobs:
        require_change(account, job, "submission")
    # Run again because an answer got lost, it finds what it did, and asks again.
    again = session.info.get("retrying")
    done = [
        job
        for job in jobs
        if (again or ASKS[verb] in list_asks(job))
        and job_store.is_admitted(
            lambda job=job: _MOVES[verb](session, job.id, account.actor)
        )
    ]
    _require_room(session, here, verb, done)
    asked = AskedAll([job.id for job in done], len(jobs) - len(done))
    return asked, {job.kind for job in done}


def _require_room(
    session: Session, here: Installation, verb: str, jobs: list[Job]
) -> None:
    """Refuses to try more again than their owner may have waiting."""
    trainings = [job for job in jobs if job.kind == JobKind.TRAIN]
    if ASKS[verb] not in {RETRY, RESTART} or not trainings:
        return
    usual = UserLimits(waiting=here.settings.max_waiting_per_user)
    user_limit_store.require_room(session, trainings[0].owner_id, usual, len(trainings))


_Move = Callable[[Session, int, str], Any]
_MOVES: dict[str, _Move] = {
    "finish": lambda s, i, actor: job_store.finish_now(s, i, actor=actor),
    "pause": lambda s, i, actor: job_store.pause(s, i, actor=actor),
    "resume": lambda s, i, actor: job_store.resume(s, i, actor=actor),
    "cancel": lambda s, i, actor: job_store.cancel(s, i, actor=actor),
    "retry": lambda s, i, actor: job_store.retry(s, i, actor=actor),
    "restart": lambda s, i, actor: job_store.retry(
        s, i, actor=actor, from_scratch=True
    ),
}
