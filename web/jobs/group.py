"""One submission: its jobs, and all its models in one download."""

from dataclasses import dataclass
from typing import Any

from flask import Response
from sqlalchemy.orm import Session

from shared import job_read_store
from shared.errors import ConflictError, NotFoundError
from shared.job_status import TERMINAL, JobStatus
from shared.tables import Job
from web.installation import get_database, get_installation
from web.jobs.view import PAGE_SIZE, JobRow, VersionName, find_versions, make_row
from web.models.archive import archive_name
from web.paging import Pager, asked_page
from web.zip_stream import Member, measure_zip, stream_zip

MAX_JOBS = 500
LIVE = [state.value for state in JobStatus if state not in TERMINAL]


@dataclass(frozen=True)
class GroupRow:
    """A job of a submission and what it has published."""

    job: JobRow
    version: VersionName | None


def make_page(group_key: str) -> dict[str, Any]:
    """Returns the values of a submission's page.

    Raises:
        NotFoundError: When no job belongs to it.
    """
    with get_database().reading() as session:
        found = job_read_store.list_jobs(
            session, group_key=group_key, page=asked_page(), page_size=PAGE_SIZE
        )
        if not found.total:
            raise NotFoundError(
                "There is no such submission, or its jobs were deleted."
            )
        versions = find_versions(session, found.items)
        rows = [GroupRow(make_row(job), versions.get(job.id)) for job in found.items]
        waiting = _count(session, group_key, LIVE)
        published = _count(session, group_key, [JobStatus.SUCCEEDED])
    return {
        "live": waiting > 0,
        "group_key": group_key,
        "rows": rows,
        "published": published,
        "pager": Pager(found.page, PAGE_SIZE, found.total, "jobs.group_page"),
    }


def send_archive(group_key: str) -> Response:
    """Answers with all models of a submission as one zip, streamed.

    Raises:
        NotFoundError: When no job belongs to it, or a file is not there.
        ConflictError: When nothing was published yet.
    """
    here = get_installation()
    with here.database.reading() as session:
        if not job_read_store.list_jobs(
            session, group_key=group_key, page_size=1
        ).total:
            raise NotFoundError(
                "There is no such submission, or its jobs were deleted."
            )
        versions = _list_versions(session, group_key)
    if not versions:
        raise ConflictError("None of this submission's jobs has published a model yet.")
    members = [
        Member(archive_name(v.name, v.version), here.storage.artifact(v.sha))
        for v in versions
    ]
    missing = next((m.name for m in members if not m.path.is_file()), None)
    if missing:  # found out before the first byte, while an error can still be told
        raise NotFoundError(f"{missing} is not on shared storage any more.")
    response = Response(stream_zip(members), mimetype="application/zip")
    response.content_length = measure_zip(members)
    response.headers["Content-Disposition"] = (
        f'attachment; filename="trainyard-{group_key[:8]}.zip"'
    )
    return response


def _count(session: Session, group_key: str, states: list[str] | None = None) -> int:
    return job_read_store.list_jobs(
        session, states=states, group_key=group_key, page_size=1
    ).total


def _list_versions(session: Session, group_key: str) -> list[VersionName]:
    jobs: list[Job] = job_read_store.list_jobs(
        session, group_key=group_key, page_size=MAX_JOBS
    ).items
    found = find_versions(session, jobs)
    return [found[job.id] for job in reversed(jobs) if job.id in found]
