"""What the tables of a dataset version say of its pictures, read a part at a time."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from shared.artifacts import Storage
from shared.picture_folders import makes_groups
from shared.tables import DatasetVersion
from web.ranges import dig

MANIFEST, QUARANTINE = "manifest.parquet", "quarantine.parquet"
BATCH_ROWS = 8192
_REMEMBERED = 256  # versions; none of them ever changes


@dataclass(frozen=True)
class KnownPicture:
    """A picture of a version.

    Args:
        name: The user's name for it.
        label: Its class; empty in quarantine while several are claimed.
        split: Where it is, or was; empty if it was never dealt.
        in_use: Whether it is not in quarantine.
        labels: All that it was given, of one in quarantine.
    """

    name: str
    label: str
    split: str
    in_use: bool
    labels: tuple[str, ...] = ()


def find_pictures(
    storage: Storage, version: DatasetVersion, wanted: Collection[str]
) -> dict[str, KnownPicture] | None:
    """Returns those of the pictures that the version has, by SHA-256.

    None where nobody can tell: its tables are out of reach.
    """
    columns = ["sha256", "source_name", "label", "split"]
    folder = storage.resolve(version.rel_path)
    try:
        used = list(_list_rows(folder / MANIFEST, columns, wanted))
        aside = []
        if (folder / QUARANTINE).is_file():  # versions from before have none
            aside = list(_list_rows(folder / QUARANTINE, [*columns, "labels"], wanted))
    except (OSError, ValueError):
        return None
    found = {row["sha256"]: _make_picture(row, in_use=False) for row in aside}
    return found | {row["sha256"]: _make_picture(row, in_use=True) for row in used}


def list_restorable(folder: Path) -> Iterator[tuple[str, str]]:
    """Yields SHA-256 and reason of each picture in quarantine that has one label.

    Args:
        folder: Of the version.

    Raises:
        OSError: Its table cannot be read, or it is of before there was one.
        ValueError: It is no such table.
    """
    for batch in _read_batches(folder / QUARANTINE, ["sha256", "label", "reason"]):
        for row in batch.to_pylist():
            if row["label"]:
                yield row["sha256"], row["reason"] or ""


def has_folder_groups(storage: Storage, version: DatasetVersion) -> bool | None:
    """Whether each folder could stay in one split; None where nobody can tell."""
    classes = version.report.get("classes") or []
    # Those of classes that were merged into others, too.
    before = dig(version.report, "split", "class_folders") or []
    folder = storage.resolve(version.rel_path)
    try:
        return _has_folder_groups(folder, frozenset([*classes, *before]))
    except (OSError, ValueError):
        return None


@lru_cache(maxsize=_REMEMBERED)
def _has_folder_groups(folder: Path, classes: frozenset[str]) -> bool:
    names = (
        name
        for batch in _read_batches(folder / MANIFEST, ["source_name"])
        for name in batch["source_name"].to_pylist()
    )
    return makes_groups(names, classes)


def _list_rows(
    path: Path, columns: list[str], wanted: Collection[str]
) -> Iterator[dict[str, Any]]:
    for batch in _read_batches(path, columns):
        digests = batch["sha256"].to_pylist()
        inside = [at for at, digest in enumerate(digests) if digest in wanted]
        yield from batch.take(inside).to_pylist() if inside else ()


def _read_batches(path: Path, columns: list[str]) -> Iterator[Any]:
    # Imported when it is needed: most web processes are never asked for pictures.
    import pyarrow.parquet as pq  # noqa: PLC0415

    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=BATCH_ROWS, columns=columns)


def _make_picture(row: dict[str, Any], *, in_use: bool) -> KnownPicture:
    return KnownPicture(
        name=row["source_name"] or "",
        label=row["label"] or "",
        split=row["split"] or "",
        in_use=in_use,
        labels=tuple(row.get("labels") or ()),
    )
