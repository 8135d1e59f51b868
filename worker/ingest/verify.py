"""Proves every labelled picture, and merges those that are the same.

One bad picture never sinks a dataset: it is left out with its reason, whatever it did
to the process that looked at it.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.ingest.child_pool import Work, run_in_children
from worker.ingest.found import LabelledFile, SkipList
from worker.ingest.limits import Limits

# What was done to a picture, in the words of the report.
REMARKS = {
    "turned": "turned upright as its EXIF block says",
    "cmyk": "converted from CMYK colours to RGB",
    "deep": "brought from more than 8 bits a channel to 8",
    "palette": "converted from a palette or few bits to plain colours",
    "alpha": "laid on white where transparent",
    "more_frames": "reduced to the first of its frames or pages",
    "more_frames_kept": "used by the first of its frames; the file is unchanged",
    "other_format": "rewritten as PNG",
}


@dataclass(slots=True)
class Picture:
    """A proved picture; `HasContent` for merging.

    Args:
        sha256: Of the original bytes.
        content: Hash of the upright pixels.
        label: Its class.
        split: The user's wish, if any.
        name: The user's name for it.
        path: The original file.
        rewritten: The upright PNG that training reads instead, if there is one.
        suffix: Ending of the original's kind.
        size_bytes: Of the original.
        width_px: Upright width.
        height_px: Upright height.
        remarks: What was done to it, as codes of `REMARKS`.
        group: What one split must hold together, if anything.
        picture_hash: As `picture_hash` computes it, where somebody has.
    """

    sha256: str
    content: str
    label: str
    split: str | None
    name: str
    path: Path
    rewritten: Path | None
    suffix: str
    size_bytes: int
    width_px: int
    height_px: int
    remarks: list[str]
    group: str | None = None
    picture_hash: int | None = None


def verify(
    files: list[LabelledFile],
    folder: Path,
    limits: Limits,
    skips: SkipList,
    report: Callable[[int, int], None],
) -> tuple[list[Picture], list[str]]:
    """Returns the good pictures, and sentences about what was done to some.

    Args:
        files: Everything with a label.
        folder: Where rewritten pictures go.
        limits: Time, memory and pixels one picture may take.
        skips: Receives the bad ones.
        report: Called with finished and all pictures.
    """
    if not files:
        return [], []
    folder.mkdir(parents=True, exist_ok=True)
    work = Work(
        module="worker.ingest.prove",
        function="prove",
        seconds=limits.image_seconds,
        memory_bytes=limits.image_memory_bytes,
        children=max(1, min(len(files), len(os.sched_getaffinity(0)))),
    )
    pictures: list[Picture] = []
    for done, outcome in enumerate(
        run_in_children(work, _tasks(files, folder, limits)), start=1
    ):
        labelled = files[outcome.key]
        if outcome.fault is not None:
            skips.add(labelled.file.name, outcome.fault.code, outcome.fault.reason)
        else:
            target = _rewritten_path(folder, outcome.key)
            pictures.append(_picture(labelled, outcome.result, target))
        report(done, len(files))
    pictures.sort(key=lambda picture: (picture.sha256, picture.name))
    return pictures, _sentences(files, pictures)


def _tasks(
    files: list[LabelledFile], folder: Path, limits: Limits
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    for number, labelled in enumerate(files):
        target = _rewritten_path(folder, number)
        yield number, (str(labelled.file.path), str(target), limits.max_pixels)


def _rewritten_path(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}.png"


def _picture(labelled: LabelledFile, proof: dict[str, Any], target: Path) -> Picture:
    return Picture(
        sha256=proof["sha256"],
        content=proof["content"],
        label=labelled.label,
        split=labelled.split,
        name=labelled.file.name,
        path=labelled.file.path,
        rewritten=target if proof["rewritten"] else None,
        suffix=proof["suffix"],
        size_bytes=proof["size_bytes"],
        width_px=proof["width_px"],
        height_px=proof["height_px"],
        remarks=proof["remarks"],
        group=labelled.group,
    )


def _sentences(files: list[LabelledFile], pictures: list[Picture]) -> list[str]:
    counts = Counter(code for picture in pictures for code in picture.remarks)
    changed = [
        f"{count:,} {'picture was' if count == 1 else 'pictures were'} {REMARKS[code]}."
        for code, count in sorted(counts.items())
    ]
    lost = {entry.label for entry in files} - {picture.label for picture in pictures}
    return changed + [
        f"The class “{label}” is gone: none of its files is a usable picture."
        for label in sorted(lost)
    ]
