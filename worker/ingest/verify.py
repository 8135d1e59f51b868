"""Proves every labelled picture, less what earlier attempts have proved.

One bad picture never sinks a dataset: it is left out with its reason, whatever it did
to the process that looked at it.
"""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.ingest.child_pool import Outcome, Work, run_in_children
from worker.ingest.found import FoundFile, LabelledFile, SkipList
from worker.ingest.labels import note_lost_classes
from worker.ingest.limits import Limits
from worker.ingest.proofs import Journal, Known, take_over

PROVER = "worker.ingest.prove"
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

    There may be a million: digests are bytes, half as large as in words.

    Args:
        digest: SHA-256 of the original bytes.
        pixels_digest: SHA-256 of the upright pixels.
        label: Its class.
        split: The user's wish, if any.
        name: The user's name for it.
        file: The original file.
        png: The upright PNG that training reads instead, if there is one.
        suffix: Ending of the original's kind.
        size_bytes: Of the original.
        width_px: Upright width.
        height_px: Upright height.
        remarks: What was done to it, as codes of `REMARKS`.
        given: Its value in the label table's column of groups, where it has one.
        group: What one split must hold together, if anything.
        picture_hash: As `picture_hash` computes it, where somebody has.
    """

    digest: bytes
    pixels_digest: bytes
    label: str
    split: str | None
    name: str
    file: FoundFile
    png: FoundFile | None
    suffix: str
    size_bytes: int
    width_px: int
    height_px: int
    remarks: Sequence[str]
    given: str | None = None
    group: str | None = None
    picture_hash: int | None = None

    @property
    def sha256(self) -> str:
        """SHA-256 of the original bytes, in hexadecimal digits."""
        return self.digest.hex()

    @property
    def content(self) -> str:
        """SHA-256 of the upright pixels, in hexadecimal digits."""
        return self.pixels_digest.hex()

    @property
    def path(self) -> Path:
        """Where the original lies."""
        return self.file.path

    @property
    def rewritten(self) -> Path | None:
        """Where the PNG lies that training reads instead, if there is one."""
        return None if self.png is None else self.png.path


def verify(
    files: list[LabelledFile],
    journal: Journal,
    limits: Limits,
    skips: SkipList,
    report: Callable[[int, int], None],
    *,
    earlier: Iterable[Path] = (),
) -> tuple[list[Picture], list[str]]:
    """Returns the good pictures, and sentences about what was done to some.

    Args:
        files: Everything with a label; one with several is a picture of each.
        journal: Keeps what is proved, and says where rewritten pictures go.
        limits: Time, memory and pixels one picture may take.
        skips: Receives the bad ones.
        report: Called with finished and all pictures, and with the same numbers again
            when a picture was put off.
        earlier: Folders of earlier attempts, whose proofs are taken over.
    """
    if not files:
        return [], []
    sorter = _Sorter(files, journal, skips)
    for number, known in take_over(files, earlier, journal, limits.max_pixels):
        sorter.put(number, known)
        report(sorter.done, len(files))
    if left := len(files) - sorter.done:
        for outcome in run_in_children(_work(left, limits), sorter.tasks(limits)):
            if outcome.is_last:
                known = _learn(outcome)
                journal.add(outcome.key, files[outcome.key], known)
                sorter.put(outcome.key, known)
            report(sorter.done, len(files))
    pictures = sorter.pictures
    # In two steps: a pair for each would be made anew.
    pictures.sort(key=lambda picture: picture.name)
    pictures.sort(key=lambda picture: picture.digest)
    return pictures, _sentences(files, sorter)


class _Sorter:
    """Sorts files into good pictures and those left out, each once."""

    def __init__(
        self, files: list[LabelledFile], journal: Journal, skips: SkipList
    ) -> None:
        self._files, self._journal, self._skips = files, journal, skips
        self._is_known = bytearray(len(files))
        self.pictures: list[Picture] = []
        self.remarks: Counter[str] = Counter()  # how many files have each
        self.done = 0

    def put(self, number: int, known: Known) -> None:
        labelled = self._files[number]
        if known.proof is not None:
            png = None
            if known.proof["rewritten"]:
                png = FoundFile(self._journal.rewritten_path(number), "")
            self.pictures += [
                _picture(labelled, label, known.proof, png)
                for label in (labelled.label, *labelled.also)
            ]
            self.remarks.update(known.proof["remarks"])
        elif known.fault is not None:
            self._skips.add(labelled.file.name, *known.fault)
        self._is_known[number] = True
        self.done += 1

    def tasks(self, limits: Limits) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """What is still to be proved."""
        for number, labelled in enumerate(self._files):
            if not self._is_known[number]:
                target = self._journal.rewritten_path(number)
                yield number, (str(labelled.file.path), str(target), limits.max_pixels)


def _work(left: int, limits: Limits) -> Work:
    return Work(
        module=PROVER,
        function="prove",
        seconds=limits.image_seconds,
        memory_bytes=limits.image_memory_bytes,
        children=min(left, len(os.sched_getaffinity(0))),
    )


def _learn(outcome: Outcome) -> Known:
    if outcome.fault is not None:
        return Known(fault=(outcome.fault.code, outcome.fault.reason))
    return Known(proof=outcome.result)


def _picture(
    labelled: LabelledFile, label: str, proof: dict[str, Any], png: FoundFile | None
) -> Picture:
    labelled.file.sha256 = None  # it was needed to find proofs, and is the same
    return Picture(
        digest=bytes.fromhex(proof["sha256"]),
        pixels_digest=bytes.fromhex(proof["content"]),
        label=label,
        split=labelled.split,
        name=labelled.file.name,
        file=labelled.file,
        png=png,
        suffix=sys.intern(proof["suffix"]),
        size_bytes=proof["size_bytes"],
        width_px=proof["width_px"],
        height_px=proof["height_px"],
        # One of a few for all pictures of a kind, mostly the empty one.
        remarks=tuple(map(sys.intern, proof["remarks"])),
        given=labelled.group,
    )


def _sentences(files: list[LabelledFile], sorter: _Sorter) -> list[str]:
    changed = [
        f"{count:,} {'picture was' if count == 1 else 'pictures were'} {REMARKS[code]}."
        for code, count in sorted(sorter.remarks.items())
    ]
    used = (picture.label for picture in sorter.pictures)
    return changed + note_lost_classes((entry.label for entry in files), used)
