"""Brings the sources of an upload together: files on disk, each with its label."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.errors import UserError
from worker.ingest.found import FoundFile, LabelledFile, SkipList
from worker.ingest.label_table import (
    TABLE_SUFFIXES,
    LabelTable,
    label_by_tables,
    parse_label_table,
)
from worker.ingest.labels import (
    Labelled,
    archive_stem,
    label_by_folder,
    note_similar_labels,
)
from worker.ingest.limits import Basket, Limits
from worker.ingest.unpack import Unpacked, list_folder, unpack_archive

ARCHIVE, FOLDER, TABLE = "archive", "folder", "csv"
# A label table of two million lines takes some 200 MB.
_MOST_TABLE_BYTES = 512 * 2**20


@dataclass(slots=True)
class Collected:
    """Everything with a label, and sentences about how it was understood.

    Args:
        files: Files with a label.
        notes: Sentences for the user.
        conflicts: (names, labels) of files that a table labels twice.
    """

    files: list[LabelledFile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    conflicts: list[tuple[list[str], list[str]]] = field(default_factory=list)


def collect(
    sources: list[dict[str, Any]],
    folder: Path,
    limits: Limits,
    skips: SkipList,
    report: Callable[[int], None],
) -> Collected:
    """Unpacks and labels every source.

    Args:
        sources: SPEC.json's `sources`.
        folder: Where archives are unpacked.
        limits: What the upload may cost.
        skips: Receives what is left out.
        report: Called with the number of files so far.

    Raises:
        UserError: The upload as a whole cannot be used.
        OSError: The disk is full or a source cannot be read.
    """
    basket = Basket(folder, limits)
    labelled = Labelled()
    collected = Collected()
    for number, source in enumerate(sources):
        found = _open(source, number, basket, skips, report)
        collected.notes += found.notes
        collected.notes += _empty_folders(found)
        alone = len(sources) == 1
        labelled.extend(_label(source, found, skips, alone=alone))
    collected.files = labelled.files
    collected.notes += labelled.notes
    collected.notes += note_similar_labels({file.label for file in labelled.files})
    collected.conflicts = labelled.conflicts
    return collected


def _open(
    source: dict[str, Any],
    number: int,
    basket: Basket,
    skips: SkipList,
    report: Callable[[int], None],
) -> Unpacked:
    path, kind = Path(source["path"]), source["type"]
    if not path.exists():
        raise UserError(
            f"“{source.get('name') or path.name}” is not there any more: add it again.",
            field="sources",
        )
    if kind == ARCHIVE:
        return unpack_archive(
            path,
            name=source.get("name") or path.name,
            source=number,
            basket=basket,
            skips=skips,
            report=report,
        )
    if kind not in (FOLDER, TABLE):
        raise UserError(
            f"`sources.type` must be archive, folder or csv. Received: {kind!r}.",
            field="sources",
        )
    folder = path if kind == FOLDER else path.parent
    return list_folder(folder, source=number, basket=basket, skips=skips)


def _label(
    source: dict[str, Any], found: Unpacked, skips: SkipList, *, alone: bool
) -> Labelled:
    tables = _named_tables(source)
    files = found.files
    if not tables:
        tables, files = _take_tables(found.files, skips)
    if tables:
        named = {table.name for table in tables}
        rest = [file for file in files if file.name not in named]
        return label_by_tables(rest, tables, skips)
    name = source.get("name") or Path(source["path"]).name
    return label_by_folder(
        files, skips, source_label=None if alone else archive_stem(name)
    )


def _named_tables(source: dict[str, Any]) -> list[LabelTable]:
    """The table that the user named, which must be one."""
    named = source["path"] if source["type"] == TABLE else source.get("labels")
    if not named:
        return []
    path = Path(named)
    if not path.is_absolute():
        return []  # a member of the archive: found among its files
    return [parse_label_table(path.read_bytes(), path.name)]


def _take_tables(
    files: list[FoundFile], skips: SkipList
) -> tuple[list[LabelTable], list[FoundFile]]:
    """Parses what is a label table among the files; any other table is left out."""
    tables, rest = [], []
    for found in files:
        if Path(found.name).suffix.lower() not in TABLE_SUFFIXES:
            rest.append(found)
            continue
        try:
            if found.path.stat().st_size > _MOST_TABLE_BYTES:
                raise UserError(f"“{found.name}” is too large for a label table.")
            tables.append(parse_label_table(found.path.read_bytes(), found.name))
        except UserError as error:
            skips.add(found.name, "not_a_label_table", str(error))
    return tables, rest


def _empty_folders(found: Unpacked) -> list[str]:
    """Sentences about folders that hold nothing: perhaps a class was forgotten."""
    used = {
        "/".join(file.folders[:depth])
        for file in found.files
        for depth in range(1, len(file.folders) + 1)
    }
    empty = sorted({name for name in found.folders if name not in used})
    return [f"The folder “{name}” holds no file." for name in empty[:20]]
