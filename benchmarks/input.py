"""Measures how many augmented pictures a second reach a training loop.

Ours (a pack, read ahead by one thread a core) against Keras's two ways, on the same
pictures with the same changes (rotation, flip, zoom, shift, brightness), at the same
size and batch: the legacy `ImageDataGenerator.flow_from_directory`, and
`image_dataset_from_directory` with augmentation layers, mapped with AUTOTUNE and
prefetched. All end with float32 pictures in memory; ours are bytes until then, as a
training takes them and makes them floats on its device. Each runs in a process of its
own that stands still while another is measured; rounds alternate, and medians count.
Every way that Keras offers to run them (threads, processes) is tried in the first
round, and the fastest goes on.

Measured is the speed from the second epoch on. Beside it stand the first epoch of ours,
with the pack being built, and Keras's pipeline with all decoded pictures cached in
memory, which ends where the dataset no longer fits. Exits 1 below 20 times the first
or 8 times the second.

    ./trainyard bench input [--data PATH] [--rounds 5] [--seconds 4] [--json]
"""

import argparse
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.pictures import open_pictures

ROOT = Path(__file__).resolve().parent.parent
SIDE, BATCH = 224, 32
ROTATION, ZOOM, SHIFT, BRIGHTNESS = 10, 0.1, 0.05, 0.1
LEAST = {"a": 20, "b": 8}
# What is compared, and the ways to run it: (name in the table, ways).
CONTENDERS = {
    "ours": ("pack and read_ahead", ["threads"]),
    "a": ("ImageDataGenerator", ["threads 1", "threads 2", "processes 2"]),
    "b": ("image_dataset_from_directory + layers", ["autotune"]),
    "b_cached": ("the same, decoded pictures cached in memory", ["autotune cached"]),
}


def feed_ours(folder: Path, scratch: Path, _way: str) -> Iterator[Any]:
    """Yields batches of our own engine; first says what the first epoch took."""
    import numpy as np  # noqa: PLC0415 - each process imports what it needs alone

    from shared.training_spec import Augmentation  # noqa: PLC0415
    from worker.training import determinism  # noqa: PLC0415
    from worker.training.batches import PixelBatches, read_ahead  # noqa: PLC0415
    from worker.training.pack import open_or_build_pack, read_dataset  # noqa: PLC0415

    cores = len(os.sched_getaffinity(0))
    determinism.fix_randomness(threads=cores, deterministic=False)
    began = time.perf_counter()
    images = read_dataset(folder)
    pack = open_or_build_pack(images, image_size_px=SIDE, fit="stretch", caches=scratch)
    packed = time.perf_counter() - began
    batches = PixelBatches(
        pack.pixels,
        augmentation=Augmentation(
            rotation=ROTATION, zoom=ZOOM, shift=SHIFT, brightness=BRIGHTNESS
        ),
        labels=pack.labels,
        rows=np.arange(len(images)),
        classes=len(pack.classes),
        batch_size=BATCH,
        seed=0,
        shuffle=True,
    )
    for epoch in itertools.count():
        batches.start_epoch(epoch)
        for batch in read_ahead(batches, 0, makers=cores):
            if epoch:
                yield (batch[0].astype(np.float32), *batch[1:])
        if epoch == 0:
            spent = time.perf_counter() - began
            say({"first_epoch": len(images) / spent, "pack_seconds": packed})


def feed_legacy(folder: Path, _scratch: Path, way: str) -> Iterator[Any]:
    """Yields batches of `ImageDataGenerator`, run as `fit` would run it."""
    from keras._tf_keras.keras.preprocessing.image import (  # noqa: PLC0415
        ImageDataGenerator,
    )
    from keras.src.trainers.data_adapters.py_dataset_adapter import (  # noqa: PLC0415
        OrderedEnqueuer,
    )

    generator = ImageDataGenerator(
        rotation_range=ROTATION,
        horizontal_flip=True,
        zoom_range=ZOOM,
        width_shift_range=SHIFT,
        height_shift_range=SHIFT,
        brightness_range=(1 - BRIGHTNESS, 1 + BRIGHTNESS),
    )
    flow = generator.flow_from_directory(
        str(folder), target_size=(SIDE, SIDE), batch_size=BATCH
    )
    kind, workers = way.split()
    if way == "threads 1":
        while True:
            yield next(flow)
    enqueuer = OrderedEnqueuer(
        flow, workers=int(workers), use_multiprocessing=kind == "processes"
    )
    while True:  # it makes one epoch
        enqueuer.start()
        yield from itertools.islice(enqueuer.get(), len(flow))
        enqueuer.stop(drain_queue_and_join=True)
        flow.on_epoch_end()


