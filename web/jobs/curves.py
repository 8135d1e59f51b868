"""Learning curves as numbers: one row an epoch, for the table, the charts, the API."""

from dataclasses import asdict, dataclass
from typing import Any

from web.display import duration, number, percent, phase

FINE_TUNE = "fine_tune"
TEN_SECONDS = 10


@dataclass
class EpochPoint:
    """The measures at the end of one epoch.

    `waited_seconds` of its `spent_seconds` training stood still for want of data.
    """

    step: int
    epoch: int | None
    phase: str | None
    loss: float | None = None
    val_loss: float | None = None
    accuracy: float | None = None
    val_accuracy: float | None = None
    learning_rate: float | None = None
    waited_seconds: float | None = None
    spent_seconds: float | None = None


def collect_epochs(points: list[Any]) -> list[EpochPoint]:
    """Gathers single measures (`name`, `step`, `value`, ...) into one row an epoch.

    Args:
        points: From `job_read_store.metrics_curve`, without gaps or doubles.
    """
    rows: dict[tuple[int, str | None], EpochPoint] = {}
    for point in points:
        row = rows.setdefault(
            (point.step, point.phase), EpochPoint(point.step, point.epoch, point.phase)
        )
        if point.name in EpochPoint.__dataclass_fields__:
            setattr(row, point.name, point.value)
        if point.epoch is not None:
            row.epoch = point.epoch
    complete = [row for row in rows.values() if row.epoch is not None]
    return sorted(complete, key=lambda row: row.step)


def as_json(rows: list[EpochPoint]) -> dict[str, Any]:
    """Returns what the page's script shows: columns of the charts, rows of the table.

    Epochs are numbered through, so that the fine-tune phase follows the frozen one.
    """
    numbers = list(range(1, len(rows) + 1))
    fine_tune = [
        n for n, row in zip(numbers, rows, strict=True) if row.phase == FINE_TUNE
    ]
    phases = [phase(row.phase) for row in rows]
    return {
        "columns": {
            "loss": {
                "epoch": numbers,
                "train": [row.loss for row in rows],
                "val": [row.val_loss for row in rows],
                "phase": phases,
            },
            "accuracy": {
                "epoch": numbers,
                "train": [row.accuracy for row in rows],
                "val": [row.val_accuracy for row in rows],
                "phase": phases,
            },
        },
        "fine_tune_from": fine_tune[0] - 0.5
        if fine_tune and fine_tune[0] > 1
        else None,
        "rows": [_cells(n, row) for n, row in zip(numbers, rows, strict=True)],
        "waiting": tell_waiting(rows),
    }


def tell_waiting(rows: list[EpochPoint]) -> str:
    """Says how long training stood still for want of data; '' when nobody measured."""
    measured = [
        (row.waited_seconds, row.spent_seconds)
        for row in rows
        if row.waited_seconds is not None and row.spent_seconds is not None
    ]
    if not measured:
        return ""
    waited, spent = map(sum, zip(*measured, strict=True))
    return f"Training waited {_span(waited)} of {_span(spent)} for data."


def as_metrics(rows: list[EpochPoint]) -> list[dict[str, Any]]:
    """Returns the rows as the API gives them."""
    return [asdict(row) for row in rows]


def _span(seconds: float) -> str:
    """Short times with a decimal: `1.2 s` of `85 s` is the point of it."""
    return f"{seconds:.1f} s" if seconds < TEN_SECONDS else duration(seconds)


def _cells(number_through: int, row: EpochPoint) -> list[str]:
    return [
        phase(row.phase),
        str(number_through),
        f"{row.step:,}",
        number(row.loss),
        number(row.val_loss),
        percent(row.accuracy),
        percent(row.val_accuracy),
        number(row.learning_rate, 3),
    ]
