"""Brings the sources of an upload together: files on disk, each with its label."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from shared.errors import UserError
from shared.picture_folders import SPLIT_ALIASES
from shared.source_addresses import is_address
from shared.source_kinds import TABLES
from worker.ingest.found import (
    FoundFile,
    LabelledFile,
    SkipList,
    join_names,
    list_first,
    plain_name,
    quote,
)
from worker.ingest.label_rows import RowBudget, TooManyRowsError
from worker.ingest.label_table import (
    LabelTable,
    label_by_tables,
    load_label_table,
)
from worker.ingest.labels import (
    Labelled,
    archive_stem,
    label_by_folder,
    note_similar_labels,
)
from worker.ingest.limits import Basket
from worker.ingest.remote.courier import Courier, Means
from worker.ingest.remote.kept_files import KeptFiles
from worker.ingest.remote.sources import bring, fetch_rows, open_folder
from worker.ingest.request import ADDRESS, ARCHIVE, FOLDER, TABLE, Request, Source
from worker.ingest.unpack import Unpacked, list_folder, unpack_archive

_NAMED_EMPTY_FOLDERS = 20
_MOST_SOURCE_NOTES = 50
Report = Callable[[int, int], None]


@dataclass(slots=True)
class Collected:
    """Everything with a label, and sentences about how it was understood.

    Args:
        files: Files with a label; those with several stand behind the others.
        notes: Sentences for the user.
        group_column: Of a label table, where one names groups.
        read: Names of the sources, and of the label tables in them: whatever they lack
            is told of them anew.
    """

    files: list[LabelledFile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    group_column: str | None = None
    read: set[str] = field(default_factory=set)


def collect(
    request: Request,
    folder: Path,
    skips: SkipList,
    report: Report,
    means: Means | None = None,
    *,
    report_listed: Callable[[int], None] = lambda _count: None,
) -> Collected:
    """Fetches, unpacks and labels every source.

    A table that came beside archives or folders labels the files of all of them.
    Otherwise each source is understood by itself, so one may have class folders and
    another one a table. A table that says where its files lie (`root`, or because it
    came from an address and nothing but tables is beside it) is understood by itself.

    Args:
        request: What to read.
        folder: Where archives are unpacked.
        skips: Receives what is left out.
        report: Called with the bytes of archives that were read, and all of them.
        means: What addresses are fetched with. Defaults to a place below `folder`.
        report_listed: Called with how many files of a folder were found so far.

    Raises:
        UserError: The upload as a whole cannot be used.
        OSError: The disk is full or a source cannot be read.
    """
    basket = Basket(folder, request.limits)
    courier = Courier(
        request.addresses,
        means or Means(KeptFiles(folder)),
        limits=request.limits,
        basket=basket,
    )
    brought = [bring(source, courier) for source in request.sources]
    beside, sources = _tables_beside(request.sources, brought)
    budget = RowBudget(request.limits.max_files)
    opener = _Opener(basket, skips, report, report_listed, sources, courier, budget)
    labelled = _label_together(opener, beside) if beside else _label_each(opener)
    # One or two of each source: what is said of all of them must not stand behind.
    notes = list_first([*opener.notes, *courier.notes], _MOST_SOURCE_NOTES)
    notes += labelled.notes
    notes += note_similar_labels({entry.label for entry in labelled.files})
    files = labelled.files + labelled.contested
    read = opener.tables.union(source.name for source in request.sources)
    return Collected(files, notes, labelled.group_column, read)


def _tables_beside(
    asked: list[Source], brought: list[Source]
) -> tuple[list[Source], list[Source]]:
    """The tables that label the files of all other sources, and those others."""
    beside = [
        now
        for before, now in zip(asked, brought, strict=True)
        if now.type == TABLE and before.root is None
    ]
    others = [source for source in brought if source not in beside]
    return (beside, others) if others else ([], brought)


@dataclass(slots=True)
class _Opener:
    """Opens the sources one after the other."""

    basket: Basket
    skips: SkipList
    report: Report
    report_listed: Callable[[int], None]
    sources: list[Source]
    courier: Courier
    budget: RowBudget
    notes: list[str] = field(default_factory=list)
    tables: set[str] = field(default_factory=set)
    archive_bytes: int = field(init=False)
    read_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        # Told is how much of the archives was read: what comes out is not known before.
        self.read_bytes = 0
        self.archive_bytes = sum(
            _size(source.path) for source in self.sources if source.type == ARCHIVE
        )

    @property
    def is_alone(self) -> bool:
        return len(self.sources) == 1

    def shown(self, source: Source) -> str:
        """What stands before the names of its files: nothing if it is the only one."""
        return "" if self.is_alone else source.name

    def open(self, source: Source) -> Unpacked:
        if source.type == ARCHIVE:
            found = self._unpack(source)
        elif source.type == ADDRESS:
            found = open_folder(source, self.courier, self.skips)
        elif (folder := _folder(source)) is None:
            return Unpacked()  # a table whose files are fetched line by line
        else:
            found = list_folder(
                folder,
                name=source.name,
                basket=self.basket,
                skips=self.skips,
                report=self.report_listed,
            )
        self.notes += [*found.notes, *_empty_folders(found, self.shown(source))]
        return found

    def load(self, source: Source, path: Path, name: str) -> LabelTable:
        """Reads a label table of a source; its lines count over all of them."""
        table = load_label_table(
            path,
            name,
            folder=_folder(source),
            group_column=source.group_column,
            budget=self.budget,
        )
        shown = self.shown(source)  # as it stands before the lines that are left out
        self.tables.add(f"{shown}/{name}" if shown else name)
        return table

    def _unpack(self, source: Source) -> Unpacked:
        found = unpack_archive(
            source.path,
            name=source.name,
            basket=self.basket,
            skips=self.skips,
            report=self._report,
        )
        self.read_bytes += _size(source.path)
        return found

    def _report(self, read_bytes: int) -> None:
        done = min(self.read_bytes + read_bytes, self.archive_bytes)
        self.report(done, self.archive_bytes)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # opening it will say so
        return 0


def _label_together(opener: _Opener, beside: list[Source]) -> Labelled:
    tables = [
        load_label_table(
            source.path,
            source.name,
            group_column=source.group_column,
            budget=opener.budget,
        )
        for source in beside
    ]
    files: list[FoundFile] = []
    for source in opener.sources:
        with opener.skips.of_source(opener.shown(source)):
            found = opener.open(source)
        for file in found.files:
            file.put_below(opener.shown(source))
        files += found.files
    fetched = fetch_rows(tables, None, opener.courier, opener.skips)
    return label_by_tables(files, tables, opener.skips, fetched)


def _label_each(opener: _Opener) -> Labelled:
    labelled = Labelled()
    splits = _splits_by_name(opener.sources)
    for source, split in zip(opener.sources, splits, strict=True):
        shown = opener.shown(source)
        with opener.skips.of_source(shown):
            found = opener.open(source)
            part = _label(source, found, opener, split)
        for entry in chain(part.files, part.contested):
            entry.file.put_below(shown)
        labelled.extend(part)
    return labelled


def _label(
    source: Source, found: Unpacked, opener: _Opener, split: str | None
) -> Labelled:
    tables, files = _find_tables(source, found.files, opener)
    if tables:
        if source.type == TABLE and _names_only_addresses(tables):
            files = []  # what else lies in its folder is not meant
        fetched = fetch_rows(tables, source.root, opener.courier, opener.skips)
        return label_by_tables(files, tables, opener.skips, fetched)
    # A flat archive among several stands for one class, unless it is a whole split.
    name = None if opener.is_alone or split else archive_stem(source.name)
    return label_by_folder(files, opener.skips, source_label=name, source_split=split)


def _names_only_addresses(tables: list[LabelTable]) -> bool:
    return all(is_address(row.filename) for table in tables for row in table.rows)


def _splits_by_name(sources: list[Source]) -> list[str | None]:
    """The splits of `train.zip` and `test.zip`; none where other names are among."""
    splits = [SPLIT_ALIASES.get(archive_stem(s.name).lower()) for s in sources]
    return splits if len(set(splits)) > 1 and all(splits) else [None] * len(sources)


def _find_tables(
    source: Source, files: list[FoundFile], opener: _Opener
) -> tuple[list[LabelTable], list[FoundFile]]:
    """The label tables of one source and the files that are none."""
    if source.type == TABLE:
        rest = [file for file in files if file.path != source.path]
        return [opener.load(source, source.path, source.name)], rest
    if source.labels and Path(source.labels).is_absolute():
        path = Path(source.labels)
        table = opener.load(source, path, plain_name(path.name))
        return [table], [file for file in files if file.path != path]
    if source.labels:
        wanted = _find_named(files, source.labels, source.name)
        rest = [file for file in files if file is not wanted]
        return [opener.load(source, wanted.path, wanted.name)], rest
    return _recognise_tables(source, files, opener)


def _folder(source: Source) -> Path | None:
    """Where the files of a source lie on the server; None where they come in."""
    if source.type == FOLDER:
        return source.path
    if source.type != TABLE or (source.root and is_address(source.root)):
        return None
    return Path(source.root) if source.root else source.path.parent


def _recognise_tables(
    source: Source, files: list[FoundFile], opener: _Opener
) -> tuple[list[LabelTable], list[FoundFile]]:
    """Takes every table with the right columns; any other one is left out."""
    tables, rest = [], []
    for found in files:
        if Path(found.name).suffix.lower() not in TABLES:
            rest.append(found)
            continue
        try:
            tables.append(opener.load(source, found.path, found.name))
        except TooManyRowsError:
            raise
        except UserError as error:
            opener.skips.add(found.name, "not_a_label_table", str(error))
    return tables, rest


def _find_named(files: list[FoundFile], name: str, source: str) -> FoundFile:
    wanted = name.replace("\\", "/").removeprefix("./")
    for found in files:
        if found.name == wanted or found.name.endswith(f"/{wanted}"):
            return found
    raise UserError(
        f"“{source}” holds no “{name}”, which was named as its label table.",
        field="labels",
    )


def _empty_folders(found: Unpacked, source: str) -> list[str]:
    """Sentences about folders that hold nothing: perhaps a class was forgotten."""
    used = {
        "/".join(file.folders[:depth])
        for file in found.files
        for depth in range(1, len(file.folders) + 1)
    }
    empty = sorted(set(found.folders) - used)[:_NAMED_EMPTY_FOLDERS]
    return [
        f"The folder {quote(join_names(source, name))} holds no file, so it makes no "
        "class."
        for name in empty
    ]
