"""Work that hurts the process doing it, as a decoder does with hostile bytes."""

import errno
import os
import signal
import time
from pathlib import Path

from worker.ingest.disk import OwnDiskError
from worker.ingest.limits import MemberFaultError


def prepare():
    """Nothing slow to import here."""


def work(wish, *arguments):
    """Does what `wish` says."""
    return WISHES[wish](*arguments) if wish in WISHES else f"{wish}, done"


def tell_process(_wish):
    """Returns who does the work."""
    return os.getpid()


def die(number=signal.SIGSEGV):
    os.kill(os.getpid(), number)


def die_once(folder):
    flag = Path(folder, "died")
    if flag.exists():
        return "alive, done"
    flag.touch()
    return die()


def count_try(folder):
    """Returns how often this was tried before."""
    tries = Path(folder, "tries")
    with tries.open("a") as stream:
        stream.write("x")
    return tries.stat().st_size - 1


def hang_once(folder):
    return hang_always(folder) if count_try(folder) == 0 else "awake, done"


def hang_always(folder):
    count_try(folder)
    time.sleep(600)


def be_killed_twice(folder):
    return die(signal.SIGKILL) if count_try(folder) < 2 else "alive, done"


def loop():
    while True:
        pass


def fail(error):
    raise error


WISHES = {
    "crash": die,
    "killed": lambda: die(signal.SIGKILL),
    "killed twice": be_killed_twice,
    "hang once": hang_once,
    "hang always": hang_always,
    "exit": lambda: os._exit(3),
    "crash once": die_once,
    "hang": lambda: time.sleep(600),
    "loop": loop,
    "memory": lambda: bytearray(2**31),
    "fault": lambda: fail(MemberFaultError("damaged", "It is damaged.")),
    "decoder": lambda: fail(OSError("image file is truncated")),
    "bug": lambda: fail(ZeroDivisionError("by zero")),
    "bad sector": lambda: fail(OSError(errno.EIO, "Input/output error", "/data/x")),
    "own disk": lambda: fail(OwnDiskError(errno.EIO, "Input/output error", "/data/x")),
    "disk": lambda: fail(OSError(errno.ENOSPC, "No space left on device")),
}
