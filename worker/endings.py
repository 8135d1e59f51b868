"""What an attempt's end means for its job: the table of exit codes, as pure functions.

| end of the child | outcome | charged |
| --- | --- | --- |
| stopped because we asked: cancel, pause, drain | cancelled, paused, preempted | no |
| stopped because it made no progress | stalled | yes |
| stopped because the database was away for too long | unconfirmed | no |
| 75 unasked, or SIGTERM, SIGINT, SIGHUP from outside | killed | no |
| 64: the spec or the data cannot be used | rejected | permanent |
| 69: what it needs from elsewhere is out of reach | outage | no, and the job waits |
| 70: an exception | failed | yes, as a failure of the training code |
| 71: the GPU's memory is too small | gpu_oom | permanent |
| 72: the loss is no number any more | diverged | no; at most twice in each phase |
| 74: a file could not be read or written | io | no; the slot and the job rest |
| 0 without a usable result | no_result | yes |
| SIGKILL while the kernel counted a memory kill | oom | yes |
| SIGKILL otherwise, or a dead guardian | killed | no |
| any other signal or exit code | crash | yes |
| 0, and the dataset has got a newer version meanwhile | outdated | no |
| any charged one, while a GPU of the slot is gone | gpu_lost | no |

Losses that nobody can explain (`killed`), outages, and failures of files have budgets
of their own in the record.
"""

import signal
from dataclasses import dataclass, replace
from enum import StrEnum

from shared.retry_policy import DIVERGED, FILES, MEMORY_KILL, OUTAGE
from worker.child import ChildExit

EXIT_STOPPED = 75
EXIT_REJECTED = 64
EXIT_OUTAGE = 69
EXIT_ERROR = 70
EXIT_GPU_MEMORY = 71
EXIT_DIVERGED = 72
EXIT_FILES = 74
GPU_LOST = "gpu_lost"
SLOT_REST_SECONDS = 300.0  # a full disk is rarely empty a second later
POLITE_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopReason(StrEnum):
    """Why we asked a child to stop."""

    CANCEL = "cancel"
    PAUSE = "pause"
    DRAIN = "drain"
    STALLED = "stalled"
    UNCONFIRMED = "unconfirmed"
    LOST_LEASE = "lost_lease"


@dataclass(frozen=True)
class Failure:
    """What a child said of its own failure.

    Args:
        code: A word for machines, e.g. `image_size`.
        message: A sentence for the user.
        permanent: Whether trying again cannot help.
    """

    code: str
    message: str
    permanent: bool = False


@dataclass(frozen=True)
class Ending:
    """How the job's record is told of an attempt's end.

    Args:
        outcome: A word from the table above.
        reason: A sentence for the user.
        charge: Whether the end counts against the budget of attempts that got nowhere.
        permanent: Whether the job fails now.
        user_failure: Whether it counts as an exception of the training code.
        failure_code: The child's own word for it, else the outcome.
        slot_rest_seconds: Time for which this slot claims nothing.
        is_recorded: Whether the end is on record, ours or somebody else's.
    """

    outcome: str
    reason: str
    charge: bool = False
    permanent: bool = False
    user_failure: bool = False
    failure_code: str | None = None
    slot_rest_seconds: float = 0.0
    is_recorded: bool = True


_ASKED = {
    StopReason.CANCEL: Ending("cancelled", "Cancelled."),
    StopReason.PAUSE: Ending("paused", "Paused; it goes on from its last checkpoint."),
    StopReason.DRAIN: Ending(
        "preempted",
        "The worker was asked to stop; the job goes on from its last checkpoint.",
    ),
    StopReason.STALLED: Ending(
        "stalled",
        "There was no progress for {silence}, so the attempt was ended. The stacks "
        "of all its threads are in the attempt's output.",
        charge=True,
    ),
    StopReason.UNCONFIRMED: Ending(
        "unconfirmed",
        "The worker could not reach the database for {unconfirmed}, so it saved and "
        "stopped; the job goes on from its last checkpoint.",
    ),
}

_BY_EXIT_CODE = {
    0: Ending("no_result", "The process ended without a result.", charge=True),
    EXIT_STOPPED: Ending(
        "killed",
        "The process was asked to stop from outside; the job goes on from its last "
        "checkpoint.",
    ),
    EXIT_REJECTED: Ending(
        "rejected", "The settings or the data cannot be used.", permanent=True
    ),
    EXIT_OUTAGE: Ending(
        OUTAGE, "What the job needs from elsewhere is out of reach; it tries again."
    ),
    EXIT_ERROR: Ending(
        "failed", "The process ended in an error.", charge=True, user_failure=True
    ),
    EXIT_GPU_MEMORY: Ending(
        "gpu_oom",
        "The GPU's memory is too small for this job. A smaller `batch_size` or "
        "`image_size_px` needs less.",
        permanent=True,
    ),
    EXIT_DIVERGED: Ending(
        DIVERGED,
        "The loss was no longer a number; training goes on from its last checkpoint, "
        "at half the learning rate.",
    ),
    EXIT_FILES: Ending(
        FILES,
        "A file could not be read or written; the disk may be full.",
        slot_rest_seconds=SLOT_REST_SECONDS,
    ),
}

