"""Findings that users have accepted: they are fine, and not shown again."""

from collections.abc import Iterable, Mapping

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from shared import audit_store
from shared.database import now_ms
from shared.forecast_tables import FindingDecision
from shared.sql_dialect import in_parts, insert


def accept(
    session: Session, dataset_id: int, findings: Mapping[str, str], *, actor: str
) -> int:
    """Accepts findings of a dataset; a key is of all its versions.

    Args:
        session: The writing session.
        dataset_id: The dataset, which exists.
        findings: The kind of each, by its key.
        actor: Who accepts them.

    Returns:
        How many had not been accepted before.
    """
    accepted = 0
    for keys in in_parts(sorted(findings)):
        made = session.execute(
            insert(session, FindingDecision)
            .values(
                [
                    {
                        "dataset_id": dataset_id,
                        "finding_key": key,
                        "kind": findings[key],
                        "decided_by": actor,
                        "decided_at": now_ms(),
                    }
                    for key in keys
                ]
            )
            .on_conflict_do_nothing(index_elements=["dataset_id", "finding_key"])
            .returning(FindingDecision.finding_key)
        )
        accepted += len(made.all())
    if accepted:
        audit_store.record(
            session, actor, "findings_accepted", "dataset", dataset_id,
            {"findings": accepted},
        )  # fmt: skip
    return accepted


def take_back(
    session: Session, dataset_id: int, keys: Iterable[str], *, actor: str
) -> int:
    """Shows accepted findings of a dataset again.

    Args:
        session: The writing session.
        dataset_id: The dataset.
        keys: Those that are not accepted are passed over.
        actor: Who takes them back.

    Returns:
        How many had been accepted.
    """
    taken = 0
    for part in in_parts(sorted(set(keys))):
        gone = session.execute(
            delete(FindingDecision)
            .where(
                FindingDecision.dataset_id == dataset_id,
                FindingDecision.finding_key.in_(part),
            )
            .returning(FindingDecision.finding_key)
        )
        taken += len(gone.all())
    if taken:
        audit_store.record(
            session, actor, "findings_taken_back", "dataset", dataset_id,
            {"findings": taken},
        )  # fmt: skip
    return taken


def list_accepted(session: Session, dataset_id: int) -> set[str]:
    """Returns the keys of all accepted findings of a dataset."""
    return set(
        session.scalars(
            select(FindingDecision.finding_key).where(
                FindingDecision.dataset_id == dataset_id
            )
        )
    )
