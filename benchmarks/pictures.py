"""Finds the pictures that a benchmark trains on, as a folder of class folders."""

import importlib.util
import io
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
TRASHNET = ROOT.parent / "shared" / "data" / "trashnet.zip"
DEFECT_THRESHOLD = 0.5
STRIPES_PER_CLASS = 60


def open_pictures(data: Path | None, folder: Path) -> tuple[str, Path]:
    """Returns the data's name and a folder of class folders.

    Args:
        data: A folder of class folders or a zip of one. Defaults to `trashnet.zip`
            beside the repository where it is, else the package `elpv-dataset`.
        folder: Where an archive is unpacked.
    """
    if data is None:
        data = TRASHNET if TRASHNET.is_file() else None
    if data is None:
        return "elpv", open_elpv(folder)
    if data.is_dir():
        return data.name, data
    if not zipfile.is_zipfile(data):
        raise SystemExit(f"--data must be a folder or a zip. Received: {data}")
    with zipfile.ZipFile(data) as archive:
        archive.extractall(folder)
    return data.stem, folder


def drop_from_memory(*folders: Path) -> None:
    """Makes the kernel forget every file below `folders`: the next read is cold."""
    for root in folders:
        for path in sorted(root.rglob("*")) if root.is_dir() else [root]:
            if not path.is_file():
                continue
            descriptor = os.open(path, os.O_RDONLY)
            try:
                # Only what is on the disk already can be dropped.
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def open_elpv(folder: Path) -> Path:
    """Writes the cells of the package `elpv-dataset` into `defective` and `intact`."""
    for name, probability, _module in list_elpv():
        is_defective = float(probability) > DEFECT_THRESHOLD
        copy_elpv(name, folder / ("defective" if is_defective else "intact"))
    return folder


def list_elpv() -> list[tuple[str, str, str]]:
    """Returns file, probability of a defect and module type of each solar cell."""
    lines = (_find_elpv() / "labels.csv").read_text().splitlines()
    cells = (line.split() for line in lines if line.strip())
    return [(name, probability, module) for name, probability, module in cells]


def copy_elpv(name: str, folder: Path) -> None:
    """Copies one solar cell into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_find_elpv() / name, folder / Path(name).name)


def _find_elpv() -> Path:
    found = importlib.util.find_spec("elpv_dataset")
    if found is None or found.origin is None:
        raise SystemExit(
            "There are no pictures: neither trashnet.zip beside the repository nor the "
            "package elpv-dataset. Name a folder of class folders with --data."
        )
    return Path(found.origin).parent / "data"


def make_stripes_archive(path: Path, seed: int) -> None:
    """Writes a zip of two classes of noisy stripes, learnable but not trivial."""
    rng = np.random.default_rng(seed)
    with zipfile.ZipFile(path, "w") as archive:
        for label, horizontal in (("across", True), ("down", False)):
            for number in range(STRIPES_PER_CLASS):
                wave = np.sin(np.arange(80) / rng.uniform(2, 6)) * 60 + 120
                plane = np.tile(wave, (80, 1))
                plane = plane.T if horizontal else plane
                noisy = plane[..., None] + rng.normal(0, 40, (80, 80, 3))
                image = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
                buffer = io.BytesIO()
                image.save(buffer, "JPEG", quality=90)
                archive.writestr(f"{label}/{number:03}.jpg", buffer.getvalue())
