"""What the user and the worker want of a child at work, told to it as it runs."""

import time

import structlog

from shared.job_status import Desired
from worker.child import Child
from worker.endings import StopReason
from worker.lease import LeaseKeeper
from worker.recorder import Recorder
from worker.workplace import Workplace

log = structlog.get_logger()

STACKS_SECONDS = 3.0  # between asking for stacks and asking to stop
START_UP_FACTOR = 2.0  # imports, compilation and first reads may take longer
PHASES_AFTER_TRAINING = ("evaluate", "export")


class Wishes:
    """The wishes for one attempt; `asked` is why its child was asked to stop."""

    def __init__(
        self, workplace: Workplace, lease: LeaseKeeper, recorder: Recorder
    ) -> None:
        self.asked: StopReason | None = None
        self._place, self._lease, self._recorder = workplace, lease, recorder
        self._settings = workplace.settings
        self._next_reminder_at = 0.0
        self._stacks_asked_at: float | None = None

    @property
    def patience_seconds(self) -> float:
        """How long the child may get nowhere; longer until it has begun."""
        limit = self._settings.progress_timeout_seconds
        return limit if self._recorder.has_progressed else limit * START_UP_FACTOR

    def tell(self, child: Child) -> None:
        """Asks the child to stop or to finish, where somebody wants that now.

        Raises:
            LostLease: When another attempt owns the job.
        """
        self._lease.check()
        if self._recorder.finished:
            # Frameworks take seconds to leave, and may crash on their way out: the
            # result is on the disk, so there is nothing to wait for.
            child.ask_to_stop()
            return
        reason = self._reason_to_stop(child)
        if reason and self.asked is None:
            self.asked = reason
            log.info("child_asked_to_stop", why=reason)
            child.ask_to_stop()
        wants_to_finish = self._lease.desired == Desired.FINISH
        if not wants_to_finish or self._recorder.phase in PHASES_AFTER_TRAINING:
            return
        if time.monotonic() >= self._next_reminder_at:
            self._next_reminder_at = time.monotonic() + self._settings.heartbeat_seconds
            child.ask_to_finish()  # again and again: it may still be starting up

    def _reason_to_stop(self, child: Child) -> StopReason | None:
        if self._lease.desired == Desired.CANCEL:
            return StopReason.CANCEL
        if self._lease.desired == Desired.PAUSE:
            return StopReason.PAUSE
        if self._place.should_stop():
            return StopReason.DRAIN
        limit = self._settings.unconfirmed_lease_seconds
        if self._lease.unconfirmed_seconds() > limit:
            return StopReason.UNCONFIRMED
        return StopReason.STALLED if self._is_stalled(child) else None

    def _is_stalled(self, child: Child) -> bool:
        """Whether the child got nowhere for too long; asks for its stacks first."""
        if self._recorder.silence_seconds() < self.patience_seconds:
            self._stacks_asked_at = None
            return False
        if self._stacks_asked_at is None:
            self._stacks_asked_at = time.monotonic()
            child.ask_for_stacks()
        return time.monotonic() - self._stacks_asked_at > STACKS_SECONDS
