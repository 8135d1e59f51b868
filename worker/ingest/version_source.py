"""The dataset version that a new one is made from: its pictures, taken as they are.

They were proved when they came, so nobody decodes them again; whether the files of
those that are taken over are there is seen later (`lost_files`). Some hundred bytes a
picture are kept of them.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Generic, TypeVar

from shared.artifacts import APPEAR_SECONDS, verify_manifest
from worker.ingest.dealing import BY_COLUMN
from worker.ingest.found import Skip
from worker.ingest.grouping import Grouping, read_grouping
from worker.ingest.version_tables import (
    CONTENTS_TABLE,
    MANIFEST_TABLE,
    QUARANTINE_TABLE,
    REPORT,
    read_table,
)


@dataclass(slots=True)
class KeptPicture:
    """A picture of an earlier version, in the words of `verify.Picture`.

    Args:
        sha256: Of the original bytes.
        known_content: Hash of the upright pixels, where the version knew it.
        label: Its class; empty while several are claimed.
        split: Where it is, or was; empty if it was never dealt.
        name: The user's name for it.
        root: The earlier version's folder.
        suffix: Ending of the original's kind.
        is_rewritten: Whether training reads an upright PNG instead of the original.
        size_bytes: Of the original; 0 where the version did not know it.
        width_px: Upright width.
        height_px: Upright height.
        given: Its value in the label table's column of groups, where it has one.
        group: What one split holds together.
        picture_hash: As `picture_hash` computes it, where somebody has.
    """

    sha256: str
    known_content: str | None
    label: str
    split: str | None
    name: str
    root: Path
    suffix: str
    is_rewritten: bool
    size_bytes: int
    width_px: int
    height_px: int
    given: str | None = None
    group: str | None = None
    picture_hash: int | None = None

    @property
    def digest(self) -> bytes:
        """SHA-256 of the original bytes."""
        return bytes.fromhex(self.sha256)

    @property
    def content(self) -> str:
        """Hash of the pixels; of the bytes where nobody knows that."""
        return self.known_content or self.sha256

    @property
    def path(self) -> Path:
        """The original file."""
        folder = "originals" if self.is_rewritten else "images"
        return self.root / folder / self.sha256[:2] / f"{self.sha256}{self.suffix}"

    @property
    def rewritten(self) -> Path | None:
        """The upright PNG that training reads instead, if there is one."""
        if not self.is_rewritten:
            return None
        return self.root / "images" / self.sha256[:2] / f"{self.sha256}.png"

    @property
    def remarks(self) -> list[str]:
        """What was done to it: told by the version in which it came."""
        return []


Aside = TypeVar("Aside")


@dataclass(slots=True)
class Quarantined(Generic[Aside]):
    """A picture that belongs to no split.

    Args:
        picture: With an empty label while several are claimed.
        labels: All labels that it was given.
        reason: Sentence that says why it is here.
    """

    picture: Aside
    labels: list[str]
    reason: str


@dataclass(slots=True)
class Parent:
    """The version that a new one is made from.

    Args:
        folder: Where it lies.
        name: What sentences call it: `version 3`.
        number: Of the version, where the records told it.
        fingerprint: Its identity.
        grouping: What makes its groups.
        counts: Its pictures by split.
        class_folders: What folders of classes are called, in names of its pictures.
        skipped: Files that were left out of it, the first ones by name.
        skipped_by_code: How many there are in all.
        pictures: Those in use; edits change them.
        quarantine: Those set aside.
    """

    folder: Path
    name: str
    number: int | None
    fingerprint: str
    grouping: Grouping
    counts: dict[str, int]
    class_folders: frozenset[str] = frozenset()
    skipped: list[Skip] = field(default_factory=list)
    skipped_by_code: dict[str, int] = field(default_factory=dict)
    pictures: list[KeptPicture] = field(default_factory=list)
    quarantine: list[Quarantined[KeptPicture]] = field(default_factory=list)

    @property
    def shares(self) -> dict[str, float]:
        """How its pictures are dealt; nothing where a split is empty."""
        total = sum(self.counts.values())
        if not total or not all(self.counts.values()):
            return {}
        return {split: count / total for split, count in self.counts.items()}

    @property
    def everything(self) -> Iterator[KeptPicture]:
        """Its pictures, those set aside behind those in use."""
        yield from self.pictures
        yield from (entry.picture for entry in self.quarantine)

    def forget_given(self) -> None:
        """Drops what the table's column said: another column takes its place."""
        for picture in self.everything:
            picture.given = None


def load_parent(folder: Path, name: str, number: int | None) -> Parent:
    """Reads what a version tells of its pictures.

    Args:
        folder: A published version.
        name: What sentences call it.
        number: Of the version.

    Raises:
        OSError: Shared storage cannot be read.
    """
    verify_manifest(folder, appear_seconds=APPEAR_SECONDS)
    facts = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    contents = _Contents(folder)
    dealt = facts.get("split") or {}
    grouping = read_grouping(dealt)
    parent = Parent(
        folder=folder,
        name=name,
        number=number,
        fingerprint=facts["fingerprint"],
        grouping=grouping,
        counts={part: sum(counts.values()) for part, counts in facts["counts"].items()},
        class_folders=frozenset(
            dealt.get("class_folders") or facts.get("classes") or ()
        ),
        skipped=[Skip(**entry) for entry in facts.get("skipped") or []],
        skipped_by_code=facts.get("skipped_by_code") or {},
    )
    for row in read_table(folder, MANIFEST_TABLE):
        known = contents.find(row["sha256"])
        parent.pictures.append(_picture(folder, row, known, grouping))
    for row in read_table(folder, QUARANTINE_TABLE):
        known = contents.find(row["sha256"])
        picture = _picture(folder, row, known, grouping)
        parent.quarantine.append(Quarantined(picture, row["labels"], row["reason"]))
    return parent


class _Contents:
    """The rows of `contents.parquet`, in step with those of the other two tables.

    They are written in one order: pictures in use, then those set aside. A row that is
    out of step is kept until it is asked for.
    """

    def __init__(self, folder: Path) -> None:
        self._rows = read_table(folder, CONTENTS_TABLE)
        self._passed: dict[str, dict[str, Any]] = {}

    def find(self, sha256: str) -> dict[str, Any]:
        """Returns the row of a picture; empty where an older version has none."""
        if sha256 in self._passed:
            return self._passed.pop(sha256)
        for row in self._rows:
            if row["sha256"] == sha256:
                return row
            self._passed[row["sha256"]] = row
        return {}


def _picture(
    folder: Path, row: dict[str, Any], known: dict[str, Any], grouping: Grouping
) -> KeptPicture:
    group, given = row["group"], known.get("given_group")
    if grouping.by == BY_COLUMN and not grouping.copies:
        given = given or group  # as a version from before the column was kept has it
    return KeptPicture(
        sha256=row["sha256"],
        known_content=known.get("content"),
        label=sys.intern(row["label"]),  # one copy of what many have
        split=sys.intern(row["split"]),
        name=row["source_name"],
        root=folder,
        suffix=sys.intern(PurePosixPath(row["original"]).suffix),
        is_rewritten=row["path"] != row["original"],
        size_bytes=known.get("size_bytes") or 0,
        width_px=row["width_px"],
        height_px=row["height_px"],
        given=sys.intern(given) if given is not None else None,
        group=sys.intern(group) if group is not None else None,
        picture_hash=known.get("picture_hash"),
    )
