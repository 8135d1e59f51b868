"""Labels from a table with the columns `filename`, `label` and maybe `split`.

CSV, JSON lines or Parquet; paths or addresses. What does not fit together (a line
without its file, a file without a line, two splits for one file) is reported line by
line and never guessed; a file with several labels is kept until the user decides.
"""

import functools
import posixpath
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from shared.errors import UserError
from shared.picture_folders import SPLIT_ALIASES
from shared.progress_words import say_size
from shared.source_kinds import JSON_TABLES, PARQUET_TABLES
from worker.ingest.disk import is_unreadable, refuse_source
from worker.ingest.found import (
    CONFLICT,
    FoundFile,
    LabelledFile,
    SkipList,
    has_halves,
    name_some,
    plain_name,
    quote,
)
from worker.ingest.label_columns import name_group_column
from worker.ingest.label_rows import (
    LabelRow,
    LabelTable,
    RowBudget,
    RowMaker,
    read_csv,
    read_json_lines,
)
from worker.ingest.labels import Labelled
from worker.ingest.parquet_rows import read_parquet

# A table of two million lines with long names has about 200 MB.
MAX_TABLE_BYTES = 512 * 2**20


def load_label_table(
    path: Path,
    name: str,
    *,
    folder: Path | None = None,
    group_column: str | None = None,
    budget: RowBudget | None = None,
) -> LabelTable:
    """Reads a label table; memory holds its rows and little more.

    Args:
        path: Where it lies.
        name: The user's name for it, used in sentences and to find its files; its
            ending tells its kind. Lines that name no split have the one it is called
            after (`train.csv`), if any.
        folder: Where the files lie on the server; lines may then name whole paths.
        group_column: The column that names what one split must hold together, in any
            case; it becomes `LabelRow.group`. Defaults to one with a usual name, whose
            cells that are no text or number are empty.
        budget: Counts the lines of all tables. Defaults to one of its own.

    Raises:
        UserError: When it cannot be read, or does not name `filename` and `label`.
        TooManyRowsError: When it has too many lines.
    """
    try:
        maker = RowMaker(name, str(folder) if folder else None, budget)
        table = _load(path, name, maker, group_column)
    except OSError as error:
        if not is_unreadable(error):
            raise
        raise refuse_source(name, error) from error
    if group_column or any(row.group for row in table.rows):
        table.group_column = name_group_column(table.columns, group_column)
    return table


def _load(
    path: Path, name: str, maker: RowMaker, group_column: str | None
) -> LabelTable:
    if path.stat().st_size > MAX_TABLE_BYTES:
        raise UserError(
            f"“{name}” is larger than {say_size(MAX_TABLE_BYTES)}, the most that a "
            "label table may have."
        )
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in PARQUET_TABLES:
        return read_parquet(path, name, maker, group_column)
    read = read_json_lines if suffix in JSON_TABLES else read_csv
    with path.open("rb") as stream:
        return read(stream, name, maker, group_column)


def label_by_tables(
    files: Sequence[FoundFile],
    tables: Sequence[LabelTable],
    skips: SkipList,
    fetched: Mapping[str, FoundFile] | None = None,
) -> Labelled:
    """Labels the files of one source by what its tables say.

    Args:
        files: Found files, without junk and without the tables.
        tables: At least one.
        skips: Receives lines that cannot be used and files without a line.
        fetched: Files that came from addresses, by what the lines call them.
    """
    index = FileIndex(files, fetched or {})
    wishes: dict[int, list[LabelRow]] = defaultdict(list)
    for table in tables:
        for line, reason in table.faults:
            skips.add(f"{table.name}, line {line}", "bad_line", reason)
        for row in table.rows:
            place = f"{table.name}, line {row.line}"
            reason = _row_fault(row)
            if reason is None:
                position, reason = index.find(row.filename, PurePosixPath(table.name))
                if position is not None:
                    wishes[position].append(row)
                    continue
            skips.add(place, "bad_line", reason or "")
    columns = (table.group_column for table in tables)
    labelled = Labelled(
        notes=[_table_note(tables)], group_column=next(filter(None, columns), None)
    )
    for position, found in enumerate(index.files):
        _label_one(found, wishes.get(position, []), labelled, skips)
    return labelled


