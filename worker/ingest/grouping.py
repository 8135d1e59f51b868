"""What makes the groups that one split must hold whole, as asked and as kept.

A version is grouped by folders, by a column of its label table, or not; and clusters of
copies are joined to that, or not. What a request does not name stays as it was.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.ingest.dealing import BY_DUPLICATES, Dealing
from worker.ingest.version_tables import REPORT


@dataclass(frozen=True, slots=True)
class Grouping:
    """What makes groups.

    Args:
        by: `folder` or `column`; None for neither.
        column: Of the label table, whose values are kept with the pictures: by them
            groups are made, or may be.
        copies: Whether pictures that look alike are held together, too.
    """

    by: str | None = None
    column: str | None = None
    copies: bool = False

    def as_facts(self) -> dict[str, Any]:
        """Returns the entries of the report's `split`."""
        by = self.by or (BY_DUPLICATES if self.copies else None)
        return {"by": by, "column": self.column, "copies": self.copies}


def read_grouping(facts: dict[str, Any]) -> Grouping:
    """Returns what a report's `split` says; nothing where an older one says nothing."""
    by = facts.get("by")
    return Grouping(
        None if by == BY_DUPLICATES else by,
        facts.get("column"),
        facts.get("copies", by == BY_DUPLICATES),
    )


def decide_grouping(dealing: Dealing, before: Grouping) -> Grouping:
    """Returns what makes the groups of a version.

    Args:
        dealing: What was asked for.
        before: Of the version that it is made from.
    """
    if not dealing.names_by:
        return before
    column = _keep_spelling(dealing.column, before.column)
    if dealing.by is None:
        return Grouping(column=column)
    if dealing.by == BY_DUPLICATES:
        return Grouping(before.by, column, copies=True)
    return Grouping(dealing.by, column, before.copies)


def _keep_spelling(asked: str | None, before: str | None) -> str | None:
    """Returns the column that was asked for, spelled as before where it is that one.

    Tables are asked for it in any case.
    """
    is_same = asked and before and asked.casefold() == before.casefold()
    return before if asked is None or is_same else asked


def find_column(dealing: Dealing, parent: Path | None) -> str | None:
    """Returns the column to read of label tables, before anything else is read.

    The pictures that are added to a patient of an earlier version are theirs, too.
    """
    before = Grouping()
    if parent is not None and (parent / REPORT).is_file():
        facts = json.loads((parent / REPORT).read_text(encoding="utf-8"))
        before = read_grouping(facts.get("split") or {})
    return decide_grouping(dealing, before).column
