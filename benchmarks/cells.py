"""Keeps what a long benchmark has measured, so that it goes on after a stop.

A benchmark is a table of cells (one contender with one seed, say), measured one at a
time. A finished cell is a file under `benchmarks/results/NAME/`, named after the cell
and a digest of its facts: whatever could change the figures belongs into the facts, and
a cell with other facts is another cell. Files appear whole or not at all, and a damaged
one is measured again.
"""

import fcntl
import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from shared.durable_files import write_atomically

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
_KEY_LENGTH = 16
# What computes in a benchmark, or reads pictures for what does.
_PACKAGES = (
    *("keras", "tensorflow-cpu", "tensorflow", "numpy", "jax", "onnxruntime"),
    *("openvino", "opencv-python-headless", "pillow", "scikit-learn", "scipy"),
)


class Cells:
    """The cells of one benchmark.

    Args:
        name: The benchmark's name.
        facts: What all of its cells share: the data's fingerprint, versions, settings.
        results: Folder that holds one folder per benchmark.
    """

    def __init__(
        self, name: str, facts: dict[str, Any], results: Path = RESULTS
    ) -> None:
        self._folder = results / name
        self._facts = facts

    def measure(
        self,
        name: str,
        facts: dict[str, Any],
        run: Callable[[], dict[str, Any]],
        *,
        fresh: bool = False,
        again_if: Callable[[dict[str, Any]], bool] = lambda _kept: False,
    ) -> dict[str, Any]:
        """Returns the values of one cell, measured now unless that was done before.

        Args:
            name: Names the cell in the file's name and in what is said meanwhile.
            facts: What decides this cell's figures beside the facts of all cells.
            run: Measures and returns values that JSON can hold. What it raises is
                passed on, and nothing is kept.
            fresh: Whether to measure it even if it is kept.
            again_if: Called with kept values; whether to measure them again.

        Returns:
            The values of `run`, and under `measured` when, for how long and beside
            what that was: one-minute averages of the load before and after, and the
            share of the cores' time that `others` took meanwhile.
        """
        path = self._path(name, facts)
        with _alone(self._folder / ".lock"):
            kept = None if fresh else _read(path, self._facts | facts)
            if kept is None or again_if(kept):
                return self._measure_now(path, name, facts, run)
            say(f"{name}: measured before ({kept['measured']['at']})")
            return kept

    def _measure_now(
        self,
        path: Path,
        name: str,
        facts: dict[str, Any],
        run: Callable[[], dict[str, Any]],
    ) -> dict[str, Any]:
        say(f"{name} ...")
        load, began = os.getloadavg()[0], time.monotonic()
        busy, own = _read_busy_seconds()
        values = run()
        seconds = time.monotonic() - began
        busy, own = (
            b - a for a, b in zip((busy, own), _read_busy_seconds(), strict=True)
        )
        others = (busy - own) / (seconds * (os.cpu_count() or 1))
        measured = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "seconds": round(seconds, 1),
            "load": [round(load, 2), round(os.getloadavg()[0], 2)],
            "others": round(max(0.0, others), 3),
        }
        whole = values | {"measured": measured}
        body = {"facts": self._facts | facts, "values": whole}
        with write_atomically(path) as temporary:
            temporary.write_text(json.dumps(body, indent=1, sort_keys=True) + "\n")
        say(f"{name}: {measured['seconds']:.0f} s")
        return whole

    def _path(self, name: str, facts: dict[str, Any]) -> Path:
        text = json.dumps(self._facts | facts, sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:_KEY_LENGTH]
        return self._folder / f"{name.replace(' ', '-').replace('/', '-')}-{key}.json"


def describe_machine() -> dict[str, Any]:
    """Returns what of this machine and its packages decides speed and numbers."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processors = {_after_colon(line) for line in lines if line.startswith("model name")}
    # Two machines may call one processor the same and not offer the same instructions.
    flags = sorted({_after_colon(line) for line in lines if line.startswith("flags")})
    return {
        "processor": ", ".join(sorted(processors)) or platform.processor(),
        "instructions": hashlib.sha256("\n".join(flags).encode()).hexdigest(),
        "cores": len(os.sched_getaffinity(0)),
        "gpus": sorted(path.name for path in Path("/dev").glob("nvidia[0-9]*")),
        "python": platform.python_version(),
        "packages": {name: v for name in _PACKAGES if (v := _find_version(name))},
    }


def digest_sources(*paths: str) -> str:
    """Returns one SHA-256 over Python files, so that changed code is measured anew.

    Args:
        *paths: Files, or folders with all below them, relative to the repository.
    """
    digest = hashlib.sha256()
    for name in sorted(paths):
        root = ROOT / name
        for path in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
            digest.update(f"{path.relative_to(ROOT)}\n".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def say(text: str) -> None:
    """Tells whoever waits; standard output belongs to the figures."""
    print(text, file=sys.stderr, flush=True)


def _after_colon(line: str) -> str:
    return line.partition(":")[2].strip()


def _find_version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _read_busy_seconds() -> tuple[float, float]:
    """Returns what all cores have computed since the start, and this process of it.

    With the children that it has waited for; idle cores and those that wait for a disk
    compute nothing.
    """
    numbers = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    user, nice, system, _idle, _waiting, *others = map(int, numbers)
    busy = (user + nice + system + sum(others)) / os.sysconf("SC_CLK_TCK")
    spent = os.times()
    return busy, sum(spent[:4])


def _read(path: Path, facts: dict[str, Any]) -> dict[str, Any] | None:
    try:
        kept = json.loads(path.read_text())
        # What went through JSON has lists where the caller may have tuples.
        if kept["facts"] == json.loads(json.dumps(facts)):
            return dict(kept["values"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        pass
    say(f"{path} is damaged; it is measured again")
    return None


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Waits until no other run of this benchmark measures: both would be too slow."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("another run of this benchmark is measuring; waiting for it ...")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
