"""The jobs of one submission side by side: how they differ, and what came of each."""

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from sqlalchemy import Row
from sqlalchemy.orm import Session

from shared import comparison_store
from shared.errors import UserError
from shared.job_status import JobStatus
from shared.presets import build_training_spec
from web.display import shown_state
from web.jobs.submit import flatten_spec


@dataclass(frozen=True)
class Compared:
    """One job of a submission.

    Args:
        settings: Every setting by name, `dataset` and `preset` among them.
        val_accuracy: The best of any epoch so far.
        test_accuracy: Of what it published.
        log_loss: Of what it published, on the test split.
        seconds: On workers, over all attempts.
        best: Whether it is the best of those on its dataset that have a result.
    """

    job: int
    title: str
    owner_id: int
    state: str
    shown: str
    phase: str | None
    done: int
    total: int
    eta_seconds: float | None
    reason: str | None
    dataset_id: int | None
    settings: dict[str, Any]
    val_accuracy: float | None
    test_accuracy: float | None
    log_loss: float | None
    epochs: int
    steps: int
    seconds: float
    model: str | None
    version: int | None
    size_bytes: int | None
    best: bool = False

    @property
    def published(self) -> str | None:
        """What it published, as `name:version`."""
        return f"{self.model}:{self.version}" if self.model and self.version else None


@dataclass(frozen=True)
class Comparison:
    """All jobs of a submission in its order, and the settings in which they differ."""

    rows: list[Compared]
    settings: list[str]

    @property
    def columns(self) -> tuple[str, ...]:
        """What the jobs can be sorted by."""
        return (*self.settings, *MEASURES)

    @property
    def has_results(self) -> bool:
        """Whether a job has published."""
        return any(row.test_accuracy is not None for row in self.rows)

    def list_numeric(self) -> list[str]:
        """Returns those of the settings that are numbers in every job that has one."""
        numeric = []
        for name in self.settings:
            values = [row.settings.get(name) for row in self.rows]
            known = [value for value in values if value is not None]
            if known and all(type(value) in {int, float} for value in known):
                numeric.append(name)
        return numeric

    def as_json(self, row: Compared) -> dict[str, Any]:
        """Returns a job as the API gives it: settings that differ, and measures."""
        told = {name: getattr(row, name) for name in (*MEASURES, *FACTS)}
        return told | {"settings": {n: row.settings.get(n) for n in self.settings}}

    def rank(self) -> list[Compared]:
        """Returns the best first: those with a result before those without.

        Jobs are told apart by validation accuracy: the test accuracy of a model that
        was chosen by it would flatter.
        """
        return sorted(self.rows, key=_rank, reverse=True)

    def sort(self, wish: str) -> list[Compared]:
        """Returns the jobs in another order.

        Args:
            wish: A column, with `-` before it for the largest first; '' for the best
                first, or the order of the submission while nothing has a result.

        Raises:
            UserError: For a column that is not there.
        """
        if not wish:
            return self.rank() if self.has_results else self.rows
        name = wish.removeprefix("-")
        if name not in self.columns:
            raise UserError(
                f"`sort` must be one of {', '.join(self.columns)}, with - before it "
                f"for the largest first. Received: {wish!r}.",
                field="sort",
            )
        return _sort(self.rows, name, descending=wish.startswith("-"))


# What jobs are compared by, beside the settings in which they differ.
MEASURES = (
    "job", "state", "val_accuracy", "test_accuracy", "log_loss", "epochs", "steps",
    "seconds", "size_bytes",
)  # fmt: skip
FACTS = ("title", "published", "best")


def load_comparison(session: Session, group_key: str) -> Comparison:
    """Reads the jobs of a submission in two statements, however many they are.

    Raises:
        NotFoundError: When no job belongs to it.
    """
    jobs = comparison_store.list_jobs(session, group_key)
    curves = comparison_store.summarise_curves(session, group_key)
    now_ms = time.time() * 1000
    rows = [_make_row(job, curves.get(job.id), now_ms) for job in jobs]
    return Comparison(_mark_best(rows), _find_differing(rows))


_Row = Row[*tuple[Any, ...]]


