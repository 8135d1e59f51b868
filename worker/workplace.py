"""What every attempt on one slot has in common, and how its child comes to be."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from shared.artifacts import Storage
from shared.database import Database
from shared.job_status import JobKind
from shared.settings import Settings
from shared.source_addresses import parse_prefix
from worker import child
from worker.child import Child
from worker.programs import COMMANDS, Programs, build_environment
from worker.slots import GPUDevice, Slot, SlotLock, ask_driver
from worker.standby import Standby


@dataclass(frozen=True)
class Workplace:
    """One slot and all that is needed to do jobs on it.

    Args:
        database: The records.
        settings: Timers and limits.
        storage: Shared storage.
        slot: The slot this worker owns.
        should_stop: Whether the worker is being shut down.
        commands: The program of each kind of job; SPEC.json and the attempt's folder
            are added.
        standby: The slot's waiting child, if any shall wait.
        list_gpus: Asks the driver which GPUs there are; None when it does not say.
    """

    database: Database
    settings: Settings
    storage: Storage
    slot: Slot
    should_stop: Callable[[], bool]
    commands: Programs = field(default_factory=lambda: COMMANDS)
    standby: Standby | None = None
    list_gpus: Callable[[], list[GPUDevice] | None] = ask_driver

    def list_lost_gpus(self) -> list[str]:
        """Returns the UUIDs of this slot's GPUs that the driver does not know now."""
        if not self.slot.gpus:
            return []
        found = self.list_gpus()
        if found is None:
            return []  # nobody knows, and a busy driver is no lost GPU
        there = {gpu.uuid for gpu in found}
        return [gpu.uuid for gpu in self.slot.gpus if gpu.uuid not in there]

    def take_standby(self, kind: str) -> Child | None:
        """Returns the child that waits for a job of this kind, if there is one."""
        if self.standby is None:
            return None
        return self.standby.take(kind, build_environment(self.slot))

    def start_child(
        self, kind: str, spec_path: Path, folder: Path, lock: SlotLock
    ) -> Child:
        """Starts a child that does the job of `spec_path` in `folder`."""
        return child.start(
            [*self.commands[kind], str(spec_path), str(folder)],
            folder=folder,
            environment=build_environment(
                self.slot, reads_stores=kind == JobKind.INGEST and self._has_stores()
            ),
            lock=lock,
            lease_seconds=self.settings.lease_seconds,
            grace_seconds=self.settings.stop_grace_seconds,
        )

    def _has_stores(self) -> bool:
        """Whether datasets may come from object storage at all."""
        entries = map(parse_prefix, self.settings.source_addresses)
        return any(entry.is_store for entry in entries)
