"""One child process under its guardian: start it, hear it, steer it, learn its end."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker import events
from worker.event_reader import EventReader
from worker.orders import VARIABLE as ORDERS_VARIABLE
from worker.slots import SlotLock, end_processes

EVENT_PIPE_BYTES = 1 << 20  # minutes of events, should the database make us wait
GUARDIAN_PATIENCE_SECONDS = 5.0  # beyond the grace period, before it is killed itself
_PACKAGE_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class ChildExit:
    """How a child ended.

    Args:
        exit_code: 0 to 255, or None when a signal ended it or nobody knows.
        signal: Number of the signal that ended it, or None.
        oom: Whether the kernel killed it for lack of memory.
    """

    exit_code: int | None = None
    signal: int | None = None
    oom: bool = False


class Child:
    """A running child and the pipes to it and to its guardian."""

    def __init__(
        self,
        guardian: "subprocess.Popen[bytes]",
        pipes: tuple[int, int, int],
        lock: SlotLock,
        grace_seconds: float,
        orders: int | None = None,
    ) -> None:
        self.guardian = guardian
        self.is_heard = False  # whether it has said anything yet
        self._control, self._status, self._events = pipes
        self._orders = orders
        self._reader = EventReader(self._events)
        self._lock = lock
        self._grace_seconds = grace_seconds
        self._stop_asked_at: float | None = None

    @property
    def dropped_lines(self) -> int:
        """How much of what the child said was no event."""
        return self._reader.dropped_lines

    def read_events(self) -> list[dict[str, Any]]:
        """Returns what the child has said since the last call."""
        events = self._reader.read_available()
        self.is_heard = self.is_heard or bool(events)
        return events

    def hand_over(self, spec: Path, folder: Path) -> None:
        """Tells a child that stands by what to do; it says `began` when it has heard.

        Args:
            spec: SPEC.json of the attempt.
            folder: The attempt's folder.
        """
        if self._orders is None:
            raise ValueError("this child was started with its job")
        order = json.dumps({"spec": str(spec), "folder": str(folder)})
        self._say("J")
        # The pipe is empty and holds 64 KiB, so the line goes in whole or, when nobody
        # is left to read it, not at all; then `poll` tells.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._orders, f"{order}\n".encode())
        _close(self._orders)
        self._orders = None

    def extend(self, seconds: float) -> None:
        """Lets the child live for `seconds` from now without another word from us."""
        self._say(f"L{seconds}")

    def ask_to_finish(self) -> None:
        """Asks for an evaluation and export of the best so far; may be repeated."""
        self._say("F")

    def ask_for_stacks(self) -> None:
        """Has the child write all its stacks to standard error."""
        self._say("D")

    def ask_to_stop(self) -> None:
        """Asks the child to save and leave; it is killed after the grace period.

        Asking again changes nothing.
        """
        if self._stop_asked_at is None:
            self._stop_asked_at = time.monotonic()
            self._say("S")

    def poll(self) -> ChildExit | None:
        """Returns how the child ended, or None while it runs.

        A guardian that does not come back from a stop is killed, and the kernel kills
        the child with it.
        """
        if self.guardian.poll() is not None:
            return self._collect()
        if self._is_overdue():
            self.guardian.kill()
        return None

    def end_now(self) -> ChildExit:
        """Stops the child and waits until nothing of it is left."""
        self.ask_to_stop()
        while (ended := self.poll()) is None:
            self.read_events()  # a child that is blocked on a full pipe cannot leave
            time.sleep(0.05)
        return ended

    def close(self) -> None:
        """Gives the pipes back; the child must have ended."""
        _close(self._control, self._status, self._events)
        if self._orders is not None:
            _close(self._orders)
            self._orders = None

    def _collect(self) -> ChildExit:
        # A guardian that was killed could not clear up below itself: whatever still
        # holds the slot is ours to end, except what another guardian looks after.
        self._lock.guardians.discard(self.guardian.pid)
        end_processes(self._lock.list_unguarded(), signal.SIGKILL)
        try:
            report = json.loads(os.read(self._status, 4096))
        except (OSError, ValueError):
            return ChildExit()
        return ChildExit(report["exit_code"], report["signal"], report["oom"])

    def _is_overdue(self) -> bool:
        if self._stop_asked_at is None:
            return False
        patience = self._grace_seconds + GUARDIAN_PATIENCE_SECONDS
        return time.monotonic() - self._stop_asked_at > patience

    def _say(self, line: str) -> None:
        with contextlib.suppress(BrokenPipeError, BlockingIOError):
            os.write(self._control, f"{line}\n".encode())


def start(
    command: list[str],
    *,
    folder: Path,
    environment: dict[str, str],
    lock: SlotLock,
    lease_seconds: float,
    grace_seconds: float,
    waits: bool = False,
) -> Child:
    """Starts `command` under a guardian of its own.

    Args:
        command: What to run.
        folder: Where its output goes: `stdout.log` and `stderr.log`.
        environment: Its whole environment; the events' descriptor is added.
        lock: The slot's lock, inherited so that it lasts as long as the child.
        lease_seconds: Time until the child is ended unless `extend` is called.
        grace_seconds: Time it gets to save and leave once it is asked to stop.
        waits: Whether it stands by until `hand_over` tells it what to do.
    """
    control_read, control = os.pipe()
    status, status_write = os.pipe()
    events, events_write = os.pipe()
    orders_read, orders = os.pipe() if waits else (None, None)
    with contextlib.suppress(OSError):
        fcntl.fcntl(events, fcntl.F_SETPIPE_SZ, EVENT_PIPE_BYTES)
    os.set_blocking(control, False)
    os.set_blocking(status, False)
    guardian = [sys.executable, "-m", "worker.guardian"]
    guardian += ["--control-fd", str(control_read), "--status-fd", str(status_write)]
    guardian += ["--lease-seconds", str(lease_seconds)]
    guardian += ["--grace-seconds", str(grace_seconds), "--", *command]
    theirs = [control_read, status_write, events_write]
    theirs += [] if orders_read is None else [orders_read]
    try:
        with (
            (folder / "stdout.log").open("ab") as stdout,
            (folder / "stderr.log").open("ab") as stderr,
        ):
            process = subprocess.Popen(
                guardian,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=folder,
                env=_with_code(environment, events_write, orders_read),
                pass_fds=[*theirs, *lock.descriptors],
                start_new_session=True,
            )
        lock.guardians.add(process.pid)
        lock.note_processes(guardian=process.pid)
    except BaseException:
        # A guardian that has started takes the end of its control pipe for a stop.
        _close(control, status, events, *([] if orders is None else [orders]))
        raise
    finally:
        _close(*theirs)
    return Child(process, (control, status, events), lock, grace_seconds, orders)


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _with_code(
    environment: dict[str, str], events_fd: int, orders_fd: int | None
) -> dict[str, str]:
    """Adds the way to this installation's code, since the child runs elsewhere."""
    orders = {} if orders_fd is None else {ORDERS_VARIABLE: str(orders_fd)}
    path = [str(_PACKAGE_ROOT), environment.get("PYTHONPATH", "")]
    return {
        **environment,
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        events.FD_VARIABLE: str(events_fd),
        **orders,
    }
