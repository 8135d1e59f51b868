"""What tests of real processes share: waiting, looking, ending."""

import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]


def is_running(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(condition, timeout=10.0, what="the condition"):
    deadline = time.monotonic() + timeout
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"waited {timeout} s in vain for {what}"
        time.sleep(0.02)
    return answer


def seconds_until_gone(pid, timeout=10.0):
    start = time.monotonic()
    wait_until(lambda: not is_running(pid), timeout)
    return time.monotonic() - start
