"""A wire between two network interfaces, which can be made slow, uneven and lossy.

Both ends are interfaces of the kernel (TAP); a thread carries the frames from one to
the other. So the kernel need not know how to slow anything down (`tc netem` is left out
of many), and what is lost is lost below TCP, which has to send it again.
"""

import contextlib
import fcntl
import heapq
import itertools
import os
import random
import select
import struct
import threading
import time

DEVICE = "/dev/net/tun"
TUNSETIFF = 0x400454CA
IFF_TAP = 0x0002
IFF_NO_PI = 0x1000
LONGEST_FRAME_BYTES = 2048
IDLE_SECONDS = 0.2


class Wire:
    """Carries frames between two new interfaces until it is closed; then they are gone.

    Args:
        ends: The names of the interfaces.
    """

    def __init__(self, *ends):
        self._files = [open_interface(name) for name in ends]
        self._other = dict(zip(self._files, reversed(self._files), strict=True))
        self._delay_seconds = self._jitter_seconds = self._loss = 0.0
        self.carried = self.lost = 0
        self._under_way = []  # a heap of (when due, turn, where to, frame)
        self._last_due = dict.fromkeys(self._files, 0.0)
        self._turns = itertools.count()
        self._closed = False
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def slow_down(self, *, delay_seconds, jitter_seconds, loss):
        """Makes each frame late, and loses some.

        Args:
            delay_seconds: For which each is under way, in each direction.
            jitter_seconds: Up to which it takes longer, by chance.
            loss: Share of the frames that never arrive.
        """
        self._delay_seconds, self._jitter_seconds = delay_seconds, jitter_seconds
        self._loss = loss

    def close(self):
        """Takes the wire away, and its ends with it."""
        self._closed = True
        self._thread.join()
        files, self._files = self._files, []
        for file in files:
            os.close(file)

    def _carry(self):
        while not self._closed:
            ready, _, _ = select.select(self._files, [], [], self._seconds_to_wait())
            for file in ready:
                self._take(file)
            self._deliver()

    def _seconds_to_wait(self):
        if not self._under_way:
            return IDLE_SECONDS
        return min(IDLE_SECONDS, max(0.0, self._under_way[0][0] - time.monotonic()))

    def _take(self, file):
        try:
            frame = os.read(file, LONGEST_FRAME_BYTES)
        except BlockingIOError:
            return
        except OSError:  # the interface has gone with its namespace
            self._closed = True
            return
        if random.random() < self._loss:
            self.lost += 1
            return
        lasts = self._delay_seconds + self._jitter_seconds * random.random()
        to = self._other[file]
        # No frame overtakes another: a slow line is a queue.
        due = self._last_due[to] = max(self._last_due[to], time.monotonic() + lasts)
        heapq.heappush(self._under_way, (due, next(self._turns), to, frame))

    def _deliver(self):
        while self._under_way and self._under_way[0][0] <= time.monotonic():
            _, _, to, frame = heapq.heappop(self._under_way)
            with contextlib.suppress(OSError):  # that end is down, or gone
                os.write(to, frame)
                self.carried += 1


def open_interface(name):
    """Makes an interface that lasts as long as the descriptor that is returned."""
    file = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        request = struct.pack("16sH", name.encode(), IFF_TAP | IFF_NO_PI)
        fcntl.ioctl(file, TUNSETIFF, request)
    except OSError:
        os.close(file)
        raise
    return file
