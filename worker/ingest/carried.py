"""What earlier versions left out, told again by a version that keeps their pictures.

An edit brings no files, and a second upload brings others: without this, a file that
could not be read would be forgotten with the first decision.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import replace

from worker.ingest.found import AGAIN, CONFLICT, COPY, Skip, SkipList
from worker.ingest.join import Joined
from worker.ingest.verify import Picture
from worker.ingest.version_source import Parent

_CAME = "It came with an earlier version. "


def carry_over(
    skips: SkipList, parent: Parent, joined: Joined, read: Collection[str]
) -> None:
    """Adds what `parent` told of files that were left out, as far as it still holds.

    What is told of anew is not told twice. A file that has come by now is settled, also
    as a copy, and so are an archive or a table that was read again. So are one that
    shows the same as a picture which is gone, and one of whose labels somebody has said
    which is right. That pictures came once more was told by the version that they came
    to.

    Args:
        skips: What is new is in it already, and keeps its place; it knows which of the
            parent's are noted again.
        parent: The version whose pictures stay.
        joined: The pictures of the new version.
        read: Names of the sources and label tables that were read for it.
    """
    before = [skip for skip in parent.skipped if skip.code != AGAIN]
    came = _list_names(joined, {skip.file for skip in before})
    copies = {one.file for one in skips.items if one.code in (COPY, CONFLICT, AGAIN)}
    twins = _Twins(joined, {skip.same_as for skip in before if skip.same_as})
    kept = []
    for skip in before:
        reason = twins.explain(skip)
        is_told = (skip.file, skip.code) in skips.again or skip.file in came
        is_told |= _name_place(skip) in read
        # What shows the same as another has its own rules, by `twins`.
        is_told |= skip.same_as is None and skip.file in copies
        if reason is not None and not is_told:
            kept.append(replace(skip, reason=_CAME + reason.removeprefix(_CAME)))
    skips.carry(kept, _count(parent, before, kept))


def _count(parent: Parent, before: list[Skip], kept: list[Skip]) -> dict[str, int]:
    """Returns by code how many still hold of those that `parent` told and counted.

    Of those that it only counted no name is known: they hold as the named ones do. All
    would be counted once more by every upload that brings them again.
    """
    listed = Counter(skip.code for skip in before)
    holding = Counter(skip.code for skip in kept)
    counts = {}
    for code, named in listed.items():
        unnamed = max(0, parent.skipped_by_code.get(code, 0) - named)
        counts[code] = holding[code] + unnamed * holding[code] // named
    return {code: count for code, count in counts.items() if count}


def _name_place(skip: Skip) -> str:
    """The table, for one of its lines; else the file itself."""
    table, comma, line = skip.file.rpartition(", line ")
    return table if comma and line.isdecimal() else skip.file


def _list_names(joined: Joined, wanted: set[str]) -> set[str]:
    """Those of `wanted` that are names of new pictures."""
    new = (one for one in joined.pictures if isinstance(one, Picture))
    return {picture.name for picture in new if picture.name in wanted}


class _Twins:
    """The pictures that show the same as files which were left out, by their hashes."""

    def __init__(self, joined: Joined, wanted: set[str]) -> None:
        aside = (entry.picture for entry in joined.quarantine)
        self._used = {p.sha256: p.name for p in joined.pictures if p.sha256 in wanted}
        self._aside = {p.sha256: p.name for p in aside if p.sha256 in wanted}

    def explain(self, skip: Skip) -> str | None:
        """Why the file is left out today; None where that is settled."""
        if skip.same_as is None:
            return skip.reason
        if skip.code == CONFLICT:
            return skip.reason if skip.same_as in self._aside else None
        if skip.same_as in self._used:
            name = self._used[skip.same_as]
            return f"It shows the same as “{name}”, which is used."
        if skip.same_as in self._aside:
            name = self._aside[skip.same_as]
            return f"It shows the same as “{name}”, which lies in quarantine."
        return None
