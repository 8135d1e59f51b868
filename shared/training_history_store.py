"""What trainings of this installation took and reached: forecasts learn from it."""

from typing import Any

from sqlalchemy import Row, Subquery, func, select
from sqlalchemy.orm import Session

from shared.forecast_tables import Forecast, TrainingPromise
from shared.job_status import Desired, JobKind, JobStatus
from shared.presets import is_plain
from shared.tables import Attempt, DatasetVersion, Job, ModelVersion
from shared.training_promise_store import read_timer, tell_seconds

MOST = 100  # trainings of each preset that one forecast looks at
MOST_OF_DATASET = 10  # of each preset: more of one dataset teach hardly more


def list_history(
    session: Session,
    *,
    dataset_id: int,
    worker_id: int | None,
    limit: int = MOST,
    of_dataset: int = MOST_OF_DATASET,
) -> list[dict[str, Any]]:
    """Returns finished trainings as forecasts read them, the newest first.

    Only those of which something was promised: no other one can be compared with what a
    forecast says. Left out are those that were finished early at somebody's wish, those
    whose dataset or evaluation has been deleted, and those of what an earlier release
    called by the preset's name. Of a training that took several attempts the accuracy
    counts, and no time.

    Args:
        session: Any session.
        dataset_id: The dataset to forecast.
        worker_id: The worker that forecasts.
        limit: Most of each preset, of as many datasets as there are.
        of_dataset: Most of each preset and dataset, the newest.
    """
    chosen = _choose(of_dataset)
    # Single entries of long documents: the whole ones of so many may be huge.
    evaluation = ModelVersion.evaluation
    rows = session.execute(
        select(
            Job.id,
            Job.dataset_id,
            Job.spec,
            Job.running_ms,
            Job.fence,
            Attempt.worker_id,
            evaluation["accuracy"].label("accuracy"),
            evaluation["seconds"].label("seconds"),
            evaluation["classes"].label("classes"),
            DatasetVersion.report["counts"].label("counts"),
            Forecast.summary["presets"].label("presets"),
            Forecast.summary["worker"].label("worker"),
        )
        .join(chosen, chosen.c.job_id == Job.id)
        .join(ModelVersion, ModelVersion.job_id == Job.id)
        .join(DatasetVersion, DatasetVersion.id == Job.dataset_version_id)
        .join(Attempt, (Attempt.job_id == Job.id) & (Attempt.fence == Job.fence))
        .join(Forecast, Forecast.id == chosen.c.forecast_id)
        .where(chosen.c.of_preset <= limit)
        .order_by(Job.id.desc())
    )
    return [
        _describe(row, dataset_id, worker_id)
        for row in rows
        if isinstance(row.accuracy, int | float)
        and isinstance(row.counts, dict)
        and is_plain(row.spec.get("preset"), row.spec.get("training") or {})
    ]


def _choose(of_dataset: int) -> Subquery:
    """Numbers the trainings of each preset, the newest of every dataset first.

    A sweep of hundreds on one dataset must not crowd out what others have taught.
    """
    ranked = (
        select(
            TrainingPromise.job_id,
            TrainingPromise.forecast_id,
            TrainingPromise.preset,
            func.row_number()
            .over(
                partition_by=(TrainingPromise.preset, Job.dataset_id),
                order_by=Job.id.desc(),
            )
            .label("of_dataset"),
        )
        .join(Job, Job.id == TrainingPromise.job_id)
        .join(ModelVersion, ModelVersion.job_id == Job.id)
        .where(
            Job.kind == JobKind.TRAIN,
            Job.state == JobStatus.SUCCEEDED,
            Job.desired != Desired.FINISH,
            ModelVersion.deleted_at.is_(None),
        )
        .subquery()
    )
    return (
        select(
            ranked.c.job_id,
            ranked.c.forecast_id,
            func.row_number()
            .over(
                partition_by=ranked.c.preset,
                order_by=(ranked.c.of_dataset, ranked.c.job_id.desc()),
            )
            .label("of_preset"),
        )
        .where(ranked.c.of_dataset <= of_dataset)
        .subquery()
    )


def _describe(
    row: Row[*tuple[Any, ...]], dataset_id: int, worker_id: int | None
) -> dict[str, Any]:
    promised = _find_promised(row.presets, row.spec.get("preset"))
    return {
        "job_id": row.id,
        "dataset_id": row.dataset_id,
        "same_dataset": row.dataset_id == dataset_id,
        # What was reckoned on another machine says nothing of how this one reckons.
        "same_worker": row.worker_id == worker_id == read_timer(row.worker),
        "preset": row.spec.get("preset"),
        "images": {
            split: sum((row.counts.get(split) or {}).values())
            for split in ("train", "val", "test")
        },
        "classes": len(row.classes or []),
        "accuracy": row.accuracy,
        "promised": promised,
        "seconds": row.seconds or {},
        "running_seconds": tell_seconds(row.fence, row.running_ms),
    }


def _find_promised(presets: Any, preset: Any) -> dict[str, Any] | None:
    """What the forecast said of the preset, on which the promise rests."""
    promised = presets.get(preset) if isinstance(presets, dict) else None
    return promised if isinstance(promised, dict) else None
