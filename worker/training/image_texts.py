"""The words that belong to images: paths, names, hashes, kept on disk.

As Python strings they take some 700 bytes an image, 700 MB for a million; here they
take none. They are read when a pack is built and when predictions are written, a block
at a time, from an Arrow file without a name that vanishes with the process.
"""

import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa

SCHEMA = pa.schema(
    [("path", pa.string()), ("name", pa.string()), ("sha256", pa.string())]
)
# Rows that are read at once: some 200 kB.
BLOCK_ROWS = 1024


class ImageTexts:
    """Paths, names and hashes of a dataset's images, by row.

    Args:
        blocks: The texts in order, in blocks of `BLOCK_ROWS`; the last may be shorter.
        scratch: Folder on a disk. Defaults to the system's temporary folder.

    Raises:
        OSError: The disk is full.
    """

    def __init__(self, blocks: Iterable[pa.RecordBatch], scratch: Path | None) -> None:
        if scratch is not None:
            scratch.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - lives as long
        self._lock = threading.Lock()
        self._sink = pa.PythonFile(self._file, "w")
        with pa.ipc.new_file(self._sink, SCHEMA) as writer:
            for block in blocks:
                writer.write_batch(block)
        self._file.flush()
        self._source = pa.PythonFile(self._file, "r")
        self._reader = pa.ipc.open_file(self._source)

    def take(self, rows: np.ndarray) -> pa.Table:
        """Returns the texts of `rows` with the columns of `SCHEMA`, in that order.

        Shapes:
            rows: (n,) integers.
        """
        rows = np.asarray(rows, np.int64)
        order = np.argsort(rows, kind="stable")
        blocks, places = np.divmod(rows[order], BLOCK_ROWS)
        taken = [
            self._read_block(int(block)).take(pa.array(places[blocks == block]))
            for block in np.unique(blocks)
        ]
        table = pa.Table.from_batches(taken, SCHEMA)
        return table.take(pa.array(np.argsort(order, kind="stable")))

    def _read_block(self, block: int) -> pa.RecordBatch:
        with self._lock:  # one file, one position
            return self._reader.get_batch(block)
