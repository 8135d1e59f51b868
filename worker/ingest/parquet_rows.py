"""Reads a strange Parquet file: `python -m worker.ingest.parquet_rows JOB.json`.

A process of its own, with bounded memory and time: the reader is native code and meets
a stranger's file here. It writes JSON lines to standard output: first the names of all
columns, then for each batch of rows the four lists of their files, labels, splits and
groups. What is wrong with the file is said in the last line, as `{"fault": "..."}`; too
many rows as `{"rows": count}`.
"""

import contextlib
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from shared.errors import UserError
from worker.ingest.label_columns import GROUP, ORDER, choose_columns
from worker.ingest.label_rows import (
    MAX_CELL_CHARACTERS,
    LabelTable,
    RowMaker,
    show_cell,
    show_guess,
)

_ROOT = Path(__file__).resolve().parent.parent.parent
_END_WITH_PARENT = "worker.ingest.end_with_parent"
# Arrow's own allocator reserves a gigabyte at once, which the bound would refuse.
_FRUGAL = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}
_SECONDS = 600
_MEMORY_BYTES = 1 << 30  # beyond what the process has at its start
_MAX_GROUP_BYTES = 512 << 20
_BATCH_ROWS = 8_192


def read_parquet(
    path: Path, name: str, maker: RowMaker, group_column: str | None
) -> LabelTable:
    """Reads a label table of Parquet, row group by row group.

    Args:
        path: The file.
        name: The user's name for it.
        maker: Makes the rows.
        group_column: The column that names groups, if any.

    Raises:
        UserError: When it cannot be read, or has no columns of files and labels.
        TooManyRowsError: When it has too many rows.
    """
    with tempfile.TemporaryFile() as lines:
        fault = _run(path, group_column, maker.budget.left, lines)
        lines.seek(0)
        table = LabelTable(name, [])
        for number, line in enumerate(lines):
            entry = json.loads(line) if line.endswith(b"\n") else {}
            if isinstance(entry, dict):
                maker.budget.count(name, entry.get("rows", 0))
                fault = entry.get("fault") or fault
            elif number == 0:
                table.columns = entry
            else:
                first = len(table.rows) + 1
                rows = enumerate(zip(*entry, strict=True), first)
                table.rows += [maker.make(at, cells) for at, cells in rows]
    if fault is not None:
        raise UserError(f"“{name}” cannot be read as a label table: {fault}")
    return table


