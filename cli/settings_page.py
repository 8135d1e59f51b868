"""Writes `docs/settings.md` from the settings: `python -m cli.settings_page`."""

import sys
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from shared.settings import Settings

PATH = Path(__file__).resolve().parent.parent / "docs" / "settings.md"
HEADING = """\
# Settings

Every setting is an environment variable; there is no other configuration file. The
table is made from `shared/setting_fields.py` by `python -m cli.settings_page`, and a
test compares the two. Start-up lists every invalid value at once and stops. `-` as a
default means that the installation's own is used, as the sentence says.

Secrets need not stand in the environment: the settings that end in `_FILE` name files
that hold one each, as container engines and service managers hand them over.
`trainyard secrets FOLDER` makes such files with random values.

| variable | default | meaning |
|---|---|---|
"""


def build_page() -> str:
    """Makes the page: one row for each field of the settings."""
    rows = (
        f"| `TRAINYARD_{name.upper()}` | {_default(field)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    )
    return HEADING + "\n".join(rows) + "\n"


def _default(field: FieldInfo) -> str:
    value: Any = field.default
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    return f"`{value}`"


if __name__ == "__main__":
    PATH.write_text(build_page())
    print(f"wrote {PATH}", file=sys.stderr)
