"""Writes a dataset version: pictures by content, manifest, report, thumbnails.

It is written into a new folder which is renamed to `final/` when everything in it is
durable; nobody changes it afterwards.
"""

import json
import os
import shutil
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from shared.artifacts import publish_folder, write_manifest
from worker.ingest.collect import Collected
from worker.ingest.content import Merged, fingerprint_rows
from worker.ingest.found import SkipList
from worker.ingest.split import SPLITS
from worker.ingest.verify import Picture

MANIFEST_TABLE, REPORT = "manifest.parquet", "report.json"
SAMPLES_PER_CLASS = 8
MOST_SAMPLES = 400
_THUMBNAIL_PX = 256


def write_version(
    workdir: Path,
    merged: Merged[Picture],
    splits: list[str],
    collected: Collected,
    skips: SkipList,
    report: Callable[[int, int], None],
) -> tuple[Path, str, dict[str, Any]]:
    """Publishes `WORKDIR/final`.

    Args:
        workdir: The attempt's folder.
        merged: The pictures, one per content.
        splits: The split of each.
        collected: Notes and conflicts found on the way.
        skips: What was left out.
        report: Called with written and all pictures.

    Returns:
        The folder, the SHA-256 of its manifest, and the report.

    Raises:
        OSError: The disk is full.
    """
    folder = workdir / f".tmp-final-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    rows = []
    for done, (picture, split) in enumerate(
        zip(merged.kept, splits, strict=True), start=1
    ):
        rows.append(_place(picture, split, folder))
        report(done, len(splits))
    columns = {name: [row[name] for row in rows] for name in _SCHEMA.names}
    pq.write_table(pa.table(columns, schema=_SCHEMA), folder / MANIFEST_TABLE)
    facts = _report(merged, rows, collected, skips)
    facts["samples"] = _write_samples(rows, folder)
    (folder / REPORT).write_text(json.dumps(facts, ensure_ascii=False, indent=1))
    manifest_sha = write_manifest(folder, [MANIFEST_TABLE, REPORT], step=0)
    final = workdir / "final"
    publish_folder(folder, final)
    return final, manifest_sha, facts


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


def _place(picture: Picture, split: str, folder: Path) -> dict[str, Any]:
    """Puts one picture where it stays; the original is kept untouched."""
    name = f"{picture.sha256[:2]}/{picture.sha256}"
    path = original = f"images/{name}{picture.suffix}"
    if picture.rewritten:
        path = f"images/{name}.png"
        original = f"originals/{name}{picture.suffix}"
        _bring(picture.rewritten, folder / path)
    _bring(picture.path, folder / original)
    return {
        "path": path,
        "original": original,
        "source_name": picture.name,
        "label": picture.label,
        "split": split,
        "sha256": picture.sha256,
        "width_px": picture.width_px,
        "height_px": picture.height_px,
        "size_bytes": picture.size_bytes,
    }


def _bring(source: Path, target: Path) -> None:
    """Links a file of this attempt's own; copies one that belongs to somebody else."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_relative_to(target.parents[3]):
        os.link(source, target)
    else:
        shutil.copyfile(source, target)


def _report(
    merged: Merged[Picture],
    rows: list[dict[str, Any]],
    collected: Collected,
    skips: SkipList,
) -> dict[str, Any]:
    counts = Counter((row["split"], row["label"]) for row in rows)
    classes = sorted({row["label"] for row in rows})
    keyed = [(row["sha256"], row["label"], row["split"]) for row in rows]
    notes = list(collected.notes)
    if merged.leaks:
        notes.append(
            f"{merged.leaks} pictures were given in several splits; each was kept in "
            "one only, the test split first."
        )
    conflicts = [
        {"files": [p.name for p in group], "labels": sorted({p.label for p in group})}
        for group in merged.conflicts
    ] + [{"files": files, "labels": labels} for files, labels in collected.conflicts]
    return {
        "fingerprint": fingerprint_rows(keyed),
        "classes": classes,
        "images": len(rows),
        "size_bytes": sum(row["size_bytes"] for row in rows),
        "counts": {
            split: {label: counts[split, label] for label in classes}
            for split in SPLITS
        },
        "skipped": [asdict(item) for item in skips.items],
        "skipped_total": skips.total,
        "skipped_by_code": dict(skips.codes),
        "notes": notes,
        "conflicts": conflicts,
        "duplicates": merged.duplicates,
    }


def _write_samples(rows: list[dict[str, Any]], folder: Path) -> list[dict[str, str]]:
    """Makes thumbnails of the first pictures of each class, in the order of hashes."""
    by_label: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if len(by_label[row["label"]]) < SAMPLES_PER_CLASS:
            by_label[row["label"]].append(row)
    samples = []
    (folder / "thumbnails").mkdir()
    for row in [row for chosen in by_label.values() for row in chosen][:MOST_SAMPLES]:
        name = f"thumbnails/{row['sha256']}.jpg"
        with Image.open(folder / row["path"], formats=("JPEG", "PNG")) as image:
            image.draft("RGB", (_THUMBNAIL_PX, _THUMBNAIL_PX))
            image.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
            image.convert("RGB").save(folder / name, "JPEG", quality=80)
        samples.append(
            {"path": name, "label": row["label"], "source_name": row["source_name"]}
        )
    return samples
