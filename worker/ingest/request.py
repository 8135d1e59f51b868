"""Reads SPEC.json: which sources make the dataset version, and within which limits."""

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from shared.errors import UserError
from shared.source_addresses import parse_address
from worker.ingest.limits import Limits, parse_limits
from worker.ingest.remote.rules import AddressRules, parse_rules
from worker.ingest.split import SplitShares

ARCHIVE, FOLDER, TABLE, ADDRESS = "archive", "folder", "csv", "address"


@dataclass(frozen=True, slots=True)
class Source:
    """One thing that the user brought.

    Args:
        type: `archive`, `folder`, `csv` (a label table of any kind) or `address`.
        path: Where it lies; nowhere yet for an address.
        name: The user's name for it.
        labels: Its label table: an absolute path, or the name of a file in it.
        group_column: The column of its label table that names groups.
        root: Of a label table: the folder or address below which its files lie.
        address: Where it is fetched from.
    """

    type: str
    path: Path
    name: str
    labels: str | None = None
    group_column: str | None = None
    root: str | None = None
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One ingest.

    Args:
        sources: At least one.
        limits: What it may cost.
        shares: How images without a given split are dealt.
        addresses: What may be fetched.
    """

    sources: list[Source]
    limits: Limits
    shares: SplitShares
    addresses: AddressRules = field(default_factory=AddressRules)


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
    return Request(
        sources=[_parse_source(entry) for entry in spec["sources"]],
        limits=parse_limits(spec.get("limits") or {}),
        shares=_parse_shares(spec.get("split") or {}),
        addresses=parse_rules(spec.get("addresses") or {}),
    )


def _parse_source(entry: Any) -> Source:
    if not isinstance(entry, dict):
        raise UserError(
            f"`sources` must list objects. Received: {entry!r}.", field="sources"
        )
    if entry.get("type") == ADDRESS:
        return _parse_address(entry)
    if entry.get("type") not in (ARCHIVE, FOLDER, TABLE):
        raise UserError(
            f"`sources.type` must be {ARCHIVE}, {FOLDER}, {TABLE} or {ADDRESS}. "
            f"Received: type={entry.get('type')!r}.",
            field="sources",
        )
    if not isinstance(entry.get("path"), str):
        raise UserError(
            f"`sources.path` must be a path. Received: path={entry.get('path')!r}.",
            field="sources",
        )
    path = Path(entry["path"])
    name = entry.get("name") or path.name
    if not path.exists():
        raise UserError(
            f"“{name}” is not there any more. Add it again.", field="sources"
        )
    return Source(
        entry["type"], path, name, entry.get("labels"), root=entry.get("root")
    )


def _parse_address(entry: dict[str, Any]) -> Source:
    address = parse_address(str(entry.get("address", "")))
    return Source(
        ADDRESS,
        Path(),
        entry.get("name") or address.name,
        entry.get("labels"),
        root=entry.get("root"),
        address=str(entry["address"]),
    )


def _parse_shares(wishes: dict[str, Any]) -> SplitShares:
    known = {field.name for field in fields(SplitShares)}
    unknown = sorted(set(wishes) - known)
    if unknown:
        raise UserError(
            f"`split.{unknown[0]}` is not a setting of the split.", field="split"
        )
    for name, value in wishes.items():
        if not isinstance(value, int | float):
            raise UserError(
                f"`split.{name}` must be a number. Received: {name}={value!r}.",
                field="split",
            )
    return SplitShares(**wishes)
