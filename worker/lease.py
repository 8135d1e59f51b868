"""Keeps one attempt's lease alive, from a thread that nothing else can starve.

Copying a result or verifying a checkpoint may take minutes; the lease must not run out
meanwhile, so renewals have a thread and a connection of their own. A renewal that
*fails* (no database) changes nothing: the child goes on, because what it publishes is
fenced. A renewal that is *refused* means that another attempt owns the job.
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
    """

    def __init__(self, renew: Callable[[], str], heartbeat_seconds: float) -> None:
        self._renew = renew
        self._heartbeat_seconds = heartbeat_seconds
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
        """Holds while the lease may still be ours.

        Raises:
            LostLease: Once a renewal was refused.
        """
        if self.lost:
            raise LostLease("another attempt owns the job")

    def unconfirmed_seconds(self) -> float:
        """Returns how long ago the lease was last known to be ours, in seconds."""
        return boot_seconds() - self._confirmed_at

    def _run(self) -> None:
        while not self.lost and not self._ended.wait(self._heartbeat_seconds):
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


def boot_seconds() -> float:
    """Returns seconds since boot, the time that the machine was suspended included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
