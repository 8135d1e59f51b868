"""Writes a dataset version: pictures by content, manifest, report, thumbnails.

It is written into a new folder which is renamed to `final/` when everything in it is
durable; nobody changes it afterwards.
"""

import json
import shutil
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shared.artifacts import (
    fsync_file,
    link_or_copy,
    map_in_blocks,
    publish_folder,
    sha256_file,
    write_manifest,
)
from shared.errors import UserError
from worker.ingest.child_pool import Work, run_in_children
from worker.ingest.collect import Collected
from worker.ingest.content import Merged, fingerprint_rows
from worker.ingest.found import SkipList
from worker.ingest.limits import Limits
from worker.ingest.split import SPLITS
from worker.ingest.verify import REMARKS, Picture

MANIFEST_TABLE, REPORT = "manifest.parquet", "report.json"
SAMPLES_PER_CLASS = 8
MOST_SAMPLES = 400
MOST_CHANGES = 10_000
# Copying waits for the disk, not for the processor.
_WRITERS = 8
_ROWS_AT_ONCE = 20_000
_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("original", pa.string()),
        ("source_name", pa.string()),
        ("label", pa.string()),
        ("split", pa.string()),
        ("sha256", pa.string()),
        ("width_px", pa.int32()),
        ("height_px", pa.int32()),
    ]
)


@dataclass(frozen=True, slots=True)
class Version:
    """What a dataset version is made of.

    Args:
        merged: The pictures, one per content, sorted by hash.
        splits: The split of each.
        collected: Notes and conflicts found on the way.
        skips: What was left out.
        limits: Bounds for the children that make thumbnails.
    """

    merged: Merged[Picture]
    splits: list[str]
    collected: Collected
    skips: SkipList
    limits: Limits

    @property
    def rows(self) -> Iterator[tuple[Picture, str]]:
        """Every picture with its split."""
        return zip(self.merged.kept, self.splits, strict=True)


def write_version(
    version: Version, workdir: Path, report: Callable[[int, int], None]
) -> tuple[Path, str, dict[str, Any]]:
    """Publishes `WORKDIR/final`.

    Args:
        version: What goes into it.
        workdir: The attempt's folder.
        report: Called with written and all pictures.

    Returns:
        The folder, the SHA-256 of its manifest, and the report.

    Raises:
        UserError: A file of a folder on the server changed meanwhile.
        OSError: The disk is full.
    """
    folder = workdir / f".tmp-final-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    _place_all(version, workdir, folder, report)
    _write_table(version, folder)
    facts = _build_report(version)
    facts["samples"] = _write_samples(version, folder)
    (folder / REPORT).write_text(
        json.dumps(facts, ensure_ascii=False, indent=1), encoding="utf-8"
    )
    manifest_sha = write_manifest(folder, [MANIFEST_TABLE, REPORT], step=0)
    final = workdir / "final"
    publish_folder(folder, final)
    return final, manifest_sha, facts


def _paths(picture: Picture) -> tuple[str, str]:
    """Where training reads a picture and where its original lies, both relative."""
    name = f"{picture.sha256[:2]}/{picture.sha256}"
    if picture.rewritten is None:
        path = f"images/{name}{picture.suffix}"
        return path, path
    return f"images/{name}.png", f"originals/{name}{picture.suffix}"


def _place_all(
    version: Version,
    workdir: Path,
    folder: Path,
    report: Callable[[int, int], None],
) -> None:
    for picture in version.merged.kept:
        for path in _paths(picture):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(_WRITERS) as writers:
        placed = map_in_blocks(
            writers,
            lambda picture: _place(picture, workdir, folder),
            version.merged.kept,
        )
        for done, _ in enumerate(placed, start=1):
            report(done, len(version.splits))


def _place(picture: Picture, workdir: Path, folder: Path) -> None:
    """Puts one picture where it stays; the original is kept untouched."""
    path, original = _paths(picture)
    if picture.rewritten is not None:
        # Not moved: should this attempt be killed, the next takes the proof over.
        link_or_copy(picture.rewritten, folder / path)
        fsync_file(folder / path)
    if picture.path.is_relative_to(workdir):
        picture.path.replace(folder / original)
    else:
        shutil.copyfile(picture.path, folder / original)
        if sha256_file(folder / original) != picture.sha256:
            raise UserError(
                f"“{picture.name}” changed while it was read. Add the dataset again "
                "when nobody writes to its folder."
            )
    # Counted when it is durable: the flush at the end, of which nobody hears, is short.
    fsync_file(folder / original)


