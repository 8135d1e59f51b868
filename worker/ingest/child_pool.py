"""Runs a function on strangers' files in child processes that may crash or hang.

Decoders are native code and meet hostile bytes here: one may end its process, loop for
ever or take all memory. Each child works on one file at a time under a time and a
memory limit; a file that costs a child its life is reported, and a new child goes on
with the next. A child has the next few tasks at hand, so that it need not wait for the
parent between small pictures; it answers each by itself, so it is always known which
one it is at, and what it had not begun when it died goes to another child. Children
are forked from one server process that has imported the
framework once and runs no thread of its own, so a new child costs a moment and not the
ten seconds that the import takes. `start_server` lets that import run beside whatever
comes before.

A file that took too long or too much memory may have met a machine that was asleep, or
out of memory for other reasons. It is tried once more at the very end, while all other
children are idle.
"""

import contextlib
import ctypes
import importlib
import itertools
import multiprocessing
import os
import resource
import signal
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from shared.errors import InternalError
from worker.ingest.child_answers import do_task, explain_death
from worker.ingest.limits import MemberFaultError
from worker.machine_memory import find_memory_limit

_PR_SET_PDEATHSIG = 1
# Named, not imported: in this process it would have its effect.
_END_WITH_PARENT = "worker.ingest.end_with_parent"
_PARENT = "TRAINYARD_INGEST_PID"
# The server's first child waits for the import of the framework.
_START_SECONDS = 300.0
# Small pictures take a fraction of a millisecond: with this many at hand a child works
# on while the parent looks after others, and few are done again when it dies.
_MOST_AT_HAND = 32
# What lies before one task should take no longer than this, whatever the pictures.
_AT_HAND_SECONDS = 0.05
# A child whose pipe has closed is about to end; its exit code says of what.
_LAST_WORDS_SECONDS = 5.0
# The largest of the children that proved 100,000 photographs and TrashNet held 0.85 GB
# (docs/measurements.md).
_USUAL_BYTES = 850_000_000
# What a busy machine may be the reason of.
_MACHINE_FAULTS = frozenset({"timeout", "out_of_memory"})
# So many in a row that fail again at the end, and the rest is believed as it failed.
_MOST_FAILED_AGAIN = 10


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one task.

    Args:
        key: The task's own key.
        result: What the function returned.
        fault: Why there is no result.
        is_last: Whether nothing more comes of it. Otherwise it is put off: it will be
            tried again, and has another outcome then.
    """

    key: int
    result: Any = None
    fault: MemberFaultError | None = None
    is_last: bool = True


@dataclass(frozen=True, slots=True)
class Work:
    """What the children do and within which bounds.

    Args:
        module: Module with the function; imported in the server process only. Its
            `prepare()` is called once in every child.
        function: Name of the function.
        seconds: Time for one task.
        memory_bytes: Memory of a child beyond what it has after its start.
        children: How many work at once, at most.
    """

    module: str
    function: str
    seconds: float
    memory_bytes: int
    children: int


Task = tuple[int, tuple[Any, ...]]  # key, arguments


def start_server(module: str) -> None:
    """Begins the import of `module` in the server process, and returns at once.

    For a step that comes later and shall not wait for it. A module that cannot be
    imported is noticed when children are wanted.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([_END_WITH_PARENT, module])
    os.environ[_PARENT] = str(os.getpid())
    forkserver.ensure_running()


def count_children(work: Work) -> int:
    """Returns how many children work at once.

    The machine holds one that takes all it may beside others that take what is usual:
    huge pictures are rare, and one that finds no memory is tried again alone.
    """
    left = find_memory_limit() - work.memory_bytes
    others = left // min(_USUAL_BYTES, work.memory_bytes)
    return max(1, min(work.children, 1 + others))


