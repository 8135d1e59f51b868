"""A real worker process of the arena: `python -m tests.chaos.toys --slot cpu`.

The host's name and the engine come from the environment, since all hosts of an arena
are one machine. `toy` runs the toy trainer, `keras` the real one. Further variables
make this worker die or doubt the time; its code is the platform's own.
"""

import builtins
import itertools
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

HOST = "ARENA_HOST"
ENGINE = "ARENA_ENGINE"
# Kill this process before the n-th line of a publication, counted from 1.
DIE_AT = "ARENA_DIE_AT"
# Kill it when the files are in their lasting place and the row is not written yet.
DIE_BETWEEN = "ARENA_DIE_BETWEEN"
# Raise something, once, in the worker's own code: `MemoryError:watch`, say.
RAISE = "ARENA_RAISE"
# Seconds by which this worker's clock is wrong.
CLOCK = "ARENA_CLOCK"
# A memory control group to join.
GROUP = "ARENA_GROUP"
# What of a supervisor's code may raise: before the trainer, beside it and after it.
RAISERS = ("build_plan", "watch", "publish")
PROGRAM = "tests.chaos.toys"
# As many as there are, or some more: a line that is not reached kills nobody.
PUBLICATION_LINES = 130


def main():
    from tests.worker.workshop import TOY_COMMANDS, TOY_STANDBYS  # noqa: PLC0415
    from worker import run  # noqa: PLC0415
    from worker.programs import COMMANDS, STANDBYS  # noqa: PLC0415

    name = os.environ[HOST]
    socket.gethostname = lambda: name
    if GROUP in os.environ:
        (Path(os.environ[GROUP]) / "cgroup.procs").write_text(str(os.getpid()))
    if DIE_AT in os.environ:
        _die_at(int(os.environ[DIE_AT]))
    if DIE_BETWEEN in os.environ:
        _die_between()
    if RAISE in os.environ:
        _raise_once(*os.environ[RAISE].split(":"))
    if CLOCK in os.environ:
        _shift_clock(float(os.environ[CLOCK]))
    if os.environ[ENGINE] == "keras":
        return run.main(sys.argv[1:], COMMANDS, STANDBYS)
    return run.main(sys.argv[1:], TOY_COMMANDS, TOY_STANDBYS)


def _die_at(last):
    from tests.worker.dying_publisher import WATCHED  # noqa: PLC0415

    lines = itertools.count(1)

    def trace(frame, event, _argument):
        if frame.f_code not in WATCHED:
            return None
        if event == "line" and next(lines) == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    threading.settrace(trace)


def _die_between():
    from worker import results  # noqa: PLC0415

    publish = results.publish

    def publish_and_die(*arguments, **more):
        publish(*arguments, **more)
        os.kill(os.getpid(), signal.SIGKILL)

    results.publish = publish_and_die


def _raise_once(error, where):
    from worker import results, supervisor, wishes  # noqa: PLC0415

    owner, name = {
        "build_plan": (supervisor, "build_plan"),
        "watch": (wishes.Wishes, "tell"),
        "publish": (results, "publish"),
    }[where]
    real = getattr(owner, name)

    def fail(*_arguments, **_more):
        setattr(owner, name, real)
        raise getattr(builtins, error)("of the worker's own")

    setattr(owner, name, fail)


def _shift_clock(seconds):
    real = time.time
    time.time = lambda: real() + seconds


if __name__ == "__main__":
    sys.exit(main())