def feed_layers(folder: Path, _scratch: Path, way: str) -> Iterator[Any]:
    """Yields batches of `image_dataset_from_directory` with augmentation layers."""
    import keras  # noqa: PLC0415
    import tensorflow as tf  # noqa: PLC0415

    layers = keras.Sequential(
        [
            keras.layers.RandomFlip("horizontal"),
            keras.layers.RandomRotation(ROTATION / 360),
            keras.layers.RandomZoom((-ZOOM, ZOOM)),
            keras.layers.RandomTranslation(SHIFT, SHIFT),
            keras.layers.RandomBrightness(BRIGHTNESS, value_range=(0, 255)),
        ]
    )
    pictures: Any = keras.utils.image_dataset_from_directory(
        folder, image_size=(SIDE, SIDE), batch_size=BATCH, verbose=False
    )
    if "cached" in way:
        pictures = pictures.cache()
        for _ in pictures:
            pass
    changed = pictures.repeat().map(
        lambda images, labels: (layers(images, training=True), labels),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    yield from changed.prefetch(tf.data.AUTOTUNE)


FEEDS: dict[str, Callable[[Path, Path, str], Iterator[Any]]] = {
    "ours": feed_ours,
    "a": feed_legacy,
    "b": feed_layers,
    "b_cached": feed_layers,
}


def say(facts: dict) -> None:
    """Tells the measuring process something, as one line."""
    print(json.dumps(facts), flush=True)


def serve(name: str, way: str, folder: Path, scratch: Path, seconds: float) -> None:
    """Measures one contender, once for each line of standard input."""
    feed = FEEDS[name](folder, scratch, way)
    next(feed)
    say({"ready": True})
    for _ in sys.stdin:
        # What was made ahead while nobody measured must be used up first.
        take_for(feed, seconds / 2)
        say({"rate": take_for(feed, seconds)})
    os._exit(0)  # Keras's worker processes would be waited for


def take_for(feed: Iterator[Any], seconds: float) -> float:
    """Takes batches for so long; returns pictures a second."""
    began = time.perf_counter()
    taken = 0
    while (spent := time.perf_counter() - began) < seconds:
        taken += len(next(feed)[0])
    return taken / spent


class Contender:
    """A process that feeds batches when told to, and stands still otherwise."""

    def __init__(
        self, name: str, way: str, places: tuple[Path, Path], seconds: float
    ) -> None:
        self.name, self.way = name, way
        self.facts: dict[str, Any] = {}
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "benchmarks.input", "--serve", name, way),
                *(str(places[0]), str(places[1]), str(seconds)),
            ],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if name == "a" else None,
            text=True,
            env=os.environ
            | {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"},
            start_new_session=True,
        )
        self._await("ready")
        os.killpg(self.process.pid, signal.SIGSTOP)

    def measure(self) -> float:
        """Returns its pictures a second, measured now."""
        assert self.process.stdin
        os.killpg(self.process.pid, signal.SIGCONT)
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        rate = self._await("rate")
        os.killpg(self.process.pid, signal.SIGSTOP)
        return rate

    def end(self) -> None:
        """Ends the process and what it started."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _await(self, key: str) -> float:
        assert self.process.stdout
        while line := self.process.stdout.readline():
            if line.startswith("{"):
                self.facts |= json.loads(line)
                if key in self.facts:
                    return self.facts.pop(key)
        raise SystemExit(f"The contender {self.name} ({self.way}) ended.")


def measure(folder: Path, scratch: Path, rounds: int, seconds: float) -> dict:
    """Lets all contenders run in turn; returns every figure."""
    started: list[Contender] = []
    try:
        for name, (_words, ways) in CONTENDERS.items():
            for way in ways:
                print(f"starting {name}, {way} ...", file=sys.stderr, flush=True)
                started.append(Contender(name, way, (folder, scratch), seconds))
        tried = {(one.name, one.way): one.measure() for one in started}
        best = [
            max(
                (one for one in started if one.name == name),
                key=lambda one: tried[one.name, one.way],
            )
            for name in CONTENDERS
        ]
        rates: dict[str, list[float]] = {name: [] for name in CONTENDERS}
        for number in range(rounds):
            print(f"round {number + 1} of {rounds} ...", file=sys.stderr, flush=True)
            for one in best:
                rates[one.name].append(one.measure())
    finally:
        for one in started:
            one.end()
    medians = {name: statistics.median(found) for name, found in rates.items()}
    return {
        "images_per_second": medians,
        "rounds": rates,
        "ways": {one.name: one.way for one in best},
        "tried": {f"{name}, {way}": rate for (name, way), rate in tried.items()},
        "first_epoch_images_per_second": best[0].facts["first_epoch"],
        "pack_seconds": best[0].facts["pack_seconds"],
        **{f"ratio_{n}": medians["ours"] / medians[n] for n in medians if n != "ours"},
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
    }


def print_table(found: dict) -> None:
    """Prints one line per contender."""
    for name, (words, _ways) in CONTENDERS.items():
        rate = found["images_per_second"][name]
        more = "" if name == "ours" else f"  ours is {found[f'ratio_{name}']:.1f} times"
        print(f"{rate:>8,.0f} images/s  {words} ({found['ways'][name]}){more}")
    print(
        f"first epoch of ours, with the pack being built in "
        f"{found['pack_seconds']:.1f} s: "
        f"{found['first_epoch_images_per_second']:,.0f} images/s\n"
        f"{SIDE} px, batch {BATCH}, {found['cores']} cores, load {found['load']:.1f}"
    )


def main() -> int:
    """Reads the arguments, measures, prints."""
    if sys.argv[1:2] == ["--serve"]:
        name, way, folder, scratch, seconds = sys.argv[2:]
        serve(name, way, Path(folder), Path(scratch), float(seconds))
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path, help="a folder of class folders or a zip")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    # So that whoever ends this ends the contenders too, which stand still.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="bench-input-") as name:
        scratch = Path(name)
        data, folder = open_pictures(arguments.data, scratch / "pictures")
        measured = measure(folder, scratch, arguments.rounds, arguments.seconds)
        found = {"data": data, **measured}
    if arguments.json:
        print(json.dumps(found))
    else:
        print_table(found)
    return int(any(found[f"ratio_{name}"] < least for name, least in LEAST.items()))


if __name__ == "__main__":
    sys.exit(main())
