"""Reads SPEC.json: which sources make the dataset version, and within which limits."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.errors import UserError
from shared.source_addresses import parse_address
from worker.ingest.dealing import Dealing, parse_dealing
from worker.ingest.disk import is_unreadable, refuse_source
from worker.ingest.edits import Edit, parse_edits
from worker.ingest.found import plain_name
from worker.ingest.grouping import find_column
from worker.ingest.limits import Limits, parse_limits
from worker.ingest.remote.rules import AddressRules, parse_rules

ARCHIVE, FOLDER, TABLE = "archive", "folder", "csv"
ADDRESS, VERSION = "address", "version"
ADD, REPLACE = "add", "replace"


@dataclass(frozen=True, slots=True)
class Source:
    """One thing that the user brought.

    Args:
        type: `archive`, `folder`, `csv` (a label table of any kind), `address` or
            `version`.
        path: Where it lies; nowhere yet for an address.
        name: The user's name for it.
        labels: Its label table: an absolute path, or the name of a file in it.
        number: Of a dataset version.
        group_column: The column of its label table that names groups.
        root: Of a label table: the folder or address below which its files lie.
        address: Where it is fetched from.
    """

    type: str
    path: Path
    name: str
    labels: str | None = None
    number: int | None = None
    group_column: str | None = None
    root: str | None = None
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One ingest.

    Args:
        sources: What the user brought; may be none where there is a parent.
        limits: What it may cost.
        dealing: How images without a given split are dealt.
        parent: The dataset version that this one is made from.
        mode: With a parent: `add` joins the sources to it, `replace` takes them alone.
        edits: What is done to the parent's pictures.
        addresses: What may be fetched.
        earlier: Folders of earlier attempts, which may hold proofs of pictures, and
            files that were fetched.
    """

    sources: list[Source]
    limits: Limits
    dealing: Dealing
    parent: Source | None = None
    mode: str = ADD
    edits: list[Edit] = field(default_factory=list)
    addresses: AddressRules = field(default_factory=AddressRules)
    earlier: list[Path] = field(default_factory=list)


def load_request(path: Path) -> Request:
    """Reads and validates SPEC.json.

    Raises:
        UserError: When it cannot be read or asks for what cannot be done.
    """
    try:
        spec = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(spec, dict) or not spec.get("sources"):
        raise UserError("`sources` must name at least one source.", field="sources")
    dealing = parse_dealing(spec.get("split") or {})
    column = find_column(dealing, _find_parent(spec["sources"]))
    sources = [_parse_source(entry, column) for entry in spec["sources"]]
    parents = [source for source in sources if source.type == VERSION]
    request = Request(
        sources=[source for source in sources if source.type != VERSION],
        limits=parse_limits(spec.get("limits") or {}),
        dealing=dealing,
        parent=parents[0] if parents else None,
        mode=spec.get("mode") or ADD,
        edits=parse_edits(spec.get("edits") or []),
        addresses=parse_rules(spec.get("addresses") or {}),
        earlier=[Path(folder) for folder in spec.get("earlier") or []],
    )
    _refuse_contradictions(request, len(parents))
    return request


def _refuse_contradictions(request: Request, parents: int) -> None:
    if parents > 1:
        raise UserError(
            f"`sources` may name one {VERSION}. Received: {parents}.", field="sources"
        )
    if request.mode not in (ADD, REPLACE):
        raise UserError(
            f"`mode` must be {ADD} or {REPLACE}. Received: mode={request.mode!r}.",
            field="mode",
        )
    if request.mode == REPLACE and not request.sources:
        raise UserError(
            f"`mode` {REPLACE} needs a source besides the version.", field="sources"
        )
    if request.edits and (request.parent is None or request.mode == REPLACE):
        raise UserError(
            f"`edits` change the pictures of a version: they go with a source of type "
            f"{VERSION} and `mode` {ADD}.",
            field="edits",
        )


def _find_parent(entries: list[Any]) -> Path | None:
    """Returns the folder of the version among the sources, as far as it is named."""
    for entry in entries:
        if isinstance(entry, dict) and entry.get("type") == VERSION:
            return Path(str(entry.get("path")))
    return None


def _parse_source(entry: Any, column: str | None) -> Source:
    if not isinstance(entry, dict):
        raise UserError(
            f"`sources` must list objects. Received: {entry!r}.", field="sources"
        )
    if entry.get("type") == ADDRESS:
        return _parse_address(entry, column)
    if entry.get("type") not in (ARCHIVE, FOLDER, TABLE, VERSION):
        raise UserError(
            f"`sources.type` must be {ARCHIVE}, {FOLDER}, {TABLE}, {ADDRESS} or "
            f"{VERSION}. "
            f"Received: type={entry.get('type')!r}.",
            field="sources",
        )
    if not isinstance(entry.get("path"), str):
        raise UserError(
            f"`sources.path` must be a path. Received: path={entry.get('path')!r}.",
            field="sources",
        )
    path = Path(entry["path"])
    name = plain_name(entry.get("name") or path.name)
    _require_there(path, name)
    number = entry.get("version")
    return Source(
        entry["type"],
        path,
        name,
        entry.get("labels"),
        number=number if isinstance(number, int) else None,
        group_column=column,
        root=entry.get("root"),
    )


def _require_there(path: Path, name: str) -> None:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(
            f"“{name}” is not there any more. Add it again.", field="sources"
        ) from error
    except OSError as error:
        if not is_unreadable(error):
            raise
        raise refuse_source(name, error) from error


def _parse_address(entry: dict[str, Any], column: str | None) -> Source:
    address = parse_address(str(entry.get("address", "")))
    return Source(
        ADDRESS,
        Path(),
        plain_name(entry.get("name") or address.name),
        entry.get("labels"),
        group_column=column,
        root=entry.get("root"),
        address=str(entry["address"]),
    )
