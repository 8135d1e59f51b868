"""Reads a child's events from its pipe, whatever else comes down that pipe.

The other end is a process that may be torn by a signal in the middle of a line, may
print garbage, or may never end a line: none of that may hold up or harm the worker.
"""

import json
import os
from typing import Any

READ_BYTES_AT_ONCE = 1 << 20  # one turn of the supervisor's loop reads no more
LONGEST_LINE_BYTES = 1 << 20


class EventReader:
    """Cuts a non-blocking pipe into events.

    Args:
        descriptor: Reading end of the pipe; set to non-blocking, owned by the caller.
    """

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self.descriptor = descriptor
        self.dropped_lines = 0
        self._unread = b""
        self._skipping = False  # inside a line that is too long to be an event

    def read_available(self) -> list[dict[str, Any]]:
        """Returns the complete events that have arrived, oldest first.

        Lines that are no JSON object with a string under `event`, and lines over
        1 MiB, are counted in `dropped_lines` and skipped.
        """
        lines = self._cut(self._read())
        found = [_parse(line) for line in lines if line.strip()]
        self.dropped_lines += found.count(None)
        return [event for event in found if event is not None]

    def _read(self) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while size < READ_BYTES_AT_ONCE:
            try:
                chunk = os.read(self.descriptor, 1 << 16)
            except BlockingIOError:
                break
            if not chunk:
                break
            chunks.append(chunk)
            size += len(chunk)
        return b"".join(chunks)

    def _cut(self, arrived: bytes) -> list[bytes]:
        *lines, self._unread = (self._unread + arrived).split(b"\n")
        if self._skipping and lines:
            lines.pop(0)
            self._skipping = False
        if self._skipping or len(self._unread) > LONGEST_LINE_BYTES:
            self.dropped_lines += not self._skipping
            self._skipping = True
            self._unread = b""
        return lines


def _parse(line: bytes) -> dict[str, Any] | None:
    if len(line) > LONGEST_LINE_BYTES:
        return None
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if isinstance(event, dict) and isinstance(event.get("event"), str):
        return event
    return None
