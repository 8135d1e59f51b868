"""How values look on pages: sizes, times, shares, states; registered with Jinja."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from flask import Flask, current_app, url_for
from markupsafe import Markup

from shared import progress_words
from shared.job_status import Desired, JobStatus
from web.icons import icon
from web.permissions import may_change
from web.ranges import say_shares, say_times

DASH = "\N{EN DASH}"  # stands for what is not known
MINUTE, HOUR, DAY = 60, 3600, 86400
SOON = 15  # seconds that are as good as none, of what is only expected
PHASES = {
    "prepare": "Preparing",
    "frozen": "Training the head",
    "fine_tune": "Fine-tuning",
    "evaluate": "Evaluating",
    "export": "Exporting",
    "features": "Computing features",
    "timing": "Timing trainings",
    "doctor": "Examining pictures",
    "forecast": "Forecasting",
    "fetch": "Fetching",
    "unpack": "Unpacking",
    "verify": "Checking images",
    "split": "Splitting",
    "write": "Writing",
}
STATE_LOOKS = {  # state as shown -> (Bootstrap colour, icon)
    "queued": ("secondary", "hourglass-split"),
    "running": ("primary", "play-fill"),
    "cancelling": ("warning", "x-octagon"),
    "pausing": ("warning", "pause-fill"),
    "finishing": ("info", "flag-fill"),
    "giving way": ("warning", "pause-fill"),
    "paused": ("warning", "pause-fill"),
    "succeeded": ("success", "check-lg"),
    "failed": ("danger", "exclamation-triangle-fill"),
    "cancelled": ("secondary", "x-lg"),
    "active": ("success", "check-lg"),
    "idle": ("success", "check-lg"),
    "busy": ("primary", "play-fill"),
    "draining": ("warning", "pause-fill"),
    "quarantined": ("danger", "exclamation-triangle-fill"),
    "away": ("secondary", "question-lg"),
    "ready": ("success", "check-lg"),
    "reading": ("primary", "play-fill"),
    "empty": ("secondary", "dash"),
}


class HasProgress(Protocol):
    """What shows how far it is: a job, or a dataset that is being read."""

    @property
    def done(self) -> int:
        """Finished parts of the phase."""
        ...

    @property
    def total(self) -> int:
        """All parts of the phase; 0 while nobody knows."""
        ...

    @property
    def unit(self) -> str | None:
        """What is counted."""
        ...

    @property
    def eta_seconds(self) -> float | None:
        """Seconds that are left, if that can be told."""
        ...


def register(app: Flask) -> None:
    """Adds the filters and functions to the templates of `app`."""
    app.jinja_env.filters.update(
        filesize=size, ago=ago, duration=duration, percent=percent, stamp=stamp,
        count=count, phase=phase, number=number, soon=soon, until=until,
        how_far=how_far,
    )  # fmt: skip
    app.jinja_env.globals.update(
        icon=icon,
        static_url=static_url,
        say_shares=say_shares,
        say_times=say_times,
        state_look=lambda state: STATE_LOOKS.get(state, ("secondary", "dot")),
        may_change=may_change,
    )
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True


def static_url(name: str) -> str:
    """Address of one of our own files; it changes when the file does."""
    assert current_app.static_folder
    path = Path(current_app.static_folder) / name
    return url_for("static", filename=name, v=f"{path.stat().st_mtime_ns:x}"[-9:])


def size(count_bytes: float | None) -> str:
    """`1536` -> `1.5 KiB`."""
    if count_bytes is None:
        return DASH
    return progress_words.say_size(count_bytes)


def duration(seconds: float | None) -> str:
    """`200` -> `3 min 20 s`; a dash for None."""
    if seconds is None:
        return DASH
    return progress_words.say_duration(seconds)


def soon(seconds: float) -> str:
    """`200` -> `in 3 min`: coarser than `duration`, since it is only expected."""
    if seconds < MINUTE:
        return "now" if seconds < SOON else "in a minute"
    if seconds < HOUR:
        return f"in {seconds / MINUTE:.0f} min"
    if seconds < DAY:
        return f"in {seconds // HOUR:.0f} h {seconds % HOUR // MINUTE:.0f} min"
    return f"in {seconds // DAY:.0f} d {seconds % DAY // HOUR:.0f} h"


def until(at_ms: int) -> str:
    """`soon`, for a time in milliseconds."""
    return soon(max(0.0, at_ms / 1000 - time.time()))


def ago(at_ms: int | None) -> Markup:
    """A `<time>` saying how long ago `at_ms` (milliseconds) was, to the minute."""
    if not at_ms:
        return Markup(DASH)  # noqa: S704 - a constant
    then = datetime.fromtimestamp(at_ms / 1000, UTC)
    seconds = time.time() - at_ms / 1000
    if seconds < MINUTE:
        words = "just now"
    elif seconds < HOUR:
        words = f"{seconds // MINUTE:.0f} min ago"
    elif seconds < DAY:
        words = f"{seconds // HOUR:.0f} h ago"
    else:
        words = f"{seconds // DAY:.0f} d ago"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        then.isoformat(timespec="seconds"), f"{then:%Y-%m-%d %H:%M:%S} UTC", words
    )


def stamp(at_ms: int | None) -> str:
    """`2026-11-24 09:30 UTC`; a dash for None."""
    if not at_ms:
        return DASH
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"


def percent(share: float | None, digits: int = 1) -> str:
    """`0.884` -> `88.4 %`; a dash for None."""
    return DASH if share is None else f"{100 * share:.{digits}f} %"


def count(number_: int | None) -> str:
    """`12345` -> `12,345` (a thin separator would not copy well)."""
    return DASH if number_ is None else f"{number_:,}"


def number(value: Any, digits: int = 4) -> str:
    """A measured value with few digits; a dash for None."""
    return DASH if value is None else f"{value:.{digits}g}"


def phase(name: str | None) -> str:
    """The words for a phase."""
    return PHASES.get(name or "", name or "")


def how_far(row: HasProgress) -> str:
    """`1,200 of 5,000 images · 95 images/s · about 40 s left`; empty before all that.

    The rate is what the time that is left was computed from.
    """
    return progress_words.say_progress(row.done, row.total, row.unit, row.eta_seconds)


def shown_state(state: str, desired: str, gives_way_to: int | None = None) -> str:
    """What the page calls a job's state: a running one may be about to stop."""
    if state != JobStatus.RUNNING:
        return state
    if gives_way_to is not None:
        return "giving way"
    return {
        Desired.CANCEL: "cancelling",
        Desired.PAUSE: "pausing",
        Desired.FINISH: "finishing",
    }.get(desired, state)  # type: ignore[call-overload]
