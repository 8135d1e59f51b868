"""What trainings of the forecast's tasks deliver: one kept cell per task and preset."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks import accuracy, cells
from benchmarks.children import run_child
from benchmarks.forecast_tasks import SEED, Task
from shared.presets import build_training_spec
from shared.training_spec import TrainingSpec
from worker.insight.resources import Costs, Sizes, reckon_memory, reckon_seconds
from worker.insight.step_timing import StepTiming


def deliver(
    kept: cells.Cells,
    task: Task,
    preset: str,
    version: Path,
    work: Path,
    *,
    promised: dict[str, Any],
    again_if: Callable[[dict[str, Any]], bool] = lambda _kept: False,
) -> dict[str, Any]:
    """Trains one preset on `version`, unless that was done before.

    Args:
        kept: The benchmark's cells.
        task: Whose dataset it is.
        preset: Name of the preset, as it is.
        version: The dataset version.
        work: Folder of trainings under way, which go on from their checkpoints, and of
            the caches that each task's forecast has left.
        promised: What the forecast says of this preset, made on this machine.
        again_if: As in `Cells.measure`.

    Returns:
        Accuracy on the test split with its interval, the seconds of each phase, and the
        machine with what was `promised` on it before.
    """
    training = build_training_spec(preset, {"seed": SEED}).model_dump(mode="json")
    facts = {
        **task.facts,
        "preset": preset,
        "version": digest_version(version),
        "training": accuracy.leave_out_off(
            training, TrainingSpec().model_dump(mode="json")
        ),
    }
    # A stopped training goes on from its checkpoint only under the code that wrote it.
    whole = json.dumps(facts | accuracy.describe_code(), sort_keys=True)
    key = hashlib.sha256(whole.encode()).hexdigest()[:16]
    return kept.measure(
        f"{task.name} {preset}",
        facts,
        lambda: (
            _train(training, version, work / key, work / f"{task.name}-caches")
            | {"promised": promised, "machine": cells.describe_machine()}
        ),
        again_if=again_if,
    )


def reckon_again(preset: str, values: dict[str, Any], classes: int) -> dict[str, Any]:
    """Returns seconds and memory as today's rules make them of what was timed then.

    Trainings are kept for long, and rules change: those that were followed when a cell
    was measured say nothing of those that are followed now.

    Args:
        preset: Name of the preset, as it is.
        values: As `deliver` returns them.
        classes: How many the task has.

    Returns:
        `reckoned_seconds` and `memory_bytes`, what of them can be: nothing where the
        cell keeps no costs, and no memory where no steps were timed.
    """
    costs = values.get("promised", {}).get("costs")
    if costs is None:
        return {}
    steps = StepTiming(**costs["steps"]) if costs["steps"] else None
    spec = build_training_spec(preset, {"seed": SEED})
    sizes = Sizes(**values["images"], classes=classes)
    seconds = reckon_seconds(spec, sizes, Costs(**costs | {"steps": steps}))
    told: dict[str, Any] = {"reckoned_seconds": list(seconds)}
    return told | ({"memory_bytes": reckon_memory(spec, steps)} if steps else {})


def digest_version(version: Path) -> str:
    """Returns a SHA-256 over hashes, labels and splits of a dataset version."""
    columns = ["sha256", "label", "split"]
    rows = pq.read_table(version / "manifest.parquet", columns=columns).to_pylist()
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _train(
    training: dict[str, Any], version: Path, folder: Path, caches: Path
) -> dict[str, Any]:
    began = time.monotonic()
    was_resumed = folder.exists()
    own = folder / "caches"
    if caches.is_dir() and not own.is_dir():
        # What another preset computes later must not be there already: each training
        # begins with what the forecast has left.
        shutil.copytree(caches, own, copy_function=os.link)
    spec = {
        "kind": "train",
        "dataset": str(version),
        "training": training,
        "caches": str(own),
    }
    finished = run_child("worker.training.run", spec, folder)
    evaluation = json.loads((Path(finished["path"]) / "evaluation.json").read_text())
    values = {
        "accuracy": evaluation["accuracy"],
        "interval": evaluation["interval"],
        "loss": evaluation["loss"],
        "images": evaluation["splits"],
        "peak_bytes": finished["peak_bytes"],
        "best": finished["summary"]["best"],
        "seconds": {name: round(s, 1) for name, s in evaluation["seconds"].items()},
        "wall_seconds": round(time.monotonic() - began, 1),
        "was_resumed": was_resumed,
    }
    shutil.rmtree(folder)
    return values
