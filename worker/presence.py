"""The worker's row: says that this process lives and what it works on.

Nothing is decided by it but which slots the pages show and the bell counts; a job's
safety rests on its lease alone.
"""

import contextlib
import importlib.metadata
import os
import platform
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy.orm import Session

from shared import worker_store
from shared.database import Database
from shared.errors import NotFoundError
from worker.machine_memory import find_memory_limit
from worker.slots import Slot

log = structlog.get_logger()

PACKAGES = ("trainyard", "celery", "keras", "tensorflow", "tensorflow-cpu", "jax")


class Presence:
    """Registers this worker, beats for it, and says goodbye.

    Args:
        database: The records; may be away at any time.
        slot: The slot this process owns.
        queues: Values of `jobs.queue` that it serves.
        heartbeat_seconds: Time between beats.
        on_registered: Called whenever the worker got its number, so that it looks for
            work at once.
        report_weights: Returns which base models' weights this machine has, None when
            that is not known; asked at every beat, told when it has changed.
        on_beat: Called after each beat that the records took.
    """

    def __init__(
        self,
        database: Database,
        slot: Slot,
        queues: list[str],
        *,
        heartbeat_seconds: float,
        on_registered: Callable[[], None],
        report_weights: Callable[[], dict[str, Any] | None] = lambda: None,
        on_beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._slot = slot
        self._queues = queues
        self._heartbeat_seconds = heartbeat_seconds
        self._on_registered = on_registered
        self._report_weights = report_weights
        self._on_beat = on_beat
        self._told_weights: dict[str, Any] | None = None
        self._job_id: int | None = None
        self._due = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)
        self.worker_id: int | None = None
        self._leaving: tuple[str, str] | None = None
        self.status: str | None = None  # as the row had it at the last beat

    def start(self) -> None:
        """Begins to beat; registers as soon as the database can be reached."""
        self._thread.start()

    def show_job(self, job_id: int | None) -> None:
        """Says which job is being done, None for none."""
        self._job_id = job_id
        self._due.set()

    def leave_service(self, status: str, reason: str) -> None:
        """Says that this worker takes no more jobs, as soon as it can be said.

        Args:
            status: `draining` or `quarantined`.
            reason: Why, for the page.
        """
        self._leaving = status, reason
        self._due.set()

    def stop(self) -> None:
        """Says that the worker has gone, if the database can be told."""
        self._ended = True
        self._due.set()
        if self._thread.is_alive():
            self._thread.join()
        if self.worker_id is not None:
            with contextlib.suppress(NotFoundError):
                self._try(self._say_goodbye)

    def _run(self) -> None:
        while not self._ended:
            self._due.clear()
            self._beat()
            self._due.wait(self._heartbeat_seconds)

    def _beat(self) -> None:
        worker_id = self.worker_id
        if worker_id is None:
            weights = self._report_weights()
            self.worker_id = self._try(lambda session: self._register(session, weights))
            self._told_weights = weights
            if self.worker_id is not None:
                log.info("worker_registered", worker=self.worker_id)
                self._on_beat()
                self._on_registered()
            return
        weights = self._report_weights()
        news = None if weights == self._told_weights else weights
        try:
            status = self._try(
                lambda session: worker_store.beat(
                    session, worker_id, job_id=self._job_id, base_models=news
                )
            )
            if status is not None:
                self._told_weights = weights
                self.status = status
                self._on_beat()
        except NotFoundError:
            status = worker_store.GONE  # somebody removed the row
        if status == worker_store.ACTIVE and self._leaving:
            self._tell_leaving(worker_id, *self._leaving)
        if status == worker_store.GONE and not self._ended:
            # A predecessor of the same name may have said goodbye after we had come.
            self.worker_id = None
            self._due.set()

    def _say_goodbye(self, session: Any) -> None:
        row = worker_store.get_worker(session, self.worker_id or 0)
        if row.pid == os.getpid():  # else a successor of the same name has come
            worker_store.set_status(
                session, row.id, worker_store.GONE, actor=f"worker:{row.id}"
            )

    def _tell_leaving(self, worker_id: int, status: str, reason: str) -> None:
        def change(session: Session) -> bool:
            worker_store.set_status(
                session, worker_id, status, reason=reason, actor=f"worker:{worker_id}"
            )
            return True

        if self._try(change):
            self._leaving, self.status = None, status

    def _register(self, session: Any, weights: dict[str, Any] | None) -> int:
        host = socket.gethostname()
        return worker_store.register(
            session,
            name=f"{host}/{self._slot.name}",
            host=host,
            slot=self._slot.name,
            kinds=list(self._slot.kinds),
            queues=self._queues,
            gpu_mem_mb=self._slot.gpu_mem_mb,
            boot_id=_read_boot_id(),
            pid=os.getpid(),
            facts=_facts(),
            base_models=weights,
        )

    def _try(self, change: Callable[[Any], Any]) -> Any:
        try:
            return self._database.tx(change, patience_seconds=0)
        except NotFoundError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the next beat tries
            # again; a worker that cannot tell of itself can still do its job.
            log.warning("beat_failed", error=str(error)[:300])
            return None


def _facts() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mb": find_memory_limit() >> 20,
        "versions": {name: v for name in PACKAGES if (v := _find_version(name))},
    }


def _find_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _read_boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
