"""Labels from a table: a CSV with the columns `filename`, `label` and maybe `split`.

Comma, semicolon or tab; UTF-8 with or without mark, UTF-16, GBK or Latin-1. What does
not fit together (a line without its file, a file without a line, two labels for one
file) is reported line by line and never guessed.
"""

import csv
import io
import posixpath
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from shared.errors import UserError
from worker.ingest.found import FoundFile, LabelledFile, SkipList, clean_label
from worker.ingest.labels import Labelled
from worker.ingest.name_encoding import decode_text
from worker.ingest.split import SPLIT_ALIASES

TABLE_SUFFIXES = (".csv", ".tsv")
# Read at once: a table of two million lines with long names has about 200 MB.
MAX_TABLE_BYTES = 512 * 2**20
_FILENAME = {"filename", "file_name", "file", "image", "image_path", "path", "filepath"}
_LABEL = {"label", "class", "class_name", "category", "target"}
_SPLIT = {"split", "subset", "set", "partition"}


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One line of a label table; `split` and `group` are None where a cell is empty."""

    line: int
    filename: str
    label: str
    split: str | None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class LabelTable:
    """A parsed label table and the user's name for it."""

    name: str
    rows: list[LabelRow]


def parse_label_table(
    data: bytes,
    name: str,
    *,
    folder: str | None = None,
    group_column: str | None = None,
) -> LabelTable:
    """Parses the bytes of a label table.

    Args:
        data: The whole file.
        name: The user's name for it, used in sentences and to find its files. Lines
            that name no split have the one it is called after (`train.csv`), if any.
        folder: Where the files lie on the server; lines may then name whole paths.
        group_column: The column that names what one split must hold together, in any
            case.

    Raises:
        UserError: When the first line does not name `filename` and `label`, or the
            text cannot be read as a table.
    """
    text, _ = decode_text(data)
    lines = io.StringIO(text, newline="")
    first = lines.readline()
    delimiter = max(",;\t", key=first.count)
    header = [
        cell.strip().lower()
        for cell in next(csv.reader([first], delimiter=delimiter), [])
    ]
    group = {group_column.lower()} if group_column else set()
    wanted = (
        *(("file", _FILENAME), ("label", _LABEL)),
        *(("split", _SPLIT), ("group", group)),
    )
    columns = {
        part: next((at for at, cell in enumerate(header) if cell in known), None)
        for part, known in wanted
    }
    if columns["file"] is None or columns["label"] is None:
        shown = first.strip()[:80]
        raise UserError(
            f"“{name}”: the first line must name the columns filename and label "
            f"(and split, if you like). Received: {shown!r}."
        )
    split = SPLIT_ALIASES.get(PurePosixPath(name).stem.lower())
    try:
        rows = _read_rows(csv.reader(lines, delimiter=delimiter), columns, split)
    except csv.Error as error:
        raise UserError(f"“{name}” cannot be read as a table: {error}.") from error
    if folder:
        rows = [
            replace(row, filename=row.filename.removeprefix(f"{folder}/"))
            for row in rows
        ]
    return LabelTable(name, rows)


def _read_rows(
    reader: Any, columns: dict[str, int | None], default_split: str | None
) -> list[LabelRow]:
    def cell(cells: list[str], part: str) -> str:
        at = columns[part]
        return cells[at].strip() if at is not None and at < len(cells) else ""

    return [
        LabelRow(
            line=reader.line_num + 1,
            filename=cell(cells, "file"),
            label=clean_label(cell(cells, "label")),
            split=cell(cells, "split") or default_split,
            group=cell(cells, "group") or None,
        )
        for cells in reader
        if any(entry.strip() for entry in cells)
    ]


