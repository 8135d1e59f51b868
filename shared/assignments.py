"""Reads `--set key=value`: changes to a training spec, as one types them."""

import json
from typing import Any

from shared.errors import UserError


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """Turns `head.units=[256]`-like assignments of `--set` into nested overrides.

    Values are JSON where they parse as JSON and plain text otherwise.

    Raises:
        UserError: For an assignment without `=`.
    """
    overrides: dict[str, Any] = {}
    for assignment in assignments:
        key, sign, text = assignment.partition("=")
        if not sign or not key.strip():
            raise UserError(
                f"`--set` takes key=value, for example batch_size=16. "
                f"Received: {assignment!r}.",
                field="set",
            )
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        *parents, leaf = key.strip().split(".")
        target = overrides
        for parent in parents:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise UserError(
                    f"`--set {assignment}`: `{parent}` was already given a value.",
                    field="set",
                )
        target[leaf] = value
    return overrides
