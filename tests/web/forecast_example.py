"""A forecast as a worker publishes it: a small believable forecast.json and findings.

`write_forecast(folder)` leaves what the folder of a published forecast holds.
"""

import hashlib
import json

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from shared.artifacts import write_manifest

CLASSES = ("intact", "defective")
FINDINGS = pa.schema(
    [
        ("key", pa.string()),
        ("kind", pa.string()),
        ("score", pa.float32()),
        ("sentence", pa.string()),
        ("action", pa.string()),
        ("images", pa.list_(pa.string())),
        ("names", pa.list_(pa.string())),
        ("labels", pa.list_(pa.string())),
        ("splits", pa.list_(pa.string())),
        ("suggested_label", pa.string()),
        ("group", pa.int32()),
    ]
)
# How many of each kind the example has; the other kinds found nothing.
COUNTS = {
    "label_conflict": 1,
    "split_leak": 2,
    "near_duplicate": 3,
    "exact_duplicate": 1,
    "suspect_label": 4,
    "outlier": 2,
    "too_dark": 1,
    "blurred": 2,
    "imbalance": 1,
    "unreadable": 1,
}
_ACTIONS = {
    "label_conflict": "relabel",
    "split_leak": "split",
    "near_duplicate": "split",
    "suspect_label": "relabel",
    "outlier": "quarantine",
    "too_dark": "quarantine",
    "blurred": "quarantine",
}
_IMAGES = {
    "near_duplicate": 3,
    "split_leak": 2,
    "exact_duplicate": 0,
    "unreadable": 0,
    "imbalance": 0,
}
_GIB = 2**30


def digest_of(text):
    """A SHA-256 for a picture or a key."""
    return hashlib.sha256(text.encode()).hexdigest()


def make_forecast(classes=CLASSES, **changes):
    """Returns forecast.json as values; `changes` replace whole entries."""
    first, second = classes[0], classes[-1]
    points = [
        (0.1, 42, 0.71, [0.62, 0.79]),
        (0.25, 105, 0.79, [0.73, 0.84]),
        (0.5, 210, 0.84, [0.80, 0.88]),
        (1.0, 420, 0.875, [0.84, 0.90]),
    ]
    return {
        "version": 1,
        "fingerprint": digest_of("fingerprint"),
        "base_model": "EfficientNetLite0",
        "images": {"train": 420, "val": 90, "test": 90, "quarantine": 0},
        "classes": list(classes),
        "difficulty": {
            "majority": {"accuracy": 0.55, "label": first},
            "nearest_neighbour": {"accuracy": 0.81, "interval": [0.77, 0.84]},
            "probe": {
                "accuracy": 0.875,
                "interval": [0.84, 0.90],
                "folds": 5,
                "recall": dict.fromkeys(classes, 0.87),
            },
            "confusions": [
                {
                    "truth": second,
                    "taken_for": first,
                    "count": 21,
                    "share": 0.11,
                    "examples": [_picture("suspect_label", 0, 0)],
                }
            ],
            "grade": "moderate",
            "sentence": "Moderate: a linear classifier on frozen features gets 87.5 % "
            f"right (84 to 90), and takes {second} for {first} most often.",
        },
        "presets": {
            "fast": _make_preset("fast", (0.84, 0.88, 0.91), (25, 40, 70)),
            "balanced": _make_preset("balanced", (0.87, 0.91, 0.94), (300, 420, 640)),
            "best": _make_preset("best", (0.88, 0.92, 0.95), (700, 980, 1500)),
        },
        "doubts": None,
        "base_models_left_out": [],
        "learning_curve": {
            "points": [
                {"share": s, "images": n, "accuracy": a, "interval": i}
                for s, n, a, i in points
            ],
            "fit": {
                "formula": "error = a + b * images^-c",
                "a": 0.024,
                "b": 1.28,
                "c": 0.42,
            },
            "ahead": [{"images": 840, "accuracy": 0.9, "interval": [0.86, 0.93]}],
            "by_class": [
                {
                    "label": second,
                    "images": 190,
                    "more": 190,
                    "gain_points": 1.6,
                    "interval": [0.2, 3.0],
                    "overall_points": 0.7,
                    "sentence": f"Twice as many pictures of {second} would gain "
                    "about 1.6 points.",
                }
            ],
            "sentence": "Twice as many pictures would bring it to about 90 %.",
        },
        "base_models": [
            _make_base(
                "EfficientNetLite0", 0.875, 4.1234, 3_413_024, 224, winner=False
            ),
            _make_base("EfficientNetLite1", 0.881, 6.0, 4_190_000, 240, winner=True),
        ],
        "winner": "EfficientNetLite1",
        "findings": {
            "counts": COUNTS,
            "most_listed": 2000,
            "total": sum(COUNTS.values()),
            "accepted": 0,
        },
        "seconds": {
            "features": 4.2,
            "doctor": 2.0,
            "probe": 1.1,
            "leaderboard": 6.3,
            "timing": 3.0,
        },
        "worker": {"id": 1, "name": "host cpu"},
        **changes,
    }


