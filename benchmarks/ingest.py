"""Measures how fast an upload becomes a dataset version, and in how much memory.

Ours is the whole ingest, as a worker runs it: unpack, prove, merge, split, write,
everything flushed to the disk. Against it stands the least that anybody can do with
pictures: `PIL.Image.open(path).load()`, one after the other on one core, times the
cores. The plain loop runs before and after ours, over the same files, and its mean
counts, so that a busy machine hits both alike.

Sizes are uploads of small photographs made for this (96 x 72 pixels, JPEG, no two the
same): the hardest case, since everything but the decoding weighs most there. `--data`
is measured beside them; by default that is TrashNet where it lies beside the
repository.

The ratio by the clock is ours over the plain loop on all cores. The ratio by processor
time is what one core does in a second of its own time, ours over plain: it does not
depend on who else uses the machine. Both count the start of our processes, which weighs
on small uploads. Memory is the peak of the ingest process itself and of its largest
child (VmHWM). Exits 1 when the ingest process takes 100 MB more for the largest upload
than for the smallest.

    ./trainyard bench ingest [--sizes 1000 10000 100000] [--data PATH] [--json]
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
from PIL import Image

from benchmarks.pictures import TRASHNET

ROOT = Path(__file__).resolve().parent.parent
MOST_GROWTH_MB = 100
SIDES_PX = (96, 72)
CLASSES = 10
PLAIN_SECONDS = 3.0
WATCH_SECONDS = 0.1


def write_photos(path: Path, images: int) -> Path:
    """Writes a zip of small JPEGs in class folders, no two the same."""
    random = np.random.default_rng(images)
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(images):
            # A few large patches and fine noise: compressible as photographs are.
            patches = random.integers(0, 255, (6, 8, 3), np.uint8)
            pixels = cv2.resize(patches, SIDES_PX, interpolation=cv2.INTER_CUBIC)
            pixels = cv2.add(pixels, random.integers(0, 24, pixels.shape, np.uint8))
            data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
            name = f"class {number % CLASSES}/photo {number:07d}.jpg"
            archive.writestr(name, data.tobytes())
    return path


class Family:
    """What a process and its descendants have used, watched until they end."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._seconds: dict[int, float] = {}
        self._peaks: dict[int, float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def end(self) -> dict[str, float]:
        """Stops watching; returns processor seconds and peaks in MB."""
        self._over.set()
        self._thread.join()
        others = [mb for pid, mb in self._peaks.items() if pid != self._pid]
        return {
            "cpu_seconds": sum(self._seconds.values()),
            "peak_mb": self._peaks.get(self._pid, 0.0),
            "child_peak_mb": max(others, default=0.0),
        }

    def _watch(self) -> None:
        while not self._over.wait(WATCH_SECONDS):
            with contextlib.suppress(psutil.Error, OSError):
                head = psutil.Process(self._pid)
                for process in [head, *head.children(recursive=True)]:
                    self._look_at(process)

    def _look_at(self, process: psutil.Process) -> None:
        with contextlib.suppress(psutil.Error, OSError, IndexError):
            used = process.cpu_times()
            self._seconds[process.pid] = used.user + used.system
            status = Path(f"/proc/{process.pid}/status").read_text()
            kilobytes = int(status.split("VmHWM:")[1].split()[0])
            self._peaks[process.pid] = kilobytes * 1024 / 1e6


def ingest(source: Path, folder: Path) -> dict[str, Any]:
    """Runs the real ingest; returns its seconds, by phase too, and what it used."""
    folder.mkdir()
    kind = "folder" if source.is_dir() else "archive"
    entry = {"type": kind, "path": str(source.absolute()), "name": source.name}
    spec = folder / "spec.json"
    spec.write_text(json.dumps({"kind": "ingest", "sources": [entry]}))
    began = time.time()
    process = subprocess.Popen(
        [sys.executable, "-m", "worker.ingest.run", str(spec), str(folder / "work")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    family = Family(process.pid)
    assert process.stdout
    events = [json.loads(line) for line in process.stdout]
    used = family.end()
    if process.wait():
        raise SystemExit(f"The ingest failed: {events[-1]}")
    starts = [(e["phase"], e["at"]) for e in events if e["event"] == "phase"]
    ends = [at for _, at in starts[1:]] + [events[-1]["at"]]
    return {
        "images": events[-1]["summary"]["images"],
        "seconds": events[-1]["at"] - began,
        "phases": {
            name: round(end - at, 2)
            for (name, at), end in zip(starts, ends, strict=True)
        },
        **used,
    }


def load_plainly(paths: list[Path], seconds: float) -> dict[str, float]:
    """Opens and loads pictures on this one core for so long, or once each."""
    began, began_cpu, done = time.perf_counter(), time.process_time(), 0
    for path in paths:
        Image.open(path).load()
        done += 1
        if time.perf_counter() - began > seconds:
            break
    return {
        "images_per_second": done / (time.perf_counter() - began),
        "images_per_cpu_second": done / (time.process_time() - began_cpu),
    }


def measure(name: str, source: Path, scratch: Path) -> dict[str, Any]:
    """Lets plain loop and ingest run in turns over one upload."""
    print(f"{name} ...", file=sys.stderr, flush=True)
    if source.is_dir():
        plain_folder = source
    else:
        plain_folder = scratch / "plain"
        with zipfile.ZipFile(source) as archive:
            archive.extractall(plain_folder)
    paths = sorted(
        path
        for path in plain_folder.rglob("*")
        if path.suffix.lower() in (".jpg", ".jpeg", ".png")
    )
    load_plainly(paths, PLAIN_SECONDS)  # both read from memory, not from the disk
    plain = [load_plainly(paths, PLAIN_SECONDS)]
    ours = ingest(source, scratch / "ours")
    plain.append(load_plainly(paths, PLAIN_SECONDS))
    mean = {key: sum(one[key] for one in plain) / len(plain) for key in plain[0]}
    cores = len(os.sched_getaffinity(0))
    rate, cpu_rate = (ours["images"] / ours[key] for key in ("seconds", "cpu_seconds"))
    return {
        "name": name,
        **ours,
        "images_per_second": rate,
        "images_per_cpu_second": cpu_rate,
        "plain": mean,
        "ratio": rate / (mean["images_per_second"] * cores),
        "cpu_ratio": cpu_rate / mean["images_per_cpu_second"],
        "load": os.getloadavg()[0],
    }


def compare(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Returns what changes from the smallest to the largest upload."""
    first, last = rows[0], rows[-1]
    return {
        "rate_growth": last["images_per_second"] / first["images_per_second"],
        "cpu_rate_growth": last["images_per_cpu_second"]
        / first["images_per_cpu_second"],
        "peak_growth_mb": last["peak_mb"] - first["peak_mb"],
        "peak_growth": (last["peak_mb"] + last["child_peak_mb"])
        / (first["peak_mb"] + first["child_peak_mb"])
        - 1,
    }


def describe(row: dict[str, Any]) -> str:
    """Returns some lines about one upload."""
    phases = ", ".join(f"{name} {took:.1f}" for name, took in row["phases"].items())
    return (
        f"{row['name']}: {row['images']:,} images in {row['seconds']:.1f} s "
        f"({phases}), load {row['load']:.1f}\n"
        f"  by the clock  {row['images_per_second']:>8,.0f} images/s, plain "
        f"{row['plain']['images_per_second']:,.0f} a core: {row['ratio']:.2f} of "
        "plain on all cores\n"
        f"  by processor  {row['images_per_cpu_second']:>8,.0f} images/s, plain "
        f"{row['plain']['images_per_cpu_second']:,.0f}: {row['cpu_ratio']:.2f}\n"
        f"  memory        {row['peak_mb']:,.0f} MB, largest child "
        f"{row['child_peak_mb']:,.0f} MB"
    )


def print_table(rows: list[dict[str, Any]], found: dict[str, float]) -> None:
    """Prints some lines per upload, and the growth."""
    for row in rows:
        print(describe(row))
    print(
        f"from the smallest to the largest: {found['rate_growth']:.1f} times the rate "
        f"({found['cpu_rate_growth']:.1f} by processor time), "
        f"{found['peak_growth_mb']:+,.0f} MB in the ingest process, "
        f"{found['peak_growth']:+.1%} with its largest child"
    )


def main() -> int:
    """Reads the arguments, measures every upload, prints it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--data", type=Path, help="a folder of class folders or a zip")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    data = arguments.data or (TRASHNET if TRASHNET.is_file() else None)
    rows, others = [], []
    for images in sorted(arguments.sizes):
        with tempfile.TemporaryDirectory(prefix="bench-ingest-") as name:
            source = write_photos(Path(name, "photos.zip"), images)
            rows.append(measure(f"{images:,} small photos", source, Path(name)))
            print(describe(rows[-1]), file=sys.stderr, flush=True)
    if data is not None:
        with tempfile.TemporaryDirectory(prefix="bench-ingest-") as name:
            others.append(measure(data.stem, data, Path(name)))
    found = compare(rows)
    if arguments.json:
        print(json.dumps({"rows": rows + others, **found}))
    else:
        print_table(rows + others, found)
    return int(found["peak_growth_mb"] >= MOST_GROWTH_MB)


if __name__ == "__main__":
    sys.exit(main())