def _run(
    path: Path, group_column: str | None, most_rows: int, lines: BinaryIO
) -> str | None:
    """Runs the process; returns why it failed without a word, if it did."""
    command = [sys.executable, "-m", __name__]
    job = {
        "path": str(path.absolute()),
        "group_column": group_column,
        "most_rows": most_rows,
    }
    try:
        done = subprocess.run(
            [*command, json.dumps(job)], stdout=lines, stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, timeout=_SECONDS, check=False, cwd=_ROOT,
            env={**os.environ, **_FRUGAL},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"reading it takes more than {_SECONDS // 60} minutes."
    if done.returncode == 0:
        return None
    if done.returncode == -signal.SIGKILL:
        return "reading it takes more memory than there is."
    return "its reader broke down: the file is damaged."


def main(arguments: list[str]) -> int:
    """Writes the rows of one file to standard output."""
    importlib.import_module(_END_WITH_PARENT)
    job = json.loads(arguments[0])
    try:
        for entry in _read(Path(job["path"]), job["group_column"], job["most_rows"]):
            sys.stdout.write(json.dumps(entry) + "\n")
    except UserError as error:
        sys.stdout.write(json.dumps({"fault": str(error)}) + "\n")
    except MemoryError:
        sys.stdout.write(json.dumps({"fault": _too_much()}) + "\n")
    sys.stdout.flush()
    return 0


def _too_much() -> str:
    return f"reading it takes more than {_MEMORY_BYTES >> 30} GiB of memory."


def _read(path: Path, group_column: str | None, most_rows: int) -> Iterator[Any]:
    import pyarrow as pa  # noqa: PLC0415 - only in this process
    import pyarrow.parquet as pq  # noqa: PLC0415

    _limit_memory()
    with _translated(pa):
        file = pq.ParquetFile(path, memory_map=False)
        names = list(map(str, file.schema_arrow.names))
        yield names
        chosen = _choose(file, names, group_column, pa)
        if file.metadata.num_rows > most_rows:
            yield {"rows": file.metadata.num_rows}
            return
        *known, group = [None if at is None else names[at] for at in chosen]
        show_group = _cell if group_column else _guess
        for batch in file.iter_batches(
            batch_size=_BATCH_ROWS,
            columns=[names[at] for at in chosen if at is not None],
            use_threads=False,
        ):
            yield [
                *(_cells(batch, name, _cell) for name in known),
                _cells(batch, group, show_group),
            ]


def _choose(
    file: Any, names: list[str], group_column: str | None, pa: Any
) -> list[int | None]:
    """Returns the places of file, label, split and group; None for what is not read."""
    places = choose_columns(names, group_column)
    if places is None:
        raise UserError(
            "it must have the columns filename and label (and split, if you like). It "
            f"has {', '.join(names[:20])[:200] or 'none'}."
        )
    try:
        _check_columns(file, names, places, pa)
    except UserError:
        # A column that was only guessed must not cost what can be read without it.
        if group_column or places[GROUP] is None:
            raise
        places[GROUP] = None
        _check_columns(file, names, places, pa)
    return [places[part] for part in ORDER]


def _check_columns(
    file: Any, names: list[str], places: dict[str, int | None], pa: Any
) -> None:
    """Raises `UserError` unless these columns hold text, and can be held in memory."""
    chosen = [at for part in ORDER if (at := places[part]) is not None]
    for at in chosen:
        _check_type(file.schema_arrow.field(at), pa)
    _check_groups(file, [names[at] for at in chosen])


def _cells(batch: Any, name: str | None, show: Callable[[Any, str], str]) -> list[str]:
    """One column of a batch as cells of a table."""
    if name is None:
        return [""] * batch.num_rows
    return [show(value, name) for value in batch[name].to_pylist()]


def _cell(value: Any, name: str) -> str:
    cell = show_cell(value)
    if cell is None or len(cell) > MAX_CELL_CHARACTERS:
        raise UserError(
            f"a cell of its column “{name}” has more than {MAX_CELL_CHARACTERS:,} "
            "characters."
        )
    return cell


def _guess(value: Any, _name: str) -> str:
    return show_guess(value)


def _check_type(column: Any, pa: Any) -> None:
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    good = (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_null(kind)
    )
    if not good:
        raise UserError(
            f"its column “{column.name}” holds {str(kind)[:60]}, not text. Write names "
            "of files, labels and splits as strings."
        )


def _check_groups(file: Any, names: list[str]) -> None:
    """Refuses a row group that is too large to be held, before it is read."""
    metadata = file.metadata
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        size = sum(
            group.column(at).total_uncompressed_size
            for at in range(group.num_columns)
            if group.column(at).path_in_schema in names
        )
        if size > _MAX_GROUP_BYTES:
            raise UserError(
                f"its row group {number + 1} has {size >> 20:,} MiB in the columns of "
                f"files and labels; at most {_MAX_GROUP_BYTES >> 20} MiB are read at "
                "once. Write it with smaller row groups."
            )


@contextlib.contextmanager
def _translated(pa: Any) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowMemoryError, MemoryError) as error:
        raise UserError(_too_much()) from error
    except RecursionError as error:
        raise UserError("its columns are nested too deeply.") from error
    except (pa.ArrowException, OSError, ValueError) as error:
        words = " ".join(str(error).split())[:200].rstrip(".")
        raise UserError(f"it is damaged, or no Parquet ({words}).") from error


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split(maxsplit=1)[0])
    limit = pages * resource.getpagesize() + _MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
