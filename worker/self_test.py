"""A slot that was taken out of service tests itself, and comes back when it is well.

The reconciler quarantines a slot whose last jobs, all different, got nowhere: of a lost
GPU, a full disk, a broken installation. An administrator may readmit it; so may the
slot itself, once a small training has run to its end on it. The first test comes some
minutes after the quarantine, and each further one after twice the time, so that a slot
that passes its tests and fails every job eats few of them.
"""

import shutil
import time
from typing import Any

import structlog
from sqlalchemy.orm import Session

from shared import worker_store
from shared.errors import RetryableError
from worker import child as child_process
from worker.child import Child, ChildExit
from worker.lease import DeadlineKeeper
from worker.presence import Presence
from worker.programs import Programs, build_environment
from worker.slots import SlotLock
from worker.workplace import Workplace

log = structlog.get_logger()

LONGEST_WAIT_SECONDS = 24 * 3600.0
# A test that takes longer has failed: importing the framework is most of it.
MOST_SECONDS = 300.0
LOOK_SECONDS = 0.1
PATIENCE_SECONDS = 5.0


class SelfTest:
    """Tests one slot while it is quarantined.

    Args:
        workplace: The slot.
        presence: Says whether it is quarantined, as of the last heartbeat.
        programs: What tests a slot that does jobs of a kind; other slots wait for an
            administrator.
    """

    def __init__(
        self, workplace: Workplace, presence: Presence, programs: Programs
    ) -> None:
        self._place = workplace
        self._presence = presence
        kinds = [kind for kind in workplace.slot.kinds if kind in programs]
        self._command = list(programs[kinds[0]]) if kinds else None
        self._wait_seconds = workplace.settings.self_test_seconds
        self._due_at: float | None = None

    def run_if_due(self, lock: SlotLock) -> bool:
        """Tests the slot if it is time; whether it may take jobs again.

        Args:
            lock: The held slot.
        """
        if self._presence.status != worker_store.QUARANTINED:
            self._due_at = None
            return False
        if self._command is None or self._wait_seconds == 0:
            return False
        if self._due_at is None:
            self._due_at = time.monotonic() + self._wait_seconds
        if time.monotonic() < self._due_at:
            return False
        self._wait_seconds = min(2 * self._wait_seconds, LONGEST_WAIT_SECONDS)
        self._due_at = time.monotonic() + self._wait_seconds
        return self._report(self._run(self._command, lock))

    def _run(self, command: list[str], lock: SlotLock) -> str | None:
        """Returns why the test failed; None when it did not."""
        log.info("self_test_started", slot=self._place.slot.name)
        folder = self._place.settings.runtime / f"self-test-{self._place.slot.name}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        settings = self._place.settings
        child = child_process.start(
            command,
            folder=folder,
            environment=build_environment(self._place.slot),
            lock=lock,
            lease_seconds=settings.lease_seconds,
            grace_seconds=settings.stop_grace_seconds,
        )
        keeper = DeadlineKeeper(
            lambda: child.extend(settings.lease_seconds),
            lambda: True,  # while this process runs, the slot is ours
            settings.heartbeat_seconds,
        )
        keeper.start()
        try:
            return self._watch(child)
        finally:
            child.end_now()
            keeper.stop()
            child.close()

    def _watch(self, child: Child) -> str | None:
        ends_at = time.monotonic() + MOST_SECONDS
        said: list[dict[str, Any]] = []
        while (ended := child.poll()) is None:
            said += child.read_events()
            if self._place.should_stop():
                return "The worker was stopped meanwhile."
            if time.monotonic() > ends_at:
                return f"It was not done after {MOST_SECONDS:.0f} seconds."
            time.sleep(LOOK_SECONDS)
        said += child.read_events()
        if ended.exit_code == 0:
            return None
        reasons = [event.get("message") for event in said if event["event"] == "failed"]
        return str(reasons[-1]) if reasons else _describe(ended)

    def _report(self, failure: str | None) -> bool:
        worker_id = self._presence.worker_id
        log.info("self_test_ended", failure=failure)
        if worker_id is None:
            return False

        def write(session: Session) -> bool:
            if failure is None:
                return worker_store.lift_quarantine(
                    session, worker_id, actor=f"worker:{worker_id}"
                )
            worker_store.explain_quarantine(
                session, worker_id, f"Its self-test failed: {failure}"
            )
            return False

        try:
            lifted = self._place.database.tx(write, patience_seconds=PATIENCE_SECONDS)
        except RetryableError as error:
            log.warning("self_test_unrecorded", error=str(error)[:300])
            return False
        if lifted:
            self._presence.status = worker_store.ACTIVE
        return lifted


def _describe(ended: ChildExit) -> str:
    if ended.signal is not None:
        return f"It was ended by signal {ended.signal}."
    return f"It ended with exit code {ended.exit_code}."
