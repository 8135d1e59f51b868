"""Keeps one attempt's lease and child alive, from threads that nothing can starve.

Copying a result or verifying a checkpoint may take minutes; the lease must not run out
meanwhile, so renewals have a thread and a connection of their own. A renewal that
*fails* (no database) changes nothing: the child goes on, because what it publishes is
fenced. A renewal that is *refused* means that another attempt owns the job.

A database that neither answers nor refuses holds up whoever asked it, for as long as it
likes. So the word to the guardian that the child may live on comes from a thread that
asks nobody.
"""

import threading
import time
from collections.abc import Callable

import structlog

from shared.errors import LostLease
from shared.job_status import Desired

log = structlog.get_logger()


class LeaseKeeper:
    """Renews a lease every heartbeat and remembers what the answers said.

    Args:
        renew: Renews once and returns what the user desires; raises LostLease when
            refused, anything else when the database could not be asked.
        heartbeat_seconds: Time between renewals.
        loop_seconds: How long the supervisor's loop may go without a turn before it
            counts as hung. Then nothing is renewed any more, or a job whose supervisor
            hangs on a dead disk would run on paper for a week.
    """

    def __init__(
        self,
        renew: Callable[[], str],
        heartbeat_seconds: float,
        loop_seconds: float,
    ) -> None:
        self._renew = renew
        self._heartbeat_seconds = heartbeat_seconds
        self._loop_seconds = loop_seconds
        self._turned_at = boot_seconds()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        self.desired: str = Desired.RUN
        self.lost = False
        self._confirmed_at = boot_seconds()

    def start(self) -> None:
        """Begins to renew; the claim counts as the first confirmation."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the renewals; a renewal under way is not waited for."""
        self._ended.set()

    def check(self) -> None:
        """Holds while the lease may still be ours; each call is a turn of the loop.

        Raises:
            LostLease: Once a renewal was refused.
        """
        self._turned_at = boot_seconds()
        if self.lost:
            raise LostLease("another attempt owns the job")

    def unconfirmed_seconds(self) -> float:
        """Returns how long ago the lease was last known to be ours, in seconds."""
        return boot_seconds() - self._confirmed_at

    def may_go_on(self, unconfirmed_seconds: float) -> bool:
        """Whether the child may live on, so far as this process knows.

        Args:
            unconfirmed_seconds: How long it may without a confirmed lease.
        """
        unconfirmed = self.unconfirmed_seconds() > unconfirmed_seconds
        return not (self.lost or unconfirmed or self._is_hung())

    def seconds_to_live(
        self, lease_seconds: float, unconfirmed_seconds: float
    ) -> float:
        """Returns how long the child may go on without another word, in seconds.

        Not beyond the limit on unconfirmed time: the supervisor's loop, which asks it
        to stop then, may be held up by the very database that does not answer. A
        heartbeat more lets the loop be first where it can, for it knows why.

        Args:
            lease_seconds: The most.
            unconfirmed_seconds: How long it may without a confirmed lease.
        """
        left = max(0.0, unconfirmed_seconds - self.unconfirmed_seconds())
        return min(lease_seconds, left + self._heartbeat_seconds)

    def _is_hung(self) -> bool:
        return boot_seconds() - self._turned_at > self._loop_seconds

    def _run(self) -> None:
        while not self.lost and not self._ended.wait(self._heartbeat_seconds):
            if self._is_hung():
                log.error("supervisor_hangs", seconds=self._loop_seconds)
            else:
                self._beat()

    def _beat(self) -> None:
        asked_at = boot_seconds()
        try:
            self.desired = self._renew()
        except LostLease:
            self.lost = True
        except Exception as error:  # noqa: BLE001 - whatever it is, the next beat tries
            # again; the limit on unconfirmed time ends the attempt if none succeeds.
            log.warning("lease_unconfirmed", error=str(error)[:300])
        else:
            self._confirmed_at = asked_at


class DeadlineKeeper:
    """Moves a child's deadline on, again and again, while the child may go on.

    Args:
        extend: Tells the guardian; returns at once.
        may_go_on: Whether to.
        heartbeat_seconds: Time between two words.
    """

    def __init__(
        self,
        extend: Callable[[], None],
        may_go_on: Callable[[], bool],
        heartbeat_seconds: float,
    ) -> None:
        self._extend = extend
        self._may_go_on = may_go_on
        self._heartbeat_seconds = heartbeat_seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="deadline", daemon=True)

    def start(self) -> None:
        """Begins to speak to the guardian."""
        self._thread.start()

    def stop(self) -> None:
        """Returns once nothing more is said: the pipe may be closed after that."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._heartbeat_seconds):
            if self._may_go_on():
                self._extend()


def boot_seconds() -> float:
    """Returns seconds since boot, the time that the machine was suspended included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
