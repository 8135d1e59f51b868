"""Reads the lines of a label table: CSV, JSON lines or Parquet.

The columns are `filename`, `label` and maybe `split`, by these or their usual other
names; of all others only the one that names groups is kept. Tables are read piece by
piece, and Parquet in a process of its own (`worker/ingest/parquet_rows.py`).
"""

import codecs
import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from shared.errors import UserError
from worker.ingest.found import clean_label
from worker.ingest.name_encoding import detect_encoding
from worker.ingest.split import SPLIT_ALIASES

JSON_SUFFIXES = (".jsonl", ".ndjson")
PARQUET_SUFFIXES = (".parquet",)
TABLE_SUFFIXES = (".csv", ".tsv", *JSON_SUFFIXES, *PARQUET_SUFFIXES)
FILE, LABEL, SPLIT, GROUP = "file", "label", "split", "group"
KNOWN = {
    FILE: {"filename", "file_name", "file", "image", "image_path", "path", "filepath"},
    LABEL: {"label", "class", "class_name", "category", "target"},
    SPLIT: {"split", "subset", "set", "partition"},
}
# Of the file too, where no other column is.
_ADDRESS = {"url", "image_url", "uri"}
# What a cell may have; the CSV reader's own bound.
MAX_CELL_CHARACTERS = 131_072
_PIECE_BYTES = 1 << 20
_SAMPLE_BYTES = 4 << 20
_MAX_LINE_CHARACTERS = 1 << 20
_KEPT_FAULTS = 10_000


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One line of a label table.

    Args:
        line: Its number in the file, from 1; of Parquet the row's.
        filename: Path or address of a picture.
        label: Its class; empty where the cell is.
        split: None where the cell is empty.
        group: What the column of groups holds; None where it is empty.
    """

    line: int
    filename: str
    label: str
    split: str | None
    group: str | None = None


@dataclass(slots=True)
class LabelTable:
    """A parsed label table and the user's name for it.

    Args:
        name: As the user calls it.
        rows: Its lines.
        columns: What its columns are called.
        faults: Lines that could not be read at all, and why.
    """

    name: str
    rows: list[LabelRow]
    columns: list[str] = field(default_factory=list)
    faults: list[tuple[int, str]] = field(default_factory=list)


class RowMaker:
    """Makes rows of cells; every label and split is kept in memory once.

    Args:
        default_split: Of rows that name none.
        folder: Where the files lie on the server; taken off whole paths.
    """

    def __init__(self, default_split: str | None, folder: str | None) -> None:
        self._default_split = default_split
        self._folder = f"{folder}/" if folder else ""
        self._labels: dict[str, str] = {}
        self._words: dict[str, str] = {}

    def make(self, line: int, cells: Sequence[str]) -> LabelRow:
        """Makes the row of the cells file, label, split and group."""
        filename, label, split, group = (cell.strip() for cell in cells)
        known = self._labels.get(label)
        if known is None:
            known = self._labels[label] = clean_label(label)
        return LabelRow(
            line=line,
            filename=filename.removeprefix(self._folder),
            label=known,
            split=self._keep(split) or self._default_split,
            group=self._keep(group) or None,
        )

    def _keep(self, word: str) -> str:
        return self._words.setdefault(word, word)


def default_split(name: str) -> str | None:
    """Returns the split of a table that is called after one: `train.csv`."""
    return SPLIT_ALIASES.get(PurePosixPath(name).stem.lower())


def choose_columns(
    columns: Sequence[str], group_column: str | None
) -> dict[str, int | None] | None:
    """Finds the columns that matter.

    Args:
        columns: What all are called.
        group_column: The one that names what one split must hold together, if any.

    Returns:
        The places of `file`, `label`, `split` and `group`; None when there is no
        column of files or none of labels.
    """
    names = [name.strip().lower() for name in columns]
    found: dict[str, int | None] = {
        part: next((at for at, name in enumerate(names) if name in known), None)
        for part, known in KNOWN.items()
    }
    if found[FILE] is None:
        found[FILE] = next((at for at, n in enumerate(names) if n in _ADDRESS), None)
    group = (group_column or "").strip().lower()
    found[GROUP] = names.index(group) if group and group in names else None
    return None if found[FILE] is None or found[LABEL] is None else found


def show_cell(value: Any) -> str | None:
    """Writes a value of JSON or Parquet as a cell; None when it can be none."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # a column of whole numbers in which some are missing
    if isinstance(value, int | float):
        return str(value)
    return None


def read_csv(
    stream: BinaryIO, name: str, maker: RowMaker, group_column: str | None
) -> LabelTable:
    """Reads a CSV: comma, semicolon or tab, in any common encoding.

    Raises:
        UserError: When the first line does not name the columns, or it is no text.
    """
    lines = _open_text(stream, newline="")
    first = lines.readline(_MAX_LINE_CHARACTERS)
    delimiter = max(",;\t", key=first.count)
    columns = next(csv.reader([first], delimiter=delimiter), [])
    places = choose_columns(columns, group_column)
    if places is None:
        raise UserError(
            f"“{name}”: the first line must name the columns filename and label "
            f"(and split, if you like). Received: {first.strip()[:80]!r}."
        )
    try:
        rows = list(_csv_rows(csv.reader(lines, delimiter=delimiter), places, maker))
    except csv.Error as error:
        raise UserError(f"“{name}” cannot be read as a table: {error}.") from error
    return LabelTable(name, rows, [column.strip() for column in columns])


