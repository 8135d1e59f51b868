"""A version whose tables and counts agree: few pictures, by name, class and split."""

from shared import dataset_store
from tests.web.forecast_example import digest_of, make_findings
from worker.ingest.version_tables import (
    MANIFEST_TABLE,
    QUARANTINE_TABLE,
    write_table,
)

SPLITS = ("train", "val", "test")


def make_pictures(label, train, val=1, test=1, folder=""):
    """Names, classes and splits of so many pictures of one class."""
    numbers = {"train": train, "val": val, "test": test}
    return [
        (f"{folder}{label}/{split} {number}.png", label, split)
        for split, count in numbers.items()
        for number in range(count)
    ]


def write_version(rows, dataset_id, pictures, aside=(), split=None):
    """Makes the dataset's newest version one of these pictures.

    `aside` are in quarantine: name, class and all labels of each.
    """
    classes = sorted({label for _, label, _ in pictures})
    counts = {part: dict.fromkeys(classes, 0) for part in SPLITS}
    for _, label, part in pictures:
        counts[part][label] += 1
    with rows.database.transaction() as s:
        version = dataset_store.latest_version(s, dataset_id)
        facts = {"classes": classes, "counts": counts, "split": split or {}}
        version.report = version.report | facts
    folder = rows.storage.resolve(version.rel_path)
    write_table(folder, MANIFEST_TABLE, [_make_row(*one) for one in pictures])
    write_table(
        folder,
        QUARANTINE_TABLE,
        [
            _make_row(name, label, "") | {"labels": labels, "reason": "It is odd."}
            for name, label, labels in aside
        ],
    )


def make_outliers(pictures):
    """One finding for each of these pictures."""
    found = make_findings(counts={"outlier": len(pictures)})
    for row, (name, label, split) in zip(found, pictures, strict=True):
        row |= {"images": [digest_of(name)], "names": [name]}
        row |= {"labels": [label], "splits": [split]}
    return found


def _make_row(name, label, split):
    digest = digest_of(name)
    path = f"images/{digest[:2]}/{digest}.png"
    return {
        "path": path, "original": path, "source_name": name, "label": label,
        "split": split, "sha256": digest, "width_px": 8, "height_px": 8, "group": None,
    }  # fmt: skip
