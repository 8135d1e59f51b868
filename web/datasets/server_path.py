"""Datasets on the server or at an address: only where the settings allow it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shared.errors import UserError
from shared.settings import Settings
from shared.source_addresses import (
    Address,
    is_address,
    parse_address,
    parse_prefix,
    require_allowed,
)
from web.datasets.upload import ARCHIVE_SUFFIXES

TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".jsonl", ".ndjson")
MOST_SOURCES = 100


@dataclass(frozen=True)
class Wanted:
    """One source as somebody asks for it: a path of the server or an address.

    Args:
        path: Absolute path of a folder, label table or archive; or
        address: where an archive, a label table or a folder of a storage lies.
        labels: Path of its label table; of an address also a name within it.
        root: Of a label table: the folder or address below which its files lie.
    """

    path: str | None = None
    address: str | None = None
    labels: str | None = None
    root: str | None = None


@dataclass(frozen=True)
class Source:
    """A place that ingest reads from, in the words of its spec."""

    type: str  # folder | csv | archive | address
    place: str
    name: str
    labels: str | None = None
    root: str | None = None

    def as_spec(self) -> dict[str, Any]:
        """Returns the entry of an ingest spec's `sources`."""
        key = "address" if self.type == "address" else "path"
        entry = {"type": self.type, key: self.place, "name": self.name}
        entry |= {"labels": self.labels} if self.labels else {}
        return entry | ({"root": self.root} if self.root else {})


def find_sources(settings: Settings, wanted: list[Wanted]) -> list[Source]:
    """Returns what was asked for, in the words of ingest.

    Raises:
        UserError: When there is none or there are too many; when one lies outside of
            what the settings offer, does not exist, or is nothing that can be read.
    """
    if not 1 <= len(wanted) <= MOST_SOURCES:
        raise UserError(
            f"`sources` must name 1 to {MOST_SOURCES} sources. "
            f"Received: {len(wanted)}.",
            field="sources",
        )
    return [_find(settings, one) for one in wanted]


def _find(settings: Settings, wanted: Wanted) -> Source:
    if (wanted.path is None) == (wanted.address is None):
        raise UserError(
            "A source must have either a `path` or an `address`.", field="sources"
        )
    root = _find_root(settings, wanted.root)
    if wanted.address is not None:
        address = _check_address(settings, wanted.address)
        labels = _find_labels(settings, wanted.labels)
        return Source("address", str(address), address.name, labels, root)
    found = find_source(settings, wanted.path or "")
    labels = wanted.labels and resolve(settings, wanted.labels, field="labels")
    return replace(found, labels=str(labels) if labels else None, root=root)


def _check_address(settings: Settings, text: str) -> Address:
    address = parse_address(text)
    allowed = [parse_prefix(entry) for entry in settings.source_addresses]
    require_allowed(address, allowed)
    return address


def _find_root(settings: Settings, root: str | None) -> str | None:
    if not root:
        return None
    if is_address(root):
        return str(_check_address(settings, root))
    return str(resolve(settings, root, field="root"))


def _find_labels(settings: Settings, labels: str | None) -> str | None:
    """A path of the server, or the name of a file in what is fetched."""
    if not labels or not labels.startswith("/"):
        return labels or None
    return str(resolve(settings, labels, field="labels"))


def find_source(settings: Settings, path: str) -> Source:
    """Returns what lies at `path` on the server.

    Raises:
        UserError: When it lies outside the configured folders (links followed), does
            not exist, or is neither a folder, a label table nor an archive.
    """
    resolved = resolve(settings, path, field="path")
    if resolved.is_dir():
        return Source("folder", str(resolved), resolved.name)
    lower = resolved.name.lower()
    if lower.endswith(ARCHIVE_SUFFIXES):
        return Source("archive", str(resolved), resolved.name)
    if lower.endswith(TABLE_SUFFIXES):
        return Source("csv", str(resolved), resolved.name)
    raise UserError(
        f"{resolved.name} is neither a folder, a label table (.csv, .tsv, .parquet, "
        ".jsonl) nor a .zip, .tar or .tar.gz.",
        field="path",
    )


def resolve(settings: Settings, path: str, *, field: str) -> Path:
    """Returns `path` with every link followed, proved to lie under a dataset root.

    The same sentence answers a path that is outside and one that is not there, so
    that nobody can feel out the server's disk.
    """
    roots = [root.resolve() for root in settings.dataset_roots]
    if not roots:
        raise UserError(
            "This server offers no folders to add datasets from. Upload an archive, or "
            "have the operator list folders in TRAINYARD_DATASET_ROOTS.",
            field=field,
        )
    candidate = Path(path.strip())
    if "\0" in path or not candidate.is_absolute():
        raise UserError(
            f"Name the whole path, beginning with one of: {_shown(roots)}.",
            field=field,
        )
    resolved = candidate.resolve()
    inside = any(resolved == root or root in resolved.parents for root in roots)
    if not inside or not resolved.exists():
        raise UserError(
            f"There is nothing to read at that path under the folders this server "
            f"offers: {_shown(roots)}.",
            field=field,
        )
    return resolved


def _shown(roots: list[Path]) -> str:
    return ", ".join(str(root) for root in roots)
