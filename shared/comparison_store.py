"""What the jobs of one submission are compared by; writes nothing.

Three statements read it all, however many jobs there are. A fourth reads the curves of
those that a chart shows.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Row, ScalarSelect, Subquery, and_, func, select, true
from sqlalchemy.orm import Session

from shared.errors import NotFoundError
from shared.tables import Attempt, Dataset, Job, Metric, Model, ModelVersion

MEASURE = "val_accuracy"


def list_jobs(session: Session, group_key: str) -> Sequence[Row[*tuple[Any, ...]]]:
    """Returns the jobs of one submission, in its order, with what they published.

    Each row has the job's columns that tell how it stands, the names of its dataset
    and model (None where they were deleted), `version` and `artifact_bytes` of what it
    published, and `attempt_started_at` of the attempt that runs now.

    Raises:
        NotFoundError: When no job belongs to it.
    """
    query = (
        select(
            Job.id, Job.title, Job.owner_id, Job.state, Job.desired, Job.gives_way_to,
            Job.phase,
            Job.progress_done, Job.progress_total, Job.eta_seconds, Job.reason,
            Job.spec, Job.result, Job.running_ms, Job.dataset_id,
            Dataset.name.label("dataset"), Model.name.label("model"),
            ModelVersion.version, ModelVersion.artifact_bytes,
            Attempt.started_at.label("attempt_started_at"),
        )
        .outerjoin(Dataset, Dataset.id == Job.dataset_id)
        .outerjoin(Model, Model.id == Job.model_id)
        .outerjoin(
            ModelVersion,
            and_(
                ModelVersion.job_id == Job.id,
                ModelVersion.model_id == Job.model_id,
                ModelVersion.deleted_at.is_(None),
            ),
        )
        .outerjoin(
            Attempt,
            and_(
                Attempt.job_id == Job.id,
                Attempt.fence == Job.fence,
                Attempt.ended_at.is_(None),
            ),
        )
        .where(Job.group_key == group_key)
        .order_by(Job.id)
    )  # fmt: skip
    jobs = session.execute(query).all()
    if not jobs:
        raise NotFoundError("There is no such submission, or its jobs were deleted.")
    return jobs


def summarise_curves(
    session: Session, group_key: str
) -> dict[int, Row[*tuple[Any, ...]]]:
    """Returns `best`, `epochs` and `steps` of each job that has ended an epoch.

    `best` is the highest validation accuracy of any epoch.
    """
    mine = select(Job.id).where(Job.group_key == group_key)
    once = _select_all_points(mine.where(Job.fence <= 1).scalar_subquery())
    again = _select_points(mine.where(Job.fence > 1).scalar_subquery())
    found = {}
    # Nothing was trained again in a first attempt: of its points none is left out,
    # which takes a third of the time.
    for points, kept in ((once, true()), (again, again.c.rank == 1)):
        summary = session.execute(
            select(
                points.c.job_id,
                func.max(points.c.value).label("best"),
                func.count().label("epochs"),
                func.max(points.c.step).label("steps"),
            )
            .where(kept)
            .group_by(points.c.job_id)
        )
        found |= {row.job_id: row for row in summary}
    return found


def list_curves(session: Session, job_ids: Collection[int]) -> dict[int, list[float]]:
    """Returns the validation accuracies of each of these jobs, epoch by epoch."""
    points = _select_points(job_ids)
    found = session.execute(
        select(points.c.job_id, points.c.value)
        .where(points.c.rank == 1)
        .order_by(points.c.job_id, points.c.step)
    )
    curves: dict[int, list[float]] = defaultdict(list)
    for job_id, value in found:
        curves[job_id].append(value)
    return dict(curves)


def _select_all_points(job_ids: ScalarSelect[int]) -> Subquery:
    return (
        select(Metric.job_id, Metric.step, Metric.value)
        .where(
            Metric.job_id.in_(job_ids),
            Metric.name == MEASURE,
            Metric.epoch.is_not(None),
        )
        .subquery()
    )


def _select_points(job_ids: Collection[int] | ScalarSelect[int]) -> Subquery:
    """Selects the points of curves without gaps or doubles, as `metrics_curve` does.

    What an attempt wrote beyond the step from which a later one went on is left out;
    of one step the latest attempt's word counts, which has `rank` 1.
    """
    # For each point, not joined: SQLite would walk through a joined list of limits anew
    # for every point (2,000 jobs: 6 s, and 0.1 s like this).
    goes_on_from = (
        select(func.min(Attempt.start_step))
        .where(Attempt.job_id == Metric.job_id, Attempt.fence > Metric.fence)
        .scalar_subquery()
    )
    latest = func.row_number().over(
        partition_by=(Metric.job_id, Metric.step),
        order_by=(Metric.fence.desc(), Metric.seq.desc()),
    )
    return (
        select(Metric.job_id, Metric.step, Metric.value, latest.label("rank"))
        .where(
            Metric.job_id.in_(job_ids),
            Metric.name == MEASURE,
            Metric.epoch.is_not(None),
            Metric.step <= func.coalesce(goes_on_from, Metric.step),
        )
        .subquery()
    )
