"""Small real datasets for the engine's tests: files on disk, decoded like any other."""

from pathlib import Path

import numpy as np
from PIL import Image

from worker.training.pack import Pack, open_or_build_pack, read_dataset


def write_pictures(folder: Path, *, classes: int = 2, each: int = 12, side: int = 48):
    """Writes class folders of noisy pictures, each class with a colour of its own."""
    random = np.random.default_rng(0)
    for number in range(classes):
        place = folder / f"class{number}"
        place.mkdir(parents=True)
        for picture in range(each):
            pixels = random.integers(0, 120, (side, side * 4 // 3, 3))
            pixels[..., number % 3] += 120
            image = Image.fromarray(pixels.astype(np.uint8))
            image.save(place / f"{picture}.jpg", quality=92)


def build_pack(
    root: Path, *, size: int = 32, caches: Path | None = None, **pictures
) -> Pack:
    """Writes pictures under `root` once and returns their pack."""
    folder = root / "pictures"
    if not folder.exists():
        write_pictures(folder, **pictures)
    return open_or_build_pack(
        read_dataset(folder),
        image_size_px=size,
        fit="stretch",
        caches=caches or root / "caches",
    )
