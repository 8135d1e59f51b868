"""Reads the lines of a label table: CSV, JSON lines or Parquet.

The columns are `filename`, `label` and maybe `split`, by these or their usual other
names; of all others only the one that names groups is kept, by the name that was asked
for or by a usual one, such as `patient`. Tables are read piece by piece, and Parquet in
a process of its own (`worker/ingest/parquet_rows.py`).
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from shared.class_names import clean_label
from shared.errors import UserError
from shared.picture_folders import SPLIT_ALIASES
from worker.ingest.found import plain_name
from worker.ingest.label_columns import GROUP, ORDER, choose_columns, find_columns
from worker.ingest.limits import Limits
from worker.ingest.name_encoding import open_text

# What a cell may have; the CSV reader's own bound.
MAX_CELL_CHARACTERS = 131_072
_MAX_LINE_CHARACTERS = 1 << 20
_KEPT_FAULTS = 10_000
_KEPT_SHAPES = 1_000  # of JSON objects; those of one table have a few
_GROUP_AT = ORDER.index(GROUP)


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
        group_column: The one that the groups of its rows are from, if any.
        faults: Lines that could not be read at all, and why.
    """

    name: str
    rows: list[LabelRow]
    columns: list[str] = field(default_factory=list)
    group_column: str | None = None
    faults: list[tuple[int, str]] = field(default_factory=list)

    def add_fault(self, line: int, reason: str) -> None:
        """Notes a line that cannot be read, unless there are far too many already."""
        if len(self.faults) < _KEPT_FAULTS:
            self.faults.append((line, reason))


class TooManyRowsError(UserError):
    """The label tables of one dataset have more lines than are taken."""


@dataclass(slots=True)
class RowBudget:
    """How many lines all label tables of one dataset may have; a row takes memory.

    Args:
        most: As many as there may be files.
        rows: Those read so far.
    """

    most: int = field(default_factory=lambda: Limits().max_files)
    rows: int = 0

    @property
    def left(self) -> int:
        """How many more may come."""
        return self.most - self.rows

    def count(self, table: str, rows: int = 1) -> None:
        """Counts lines of `table`; raises `TooManyRowsError` when they are too many."""
        self.rows += rows
        if self.rows > self.most:
            raise TooManyRowsError(
                f"With “{table}”, the label tables have more than {self.most:,} lines, "
                "the most that this installation takes in one dataset.",
                field="labels",
            )


class RowMaker:
    """Makes rows of cells; every label and split is kept in memory once.

    Args:
        name: The user's name for the table. Rows that name no split have the one that
            it is called after: `train.csv`.
        folder: Where the files lie on the server; taken off whole paths.
        budget: Counts the rows. Defaults to one of the table's own.
    """

    def __init__(
        self, name: str, folder: str | None, budget: RowBudget | None = None
    ) -> None:
        self.budget = budget or RowBudget()
        self._name = name
        self._default_split = SPLIT_ALIASES.get(PurePosixPath(name).stem.lower())
        self._folder = f"{folder}/" if folder else ""
        self._labels: dict[str, str] = {}
        self._words: dict[str, str] = {}

    def make(self, line: int, cells: Sequence[str]) -> LabelRow:
        """Makes the row of the cells file, label, split and group.

        Raises:
            TooManyRowsError: It is one too many.
        """
        self.budget.count(self._name)
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
        known = self._words.get(word)
        if known is None:
            known = self._words[word] = plain_name(word)
        return known


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


def show_guess(value: Any) -> str:
    """Writes a value of a column that nobody asked for; empty when it can be no cell.

    What was only taken for the column of groups by its name must cost no line.
    """
    cell = show_cell(value)
    return "" if cell is None or len(cell) > MAX_CELL_CHARACTERS else cell


def read_csv(
    stream: BinaryIO, name: str, maker: RowMaker, group_column: str | None
) -> LabelTable:
    """Reads a CSV: comma, semicolon or tab, in any common encoding.

    Raises:
        UserError: When the first line does not name the columns, or it is no text.
    """
    lines = open_text(stream, newline="")
    first = lines.readline(_MAX_LINE_CHARACTERS)
    delimiter = max(",;\t", key=first.count)
    columns = _split_header(first, delimiter, name)
    places = choose_columns(columns, group_column)
    if places is None:
        raise UserError(
            f"“{name}”: the first line must name the columns filename and label "
            f"(and split, if you like). Received: {first.strip()[:80]!r}."
        )
    table = LabelTable(name, [], [column.strip() for column in columns])
    order = [places[part] for part in ORDER]
    records = _Records(lines, delimiter)
    try:
        for cells in records:
            if not any(entry.strip() for entry in cells):
                continue
            chosen = [
                cells[at] if at is not None and at < len(cells) else "" for at in order
            ]
            if (fault := records.find_fault(chosen[0])) is not None:
                table.add_fault(records.first_line, fault)
            else:
                table.rows.append(maker.make(records.first_line, chosen))
    except csv.Error as error:
        raise UserError(
            f"“{name}” cannot be read as a table: {error}, in what begins in line "
            f"{records.first_line:,}. Perhaps a quotation mark there is not closed."
        ) from error
    return table


