"""Datasets that lie on the server: found only under the configured folders."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.errors import UserError
from shared.settings import Settings
from web.datasets.upload import ARCHIVE_SUFFIXES

CSV_SUFFIXES = (".csv", ".tsv", ".txt")


@dataclass(frozen=True)
class Source:
    """A place that ingest reads from, in the words of its spec."""

    type: str  # folder | csv | archive
    path: Path

    def as_spec(self, labels: Path | None) -> dict[str, Any]:
        """Returns the entry of an ingest spec's `sources`."""
        entry = {
            "type": self.type,
            "path": str(self.path),
            "name": self.path.name,
        }
        return entry | ({"labels": str(labels)} if labels else {})


def find_source(settings: Settings, path: str) -> Source:
    """Returns what lies at `path` on the server.

    Raises:
        UserError: When it lies outside the configured folders (links followed), does
            not exist, or is neither a folder, a CSV nor an archive.
    """
    resolved = resolve(settings, path, field="path")
    if resolved.is_dir():
        return Source("folder", resolved)
    lower = resolved.name.lower()
    if lower.endswith(ARCHIVE_SUFFIXES):
        return Source("archive", resolved)
    if lower.endswith(CSV_SUFFIXES):
        return Source("csv", resolved)
    raise UserError(
        f"{resolved.name} is neither a folder, a CSV nor a .zip, .tar or .tar.gz.",
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
