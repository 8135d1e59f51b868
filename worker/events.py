"""The JSON lines a child process speaks to whoever started it.

One object a line, on the file descriptor named by `TRAINYARD_EVENTS_FD`, else on
standard output. A child has no database: its supervisor turns these lines into rows.
What an event means is fixed by its name and its keys; a reader ignores keys it does
not know.
"""

import contextlib
import json
import math
import os
import sys
import threading
import time
from typing import Any, Literal

FD_VARIABLE = "TRAINYARD_EVENTS_FD"
_PROGRESS_SECONDS = 0.25  # at most four progress lines a second: a page polls slower

_lock = threading.Lock()
_output_fd: int | None = None
_last_progress: tuple[str, float] = ("", 0.0)
_stages: set[str] = set()


def take_over_stdout() -> None:
    """Keeps standard output for events: whatever else prints goes to standard error.

    Frameworks print to standard output at will, and a reader of lines must not meet
    that. Call it once, first thing in a child's main.
    """
    global _output_fd  # noqa: PLW0603 - a process has one event stream
    named = os.environ.get(FD_VARIABLE)
    if named is not None:
        _output_fd = int(named)
        # A grandchild (the reload check) must neither inherit nor speak on it.
        os.set_inheritable(_output_fd, False)
        return
    sys.stdout.flush()
    _output_fd = os.dup(1)
    os.dup2(2, 1)


def hand_down() -> dict[str, str]:
    """Lets the program that replaces this one speak on the same stream.

    Returns:
        What its environment must hold.
    """
    fd = 1 if _output_fd is None else _output_fd
    os.set_inheritable(fd, True)
    return {FD_VARIABLE: str(fd)}


def emit(event: str, **fields: Any) -> None:
    """Writes one line, whole and at once; numbers that are not finite become null.

    A reader that has gone away is no reason to stop: whoever holds this process's
    lease ends it, and a run started by hand goes on.
    """
    body = {"event": event, "at": round(time.time(), 3), **fields}
    line = json.dumps(_finite(body), separators=(",", ":"), default=str) + "\n"
    data = line.encode()
    fd = 1 if _output_fd is None else _output_fd
    with _lock, contextlib.suppress(BrokenPipeError):
        while data:
            data = data[os.write(fd, data) :]


def phase(name: str) -> None:
    """Says that the phase `name` begins."""
    emit("phase", phase=name)


def progress(
    phase: str, done: int, total: int, unit: str, *, step: int | None = None
) -> None:
    """Says how far a phase is, four times a second at most.

    The first line of a phase and the one that completes it are always written.

    Args:
        phase: What is worked at.
        done: Finished parts of it.
        total: All of its parts; 0 when nobody knows.
        unit: What the parts are.
        step: Any number that changes while work goes on, where one part may take long:
            a job that stays at one `done` and one `step` counts as stalled.
    """
    global _last_progress  # noqa: PLW0603 - the rate is the process's own
    now = time.monotonic()
    last_phase, last_at = _last_progress
    if phase == last_phase and done < total and now - last_at < _PROGRESS_SECONDS:
        return
    _last_progress = (phase, now)
    emit("progress", phase=phase, done=done, total=total, unit=unit, step=step)


def durable(what: str, done: int, total: int, unit: str) -> None:
    """Says how much of `what` is prepared and durable: no crash costs it any more."""
    emit("durable", what=what, done=done, total=total)
    progress("prepare", done, total, unit)


def stage(name: str) -> None:
    """Says that a job's start has come to `name`; the first time only."""
    with _lock:  # several threads may get there at once
        is_new = name not in _stages
        _stages.add(name)
    if is_new:
        emit("stage", name=name)


def note(level: Literal["info", "warning", "error"], message: str) -> None:
    """Leaves a sentence for the job's page."""
    emit("note", level=level, message=message)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if hasattr(value, "item"):  # a NumPy scalar
        return _finite(value.item())
    return value
