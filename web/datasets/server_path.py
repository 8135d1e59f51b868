"""Where a dataset comes from: paths and addresses, only where the settings allow it."""

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
from shared.source_kinds import (
    ARCHIVES,
    ARCHIVES_IN_WORDS,
    NAMED_TABLES,
    TABLES_IN_WORDS,
    require_source,
)

MOST_SOURCES = 200  # uploads among them are held open while the dataset is recorded


@dataclass(frozen=True)
class Wanted:
    """One source as somebody asks for it: a path, an address or an upload.

    Args:
        path: Absolute path of a folder, label table or archive of the server; or
        address: where an archive, a label table or a folder of a storage lies; or
        upload: the id of a finished upload.
        labels: Path of its label table; of an address also a name within it, and of
            an upload nothing else.
        root: Of a label table: the folder or address below which its files lie.
        sha256: Of an upload, as its client computed it.
    """

    path: str | None = None
    address: str | None = None
    upload: str | None = None
    labels: str | None = None
    root: str | None = None
    sha256: str | None = None

    def asked(self) -> dict[str, str]:
        """What makes two the same; a digest only checks what came."""
        facts = {**vars(self), "sha256": None}
        return {name: fact for name, fact in facts.items() if fact is not None}


@dataclass(frozen=True)
class Source:
    """What ingest reads from, in the words of its spec."""

    type: str  # folder | csv | archive | address
    place: str
    name: str
    labels: str | None = None
    root: str | None = None
    sha256: str | None = None

    def as_spec(self) -> dict[str, Any]:
        """Returns the entry of an ingest spec's `sources`."""
        key = "address" if self.type == "address" else "path"
        entry = {"type": self.type, key: self.place, "name": self.name}
        more = {"labels": self.labels, "root": self.root, "sha256": self.sha256}
        return entry | {name: fact for name, fact in more.items() if fact}


def refuse_senseless(wanted: list[Wanted]) -> None:
    """Returns when `wanted` are sources that may be looked for.

    Raises:
        UserError: When there is none or there are too many, or one is no source.
    """
    if not 1 <= len(wanted) <= MOST_SOURCES:
        raise UserError(
            f"`sources` must name 1 to {MOST_SOURCES} sources. "
            f"Received: {len(wanted)}.",
            field="sources",
        )
    for one in wanted:
        if [one.path, one.address, one.upload].count(None) != 2:  # noqa: PLR2004
            raise UserError(
                "A source must have either a `path`, an `address` or an `upload`.",
                field="sources",
            )
        if one.sha256 is not None and one.upload is None:
            raise UserError("`sha256` goes with an `upload`.", field="sources")


def find(settings: Settings, wanted: Wanted) -> Source:
    """Returns a path or an address that was asked for, in the words of ingest.

    Raises:
        UserError: When it lies outside of what the settings offer, does not exist, or
            is nothing that can be read.
    """
    root = find_root(settings, wanted.root)
    if wanted.address is not None:
        address = _check_address(settings, wanted.address)
        require_source(address)
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


def find_root(settings: Settings, root: str | None) -> str | None:
    """Returns the folder or address below which the files of a table lie.

    Raises:
        UserError: When the settings do not offer it.
    """
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
    if lower.endswith(ARCHIVES):
        return Source("archive", str(resolved), resolved.name)
    if lower.endswith(NAMED_TABLES):
        return Source("csv", str(resolved), resolved.name)
    raise UserError(
        f"{resolved.name} is neither a folder, a label table ({TABLES_IN_WORDS}) nor "
        f"a {ARCHIVES_IN_WORDS}.",
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