def _make_row(job: _Row, curve: _Row | None, now_ms: float) -> Compared:
    spec, result = job.spec or {}, job.result or {}
    own = {"dataset": job.dataset or f"dataset {job.dataset_id} (deleted)"}
    running_ms = job.running_ms
    if job.state == JobStatus.RUNNING and job.attempt_started_at:
        running_ms += max(0, now_ms - job.attempt_started_at)
    return Compared(
        job=job.id,
        title=job.title,
        owner_id=job.owner_id,
        state=job.state,
        shown=shown_state(job.state, job.desired, job.gives_way_to),
        phase=job.phase,
        done=job.progress_done,
        total=job.progress_total,
        eta_seconds=job.eta_seconds,
        reason=job.reason,
        dataset_id=job.dataset_id,
        settings=own
        | {"preset": spec.get("preset")}
        | flatten_spec(spec.get("training") or {}),
        val_accuracy=curve.best if curve else None,
        test_accuracy=_find_number(result, "accuracy"),
        log_loss=_find_number(result, "loss"),
        epochs=curve.epochs if curve else 0,
        steps=curve.steps if curve else 0,
        seconds=running_ms / 1000,
        model=job.model,
        version=job.version,
        size_bytes=job.artifact_bytes,
    )


def _find_number(result: dict[str, Any], name: str) -> float | None:
    value = result.get(name)
    return value if isinstance(value, int | float) else None


def _mark_best(rows: list[Compared]) -> list[Compared]:
    """Accuracies on different datasets say nothing of each other: one best for each."""
    best: dict[int | None, Compared] = {}
    for row in rows:
        if row.test_accuracy is None:
            continue
        if row.dataset_id not in best or _rank(row) > _rank(best[row.dataset_id]):
            best[row.dataset_id] = row
    marked = {row.job for row in best.values()}
    return [replace(row, best=True) if row.job in marked else row for row in rows]


def _rank(row: Compared) -> tuple[bool, float, float]:
    """Returns what is larger for the better of two jobs."""
    return (
        row.test_accuracy is not None,
        -1.0 if row.val_accuracy is None else row.val_accuracy,
        -1.0 if row.test_accuracy is None else row.test_accuracy,
    )


def _find_differing(rows: list[Compared]) -> list[str]:
    """Returns the settings that tell the jobs apart.

    What follows from another preset or base model alone is none of them.
    """
    names = dict.fromkeys(name for row in rows for name in row.settings)
    first = rows[0].settings
    differing = [
        name
        for name in names
        if any(row.settings.get(name) != first.get(name) for row in rows)
    ]
    kinds = {
        (row.settings.get("preset"), row.settings.get("base_model")) for row in rows
    }
    if len(kinds) == 1:
        return differing
    return [name for name in differing if not _follows(name, rows)]


def _follows(name: str, rows: list[Compared]) -> bool:
    if name in {"dataset", "preset", "base_model"}:
        return False
    return all(
        row.settings.get(name)
        == _list_preset(row.settings.get("preset"), row.settings.get("base_model")).get(
            name
        )
        for row in rows
    )


@lru_cache(maxsize=256)
def _list_preset(preset: str | None, base_model: str | None) -> dict[str, Any]:
    """Returns the settings of a preset with nothing changed; none of an unknown one."""
    try:
        spec = build_training_spec(preset, {"base_model": base_model})
    except UserError:
        return {}
    return flatten_spec(spec.model_dump(mode="json"))


def _sort(rows: Iterable[Compared], name: str, *, descending: bool) -> list[Compared]:
    """Sorts by one column, whose empty cells come last either way."""
    keyed = [(_key(_value(row, name)), row) for row in rows]
    known = [(key, row) for key, row in keyed if key is not None]
    known.sort(key=lambda pair: pair[0], reverse=descending)
    return [row for _, row in known] + [row for key, row in keyed if key is None]


def _value(row: Compared, name: str) -> Any:
    if name == "state":
        return list(JobStatus).index(JobStatus(row.state))
    if name in {"epochs", "steps", "seconds"}:
        return getattr(row, name) or None
    return getattr(row, name) if name in MEASURES else row.settings.get(name)


def _key(value: Any) -> tuple[int, Any] | None:
    """Returns what orders values of all kinds: numbers, then words, then lists."""
    if value is None:
        return None
    if isinstance(value, int | float):
        return 0, value
    return (1, value.lower()) if isinstance(value, str) else (2, json.dumps(value))
