"""Reads SPEC.json: which sources make the dataset version, and within which limits."""

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from shared.errors import UserError
from worker.ingest.limits import Limits, parse_limits
from worker.ingest.split import SplitShares

ARCHIVE, FOLDER, TABLE = "archive", "folder", "csv"


@dataclass(frozen=True, slots=True)
class Source:
    """One thing that the user brought.

    Args:
        type: `archive`, `folder` or `csv`.
        path: Where it lies.
        name: The user's name for it.
        labels: Its label table: an absolute path, or the name of a file in it.
    """

    type: str
    path: Path
    name: str
    labels: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One ingest.

    Args:
        sources: At least one.
        limits: What it may cost.
        shares: How images without a given split are dealt.
        earlier: Folders of earlier attempts, which may hold proofs of pictures.
    """

    sources: list[Source]
    limits: Limits
    shares: SplitShares
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
    return Request(
        sources=[_parse_source(entry) for entry in spec["sources"]],
        limits=parse_limits(spec.get("limits") or {}),
        shares=_parse_shares(spec.get("split") or {}),
        earlier=[Path(folder) for folder in spec.get("earlier") or []],
    )


def _parse_source(entry: Any) -> Source:
    if not isinstance(entry, dict):
        raise UserError(
            f"`sources` must list objects. Received: {entry!r}.", field="sources"
        )
    if entry.get("type") not in (ARCHIVE, FOLDER, TABLE):
        raise UserError(
            f"`sources.type` must be {ARCHIVE}, {FOLDER} or {TABLE}. "
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
    return Source(entry["type"], path, name, entry.get("labels"))


def _parse_shares(wishes: dict[str, Any]) -> SplitShares:
    known = {known.name for known in fields(SplitShares)}
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