def _csv_rows(
    reader: Any, places: dict[str, int | None], maker: RowMaker
) -> Iterator[LabelRow]:
    order = [places[part] for part in (FILE, LABEL, SPLIT, GROUP)]
    for cells in reader:
        if any(entry.strip() for entry in cells):
            chosen = [
                cells[at] if at is not None and at < len(cells) else "" for at in order
            ]
            yield maker.make(reader.line_num + 1, chosen)


def read_json_lines(
    stream: BinaryIO, name: str, maker: RowMaker, group_column: str | None
) -> LabelTable:
    """Reads JSON lines: one object a line, whose keys are the columns.

    Raises:
        UserError: When the first object does not name a file and a label.
    """
    table = LabelTable(name, [])
    keys: list[str | None] = []
    for number, line in enumerate(_long_lines(_open_text(stream)), start=1):
        if not line.strip():
            continue
        entry, fault = _parse_object(line)
        if not keys:
            table.columns = list(entry)
            places = choose_columns(table.columns, group_column)
            keys = _choose_keys(places, table.columns, name, line, fault)
        cells = [show_cell(entry.get(key)) if key else "" for key in keys]
        fault = fault or _cells_fault(keys, cells)
        if fault is None:
            table.rows.append(maker.make(number, [cell or "" for cell in cells]))
        elif len(table.faults) < _KEPT_FAULTS:
            table.faults.append((number, fault))
    if not keys:
        raise UserError(f"“{name}” is empty: there is no line with a label in it.")
    return table


def _choose_keys(
    places: dict[str, int | None] | None,
    columns: list[str],
    name: str,
    line: str,
    fault: str | None,
) -> list[str | None]:
    if places is None:
        raise UserError(
            f"“{name}”: each line must be a JSON object with the keys filename and "
            f"label (and split, if you like). {fault or 'They are missing.'} "
            f"Received: {line.strip()[:80]!r}."
        )
    return [
        None if at is None else columns[at]
        for at in (places[part] for part in (FILE, LABEL, SPLIT, GROUP))
    ]


def _parse_object(line: str) -> tuple[dict[str, Any], str | None]:
    if len(line) >= _MAX_LINE_CHARACTERS:
        most = _MAX_LINE_CHARACTERS
        return {}, f"The line is longer than {most:,} characters."
    try:
        entry = json.loads(line)
    except RecursionError:
        return {}, "The line nests lists or objects too deeply."
    except ValueError as error:
        words = getattr(error, "msg", "a number has too many digits")
        return {}, f"The line is no JSON ({words})."
    return (entry, None) if isinstance(entry, dict) else ({}, "It is no JSON object.")


def _cells_fault(keys: Sequence[str | None], cells: Sequence[str | None]) -> str | None:
    for key, cell in zip(keys, cells, strict=True):
        if cell is None:
            return f"“{key}” holds a list or an object in place of a text."
        if len(cell) > MAX_CELL_CHARACTERS:
            return f"“{key}” has more than {MAX_CELL_CHARACTERS:,} characters."
    return None


def _long_lines(lines: io.TextIOBase) -> Iterator[str]:
    """The lines of a text, the end of one that is far too long left out."""
    while line := lines.readline(_MAX_LINE_CHARACTERS):
        rest = line
        while rest and not rest.endswith("\n"):
            rest = lines.readline(_MAX_LINE_CHARACTERS)
        yield line


def _open_text(stream: BinaryIO, newline: str | None = None) -> io.TextIOWrapper:
    encoding = _find_encoding(stream)
    stream.seek(0)
    return io.TextIOWrapper(
        stream, encoding=encoding, errors="replace", newline=newline
    )


def _find_encoding(stream: BinaryIO) -> str:
    """Names the encoding of a text of any size; memory stays flat."""
    head = stream.read(2)
    if head in {b"\xff\xfe", b"\xfe\xff"}:
        return "utf-16"
    stream.seek(0)
    decoder = codecs.getincrementaldecoder("utf-8")()
    before = b""
    for piece in iter(lambda: stream.read(_PIECE_BYTES), b""):
        try:
            decoder.decode(piece)
        except UnicodeDecodeError:
            # What is around the first letter that is no UTF-8 tells what it is.
            rest = stream.read(_SAMPLE_BYTES)
            return detect_encoding(_whole_lines(before + piece + rest))
        before = piece
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return detect_encoding(_whole_lines(before))
    return "utf-8-sig"


def _whole_lines(sample: bytes) -> bytes:
    """A sample without its broken ends: half a letter would mislead."""
    if len(sample) <= _PIECE_BYTES:
        return sample
    return sample[sample.find(b"\n") + 1 : sample.rfind(b"\n") + 1] or sample
