"""`trainyard up`: the whole platform on this machine, in front or in the background.

One `up` a data folder: it holds the lock `<data>/up.lock` as long as it lives, and
writes how to reach it to `<data>/up.json`, where the other commands look.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from shared.child_environment import child_environment
from shared.errors import ConflictError, UserError
from shared.settings import Settings

START_WAIT_SECONDS = 180
STOP_WAIT_SECONDS = 40
LOCK_PATIENCE_SECONDS = 0.5
POLL_SECONDS = 0.1
PRIVATE_FOLDER = 0o700


def run_in_front(
    settings: Settings,
    slots: list[str],
    *,
    say: Callable[[str], None],
    ready: Callable[[dict[str, Any]], None],
) -> None:
    """Runs the platform until it is told to stop.

    Args:
        settings: With the port to listen on.
        slots: Slots to run a worker for.
        say: Shown one sentence per event.
        ready: Called once with `url`, `sign_in`, `pid`, `data_dir`.

    Raises:
        ConflictError: When another `up` runs on this data folder.
        UserError: When a part could not be started.
    """
    from cli.platform import Platform

    prepare_folders(settings)
    with _hold_lock(settings):
        platform = Platform(settings, slots, say)
        _obey_signals(platform.request_stop)
        address = platform.start()
        state = {
            "url": address.url,
            "local_url": f"http://{settings.host}:{settings.port}",
            "sign_in": address.sign_in,
            "pid": os.getpid(),
            "data_dir": str(settings.data_dir.absolute()),
        }
        try:
            _write_state(settings, state)
            ready(state)
            platform.watch()
        finally:
            say("Stopping ...")
            platform.stop()
            state_path(settings).unlink(missing_ok=True)


def start_in_background(settings: Settings, slots: list[str] | None) -> dict[str, Any]:
    """Starts an `up` of its own session and returns its state once it is ready.

    Args:
        settings: With the port to listen on.
        slots: Number of training workers follows from it; None means the default.

    Raises:
        UserError: With the log's last lines, when it did not come up.
    """
    prepare_folders(settings)
    log_path = settings.logs / "up.log"
    command = [sys.executable, "-m", "cli", "up", f"--port={settings.port}"]
    if slots is not None:
        command.append(f"--workers={len(slots)}")
    with log_path.open("ab") as log:
        start = log.tell()
        process = subprocess.Popen(
            command,
            env=child_environment(settings, PYTHONUNBUFFERED="1"),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_WAIT_SECONDS
    while time.monotonic() < deadline:
        state = find_running(settings)
        if state and state["pid"] == process.pid:
            return state
        if process.poll() is not None:
            break
        time.sleep(POLL_SECONDS)
    else:
        process.terminate()
    with log_path.open("rb") as log:
        log.seek(start)
        text = log.read().decode(errors="replace").strip()
    last = "\n".join(text.splitlines()[-12:])
    raise UserError(f"The platform did not start; {log_path} says:\n{last}")


def stop_running(settings: Settings) -> bool:
    """Stops the `up` of this data folder; returns False when none runs.

    Raises:
        UserError: When it does not stop in time.
    """
    pid = _lock_holder(settings)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_WAIT_SECONDS
    while _lock_holder(settings) == pid:
        if time.monotonic() > deadline:
            raise UserError(f"Process {pid} does not stop; see {settings.logs}.")
        time.sleep(POLL_SECONDS)
    return True


def find_running(settings: Settings) -> dict[str, Any] | None:
    """Returns the state of the ready `up` of this data folder, None without one."""
    pid = _lock_holder(settings)
    if pid is None:
        return None
    try:
        state = json.loads(state_path(settings).read_text())
    except (OSError, ValueError):
        return None
    return state if state.get("pid") == pid else None


def state_path(settings: Settings) -> Path:
    """Returns the file in which a ready `up` says how to reach it."""
    return settings.data_dir / "up.json"


def prepare_folders(settings: Settings) -> None:
    """Makes the folders of an installation, closed to other users of the machine.

    Raises:
        UserError: When one cannot be made.
    """
    folders = (settings.data_dir, settings.runtime, settings.logs, settings.storage)
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
        except OSError as error:
            raise UserError(
                f"Cannot make the folder {folder} ({error.strerror}): choose another "
                "with `--data-dir`.",
                field="data_dir",
            ) from error


@contextmanager
def _hold_lock(settings: Settings) -> Iterator[None]:
    path = settings.data_dir / "up.lock"
    with path.open("a+") as lock:
        # A command that asks who holds the lock takes it for a moment.
        deadline = time.monotonic() + LOCK_PATIENCE_SECONDS
        while not _try_lock(lock) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        if not _try_lock(lock):
            raise ConflictError(
                f"Trainyard already runs on {settings.data_dir.absolute()} (process "
                f"{_lock_holder(settings)}): stop it with `trainyard up --stop`.",
                field="data_dir",
            )
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _try_lock(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _lock_holder(settings: Settings) -> int | None:
    """Returns the process that holds the lock, None when nobody does."""
    try:
        with (settings.data_dir / "up.lock").open("r") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return int(lock.read() or 0) or None
    except OSError:
        return None
    return None


def _write_state(settings: Settings, state: dict[str, Any]) -> None:
    path = state_path(settings)
    new = path.with_name(f"{path.name}.new")
    new.touch(mode=0o600)
    new.write_text(json.dumps(state))
    new.replace(path)


def _obey_signals(request_stop: Callable[[], None]) -> None:
    def stop(_number: int, _frame: object) -> None:
        request_stop()

    # A closed terminal stops the platform as Ctrl-C does.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
