"""Plants known faults into a folder of class folders, so that finding can be counted.

Three kinds, on pictures that have nothing else done to them: labels flipped to another
class, copies of pictures in the same or in another split, and copies of training
pictures put into the test split. No copy has the bytes or the pixels of its original,
since ingest itself merges those.
"""

import random
import shutil
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from worker.ingest.found import PICTURE_SUFFIXES

SPLITS = {"train": 0.70, "val": 0.15, "test": 0.15}
FLIPPED, COPIED, LEAKED = 0.05, 0.03, 0.02
_CROPPED_SHARE = 0.03  # of each side
_BRIGHTER = 1.15
_RESIZED = 0.7
_QUALITY = {"re-encoded": 70}


@dataclass(frozen=True)
class Faults:
    """What was planted, by name: `split/class/file` as the ingest calls the pictures.

    Args:
        pictures: How many there are, copies included.
        flips: The true class of each picture with a flipped label.
        copies: (original, copy) anywhere but from training to test.
        leaks: (original in training, copy in test).
        changes: What was done to each copy.
    """

    pictures: int
    flips: dict[str, str] = field(default_factory=dict)
    copies: list[tuple[str, str]] = field(default_factory=list)
    leaks: list[tuple[str, str]] = field(default_factory=list)
    changes: dict[str, str] = field(default_factory=dict)


def plant(source: Path, target: Path, seed: int) -> Faults:
    """Writes the pictures of `source` with faults below `target/split/class/`.

    Args:
        source: Pictures whose class is the name of their folder; at least two classes.
        target: An empty folder.
        seed: Deals the splits and draws the faults.

    Raises:
        SystemExit: The folder holds fewer than two classes.
    """
    draw = random.Random(seed)
    dealt = _deal(source, draw)
    if len({label for _, label in dealt.values()}) < 2:  # noqa: PLR2004
        raise SystemExit(f"{source} must hold folders of at least two classes.")
    order = sorted(dealt)
    draw.shuffle(order)
    flips, copies, leaks = (round(len(order) * s) for s in (FLIPPED, COPIED, LEAKED))
    faults = Faults(len(order) + copies + leaks)
    placed = _place(dealt, order[:flips], target, draw, faults)
    rest = [path for path in order[flips:] if _is_readable(path)]
    leaked = [path for path in rest if dealt[path][0] == "train"][:leaks]
    copied = [path for path in rest if path not in set(leaked)][:copies]
    for number, path in enumerate(copied):
        split, label = dealt[path]
        others = [name for name in SPLITS if name != split]
        if number % 2:
            split = draw.choice(others)
        pair = _copy(path, placed[path], f"{split}/{label}", number, target, faults)
        is_leak = {dealt[path][0], split} == {"train", "test"}
        (faults.leaks if is_leak else faults.copies).append(pair)
    for number, path in enumerate(leaked, start=len(copied)):
        place = f"test/{dealt[path][1]}"
        pair = _copy(path, placed[path], place, number, target, faults)
        faults.leaks.append(pair)
    return faults


def _deal(source: Path, draw: random.Random) -> dict[Path, tuple[str, str]]:
    """Gives every picture its split, by class, and its class."""
    by_label: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(source.rglob("*")):
        if path.is_file() and path.suffix.lower() in PICTURE_SUFFIXES:
            by_label[path.parent.name].append(path)
    dealt = {}
    for label, paths in sorted(by_label.items()):
        draw.shuffle(paths)
        held = [max(1, round(len(paths) * SPLITS[name])) for name in ("test", "val")]
        for number, path in enumerate(paths):
            split = "test" if number < held[0] else "val"
            dealt[path] = ("train" if number >= sum(held) else split, label)
    return dealt


def _place(
    dealt: dict[Path, tuple[str, str]],
    flipped: list[Path],
    target: Path,
    draw: random.Random,
    faults: Faults,
) -> dict[Path, str]:
    """Copies every file to its place, the flipped ones to a wrong class."""
    labels = sorted({label for _, label in dealt.values()})
    chosen, placed = set(flipped), {}
    for number, (path, (split, label)) in enumerate(dealt.items()):
        wrong = draw.choice([one for one in labels if one != label])
        place = wrong if path in chosen else label
        name = f"{split}/{place}/{number:06d}{path.suffix}"
        if path in chosen:
            faults.flips[name] = label
        placed[path] = name
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / name)
    return placed


def _is_readable(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, UnidentifiedImageError):
        return False
    return True


def _copy(  # noqa: PLR0917 - the order in which they are used
    path: Path, original: str, place: str, number: int, target: Path, faults: Faults
) -> tuple[str, str]:
    """Writes a changed copy of `path`; the changes take turns."""
    change = list(_CHANGES)[(number // 2) % len(_CHANGES)]
    name = f"{place}/{Path(original).stem}-{number}.jpg"
    (target / name).parent.mkdir(parents=True, exist_ok=True)
    with Image.open(path) as image:
        changed = _CHANGES[change](image.convert("RGB"))
        changed.save(target / name, "JPEG", quality=_QUALITY.get(change, 92))
    faults.changes[name] = change
    return original, name


def _resize(image: Image.Image) -> Image.Image:
    size = [max(1, round(side * _RESIZED)) for side in image.size]
    return image.resize((size[0], size[1]), Image.Resampling.BICUBIC)


def _crop(image: Image.Image) -> Image.Image:
    x, y = (round(side * _CROPPED_SHARE) for side in image.size)
    return image.crop((x, y, image.width - x, image.height - y))


def _brighten(image: Image.Image) -> Image.Image:
    table = [min(255, round(value * _BRIGHTER)) for value in range(256)]
    return image.point(table * len(image.getbands()))


_CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "re-encoded": lambda image: image,
    "resized": _resize,
    "cropped": _crop,
    "brightened": _brighten,
}
