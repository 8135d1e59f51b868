"""Keeps one child waiting on a slot, so that a job need not wait for imports.

A child that stands by is a child like any other: under a guardian, holding the slot's
lock, with a deadline that this process moves on. It differs in that no job is its own
yet. Handing a job over is one line on a pipe (`worker/orders.py`); from then on its
supervisor keeps its deadline. It serves one attempt and ends.

Whatever becomes of it while it waits, nothing is lost: without one, a child is started
when the job is there, as if there had never been any.
"""

import shutil
from pathlib import Path

import structlog

from shared.settings import Settings
from worker import child as child_process
from worker.child import Child
from worker.lease import DeadlineKeeper
from worker.programs import Programs, build_environment
from worker.slots import Slot, SlotLock

log = structlog.get_logger()


class Standby:
    """The waiting child of one slot, or none.

    For one thread at a time: whoever has the slot.

    Args:
        settings: Timers, and whether any child shall wait.
        slot: Whose child.
        programs: What waits for each kind of job; nothing waits for other kinds.
    """

    def __init__(self, settings: Settings, slot: Slot, programs: Programs) -> None:
        kinds = [kind for kind in slot.kinds if kind in programs]
        self._kind = kinds[0] if kinds and settings.standby_trainer else None
        self._programs = programs
        self._settings = settings
        self._slot = slot
        self._environment: dict[str, str] = {}
        self._child: Child | None = None
        self._keeper: DeadlineKeeper | None = None
        self._has_failed = False

    def prepare(self, lock: SlotLock) -> bool:
        """Has a child wait from now on, unless one does; tells whether one waits.

        One that died while it waited is not replaced before `forgive`: whatever it died
        of (no memory, a broken installation) would only kill the next one too.

        Args:
            lock: The held slot.
        """
        if self._kind is None or self._lives():
            return self._child is not None
        if self._has_failed:
            return False
        try:
            self._start(lock, self._kind)
        except OSError as error:
            self._has_failed = True
            log.warning("standby_failed", error=str(error))
            return False
        return True

    def forgive(self) -> None:
        """Lets `prepare` try again; called when an attempt has ended."""
        self._has_failed = False

    def take(self, kind: str, environment: dict[str, str]) -> Child | None:
        """Returns the waiting child for the caller to hand a job to, or None.

        It need not have imported everything yet: it hears the order when it has. The
        deadline that it has left is a whole lease, and the caller's to move on.

        Args:
            kind: Of the job.
            environment: What its child must run in.
        """
        if kind != self._kind or not self._lives():
            return None
        if environment != self._environment:
            self.end()
            return None
        child = self._let_go()
        if child:
            child.extend(self._settings.lease_seconds)
        return child

    def end(self) -> None:
        """Returns once no child waits."""
        child = self._let_go()
        if child:
            child.end_now()
            child.close()

    def _start(self, lock: SlotLock, kind: str) -> None:
        settings = self._settings
        self._environment = build_environment(self._slot)
        child = child_process.start(
            list(self._programs[kind]),
            folder=self._make_folder(),
            environment=self._environment,
            lock=lock,
            lease_seconds=settings.lease_seconds,
            grace_seconds=settings.stop_grace_seconds,
            waits=True,
        )
        self._child = child
        self._keeper = DeadlineKeeper(
            lambda: child.extend(settings.lease_seconds),
            lambda: True,  # while this process runs, the slot is ours
            settings.heartbeat_seconds,
        )
        self._keeper.start()
        log.info("standby_started", guardian=child.guardian.pid)

    def _make_folder(self) -> Path:
        """Makes the empty folder in which it waits; the last one's output is gone."""
        folder = self._settings.runtime / f"standby-{self._slot.name}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _lives(self) -> bool:
        """Whether a child waits; clears away one that has died."""
        if self._child is None:
            return False
        ended = self._child.poll()
        if ended is None:
            return True
        log.warning("standby_died", exit_code=ended.exit_code, signal=ended.signal)
        self._has_failed = True
        child = self._let_go()
        if child:
            child.close()
        return False

    def _let_go(self) -> Child | None:
        child, self._child = self._child, None
        if self._keeper:
            self._keeper.stop()
            self._keeper = None
        return child
