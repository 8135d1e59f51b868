"""How hard a dataset is, as its page shows it: a word, bars, recall, confusions."""

from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from web.ranges import (
    Bar,
    Span,
    dig,
    draw_bar,
    list_documents,
    read_figure,
    read_interval,
)

MOST_CLASSES = 100  # whose recall is shown, the worst first
MOST_EXAMPLES = 4
GRADE_LOOKS = {  # grade -> (Bootstrap colour, icon)
    "easy": ("success", "check-lg"),
    "moderate": ("info", "dash"),
    "hard": ("warning", "exclamation-triangle-fill"),
    "very hard": ("danger", "exclamation-triangle-fill"),
}


@dataclass(frozen=True)
class Measured:
    """One measure of difficulty.

    Args:
        words: What was measured.
        span: The accuracy with its interval.
        has_interval: Whether it has one.
        bar: The same as it is drawn, from 0 to 100 %.
    """

    words: str
    span: Span
    has_interval: bool
    bar: Bar


@dataclass(frozen=True)
class Recall:
    """The share of the pictures of one class that the probe recognises."""

    label: str
    share: float
    bar: Bar


@dataclass(frozen=True)
class Example:
    """A picture that was taken for another class; `thumbnail` None where none lies."""

    name: str
    thumbnail: str | None


@dataclass(frozen=True)
class Confusion:
    """A pair of classes that the probe confuses."""

    truth: str
    taken_for: str
    count: int | None
    share: float | None
    examples: list[Example]


def make_difficulty(
    summary: dict[str, Any], thumbnails: Container[str]
) -> dict[str, Any] | None:
    """Returns the values of the part; None where a forecast says nothing of it.

    Args:
        summary: Of a forecast, whatever is missing in it.
        thumbnails: File names of the small pictures that lie with the forecast.
    """
    section = dig(summary, "difficulty")
    if not isinstance(section, dict):
        return None
    recall = _list_recall(section)
    grade = section.get("grade")
    return {
        "grade": grade,
        "look": GRADE_LOOKS.get(str(grade), ("secondary", "dash")),
        "sentence": section.get("sentence"),
        "measured": _list_measured(section),
        "recall": recall[:MOST_CLASSES],
        "recall_total": len(recall),
        "confusions": [
            _make_confusion(entry, thumbnails)
            for entry in list_documents(section.get("confusions"))
        ],
    }


def name_thumbnails(summary: dict[str, Any]) -> list[str]:
    """Returns the file names of the examples that the part would show."""
    return [
        f"{example.get('sha256')}.jpg"
        for entry in list_documents(dig(summary, "difficulty", "confusions"))
        for example in list_documents(entry.get("examples"))[:MOST_EXAMPLES]
    ]


def _list_measured(section: dict[str, Any]) -> list[Measured]:
    label = dig(section, "majority", "label")
    majority = f"Always saying “{label}”" if label else "Always the largest class"
    rows = []
    for name, words in (
        ("majority", majority),
        ("nearest_neighbour", "The most similar picture's class"),
        ("probe", "A linear classifier on a pretrained network"),
    ):
        found = dig(section, name)
        interval = dig(found, "interval")
        span = read_interval(dig(found, "accuracy"), interval)
        if span:
            rows.append(Measured(words, span, interval is not None, draw_bar(span)))
    return rows


def _list_recall(section: dict[str, Any]) -> list[Recall]:
    found = dig(section, "probe", "recall")
    rows = []
    for label, value in (found if isinstance(found, dict) else {}).items():
        share = read_figure(value)
        if share is not None:
            rows.append(Recall(label, share, draw_bar(Span(0.0, share, share))))
    return sorted(rows, key=lambda row: row.share)


def _make_confusion(entry: dict[str, Any], thumbnails: Container[str]) -> Confusion:
    count = read_figure(entry.get("count"))
    return Confusion(
        truth=str(entry.get("truth", "")),
        taken_for=str(entry.get("taken_for", "")),
        count=None if count is None else int(count),
        share=read_figure(entry.get("share")),
        examples=[
            _make_example(example, thumbnails)
            for example in list_documents(entry.get("examples"))[:MOST_EXAMPLES]
        ],
    )


def _make_example(example: dict[str, Any], thumbnails: Container[str]) -> Example:
    file = f"{example.get('sha256')}.jpg"
    return Example(str(example.get("name", "")), file if file in thumbnails else None)
