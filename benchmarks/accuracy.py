"""Measures what the presets reach on pictures that training never saw.

Two sets, each trained from the plain form with nothing tuned to it:

    elpv      2,624 solar cells (package elpv-dataset), intact or defective; 65 % to
              train on, 10 % to choose by, 25 % to test on
    trashnet  2,527 pictures of six materials; 70 %, 13 % and 17 %

The pictures go through the real ingest, which deals a stratified split and keeps one
of identical files, and through the real engine, as a child process. The test split is
touched once per cell, at the engine's own end. A cell is one (set, preset, seed); it
takes minutes to an hour. Finished cells are kept under `benchmarks/results/accuracy/`,
and a training that was stopped goes on from its last checkpoint.

The bars, for the mean over the seeds: elpv `balanced` 88.42 % (the fine-tuned network
of Deitsch et al., arXiv:1807.02894) and `best` 90.13 % (the best published figure
found); TrashNet `balanced` 90 % and `best` 94 %; elpv `fast` 84 %. They are for the
presets as they are and the seeds 1, 2 and 3; anything else is measured and not judged.
Exits 1 when a bar is missed.

    ./trainyard bench accuracy [--sets elpv trashnet] [--presets balanced best]
        [--seeds 1 2 3] [--set key=value] [--data PATH] [--fresh] [--json]
"""

import argparse
import hashlib
import json
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks import cells, pictures
from benchmarks.children import run_child
from shared.assignments import parse_assignments
from shared.presets import PRESETS, build_training_spec
from shared.training_spec import TrainingSpec

ELPV, TRASHNET = "elpv", "trashnet"
SHARES = {
    ELPV: {"train": 0.65, "val": 0.10, "test": 0.25},
    TRASHNET: {"train": 0.70, "val": 0.13, "test": 0.17},
}
BARS = {
    (ELPV, "fast"): 0.84,
    (ELPV, "balanced"): 0.8842,
    (ELPV, "best"): 0.9013,
    (TRASHNET, "balanced"): 0.90,
    (TRASHNET, "best"): 0.94,
}
# What decides the numbers beside the spec and the data.
PACKAGES = ("keras", "tensorflow-cpu", "tensorflow", "numpy", "opencv-python-headless")
BAR_SEEDS = {1, 2, 3}
# An option that is off by default and is off in a cell changes nothing: one that comes
# later leaves the cells valid.
OFF: tuple[Any, ...] = (0, False, None, "none")


@dataclass(frozen=True, eq=False)
class Cell:
    """One training: a set, a preset and a seed."""

    data: str
    preset: str
    seed: int
    training: dict[str, Any]

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"{self.data} {self.preset} seed {self.seed}"

    @property
    def recipe(self) -> dict[str, Any]:
        """The training spec without the options that are off, as by default."""
        return leave_out_off(self.training, TrainingSpec().model_dump(mode="json"))


def leave_out_off(fields: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Returns `fields` without those that are off and are so by default."""
    kept = {}
    for name, value in fields.items():
        default = defaults.get(name)
        if isinstance(value, dict) and isinstance(default, dict):
            kept[name] = leave_out_off(value, default)
        elif value not in OFF or repr(value) != repr(default):
            kept[name] = value
    return kept


def find_pictures(name: str, data: Path | None, folder: Path) -> Path:
    """Returns a folder of class folders for the set `name`."""
    if name == ELPV:
        return pictures.open_elpv(folder)
    source = data or pictures.TRASHNET
    if not source.exists():
        raise SystemExit(f"{source} is not there. Name a folder or zip with --data.")
    return pictures.open_pictures(source, folder)[1]


def digest_pictures(folder: Path) -> str:
    """Returns a SHA-256 over the bytes and the classes of all pictures."""
    lines = sorted(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.parent.name}"
        for path in folder.rglob("*")
        if path.is_file()
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def measure(cell: Cell, folder: Path, work: Path) -> dict[str, Any]:
    """Ingests, trains and tests once; a stopped training goes on where it was."""
    work.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    known = work / "dataset.json"
    if not known.is_file():
        known.write_text(json.dumps(ingest(cell, folder, work / "ingest")))
    spec = {
        "kind": "train",
        "dataset": json.loads(known.read_text()),
        "training": cell.training,
        # Not the user's: what another training found fastest here decides nothing.
        "engines": str(work / "engines"),
    }
    finished = run_child("worker.training.run", spec, work / "training")
    evaluation = json.loads((Path(finished["path"]) / "evaluation.json").read_text())
    shutil.rmtree(work)
    return {
        "accuracy": evaluation["accuracy"],
        "interval": evaluation["interval"],
        "loss": evaluation["loss"],
        "baseline": evaluation["baseline_majority"],
        "images": evaluation["splits"],
        "best": finished["summary"]["best"],
        "seconds": {name: round(s, 1) for name, s in evaluation["seconds"].items()},
        "wall_seconds": round(time.monotonic() - began, 1),
    }


def ingest(cell: Cell, folder: Path, work: Path) -> str:
    """Returns the folder of the dataset version, dealt by the cell's seed."""
    shutil.rmtree(work, ignore_errors=True)
    source = {"type": "folder", "path": str(folder), "name": cell.data}
    shares = SHARES.get(cell.data, SHARES[TRASHNET])
    split = shares | {"seed": cell.seed}
    spec = {"kind": "ingest", "sources": [source], "split": split}
    return str(run_child("worker.ingest.run", spec, work)["path"])


def list_cells(arguments: argparse.Namespace) -> list[Cell]:
    """Every (set, preset, seed), one seed after the other."""
    overrides = parse_assignments(arguments.set)
    sets = ["data"] if arguments.data else arguments.sets
    found = []
    for seed in arguments.seeds:
        for data in sets:
            for preset in arguments.presets:
                spec = build_training_spec(preset, overrides | {"seed": seed})
                training = spec.model_dump(mode="json")
                found.append(Cell(data, preset, seed, training))
    return found


def describe_code() -> dict[str, Any]:
    """What else decides a result: versions of packages and of our own rules."""
    from worker.decode import DECODE_VERSION  # noqa: PLC0415 - TensorFlow
    from worker.training import augment, features  # noqa: PLC0415

    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "packages": versions,
        "decode": DECODE_VERSION,
        "augment": augment.VERSION,
        "features": features.VERSION,
    }


