"""Which images a run trains on: a dataset version, a class folder tree or a CSV.

A dataset version was verified by ingest and brings its split. The other two are for
running the engine alone: the same rules for labels and splits apply, and only JPEG and
PNG files are read.
"""

import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from shared.artifacts import sha256_file
from shared.errors import UserError
from worker.ingest.content import fingerprint_rows, merge_identical
from worker.ingest.found import FoundFile, LabelledFile, SkipList, junk_reason
from worker.ingest.label_table import (
    TABLE_SUFFIXES,
    label_by_tables,
    parse_label_table,
)
from worker.ingest.labels import label_by_folder
from worker.ingest.split import SPLITS, Keyed, assign_splits

_READABLE = frozenset({".jpg", ".jpeg", ".png"})
_MANIFEST_COLUMNS = ["path", "source_name", "label", "split", "sha256"]


@dataclass(frozen=True)
class LabelledImages:
    """The images of one dataset, in the order of every pack made of it.

    Args:
        paths: Files to decode, upright JPEG or PNG.
        names: The user's names for them.
        sha256: Hashes of the original bytes; the order is by hash.
        class_names: Label of each image, as text.
        split_names: Split of each image: train, val or test.
        fingerprint: Identity of the version, 64 hexadecimal digits.
    """

    paths: list[Path]
    names: list[str]
    sha256: list[str]
    class_names: list[str]
    split_names: list[str]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def classes(self) -> list[str]:
        """The class names, sorted; a class's number is its position here."""
        return sorted(set(self.class_names))

    @cached_property
    def labels(self) -> np.ndarray:
        """Class number of each image: `(images,)` int32."""
        numbers = {name: number for number, name in enumerate(self.classes)}
        return np.array([numbers[name] for name in self.class_names], np.int32)

    @cached_property
    def splits(self) -> dict[str, np.ndarray]:
        """Positions of the images of each split, ascending: int64."""
        names = np.array(self.split_names)
        return {split: np.flatnonzero(names == split) for split in SPLITS}


def read_dataset(path: Path) -> LabelledImages:
    """Reads what there is to train on, without decoding any image.

    Args:
        path: A dataset version folder (with `manifest.parquet`), a folder of class
            folders (perhaps below train/, val/, test/), or a CSV file with the
            columns `filename,label[,split]`, its files beside or below it.

    Raises:
        UserError: Nothing is there, or it holds no trainable classes.
    """
    path = Path(path)
    if (path / "manifest.parquet").is_file():
        return _read_version(path)
    if path.is_dir():
        return _build(label_by_folder(_list_files(path), SkipList()).files)
    if path.is_file() and path.suffix.lower() in TABLE_SUFFIXES:
        table = parse_label_table(path.read_bytes(), path.name)
        files = _list_files(path.parent)
        return _build(label_by_tables(files, [table], SkipList()).files)
    raise UserError(
        "`dataset` must be a dataset version folder, a folder of class folders or a "
        f"CSV file. Received: dataset={str(path)!r}.",
        field="dataset",
    )


def _read_version(folder: Path) -> LabelledImages:
    try:
        table = pq.read_table(folder / "manifest.parquet", columns=_MANIFEST_COLUMNS)
    except (OSError, ValueError) as error:
        raise UserError(
            f"The manifest of the dataset version cannot be read: {error}."
        ) from error
    columns = table.to_pydict()
    rows = zip(columns["sha256"], columns["label"], columns["split"], strict=True)
    return LabelledImages(
        paths=[folder / path for path in columns["path"]],
        names=columns["source_name"],
        sha256=columns["sha256"],
        class_names=columns["label"],
        split_names=columns["split"],
        fingerprint=fingerprint_rows(rows),
    )


def _list_files(root: Path) -> list[FoundFile]:
    names = sorted(_walk(root))
    return [
        FoundFile(root / name, name)
        for name in names
        if not junk_reason(name) and Path(name).suffix.lower() in _READABLE
    ]


def _walk(root: Path) -> Iterator[str]:
    for folder, _, files in os.walk(root):
        for file in files:
            path = Path(folder, file)
            if stat.S_ISREG(path.lstat().st_mode):
                yield path.relative_to(root).as_posix()


@dataclass(slots=True)
class _Hashed:
    path: Path
    name: str
    label: str
    split: str | None
    sha256: str

    @property
    def content(self) -> str:
        """The bytes stand for the picture: nothing is decoded here."""
        return self.sha256


def _build(files: list[LabelledFile]) -> LabelledImages:
    with ThreadPoolExecutor() as threads:
        hashes = threads.map(sha256_file, [entry.file.path for entry in files])
        hashed = [
            _Hashed(entry.file.path, entry.file.name, entry.label, entry.split, sha256)
            for entry, sha256 in zip(files, hashes, strict=True)
        ]
    kept = merge_identical(hashed).kept
    splits, _ = assign_splits([Keyed(i.sha256, i.label, i.split) for i in kept])
    rows = ((i.sha256, i.label, s) for i, s in zip(kept, splits, strict=True))
    return LabelledImages(
        paths=[image.path for image in kept],
        names=[image.name for image in kept],
        sha256=[image.sha256 for image in kept],
        class_names=[image.label for image in kept],
        split_names=splits,
        fingerprint=fingerprint_rows(rows),
    )