def run_in_children(work: Work, tasks: Iterable[Task]) -> Iterator[Outcome]:
    """Yields the outcome of every task, in the order in which they end.

    What is put off until the end yields an outcome that is not the last, so that nobody
    takes a run of slow tasks for one that hangs: something comes within twice the time
    of one task.

    Args:
        work: What to do.
        tasks: Taken one by one as children become free.

    Raises:
        InternalError: Children cannot even start.
        OSError: A child could not write: the disk is full, or fails.
    """
    pool = _Pool(work)
    try:
        yield from pool.run(iter(tasks))
    finally:
        pool.close()


class _Child:
    """One child process and the tasks it has at hand, the first being worked on."""

    def __init__(self, work: Work, context: Any) -> None:
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=_serve,
            args=(theirs, work),
            daemon=True,
        )
        self.process.start()
        theirs.close()
        self.tasks: deque[Task] = deque()
        self.is_ready = False
        self.deadline = time.monotonic() + _START_SECONDS
        self._seconds = work.seconds
        self._began_at = 0.0
        self._pace = _AT_HAND_SECONDS  # seconds that a task took of late

    @property
    def is_busy(self) -> bool:
        """Whether something is awaited of it."""
        return bool(self.tasks) or not self.is_ready

    @property
    def room(self) -> int:
        """How many tasks it should be given now."""
        if not self.is_ready:
            return 0
        wanted = max(1, min(_MOST_AT_HAND, int(_AT_HAND_SECONDS / self._pace)))
        # Topped up when half are done: one message for many tasks.
        return wanted - len(self.tasks) if len(self.tasks) <= wanted // 2 else 0

    def take(self, tasks: list[Task]) -> None:
        if not self.tasks:
            self._start_clock()
        self.tasks.extend(tasks)
        # A child that has just died is noticed when its answer is awaited.
        with contextlib.suppress(BrokenPipeError):
            self.connection.send([arguments for _, arguments in tasks])

    def finish(self) -> Task | None:
        """Takes away the task that was answered; the clock runs for the next."""
        self.is_ready = True
        if not self.tasks:
            return None
        spent = time.monotonic() - self._began_at
        self._pace = max(1e-6, 0.8 * self._pace + 0.2 * spent)
        self._start_clock()
        return self.tasks.popleft()

    def end(self) -> int | None:
        """Kills it if it lives; returns its exit code, negative for a signal."""
        self.process.join(_LAST_WORDS_SECONDS)
        self.process.kill()
        self.process.join()
        self.connection.close()
        return self.process.exitcode

    def _start_clock(self) -> None:
        self._began_at = time.monotonic()
        self.deadline = self._began_at + self._seconds


