"""How the images of a version are dealt into splits: SPEC.json's `split`."""

from dataclasses import dataclass, fields
from typing import Any

from shared.errors import UserError
from worker.ingest.split import SplitShares

BY_DUPLICATES, BY_FOLDER, BY_COLUMN = "duplicates", "folder", "column"
_WAYS = (BY_DUPLICATES, BY_FOLDER, BY_COLUMN)
_NUMBERS = frozenset(field.name for field in fields(SplitShares))
_PARTS = ("train", "val", "test")
_KNOWN = _NUMBERS | {"by", "column", "again", "alike"}


@dataclass(frozen=True, slots=True)
class Dealing:
    """What was asked of the split.

    Args:
        numbers: Those of `SplitShares` that were named.
        by: What makes groups that one split must hold whole; None for nothing.
        column: The label table's column that names the groups.
        again: Whether the images of the parent are dealt anew, too.
        names_by: Whether `by` was named at all: what is not named stays as it is in
            the parent.
        alike: SHA-256 of pictures that are known to look alike, cluster by cluster.
    """

    numbers: dict[str, Any]
    by: str | None = None
    column: str | None = None
    again: bool = False
    names_by: bool = False
    alike: tuple[tuple[str, ...], ...] = ()

    def shares(self, kept: dict[str, float] | None = None) -> SplitShares:
        """Returns the shares: those asked for, else `kept`, else the usual ones."""
        asked = any(part in self.numbers for part in _PARTS)
        return SplitShares(**({} if asked else kept or {}), **self.numbers)


def parse_dealing(wishes: Any) -> Dealing:
    """Reads `split`.

    Raises:
        UserError: Naming what is no setting, or has a value that cannot be.
    """
    if not isinstance(wishes, dict):
        raise UserError(
            f"`split` must be an object. Received: {wishes!r}.", field="split"
        )
    unknown = sorted(set(wishes) - _KNOWN)
    if unknown:
        raise UserError(
            f"`split.{unknown[0]}` is not a setting of the split.", field="split"
        )
    numbers = {name: wishes[name] for name in sorted(_NUMBERS & set(wishes))}
    for name, value in numbers.items():
        if not isinstance(value, int | float):
            raise UserError(
                f"`split.{name}` must be a number. Received: {name}={value!r}.",
                field="split",
            )
    dealing = Dealing(
        numbers,
        *_parse_by(wishes),
        again=_parse_again(wishes),
        names_by="by" in wishes,
        alike=_parse_alike(wishes),
    )
    dealing.shares()  # refuses those that do not add up to 1
    return dealing


def _parse_by(wishes: dict[str, Any]) -> tuple[str | None, str | None]:
    by, column = wishes.get("by"), wishes.get("column")
    if by is not None and by not in _WAYS:
        raise UserError(
            f"`split.by` must be one of {', '.join(_WAYS)}, or null. "
            f"Received: by={by!r}.",
            field="split",
        )
    if by != BY_COLUMN:
        return by, None
    if not isinstance(column, str) or not column.strip():
        raise UserError(
            "`split.column` must name the label table's column that holds the groups. "
            f"Received: column={column!r}.",
            field="split",
        )
    return by, column.strip()


def _parse_again(wishes: dict[str, Any]) -> bool:
    again = wishes.get("again", False)
    if not isinstance(again, bool):
        raise UserError(
            f"`split.again` must be true or false. Received: again={again!r}.",
            field="split",
        )
    return again


def _parse_alike(wishes: dict[str, Any]) -> tuple[tuple[str, ...], ...]:
    alike = wishes.get("alike", [])
    is_clusters = isinstance(alike, list) and all(
        isinstance(cluster, list) and all(isinstance(one, str) for one in cluster)
        for cluster in alike
    )
    if not is_clusters or (alike and wishes.get("by") != BY_DUPLICATES):
        raise UserError(
            "`split.alike` must list clusters of pictures by their SHA-256, and goes "
            "with `by` duplicates.",
            field="split",
        )
    return tuple(map(tuple, alike))
