"""A dataset version's report, and what it changed, as ingest writes them."""

import hashlib
import random

TURNED = "71 pictures were turned upright as their EXIF data says."


def make_report(
    classes, *, skipped=3, conflicts=1, images=100, quarantined=2, notes=(TURNED,)
):
    """A report as ingest writes it."""
    draw = random.Random(len(classes))
    counts = {"train": {}, "val": {}, "test": {}}
    for label in classes:
        most = draw.randrange(images // 2, images)
        counts["train"][label] = int(most * 0.7)
        counts["val"][label] = counts["test"][label] = int(most * 0.15)
    total = sum(n for split in counts.values() for n in split.values())
    return {
        "classes": sorted(classes),
        "images": total,
        "size_bytes": total * 40_000,
        "counts": counts,
        "skipped": [
            {
                "file": f"cells/defective/scan-{i:04d}.bmp",
                "code": "truncated",
                "reason": "The file ends in the middle of the picture.",
            }
            for i in range(skipped)
        ],
        "skipped_total": skipped,
        "notes": list(notes),
        "conflicts": [
            {
                "files": ["a/1.jpg", "b/9.jpg"],
                "files_total": 25,
                "labels": list(classes[:2]),
            }
            for _ in range(min(conflicts, 500))
        ],
        "conflicts_total": conflicts,
        "duplicates": 4,
        "quarantine": [
            {
                "sha256": _digest(f"both {i}"),
                "name": f"both/{i}.jpg",
                "label": "" if i % 2 == 0 else min(classes),
                "labels": sorted(classes)[:2] if i % 2 == 0 else sorted(classes)[:1],
                "split": "",
                "reason": "You have set it aside.",
            }
            for i in range(quarantined)
        ],
        "quarantine_total": quarantined,
        "samples": [
            {
                "path": f"thumbnails/{_digest(f'{c}{i}')}.jpg",
                "label": c,
                "source_name": f"{c}/{i}.jpg",
            }
            for c in classes
            for i in range(6)
        ],
    }


def make_diff(number, changes=60):
    """A diff as ingest writes it, of so many pictures that were relabelled."""
    entries = [
        {"sha256": _digest(f"{n}"), "name": f"scan {n}.png", "from": "intact",
         "to": "defective"}
        for n in range(changes)
    ]  # fmt: skip
    others = dict.fromkeys(("added", "removed", "moved", "quarantined", "restored"), 0)
    return {
        "parent": {"version": number, "fingerprint": "f"},
        "counts": {**others, "relabelled": changes},
        "sentences": [f"{changes} pictures were relabelled."],
        **{kind: [] for kind in others},
        "relabelled": entries,
    }


def _digest(text):
    return hashlib.sha256(text.encode()).hexdigest()
