"""The last lines of a job's log, read from the end of the file."""

import json
from collections.abc import Container, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

TAIL_BYTES = 64 * 1024
MAX_LINES = 300
# Frequent and shown elsewhere: progress bar, curves.
QUIET_EVENTS = frozenset({"progress", "metrics"})
# Said by the line itself, or of no use to people.
HIDDEN_KEYS = frozenset({"event", "at", "path", "manifest_sha"})


def read_lines(attempt_folder: Path) -> list[dict[str, str]]:
    """Returns the newest lines of an attempt: its events, then what it printed.

    Args:
        attempt_folder: Folder of the attempt; it may not exist yet.

    Returns:
        Lines with `at` (UTC time of day, or empty) and `text`.
    """
    events = [_describe(event) for event in _events(attempt_folder / "log.jsonl")]
    printed = [
        {"at": "", "text": line} for line in _tail(attempt_folder / "stdout.log")
    ]
    return (printed[-MAX_LINES // 2 :] + events)[-MAX_LINES:]


def read_events(attempt_folder: Path, limit: int = MAX_LINES) -> list[dict[str, Any]]:
    """Returns the newest events of an attempt as they were spoken."""
    return list(_events(attempt_folder / "log.jsonl", quiet=frozenset()))[-limit:]


def _events(
    path: Path, quiet: Container[Any] = QUIET_EVENTS
) -> Iterable[dict[str, Any]]:
    for line in _tail(path):
        try:
            event = json.loads(line)
        except ValueError:
            continue  # torn by a kill
        if isinstance(event, dict) and event.get("event") not in quiet:
            yield event


def _tail(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            size_bytes = file.seek(0, 2)
            file.seek(max(0, size_bytes - TAIL_BYTES))
            content = file.read(TAIL_BYTES)
    except OSError:
        return []
    lines = content.decode("utf-8", errors="replace").splitlines()
    # The first line of a cut-off file is most likely half a line.
    return lines[1:] if size_bytes > TAIL_BYTES else lines


def _describe(event: dict[str, Any]) -> dict[str, str]:
    at = event.get("at")
    when = (
        f"{datetime.fromtimestamp(at, UTC):%H:%M:%S}"
        if isinstance(at, int | float)
        else ""
    )
    rest = {k: v for k, v in event.items() if k not in HIDDEN_KEYS}
    if set(rest) <= {"level", "message"} and "message" in rest:
        return {"at": when, "text": str(rest["message"])}
    words = " ".join(f"{key}={_short(value)}" for key, value in rest.items())
    return {"at": when, "text": f"{event.get('event', '')} {words}".strip()}


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 200 else text[:200] + "…"  # noqa: PLR2004