def make_findings(classes=CLASSES, counts=COUNTS):
    """Returns the rows of findings.parquet in the order of pages."""
    return [
        _make_finding(classes, kind, number, count)
        for kind, count in counts.items()
        for number in range(count)
    ]


def write_forecast(folder, forecast=None, findings=None):
    """Writes the folder of a forecast; returns the SHA-256 of its manifest."""
    findings = make_findings() if findings is None else findings
    (folder / "thumbnails").mkdir(parents=True)
    text = json.dumps(forecast or make_forecast())
    (folder / "forecast.json").write_text(text)
    pq.write_table(
        pa.Table.from_pylist(findings, FINDINGS), folder / "findings.parquet"
    )
    for number, sha256 in enumerate(list_pictures(findings)):
        colour = (40 + 60 * (number % 4), 90, 160)
        path = folder / "thumbnails" / f"{sha256}.jpg"
        Image.new("RGB", (96, 96), colour).save(path)
    return write_manifest(folder, ["forecast.json", "findings.parquet"])


def list_pictures(findings):
    """Returns the digests of all pictures in findings."""
    return list(dict.fromkeys(sha for row in findings for sha in row["images"]))


def _picture(kind, number, place):
    name = f"{kind}/{number:03d}-{place}.jpg"
    return {"sha256": digest_of(name), "name": name}


def _make_finding(classes, kind, number, count):
    pictures = [_picture(kind, number, i) for i in range(_IMAGES.get(kind, 1))]
    labels = [classes[i % len(classes)] for i in range(len(pictures))]
    return {
        "key": digest_of(f"{kind} {number}")[:32],
        "kind": kind,
        "score": 1 - number / (count + 1),
        "sentence": f"Number {number + 1} of what was found: {kind.replace('_', ' ')}.",
        "action": _ACTIONS.get(kind, "none"),
        "images": [picture["sha256"] for picture in pictures],
        "names": [picture["name"] for picture in pictures] or [f"{kind}.jpg"],
        "labels": labels,
        "splits": ["train", "test", "val"][: len(pictures)],
        "suggested_label": classes[-1] if kind == "suspect_label" else None,
        "group": number if kind in {"near_duplicate", "split_leak"} else None,
    }


def _make_preset(name, accuracy, seconds):
    disk = {"pack": 63_000_000, "features": 12_000_000, "checkpoints": 45_000_000}
    low, middle, high = accuracy
    return {
        "accuracy": list(accuracy),
        "seconds": list(seconds),
        "memory_bytes": int(1.4 * _GIB),
        "disk_bytes": {
            **disk,
            "total": sum(disk.values()),
            "there": disk["pack"] + 8_000_000,
        },
        "obstacle": None,
        "sentence": f"{name}: {100 * low:.0f} to {100 * high:.0f} % right, about "
        f"{100 * middle:.0f}, in {seconds[1] / 60:.0f} min.",
    }


def _make_base(name, accuracy, seconds, parameters, size_px, *, winner):
    return {
        "name": name,
        "accuracy": accuracy,
        "interval": [accuracy - 0.03, accuracy + 0.03],
        "seconds_per_thousand": seconds,
        "parameters": parameters,
        "image_size_px": size_px,
        "is_winner": winner,
    }
