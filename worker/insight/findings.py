"""Has the doctor examine a dataset version, and tells what it found in numbers."""

import json
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from worker import events
from worker.ingest.dealing import BY_COLUMN
from worker.insight.doctor import examination
from worker.insight.doctor.examination import Likeness
from worker.insight.doctor.finding import KINDS, Finding
from worker.insight.doctor.ingest_report import count_unlisted
from worker.insight.doctor.pictures import Pictures
from worker.insight.passes import Pass
from worker.insight.subject import Subject

MANIFEST, REPORT, QUARANTINE = "manifest.parquet", "report.json", "quarantine.parquet"
CONTENTS = "contents.parquet"
_BLOCK_ROWS = 4096
# Of one finding: the first picture, those that a page shows at once, and all it shows.
_PICTURES = (0, 1, 4, 24)


def gather_pictures(subject: Subject, made: Pass) -> Pictures:
    """Returns what the doctor looks at, in the order of the pack."""
    images = subject.images
    hashes: list[str] = []
    names: list[str] = []
    for at in range(0, len(images), _BLOCK_ROWS):
        rows = np.arange(at, min(at + _BLOCK_ROWS, len(images)))
        for text in images.describe(rows):
            hashes.append(text.sha256)
            names.append(text.name)
    widths, heights, groups = _read_manifest(subject.request.dataset, made)
    column, values = _read_column(subject.request.dataset, hashes)
    return Pictures(
        features=made.features,
        labels=images.labels,
        classes=images.classes,
        splits=images.splits,
        pixels=made.pack.pixels,
        sha256s=hashes,
        names=names,
        widths_px=widths,
        heights_px=heights,
        groups=groups,
        column=column,
        values=values,
    )


def find_likeness(subject: Subject, pictures: Pictures) -> Likeness:
    """Returns who resembles whom."""
    with subject.booked("doctor"):
        return examination.find_likeness(pictures, threads=subject.threads, tell=_tell)


def find_all(subject: Subject, pictures: Pictures, likeness: Likeness) -> list[Finding]:
    """Returns every finding."""
    folder = subject.request.dataset
    with subject.booked("doctor"):
        return examination.examine(
            pictures,
            report=_read_report(folder),
            quarantine=_read_quarantine(folder),
            accepted=subject.request.accepted,
            likeness=likeness,
            threads=subject.threads,
            tell=_tell,
        )


def count_findings(
    findings: Sequence[Finding], accepted: frozenset[str], dataset: Path
) -> dict[str, Any]:
    """Returns the section `findings` of forecast.json.

    All count, also those that are too many to be listed, by ingest already; accepted
    ones count apart.
    """
    known = Counter(f.kind for f in findings if f.key not in accepted)
    fresh = known + count_unlisted(_read_report(dataset))
    return {
        "counts": {kind: fresh[kind] for kind in KINDS if fresh[kind]},
        "most_listed": examination.MOST_FINDINGS,
        "total": fresh.total(),
        "accepted": len(findings) - known.total(),
    }


def list_shown(
    pictures: Pictures, findings: Sequence[Finding], difficulty: dict[str, Any]
) -> list[int]:
    """Returns the rows that pages show, the most important first.

    Examples of confusions; then one picture of every finding; then the others that a
    page shows at once, and those that it unfolds. The worst finding of each kind goes
    before the second ones, and so on: there may be more than there are thumbnails.
    """
    place = {sha256: row for row, sha256 in enumerate(pictures.sha256s)}
    examples = [
        example["sha256"]
        for confusion in difficulty["confusions"]
        for example in confusion["examples"]
    ]
    ranked = _rank(findings)
    found = [
        sha256
        for begin, end in pairwise(_PICTURES)
        for finding in ranked
        for sha256 in finding.images[begin:end]
    ]
    return [place[sha256] for sha256 in [*examples, *found] if sha256 in place]


def _rank(findings: Sequence[Finding]) -> list[Finding]:
    """Returns the first of each kind, then the second ones, and so on."""
    rank: Counter[str] = Counter()
    ranked = []
    for finding in findings:
        ranked.append((rank[finding.kind], finding))
        rank[finding.kind] += 1
    ranked.sort(key=lambda one: one[0])
    return [finding for _, finding in ranked]


def _read_manifest(
    dataset: Path, made: Pass
) -> tuple[np.ndarray, np.ndarray, list[str | None] | None]:
    """Sizes and groups; without a manifest the pack's size stands for all."""
    path = dataset / MANIFEST
    if not path.is_file():
        sides = np.full(len(made.pack.pixels), made.pack.image_size_px)
        return sides, sides, None
    table = pq.read_table(path)
    widths, heights = (
        table[name].to_numpy().astype(np.int64) for name in ("width_px", "height_px")
    )
    has_groups = "group" in table.column_names
    return widths, heights, table["group"].to_pylist() if has_groups else None


def _read_column(
    dataset: Path, hashes: Sequence[str]
) -> tuple[str | None, list[str | None]]:
    """The table's column of what belongs together, unless splits are dealt by it."""
    dealt = _read_report(dataset).get("split") or {}
    path = dataset / CONTENTS
    if not dealt.get("column") or dealt.get("by") == BY_COLUMN or not path.is_file():
        return None, []
    table = pq.read_table(path, columns=["sha256", "given_group"])
    columns = (table[name].to_pylist() for name in table.column_names)
    known = dict(zip(*columns, strict=True))
    return str(dealt["column"]), [known.get(sha256) for sha256 in hashes]


def _read_report(dataset: Path) -> dict[str, Any]:
    path = dataset / REPORT
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _read_quarantine(dataset: Path) -> list[dict[str, Any]]:
    path = dataset / QUARANTINE
    return pq.read_table(path).to_pylist() if path.is_file() else []


def _tell(unit: str, done: int, total: int) -> None:
    events.progress("doctor", done, total, unit)
