"""Child processes of `trainyard up`: started, watched, started again, stopped in order.

Each child runs in a session of its own, so a Ctrl-C in the terminal reaches `up` alone
and `up` decides the order of the stop. Each asks the kernel for SIGTERM when `up` dies,
so `kill -9` of `up` leaves nothing running for ever; what still winds down then is
found by `stop_leftovers` of the next `up`.
"""

import ctypes
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

PR_SET_PDEATHSIG = 1
# A child that falls over at once is tried again after 0.5 s, 1 s, 2 s ... 30 s.
FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 30.0
# A child that ran this long was healthy: its next restart is quick again.
HEALTHY_SECONDS = 30.0
LOG_LIMIT_BYTES = 16 * 2**20
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Child:
    """One supervised process.

    Attributes:
        name: Names the log file and the lines about it.
        command: The argument list.
        environment: The whole environment of the process.
        log_folder: Folder of `<name>.log`.
        restarts: How often it was started again.
    """

    name: str
    command: list[str]
    environment: Mapping[str, str]
    log_folder: Path
    restarts: int = 0
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    _quick_deaths: int = field(default=0, repr=False)
    _start_after: float = field(default=0.0, repr=False)

    @property
    def log_path(self) -> Path:
        """The file that holds what the process writes."""
        return self.log_folder / f"{self.name}.log"

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Starts the process; its output is appended to its log."""
        self.log_folder.mkdir(parents=True, exist_ok=True)
        _rotate(self.log_path)
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509 - one thread here
            )
        self.started_at = time.monotonic()

    def restart_if_dead(self) -> str | None:
        """Starts a dead process again when its back-off is over.

        Returns:
            A sentence when the process was just found dead, else None.
        """
        if self.process is None:
            if time.monotonic() >= self._start_after:
                self.restarts += 1
                self.start()
            return None
        code = self.process.poll()
        if code is None:
            return None
        self.process = None
        now = time.monotonic()
        healthy = now - self.started_at >= HEALTHY_SECONDS
        self._quick_deaths = 0 if healthy else self._quick_deaths + 1
        wait_seconds = 0.0
        if self._quick_deaths:
            doubled = FIRST_BACKOFF_SECONDS * 2 ** (self._quick_deaths - 1)
            wait_seconds = min(doubled, LONGEST_BACKOFF_SECONDS)
        self._start_after = now + wait_seconds
        return f"{self.name} ended ({describe_exit(code)}); starting it again"

    def tail(self, lines: int = 15) -> str:
        """Returns the last lines of the log."""
        try:
            with self.log_path.open("rb") as log:
                log.seek(max(0, self.log_path.stat().st_size - 8192))
                text = log.read().decode(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])


def describe_exit(code: int) -> str:
    """Says how a process ended: `exit code 1` or `signal SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def stop_all(children: Iterable[Child], *, within_seconds: float) -> None:
    """Asks all of `children` to stop, and kills what is left after the time given."""
    children = [child for child in children if child.running]
    deadline = time.monotonic() + within_seconds
    for child in children:
        _signal(child, signal.SIGTERM)
    while any(child.running for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    for child in children:
        if child.running:
            _signal(child, signal.SIGKILL)
    for child in children:
        assert child.process is not None
        child.process.wait()


def write_record(children: Iterable[Child], path: Path) -> None:
    """Writes down which processes run, for `stop_leftovers` of a later `up`."""
    rows = []
    for child in children:
        if child.process is None:
            continue
        with suppress(psutil.NoSuchProcess):
            created = psutil.Process(child.process.pid).create_time()
            pid = child.process.pid
            rows.append({"name": child.name, "pid": pid, "created": created})
    new = path.with_name(f"{path.name}.new")
    new.write_text(json.dumps(rows))
    new.replace(path)


def stop_leftovers(path: Path, *, within_seconds: float) -> int:
    """Stops processes that an `up` which was killed has left; returns how many.

    A process counts as ours only when its start time matches the record too, since
    process numbers are used again.
    """
    left = [process for row in _read_record(path) if (process := _find(row))]
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(left, timeout=within_seconds)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=5)
    path.unlink(missing_ok=True)
    return len(left)


def _read_record(path: Path) -> list[dict[str, Any]]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return []


def _find(row: dict[str, Any]) -> psutil.Process | None:
    try:
        process = psutil.Process(int(row["pid"]))
        same = abs(process.create_time() - row["created"]) < 1
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def _signal(child: Child, number: signal.Signals) -> None:
    assert child.process is not None
    if number is signal.SIGKILL:
        # The whole session: a server's own workers must not outlive it.
        with suppress(ProcessLookupError):
            os.killpg(child.process.pid, number)
        return
    child.process.send_signal(number)


def _rotate(path: Path) -> None:
    if path.exists() and path.stat().st_size > LOG_LIMIT_BYTES:
        path.replace(path.with_name(f"{path.name}.1"))


def _die_with(parent: int):  # noqa: ANN202 - a plain callable for Popen
    """Returns what the child runs before exec: to get SIGTERM when `parent` dies."""

    def ask_kernel() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it died in between
            os._exit(1)

    return ask_kernel
