"""Runs a function on strangers' files in child processes that may crash or hang.

Decoders are native code and meet hostile bytes here: one may end its process, loop for
ever or take all memory. Each child works on one file at a time under a time and a
memory limit; a file that costs a child its life is reported, and a new child goes on
with the next. Children are forked from one server process that has imported the
framework once and runs no thread of its own, so a new child costs a moment and not the
ten seconds that the import takes.
"""

import ctypes
import importlib
import multiprocessing
import resource
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from shared.errors import InternalError
from worker.ingest.limits import MemberFaultError

_PR_SET_PDEATHSIG = 1
# The server's first child waits for the import of the framework.
_START_SECONDS = 300.0
_BYTES_PER_MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one task.

    Args:
        key: The task's own key.
        result: What the function returned.
        fault: Why there is no result.
    """

    key: int
    result: Any = None
    fault: MemberFaultError | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """What the children do and within which bounds.

    Args:
        module: Module with the function; imported in the server process only. Its
            `prepare()` is called once in every child.
        function: Name of the function.
        seconds: Time for one task.
        memory_bytes: Memory of a child beyond what it has after its start.
        children: How many work at once.
    """

    module: str
    function: str
    seconds: float
    memory_bytes: int
    children: int


class _Child:
    """One child process and the task it is at."""

    def __init__(self, work: Work, context: Any) -> None:
        ours, theirs = context.Pipe()
        self.connection: Connection = ours
        self.process: BaseProcess = context.Process(
            target=_serve,
            args=(theirs, work.module, work.function, work.memory_bytes),
            daemon=True,
        )
        self.process.start()
        theirs.close()
        self.task: tuple[int, tuple[Any, ...]] | None = None
        self.is_ready = False
        self.deadline = time.monotonic() + _START_SECONDS

    def take(self, task: tuple[int, tuple[Any, ...]], seconds: float) -> None:
        self.task = task
        self.deadline = time.monotonic() + seconds
        self.connection.send(task[1])

    def end(self) -> int | None:
        """Kills it and returns its exit code, negative for a signal."""
        self.process.kill()
        self.process.join()
        self.connection.close()
        return self.process.exitcode


def run_in_children(
    work: Work, tasks: Iterator[tuple[int, tuple[Any, ...]]]
) -> Iterator[Outcome]:
    """Yields the outcome of every task, in the order in which they end.

    Args:
        work: What to do.
        tasks: (key, arguments); taken as children become free, so an endless supply
            needs no memory.

    Raises:
        InternalError: Children cannot even start.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([work.module])
    children = [_Child(work, context) for _ in range(work.children)]
    tried: set[int] = set()
    again: list[tuple[int, tuple[Any, ...]]] = []
    tasks = iter(tasks)
    try:
        while any(child.task or not child.is_ready for child in children):
            for position, child in enumerate(children):
                for outcome in _look_after(child, work, tried, again):
                    yield outcome
                if child.process.exitcode is not None or child.connection.closed:
                    children[position] = _Child(work, context)
                elif child.is_ready and child.task is None:
                    task = again.pop() if again else next(tasks, None)
                    if task is not None:
                        child.take(task, work.seconds)
            _wait_for_news(children)
    finally:
        for child in children:
            child.end()


def _look_after(
    child: _Child,
    work: Work,
    tried: set[int],
    again: list[tuple[int, tuple[Any, ...]]],
) -> Iterator[Outcome]:
    """Yields what a child has to say; ends one that is late or dead."""
    news = _receive(child)
    if news is not None:
        kind, *rest = news
        child.is_ready = True
        child.deadline = float("inf")
        task, child.task = child.task, None
        if task is not None and kind == "done":
            yield Outcome(task[0], result=rest[0])
        elif task is not None:
            yield Outcome(task[0], fault=MemberFaultError(*rest))
        return
    is_late = time.monotonic() > child.deadline
    if not is_late and child.process.is_alive():
        return
    exit_code = child.end()
    if not child.is_ready:
        raise InternalError(
            f"A process that proves pictures could not start (exit code {exit_code})."
        )
    if child.task is None:
        return
    key = child.task[0]
    if is_late:
        reason = f"Decoding it took longer than {work.seconds:g} seconds."
        yield Outcome(key, fault=MemberFaultError("timeout", reason))
    elif key not in tried:
        tried.add(key)  # the crash may have been another file's doing
        again.append(child.task)
    else:
        reason = f"Decoding it ended the decoder ({_name_end(exit_code)})."
        yield Outcome(key, fault=MemberFaultError("crashed", reason))


def _receive(child: _Child) -> tuple[Any, ...] | None:
    try:
        return child.connection.recv() if child.connection.poll() else None
    except (EOFError, OSError):
        return None


def _name_end(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return signal.Signals(-exit_code).name
    return f"exit code {exit_code}"


def _wait_for_news(children: list[_Child]) -> None:
    """Returns when a child says something, dies, or runs out of time."""
    waited_for = [c for c in children if not c.connection.closed]
    handles = [c.connection for c in waited_for] + [
        c.process.sentinel for c in waited_for
    ]
    soonest = min((c.deadline for c in waited_for), default=0.0)
    if any(c.is_ready and c.task is None for c in waited_for):
        soonest = min(soonest, time.monotonic() + 0.05)
    seconds = max(0.0, min(soonest - time.monotonic(), 1.0))
    wait(handles, timeout=seconds)


def _serve(
    connection: Connection, module: str, function: str, memory_bytes: int
) -> None:
    """What a child does: proves one picture after the other until told to end."""
    # The fork server ends with the process that started it, and so do its children.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    loaded = importlib.import_module(module)
    loaded.prepare()
    _limit_memory(memory_bytes)
    connection.send(("ready",))
    work = getattr(loaded, function)
    while True:
        try:
            arguments = connection.recv()
        except EOFError:
            return
        try:
            answer = ("done", work(*arguments))
        except MemberFaultError as fault:
            answer = ("fault", fault.code, fault.reason)
        except Exception as error:  # noqa: BLE001 - a decoder raises whatever it likes
            text = f"It cannot be decoded: {str(error)[:200] or type(error).__name__}."
            answer = ("fault", "damaged", text)
        connection.send(answer)


def _limit_memory(memory_bytes: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
