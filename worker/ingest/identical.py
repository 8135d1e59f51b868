"""What is said of files that show the same as others which came with them.

It is said when the pictures of the version are known: one that the parent has already
keeps the name and the file that it has there.
"""

from collections import defaultdict
from collections.abc import Iterable

from worker.ingest.content import Merged
from worker.ingest.found import CONFLICT, COPY, SkipList
from worker.ingest.join import AnyPicture, Joined
from worker.ingest.verify import Picture
from worker.ingest.version_source import KeptPicture


def note_identical(merged: Merged[Picture], joined: Joined, skips: SkipList) -> None:
    """Names each copy, and each picture that is there under two labels.

    Args:
        merged: What was the same among the pictures that came.
        joined: The pictures of the version; each that came is one of them.
        skips: Receives the copies and conflicts.
    """
    if not merged.copies and not merged.conflicts:
        return
    kept = (picture for _, picture in merged.copies)
    first = (group[0] for group in merged.conflicts)
    places = _Places(joined, [*kept, *first])
    for copy, original in merged.copies:
        now, where = places.find(original)
        reason = f"It shows the same as “{now.name}”, which {where}."
        skips.add(copy.name, COPY, reason, same_as=now.sha256)
    for group in merged.conflicts:
        now, _ = places.find(group[0])
        _note_conflict(group, now.sha256, skips)


class _Places:
    """Where pictures that came are now, by what they show and by their bytes."""

    def __init__(self, joined: Joined, came: Iterable[Picture]) -> None:
        # Digests that are there already: there may be a million copies.
        wanted = {key for one in came for key in _list_keys(one)}
        aside = [entry.picture for entry in joined.quarantine]
        self._found: dict[bytes, tuple[AnyPicture, str]] = {}
        for pictures, where in (
            (joined.pictures, "is used"),
            (aside, "lies in quarantine"),
        ):
            for picture in pictures:
                for key in _list_keys(picture):
                    if key in wanted:
                        self._found[key] = picture, where

    def find(self, picture: Picture) -> tuple[AnyPicture, str]:
        """Returns what a picture became, and words for where it is."""
        pixels, own = _list_keys(picture)
        return self._found[pixels if pixels in self._found else own]


def _list_keys(picture: AnyPicture) -> tuple[bytes, bytes]:
    if isinstance(picture, KeptPicture):
        return bytes.fromhex(picture.content), picture.digest
    return picture.pixels_digest, picture.digest


def _note_conflict(group: list[Picture], same_as: str, skips: SkipList) -> None:
    own: dict[str, set[str]] = defaultdict(set)
    for picture in group:
        own[picture.name].add(picture.label)
    first = group[0]
    second = next(one for one in group if one.label != first.label)
    for name, labels in own.items():
        other = second if first.label in labels else first
        skips.add(name, CONFLICT, _contradiction(labels, other), same_as=same_as)


def _contradiction(labels: set[str], other: Picture) -> str:
    """Says of a file with these labels what contradicts it: its own, or another's."""
    if len(labels) > 1:
        words = " and ".join(f"“{label}”" for label in sorted(labels))
        return (
            f"The label table calls it {words}. It is kept in quarantine until you say "
            "which label is right."
        )
    return (
        f"It shows the same as “{other.name}”, which is “{other.label}”. One is kept "
        "in quarantine until you say which label is right."
    )
