"""The job state machine as pure data: the only list of moves there is.

`shared/job_store.py` carries each move out as one conditional UPDATE; any move
that is not listed here changes no row and is answered with HTTP 409.
"""

from enum import StrEnum


class JobKind(StrEnum):
    """What a job does; all kinds share states, leases, fences and resume."""

    TRAIN = "train"
    INGEST = "ingest"
    FORECAST = "forecast"
    PREDICT = "predict"


class JobStatus(StrEnum):
    """Where a job stands. Progress never says "finished": only this does."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Desired(StrEnum):
    """What the user wants of a job; obeyed at the next heartbeat."""

    RUN = "run"
    PAUSE = "pause"
    FINISH = "finish"
    CANCEL = "cancel"


class Event(StrEnum):
    """What can happen to a job (reliability: state machine)."""

    CLAIM = "claim"
    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"
    FINISH_NOW = "finish_now"
    COMPLETE = "complete"
    END = "end"
    RETRY = "retry"


TERMINAL = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED})

# (status, event) -> the statuses the move may lead to. Guards beyond the status
# (fence, `desired`, budget) live in the UPDATE itself, next to the SQL.
TRANSITIONS: dict[tuple[JobStatus, Event], frozenset[JobStatus]] = {
    (JobStatus.QUEUED, Event.CLAIM): frozenset({JobStatus.RUNNING}),
    (JobStatus.QUEUED, Event.CANCEL): frozenset({JobStatus.CANCELLED}),
    (JobStatus.QUEUED, Event.PAUSE): frozenset({JobStatus.PAUSED}),
    (JobStatus.PAUSED, Event.CANCEL): frozenset({JobStatus.CANCELLED}),
    (JobStatus.PAUSED, Event.RESUME): frozenset({JobStatus.QUEUED}),
    (JobStatus.RUNNING, Event.CANCEL): frozenset({JobStatus.RUNNING}),
    (JobStatus.RUNNING, Event.PAUSE): frozenset({JobStatus.RUNNING}),
    (JobStatus.RUNNING, Event.RESUME): frozenset({JobStatus.RUNNING}),
    (JobStatus.RUNNING, Event.FINISH_NOW): frozenset({JobStatus.RUNNING}),
    (JobStatus.RUNNING, Event.COMPLETE): frozenset({JobStatus.SUCCEEDED}),
    (JobStatus.RUNNING, Event.END): frozenset(
        {
            JobStatus.QUEUED,
            JobStatus.PAUSED,
            JobStatus.FAILED,
            JobStatus.CANCELLED,
        }
    ),
    (JobStatus.FAILED, Event.RETRY): frozenset({JobStatus.QUEUED}),
    (JobStatus.CANCELLED, Event.RETRY): frozenset({JobStatus.QUEUED}),
}


def is_terminal(status: str) -> bool:
    """Whether nothing but a user's retry can move a job on from `status`."""
    return status in TERMINAL
