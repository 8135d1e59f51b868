"""The SHA-256 of whole uploads, computed while their pieces pass through.

A digest that has begun lies in the memory of one process only: hashlib's state cannot
be stored. Where pieces went through another process, or this one was started again, the
missing part is read from the disk at the end, for a limited time a request.
"""

import hashlib
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

READ_BYTES = 1 << 20
KEPT = 256  # uploads whose digests one process keeps going


@dataclass
class _State:
    offset: int = 0
    digest: Any = field(default_factory=hashlib.sha256)


class RunningDigests:
    """The digests that this process has begun."""

    def __init__(self) -> None:
        self._states: OrderedDict[str, _State] = OrderedDict()
        self._lock = threading.Lock()

    def feed(self, upload_id: str, offset: int, piece: bytes) -> None:
        """Takes what was appended at `offset`; only one feeds an upload at a time."""
        state = self._take(upload_id) or _State()
        if state.offset == offset:
            state.digest.update(piece)
            state.offset += len(piece)
        if state.offset:
            self._put(upload_id, state)

    def finish(self, upload_id: str, path: Path, *, seconds: float) -> str | None:
        """Returns the SHA-256 of the whole file, reading on where the digest ends.

        Args:
            upload_id: Whose it is.
            path: All its bytes.
            seconds: How long to read at most.

        Returns:
            None when the time ran out; the next call goes on.
        """
        state = self._take(upload_id) or _State()
        deadline = time.monotonic() + seconds
        with path.open("rb") as file:
            file.seek(state.offset)
            while piece := file.read(READ_BYTES):
                state.digest.update(piece)
                state.offset += len(piece)
                if time.monotonic() > deadline:
                    break
            else:
                return state.digest.hexdigest()
        self._put(upload_id, state)
        return None

    def forget(self, upload_id: str) -> None:
        """Drops the digest of an upload that is gone."""
        self._take(upload_id)

    def _take(self, upload_id: str) -> _State | None:
        with self._lock:
            return self._states.pop(upload_id, None)

    def _put(self, upload_id: str, state: _State) -> None:
        with self._lock:
            self._states[upload_id] = state
            while len(self._states) > KEPT:
                self._states.popitem(last=False)


running = RunningDigests()
