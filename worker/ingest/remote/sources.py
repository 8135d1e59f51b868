"""What an address stands for: an archive, a label table, or a folder of a storage."""

from collections.abc import Iterator
from dataclasses import replace

from shared.errors import UserError
from shared.source_addresses import (
    Address,
    folder_of,
    is_address,
    join_address,
    parse_address,
    require_allowed,
    show_address,
)
from shared.source_kinds import ARCHIVES, NAMED_TABLES, require_source
from worker.ingest.found import FoundFile, SkipList, junk_reason, plain_name
from worker.ingest.label_rows import LabelRow, LabelTable
from worker.ingest.remote.answers import FetchError
from worker.ingest.remote.courier import Courier, explain
from worker.ingest.remote.download import Fetched
from worker.ingest.request import ADDRESS, ARCHIVE, TABLE, Source
from worker.ingest.unpack import Unpacked


def bring(source: Source, courier: Courier) -> Source:
    """Fetches an archive or a table; a folder of a storage is left for `open_folder`.

    Returns:
        The source as it lies on the disk; `root` of a table says where the files are
        that its lines name.

    Raises:
        UserError: When it may not be fetched, or can be none of these.
        OutageError: When its server fails.
    """
    if source.type != ADDRESS:
        return source
    address = parse_address(source.address or "")
    require_allowed(address, courier.rules.allowed)
    lower = address.path.lower()
    if lower.endswith(ARCHIVES):
        return replace(source, type=ARCHIVE, path=courier.fetch_whole(address))
    if lower.endswith(NAMED_TABLES):
        path = courier.fetch_whole(address)
        root = source.root or str(folder_of(address))
        return replace(source, type=TABLE, path=path, root=root)
    require_source(address)
    return source


def open_folder(source: Source, courier: Courier, skips: SkipList) -> Unpacked:
    """Fetches every file below a prefix of an object storage.

    Args:
        source: Of the type `address`.
        courier: Fetches.
        skips: Receives what is left out.

    Raises:
        UserError: When there is nothing, or it is too much.
        OutageError: When the storage fails.
    """
    folder = parse_address(source.address or "")
    unpacked = Unpacked()
    try:
        for parcel in courier.fetch_all(_list(folder, courier, skips), 0):
            if parcel.fetched is None:
                skips.add(parcel.key, "not_fetched", parcel.fault)
            else:
                unpacked.files.append(_found(parcel.fetched, parcel.key))
    except FetchError as error:
        raise explain(folder, error) from error
    if not unpacked.files and not skips.total:
        raise UserError(f"There is nothing below {folder}.", field="address")
    courier.notes.append(f"Fetched {len(unpacked.files):,} files from {folder}.")
    return unpacked


def _found(fetched: Fetched, name: str) -> FoundFile:
    """A file that has come; by its digest the next attempt knows what was proved."""
    return FoundFile(fetched.path, name, bytes.fromhex(fetched.sha256))


def _list(
    folder: Address, courier: Courier, skips: SkipList
) -> Iterator[tuple[str, Address]]:
    begin = f"{folder.path.rstrip('/')}/" if folder.path else ""
    for address, size_bytes in courier.stores.list_below(folder):
        name = plain_name(address.path.removeprefix(begin))
        reason = junk_reason(name)
        if reason is not None:
            skips.add(name, "junk", reason)
        # Consoles make empty objects to stand for folders; they come without the `/`.
        elif size_bytes or "." in address.name:
            yield name, address


def fetch_rows(
    tables: list[LabelTable], root: str | None, courier: Courier, skips: SkipList
) -> dict[str, FoundFile]:
    """Fetches the files that lines of tables name by address, or below a root.

    Lines whose file could not be fetched are taken out of the tables: they are told
    of here.

    Args:
        tables: Their lines may name addresses, and paths below `root`.
        root: An address; None leaves paths to be found elsewhere.
        courier: Fetches.
        skips: Receives what could not be fetched.

    Returns:
        The files, by what the lines call them.
    """
    base = parse_address(root) if root and is_address(root) else None
    wanted = {
        row.filename: None
        for table in tables
        for row in table.rows
        if row.filename and (base is not None or is_address(row.filename))
    }
    if not wanted:
        return {}
    lost: dict[str, str] = {}
    found: dict[str, FoundFile] = {}
    asked = _ask(wanted, base, lost)
    for parcel in courier.fetch_all(asked, len(wanted)):
        name = _shown(parcel.key)
        if parcel.fetched is None:
            lost[parcel.key] = parcel.fault
        else:
            found[parcel.key] = _found(parcel.fetched, name)
    courier.notes.append(f"Fetched {len(found):,} of {len(wanted):,} files.")
    for table in tables:
        _take_out(table, lost, skips)
    return found


def _ask(
    wanted: dict[str, None], base: Address | None, lost: dict[str, str]
) -> Iterator[tuple[str, Address]]:
    for filename in wanted:
        try:
            if is_address(filename):
                yield filename, parse_address(filename, may_query=True)
            elif base is not None:
                yield filename, join_address(base, filename)
        except UserError as error:
            lost[filename] = str(error)


def _take_out(table: LabelTable, lost: dict[str, str], skips: SkipList) -> None:
    kept: list[LabelRow] = []
    for row in table.rows:
        if row.filename in lost:
            place = f"{table.name}, line {row.line}"
            reason = f"{_shown(row.filename)}: {lost[row.filename]}"
            skips.add(place, "not_fetched", reason)
        else:
            kept.append(row)
    table.rows = kept


def _shown(filename: str) -> str:
    """What a line calls its file, without what may be secret in an address."""
    shown = show_address(filename) if "://" in filename else filename
    return plain_name(shown)[:4096]