def _split_header(first: str, delimiter: str, name: str) -> list[str]:
    try:
        return next(csv.reader([first], delimiter=delimiter), [])
    except csv.Error as error:
        raise UserError(
            f"“{name}” cannot be read as a table: {error}, in its first line, which "
            "must name the columns filename and label (and split, if you like)."
        ) from error


class _Records:
    """The records of a CSV below its first line, and in which lines each stands.

    A stray quotation mark makes one cell of all that follows, up to the next one or to
    the end of the file, and the reader of CSV takes that for what was meant.
    """

    def __init__(self, lines: io.TextIOBase, delimiter: str) -> None:
        self._lines, self._delimiter = lines, delimiter
        self._last_line, self._marks = 1, 0
        self.first_line = 2

    def __iter__(self) -> Iterator[list[str]]:
        for cells in csv.reader(self._count_lines(), delimiter=self._delimiter):
            yield cells
            self.first_line, self._marks = self._last_line + 1, 0

    def find_fault(self, file: str) -> str | None:
        """Says what is wrong with the record at hand, whose cell of a file this is."""
        if self._last_line == self.first_line:
            return None
        if self._marks % 2 == 0 and "\n" not in file and "\r" not in file:
            return None
        return (
            f"A quotation mark opens a cell in line {self.first_line:,}, which goes on "
            f"to line {self._last_line:,}, so these lines name no file. Close it where "
            "the cell ends, or take it away."
        )

    def _count_lines(self) -> Iterator[str]:
        for line in self._lines:
            self._last_line += 1
            self._marks += line.count('"')
            yield line


def read_json_lines(
    stream: BinaryIO, name: str, maker: RowMaker, group_column: str | None
) -> LabelTable:
    """Reads JSON lines: one object a line, whose keys are the columns.

    Raises:
        UserError: When the first object does not name a file and a label.
    """
    table = LabelTable(name, [])
    shapes = _Shapes(group_column)
    for number, line in enumerate(_long_lines(open_text(stream)), start=1):
        if not line.strip():
            continue
        entry, fault = _parse_object(line)
        if not shapes.columns and not choose_columns(list(entry), group_column):
            raise UserError(
                f"“{name}”: each line must be a JSON object with the keys filename and "
                f"label (and split, if you like). {fault or 'They are missing.'} "
                f"Received: {line.strip()[:80]!r}."
            )
        keys = shapes.find_keys(entry)
        cells = [show_cell(entry.get(key)) if key else "" for key in keys]
        group = keys[_GROUP_AT]
        if group is not None and not group_column:
            cells[_GROUP_AT] = show_guess(entry.get(group))
        fault = fault or _cells_fault(keys, cells)
        if fault is None:
            table.rows.append(maker.make(number, [cell or "" for cell in cells]))
        else:
            table.add_fault(number, fault)
    if not shapes.columns:
        raise UserError(f"“{name}” is empty: there is no line with a label in it.")
    table.columns = list(shapes.columns)
    return table


class _Shapes:
    """Which keys matter, of each object: a split may stand in a few of them only."""

    def __init__(self, group_column: str | None) -> None:
        self._group_column = group_column
        self._usual: dict[str, str] = {}
        self._known: dict[tuple[str, ...], list[str | None]] = {}
        self.columns: dict[str, None] = {}

    def find_keys(self, entry: dict[str, Any]) -> list[str | None]:
        """Returns the keys of file, label, split and group; None for what it lacks."""
        shape = tuple(entry)
        keys = self._known.get(shape)
        if keys is None:
            keys = self._choose_keys(shape)
            if len(self._known) < _KEPT_SHAPES:
                self._known[shape] = keys
                self.columns |= dict.fromkeys(shape)
        return keys

    def _choose_keys(self, shape: tuple[str, ...]) -> list[str | None]:
        places = find_columns(shape, self._group_column)
        keys: list[str | None] = []
        for part in ORDER:
            at = places[part]
            own = None if at is None else shape[at]
            if own is not None:
                # Where two would do, the one that the objects before had.
                usual = self._usual.setdefault(part, own)
                own = usual if usual in shape else own
            keys.append(own)
        return keys


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
