"""Measures what the doctor finds of faults that were planted into real pictures.

Into TrashNet and elpv (see `accuracy`) are planted, in splits dealt beforehand: 5 % of
labels flipped to another class; 3 % copies, half of them in another split; 2 % copies
of training pictures in the test split. Copies take turns at being encoded anew at
quality 70, made smaller (70 % of each side), cropped (3 % of each side) and brightened
(by 15 %). Then comes the real ingest, one pass of EfficientNet-Lite0 and the real
examination. See `planted_faults`.

Recall is the share of what was planted that was found. Precision is the share of
findings that are about something planted, and **a lower bound**: the sets have wrong
labels and near duplicates of their own, which count as false here. `own` says how many
findings of copies show nothing planted. At half precision, all pictures are
ranked, whether their label is doubtful enough to be told or not.

The bar: at half precision, 80 % of the flipped labels, on one of the two sets. Exits 1
when it is missed.

    ./trainyard bench doctor [--sets elpv trashnet] [--data PATH] [--seed N] [--json]
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks import accuracy, engine_events, planted_faults
from benchmarks.planted_faults import Faults
from worker.insight.doctor.examination import examine, find_likeness, judge_labels
from worker.insight.doctor.finding import Finding
from worker.insight.doctor.label_errors import rank_labels
from worker.insight.doctor.pictures import Pictures

BAR, HALF = 0.8, 0.5
SEED = 2  # the doctor's thresholds were chosen looking at seed 1
BASE_MODEL = "EfficientNetLite0"
COPIES = ("near_duplicate", "split_leak", "label_conflict")


def measure(name: str, data: Path | None, seed: int, work: Path) -> dict[str, Any]:
    """Plants, ingests, examines; returns every figure of one set."""
    (work / "source").mkdir(parents=True)
    source = accuracy.find_pictures(name, data, work / "source")
    faults = planted_faults.plant(source, work / "planted", seed)
    given = {"type": "folder", "path": str(work / "planted"), "name": name}
    spec = {"kind": "ingest", "sources": [given]}
    finished = accuracy.run_child("worker.ingest.run", spec, work / "ingest")
    folder = Path(finished["path"])
    pictures = open_pictures(folder, work / "caches")
    report = json.loads((folder / "report.json").read_text())
    began = time.monotonic()
    likeness = find_likeness(pictures)
    found_seconds = time.monotonic() - began
    findings = examine(pictures, report=report, likeness=likeness, seed=seed)
    seconds = time.monotonic() - began
    ranked = rank_labels(judge_labels(pictures, likeness, seed=seed), pictures.labels)
    figures = judge_copies(findings, faults) | judge_flips(findings, faults)
    figures |= judge_ranking([str(pictures.names[row]) for row in ranked], faults)
    return figures | {
        "pictures": len(pictures),
        "flipped": len(faults.flips),
        "copied": len(faults.copies) + len(faults.leaks),
        "counts": count_kinds(findings),
        "seconds": {"likeness": round(found_seconds, 1), "all": round(seconds, 1)},
    }


def open_pictures(folder: Path, caches: Path) -> Pictures:
    """Returns a dataset version with the features of the base model."""
    # TensorFlow: only when there is something to compute.
    from shared.training_spec import TrainingSpec  # noqa: PLC0415
    from worker.training import features  # noqa: PLC0415
    from worker.training.frozen_base import FrozenBase  # noqa: PLC0415
    from worker.training.pack import open_or_build_pack, read_dataset  # noqa: PLC0415

    engine_events.silence()
    spec = TrainingSpec(base_model=BASE_MODEL, feature_views=1)
    base = FrozenBase(spec)
    pack = open_or_build_pack(
        read_dataset(folder),
        image_size_px=base.image_size_px,
        fit=spec.fit,
        caches=caches,
    )
    opened = features.open_or_compute_features(pack, base, spec, caches)
    rows = pq.read_table(folder / "manifest.parquet").to_pydict()
    return Pictures(
        features=opened.views[0],
        labels=pack.labels,
        classes=pack.classes,
        splits=pack.splits,
        pixels=pack.pixels,
        sha256s=rows["sha256"],
        names=rows["source_name"],
        widths_px=np.array(rows["width_px"]),
        heights_px=np.array(rows["height_px"]),
    )


def judge_copies(findings: list[Finding], faults: Faults) -> dict[str, Any]:
    """Returns recall and precision of findings of copies, and of leaks alone."""
    told = [set(f.names) for f in findings if f.kind in COPIES]
    leaks = [set(f.names) for f in findings if f.kind == "split_leak"]
    planted = [set(pair) for pair in (*faults.copies, *faults.leaks)]
    # The planted leaks, and the copies that landed in another split.
    leaked = [set(pair) for pair in planted if is_across(pair)]
    by_change = {}
    for change in dict.fromkeys(faults.changes.values()):
        some = [p for p in planted if any(faults.changes.get(n) == change for n in p)]
        by_change[change] = share(is_found(pair, told) for pair in some)
    return {
        "duplicate_recall": share(is_found(pair, told) for pair in planted),
        "duplicate_precision": share(holds_any(names, planted) for names in told),
        "duplicate_own": sum(not holds_any(names, planted) for names in told),
        "duplicate_recall_by_change": by_change,
        "leaked": len(leaked),
        "leak_recall": share(is_found(pair, leaks) for pair in leaked),
        "leak_precision": share(holds_any(names, leaked) for names in leaks),
        "leak_own": sum(not holds_any(names, leaked) for names in leaks),
    }


def judge_flips(findings: list[Finding], faults: Faults) -> dict[str, Any]:
    """Returns recall and precision of the suspects as they are told."""
    told = [f for f in findings if f.kind == "suspect_label"]
    right = [f for f in told if f.names[0] in faults.flips]
    corrected = [f for f in right if f.suggested_label == faults.flips[f.names[0]]]
    return {
        "flip_recall": round(len(right) / max(1, len(faults.flips)), 4),
        "flip_precision": round(len(right) / max(1, len(told)), 4),
        "flip_corrected": round(len(corrected) / max(1, len(right)), 4),
    }


def judge_ranking(names: list[str], faults: Faults) -> dict[str, Any]:
    """Returns the recall of the longest beginning of a ranking that is half right."""
    hits = np.cumsum([name in faults.flips for name in names])
    good = np.flatnonzero(hits >= HALF * np.arange(1, len(names) + 1))
    found = int(hits[good[-1]]) if len(good) else 0
    recall = found / max(1, len(faults.flips))
    return {"flip_recall_at_half_precision": round(recall, 4)}


def is_across(pair: set[str]) -> bool:
    """Whether two pictures lie in different splits."""
    return len({name.split("/")[0] for name in pair}) > 1


def is_found(pair: set[str], told: list[set[str]]) -> bool:
    """Whether one finding names both pictures."""
    return any(pair <= names for names in told)


def holds_any(names: set[str], pairs: list[set[str]]) -> bool:
    """Whether a finding is about something planted."""
    return any(pair <= names for pair in pairs)


def share(found: Any) -> float:
    """Returns the share that is true, 0 of nothing."""
    answers = list(found)
    return round(sum(answers) / max(1, len(answers)), 4)


def count_kinds(findings: list[Finding]) -> dict[str, int]:
    """Returns how many findings there are of each kind."""
    counts: dict[str, int] = {}
    for finding in findings:
        counts[finding.kind] = counts.get(finding.kind, 0) + 1
    return counts


def print_table(figures: dict[str, dict[str, Any]]) -> None:
    """Prints one line for each kind of fault and set."""
    print(f"{'set':10} {'fault':24} {'planted':>8} {'recall':>8} {'precision':>10}")
    for name, row in figures.items():
        for fault, planted, key in (
            ("flipped labels, as told", "flipped", "flip"),
            ("copies", "copied", "duplicate"),
            ("copies across splits", "leaked", "leak"),
        ):
            print(
                f"{name:10} {fault:24} {row[planted]:8} {row[f'{key}_recall']:8.1%} "
                f"{row[f'{key}_precision']:9.1%}"
            )
        print(
            f"{name:10} flipped labels at half precision: "
            f"{row['flip_recall_at_half_precision']:.1%}; own copies: "
            f"{row['duplicate_own']}; findings {row['counts']}; {row['seconds']} s"
        )


def main() -> int:
    """Reads the arguments, measures each set, prints it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    sets = list(accuracy.SHARES)
    parser.add_argument("--sets", nargs="+", choices=sets, default=sets)
    parser.add_argument("--data", type=Path, help="a folder or zip of class folders")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    figures = {}
    for name in ["data"] if arguments.data else arguments.sets:
        with tempfile.TemporaryDirectory(prefix="doctor-") as folder:
            work = Path(folder)
            figures[name] = measure(name, arguments.data, arguments.seed, work)
    best = max(row["flip_recall_at_half_precision"] for row in figures.values())
    is_missed = best < BAR
    if arguments.json:
        # The bar is for the best of the sets; all else that is said holds for each.
        rows = list(figures.values())
        keys = [key for key in rows[0] if key.endswith(("_recall", "_precision"))]
        flat = {key: min(row[key] for row in rows) for key in keys}
        flat |= {"flip_recall_at_half_precision": best, "sets": figures}
        print(json.dumps(flat | {"bar": BAR, "missed": is_missed}))
    else:
        print_table(figures)
        print(f"The bar of {BAR:.0%} is {'missed' if is_missed else 'reached'}.")
    return 1 if is_missed else 0


if __name__ == "__main__":
    sys.exit(main())
