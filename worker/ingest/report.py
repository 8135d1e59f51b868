"""What a dataset version tells of itself: `report.json`."""

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from worker.ingest.assemble import Version
from worker.ingest.content import Merged, fingerprint_rows
from worker.ingest.found import AGAIN, SkipList, list_first, shorten
from worker.ingest.join import AnyPicture
from worker.ingest.split import SPLITS
from worker.ingest.verify import REMARKS, Picture

MOST_CHANGES = 10_000
MOST_QUARANTINED = 10_000  # listed; quarantine.parquet holds all
MOST_NOTES, MOST_NOTE_CHARACTERS = 100, 2_000
MOST_CONFLICTS, MOST_NAMED = 10_000, 20  # groups, and names or labels of each


def build_report(version: Version) -> dict[str, Any]:
    """Returns the report of a version, its samples aside."""
    pictures = version.joined.pictures
    counts = Counter((split, picture.label) for picture, split in _rows(version))
    classes = sorted({label for _, label in counts})
    skips = version.skips
    return {
        "fingerprint": fingerprint_rows(
            (p.sha256, p.label, s) for p, s in _rows(version)
        ),
        "classes": classes,
        "images": len(pictures),
        "size_bytes": sum(picture.size_bytes for picture in pictures),
        "counts": {
            split: {label: counts[split, label] for label in classes}
            for split in SPLITS
        },
        "split": version.split,
        "skipped": _list_skipped(skips),
        "skipped_total": skips.total,
        "skipped_by_code": dict(sorted(skips.codes.items())),
        "changed": _list_changes(version),
        "notes": [
            *_list_notes(version.collected.notes),
            *_merge_notes(version.merged),
            *_note_again(version),
        ],
        "conflicts": _list_conflicts(version.merged),
        "conflicts_total": len(version.merged.conflicts),
        "duplicates": len(version.merged.copies),
        "quarantine": _list_quarantine(version),
        "quarantine_total": len(version.joined.quarantine),
    }


def _rows(version: Version) -> Iterator[tuple[AnyPicture, str]]:
    """Every picture with its split, in the order of the hashes."""
    return zip(version.joined.pictures, version.splits, strict=True)


def _list_skipped(skips: SkipList) -> list[dict[str, str]]:
    """Every file left out; `same_as` is there where a picture of the same is kept."""
    listed = sorted(skips.items, key=lambda skip: skip.file)
    return [
        {name: fact for name, fact in asdict(skip).items() if fact is not None}
        for skip in listed
    ]


def _list_changes(version: Version) -> list[dict[str, str]]:
    """What was done to each picture that training does not read as it came."""
    changed = (picture for picture in version.joined.pictures if picture.remarks)
    shown = heapq.nsmallest(MOST_CHANGES, changed, key=lambda picture: picture.name)
    return [
        {
            "file": picture.name,
            "change": ", ".join(REMARKS[code] for code in picture.remarks),
        }
        for picture in shown
    ]


def _list_conflicts(merged: Merged[Picture]) -> list[dict[str, Any]]:
    """What came under several labels now: the first groups, not all names of each."""
    return [_describe_conflict(group) for group in merged.conflicts[:MOST_CONFLICTS]]


def _describe_conflict(group: list[Picture]) -> dict[str, Any]:
    files = list(dict.fromkeys(picture.name for picture in group))
    labels = sorted({picture.label for picture in group})
    return {
        "files": [shorten(name) for name in files[:MOST_NAMED]],
        "files_total": len(files),
        "labels": [shorten(label) for label in labels[:MOST_NAMED]],
    }


def _list_quarantine(version: Version) -> list[dict[str, Any]]:
    return [
        {
            "sha256": entry.picture.sha256,
            "name": entry.picture.name,
            "label": entry.picture.label,
            "labels": entry.labels,
            "split": entry.picture.split or "",
            "reason": entry.reason,
        }
        for entry in version.joined.quarantine[:MOST_QUARANTINED]
    ]


def _list_notes(notes: list[str]) -> list[str]:
    """The notes on how the sources were understood, those that there is room for."""
    return list_first(
        [shorten(note, MOST_NOTE_CHARACTERS) for note in notes], MOST_NOTES
    )


def _merge_notes(merged: Merged[Picture]) -> list[str]:
    notes = []
    if merged.conflicts:
        notes.append(
            f"{len(merged.conflicts):,} pictures came under several labels. Each is "
            "kept once, in quarantine, since nobody but you can say which label is "
            "right."
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


def _note_again(version: Version) -> list[str]:
    count = version.skips.codes[AGAIN]
    if version.parent is None or not count:
        return []
    what = "file shows a picture" if count == 1 else "files show pictures"
    return [
        f"{count:,} {what} that {version.parent.name} has already; none is kept twice."
    ]
