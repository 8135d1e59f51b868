"""Compares the engine's frozen phase with the usual ways to train a head in Keras.

The same frozen network (the engine's EfficientNet-Lite0 with its ImageNet weights), the
same head, the same pictures and split:

    a      `ImageDataGenerator.flow_from_directory`, augmentation, `model.fit`
    b      `image_dataset_from_directory`, augmentation layers, `model.fit`
    ours   the engine itself (`worker.training.run`): the frozen phase, its head begun
           at the regression on the plain pictures; from the second epoch on an
           augmented view of every picture beside the plain one, computed by then
    plain  the preset `fast` as it is: the plain view alone, the head begun at random;
           printed beside, and of no weight for the bars
    first  the same on a machine that has yet to measure which engine computes this base
           fastest there, which it then remembers; ours and plain find that done

The usual ways have ten epochs, and the target is the best validation accuracy that each
reaches in them. Its time is the end of the first epoch that reached it; ours is the end
of the first epoch that reached at least as much. Every clock starts when the imports
are over, before the first file is read, with nothing of the data or the weights in the
page cache; unpacking aside, everything counts: listing, hashing, decoding, building the
network, the pack, the pass over the features. Ours finds nothing of the data from an
earlier run.

All three train with the preset's batches (32), optimizer and learning rates: AdamW, a
warm-up over the first 5 % of the steps of its own epochs, then a cosine to zero from
the same peak (3e-3; 1e-3 from the regression); the pictures are stretched to 224 px
with bilinear filtering. Each measures the validation accuracy on the same validation
pictures, decoded its own way, after every epoch, and that counts too. The pictures are
dealt by content, seed by seed: 80 % to train on, 20 % to validate on, and of the latter
as many as the engine needs for a test split, which the others never read.

A ratio is how many times faster ours reached the target, and 0 where it never did. Of
each, the median over the seeds counts; exits 1 below 10 (a) or 5 (b). Finished cells
are kept, so a stopped run goes on.

    ./trainyard bench frozen [--data PATH] [--seeds 1 2 3] [--epochs 10] [--json]
        [--preset fast] [--set key=value] [--fresh]
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import cells
from benchmarks.frozen_contenders.curves import describe_curve, find_best, find_seconds
from benchmarks.pictures import drop_from_memory, open_pictures
from shared.assignments import parse_assignments
from shared.base_models import get_base_model, resolve_image_size_px
from shared.presets import build_training_spec
from worker import events
from worker.ingest.split import Keyed, SplitShares, assign_splits
from worker.training.labelled_images import LabelledImages, read_dataset

ROOT = Path(__file__).resolve().parent.parent
SHARES = {"train": 0.795, "val": 0.2, "test": 0.005}
USUAL = ("a", "b")
OURS, PLAIN, FIRST = "ours", "plain", "first"
OWN = (OURS, PLAIN, FIRST)
AUGMENTED = {
    "feature_views": 2,
    "head_start": "logistic",
    "frozen_learning_rate": 1e-3,
}
LEAST_RATIO = {"a": 10, "b": 5}
OURS_SOURCES = (
    "worker/training",
    "worker/ingest",
    "worker/decode.py",
    "shared/base_models.py",
    "shared/training_spec.py",
    "benchmarks/frozen_contenders/ours.py",
)
USUAL_SOURCES = (
    "worker/training/build_model.py",
    "worker/training/efficientnet_lite.py",
    "worker/training/optimizers.py",
    "benchmarks/frozen_contenders/usual.py",
)


@dataclass(frozen=True)
class Deal:
    """One seed's pictures, dealt into train/, val/ and test/ below `folder`."""

    folder: Path
    fingerprint: str
    classes: int
    images: dict[str, int]


def deal(images: LabelledImages, seed: int, folder: Path) -> Deal:
    """Links every picture into the folder of its split and class."""
    texts = images.describe(range(len(images)))
    keyed = [
        Keyed(bytes.fromhex(text.sha256), images.classes[number])
        for text, number in zip(texts, images.labels, strict=True)
    ]
    splits, _ = assign_splits(keyed, SplitShares(**SHARES, seed=seed))
    for text, entry, split in zip(texts, keyed, splits, strict=True):
        path = text.path
        name = f"{text.sha256[:24]}{path.suffix.lower()}"
        target = folder / split / entry.label / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.hardlink_to(path)
        except OSError:  # on another disk, or not allowed there
            shutil.copyfile(path, target)
    dealt = {split: splits.count(split) for split in SHARES}
    return Deal(folder, images.fingerprint, len(images.classes), dealt)