_KILLED = Ending(
    "killed",
    "The process was killed from outside; the job goes on from its last checkpoint.",
)
_OUT_OF_MEMORY = Ending(
    MEMORY_KILL,
    "The machine ran out of memory and ended the process. A smaller `batch_size` or "
    "`image_size_px` needs less.",
    charge=True,
)


def decide(
    ended: ChildExit,
    *,
    asked: StopReason | None = None,
    failure: Failure | None = None,
    silence_seconds: float = 0,
    unconfirmed_seconds: float = 0,
) -> Ending:
    """Decides what the end of a child means for its job.

    Args:
        ended: How the child ended.
        asked: Why we asked it to stop, if we did. A request to stop explains a
            signal or a 75, and nothing else: a child may well fail while it stops.
        failure: What the child said of its failure, if anything.
        silence_seconds: The limit that `stalled` names in its sentence.
        unconfirmed_seconds: The limit that `unconfirmed` names in its sentence.
    """
    ending = _ASKED.get(asked) if asked else None
    if ending and _is_explained_by_stopping(ended):
        reason = ending.reason.format(
            silence=_duration(silence_seconds),
            unconfirmed=_duration(unconfirmed_seconds),
        )
        return replace(ending, reason=reason)
    ending = _unasked(ended)
    if failure is None or ended.exit_code is None:
        return ending
    return replace(
        ending,
        reason=failure.message or ending.reason,
        failure_code=failure.code or ending.outcome,
        permanent=ending.permanent or failure.permanent,
    )


def disk_failed(error: OSError) -> Ending:
    """Builds the ending for a file that the worker itself could not read or write."""
    ending = _BY_EXIT_CODE[EXIT_FILES]
    where = f" ({error.filename})" if error.filename else ""
    reason = f"{ending.reason} {error.strerror or error}{where}."
    # A name that is no text comes with lone surrogates, which no database takes.
    return replace(ending, reason=reason.encode(errors="replace").decode())


def gpu_lost(uuids: list[str]) -> Ending:
    """Builds the ending for a child whose GPU the driver no longer knows.

    Args:
        uuids: Of the lost GPUs.
    """
    reason = (
        f"The worker's GPU is gone ({', '.join(uuids)}), so its slot is taken out of "
        "service; the job goes on elsewhere from its last checkpoint."
    )
    return Ending(GPU_LOST, reason)


def outdated(why: str) -> Ending:
    """Builds the ending for a dataset version that others have overtaken.

    Args:
        why: Which version was made meanwhile, as a sentence.
    """
    return Ending("outdated", f"{why} It is made again, from the newest version.")


def worker_failed(error_name: str) -> Ending:
    """Builds the ending for an error of the worker's own code.

    Args:
        error_name: Class of the exception; its traceback is in the worker's log.
    """
    reason = f"The worker itself failed ({error_name}); its log has the details."
    return Ending("worker_error", reason, charge=True)


def _is_explained_by_stopping(ended: ChildExit) -> bool:
    if ended.exit_code is None:
        return True
    return ended.exit_code == EXIT_STOPPED


def _unasked(ended: ChildExit) -> Ending:
    if ended.oom:
        return _OUT_OF_MEMORY
    if ended.exit_code in _BY_EXIT_CODE:
        return _BY_EXIT_CODE[ended.exit_code]
    if ended.signal in POLITE_SIGNALS:
        return _BY_EXIT_CODE[EXIT_STOPPED]
    if ended.signal == signal.SIGKILL or ended == ChildExit():
        return _KILLED
    return Ending("crash", f"The process crashed ({_name(ended)}).", charge=True)


def _name(ended: ChildExit) -> str:
    if ended.signal is None:
        return f"exit code {ended.exit_code}"
    try:
        return signal.Signals(ended.signal).name
    except ValueError:
        return f"signal {ended.signal}"


def _duration(seconds: float) -> str:
    if seconds < 120:  # noqa: PLR2004 - two minutes, as people say it
        return f"{seconds:g} seconds"
    return f"{seconds / 60:.0f} minutes"
