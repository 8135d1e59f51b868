"""A dataset version's report and thumbnails, read from shared storage."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from shared.artifacts import Storage
from shared.errors import NotFoundError
from shared.tables import DatasetVersion

_THUMBNAIL = re.compile(r"[0-9a-f]{8,64}\.(jpg|png|webp)")
MAX_SAMPLES = 24
SKIPPED_PAGE_SIZE = 25


def read_report(storage: Storage, version: DatasetVersion) -> dict[str, Any]:
    """Returns the whole report of a version; the row's copy when the file is away."""
    path = storage.resolve(version.rel_path) / "report.json"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return version.report
    return report if isinstance(report, dict) else version.report


def list_samples(report: dict[str, Any]) -> list[dict[str, str]]:
    """Returns sample pictures that have a thumbnail, a few of each class in turn."""
    by_label: dict[str, list[dict[str, str]]] = {}
    for sample in report.get("samples") or []:
        name = Path(str(sample.get("path", ""))).name
        if _THUMBNAIL.fullmatch(name):
            label = str(sample.get("label", ""))
            by_label.setdefault(label, []).append(
                {
                    "file": name,
                    "label": label,
                    "source_name": str(sample.get("source_name", "")),
                }
            )
    turns = zip_longest_lists(list(by_label.values()))
    return turns[:MAX_SAMPLES]


def zip_longest_lists(lists: list[list[Any]]) -> list[Any]:
    """Returns the first of each list, then the second of each, and so on."""
    longest = max(map(len, lists), default=0)
    return [row[i] for i in range(longest) for row in lists if i < len(row)]


def list_thumbnails(
    storage: Storage, version: DatasetVersion, names: Iterable[str]
) -> set[str]:
    """Returns those of these file names that are thumbnails of the version."""
    folder = storage.resolve(version.rel_path) / "thumbnails"
    return {name for name in names if (folder / name).is_file()}


def find_thumbnail(storage: Storage, version: DatasetVersion, name: str) -> Path:
    """Returns the file of a thumbnail.

    Raises:
        NotFoundError: When `name` is no thumbnail's name, or there is none.
    """
    if not _THUMBNAIL.fullmatch(name):
        raise NotFoundError("There is no such thumbnail.")
    path = storage.resolve(version.rel_path) / "thumbnails" / name
    if not path.is_file():
        raise NotFoundError("There is no such thumbnail.")
    return path
