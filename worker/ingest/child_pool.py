"""Runs a function on strangers' files in child processes that may crash or hang.

Decoders are native code and meet hostile bytes here: one may end its process, loop for
ever or take all memory. Each child works on one file at a time under a time and a
memory limit; a file that costs a child its life is reported, and a new child goes on
with the next. Children are forked from one server process that has imported the
framework once and runs no thread of its own, so a new child costs a moment and not the
ten seconds that the import takes.
"""

import contextlib
import ctypes
import importlib
import multiprocessing
import resource
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from shared.errors import InternalError
from worker.ingest.limits import MemberFaultError

_PR_SET_PDEATHSIG = 1
_END_WITH_PARENT = "worker.ingest.end_with_parent"
# The server's first child waits for the import of the framework.
_START_SECONDS = 300.0
# A child whose pipe has closed is about to end; its exit code says of what.
_LAST_WORDS_SECONDS = 5.0


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


Task = tuple[int, tuple[Any, ...]]  # key, arguments


def run_in_children(work: Work, tasks: Iterable[Task]) -> Iterator[Outcome]:
    """Yields the outcome of every task, in the order in which they end.

    Args:
        work: What to do.
        tasks: Taken one by one as children become free.

    Raises:
        InternalError: Children cannot even start.
        OSError: A child met a full disk or a failing one.
    """
    pool = _Pool(work)
    try:
        yield from pool.run(iter(tasks))
    finally:
        pool.close()


class _Child:
    """One child process and the task it is at."""

    def __init__(self, work: Work, context: Any) -> None:
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=_serve,
            args=(theirs, work.module, work.function, work.memory_bytes),
            daemon=True,
        )
        self.process.start()
        theirs.close()
        self.task: Task | None = None
        self.is_ready = False
        self.deadline = time.monotonic() + _START_SECONDS

    def take(self, task: Task, seconds: float) -> None:
        self.task = task
        self.deadline = time.monotonic() + seconds
        # A child that has just died is noticed when its answer is awaited.
        with contextlib.suppress(BrokenPipeError):
            self.connection.send(task[1])

    def end(self) -> int | None:
        """Kills it if it lives; returns its exit code, negative for a signal."""
        self.process.join(_LAST_WORDS_SECONDS)
        self.process.kill()
        self.process.join()
        self.connection.close()
        return self.process.exitcode


class _Pool:
    """The children, the tasks they are at, and those that are tried once more."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([_END_WITH_PARENT, work.module])
        self._children = [self._new_child() for _ in range(work.children)]
        self._tried: set[int] = set()
        self._again: list[Task] = []
        self._failed_starts = 0

    def run(self, supply: Iterator[Task]) -> Iterator[Outcome]:
        while self._feed(supply):
            self._wait_for_news()
            for position, child in enumerate(self._children):
                outcome = self._look_after(position, child)
                if outcome is not None:
                    yield outcome

    def close(self) -> None:
        for child in self._children:
            child.process.kill()
        for child in self._children:
            child.end()

    def _new_child(self) -> _Child:
        try:
            return _Child(self._work, self._context)
        except (EOFError, ConnectionError) as error:
            raise InternalError("The proving processes' server is gone.") from error

    def _feed(self, supply: Iterator[Task]) -> bool:
        """Gives free children something to do; False when all is done."""
        is_waiting = False
        for child in self._children:
            if child.task is None and child.is_ready:
                task = self._again.pop() if self._again else next(supply, None)
                if task is not None:
                    child.take(task, self._work.seconds)
            is_waiting |= child.task is not None or not child.is_ready
        return is_waiting

    def _wait_for_news(self) -> None:
        waiting = [c for c in self._children if c.task is not None or not c.is_ready]
        nearest = min(child.deadline for child in waiting)
        wait(
            [child.connection for child in waiting],
            max(0.0, nearest - time.monotonic()),
        )

    def _look_after(self, position: int, child: _Child) -> Outcome | None:
        if child.connection.poll():
            try:
                return self._hear(child, child.connection.recv())
            except (EOFError, ConnectionResetError):
                self._children[position] = self._new_child()
                return self._bury(child)
        if child.deadline > time.monotonic() or (child.is_ready and not child.task):
            return None
        child.process.kill()
        self._children[position] = self._new_child()
        if child.task is None:
            child.end()
            raise InternalError("A proving process does not start.")
        child.end()
        reason = (
            f"Decoding it takes longer than {self._work.seconds:g} seconds, as no "
            "honest picture does."
        )
        return Outcome(child.task[0], fault=MemberFaultError("timeout", reason))

    def _hear(self, child: _Child, answer: tuple[Any, ...]) -> Outcome | None:
        child.is_ready = True
        task, child.task = child.task, None
        word, *details = answer
        if word == "error":
            raise OSError(*details)
        if task is None:
            return None
        self._tried.discard(task[0])
        if word == "fault":
            return Outcome(task[0], fault=MemberFaultError(*details))
        return Outcome(task[0], result=details[0])

    def _bury(self, child: _Child) -> Outcome | None:
        """Accounts for a child that died. Its task gets a second chance.

        What one hostile file corrupted in memory may kill its child at the next,
        innocent one; alone in a fresh process the innocent one passes.
        """
        exit_code = child.end()
        if child.task is None:
            self._failed_starts += 1
            if self._failed_starts > len(self._children):
                raise InternalError(
                    f"Proving processes end before they start ({exit_code})."
                )
            return None
        key = child.task[0]
        if key not in self._tried:
            self._tried.add(key)
            self._again.append(child.task)
            return None
        return Outcome(key, fault=_crash_fault(exit_code))


def _crash_fault(exit_code: int | None) -> MemberFaultError:
    if exit_code == -signal.SIGKILL:
        return MemberFaultError(
            "out_of_memory", "Decoding it takes more memory than one picture may."
        )
    number = -(exit_code or 0)
    names = {int(known): known.name for known in signal.Signals}
    how = names.get(number, f"exit code {exit_code}")
    return MemberFaultError(
        "decoder_crashed", f"It is damaged so that its decoder crashed ({how})."
    )


def _serve(
    connection: Connection, module: str, function: str, memory_bytes: int
) -> None:
    """Answers tasks until the parent is gone: the whole life of a child."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for ours in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT):
        signal.signal(ours, signal.SIG_IGN)  # they are meant for the ingest itself
    work = importlib.import_module(module)
    work.prepare()
    _limit_memory(memory_bytes)
    call = getattr(work, function)
    connection.send(("ready",))
    while True:
        try:
            arguments = connection.recv()
        except EOFError:
            return
        connection.send(_answer(call, arguments))


def _answer(call: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    try:
        return ("result", call(*arguments))
    except MemberFaultError as fault:
        return ("fault", fault.code, fault.reason)
    except MemoryError:
        return (
            "fault",
            "out_of_memory",
            "Decoding it takes more memory than one picture may.",
        )
    except Exception as error:  # noqa: BLE001 - one file must not end the upload
        if isinstance(error, OSError) and error.errno is not None:
            return ("error", error.errno, error.strerror or str(error))
        # An OSError without a number is a decoder's about the file's content.
        how = f"{type(error).__name__}: {error}"[:200]
        return ("fault", "not_decodable", f"It cannot be decoded ({how}).")


def _limit_memory(memory_bytes: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