class _Pool:
    """The children, the tasks they are at, and those that are given out again."""

    def __init__(self, work: Work) -> None:
        self._work = work
        start_server(work.module)
        self._context = multiprocessing.get_context("forkserver")
        self._children = [self._new_child() for _ in range(count_children(work))]
        self._tried: set[int] = set()
        self._again: deque[Task] = deque()
        self._late: deque[tuple[Task, MemberFaultError]] = deque()
        self._at_last: int | None = None  # the key of what is tried at the end
        self._failed_again = 0
        self._failed_starts = 0

    def run(self, supply: Iterator[Task]) -> Iterator[Outcome]:
        while self._feed(supply):
            self._wait_for_news()
            for position, child in enumerate(self._children):
                yield from self._look_after(position, child)
        for (key, _), fault in self._late:
            yield Outcome(key, fault=fault)

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
        """Gives children something to do; False when all is done."""
        is_waiting = False
        for child in self._children:
            if (room := child.room) and (
                tasks := self._next_tasks(child, room, supply)
            ):
                child.take(tasks)
            is_waiting |= child.is_busy
        if not is_waiting and self._late and self._failed_again < _MOST_FAILED_AGAIN:
            task, _ = self._late.popleft()
            self._at_last = task[0]
            self._children[0].take([task])
            return True
        return is_waiting

    def _next_tasks(
        self, child: _Child, room: int, supply: Iterator[Task]
    ) -> list[Task]:
        """What a child gets: fresh tasks, or alone one that a child has died of."""
        if self._again:
            if self._again[0][0] not in self._tried:
                return [self._again.popleft()]
            return [] if child.tasks else [self._again.popleft()]
        if any(task[0] in self._tried for task in child.tasks):
            return []
        return list(itertools.islice(supply, room))

    def _wait_for_news(self) -> None:
        waiting = [child for child in self._children if child.is_busy]
        nearest = min(child.deadline for child in waiting)
        wait(
            [child.connection for child in waiting],
            max(0.0, nearest - time.monotonic()),
        )

    def _look_after(self, position: int, child: _Child) -> Iterator[Outcome]:
        answers, is_gone = _receive(child.connection)
        for answer in answers:
            yield from self._hear(child, answer)
        if is_gone:
            self._children[position] = self._new_child()
            yield from self._bury(child)
        elif child.is_busy and child.deadline <= time.monotonic():
            yield from self._give_up(position, child)

    def _give_up(self, position: int, child: _Child) -> Iterator[Outcome]:
        """Ends a child that is too slow, at its start or at a task."""
        child.process.kill()
        self._children[position] = self._new_child()
        child.end()
        if not child.tasks:
            raise InternalError("A proving process does not start.")
        task = child.tasks.popleft()
        self._again.extend(child.tasks)
        reason = (
            f"Decoding it takes longer than {self._work.seconds:g} seconds, as no "
            "honest picture does."
        )
        yield from self._blame(task, MemberFaultError("timeout", reason))

    def _hear(self, child: _Child, answer: tuple[Any, ...]) -> Iterator[Outcome]:
        task = child.finish()
        word, *details = answer
        if word == "error":
            raise OSError(*details)
        if task is None:
            return
        if word == "fault":
            yield from self._blame(task, MemberFaultError(*details))
            return
        self._tried.discard(task[0])
        self._failed_again = 0
        yield Outcome(task[0], result=details[0])

    def _blame(self, task: Task, fault: MemberFaultError) -> Iterator[Outcome]:
        """Says what is wrong with a file, unless that may have been the machine."""
        self._tried.discard(task[0])
        is_again = task[0] == self._at_last
        if fault.code in _MACHINE_FAULTS:
            if not is_again:
                self._late.append((task, fault))
                yield Outcome(task[0], fault=fault, is_last=False)
                return
            self._failed_again += 1
        yield Outcome(task[0], fault=fault)

    def _bury(self, child: _Child) -> Iterator[Outcome]:
        """Accounts for a child that died. Its task gets a second chance.

        What one hostile file corrupted in memory may kill its child at the next,
        innocent one; alone in a fresh process the innocent one passes.
        """
        exit_code = child.end()
        if not child.tasks:
            self._failed_starts += 1
            if self._failed_starts > len(self._children):
                raise InternalError(
                    f"Proving processes end before they start ({exit_code})."
                )
            return
        task = child.tasks.popleft()
        self._again.extend(child.tasks)
        if task[0] not in self._tried and task[0] != self._at_last:
            self._tried.add(task[0])
            self._again.append(task)
            return
        yield from self._blame(task, explain_death(exit_code))


def _receive(connection: Connection) -> tuple[list[tuple[Any, ...]], bool]:
    """What a child has answered by now, within bounds, and whether it is gone."""
    answers: list[tuple[Any, ...]] = []
    try:
        while len(answers) < _MOST_AT_HAND and connection.poll():
            answers.append(connection.recv())
    except (EOFError, ConnectionResetError):
        return answers, True
    return answers, False


def _serve(connection: Connection, work: Work) -> None:
    """Answers tasks until the parent is gone: the whole life of a child."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for ours in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT):
        signal.signal(ours, signal.SIG_IGN)  # they are meant for the ingest itself
    module = importlib.import_module(work.module)
    module.prepare()
    _limit_memory(work.memory_bytes)
    call = getattr(module, work.function)
    connection.send(("ready",))
    while True:
        try:
            tasks = connection.recv()
        except EOFError:
            return
        for arguments in tasks:
            connection.send(do_task(call, arguments))


def _limit_memory(memory_bytes: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
