"""Folders in memory, for what a test writes often and nobody reads again.

A database waits for the disk at each commit, and a busy machine's disk is slow: copying
one for a test takes some 30 ms in memory and, beside other work, half a second on disk.
"""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import psutil

MEMORY = Path("/dev/shm")
ENOUGH_BYTES = 2 * 2**30


def make_memory_folder(kind):
    """Makes an empty folder, on the disk where memory is short; the caller removes it.

    What processes left behind that were killed is removed first.
    """
    if not MEMORY.is_dir():
        return Path(tempfile.mkdtemp(prefix=f"ty-{kind}-"))
    _remove_orphans(kind)
    short = shutil.disk_usage(MEMORY).free < ENOUGH_BYTES
    prefix = f"ty-{kind}-{os.getpid()}-"
    return Path(tempfile.mkdtemp(prefix=prefix, dir=None if short else MEMORY))


def _remove_orphans(kind):
    for folder in MEMORY.glob(f"ty-{kind}-*-*"):
        owner = folder.name.split("-")[-2]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            with contextlib.suppress(OSError):
                shutil.rmtree(folder)
