"""The slot: one GPU, several, or the CPU, on which one job at a time runs.

A slot is held by an advisory lock on `<runtime>/slot-<name>.lock`, and one of several
GPUs by the locks of all of them, so that no GPU is in two slots. The locked files are
inherited by the guardian and the trainer, so a lock is held as long as anything of
an attempt is alive, even when the worker was killed. Whoever finds it held by such an
orphan ends the orphan and waits for the release; it never claims a job before.

The file also names the attempt that its holder asked for last. Whoever takes the lock
afterwards knows that nothing of that attempt is alive, and may end it at once if its
end is not on record.
"""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import structlog

from shared.errors import UserError

log = structlog.get_logger()

POLL_SECONDS = 0.05
LOOKS = 5  # at who holds a slot, before it is believed to be an orphan
NOTE_BYTES = 192
KILL_PATIENCE_SECONDS = 10.0  # a killed process on a hung disk dies when the disk may
NVIDIA_SMI_TIMEOUT_SECONDS = 20
TRAINING = ("train", "forecast")  # kinds of jobs of every slot but `ingest`


@dataclass(frozen=True)
class GPUDevice:
    """One GPU as its driver names it."""

    index: int
    uuid: str
    memory_mb: int


@dataclass(frozen=True)
class Slot:
    """What one worker process owns.

    Args:
        name: `cpu`, `gpu-<uuid>`, `gpus-<index>-<index>...` or `ingest`.
        kinds: Kinds of jobs that run here.
        gpus: The GPUs, for slots that have any; a training shares its batches out.
    """

    name: str
    kinds: tuple[str, ...]
    gpus: tuple[GPUDevice, ...] = ()

    @property
    def visible_devices(self) -> str:
        """Value of CUDA_VISIBLE_DEVICES for the child: its GPUs, or none at all."""
        return ",".join(gpu.uuid for gpu in self.gpus) or "-1"

    @property
    def gpu_mem_mb(self) -> int:
        """Memory that a job may ask of each GPU of this slot, MiB; 0 without one.

        The least of them: each holds a copy of the model and its share of a batch.
        """
        return min((gpu.memory_mb for gpu in self.gpus), default=0)

    @property
    def lock_names(self) -> list[str]:
        """What must be held to own this slot, in the order in which all take it."""
        return sorted(f"gpu-{gpu.uuid}" for gpu in self.gpus) or [self.name]


class SlotBusyError(Exception):
    """Another live worker, or an orphan that cannot be ended, holds the slot."""


def list_gpus(program: str = "nvidia-smi") -> list[GPUDevice]:
    """Lists the GPUs of this machine; none where there is no NVIDIA driver.

    Args:
        program: The driver's tool, asked for index, UUID and memory.
    """
    return ask_driver(program) or []


