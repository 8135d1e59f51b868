"""The six tasks on which forecasts are judged, each a dataset version made by ingest.

    elpv            solar cells (package elpv-dataset), intact or defective
    elpv-grades     the same cells in the four grades of their labels
    elpv-poly       the poly-crystalline cells alone, intact or defective
    trashnet        pictures of six materials
    trashnet-clean  the same without the class `trash`
    trashnet-noisy  all six, 20 % of the labels of the training split wrong

The splits are dealt by ingest with one seed: 65 %, 10 % and 25 % of the solar cells,
70 %, 13 % and 17 % of the materials. Wrong labels are drawn among the other classes,
and only in the training split: what is delivered is judged by the truth.
"""

import csv
import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks import pictures
from benchmarks.children import run_child

SEED = 1
FLIPPED_SHARE = 0.2
ELPV_SHARES = {"train": 0.65, "val": 0.10, "test": 0.25}
TRASHNET_SHARES = {"train": 0.70, "val": 0.13, "test": 0.17}
GRADES = {
    "0.0": "0 intact",
    "0.3333333333333333": "1 maybe",
    "0.6666666666666666": "2 likely",
    "1.0": "3 defective",
}
_HALF = 0.5
_NAME_DIGITS = 8


@dataclass(frozen=True)
class Task:
    """One set of pictures with its classes.

    Args:
        name: What tables call it.
        pictures: `elpv`, `trashnet` or the path of a folder or zip of classes.
        shares: How ingest deals the split.
        flipped: Share of the training split's labels that are made wrong.
    """

    name: str
    pictures: str
    shares: dict[str, float]
    flipped: float = 0.0

    @property
    def facts(self) -> dict[str, Any]:
        """What decides its pictures, labels and splits."""
        return {
            "task": self.name,
            "pictures": self.pictures,
            "shares": self.shares,
            "flipped": self.flipped,
            "seed": SEED,
        }


TASKS = {
    task.name: task
    for task in (
        Task("elpv", "elpv", ELPV_SHARES),
        Task("elpv-grades", "elpv", ELPV_SHARES),
        Task("elpv-poly", "elpv", ELPV_SHARES),
        Task("trashnet", "trashnet", TRASHNET_SHARES),
        Task("trashnet-clean", "trashnet", TRASHNET_SHARES),
        Task("trashnet-noisy", "trashnet", TRASHNET_SHARES, FLIPPED_SHARE),
    )
}


def task_of(data: Path) -> Task:
    """Returns the task of the user's own folder or zip of classes.

    It is named after all that lies there: two folders of one name, or one that has
    changed, are two tasks.

    Raises:
        SystemExit: It is not there.
    """
    if not data.exists():
        raise SystemExit(f"{data} is not there: name a folder or a zip of classes.")
    digest = hashlib.sha256(str(data.absolute()).encode())
    for path in sorted(data.rglob("*")) if data.is_dir() else [data]:
        facts = path.stat()
        digest.update(f"{path}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
    name = f"{data.stem}-{digest.hexdigest()[:_NAME_DIGITS]}"
    return Task(name, str(data.absolute()), TRASHNET_SHARES)


def open_task(task: Task, folder: Path) -> Path:
    """Returns the dataset version of `task`, made once below `folder`.

    Raises:
        SystemExit: The pictures are not there, or ingest refuses them.
    """
    known = folder / "dataset.json"
    if known.is_file():
        return Path(json.loads(known.read_text()))
    shutil.rmtree(folder, ignore_errors=True)
    labelled = folder / "pictures"
    labelled.mkdir(parents=True)
    root = _lay_out(task, labelled)
    version = _ingest(folder / "ingest", root, task)
    if task.flipped:
        table = _write_flipped(version, folder / "labels.csv", task.flipped)
        version = _ingest(folder / "flipped", root, task, labels=table)
    known.write_text(json.dumps(str(version)))
    return version


def _lay_out(task: Task, folder: Path) -> Path:
    """Returns a folder of class folders."""
    if task.pictures == "elpv":
        if task.name == "elpv":
            return pictures.open_elpv(folder)
        is_poly = task.name == "elpv-poly"
        for name, probability, module in pictures.list_elpv():
            if is_poly and module != "poly":
                continue
            halves = "defective" if float(probability) > _HALF else "intact"
            label = halves if is_poly else GRADES[probability]
            pictures.copy_elpv(name, folder / label)
        return folder
    source = pictures.TRASHNET if task.pictures == "trashnet" else Path(task.pictures)
    if not source.exists():
        raise SystemExit(f"{source} is not there. Name a folder or zip with --data.")
    root = pictures.open_pictures(source, folder)[1]
    if task.name == "trashnet-clean":
        for trash in root.rglob("trash"):
            shutil.rmtree(trash)
    return root


def _ingest(work: Path, root: Path, task: Task, labels: Path | None = None) -> Path:
    source = {"type": "folder", "path": str(root), "name": task.name}
    if labels:
        source["labels"] = str(labels)
    spec = {
        "kind": "ingest",
        "sources": [source],
        "split": task.shares | {"seed": SEED},
    }
    return Path(run_child("worker.ingest.run", spec, work)["path"])


def _write_flipped(version: Path, target: Path, share: float) -> Path:
    """Writes a label table of `version` in which some training labels are wrong."""
    rows = pq.read_table(
        version / "manifest.parquet", columns=["source_name", "label", "split"]
    ).to_pylist()
    classes = sorted({row["label"] for row in rows})
    random = np.random.default_rng(SEED)
    training = [row for row in rows if row["split"] == "train"]
    chosen = random.choice(len(training), round(share * len(training)), replace=False)
    for at in chosen:
        others = [label for label in classes if label != training[at]["label"]]
        training[at]["label"] = str(random.choice(others))
    with target.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["filename", "label", "split"])
        table.writerows([r["source_name"], r["label"], r["split"]] for r in rows)
    return target
