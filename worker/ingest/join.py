"""Brings new pictures to those of the version that they are added to.

What shows the same as a picture that is there is that picture, and the newest statement
wins: under another label, it is relabelled. What lies in quarantine stays there until
somebody decides, however often it comes again.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from worker.ingest.content import Merged
from worker.ingest.found import AGAIN, SkipList
from worker.ingest.verify import Picture
from worker.ingest.version_source import KeptPicture, Parent, Quarantined

AnyPicture = Picture | KeptPicture


@dataclass(slots=True)
class Joined:
    """The pictures of a new version.

    Args:
        pictures: One per content, sorted by hash.
        quarantine: Those set aside, sorted by hash.
        regrouped: How many pictures of the parent have another value in the column of
            groups than before.
        renewed: How many of the parent's came again in place of a file that was lost.
    """

    pictures: list[AnyPicture]
    quarantine: list[Quarantined[AnyPicture]]
    regrouped: int = 0
    renewed: int = 0


def take_alone(
    merged: Merged[Picture], parent: Parent | None, lost: Collection[str]
) -> Joined:
    """Returns the new pictures alone; those of the parent keep their file and split.

    Args:
        merged: What came.
        parent: The version that they replace, if any.
        lost: SHA-256 of the parent's pictures whose file cannot be kept.
    """
    before: dict[str, KeptPicture] = {}
    for one in parent.pictures if parent else []:
        before[one.content] = before[one.sha256] = one
    pictures = [_as_before(one, before, lost) for one in merged.kept]
    regrouped = sum(_is_regrouped(one, _find_old(one, before)) for one in pictures)
    aside = _sorted(map(_set_aside, merged.conflicts))
    return Joined(pictures, aside, regrouped)


def join(
    merged: Merged[Picture], parent: Parent, skips: SkipList, lost: Collection[str]
) -> Joined:
    """Returns the pictures of `parent` and the new ones.

    Args:
        merged: What came.
        parent: The version that they are added to, edits applied.
        skips: Receives what is there already.
        lost: SHA-256 of the parent's pictures whose file is not there any more: of
            those that came again the new file is taken.
    """
    table = _Table(parent, skips, lost)
    for picture in merged.kept:
        table.add(picture)
    for group in merged.conflicts:
        table.add_conflict(group)
    pictures = [*table.used, *table.new]
    pictures.sort(key=lambda one: one.sha256)
    aside = _sorted([*table.aside, *table.contested])
    return Joined(pictures, aside, table.regrouped)


class _Table:
    """The parent's pictures by what they show, each under its pixels and its bytes."""

    def __init__(self, parent: Parent, skips: SkipList, lost: Collection[str]) -> None:
        self._skips, self._version, self._lost = skips, parent.name, lost
        self._used: dict[str, KeptPicture] = {}
        self._aside: dict[str, Quarantined[KeptPicture]] = {}
        for one in parent.pictures:
            self._used[one.content] = self._used[one.sha256] = one
        for entry in parent.quarantine:
            self._put_aside(entry)
        self.new: list[AnyPicture] = []
        self.contested: list[Quarantined[AnyPicture]] = []
        self.regrouped = 0

    @property
    def used(self) -> list[AnyPicture]:
        return list({one.sha256: one for one in self._used.values()}.values())

    @property
    def aside(self) -> list[Quarantined[AnyPicture]]:
        entries = {one.picture.sha256: one for one in self._aside.values()}
        return [
            Quarantined(one.picture, one.labels, one.reason) for one in entries.values()
        ]

    def add(self, picture: Picture) -> None:
        """Adds a picture that came under one label."""
        used, aside = self._find(picture)
        if used:
            self._say_again(picture, used)
        elif aside:
            self._stay_aside(aside, [picture])
        else:
            self.new.append(picture)

    def add_conflict(self, group: list[Picture]) -> None:
        """Sets aside what came under several labels, whatever it was before."""
        used, aside = self._find(group[0])
        if used:
            labels = sorted({used.label, *(one.label for one in group)})
            self._drop_used(used)
            used.label = ""
            entry = Quarantined(used, labels, _name_all(labels))
            self._put_aside(entry)
            self._take_over(entry, group)
        elif aside:
            self._stay_aside(aside, group)
        else:
            self.contested.append(_set_aside(group))

    def _find(
        self, picture: Picture
    ) -> tuple[KeptPicture | None, Quarantined[KeptPicture] | None]:
        keys = (picture.content, picture.sha256)
        used = next((self._used[key] for key in keys if key in self._used), None)
        aside = next((self._aside[key] for key in keys if key in self._aside), None)
        return used, aside

    def _put_aside(self, entry: Quarantined[KeptPicture]) -> None:
        picture = entry.picture
        self._aside[picture.content] = self._aside[picture.sha256] = entry

    def _drop_used(self, picture: KeptPicture) -> None:
        for key in (picture.content, picture.sha256):
            self._used.pop(key, None)

    def _say_again(self, picture: Picture, used: KeptPicture) -> None:
        there = f"It shows the same as “{used.name}” of {self._version}"
        becomes = "stays"
        if picture.label != used.label:
            becomes = f"is relabelled to “{picture.label}”"
        used.label = picture.label
        used.split = picture.split or used.split
        self._take_values(used, [picture])
        if used.sha256 in self._lost:
            self._drop_used(used)
            self.new.append(_renew(used, picture))
        else:
            reason = f"{there}, which {becomes}."
            self._skips.add(picture.name, AGAIN, reason, same_as=used.sha256)

    def _stay_aside(
        self, aside: Quarantined[KeptPicture], again: list[Picture]
    ) -> None:
        aside.labels = sorted({*aside.labels, *(one.label for one in again)})
        if self._take_over(aside, again) or len(again) > 1:
            return  # several are told as a conflict
        there = aside.picture
        reason = (
            f"It shows the same as “{there.name}”, which lies in quarantine and stays "
            "there until you decide about it."
        )
        self._skips.add(again[0].name, AGAIN, reason, same_as=there.sha256)

    def _take_over(self, aside: Quarantined[KeptPicture], again: list[Picture]) -> bool:
        """Takes what is new of a picture in quarantine; says whether its file is."""
        picture = aside.picture
        self._take_values(picture, again)
        if picture.sha256 not in self._lost:
            return False
        for key in (picture.content, picture.sha256):
            self._aside.pop(key, None)
        self.contested.append(
            Quarantined(_renew(picture, again[0]), aside.labels, aside.reason)
        )
        return True

    def _take_values(self, picture: KeptPicture, again: list[Picture]) -> None:
        """Takes what the table's column says of it now; without a word it stays."""
        told = (one.given for one in again if one.given is not None)
        given = next(told, picture.given)
        self.regrouped += given != picture.given
        picture.given = given


