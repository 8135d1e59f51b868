"""Work that hurts the process doing it, as a decoder does with hostile bytes."""

import errno
import os
import signal
import time
from pathlib import Path

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


def loop():
    while True:
        pass


def fail(error):
    raise error


WISHES = {
    "crash": die,
    "killed": lambda: die(signal.SIGKILL),
    "exit": lambda: os._exit(3),
    "crash once": die_once,
    "hang": lambda: time.sleep(600),
    "loop": loop,
    "memory": lambda: bytearray(2**31),
    "fault": lambda: fail(MemberFaultError("damaged", "It is damaged.")),
    "decoder": lambda: fail(OSError("image file is truncated")),
    "bug": lambda: fail(ZeroDivisionError("by zero")),
    "disk": lambda: fail(OSError(errno.ENOSPC, "No space left on device")),
}
