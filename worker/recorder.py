"""Turns a child's events into rows, in batches, and waits out a database that is away.

`take` is called for every event as it arrives and never touches the database; `flush`
writes what has gathered in one short transaction, at most once a second. What cannot
be written now is kept, within limits, and written later in the same order. Everything
that arrives is also a line in the attempt's `log.jsonl`.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy.orm import Session

from shared import attempt_store
from shared.attempt_store import Claim, MetricPoint
from shared.database import Database
from shared.errors import RetryableError
from worker.attempt_files import AttemptFiles
from worker.endings import Failure
from worker.pace import Pace
from worker.results import Result

log = structlog.get_logger()

# What an event with a missing key, another type or an impossible path may raise.
UNUSABLE = (AttributeError, KeyError, TypeError, ValueError, OverflowError, OSError)
FLUSH_SECONDS = 1.0
PATIENCE_SECONDS = 0.5  # of one flush: the supervisor's loop has other duties
RETRY_SECONDS = 3.0  # between tries while the database is away
POINTS_AT_ONCE = 500
MOST_POINTS_KEPT = 200_000  # a day of one point a second, some 50 MB
MOST_NOTES_KEPT = 1_000
LONGEST_TEXT = 4_000
FIRST_STEP = "first step"  # the last stage of a job's start
LARGEST_INTEGER = 2**53


@dataclass
class Pending:
    """What has happened and is not in the database yet."""

    resumed_step: int | None = None
    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    corrupt: list[str] = field(default_factory=list)
    durable: int | None = None
    points: list[MetricPoint] = field(default_factory=list)
    progress: dict[str, Any] | None = None
    notes: list[tuple[str, str]] = field(default_factory=list)

    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return self == Pending()

    @property
    def ready_checkpoints(self) -> list[dict[str, Any]]:
        """What may be registered now: nothing while points must wait.

        A checkpoint whose row came before the points that led to it would leave a gap
        in the curve, should this worker die then: who resumes there repeats none.
        """
        return self.checkpoints if len(self.points) <= POINTS_AT_ONCE else []


class Recorder:
    """The record of one attempt while it runs.

    Args:
        database: Where the rows go.
        claim: Whose rows, under which fence.
        files: The attempt's folder.
    """

    def __init__(self, database: Database, claim: Claim, files: AttemptFiles) -> None:
        self._database = database
        self._claim = claim
        self._files = files
        self._pending = Pending()
        self._next_flush_at = 0.0
        self._pace = Pace()
        self._last_progress: tuple[Any, ...] = ()
        self._durable: dict[str, int] = {}
        self._stages: list[tuple[str, float]] = []
        self.progressed_at = time.monotonic()
        self.has_progressed = False
        self.phase: str | None = None
        self.failure: Failure | None = None
        self.finished: Result | None = None
        self._take: Mapping[str, Callable[[dict[str, Any]], bool]] = {
            "claimed": self._take_stage,
            "began": self._take_stage,
            "stage": self._take_stage,
            "phase": self._take_phase,
            "progress": self._take_progress,
            "metrics": self._take_metrics,
            "checkpoint": self._take_checkpoint,
            "checkpoint_corrupt": self._take_corrupt,
            "resumed": self._take_resumed,
            "durable": self._take_durable,
            "note": self._take_note,
            "failed": self._take_failed,
            "finished": self._take_finished,
        }

    def take(self, event: dict[str, Any]) -> None:
        """Keeps one event for the next flush.

        An event that lacks a key or has a value of another kind is noted in the
        attempt's log and otherwise ignored: it must not end the attempt.
        """
        take = self._take.get(event["event"])
        if take is None:
            return
        try:
            moved = take(event)
        except UNUSABLE as error:
            log.warning("event_unusable", name=event["event"], error=repr(error)[:300])
            self._files.log(event | {"unusable": True})
            return
        if event["event"] != "progress":
            self._files.log(event)
        if moved:
            self.progressed_at = time.monotonic()
            self.has_progressed = True

    def note(self, level: str, message: str) -> None:
        """Leaves a sentence of the worker's own for the job's page."""
        note = {"event": "note", "at": time.time(), "level": level, "message": message}
        self.take(note)

    def silence_seconds(self) -> float:
        """Returns how long ago the child last got anywhere, in seconds."""
        return time.monotonic() - self.progressed_at

    @property
    def has_unwritten(self) -> bool:
        """Whether something has happened that is not in the database yet."""
        return not self._pending.is_empty()

    def flush(self, *, now: bool = False) -> bool:
        """Writes what has gathered; false when the database could not be reached.

        Args:
            now: Write even if the last flush was less than a second ago.

        Raises:
            LostLease: When another attempt owns the job; nothing was written.
        """
        if not self.has_unwritten or (
            not now and time.monotonic() < self._next_flush_at
        ):
            return True
        self._next_flush_at = time.monotonic() + FLUSH_SECONDS
        batch = self._pending
        try:
            self._database.tx(
                lambda session: self._write(session, batch),
                patience_seconds=PATIENCE_SECONDS,
            )
        except RetryableError as error:
            log.warning("events_kept", error=str(error)[:300])
            self._next_flush_at = time.monotonic() + RETRY_SECONDS
            return False
        self._pending = Pending(points=batch.points[POINTS_AT_ONCE:])
        if self._pending.points:
            self._pending.checkpoints = batch.checkpoints
            self._next_flush_at = 0.0
        return True

    def _write(self, session: Session, batch: Pending) -> None:
        job = (session, self._claim.job_id, self._claim.fence)
        if batch.resumed_step is not None:
            attempt_store.record_resumed(*job, step=batch.resumed_step)
        for rel_path in batch.corrupt:
            attempt_store.mark_checkpoint_corrupt(*job, rel_path=rel_path)
        if batch.durable is not None:
            attempt_store.record_durable(*job, count=batch.durable)
        if batch.points:
            attempt_store.add_metrics(*job, points=batch.points[:POINTS_AT_ONCE])
        for checkpoint in batch.ready_checkpoints:
            attempt_store.register_checkpoint(*job, **checkpoint)
        if batch.progress is not None:
            attempt_store.record_progress(*job, **batch.progress)
        for level, message in batch.notes:
            attempt_store.add_note(*job, level=level, message=message)

    def _take_phase(self, event: dict[str, Any]) -> bool:
        self.phase = _text(event["phase"])
        self._pace = Pace()
        self._keep_progress(self.phase, 0, 0, None, None)
        return True

    def _take_progress(self, event: dict[str, Any]) -> bool:
        phase = _text(event["phase"])
        done, total = _integer(event["done"]), _integer(event["total"])
        unit = None if event.get("unit") is None else _text(event["unit"])
        if (phase, unit) != self._pace.of:  # one phase may count images, then shards
            self._pace = Pace(phase, unit)
        eta_seconds = self._pace.estimate(done, total)
        self._keep_progress(phase, done, total, unit, eta_seconds)
        # Alive is not the same as getting anywhere: only news counts as progress.
        news = (phase, done, event.get("step"))
        moved, self._last_progress = news != self._last_progress, news
        return moved

    def _keep_progress(
        self,
        phase: str,
        done: int,
        total: int,
        unit: str | None,
        eta_seconds: float | None,
    ) -> None:
        self._pending.progress = {
            "phase": phase,
            "done": done,
            "total": total,
            "unit": unit,
            "eta_seconds": eta_seconds,
        }

    def _take_metrics(self, event: dict[str, Any]) -> bool:
        epoch, phase = event.get("epoch"), event.get("phase")
        seq, step = _integer(event["seq"]), _integer(event["step"])
        seconds = {f"{name}_seconds": s for name, s in event.get("seconds", {}).items()}
        points = [
            MetricPoint(
                name=_text(name),
                seq=seq,
                step=step,
                value=float(value),
                epoch=None if epoch is None else _integer(epoch),
                phase=None if phase is None else _text(phase),
            )
            for name, value in (*event["values"].items(), *seconds.items())
            if value is not None and math.isfinite(float(value))
        ]
        self._pending.points += points
        del self._pending.points[:-MOST_POINTS_KEPT]
        return True

    def _take_checkpoint(self, event: dict[str, Any]) -> bool:
        metric = event.get("metric")
        checkpoint = {
            "step": _integer(event["step"]),
            "kind": _text(event["kind"]),
            "rel_path": self._files.storage_path(self._files.inside(event["path"])),
            "manifest_sha": _text(event["manifest_sha"]),
            "size_bytes": _integer(event["bytes"]),
            "metric": None if metric is None else float(metric),
        }
        self._pending.checkpoints.append(checkpoint)
        self._next_flush_at = 0.0  # until its row exists it is no checkpoint
        return True

    def _take_corrupt(self, event: dict[str, Any]) -> bool:
        path, reason = _text(event["path"]), _text(event.get("reason", ""))
        self._pending.corrupt.append(self._files.storage_path(Path(path)))
        self._keep_note(
            "warning",
            f"A checkpoint was damaged and is not used: {Path(path).name}. {reason}",
        )
        return True

    def _take_resumed(self, event: dict[str, Any]) -> bool:
        self._pending.resumed_step = _integer(event["step"])
        return True

    def _take_durable(self, event: dict[str, Any]) -> bool:
        # Packs and features count from zero each; a job's progress is their sum.
        self._durable[_text(event["what"])] = _integer(event["done"])
        self._pending.durable = sum(self._durable.values())
        return True

    def _take_stage(self, event: dict[str, Any]) -> bool:
        """Where the time before the first step goes; told once it is there."""
        name = _text(event.get("name", event["event"]))
        self._stages.append((name, float(event["at"])))
        if name == FIRST_STEP:
            self._keep_note("info", _tell_start(self._stages))
        return False

    def _take_note(self, event: dict[str, Any]) -> bool:
        level = event["level"] if event["level"] in ("warning", "error") else "info"
        self._keep_note(level, _text(event["message"]))
        return False

    def _keep_note(self, level: str, message: str) -> None:
        self._pending.notes.append((level, message))
        del self._pending.notes[:-MOST_NOTES_KEPT]

    def _take_failed(self, event: dict[str, Any]) -> bool:
        self.failure = Failure(
            code=_text(event["code"]),
            message=_text(event["message"]),
            permanent=event.get("permanent") is True,
        )
        return False

    def _take_finished(self, event: dict[str, Any]) -> bool:
        self.finished = Result(
            folder=self._files.inside(event["path"]),
            manifest_sha=_text(event["manifest_sha"]),
            size_bytes=_integer(event["bytes"]),
            step=_integer(event["step"]),
            fence=self._claim.fence,
            summary=dict(event["summary"]),
        )
        return True


def _tell_start(stages: list[tuple[str, float]]) -> str:
    parts = [
        f"{name} {at - before:.1f}" for (_, before), (name, at) in pairwise(stages)
    ]
    whole = stages[-1][1] - stages[0][1]
    return f"The first step came after {whole:.1f} s: {', '.join(parts)}."


def _text(value: Any) -> str:
    """Text as both databases take it: no NUL, no lone surrogates, not too long."""
    if not isinstance(value, str):
        raise TypeError(f"text expected, received {value!r:.100}")
    clean = value.replace("\0", "").encode(errors="replace").decode()
    return clean[:LONGEST_TEXT]


def _integer(value: Any) -> int:
    number = int(value)
    if not 0 <= number <= LARGEST_INTEGER:
        raise ValueError(f"number out of range: {number}")
    return number