def _find_old(
    picture: AnyPicture, before: dict[str, KeptPicture]
) -> KeptPicture | None:
    return before.get(picture.content) or before.get(picture.sha256)


def _is_regrouped(picture: AnyPicture, old: KeptPicture | None) -> bool:
    """Whether a table names another group than was known; silence changes nothing."""
    return old is not None and picture.given not in (None, old.given)


def _renew(old: KeptPicture, again: Picture) -> Picture:
    """Returns the picture that came again in place of one whose file is lost."""
    return replace(
        again,
        label=old.label,
        split=old.split,
        name=old.name,
        given=old.given,
        group=old.group,
        picture_hash=old.picture_hash,
    )


def _as_before(
    picture: Picture, before: dict[str, KeptPicture], lost: Collection[str]
) -> AnyPicture:
    old = _find_old(picture, before)
    if old is None:
        return picture
    split = picture.split or old.split
    if old.sha256 != picture.sha256 or old.sha256 in lost:
        # The same pixels in another file, or the only file that there is.
        return replace(picture, split=split)
    return replace(
        old, label=picture.label, split=split, name=picture.name, given=picture.given
    )


def _set_aside(group: list[Picture]) -> Quarantined[AnyPicture]:
    labels = sorted({picture.label for picture in group})
    given = next((one.given for one in group if one.given is not None), None)
    picture = replace(group[0], label="", given=given)
    return Quarantined(picture, labels, _name_all(labels))


def _name_all(labels: list[str]) -> str:
    words = " and ".join(f"“{label}”" for label in labels)
    return f"It is there as {words}."


def _sorted(
    entries: Iterable[Quarantined[AnyPicture]],
) -> list[Quarantined[AnyPicture]]:
    return sorted(entries, key=lambda entry: entry.picture.sha256)
