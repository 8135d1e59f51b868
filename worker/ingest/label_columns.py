"""Which columns of a label table matter, and what they may be called."""

from collections.abc import Sequence

FILE, LABEL, SPLIT, GROUP = "file", "label", "split", "group"
KNOWN = {
    FILE: {"filename", "file_name", "file", "image", "image_path", "path", "filepath"},
    LABEL: {"label", "class", "class_name", "category", "target"},
    SPLIT: {"split", "subset", "set", "partition"},
}
# Of what belongs together, where nobody names the column; blanks, dashes and an ending
# `id` aside. Places and devices are not among them: they are in every split.
_GROUPS = {
    *("patient", "subject", "participant", "individual", "animal", "specimen"),
    *("lesion", "slide", "case", "study", "series", "scene", "video", "clip", "group"),
}
# Of the file too, where no other column is.
_ADDRESS = {"url", "image_url", "uri"}
_JOINTS = str.maketrans("", "", " -_")
ORDER = (FILE, LABEL, SPLIT, GROUP)


def choose_columns(
    columns: Sequence[str], group_column: str | None
) -> dict[str, int | None] | None:
    """Finds the columns that matter.

    Args:
        columns: What all are called.
        group_column: The one that names what one split must hold together, if any.

    Returns:
        The places of `file`, `label`, `split` and `group`; None when there is no
        column of files or none of labels.
    """
    found = find_columns(columns, group_column)
    return None if found[FILE] is None or found[LABEL] is None else found


def find_columns(
    columns: Sequence[str], group_column: str | None
) -> dict[str, int | None]:
    """Returns the places of `file`, `label`, `split` and `group`, None for what lacks.

    Args: as for `choose_columns`.
    """
    names = [name.strip().lower() for name in columns]
    found: dict[str, int | None] = {
        part: next((at for at, name in enumerate(names) if name in known), None)
        for part, known in KNOWN.items()
    }
    if found[FILE] is None:
        found[FILE] = next((at for at, n in enumerate(names) if n in _ADDRESS), None)
    found[GROUP] = _find_group(names, (group_column or "").strip().lower())
    return found


def _find_group(names: Sequence[str], asked: str) -> int | None:
    if asked:
        return names.index(asked) if asked in names else None
    plain = [name.translate(_JOINTS).removesuffix("id") for name in names]
    return next((at for at, name in enumerate(plain) if name in _GROUPS), None)


def name_group_column(columns: Sequence[str], asked: str | None) -> str | None:
    """Returns what the column is called that names groups, if one does.

    Args:
        columns: What all are called.
        asked: The one that was asked for, if any.
    """
    at = find_columns(columns, asked)[GROUP]
    return None if at is None else columns[at].strip()
