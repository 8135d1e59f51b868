"""The records of forecasts: what was found, what users accepted, what was promised."""

from typing import Any

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from shared.tables import NEVER_REUSE_IDS, Base, BigId


class Forecast(Base):
    """What one examination of a dataset version found, and promises of trainings."""

    __tablename__ = "forecasts"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    dataset_version_id: Mapped[int] = mapped_column(
        ForeignKey("dataset_versions.id", ondelete="CASCADE"), index=True
    )
    job_id: Mapped[int] = mapped_column(unique=True)  # the forecast job that made it
    rel_path: Mapped[str]  # below shared storage
    summary: Mapped[dict[str, Any]]  # forecast.json with its lists cut
    created_at: Mapped[int]
    __table_args__ = (NEVER_REUSE_IDS,)


class FindingDecision(Base):
    """A finding that a user has accepted: it is not shown again for this dataset."""

    __tablename__ = "finding_decisions"
    dataset_id: Mapped[int] = mapped_column(
        ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True
    )
    finding_key: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    decided_by: Mapped[str]  # as in the audit
    decided_at: Mapped[int]


class TrainingPromise(Base):
    """What was promised of a training when it was submitted, and what it delivered.

    Without foreign keys: the record of all promises outlives jobs and datasets.
    """

    __tablename__ = "training_promises"
    job_id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=False)
    forecast_id: Mapped[int]
    dataset_name: Mapped[str]
    preset: Mapped[str]
    accuracy_low: Mapped[float]  # shares, 0 to 1
    accuracy: Mapped[float]
    accuracy_high: Mapped[float]
    seconds_low: Mapped[float | None]  # null: nobody could tell
    seconds: Mapped[float | None]
    seconds_high: Mapped[float | None]
    made_at: Mapped[int]
    delivered_accuracy: Mapped[float | None]
    delivered_seconds: Mapped[float | None]
    delivered_at: Mapped[int | None]
    __table_args__ = (Index("ix_training_promises_made", "made_at"),)
