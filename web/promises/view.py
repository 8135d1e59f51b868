"""What pages show of promises made of trainings, and of what was delivered."""

from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.orm import Session

from shared import job_read_store, training_promise_store
from shared.forecast_tables import TrainingPromise
from shared.training_promise_store import Elsewhere
from web.paging import Pager, asked_page
from web.ranges import Span, say_share, say_shares, say_times

PAGE_SIZE = 50
MINUTE = 60


@dataclass(frozen=True)
class PromiseRow:
    """One promise beside what was delivered; None stands for what is not known.

    Args:
        job_id: The training.
        dataset_name: As it was called.
        preset: As it was asked for.
        made_at: When it was promised, in milliseconds since 1970.
        accuracy: As promised.
        seconds: As promised.
        delivered_accuracy: On the test split.
        delivered_seconds: That it ran, where it was one attempt, on the worker that
            was timed.
        delivered: Whether it has delivered anything.
        job_exists: Whether the job has a page: promises outlive it.
        elsewhere: What it took on another worker than was timed.
    """

    job_id: int
    dataset_name: str
    preset: str
    made_at: int
    accuracy: Span
    seconds: Span | None
    delivered_accuracy: float | None
    delivered_seconds: float | None
    delivered: bool
    job_exists: bool = True
    elsewhere: Elsewhere | None = None

    @property
    def accuracy_kept(self) -> bool | None:
        """Whether the accuracy ended within its range; None before it is known."""
        return _is_within(self.accuracy, self.delivered_accuracy)

    @property
    def seconds_kept(self) -> bool | None:
        """Whether it took as long as was promised; None before that is known."""
        return _is_within(self.seconds, self.delivered_seconds)

    @property
    def sentence(self) -> str:
        """The promise and what came of it: the line on a job's page."""
        parts = [f"Promised {say_shares(self.accuracy.low, self.accuracy.high)}"]
        if self.delivered_accuracy is not None:
            parts.append(f"delivered {say_share(self.delivered_accuracy)}")
        times = []
        if self.seconds:
            times.append(f"promised {say_times(self.seconds.low, self.seconds.high)}")
        seconds = self.elsewhere.seconds if self.elsewhere else self.delivered_seconds
        if seconds is not None:
            took = say_times(seconds, seconds)
            times.append(f"took {took.removeprefix('about ')}")
        whole = "; ".join(", ".join(words) for words in (parts, times) if words) + "."
        return f"{whole} {_tell_elsewhere(self.elsewhere)}" if self.elsewhere else whole


def make_promise(row: TrainingPromise) -> PromiseRow:
    """Copies a promise out of the database."""
    seconds = None
    if None not in {row.seconds_low, row.seconds, row.seconds_high}:
        seconds = Span(row.seconds_low or 0, row.seconds or 0, row.seconds_high or 0)
    return PromiseRow(
        job_id=row.job_id,
        dataset_name=row.dataset_name,
        preset=row.preset,
        made_at=row.made_at,
        accuracy=Span(row.accuracy_low, row.accuracy, row.accuracy_high),
        seconds=seconds,
        delivered_accuracy=row.delivered_accuracy,
        delivered_seconds=row.delivered_seconds,
        delivered=row.delivered_at is not None,
    )


def make_page(session: Session) -> dict[str, Any]:
    """Returns the values of the page of all promises."""
    found = training_promise_store.list_promises(
        session, page=asked_page(), page_size=PAGE_SIZE
    )
    jobs = job_read_store.get_jobs(session, [row.job_id for row in found.items])
    existing = {job.id for job in jobs}
    return {
        "record": training_promise_store.measure(session),
        "rows": [
            replace(make_promise(row), job_exists=row.job_id in existing)
            for row in found.items
        ],
        "pager": Pager(found.page, PAGE_SIZE, found.total, "promises.index"),
        "looked_back": training_promise_store.LOOKED_BACK,
    }


def list_columns(session: Session) -> dict[str, dict[str, list[Any]]]:
    """Returns the columns of both charts: kept and missed, by accuracy and by time."""
    found = training_promise_store.list_delivered(session)
    rows = [make_promise(row) for row in reversed(found)]  # the oldest first
    numbered = list(enumerate(rows, start=1))
    columns = {}
    for kept in (True, False):
        name = "kept" if kept else "missed"
        columns[f"accuracy-{name}"] = _list_accuracies(
            [(n, row) for n, row in numbered if row.accuracy_kept is kept]
        )
        columns[f"minutes-{name}"] = _list_minutes(
            [row for row in rows if row.seconds_kept is kept]
        )
    times = [row for row in rows if row.seconds_kept is not None]
    ends = _list_minutes(times)
    most = [*ends["promised"], *ends["taken"]]
    line = [min(most), max(most)] if most else []
    return {**columns, "as-promised": {"promised": line, "taken": line}}


def _list_accuracies(rows: list[tuple[int, PromiseRow]]) -> dict[str, list[Any]]:
    return {
        "number": [number for number, _ in rows],
        "job": [row.job_id for _, row in rows],
        "low": [row.accuracy.low for _, row in rows],
        "high": [row.accuracy.high for _, row in rows],
        "delivered": [row.delivered_accuracy for _, row in rows],
    }


def _list_minutes(rows: list[PromiseRow]) -> dict[str, list[Any]]:
    spans = [row.seconds or Span(0, 0, 0) for row in rows]
    return {
        "job": [row.job_id for row in rows],
        "low": [_minutes(span.low) for span in spans],
        "promised": [_minutes(span.middle) for span in spans],
        "high": [_minutes(span.high) for span in spans],
        "taken": [_minutes(row.delivered_seconds or 0) for row in rows],
    }


def _minutes(seconds: float) -> float:
    """A logarithmic axis has no zero: less than a second counts as one."""
    return max(1.0, seconds) / MINUTE


def _tell_elsewhere(elsewhere: Elsewhere) -> str:
    why = "Which worker was timed is not known"
    if elsewhere.timed_on:
        why = f"It ran on another worker than {elsewhere.timed_on}, which was timed"
    return f"{why}, so the time does not count in the record."


def _is_within(span: Span | None, value: float | None) -> bool | None:
    if span is None or value is None:
        return None
    return span.low <= value <= span.high
