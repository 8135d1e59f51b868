"""Whether more pictures would help: the learning curve as a table and as a chart."""

from dataclasses import dataclass
from typing import Any

from web.ranges import (
    Span,
    dig,
    is_list,
    list_documents,
    read_figure,
    read_interval,
)

STEPS = 60  # points of the drawn curve


@dataclass(frozen=True)
class Reached:
    """An accuracy that was measured, or is expected, with so many pictures."""

    images: int
    span: Span
    is_measured: bool


@dataclass(frozen=True)
class Curve:
    """The fitted power law: an error of a + b * images^-c."""

    a: float
    b: float
    c: float

    def reach(self, images: float) -> float:
        """Returns the accuracy with so many pictures to train on, 0 to 1."""
        error = self.a + self.b * max(1.0, images) ** -self.c
        return 1 - min(1.0, max(0.0, error))


def make_curve(summary: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the values of the part; None where a forecast says nothing of it."""
    section = dig(summary, "learning_curve")
    if not isinstance(section, dict):
        return None
    by_class = list_documents(section.get("by_class"))
    return {
        "sentence": section.get("sentence"),
        "rows": list_reached(section),
        "formula": _say_formula(section),
        "by_class": [text for row in by_class if (text := row.get("sentence"))],
        "classes": len(dig(summary, "classes") or []),
    }


def list_reached(section: dict[str, Any]) -> list[Reached]:
    """Returns what was measured, then what is expected with more pictures."""
    rows = []
    for name in ("points", "ahead"):
        for entry in list_documents(section.get(name)):
            images = read_figure(entry.get("images"))
            span = read_interval(entry.get("accuracy"), entry.get("interval"))
            if images is not None and span:
                rows.append(Reached(int(images), span, name == "points"))
    return sorted(rows, key=lambda row: (not row.is_measured, row.images))


def list_columns(section: Any) -> dict[str, dict[str, list[float]]]:
    """Returns the columns of the chart's sources: points, fit, ahead, band."""
    rows = list_reached(section) if isinstance(section, dict) else []
    measured = [row for row in rows if row.is_measured]
    ahead = [row for row in rows if not row.is_measured]
    curve = read_fit(section)
    ends = [measured[0].images, measured[-1].images] if measured else []
    far = [measured[-1].images, ahead[-1].images] if measured and ahead else []
    return {
        "points": _list_spans(measured),
        "fit": _follow(curve, ends),
        "outlook": _follow(curve, far),
        "ahead": _list_spans(ahead),
        "band": _list_spans([*measured[-1:], *ahead] if ahead else []),
    }


def read_fit(section: Any) -> Curve | None:
    """Returns the fitted curve; None where a number of it is missing."""
    a, b, c = (read_figure(dig(section, "fit", name)) for name in ("a", "b", "c"))
    if a is None or b is None or c is None:
        return None
    return Curve(a, b, c)


def _list_spans(rows: list[Reached]) -> dict[str, list[float]]:
    return {
        "images": [row.images for row in rows],
        "accuracy": [row.span.middle for row in rows],
        "low": [row.span.low for row in rows],
        "high": [row.span.high for row in rows],
    }


def _follow(curve: Curve | None, ends: list[int]) -> dict[str, list[float]]:
    if curve is None or not is_list(ends, 2):
        return {"images": [], "accuracy": []}
    first, last = ends
    images = [first + (last - first) * step / STEPS for step in range(STEPS + 1)]
    return {"images": images, "accuracy": [curve.reach(count) for count in images]}


def _say_formula(section: dict[str, Any]) -> str | None:
    curve = read_fit(section)
    if curve is None:
        return None
    return f"error = {curve.a:.3f} + {curve.b:.3f} * images^-{curve.c:.2f}"
