"""Has the doctor examine a dataset version, and tells what it found in numbers."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from worker.insight.doctor.examination import Likeness, examine, find_likeness
from worker.insight.doctor.finding import KINDS, Finding
from worker.insight.doctor.pictures import Pictures
from worker.insight.subject import Subject, View

MANIFEST, REPORT, QUARANTINE = "manifest.parquet", "report.json", "quarantine.parquet"
_BLOCK_ROWS = 4096


def gather_pictures(subject: Subject, view: View) -> Pictures:
    """Returns what the doctor looks at, in the order of the pack."""
    images = subject.images
    hashes: list[str] = []
    names: list[str] = []
    for at in range(0, len(images), _BLOCK_ROWS):
        rows = np.arange(at, min(at + _BLOCK_ROWS, len(images)))
        for text in images.describe(rows):
            hashes.append(text.sha256)
            names.append(text.name)
    widths, heights, groups = _read_manifest(subject.request.dataset, view)
    return Pictures(
        features=view.made.features,
        labels=images.labels,
        classes=images.classes,
        splits=images.splits,
        pixels=view.made.pack.pixels,
        sha256s=hashes,
        names=names,
        widths_px=widths,
        heights_px=heights,
        groups=groups,
    )


def find_all(subject: Subject, pictures: Pictures) -> tuple[list[Finding], Likeness]:
    """Returns every finding, and who resembles whom."""
    folder = subject.request.dataset
    with subject.booked("doctor"):
        likeness = find_likeness(pictures, threads=subject.threads)
        findings = examine(
            pictures,
            report=_read_report(folder),
            quarantine=_read_quarantine(folder),
            accepted=subject.request.accepted,
            likeness=likeness,
        )
    return findings, likeness


def count_findings(
    findings: Sequence[Finding], accepted: frozenset[str]
) -> dict[str, Any]:
    """Returns the section `findings` of forecast.json; accepted ones count apart."""
    fresh = Counter(f.kind for f in findings if f.key not in accepted)
    return {
        "counts": {kind: fresh[kind] for kind in KINDS if fresh[kind]},
        "total": fresh.total(),
        "accepted": len(findings) - fresh.total(),
    }


def list_shown(
    pictures: Pictures, findings: Sequence[Finding], difficulty: dict[str, Any]
) -> list[int]:
    """Returns the rows that pages show: of findings, and examples of confusions."""
    place = {sha256: row for row, sha256 in enumerate(pictures.sha256s)}
    examples = [
        example["sha256"]
        for confusion in difficulty["confusions"]
        for example in confusion["examples"]
    ]
    found = [sha256 for finding in findings for sha256 in finding.images]
    return [place[sha256] for sha256 in [*examples, *found] if sha256 in place]


def _read_manifest(
    dataset: Path, view: View
) -> tuple[np.ndarray, np.ndarray, list[str | None] | None]:
    """Sizes and groups; without a manifest the pack's size stands for all."""
    path = dataset / MANIFEST
    if not path.is_file():
        sides = np.full(len(view.made.pack.pixels), view.made.pack.image_size_px)
        return sides, sides, None
    table = pq.read_table(path)
    widths, heights = (
        table[name].to_numpy().astype(np.int64) for name in ("width_px", "height_px")
    )
    has_groups = "group" in table.column_names
    return widths, heights, table["group"].to_pylist() if has_groups else None


def _read_report(dataset: Path) -> dict[str, Any]:
    path = dataset / REPORT
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _read_quarantine(dataset: Path) -> list[dict[str, Any]]:
    path = dataset / QUARANTINE
    return pq.read_table(path).to_pylist() if path.is_file() else []