def _write_table(version: Version, folder: Path) -> None:
    with pq.ParquetWriter(folder / MANIFEST_TABLE, _SCHEMA) as writer:
        rows: list[dict[str, Any]] = []
        for picture, split in version.rows:
            path, original = _paths(picture)
            rows.append(
                {
                    "path": path,
                    "original": original,
                    "source_name": picture.name,
                    "label": picture.label,
                    "split": split,
                    "sha256": picture.sha256,
                    "width_px": picture.width_px,
                    "height_px": picture.height_px,
                }
            )
            if len(rows) == _ROWS_AT_ONCE:
                writer.write_table(pa.Table.from_pylist(rows, _SCHEMA))
                rows.clear()
        writer.write_table(pa.Table.from_pylist(rows, _SCHEMA))


def _build_report(version: Version) -> dict[str, Any]:
    counts = Counter((split, picture.label) for picture, split in version.rows)
    classes = sorted({label for _, label in counts})
    keyed = ((p.sha256, p.label, split) for p, split in version.rows)
    skips = version.skips
    return {
        "fingerprint": fingerprint_rows(keyed),
        "classes": classes,
        "images": len(version.splits),
        "size_bytes": sum(picture.size_bytes for picture, _ in version.rows),
        "counts": {
            split: {label: counts[split, label] for label in classes}
            for split in SPLITS
        },
        "skipped": [
            asdict(skip) for skip in sorted(skips.items, key=lambda skip: skip.file)
        ],
        "skipped_total": skips.total,
        "skipped_by_code": dict(sorted(skips.codes.items())),
        "changed": _list_changes(version),
        "notes": version.collected.notes + _merge_notes(version.merged),
        "conflicts": _list_conflicts(version),
        "duplicates": len(version.merged.copies),
    }


def _list_changes(version: Version) -> list[dict[str, str]]:
    """What was done to each picture that training does not read as it came."""
    changed = [picture for picture, _ in version.rows if picture.remarks]
    return [
        {
            "file": picture.name,
            "change": ", ".join(REMARKS[code] for code in picture.remarks),
        }
        for picture in sorted(changed, key=lambda picture: picture.name)
    ][:MOST_CHANGES]


def _list_conflicts(version: Version) -> list[dict[str, Any]]:
    groups = [
        ([picture.name for picture in group], sorted({p.label for p in group}))
        for group in version.merged.conflicts
    ]
    return [
        {"files": files, "labels": labels}
        for files, labels in [*groups, *version.collected.conflicts]
    ]


def _merge_notes(merged: Merged[Picture]) -> list[str]:
    notes = []
    if merged.conflicts:
        files = sum(map(len, merged.conflicts))
        notes.append(
            f"{files:,} pictures are the same as others with a different label. They "
            "are left out, since nobody but you can say which label is right."
        )
    if merged.copies:
        notes.append(
            f"{len(merged.copies):,} files are copies of others in their class; each "
            "picture is used once."
        )
    if merged.leaks:
        notes.append(
            f"{merged.leaks:,} pictures were given in several splits; each is kept in "
            "one, the test split first."
        )
    return notes


def _write_samples(version: Version, folder: Path) -> list[dict[str, str]]:
    """Makes thumbnails of the first pictures of each class, in the order of hashes."""
    by_label: dict[str, list[Picture]] = defaultdict(list)
    for picture in version.merged.kept:
        if len(by_label[picture.label]) < SAMPLES_PER_CLASS:
            by_label[picture.label].append(picture)
    chosen = [p for _, group in sorted(by_label.items()) for p in group][:MOST_SAMPLES]
    (folder / "thumbnails").mkdir()
    work = Work(
        module="worker.ingest.prove",
        function="thumbnail",
        seconds=version.limits.image_seconds,
        memory_bytes=version.limits.image_memory_bytes,
        children=1,
    )
    tasks = (
        (at, (str(folder / _paths(picture)[0]), str(folder / _thumbnail(picture))))
        for at, picture in enumerate(chosen)
    )
    made = {out.key for out in run_in_children(work, tasks) if out.fault is None}
    return [
        {
            "path": _thumbnail(picture),
            "label": picture.label,
            "source_name": picture.name,
        }
        for at, picture in enumerate(chosen)
        if at in made
    ]


def _thumbnail(picture: Picture) -> str:
    return f"thumbnails/{picture.sha256}.jpg"
