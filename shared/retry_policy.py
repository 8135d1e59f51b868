"""What becomes of a job when an attempt of it ends: pure rules, no database.

`attempt_end_store.end` reads the row under its lock, asks `decide_end`, and carries the
answer out as one conditional UPDATE. The budgets count attempts *in a row without
durable progress*: fifty preemptions of a job that goes forward cost nothing, and a job
that kills every attempt stops after three.
"""

import random
from dataclasses import dataclass, replace
from typing import Self

from shared.job_status import Desired, JobStatus
from shared.settings import Settings

MAX_ATTEMPTS = 1000  # of one job, whatever they ended of
MAX_FILE_FAILURES = 5  # in a row without progress: a disk may be emptied meanwhile
MAX_BACKOFF_MS = 15 * 60 * 1000
# A web server or a storage that is down stays down for longer than a crash does.
MAX_OUTAGE_BACKOFF_MS = 60 * 60 * 1000

# The attempt vanished and nobody can say why, or its GPU did: uncharged, but not for
# ever.
LOST = "lost"
LOSSES = frozenset({LOST, "killed", "gpu_lost"})
# A file could not be read or written.
FILES = "io"
# What the job needs from elsewhere is out of reach: nobody's fault, and not for ever.
OUTAGE = "outage"
# The kernel killed the attempt for lack of memory.
MEMORY_KILL = "oom"
# It made no progress for too long.
STALLED = "stalled"
# The loss was no longer a number.
DIVERGED = "diverged"


@dataclass(frozen=True)
class Limits:
    """The budgets of one installation (see the settings of the same names)."""

    max_attempts_without_progress: int = 3
    max_lost_without_progress: int = 10
    max_user_failures: int = 2
    retry_backoff_seconds: float = 30

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Takes the budgets from `settings`."""
        return cls(
            settings.max_attempts_without_progress,
            settings.max_lost_without_progress,
            settings.max_user_failures,
            settings.retry_backoff_seconds,
        )


@dataclass(frozen=True)
class Ending:
    """How an attempt ended, as its supervisor or the reconciler saw it.

    Args:
        outcome: `failed`, `crash`, `oom`, `stalled`, `lost`, `killed`, `preempted`,
            `stopped`, `cancelled`, `io`, `outage`, `deadline` ...
        charge: Whether the job's budget pays for it.
        permanent: Trying again cannot help.
        user_failure: It was an exception of the training code.
    """

    outcome: str
    charge: bool
    permanent: bool = False
    user_failure: bool = False


@dataclass(frozen=True)
class Counters:
    """The budgets spent by a job so far, and whether this attempt went forward.

    Args:
        noprog: Charged attempts in a row without progress.
        lost: Losses in a row without progress.
        failures: Exceptions of the training code.
        attempts: All of them.
        progressed: Whether this attempt made durable progress.
        files: Attempts without progress that a file ended.
    """

    noprog: int
    lost: int
    failures: int
    attempts: int
    progressed: bool
    files: int = 0


@dataclass(frozen=True)
class Verdict:
    """The job's next state, its counters, and why it failed when it did."""

    state: JobStatus
    noprog: int
    lost: int
    failures: int
    why_failed: str | None = None
    files: int = 0


def decide_end(
    desired: str,
    ending: Ending,
    spent: Counters,
    limits: Limits,
    *,
    gives_way: bool = False,
) -> Verdict:
    """Returns what becomes of a running job whose attempt ended so.

    The user's wish comes first (cancel, then pause), then permanent errors, then the
    budgets; whatever is left is tried again. A job that was asked to pause for a more
    urgent one (`gives_way`) is nobody's to resume: it waits for its next turn.
    """
    noprog, lost, failures = spent.noprog, spent.lost, spent.failures
    if ending.charge and not spent.progressed:
        noprog += 1
    if ending.outcome in LOSSES | {OUTAGE} and not spent.progressed:
        lost += 1
    if ending.user_failure:
        failures += 1
    files = spent.files + (ending.outcome == FILES and not spent.progressed)
    state, why = JobStatus.QUEUED, None
    if desired == Desired.CANCEL:
        state = JobStatus.CANCELLED
    elif desired == Desired.PAUSE and not gives_way:
        state = JobStatus.PAUSED
    elif ending.permanent:
        state = JobStatus.FAILED
    else:
        now_spent = replace(
            spent, noprog=noprog, lost=lost, failures=failures, files=files
        )
        why = _name_spent_budget(ending, now_spent, limits)
        state = JobStatus.FAILED if why else JobStatus.QUEUED
    return Verdict(state, noprog, lost, failures, why, files)


def backoff_ms(ending: Ending, verdict: Verdict, limits: Limits) -> int:
    """Returns how long to wait before the next attempt, with jitter.

    Charged endings, and those for a file, wait `retry_backoff_seconds` doubled with
    each one in a row, up to 15 minutes; other uncharged ones (a drained worker, a dead
    host) wait not at all. For what is out of reach the wait begins with twice that time
    and doubles up to an hour.
    """
    if ending.outcome == OUTAGE:
        full = limits.retry_backoff_seconds * 1000 * 2 ** min(verdict.lost, 20)
        return _jitter(min(full, MAX_OUTAGE_BACKOFF_MS))
    if ending.outcome == FILES:
        in_a_row = max(verdict.files, 1)
    elif ending.charge or ending.user_failure:
        in_a_row = max(verdict.noprog, verdict.failures, 1)
    else:
        return 0
    full = limits.retry_backoff_seconds * 1000 * 2 ** min(in_a_row - 1, 20)
    return _jitter(min(full, MAX_BACKOFF_MS))


def _jitter(wait_ms: float) -> int:
    return int(wait_ms * random.uniform(0.8, 1))  # noqa: S311


def _name_spent_budget(ending: Ending, spent: Counters, limits: Limits) -> str | None:
    lost_for_good = spent.lost >= limits.max_lost_without_progress
    budgets = [
        (
            ending.user_failure and spent.failures >= limits.max_user_failures,
            f"The training code failed {spent.failures} times.",
        ),
        (
            ending.charge and spent.noprog >= limits.max_attempts_without_progress,
            f"{spent.noprog} attempts in a row ended without any progress.",
        ),
        (
            ending.outcome in LOSSES and lost_for_good,
            f"{spent.lost} attempts in a row were lost without any progress.",
        ),
        (
            ending.outcome == OUTAGE and lost_for_good,
            (
                f"{spent.lost} attempts in a row got nowhere. Try the job again when "
                "that can be reached."
            ),
        ),
        (
            ending.outcome == FILES and spent.files >= MAX_FILE_FAILURES,
            (
                f"{spent.files} attempts in a row ended because a file could not be "
                "read or written. Mend what is said of it here, then retry the job."
            ),
        ),
        (
            spent.attempts >= MAX_ATTEMPTS,
            f"The job has used all of its {MAX_ATTEMPTS} attempts.",
        ),
    ]
    return next((why for is_spent, why in budgets if is_spent), None)