def summarise(measured: dict[Cell, dict[str, Any]]) -> dict[str, Any]:
    """One figure per set and preset: the mean, its spread, the seeds."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cell, values in measured.items():
        row = {"seed": cell.seed} | values
        groups.setdefault((cell.data, cell.preset), []).append(row)
    summary: dict[str, Any] = {}
    for (data, preset), rows in groups.items():
        accuracies = [row["accuracy"] for row in rows]
        summary[f"{data}_{preset}"] = round(statistics.mean(accuracies), 4)
        spread = statistics.stdev(accuracies) if len(rows) > 1 else 0.0
        summary[f"{data}_{preset}_spread"] = round(spread, 4)
        summary[f"{data}_{preset}_seeds"] = rows
    return summary


def list_bars(summary: dict[str, Any], *, is_plain: bool) -> dict[str, float]:
    """Returns the bar of every mean that is judged.

    Args:
        summary: See `summarise`.
        is_plain: Whether the presets are as they are, nothing set.
    """
    return {
        key: bar
        for (data, preset), bar in BARS.items()
        if is_plain
        and (key := f"{data}_{preset}") in summary
        and {row["seed"] for row in summary[f"{key}_seeds"]} == BAR_SEEDS
    }


def list_missed(summary: dict[str, Any], bars: dict[str, float]) -> list[str]:
    """Names every bar that a mean falls short of."""
    return [
        f"{key}: {summary[key]:.2%}, and the bar is {bar:.2%}"
        for key, bar in bars.items()
        if summary[key] < bar
    ]


def print_table(
    measured: dict[Cell, dict[str, Any]],
    summary: dict[str, Any],
    bars: dict[str, float],
) -> None:
    """Prints one line per cell and one per mean."""
    print(f"{'cell':28} {'test':>7} {'95 % interval':>16} {'majority':>9} {'s':>7}")
    for cell, values in measured.items():
        low, high = values["interval"]
        print(
            f"{cell.name:28} {values['accuracy']:7.2%} {low:8.1%}-{high:6.1%}  "
            f"{values['baseline']:8.1%} {sum(values['seconds'].values()):7.0f}"
        )
    for key in [key for key in summary if f"{key}_spread" in summary]:
        seeds = len(summary[f"{key}_seeds"])
        print(
            f"{key}: mean {summary[key]:.2%} over {seeds} seeds, "
            f"standard deviation {summary[f'{key}_spread']:.2%}"
        )
    missed = list_missed(summary, bars)
    print("\n".join(missed) or f"Of {len(bars)} bars judged, none is missed.")


def main() -> int:
    """Reads the arguments, measures what is not kept yet, prints it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--sets", nargs="+", choices=list(SHARES), default=list(SHARES))
    parser.add_argument(
        "--presets", nargs="+", choices=list(PRESETS), default=["balanced", "best"]
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--data", type=Path, help="a folder or zip of class folders")
    parser.add_argument("--fresh", action="store_true", help="measure all again")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    kept = cells.Cells("accuracy", describe_code())
    measured: dict[Cell, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="accuracy-") as name:
        folders: dict[str, Path] = {}
        for cell in list_cells(arguments):
            if cell.data not in folders:
                folder = Path(name) / cell.data
                folder.mkdir()
                folders[cell.data] = find_pictures(cell.data, arguments.data, folder)
            folder = folders[cell.data]
            facts = {
                "training": cell.recipe,
                "seed": cell.seed,
                "pictures": digest_pictures(folder),
            }
            key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
            work = cells.RESULTS / "accuracy" / "work" / key[:16]
            measured[cell] = kept.measure(
                cell.name,
                facts,
                lambda c=cell, f=folder, w=work: measure(c, f, w),
                fresh=arguments.fresh,
            )
    summary = summarise(measured)
    bars = list_bars(summary, is_plain=not arguments.set)
    missed = list_missed(summary, bars)
    if arguments.json:
        print(json.dumps(summary | {"bars": bars, "missed": missed}))
    else:
        print_table(measured, summary, bars)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
