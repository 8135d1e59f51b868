"""Measures how a training run's memory grows with its dataset: it does not.

Writes dataset versions of small pictures (real PNG files with a manifest), trains each
through the real engine, both phases, evaluation and export, and watches the process
from outside. What counts is its peak resident memory (VmHWM), mapped files included:
the engine lets go of mapped pages, so the pack on disk does not count as its memory.

What is held for each image, in bytes; all else is of a batch, a shard or a block:

    4      class number (int32)
    4      row within its split (int32)
    2.8    order of the epoch: 4 for each training image (int32)
    8      rows of a feature view, while the frozen phase reads the cache (int64)
    0.6    probability of each class: 4 for each test image (float32), in evaluation
    0      pixels and features: mapped, at most 32 MiB resident each
    0      paths, names, hashes: on disk, read 1,024 at a time

So a million images would take 20 MB more than none; exits 1 when the growth from the
smallest to the largest dataset is 5 % or more.

With `--preset` the training is that preset's, with the same small random base; one that
starts its head at a regression holds rows for it up to a bound of their own.

    ./trainyard bench memory [--images 1000 60000] [--side 32] [--preset NAME] [--json]
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shared.presets import PRESETS, build_training_spec

ROOT = Path(__file__).resolve().parent.parent
MOST_GROWTH = 0.05
CLASSES = 4
SPLIT_OF = ["train"] * 14 + ["val"] * 3 + ["test"] * 3
FILES_PER_FOLDER = 1000
WATCH_SECONDS = 0.05
BASE = {"base_model": "MobileNet-0.25", "weights": None, "batch_size": 64}
TRAINING = {
    **BASE,
    "feature_views": 2,
    "frozen_epochs": 2,
    "fine_tune_epochs": 1,
    "early_stopping_patience": None,
}


def write_version(folder: Path, images: int, side: int) -> Path:
    """Writes a dataset version of `images` small pictures, no two the same."""
    random = np.random.default_rng(0)
    rows = []
    for number in range(images):
        pixels = random.integers(0, 160, (side, side, 3), np.uint8)
        pixels[..., number % 3] += 60 + 20 * (number % CLASSES)
        data = cv2.imencode(".png", pixels)[1].tobytes()
        path = Path("images", f"{number // FILES_PER_FOLDER:04d}", f"{number:08d}.png")
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
        rows.append(
            {
                "path": path.as_posix(),
                "source_name": f"a folder/of class {number % CLASSES}/{number:08d}.png",
                "label": f"class {number % CLASSES}",
                "split": SPLIT_OF[number % len(SPLIT_OF)],
                "sha256": hashlib.sha256(data).hexdigest(),
            }
        )
    rows.sort(key=lambda row: row["sha256"])
    pq.write_table(pa.Table.from_pylist(rows), folder / "manifest.parquet")
    return folder


def watch(process: subprocess.Popen) -> dict[str, float]:
    """Returns the peaks of a process's memory, in MB, once it has ended."""
    peaks = {"VmHWM": 0.0, "RssAnon": 0.0, "RssFile": 0.0}
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            break
        for line in status.splitlines():
            name, _, value = line.partition(":")
            if name in peaks and value:
                peaks[name] = max(peaks[name], int(value.split()[0]) * 1024 / 1e6)
        time.sleep(WATCH_SECONDS)
    return peaks


def measure(
    folder: Path, images: int, side: int, preset: str | None = None
) -> dict[str, Any]:
    """Trains on `images` pictures of `side` pixels and returns the peaks."""
    training: dict[str, Any] = TRAINING | {"image_size_px": side}
    if preset:
        # With the phases of pretrained weights: random ones would leave the frozen out.
        changes = BASE | {"image_size_px": side, "weights": "imagenet"}
        training = build_training_spec(preset, changes).model_dump(mode="json")
        training["weights"] = None
    version = write_version(folder / "version", images, side)
    spec = {
        "kind": "train",
        "dataset": str(version),
        "training": training,
    }
    (folder / "SPEC.json").write_text(json.dumps(spec))
    began = time.monotonic()
    with (folder / "events").open("w") as events, (folder / "errors").open("w") as bad:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "worker.training.run"),
                *(str(folder / "SPEC.json"), str(folder / "work")),
            ],
            cwd=ROOT,
            stdout=events,
            stderr=bad,
        )
        peaks = watch(process)
    if process.wait():
        raise SystemExit((folder / "errors").read_text()[-3000:])
    return {
        "images": images,
        "peak_mb": peaks["VmHWM"],
        "anonymous_mb": peaks["RssAnon"],
        "mapped_mb": peaks["RssFile"],
        "seconds": time.monotonic() - began,
    }


def compare(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the growth from the first to the last row, in all and an image."""
    first, last = rows[0], rows[-1]
    more = last["images"] - first["images"]
    grown = (last["peak_mb"] - first["peak_mb"]) * 1e6
    return {
        "growth": last["peak_mb"] / first["peak_mb"] - 1,
        "bytes_per_image": grown / more if more else 0.0,
    }


def print_table(rows: list[dict[str, Any]], found: dict[str, Any]) -> None:
    """Prints one line per dataset, and the growth."""
    for row in rows:
        print(
            f"{row['images']:>9,} images: peak {row['peak_mb']:,.0f} MB (anonymous up "
            f"to {row['anonymous_mb']:,.0f}, mapped files up to "
            f"{row['mapped_mb']:,.0f}), {row['seconds']:.0f} s"
        )
    print(
        f"growth {found['growth']:+.1%}: {found['bytes_per_image']:.0f} bytes an image"
    )


def main() -> int:
    """Reads the arguments, measures every size, prints it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 60_000])
    parser.add_argument("--side", type=int, default=32, help="pixels")
    parser.add_argument("--preset", choices=list(PRESETS))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = []
    for images in sorted(arguments.images):
        print(f"{images:,} images ...", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="bench-memory-") as name:
            folder, side = Path(name), arguments.side
            rows.append(measure(folder, images, side, arguments.preset))
    found = compare(rows)
    if arguments.json:
        print(json.dumps({"rows": rows} | found))
    else:
        print_table(rows, found)
    return int(found["growth"] >= MOST_GROWTH)


if __name__ == "__main__":
    sys.exit(main())