def run_contender(name: str, request: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Runs one contender in a process of its own, cold; returns its curve."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "REQUEST.json").write_text(json.dumps(request))
    if name in USUAL:
        module, arguments = "usual", [name, str(folder / "REQUEST.json")]
    else:
        module, last = "ours", str(folder / "work")
        arguments = [str(folder / "REQUEST.json"), last]
    drop_from_memory(Path(request["dataset"]), *list_weights(request))
    before = count_cpu_seconds()
    command = [sys.executable, "-m", f"benchmarks.frozen_contenders.{module}"]
    lines = read_events([*command, *arguments], folder / "stderr.log")
    shutil.rmtree(folder / "work", ignore_errors=True)
    return describe_curve(lines) | {
        "cpu_seconds": round(count_cpu_seconds() - before, 1)
    }


def list_weights(request: dict[str, Any]) -> list[Path]:
    """Returns where the base model's weights are installed."""
    package = get_base_model(request["training"]["base_model"]).weights_package
    found = find_spec(package.replace("-", "_")) if package else None
    return [Path(place) for place in (found and found.submodule_search_locations) or ()]


def read_events(command: list[str], log: Path) -> list[dict[str, Any]]:
    """Returns what a contender said until its training was over, then ends it."""
    environment = {k: v for k, v in os.environ.items() if k != events.FD_VARIABLE}
    lines = []
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                lines.append(json.loads(line))
                if lines[-1].get("phase") == "evaluate":
                    break
        finally:
            is_over = bool(lines) and lines[-1].get("phase") == "evaluate"
            if process.poll() is None and (is_over or sys.exc_info()[0]):
                process.terminate()
    if not any(line["event"] == "metrics" for line in lines) or (
        process.returncode and not is_over
    ):
        failures = [line for line in lines if line["event"] == "failed"]
        raise SystemExit(f"{command}: {failures}\n{log.read_text()[-3000:]}")
    return lines


def count_cpu_seconds() -> float:
    """CPU time of the child processes so far: what a busy machine does not stretch."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def compare(curves: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Returns how ours stand against each usual way, for one seed."""
    row: dict[str, Any] = {"curves": curves}
    for name in USUAL:
        target = find_best(curves[name])
        seconds = {n: find_seconds(curves[n], target) for n in (name, *OWN)}
        theirs = seconds.pop(name)
        assert theirs is not None
        row[name] = {
            "target": target,
            "seconds": theirs,
            "reached": seconds,
            "ratios": {
                n: round(theirs / s, 2) if s else 0.0 for n, s in seconds.items()
            },
        }
    return row


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measures every cell that is missing; returns every figure."""
    asked = parse_assignments(arguments.set) | {"fine_tune_epochs": 0}
    plain, augmented = (
        build_training_spec(arguments.preset, more | asked).model_dump(mode="json")
        for more in ({}, AUGMENTED)
    )
    name, root = open_pictures(arguments.data, folder / "data")
    images = read_dataset(root)
    machine = cells.describe_machine()
    table = cells.Cells("frozen", {"fingerprint": images.fingerprint} | machine)
    trainings = {OURS: augmented, **dict.fromkeys((*USUAL, PLAIN, FIRST), plain)}
    side = resolve_image_size_px(plain["base_model"], plain["image_size_px"])
    rows = []
    for seed in arguments.seeds:
        dealt = deal(images, seed, folder / f"seed-{seed}")
        requests = {
            contender: {
                "dataset": str(dealt.folder),
                "training": training | {"seed": seed},
                "image_size_px": side,
                "classes": dealt.classes,
                "epochs": arguments.epochs,
                "has_gpu": bool(machine["gpus"]),
            }
            for contender, training in trainings.items()
        }
        curves = run_seed(table, requests, seed, folder, fresh=arguments.fresh)
        rows.append({"seed": seed, "images": dealt.images} | compare(curves))
        shutil.rmtree(dealt.folder)
    ratios = {
        f"ratio_{name}{suffix}": statistics.median(
            row[name]["ratios"][own] for row in rows
        )
        for name in USUAL
        for own, suffix in ((OURS, ""), (PLAIN, "_plain"), (FIRST, "_first"))
    }
    return {
        "data": name,
        "machine": machine,
        "epochs": arguments.epochs,
        "trainings": trainings,
        "shares": SHARES,
        "rows": rows,
        "least": LEAST_RATIO,
        **ratios,
    }


def run_seed(
    table: cells.Cells,
    requests: dict[str, dict[str, Any]],
    seed: int,
    folder: Path,
    *,
    fresh: bool,
) -> dict[str, dict[str, Any]]:
    """Returns the curve of every contender for one seed."""
    curves = {}
    for name in (*USUAL, *OWN):
        request = requests[name]
        facts = {
            "contender": name,
            "training": request["training"],
            "shares": SHARES,
            "epochs": request["epochs"] if name in USUAL else None,
            "source": cells.digest_sources(
                *(USUAL_SOURCES if name in USUAL else OURS_SOURCES)
            ),
        }
        curves[name] = table.measure(
            f"{name} {seed}",
            facts,
            lambda name=name, request=request: run_once(name, request, folder),
            fresh=fresh,
        )
    return curves


def run_once(name: str, request: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Returns the curve of one contender, with the choice of engines made for ours."""
    if name in USUAL:
        return run_contender(name, request, folder / name)
    engines = folder / "engines"
    if name == FIRST:
        spec = describe_spec(request, folder / name / "work" / "engines")
    else:
        spec = describe_spec(request, engines)
        if not engines.exists():
            cells.say("(choosing the engine ...)")
            run_contender(name, spec, folder / "rehearsal")
    return run_contender(name, spec, folder / name)


def describe_spec(request: dict[str, Any], engines: Path) -> dict[str, Any]:
    """The engine's SPEC.json for the same training; it keeps nothing elsewhere."""
    return {
        "kind": "train",
        "dataset": request["dataset"],
        "training": request["training"],
        "engines": str(engines),
    }


def print_table(result: dict[str, Any]) -> None:
    """Prints one line per seed and usual way, and the medians."""
    for row in result["rows"]:
        counts = row["images"]
        print(
            f"seed {row['seed']}: {counts['train']} pictures to train on, "
            f"{counts['val']} to validate on"
        )
        for own in OWN:
            curve = row["curves"][own]
            spent = ", ".join(f"{what} {s:.1f} s" for what, s in curve["ready"].items())
            print(
                f"  {own:5} at best {find_best(curve):.1%}; ready after: {spent}; "
                f"load {describe_load(curve)}"
            )
        for name in USUAL:
            one = row[name]
            reached = "; ".join(f"{own} {describe_reached(one, own)}" for own in OWN)
            print(
                f"  {name:5} {one['target']:.1%} after {one['seconds']:.1f} s; "
                f"{reached}; load {describe_load(row['curves'][name])}"
            )
    for name in USUAL:
        print(
            f"median against {name}: {result[f'ratio_{name}']:.1f} times faster "
            f"(wanted {result['least'][name]}), plain "
            f"{result[f'ratio_{name}_plain']:.1f}, first "
            f"{result[f'ratio_{name}_first']:.1f}"
        )


def describe_reached(row: dict[str, Any], own: str) -> str:
    """How long one of ours took to the target, and how many times less that is."""
    seconds = row["reached"][own]
    if seconds is None:
        return "NEVER"
    return f"{seconds:.1f} s, {row['ratios'][own]:.1f} times faster"


def describe_load(curve: dict[str, Any]) -> str:
    """The machine's load before and after a cell was measured."""
    before, after = curve["measured"]["load"]
    return f"{before:.1f} to {after:.1f}"


def main() -> int:
    """Reads the arguments, measures what is missing, prints all of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument(
        "--fresh", action="store_true", help="measure kept cells again, too"
    )
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-frozen-") as folder:
        result = measure(arguments, Path(folder))
    if arguments.json:
        print(json.dumps(result))
    else:
        print_table(result)
    enough = all(result[f"ratio_{n}"] >= least for n, least in LEAST_RATIO.items())
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main())
