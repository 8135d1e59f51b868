"""Writes what a forecast found: `final/` with its tables, findings, thumbnails."""

import json
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from shared.artifacts import publish_folder, write_manifest
from worker import events
from worker.training.pack import Pack

FORECAST, FINDINGS, THUMBNAILS = "forecast.json", "findings.parquet", "thumbnails"
# One for each finding that is listed: 2,000 of each of the twelve kinds with pictures.
MOST_THUMBNAILS = 24_000
_THUMBNAIL_PX = 160
_QUALITY = 80
_AT_ONCE = 256


def start_folder(workdir: Path) -> Path:
    """Returns a new folder that becomes `final/` when all is in it."""
    folder = workdir / f".tmp-final-{uuid.uuid4().hex[:8]}"
    (folder / THUMBNAILS).mkdir(parents=True)
    return folder


def write_forecast(
    folder: Path, workdir: Path, forecast: dict[str, Any]
) -> tuple[Path, str]:
    """Publishes `WORKDIR/final`.

    Args:
        folder: As `start_folder` returned it, with the findings in it.
        workdir: The attempt's folder.
        forecast: The content of forecast.json.

    Returns:
        The folder and the SHA-256 of its manifest.

    Raises:
        OSError: The disk is full.
    """
    (folder / FORECAST).write_text(
        json.dumps(forecast, ensure_ascii=False, indent=1), encoding="utf-8"
    )
    names = [name for name in (FORECAST, FINDINGS) if (folder / name).is_file()]
    manifest_sha = write_manifest(folder, names, step=0)
    final = workdir / "final"
    publish_folder(folder, final)
    return final, manifest_sha


def write_thumbnails(folder: Path, pack: Pack, rows: Iterable[int]) -> None:
    """Writes small JPEGs of `rows` of the pack, called after the pictures' hashes.

    They come from the pack, so they show what training sees, stretched if it stretches.
    The first `MOST_THUMBNAILS` are written, each once. Photographs take 3 to 7 kB each,
    pure noise 18 kB: up to 170 MB, and never more than 430 MB.
    """
    wanted = list(islice(dict.fromkeys(rows), MOST_THUMBNAILS))
    with ThreadPoolExecutor() as threads:
        for at in range(0, len(wanted), _AT_ONCE):
            part = wanted[at : at + _AT_ONCE]
            pixels = np.asarray(pack.pixels[np.array(part)])
            names = [text.sha256 for text in pack.dataset.describe(part)]
            list(
                threads.map(
                    lambda name, image: _write(folder / THUMBNAILS, name, image),
                    names,
                    pixels,
                )
            )
            events.progress("write", at + len(part), len(wanted), "thumbnails")


def _write(folder: Path, sha256: str, pixels: np.ndarray) -> None:
    image = Image.fromarray(pixels)
    image.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    image.save(folder / f"{sha256}.jpg", "JPEG", quality=_QUALITY)
