"""Where a label table and a root belong among the places of one dataset.

Forms and commands take several places, and one label table and one root for all of
them. A table that went with each place would find the pictures of the others missing.
"""

from shared.errors import UserError
from shared.source_addresses import is_address
from shared.source_kinds import NAMED_TABLES

Place = dict[str, str]  # a source in the words of the API


def arrange(
    places: list[Place], *, labels: str | None, root: str | None
) -> list[Place]:
    """Returns the sources of one dataset, with table and root where they belong.

    The table of one place goes with it. Beside several it is a source of its own, which
    labels the pictures of all; only the name of a table within archives goes with each.

    Args:
        places: Each has a `path` or an `address`.
        labels: Whole path or address of a label table, or its name within an archive.
        root: Folder or address below which the files of a label table lie.

    Raises:
        UserError: When `root` comes with several places, none of them a table.
    """
    if labels is None or not _is_apart(places, labels):
        more = {"labels": labels} if labels else {}
        return [{**place, **more} for place in _root_tables(places, root)]
    table = {"address" if is_address(labels) else "path": labels}
    return [*places, {**table, "root": root} if root is not None else table]


def with_root(place: Place, root: str | None) -> Place:
    """Returns `place`, and with it `root` if it is a label table."""
    if root is None or not any(map(is_table, place.values())):
        return place
    return {**place, "root": root}


def is_table(name: str) -> bool:
    """Whether a file of this name is a label table."""
    return name.lower().endswith(NAMED_TABLES)


def _is_apart(places: list[Place], labels: str) -> bool:
    return is_address(labels) or (labels.startswith("/") and len(places) > 1)


def _root_tables(places: list[Place], root: str | None) -> list[Place]:
    if root is None:
        return places
    if len(places) == 1:  # a table may lie in it
        return [{**places[0], "root": root}]
    rooted = [with_root(place, root) for place in places]
    if rooted == places:
        raise UserError(
            "`root` is where the pictures of a label table lie. Name the table, too.",
            field="root",
        )
    return rooted
