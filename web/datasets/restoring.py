"""Brings back all pictures at once that lie in quarantine for one reason.

What was set aside in bulk comes back in bulk: two thousand pictures are eighty pages.
"""

from collections import Counter
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from shared.artifacts import Storage
from shared.edit_actions import RESTORE
from shared.errors import NotFoundError, UserError
from shared.tables import DatasetVersion
from web.datasets.decision import Decision, Decisions
from web.datasets.version_pictures import list_restorable

_MOST_NAMED = 20  # reasons
_REMEMBERED = 256  # versions; none of them ever changes


def count_reasons(storage: Storage, version: DatasetVersion) -> dict[str, int]:
    """Returns the commonest reasons for which pictures lie in quarantine.

    Only those with one label count: of others somebody must say which is right. Nothing
    where the version's table is out of reach.
    """
    try:
        counts = _count_reasons(storage.resolve(version.rel_path))
    except (OSError, ValueError):
        return {}
    return dict(counts.most_common(_MOST_NAMED))


def add_restored(
    storage: Storage, version: DatasetVersion, wanted: Decisions, *, most: int
) -> tuple[Decisions, int]:
    """Returns the decisions with the pictures that `wanted.restore` is about.

    And how many of those did not fit: they come back with another request.

    Args:
        storage: Where the version lies.
        version: The one that is decided about.
        wanted: What was asked for.
        most: Pictures that one request may decide about: the first ones come back.

    Raises:
        UserError: Nothing lies there for that reason; names the reasons there are.
        NotFoundError: The version's table is out of reach.
    """
    if wanted.restore is None:
        return wanted, 0
    reason = wanted.restore.strip()
    own = [image for one in wanted.decisions for image in one.images]
    try:
        found = list_restorable(storage.resolve(version.rel_path))
        there = [image for image, why in found if why.strip() == reason]
    except (OSError, ValueError) as error:
        raise NotFoundError(
            f"What lies in quarantine of version {version.version} cannot be read. Try "
            "again when shared storage is there.",
            field="restore",
        ) from error
    if not there:
        raise UserError(
            f"Nothing lies in quarantine of version {version.version} for “{reason}”, "
            f"or it has several labels. {_name_reasons(storage, version)}",
            field="restore",
        )
    decided = set(own)
    meant = [image for image in there if image not in decided]
    back = meant[: max(0, most - len(own))]
    before = [Decision(RESTORE, back)] if back else []
    whole = replace(wanted, decisions=[*before, *wanted.decisions])
    return whole, len(meant) - len(back)


@lru_cache(maxsize=_REMEMBERED)
def _count_reasons(folder: Path) -> Counter[str]:
    return Counter(why for _, why in list_restorable(folder))


def _name_reasons(storage: Storage, version: DatasetVersion) -> str:
    counts = count_reasons(storage, version)
    if not counts:
        return "No picture there can be restored."
    named = ", ".join(f"“{reason}” ({count:,})" for reason, count in counts.items())
    return f"Reasons that there are: {named}."
