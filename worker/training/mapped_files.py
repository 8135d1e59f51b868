"""Keeps files that are mapped into memory from filling a process's resident memory.

Pages of a mapped file count as resident from their first use until the machine needs
them, so a run's memory would seem to grow with its dataset, and a container's limit or
an out-of-memory killer could take it at its word. The pages are the kernel's cache of
the disk: a process can let go of them at any time, and a page that is still cached
comes back in a microsecond.
"""

import mmap
from collections.abc import Iterable

import numpy as np

# Resident pages of mapped files are at most this many bytes, or a little more while
# several threads read.
MOST_RESIDENT_BYTES = 32 * 2**20
# A page fault maps its neighbours that are cached, too (Linux's fault-around).
_FAULT_BYTES = 64 * 1024


class PageBudget:
    """Lets go of the pages of mapped arrays each time a budget of reading is used up.

    Args:
        arrays: Arrays over mapped files; what is not mapped costs nothing.
    """

    def __init__(self, arrays: Iterable[np.ndarray]) -> None:
        found = (_find_map(array) for array in arrays)
        self._maps = [mapped for mapped in found if mapped is not None]
        self._read_bytes = 0

    def spend(self, pieces: int, piece_bytes: int) -> None:
        """Counts the reading of `pieces` pieces that lie apart.

        Two threads may both count and lose a sum: the budget is then overdrawn by as
        much as they read, which does no harm.
        """
        self._read_bytes += pieces * (piece_bytes + _FAULT_BYTES)
        if self._read_bytes > MOST_RESIDENT_BYTES and self._maps:
            self._read_bytes = 0
            for mapped in self._maps:
                mapped.madvise(mmap.MADV_DONTNEED)


def _find_map(array: np.ndarray) -> mmap.mmap | None:
    base = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None
