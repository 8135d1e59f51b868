"""What tests of real processes share: waiting, looking, ending."""

import time
from pathlib import Path

import psutil

from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]


def is_running(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def seconds_until_gone(pid, timeout=10.0):
    start = time.monotonic()
    wait_until(lambda: not is_running(pid), timeout)
    return time.monotonic() - start
