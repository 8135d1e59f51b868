"""Reads `--set`, `--grid` and `--random`: changes to a training spec, as typed."""

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
        value = _read(text)
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


def parse_grid(assignments: list[str]) -> dict[str, list[Any]]:
    """Turns `seed=1,2,3` or `head.units=[[64],[128]]` of `--grid` into lists.

    Raises:
        UserError: For an assignment without `=`.
    """
    split = _split(assignments, "grid", "seed=1,2,3")
    return {key: read_list(text) for key, text in split.items()}


def parse_random(assignments: list[str]) -> dict[str, Any]:
    """Turns `key=low:high`, `key=low:high:log` or `key=a,b` of `--random` into JSON.

    Raises:
        UserError: For an assignment without `=`, or a range that is none.
    """
    example = "fine_tune_learning_rate=1e-5:1e-3:log"
    return {
        key: read_range(key, text) if is_range(text) else read_list(text)
        for key, text in _split(assignments, "random", example).items()
    }


def is_range(text: str) -> bool:
    """Whether these values are the ends of a range."""
    return ":" in text


def read_list(text: str) -> list[Any]:
    """Turns `1, 2, 3`, `adam, sgd`, `[1, 2]` or `[64], [64, 32]` into a list."""
    for whole in (_read(text), _read(f"[{text}]")):
        if isinstance(whole, list):
            return whole
    return [_read(part.strip()) for part in text.split(",")]


def read_range(key: str, text: str) -> dict[str, Any]:
    """Turns `low:high` or `low:high:log` into what a sweep draws `key` from.

    Raises:
        UserError: When it is no range of numbers.
    """
    low, high, *rest = (*text.split(":"), "")
    ends = _read(low), _read(high)
    words = [word for word in map(str.strip, rest) if word]
    if words not in ([], ["log"]) or not all(isinstance(e, int | float) for e in ends):
        raise UserError(
            f"`{key}` is drawn from low:high or low:high:log, for example "
            f"1e-5:1e-3:log. Received: {text!r}.",
            field=key,
        )
    return {"low": ends[0], "high": ends[1], "log": bool(words)}


def _split(assignments: list[str], option: str, example: str) -> dict[str, str]:
    split: dict[str, str] = {}
    for assignment in assignments:
        key, sign, text = assignment.partition("=")
        key = key.strip()
        if not sign or not key or not text.strip():
            raise UserError(
                f"`--{option}` takes key=values, for example {example}. "
                f"Received: {assignment!r}.",
                field=option,
            )
        if key in split:
            raise UserError(
                f"`--{option} {key}` is there twice: name all its values in one.",
                field=option,
            )
        split[key] = text
    return split


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # thousands of brackets in each other
        return text
