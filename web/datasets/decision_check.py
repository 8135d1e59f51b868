"""Refuses decisions of which ingest could make no version, before they are queued.

Ingest would say the same, minutes later, and all that was chosen would be lost. What is
counted are the version's own numbers and the pictures that are decided about. What
cannot be told without dealing all pictures is left to ingest.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from shared.artifacts import Storage
from shared.class_names import clean_label
from shared.edit_actions import EXCLUDE, QUARANTINE, RELABEL
from shared.errors import UserError
from shared.picture_folders import TRAIN
from shared.tables import DatasetVersion
from web.datasets.decision import Decision, Decisions
from web.datasets.version_pictures import (
    KnownPicture,
    find_pictures,
    has_folder_groups,
)
from web.ranges import dig

# As ingest has it: one picture each to train on, to choose by and to test on.
FEWEST_EACH = 3
FEWEST_CLASSES = 2
FOLDER = "folder"
_NAMED = 5  # classes in one sentence


@dataclass
class _Fate:
    """A picture as it was and as it will be."""

    was: KnownPicture
    label: str
    in_use: bool
    is_gone: bool = False

    @property
    def is_changed(self) -> bool:
        now = (self.label, self.in_use, self.is_gone)
        return now != (self.was.label, self.was.in_use, False)


def refuse_hopeless(
    storage: Storage, version: DatasetVersion, wanted: Decisions
) -> None:
    """Refuses what could not become a version.

    Raises:
        UserError: Naming the picture, or the classes with how many would be left, and
            what would help.
    """
    _refuse_folders(storage, version, wanted.split)
    images = {image for one in wanted.decisions for image in one.images}
    known = find_pictures(storage, version, images) if images else None
    if known is None:
        return
    fates = {image: _Fate(one, one.label, one.in_use) for image, one in known.items()}
    for decision in wanted.decisions:
        for image in decision.images:
            _apply(version, decision, image, fates)
    if not wanted.split:
        _refuse_unchanged(version, fates.values())
    counts = _count_after(version, fates.values())
    if counts is not None:
        _refuse_few_classes(counts)
        _refuse_small(counts)
        _refuse_untrained(version, wanted.split, counts)


def _apply(
    version: DatasetVersion, decision: Decision, image: str, fates: dict[str, _Fate]
) -> None:
    """Carries a decision out on one picture, as ingest will."""
    fate = fates.get(image)
    if fate is None or fate.is_gone:
        raise UserError(
            f"Version {version.version} has no picture {image}, or it was excluded "
            f"before, so nothing can {decision.action} it. Leave it out of the "
            "request.",
            field="decisions",
        )
    if decision.action == EXCLUDE:
        fate.is_gone, fate.in_use = True, False
    elif decision.action == QUARANTINE:
        fate.in_use = False
    elif decision.action == RELABEL:
        fate.label, fate.in_use = clean_label(decision.label or ""), True
    elif not fate.label:
        labels = " and ".join(f"“{label}”" for label in fate.was.labels)
        raise UserError(
            f"“{fate.was.name}” is there as {labels}, so it can come back only under "
            "the label that you give it: relabel it.",
            field="decisions",
        )
    else:
        fate.in_use = True


def _refuse_unchanged(version: DatasetVersion, fates: Iterable[_Fate]) -> None:
    if not any(fate.is_changed for fate in fates):
        raise UserError(
            f"This would change nothing: every picture of version {version.version} is "
            "already as you chose.",
            field="decisions",
        )


def _count_after(
    version: DatasetVersion, fates: Iterable[_Fate]
) -> dict[str, Counter[str]] | None:
    """Returns how many pictures each class would have, by split.

    None where the version tells no counts. A picture that was never dealt counts to
    the split "".
    """
    told = version.report.get("counts")
    if not isinstance(told, dict):
        return None
    counts: dict[str, Counter[str]] = {}
    for split, by_label in told.items():
        for label, number in by_label.items():
            counts.setdefault(label, Counter())[split] += number
    for fate in fates:
        was = fate.was
        if was.in_use:
            counts.setdefault(was.label, Counter())[was.split] -= 1
        if fate.in_use:
            counts.setdefault(fate.label, Counter())[was.split] += 1
    return {label: left for label, left in counts.items() if left.total() > 0}


def _refuse_few_classes(counts: dict[str, Counter[str]]) -> None:
    if len(counts) < FEWEST_CLASSES:
        left = f"only “{next(iter(counts))}”" if counts else "no class"
        raise UserError(
            f"After this {left} would be left, and a classifier tells at least "
            f"{FEWEST_CLASSES} classes apart. Leave fewer pictures of the others out, "
            "or add some first.",
            field="decisions",
        )


def _refuse_small(counts: dict[str, Counter[str]]) -> None:
    small = {
        label: left.total()
        for label, left in sorted(counts.items())
        if left.total() < FEWEST_EACH
    }
    if small:
        named = _name([f"“{label}” ({left})" for label, left in small.items()])
        raise UserError(
            f"After this these classes would have too few pictures left: {named}. "
            f"Each class needs {FEWEST_EACH}: one each to train on, to choose by and "
            "to test on. Leave fewer of theirs out, or all of them, or add pictures "
            "to them first.",
            field="decisions",
        )


def _refuse_untrained(
    version: DatasetVersion,
    split: dict[str, Any] | None,
    counts: dict[str, Counter[str]],
) -> None:
    """Refuses to leave a class without training pictures, where none is dealt anew.

    Where groups are kept whole, one of another class may bring some along: ingest sees.
    """
    facts = dig(version.report, "split") or {}
    is_grouped = facts.get("by") or facts.get("copies") or dig(split, "by")
    is_dealt_anew = dig(split, "again") or not any(
        left[TRAIN] or left[""] for left in counts.values()
    )
    if is_grouped or is_dealt_anew:
        return
    lacking = [
        f"“{label}”"
        for label, left in sorted(counts.items())
        if not left[TRAIN] and not left[""]
    ]
    if lacking:
        raise UserError(
            "After this these classes would have no picture in the training split: "
            f"{_name(lacking)}. Leave fewer of their training pictures out, or have "
            "the splits dealt anew, too.",
            field="decisions",
        )


def _refuse_folders(
    storage: Storage, version: DatasetVersion, split: dict[str, Any] | None
) -> None:
    if dig(split, "by") != FOLDER:
        return
    if has_folder_groups(storage, version) is False:
        raise UserError(
            f"The pictures of version {version.version} cannot be dealt by folder: "
            "they do not lie in folders beside their class folders, as in "
            "CLASS/patient-7/picture.png or patient-7/CLASS/picture.png, or in too "
            "few to fill three splits. Keep pictures that look alike together "
            "instead, or leave the splits as they are.",
            field="split",
        )


def _name(names: list[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
