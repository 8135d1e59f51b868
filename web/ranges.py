"""Ranges of accuracy and time as pages say them, and as bars draw them.

What a worker wrote may lack anything, or hold what cannot be read: nothing here raises.
"""

import math
from dataclasses import dataclass
from typing import Any

MINUTE, HOUR = 60, 3600
SMALL = 90  # of a unit: above it the next larger one is said
TO = "\N{EN DASH}"


@dataclass(frozen=True)
class Span:
    """A number that is expected at `middle`, and from `low` to `high`."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True)
class Bar:
    """Where a span lies on a line of 100: where it begins, its width, its middle."""

    start: float
    width: float
    middle: float


def dig(document: Any, *path: str) -> Any:
    """Returns what lies at a path in a document; None where it does not lead on."""
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def list_documents(value: Any) -> list[dict[str, Any]]:
    """Returns the entries of a list that are documents; none where it is no list."""
    if not isinstance(value, list):
        return []
    return [entry for entry in value if isinstance(entry, dict)]


def read_figure(value: Any) -> float | None:
    """Returns a finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def read_span(values: Any) -> Span | None:
    """Returns [low, middle, high] as a span; None where one of them is no number."""
    numbers = [read_figure(value) for value in values] if is_list(values, 3) else [None]
    if None in numbers:
        return None
    low, middle, high = sorted(number for number in numbers if number is not None)
    return Span(low, middle, high)


def read_interval(middle: Any, interval: Any) -> Span | None:
    """Returns a measured number with its interval; without one it has no width."""
    number = read_figure(middle)
    if number is None:
        return None
    ends = [read_figure(end) for end in interval] if is_list(interval, 2) else []
    known = [end for end in ends if end is not None] + [number]
    return Span(min(known), number, max(known))


def is_list(values: Any, length: int) -> bool:
    """Whether these are so many values."""
    return isinstance(values, list | tuple) and len(values) == length


def draw_bar(span: Span, low: float = 0.0, high: float = 1.0) -> Bar:
    """Returns where a span lies on a line from `low` to `high`."""

    def place(value: float) -> float:
        share = (value - low) / (high - low) if high > low else 0.0
        return round(100 * min(1.0, max(0.0, share)), 2)

    start = place(span.low)
    return Bar(start, round(place(span.high) - start, 2), place(span.middle))


def say_share(share: float) -> str:
    """`0.884` -> `88.4 %`."""
    return f"{100 * share:.1f} %"


def say_shares(low: float, high: float) -> str:
    """`0.846, 0.91` -> `85-91 %`, with a proper dash."""
    first, last = f"{100 * low:.0f}", f"{100 * high:.0f}"
    return f"{last} %" if first == last else f"{first}{TO}{last} %"


def say_times(low: float, high: float) -> str:
    """`700, 1500` seconds -> `12-25 min`, in the unit that the end is said in."""
    if high < SMALL:
        unit, size, digits = "s", 1, 0
    elif high < SMALL * MINUTE:
        unit, size, digits = "min", MINUTE, 0
    else:
        unit, size, digits = "h", HOUR, 1
    first, last = (f"{max(0.0, seconds) / size:.{digits}f}" for seconds in (low, high))
    if first == last:
        return f"about {last} {unit}"
    return f"{first}{TO}{last} {unit}"
