"""What a dataset version tells of the one that it was made from, and of quarantine."""

import json
from typing import Any

from sqlalchemy.orm import Session

from shared import dataset_store
from shared.artifacts import Storage
from shared.errors import NotFoundError, RetryableError
from shared.file_locks import is_gone
from shared.tables import DatasetVersion
from web.datasets.decision import MAX_IMAGES
from web.datasets.report import list_thumbnails
from web.datasets.restoring import count_reasons
from web.paging import cut_page

KINDS = ("added", "removed", "relabelled", "moved", "quarantined", "restored")
DIFF = "diff.json"
DIFF_TABLE = "diff.parquet"  # every change; diff.json lists the first of each kind
PAGE_SIZE = 50
QUARANTINE_PAGE_SIZE = 24


def describe_version(session: Session, version: DatasetVersion) -> dict[str, Any]:
    """Returns a version in plain values, as the API gives it."""
    return {
        "version": version.version,
        "parent": dataset_store.find_parent_number(session, version),
        "images": version.images,
        "quarantine": version.report.get("quarantine_total") or 0,
        "classes": version.report.get("classes") or [],
        "size_bytes": version.size_bytes,
        "fingerprint": version.fingerprint,
        "job_id": version.job_id,
        "changes": version.changes,
        "created_at": version.created_at,
    }


def read_diff(storage: Storage, version: DatasetVersion) -> dict[str, Any]:
    """Returns diff.json of a version.

    Raises:
        NotFoundError: When it was made from no other version, or the file is damaged or
            lost; names that.
        RetryableError: When shared storage is away.
    """
    if version.parent_id is None:
        raise NotFoundError(
            f"Version {version.version} was made from no other version, so there is "
            "nothing to compare it with."
        )
    path = storage.resolve(version.rel_path) / DIFF
    try:
        diff = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _lost(version, "is damaged") from error
    except OSError as error:
        # Of a version that is there only its file can be missing; where nothing of it
        # is there, the whole storage is.
        if is_gone(error) and path.parent.is_dir():
            raise _lost(version, "is missing") from error
        raise RetryableError(
            f"What version {version.version} changed cannot be read: shared storage is "
            "away."
        ) from error
    if not isinstance(diff, dict):
        raise _lost(version, "is damaged")
    return diff


def page_quarantine(
    storage: Storage, version: DatasetVersion | None, report: dict[str, Any]
) -> dict[str, Any]:
    """Returns one page of the pictures in quarantine, for the dataset's page.

    Each tells its `thumbnail`, which only the first few hundred have. `reasons` counts
    those of all pages that can come back, by why they are there.
    """
    listed = report.get("quarantine") or []
    rows, pager = cut_page(
        listed,
        QUARANTINE_PAGE_SIZE,
        parameter="quarantine",
        endpoint="datasets.show",
    )
    names = {f"{row.get('sha256')}.jpg" for row in rows}
    there = list_thumbnails(storage, version, names) if version else set()
    total = report.get("quarantine_total") or len(listed)
    return {
        "rows": [row | {"thumbnail": _name(row, there)} for row in rows],
        "total": total,
        "pager": pager,
        "reasons": count_reasons(storage, version) if version and total else {},
        "most": MAX_IMAGES,
    }


def _lost(version: DatasetVersion, what: str) -> NotFoundError:
    return NotFoundError(
        f"What version {version.version} changed cannot be told: "
        f"{version.rel_path}/{DIFF} on shared storage {what}. Restore that file from a "
        "backup; its pictures are not concerned."
    )


def _name(row: dict[str, Any], there: set[str]) -> str | None:
    name = f"{row.get('sha256')}.jpg"
    return name if name in there else None


def find_table(storage: Storage, version: DatasetVersion) -> str | None:
    """Returns where on shared storage a version's whole diff lies, if it has one."""
    path = f"{version.rel_path}/{DIFF_TABLE}"
    return path if storage.resolve(path).is_file() else None


def list_cut(diff: dict[str, Any], kind: str | None) -> list[dict[str, Any]]:
    """Returns the kinds of changes of which not all are listed, with both numbers."""
    kinds = [kind] if kind in KINDS else KINDS
    counts = diff.get("counts") or {}
    numbers = [(name, len(diff.get(name) or []), counts.get(name, 0)) for name in kinds]
    return [
        {"kind": name, "listed": listed, "total": total}
        for name, listed, total in numbers
        if total > listed
    ]


def list_changes(diff: dict[str, Any], kind: str | None) -> list[dict[str, Any]]:
    """Returns the changes of one kind, or all, each with its `kind`."""
    kinds = [kind] if kind in KINDS else KINDS
    return [{"kind": name, **entry} for name in kinds for entry in diff.get(name) or []]
