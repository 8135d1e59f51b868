"""Sees to it that a child process never outlives the worker that answers for it.

`python -m worker.guardian --control-fd N --status-fd M --lease-seconds X
--grace-seconds G -- COMMAND...` starts COMMAND in a process group of its own and stays
alive, single-threaded and standard library only, for as long as COMMAND runs.

The supervisor speaks to it in lines on the control pipe:

    L<seconds>  the worker lives: the deadline is that far ahead again
    S           stop: SIGTERM, then SIGKILL after the grace period
    F           finish now: SIGUSR2, evaluate and export the best so far
    D           dump all stacks to standard error: SIGUSR1
    J           a job begins: what was killed for memory before is not its own

How a child ends, whatever dies first:

1. The worker is killed: the control pipe closes, which means the same as `S`.
2. The worker or the whole machine is frozen: no `L` comes, the deadline passes (on
   CLOCK_BOOTTIME, which also counts the time a machine was suspended), same as `S`.
3. The guardian is killed: the kernel kills the child (PR_SET_PDEATHSIG). That request
   is tied to the parent *thread*, hence one thread here.
4. The child ends and leaves processes behind: they were handed to us
   (PR_SET_CHILD_SUBREAPER) and are killed before we leave.

Signals pass through exec as "ignored" or "default". Ours are handlers, which exec
resets to the default, except the two user signals: ignored, since they would kill a
child that has not got round to handling them.
"""

import argparse
import ctypes
import json
import os
import select
import signal
import sys
import time
from pathlib import Path

from worker.machine_memory import count_memory_kills

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
OUT_OF_MEMORY_SCORE = "500"  # the kernel picks the trainer, never the worker
LONGEST_CONTROL_LINE = 64
_libc = ctypes.CDLL(None, use_errno=True)


def main(arguments: list[str]) -> int:
    """Guards one command to its end and reports on the status pipe how it ended."""
    options = _parse(arguments)
    os.set_inheritable(options.control_fd, False)
    os.set_inheritable(options.status_fd, False)
    os.set_blocking(options.control_fd, False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, _ignore)
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    kills_before = count_memory_kills()
    child = _start(options.command)
    guard = Guard(
        child, options.lease_seconds, options.grace_seconds, memory_kills=kills_before
    )
    status = guard.watch(options.control_fd)
    _clear_descendants()
    report = describe(status, out_of_memory=guard.saw_memory_kill)
    try:
        os.write(options.status_fd, json.dumps(report).encode() + b"\n")
    except BrokenPipeError:  # the worker is gone: nobody is left to tell
        return 1
    return 0


class Guard:
    """The deadline of one child and what to do when it passes.

    Args:
        child: Process id.
        lease_seconds: Time until the first deadline.
        grace_seconds: Time between SIGTERM and SIGKILL.
        memory_kills: Of the kernel in our group, before the child began.
    """

    def __init__(
        self,
        child: int,
        lease_seconds: float,
        grace_seconds: float,
        *,
        memory_kills: int,
    ) -> None:
        self.child = child
        self.grace_seconds = grace_seconds
        self.deadline = _boot_time() + lease_seconds
        self.stopping = False
        self.unread = b""
        self._memory_kills = memory_kills

    @property
    def saw_memory_kill(self) -> bool:
        """Whether the kernel has killed for memory in our group since the job began."""
        return count_memory_kills() > self._memory_kills

    def watch(self, control_fd: int) -> int:
        """Returns the child's wait status once it has ended."""
        wake_fd = _wake_on_child()
        watched = [control_fd, wake_fd]
        while (status := _reap(self.child)) is None:
            left = max(0.0, self.deadline - _boot_time())
            ready, _, _ = select.select(watched, [], [], min(left, 1.0))
            if wake_fd in ready:
                os.read(wake_fd, 4096)
            if control_fd in ready and not self._obey(control_fd):
                watched.remove(control_fd)
            if _boot_time() >= self.deadline:
                self._pass_deadline()
        return status

    def _obey(self, control_fd: int) -> bool:
        """Carries out what was said; False once the supervisor is gone."""
        try:
            said = os.read(control_fd, 4096)
        except BlockingIOError:
            return True
        if not said:
            self._stop()
            return False
        *lines, self.unread = (self.unread + said).split(b"\n")
        self.unread = self.unread[-LONGEST_CONTROL_LINE:]
        for line in lines:
            self._obey_line(line.decode(errors="replace").strip())
        return True

    def _obey_line(self, line: str) -> None:
        if line == "S":
            self._stop()
        elif line == "F":
            _signal(self.child, signal.SIGUSR2)
        elif line == "D":
            _signal(self.child, signal.SIGUSR1)
        elif line == "J":
            self._memory_kills = count_memory_kills()
        elif line.startswith("L") and not self.stopping:
            try:
                self.deadline = _boot_time() + float(line[1:])
            except ValueError:
                sys.stderr.write(f"guardian: not a number of seconds: {line!r}\n")

    def _stop(self) -> None:
        if self.stopping:
            return
        self.stopping = True
        self.deadline = _boot_time() + self.grace_seconds
        _signal(self.child, signal.SIGTERM)
        _signal(self.child, signal.SIGCONT)  # a frozen child gets its chance too

    def _pass_deadline(self) -> None:
        if not self.stopping:
            self._stop()
            return
        _kill_descendants()
        self.deadline += 1.0  # a process in the kernel's hands dies when it may


