"""What a version changed against the one that it was made from.

`diff.json` counts it all and lists the first of each kind; `diff.parquet` lists all.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from worker.ingest.join import AnyPicture, Joined
from worker.ingest.version_source import Parent
from worker.ingest.version_tables import MANIFEST_TABLE, QUARANTINE_TABLE, read_table

Row = dict[str, Any]
Change = tuple[str, dict[str, Any]]  # its kind, and what it is about
KINDS = ("added", "removed", "relabelled", "moved", "quarantined", "restored")
MOST_ENTRIES = 10_000  # of each kind in diff.json
_NAMED = 5  # classes or moves that a sentence names
_VERBS = {
    "added": "added",
    "removed": "removed",
    "relabelled": "relabelled",
    "moved": "moved to another split",
    "quarantined": "put into quarantine",
    "restored": "brought back from quarantine",
}


@dataclass(slots=True)
class _Now:
    picture: AnyPicture
    split: str | None  # None in quarantine
    is_old: bool = False


def compare(parent: Parent, joined: Joined, splits: list[str]) -> dict[str, Any]:
    """Returns the content of diff.json.

    Args:
        parent: Its tables are read again, a part at a time.
        joined: The pictures of the new version.
        splits: The split of each in use.
    """
    book = _Book()
    for kind, entry in _list_changes(parent, joined, splits):
        book.add(kind, entry)
    return {
        "parent": {"version": parent.number, "fingerprint": parent.fingerprint},
        "counts": {kind: book.counts[kind] for kind in KINDS},
        "listed": {kind: len(book.entries[kind]) for kind in KINDS},
        "sentences": book.sentences() + _tell_regrouped(joined.regrouped),
        **{kind: book.entries[kind] for kind in KINDS},
    }


def _tell_regrouped(count: int) -> list[str]:
    if not count:
        return []
    whose = "1 picture has" if count == 1 else f"{count:,} pictures have"
    return [f"{whose} another value in the label table's column of groups."]


def list_rows(parent: Parent, joined: Joined, splits: list[str]) -> Iterator[Row]:
    """Yields the rows of diff.parquet.

    Args: as for `compare`.
    """
    for kind, entry in _list_changes(parent, joined, splits):
        yield dict.fromkeys(("label", "split", "from", "to")) | {"kind": kind} | entry


def _list_changes(
    parent: Parent, joined: Joined, splits: list[str]
) -> Iterator[Change]:
    """Yields every change, one at a time; a picture may have several."""
    now = {
        picture.sha256: _Now(picture, split)
        for picture, split in zip(joined.pictures, splits, strict=True)
    }
    for entry in joined.quarantine:
        now[entry.picture.sha256] = _Now(entry.picture, None)
    for row, was_used in _rows_before(parent):
        yield from _compare_one(row, now.get(row["sha256"]), was_used=was_used)
    for one in now.values():
        if not one.is_old:
            yield "quarantined" if one.split is None else "added", _entry(one)


class _Book:
    """Changes, counted all and listed up to `MOST_ENTRIES` of a kind."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.entries: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
        self._words: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}

    def add(self, kind: str, entry: dict[str, Any]) -> None:
        self.counts[kind] += 1
        self._words[kind][_detail(kind, entry)] += 1
        if len(self.entries[kind]) < MOST_ENTRIES:
            self.entries[kind].append(entry)

    def sentences(self) -> list[str]:
        return [self._sentence(kind) for kind in KINDS if self.counts[kind]]

    def _sentence(self, kind: str) -> str:
        count = self.counts[kind]
        verb = f"{'picture was' if count == 1 else 'pictures were'} {_VERBS[kind]}"
        words = self._words[kind]
        told = [f"{n:,} {word}" for word, n in words.most_common(_NAMED)]
        rest = len(words) - _NAMED
        more = f" and {rest} more" if rest > 0 else ""
        return f"{count:,} {verb}: {', '.join(told)}{more}."


def _detail(kind: str, entry: dict[str, Any]) -> str:
    if kind == "relabelled":
        return f"from “{entry['from']}” to “{entry['to']}”"
    if kind == "moved":
        return f"from {entry['from']} to {entry['to']}"
    return f"“{entry['label']}”" if entry["label"] else "of several labels"


def _rows_before(parent: Parent) -> Iterator[tuple[Row, bool]]:
    for row in read_table(parent.folder, MANIFEST_TABLE):
        yield row, True
    for row in read_table(parent.folder, QUARANTINE_TABLE):
        yield row, False


def _compare_one(row: Row, one: _Now | None, *, was_used: bool) -> Iterator[Change]:
    if one is None:
        yield "removed", _entry_before(row)
        return
    one.is_old = True
    if one.split is None:
        if was_used:
            yield "quarantined", _entry_before(row)
        return
    if not was_used:
        yield "restored", _entry(one)
    changed = {"sha256": row["sha256"], "name": one.picture.name}
    label = one.picture.label
    if row["label"] and row["label"] != label:
        yield "relabelled", {**changed, "from": row["label"], "to": label}
    if was_used and row["split"] != one.split:
        moved = {"label": label, "from": row["split"], "to": one.split}
        yield "moved", {**changed, **moved}


def _entry(one: _Now) -> dict[str, Any]:
    picture = one.picture
    split = picture.split or "" if one.split is None else one.split
    return {
        "sha256": picture.sha256,
        "name": picture.name,
        "label": picture.label,
        "split": split,
    }


def _entry_before(row: Row) -> dict[str, Any]:
    return {
        "sha256": row["sha256"],
        "name": row["source_name"],
        "label": row["label"],
        "split": row["split"],
    }