def _label_one(
    found: FoundFile, rows: list[LabelRow], labelled: Labelled, skips: SkipList
) -> None:
    labels = sorted({row.label for row in rows})
    splits = sorted({SPLIT_ALIASES[row.split.lower()] for row in rows if row.split})
    if not rows:
        skips.add(found.name, "no_label", "The label table has no line for it.")
    elif len(labels) == 1 and len(splits) > 1:
        reason = f"The label table puts it into {_name_all(splits)}."
        skips.add(found.name, CONFLICT, reason)
    else:
        split = splits[0] if len(splits) == 1 else None
        group = min((row.group for row in rows if row.group), default=None)
        entry = LabelledFile(found, labels[0], split, group, tuple(labels[1:]))
        (labelled.contested if entry.also else labelled.files).append(entry)


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
    return f"Labels come from {name_some([quote(table.name) for table in tables])}."


class FileIndex:
    """Finds the file that a line of a table means.

    Tables name files in many ways: from the table's own folder, from the top of the
    archive, from some folder in between, or without the ending. A name that fits two
    files is refused rather than guessed. One that is spelled with halves of characters
    stands for its bytes, however the names of the upload were read.
    """

    def __init__(
        self, files: Sequence[FoundFile], fetched: Mapping[str, FoundFile]
    ) -> None:
        self.files = [*files, *fetched.values()]
        self._fetched = {name: len(files) + at for at, name in enumerate(fetched)}
        self._files = files
        self._names = _Names([file.name for file in files])

    @functools.cached_property
    def _spellings(self) -> "_Names":
        return _Names([file.spelling or "" for file in self._files])

    def find(
        self, filename: str, table: PurePosixPath
    ) -> tuple[int, None] | tuple[None, str]:
        """Returns the position of the file meant, or the sentence why there is none."""
        if filename in self._fetched:
            return self._fetched[filename], None
        wanted = filename.replace("\\", "/")
        if has_halves(wanted):
            at, count = self._spellings.find(wanted, table.parent)
        else:
            at, count = self._names.find(plain_name(wanted), table.parent)
        if at is not None and count == 1:
            return at, None
        if count:
            return None, f"“{filename}” fits {count} files; name its folder too."
        return None, f"There is no file “{filename}”."


class _Names:
    """Files by their names."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._exact = {name: at for at, name in enumerate(names)}
        self._deepest = max((name.count("/") for name in names), default=0) + 1
        self._by_tail: dict[int, _Tails] = {}

    def find(self, wanted: str, folder: PurePosixPath) -> tuple[int | None, int]:
        """Returns the first file meant by a table in `folder`, and how many are."""
        for candidate in (str(folder / wanted), wanted):
            at = self._exact.get(posixpath.normpath(candidate))
            if at is not None:
                return at, 1
        tail = posixpath.normpath(wanted).casefold().lstrip("./")
        parts = tail.count("/") + 1
        if parts > self._deepest:
            return None, 0
        if parts not in self._by_tail:
            self._by_tail[parts] = _Tails(self._names, parts)
        return self._by_tail[parts].find(tail)


class _Tails:
    """Files by the last so many parts of their names, with and without the ending.

    Looked up, not compared: where all files are called `image.png` each line would be
    compared with all of them.
    """

    def __init__(self, names: Sequence[str], parts: int) -> None:
        self._first: dict[str, int] = {}
        self._more: Counter[str] = Counter()
        for at, name in enumerate(names):
            if name.count("/") >= parts - 1:
                for tail in _list_tails(name.casefold(), parts):
                    if self._first.setdefault(tail, at) != at:
                        self._more[tail] += 1

    def find(self, tail: str) -> tuple[int | None, int]:
        """Returns the first file that ends so, and how many do."""
        at = self._first.get(tail)
        return at, 0 if at is None else 1 + self._more[tail]


def _list_tails(name: str, parts: int) -> Iterator[str]:
    tail = "/".join(name.split("/")[-parts:])
    yield tail
    stem, dot, ending = tail.rpartition(".")
    if dot and "/" not in ending and stem and not stem.endswith("/"):
        yield stem