def describe(status: int, *, out_of_memory: bool) -> dict[str, object]:
    """Builds the report for the supervisor from a wait status.

    Args:
        status: As `os.waitpid` returns it.
        out_of_memory: Whether the kernel killed for memory in our group meanwhile.

    Returns:
        `exit_code` or `signal` (the other is null), and `oom`.
    """
    killed_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    return {
        "exit_code": None if killed_by else os.WEXITSTATUS(status),
        "signal": killed_by,
        "oom": out_of_memory and killed_by == signal.SIGKILL,
    }


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="worker.guardian")
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--status-fd", type=int, required=True)
    parser.add_argument("--lease-seconds", type=float, required=True)
    parser.add_argument("--grace-seconds", type=float, required=True)
    parser.add_argument("command", nargs="+")
    return parser.parse_args(arguments)


def _start(command: list[str]) -> int:
    guardian = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        os.setpgid(0, 0)
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != guardian:  # it died before the request was in place
            os._exit(1)
        _offer_to_memory_killer()
        os.execvp(command[0], command)  # noqa: S606 - no shell is what we want
    except OSError as error:
        os.write(2, f"guardian: cannot start {command[0]}: {error}\n".encode())
    os._exit(127)


def _offer_to_memory_killer() -> None:
    try:
        Path("/proc/self/oom_score_adj").write_text(OUT_OF_MEMORY_SCORE)
    except OSError:
        return


def _wake_on_child() -> int:
    """Makes the end of any child readable on the returned descriptor."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, _ignore)
    return reader


def _reap(child: int) -> int | None:
    """Collects everything that ended; returns the child's status if it was among it."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == child:
            found = status


def _clear_descendants() -> None:
    """Kills the whole tree below us, again and again until nothing is left."""
    while _kill_descendants():
        _reap(0)
        time.sleep(0.01)


def _kill_descendants() -> bool:
    """Whether there was anything below us to kill."""
    pids = _descendants()
    for pid in pids:
        _signal(pid, signal.SIGKILL)
    return bool(pids)


def _descendants() -> list[int]:
    """Lists every living process below us, children before grandchildren."""
    below: list[int] = [os.getpid()]
    parents = _parents()
    for pid in below:
        below += [child for child, parent in parents.items() if parent == pid]
    return below[1:]


def _parents() -> dict[int, int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            # The second field is the program's name in brackets: it may hold
            # blanks and brackets itself, so the rest is what follows the last one.
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
        except (OSError, ValueError):
            continue
        if state not in "ZX":
            parents[int(entry.name)] = int(parent)
    return parents


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _boot_time() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _ignore(_number: int, _frame: object) -> None:
    """A handler, not SIG_IGN: exec resets handlers, and the child gets its default."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
