"""Which ingest jobs have which uploads.

An upload belongs to one job at a time: the one that waits, runs or has made a dataset
of it. A job that failed or was cancelled has let go of its uploads. They stay as long
as it does, and belong to whichever job asks for them next, itself or another one.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.errors import ConflictError
from shared.job_status import JobKind, JobStatus
from shared.tables import Job, User

# The edits of a spec may name a hundred thousand pictures, and nobody needs them here.
_SOURCES = Job.spec["sources"]
LET_GO = frozenset({JobStatus.FAILED, JobStatus.CANCELLED})
_MOST_JOBS, _MOST_BROUGHT = 20, 100
UPLOAD_IN_SPEC = re.compile(r"uploads/([A-Za-z0-9][A-Za-z0-9._-]*)")


@dataclass(frozen=True)
class UploadUses:
    """What has become of one user's uploads; those that no job names are in neither.

    Args:
        taken: The job that an upload belongs to.
        let_go: The newest failed or cancelled job of an upload that belongs to none.
    """

    taken: dict[str, int]
    let_go: dict[str, int]


def list_uses(session: Session, owner_id: int) -> UploadUses:
    """Returns which uploads the ingest jobs of this user have, and had."""
    rows = session.execute(
        select(Job.id, Job.state, _SOURCES)
        .where(Job.kind == JobKind.INGEST, Job.owner_id == owner_id)
        .order_by(Job.id)
    )
    taken: dict[str, int] = {}
    let_go: dict[str, int] = {}
    for job_id, state, sources in rows:
        named = let_go if state in LET_GO else taken
        named.update(dict.fromkeys(_find_uploads(sources), job_id))
    return UploadUses(
        taken, {name: job for name, job in let_go.items() if name not in taken}
    )


def hold(
    session: Session,
    owner_id: int,
    uploads: Collection[str],
    *,
    job_id: int | None = None,
) -> None:
    """Returns when no other job has these uploads; none gets them before the commit.

    Args:
        session: The writing session.
        owner_id: Whose uploads they are.
        uploads: Their ids.
        job_id: The job that may have them already.

    Raises:
        ConflictError: When one belongs to another job.
    """
    if not uploads:
        return
    # Of two at once the second waits here, and sees what the first has taken.
    own = select(User.id).where(User.id == owner_id)
    session.execute(own.with_for_update(key_share=True))
    taken = list_uses(session, owner_id).taken
    others = {taken[name] for name in uploads if name in taken} - {job_id}
    if others:
        raise ConflictError(
            f"What was uploaded for it belongs to job {min(others)} now. Upload it "
            "again for a second dataset.",
            field="sources",
        )


def list_needed(session: Session, without: Collection[int]) -> set[str]:
    """Returns the uploads that jobs may still read, other than those in `without`."""
    rows = session.execute(
        select(Job.id, _SOURCES).where(
            Job.kind == JobKind.INGEST, Job.state != JobStatus.SUCCEEDED
        )
    )
    return {
        name
        for job_id, sources in rows
        if job_id not in without
        for name in _find_uploads(sources)
    }


def list_brought(session: Session, dataset_id: int) -> list[dict[str, Any]]:
    """Returns what was uploaded for a dataset, the newest first, each with its digest.

    Returns:
        At most 100 sources of specs, with `name` and `sha256`, of the newest 20 jobs,
        whatever became of them: what arrived damaged is what one compares.
    """
    rows = session.scalars(
        select(_SOURCES)
        .where(Job.kind == JobKind.INGEST, Job.dataset_id == dataset_id)
        .order_by(Job.id.desc())
        .limit(_MOST_JOBS)
    )
    found = [source for sources in rows for source in sources or []]
    told = {(one["name"], one["sha256"]): one for one in found if one.get("sha256")}
    return list(told.values())[:_MOST_BROUGHT]


def find_uploads(spec: dict[str, Any]) -> set[str]:
    """Returns the upload ids that the sources of an ingest spec lie in."""
    return _find_uploads(spec.get("sources"))


def _find_uploads(sources: list[dict[str, Any]] | None) -> set[str]:
    paths = [str(source.get("path", "")) for source in sources or []]
    return {match for path in paths for match in UPLOAD_IN_SPEC.findall(path)}
