"""Which images a run trains on: a dataset version, a class folder tree or a CSV.

A dataset version was verified by ingest and brings its split. The other two are for
running the engine alone: the same rules for labels and splits apply, and only JPEG and
PNG files are read.
"""

import hashlib
import itertools
import os
import stat
import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shared.artifacts import APPEAR_SECONDS, sha256_file
from shared.errors import UserError
from shared.source_kinds import TABLES
from worker.ingest.content import fingerprint_line, merge_identical
from worker.ingest.found import FoundFile, LabelledFile, SkipList, junk_reason
from worker.ingest.label_table import label_by_tables, load_label_table
from worker.ingest.labels import label_by_folder
from worker.ingest.split import SPLITS, Keyed, assign_splits
from worker.training.image_texts import BLOCK_ROWS, ImageTexts
from worker.training.image_texts import SCHEMA as TEXT_SCHEMA

_READABLE = frozenset({".jpg", ".jpeg", ".png"})
_READ_BYTES = 2**20  # of each column of the manifest at once
# As in `_Row`.
_MANIFEST_COLUMNS = ["path", "source_name", "sha256", "label", "split"]


class ImageText(NamedTuple):
    """The words that belong to one image.

    Args:
        path: The file to decode, upright JPEG or PNG.
        name: The user's name for it.
        sha256: Hash of the original bytes.
    """

    path: Path
    name: str
    sha256: str

    def read(self) -> bytes:
        """Returns the encoded picture; what is not there is waited for a while.

        Raises:
            UserError: Naming the picture, when its file has vanished from its folder.
            OSError: The disk cannot be read, or all of the dataset is out of sight.
        """
        deadline = time.monotonic() + APPEAR_SECONDS
        while True:
            try:
                return self.path.read_bytes()
            except FileNotFoundError as error:
                if not self.path.parent.is_dir():
                    raise  # a share that is not mounted comes back; one file does not
                if time.monotonic() > deadline:
                    raise UserError(
                        f"The picture “{self.name}” has vanished from the dataset. Add "
                        "the data as a dataset again."
                    ) from error
            time.sleep(1)


@dataclass(frozen=True)
class LabelledImages:
    """The images of one dataset, in the order of every pack made of it: by hash.

    Args:
        classes: The class names, sorted; a class's number is its position here.
        labels: Class number of each image: `(images,)` int32.
        splits: Positions of the images of each split, ascending: int32.
        texts: Paths, names and hashes.
        root: Folder that the paths are relative to, of a dataset version; else None.
        order: SHA-256 over the hashes in their order.
        fingerprint: Identity of the version, 64 hexadecimal digits.
    """

    classes: list[str]
    labels: np.ndarray
    splits: dict[str, np.ndarray]
    texts: ImageTexts
    root: Path | None
    order: str
    fingerprint: str

    def __len__(self) -> int:
        return len(self.labels)

    def describe(self, rows: Sequence[int] | np.ndarray) -> list[ImageText]:
        """Returns the words of `rows`, in that order.

        Ask for some thousand at a time: as strings they take 500 bytes an image.
        """
        columns = self.texts.take(np.asarray(rows)).to_pydict()
        root = self.root or Path()
        paths = (root / path for path in columns["path"])
        return [
            ImageText(*texts)
            for texts in zip(paths, columns["name"], columns["sha256"], strict=True)
        ]


def read_dataset(path: Path, scratch: Path | None = None) -> LabelledImages:
    """Reads what there is to train on, without decoding any image.

    Args:
        path: A dataset version folder (with `manifest.parquet`), a folder of class
            folders (perhaps below train/, val/, test/), or a CSV file with the
            columns `filename,label[,split]`, its files beside or below it.
        scratch: Folder on a disk for what is not kept in memory. Defaults to the
            system's temporary folder.

    Raises:
        UserError: Nothing is there, or it holds no trainable classes.
    """
    path = Path(path)
    if (path / "manifest.parquet").is_file():
        return _read_version(path, scratch)
    if path.is_dir():
        return _build(label_by_folder(_list_files(path), SkipList()).files, scratch)
    if path.is_file() and path.suffix.lower() in TABLES:
        table = load_label_table(path, path.name)
        files = _list_files(path.parent)
        return _build(label_by_tables(files, [table], SkipList()).files, scratch)
    raise UserError(
        "`dataset` must be a dataset version folder, a folder of class folders or a "
        f"CSV file. Received: dataset={str(path)!r}.",
        field="dataset",
    )