def ask_driver(program: str = "nvidia-smi") -> list[GPUDevice] | None:
    """Lists the GPUs that the driver finds now; None when it gave no answer.

    A driver that complains does answer: of a GPU that has fallen off the bus it says so
    with an exit code, and names the others.
    """
    query = ["--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(
            [program, *query],
            capture_output=True,
            text=True,
            timeout=NVIDIA_SMI_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = map(_parse_gpu, answer.stdout.splitlines())
    return [gpu for gpu in found if gpu is not None]


def get_slot(asked: str, gpus: list[GPUDevice]) -> Slot:
    """Builds the slot a user named.

    Args:
        asked: `cpu`, `ingest`, `gpu-<index>` or `gpu-<uuid>`; GPUs that one training
            shall share are joined by commas.
        gpus: As `list_gpus` found them.

    Raises:
        UserError: When there is no such slot on this machine.
    """
    if asked == "cpu":
        return Slot("cpu", TRAINING)
    if asked == "ingest":
        return Slot("ingest", ("ingest",))
    names = [name.strip() for name in asked.split(",")]
    mine = tuple(_get_gpu(name, gpus) for name in names)
    if len(set(mine)) < len(mine):
        raise UserError(
            f"The slot {asked!r} names a GPU twice. Name each once.", field="slot"
        )
    if len(mine) == 1:
        return Slot(f"gpu-{mine[0].uuid}", TRAINING, mine)
    numbers = "-".join(str(gpu.index) for gpu in mine)
    return Slot(f"gpus-{numbers}", TRAINING, mine)


def _get_gpu(asked: str, gpus: list[GPUDevice]) -> GPUDevice:
    for gpu in gpus:
        if asked in (f"gpu-{gpu.index}", f"gpu-{gpu.uuid}", gpu.uuid):
            return gpu
    known = ", ".join(["cpu", "ingest", *(f"gpu-{gpu.index}" for gpu in gpus)])
    raise UserError(f"There is no slot {asked!r} here. Known: {known}.", field="slot")


class SlotLock:
    """The held lock of one slot; `descriptors` go to the guardian and the trainer.

    Args:
        path: Of the first lock file, which names the processes.
        descriptor: The first locked file.
        attempt: UUID of an attempt whose end may not be on record; when the lock was
            just taken, of the one that an earlier holder asked for last.
        guardians: Process ids of the guardians started under this lock and not yet
            seen to end: of the trainer, and of one that stands by.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor
        self.attempt: str | None = None
        self.guardians: set[int] = set()
        self._further: list[SlotLock] = []

    @property
    def descriptors(self) -> list[int]:
        """Every locked file: one, or one for each GPU."""
        return [self.descriptor, *(lock.descriptor for lock in self._further)]

    def add(self, other: "SlotLock") -> None:
        """Makes another held lock part of this one."""
        self._further.append(other)

    def note_processes(self, **processes: int) -> None:
        """Writes process ids into the lock file, for whoever looks after a crash.

        In one write of always the same length: who reads meanwhile finds the old note
        or the new one, and most full disks have kept room for it.

        Raises:
            OSError: The disk takes no write.
        """
        note = {"worker": os.getpid(), "attempt": self.attempt, **processes}
        text = json.dumps(note).ljust(NOTE_BYTES - 1)
        os.pwrite(self.descriptor, f"{text}\n".encode(), 0)

    def note_attempt(self, attempt_uuid: str) -> None:
        """Names the attempt that is about to be asked for."""
        self.attempt = attempt_uuid
        self.note_processes()

    def list_strays(self) -> list[int]:
        """Lists the other processes that still hold this slot."""
        return [pid for pid in _holders(self.path) if pid != os.getpid()]

    def list_unguarded(self) -> list[int]:
        """Lists those strays that no living guardian of ours has below itself."""
        strays = set(self.list_strays())  # before the trees: a process that is born
        # meanwhile is below its guardian then
        for guardian in self.guardians:
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(guardian)
                below = process.children(recursive=True)
                strays -= {guardian, *(each.pid for each in below)}
        return sorted(strays)

    def release(self) -> None:
        """Gives the slot back, unless something of the attempt is still alive."""
        for descriptor in self.descriptors:
            os.close(descriptor)


def acquire(
    runtime: Path,
    slot: Slot,
    *,
    grace_seconds: float,
    should_stop: Callable[[], bool] = lambda: False,
) -> SlotLock:
    """Takes the slot, after ending whatever a dead worker left running on it.

    1. The lock is free: take it.
    2. It is held by a live worker: that worker is busy or frozen, and its children
       are its own. Leave it alone.
    3. It is held by orphans only. Their guardian is ending them already; help with
       SIGTERM, wait the grace period, then SIGKILL, then wait for the release.

    Args:
        runtime: Local folder of the lock files.
        slot: Whose lock.
        grace_seconds: Time that orphans get to leave.
        should_stop: Asked while waiting; true gives up.

    Raises:
        SlotBusyError: In case 2, or when orphans outlive SIGKILL.
    """
    runtime.mkdir(parents=True, exist_ok=True)
    first, *others = (runtime / f"slot-{name}.lock" for name in slot.lock_names)
    lock = _acquire_one(first, grace_seconds, should_stop)
    try:
        for path in others:
            lock.add(_acquire_one(path, grace_seconds, should_stop))
    except BaseException:
        lock.release()
        raise
    return lock


def _acquire_one(
    path: Path, grace_seconds: float, should_stop: Callable[[], bool]
) -> SlotLock:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    lock = SlotLock(path, descriptor)
    try:
        if not _try_lock(descriptor):
            _clear_orphans(lock, grace_seconds, should_stop)
        earlier = _read_note(path).get("attempt")
        lock.attempt = earlier if isinstance(earlier, str) else None
        lock.note_processes()
    except BaseException:
        os.close(descriptor)
        raise
    return lock


def _clear_orphans(
    lock: SlotLock, grace_seconds: float, should_stop: Callable[[], bool]
) -> None:
    for _ in range(LOOKS):
        worker = _read_note(lock.path).get("worker")
        if worker in _holders(lock.path):
            raise SlotBusyError(f"worker {worker} holds {lock.path.name}")
        time.sleep(POLL_SECONDS)  # it may have taken the lock and not signed it yet
    log.warning("orphans_found", slot=lock.path.name, pids=lock.list_strays())
    for number, patience in (
        (signal.SIGTERM, grace_seconds),
        (signal.SIGKILL, KILL_PATIENCE_SECONDS),
    ):
        end_processes(lock.list_strays(), number)
        if _wait_for_lock(lock.descriptor, patience, should_stop):
            log.info("orphans_ended", slot=lock.path.name)
            return
    raise SlotBusyError(f"{lock.path.name} is held by {lock.list_strays()}")


def end_processes(pids: list[int], number: int) -> None:
    """Sends signal `number` to each process that is still there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
        except PermissionError:
            log.exception("orphan_of_another_user", pid=pid)


def _wait_for_lock(
    descriptor: int, patience_seconds: float, should_stop: Callable[[], bool]
) -> bool:
    deadline = time.monotonic() + patience_seconds
    while not (taken := _try_lock(descriptor)) and time.monotonic() < deadline:
        if should_stop():
            raise SlotBusyError("asked to stop while waiting for the slot")
        time.sleep(POLL_SECONDS)
    return taken


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_note(path: Path) -> dict[str, Any]:
    try:
        note = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _holders(path: Path) -> list[int]:
    """Lists the processes that hold the lock on `path`, themselves or by inheritance.

    Process ids noted in a file may have been given to somebody else since; a held
    lock cannot. Who merely waits for the lock has the file open too, and is no holder.
    """
    target = str(path.resolve())
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdecimal() and _holds(entry, target)
    ]


def _holds(process: Path, target: str) -> bool:
    try:
        links = list((process / "fd").iterdir())
    except OSError:
        return False
    for link in links:
        try:
            if str(link.readlink()) == target:
                about = (process / "fdinfo" / link.name).read_text()
                if "FLOCK" in about:
                    return True
        except OSError:
            continue
    return False


def _parse_gpu(line: str) -> GPUDevice | None:
    try:
        index, uuid, memory = (part.strip() for part in line.split(","))
        return GPUDevice(int(index), uuid, int(float(memory)))
    except ValueError:  # a sentence about what is wrong
        return None
