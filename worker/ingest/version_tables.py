"""The tables of a dataset version: what every picture is, written and read.

- `manifest.parquet`: the pictures in use, in the order of their hashes.
- `quarantine.parquet`: those that belong to no split, and why. The same columns, the
  split being where a picture was, and all labels that it was given.
- `contents.parquet`: what later versions need to know of both and training does not.
- `diff.parquet`: all that changed against the version that this one was made from.

Rows go out and come in some thousand at a time, so memory does not grow with them.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

REPORT = "report.json"
MANIFEST_TABLE = "manifest.parquet"
QUARANTINE_TABLE = "quarantine.parquet"
CONTENTS_TABLE = "contents.parquet"
DIFF_TABLE = "diff.parquet"
_ROWS_AT_ONCE = 2_000
_COLUMNS = [
    ("path", pa.string()),
    ("original", pa.string()),
    ("source_name", pa.string()),
    ("label", pa.string()),
    ("split", pa.string()),
    ("sha256", pa.string()),
    ("width_px", pa.int32()),
    ("height_px", pa.int32()),
    ("group", pa.string()),
]
SCHEMAS = {
    MANIFEST_TABLE: pa.schema(_COLUMNS),
    QUARANTINE_TABLE: pa.schema(
        [*_COLUMNS, ("reason", pa.string()), ("labels", pa.list_(pa.string()))]
    ),
    CONTENTS_TABLE: pa.schema(
        [
            ("sha256", pa.string()),
            ("content", pa.string()),  # hash of the pixels; null where unknown
            ("picture_hash", pa.uint64()),  # null where nobody needed it
            ("size_bytes", pa.int64()),  # of the original
            ("given_group", pa.string()),  # by the label table; null for none
        ]
    ),
    DIFF_TABLE: pa.schema(
        [
            ("kind", pa.string()),
            ("sha256", pa.string()),
            ("name", pa.string()),
            ("label", pa.string()),  # null where `from` and `to` are labels
            ("split", pa.string()),  # null where `from` and `to` are given
            ("from", pa.string()),  # the label or split that it had
            ("to", pa.string()),
        ]
    ),
}


def write_table(folder: Path, name: str, rows: Iterable[dict[str, Any]]) -> None:
    """Writes one of the tables of `SCHEMAS`; the file is there without rows, too."""
    schema = SCHEMAS[name]
    with pq.ParquetWriter(folder / name, schema) as writer:
        block: list[dict[str, Any]] = []
        for row in rows:
            block.append(row)
            if len(block) == _ROWS_AT_ONCE:
                writer.write_table(pa.Table.from_pylist(block, schema))
                block.clear()
        writer.write_table(pa.Table.from_pylist(block, schema))


def read_table(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    """Yields the rows of a table; none where an older version lacks it.

    Columns that an older version lacks are None.
    """
    path = folder / name
    if not path.is_file():
        return
    wanted = SCHEMAS[name].names
    with pq.ParquetFile(path, pre_buffer=False) as table:
        there = [column for column in wanted if column in table.schema_arrow.names]
        absent = dict.fromkeys(set(wanted) - set(there))
        for batch in table.iter_batches(_ROWS_AT_ONCE, columns=there):
            for row in batch.to_pylist():
                yield row | absent