class _Row(NamedTuple):
    path: str
    name: str
    sha256: str
    label: str
    split: str


class _Reading:
    """Takes the rows of a dataset in one pass and keeps nothing of them but numbers."""

    def __init__(self) -> None:
        self._classes: dict[str, int] = {}
        self._labels = array("i")
        self._splits = array("b")
        self._order = hashlib.sha256()
        self._fingerprint = hashlib.sha256()
        self._last = ""

    def read(
        self, rows: Iterable[_Row], root: Path | None, scratch: Path | None
    ) -> LabelledImages:
        """Returns the dataset of `rows`, which come in the order of their hashes."""
        texts = ImageTexts(map(self._take, _in_blocks(rows)), scratch)
        pa.default_memory_pool().release_unused()  # Arrow would keep 20 MB
        names = sorted(self._classes)
        numbers = np.empty(len(names), np.int32)
        for number, name in enumerate(names):
            numbers[self._classes[name]] = number
        splits = np.frombuffer(self._splits, np.int8)
        return LabelledImages(
            classes=names,
            labels=numbers[np.frombuffer(self._labels, np.int32)],
            splits={
                name: np.flatnonzero(splits == number).astype(np.int32)
                for number, name in enumerate(SPLITS)
            },
            texts=texts,
            root=root,
            order=self._order.hexdigest(),
            fingerprint=self._fingerprint.hexdigest(),
        )

    def _take(self, block: list[_Row]) -> pa.RecordBatch:
        for row in block:
            if row.sha256 < self._last:
                raise UserError(
                    "The manifest of the dataset version is not in the order of its "
                    "hashes, so it was not written by Trainyard."
                )
            self._order.update(("\n" if self._last else "").encode())
            self._order.update(row.sha256.encode())
            self._last = row.sha256
            line = fingerprint_line(row.sha256, row.label, row.split)
            self._fingerprint.update(line)
            self._labels.append(self._classes.setdefault(row.label, len(self._classes)))
            self._splits.append(SPLITS.index(row.split))
        paths, names, hashes, _, _ = zip(*block, strict=True)
        arrays = [pa.array(texts, pa.string()) for texts in (paths, names, hashes)]
        return pa.record_batch(arrays, TEXT_SCHEMA)


def _in_blocks(rows: Iterable[_Row]) -> Iterator[list[_Row]]:
    rows = iter(rows)
    while block := list(itertools.islice(rows, BLOCK_ROWS)):
        yield block


def _read_version(folder: Path, scratch: Path | None) -> LabelledImages:
    try:
        # Else a whole row group is read at once, which may be all of a dataset.
        with pq.ParquetFile(
            folder / "manifest.parquet", pre_buffer=False, buffer_size=_READ_BYTES
        ) as manifest:
            batches = manifest.iter_batches(
                BLOCK_ROWS, columns=_MANIFEST_COLUMNS, use_threads=False
            )
            rows = (
                _Row(*values)
                for batch in batches
                for values in zip(*_columns(batch), strict=True)
            )
            return _Reading().read(rows, folder, scratch)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # the disk, not the manifest
        raise UserError(
            f"The manifest of the dataset version cannot be read: {error}."
        ) from error


def _columns(batch: pa.RecordBatch) -> list[list[str]]:
    return [batch.column(name).to_pylist() for name in _MANIFEST_COLUMNS]


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
    digest: bytes

    @property
    def pixels_digest(self) -> bytes:
        """The bytes stand for the picture: nothing is decoded here."""
        return self.digest


def _build(files: list[LabelledFile], scratch: Path | None) -> LabelledImages:
    with ThreadPoolExecutor() as threads:
        hashes = threads.map(sha256_file, [entry.file.path for entry in files])
        hashed = [
            _Hashed(
                entry.file.path,
                entry.file.name,
                entry.label,
                entry.split,
                bytes.fromhex(sha256),
            )
            for entry, sha256 in zip(files, hashes, strict=True)
        ]
    kept = merge_identical(hashed).kept
    splits, _ = assign_splits([Keyed(i.digest, i.label, i.split) for i in kept])
    rows = (
        _Row(str(image.path), image.name, image.digest.hex(), image.label, split)
        for image, split in zip(kept, splits, strict=True)
    )
    return _Reading().read(rows, None, scratch)