def label_by_tables(
    files: Sequence[FoundFile], tables: Sequence[LabelTable], skips: SkipList
) -> Labelled:
    """Labels the files of one source by what its tables say.

    Args:
        files: Found files, without junk and without the tables.
        tables: At least one.
        skips: Receives lines that cannot be used and files without a line.
    """
    index = FileIndex(files)
    wishes: dict[int, list[LabelRow]] = defaultdict(list)
    for table in tables:
        for row in table.rows:
            place = f"{table.name}, line {row.line}"
            reason = _row_fault(row)
            if reason is None:
                position, reason = index.find(row.filename, PurePosixPath(table.name))
                if position is not None:
                    wishes[position].append(row)
                    continue
            skips.add(place, "bad_line", reason or "")
    labelled = Labelled(notes=[_table_note(tables)])
    for position, found in enumerate(files):
        _label_one(found, wishes.get(position, []), labelled, skips)
    return labelled


def _label_one(
    found: FoundFile, rows: list[LabelRow], labelled: Labelled, skips: SkipList
) -> None:
    labels = sorted({row.label for row in rows})
    splits = sorted({SPLIT_ALIASES[row.split.lower()] for row in rows if row.split})
    if not rows:
        skips.add(found.name, "no_label", "The label table has no line for it.")
    elif len(labels) > 1:
        reason = f"The label table calls it {_name_all(labels)}."
        skips.add(found.name, "conflict", reason)
        labelled.conflicts.append(([found.name], labels))
    elif len(splits) > 1:
        reason = f"The label table puts it into {_name_all(splits)}."
        skips.add(found.name, "conflict", reason)
    else:
        split = splits[0] if splits else None
        group = min((row.group for row in rows if row.group), default=None)
        labelled.files.append(LabelledFile(found, labels[0], split, group))


def _name_all(words: Sequence[str]) -> str:
    return " and ".join(f"“{word}”" for word in words)


def _row_fault(row: LabelRow) -> str | None:
    if not row.filename:
        return "The line names no file."
    if not row.label:
        return f"The line gives “{row.filename}” no label."
    if row.split and row.split.lower() not in SPLIT_ALIASES:
        return f"The split “{row.split}” is none of train, val and test."
    return None


def _table_note(tables: Sequence[LabelTable]) -> str:
    names = ", ".join(f"“{table.name}”" for table in tables)
    return f"Labels come from {names}."


class FileIndex:
    """Finds the file that a line of a table means.

    Tables name files in many ways: from the table's own folder, from the top of the
    archive, from some folder in between, or without the ending. A name that fits two
    files is refused rather than guessed.
    """

    def __init__(self, files: Sequence[FoundFile]) -> None:
        self._names = [file.name for file in files]
        self._exact = {name: at for at, name in enumerate(self._names)}
        self._by_last: dict[str, list[int]] = defaultdict(list)
        for at, name in enumerate(self._names):
            last = PurePosixPath(name.casefold())
            self._by_last[last.name].append(at)
            if last.stem != last.name:
                self._by_last[last.stem].append(at)

    def find(
        self, filename: str, table: PurePosixPath
    ) -> tuple[int, None] | tuple[None, str]:
        """Returns the position of the file meant, or the sentence why there is none."""
        wanted = filename.replace("\\", "/")
        for candidate in (str(table.parent / wanted), wanted):
            at = self._exact.get(posixpath.normpath(candidate))
            if at is not None:
                return at, None
        tail = posixpath.normpath(wanted).casefold().lstrip("./")
        last = tail.rsplit("/", 1)[-1]
        fitting = [
            at
            for at in self._by_last.get(last, [])
            if _ends_like(self._names[at].casefold(), tail)
        ]
        if len(fitting) == 1:
            return fitting[0], None
        if fitting:
            return None, f"“{filename}” fits {len(fitting)} files; name its folder too."
        return None, f"There is no file “{filename}”."


def _ends_like(name: str, tail: str) -> bool:
    whole = f"/{name}"
    if whole.endswith(f"/{tail}"):
        return True
    stem, dot, ending = whole.rpartition(".")
    return bool(dot) and "/" not in ending and stem.endswith(f"/{tail}")
