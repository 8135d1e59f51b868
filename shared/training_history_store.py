"""What trainings of this installation took and reached: forecasts learn from it."""

from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from shared.forecast_tables import Forecast, TrainingPromise
from shared.job_status import JobKind, JobStatus
from shared.tables import Attempt, DatasetVersion, Job, ModelVersion

MOST = 200  # trainings that one forecast looks at


def list_history(
    session: Session, *, dataset_id: int, worker_id: int | None, limit: int = MOST
) -> list[dict[str, Any]]:
    """Returns finished trainings as forecasts read them, the newest first.

    Left out are those whose dataset or evaluation has been deleted: nothing can be
    compared with them.

    Args:
        session: Any session.
        dataset_id: The dataset to forecast.
        worker_id: The worker that forecasts.
        limit: Most of them.
    """
    # Single entries of long documents: the whole ones of 200 trainings may be huge.
    evaluation = ModelVersion.evaluation
    rows = session.execute(
        select(
            Job.id,
            Job.dataset_id,
            Job.spec,
            Job.running_ms,
            Attempt.worker_id,
            evaluation["accuracy"].label("accuracy"),
            evaluation["seconds"].label("seconds"),
            evaluation["classes"].label("classes"),
            DatasetVersion.report["counts"].label("counts"),
            Forecast.summary["presets"].label("presets"),
        )
        .join(ModelVersion, ModelVersion.job_id == Job.id)
        .join(DatasetVersion, DatasetVersion.id == Job.dataset_version_id)
        .join(Attempt, (Attempt.job_id == Job.id) & (Attempt.fence == Job.fence))
        .outerjoin(TrainingPromise, TrainingPromise.job_id == Job.id)
        .outerjoin(Forecast, Forecast.id == TrainingPromise.forecast_id)
        .where(
            Job.kind == JobKind.TRAIN,
            Job.state == JobStatus.SUCCEEDED,
            ModelVersion.deleted_at.is_(None),
        )
        .order_by(Job.id.desc())
        .limit(limit)
    )
    return [
        _describe(row, dataset_id, worker_id)
        for row in rows
        if isinstance(row.accuracy, int | float) and isinstance(row.counts, dict)
    ]


def _describe(
    row: Row[*tuple[Any, ...]], dataset_id: int, worker_id: int | None
) -> dict[str, Any]:
    return {
        "job_id": row.id,
        "dataset_id": row.dataset_id,
        "same_dataset": row.dataset_id == dataset_id,
        "same_worker": row.worker_id == worker_id,
        "preset": row.spec.get("preset"),
        "training": row.spec.get("training") or {},
        "images": {
            split: sum((row.counts.get(split) or {}).values())
            for split in ("train", "val", "test")
        },
        "classes": len(row.classes or []),
        "accuracy": row.accuracy,
        "promised": _find_promised(row.presets, row.spec.get("preset")),
        "seconds": row.seconds or {},
        "running_seconds": row.running_ms / 1000,
    }


def _find_promised(presets: Any, preset: Any) -> dict[str, Any] | None:
    """What the forecast said of the preset, on which the promise rests."""
    promised = presets.get(preset) if isinstance(presets, dict) else None
    return promised if isinstance(promised, dict) else None
