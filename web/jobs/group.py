"""One submission: its jobs, and all its models in one download."""

from dataclasses import dataclass
from typing import Any

from flask import Response
from sqlalchemy.orm import Session

from shared import job_read_store
from shared.errors import ConflictError, NotFoundError
from shared.job_status import TERMINAL, JobStatus
from web.auth.sign_in import current_account
from web.installation import get_database, get_installation
from web.jobs.asks import CANCEL, PAUSE, RESUME, RETRY, Ask
from web.jobs.view import PAGE_SIZE, JobRow, VersionName, find_versions, make_row
from web.models.archive import archive_name
from web.paging import Pager, asked_page
from web.permissions import may_change
from web.zip_stream import Member, measure_zip, stream_zip

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
        summary = job_read_store.count_group(session, group_key)
        published = summary.get(JobStatus.SUCCEEDED, 0)
        first = found.items[0]
    return {
        "live": any(summary.get(state) for state in LIVE),
        "allowed": may_change(current_account(), first),
        "asks": list_asks(summary),
        "summary": summary,
        "ended": sum(summary.get(state, 0) for state in TERMINAL),
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


def list_asks(summary: dict[str, int]) -> list[Ask]:
    """Returns what makes sense to ask of all jobs, going by how many are where."""
    admits = {
        PAUSE: (JobStatus.QUEUED, JobStatus.RUNNING),
        RESUME: (JobStatus.PAUSED,),
        CANCEL: (JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.PAUSED),
        RETRY: (JobStatus.FAILED, JobStatus.CANCELLED),
    }
    return [
        ask
        for ask, states in admits.items()
        if any(summary.get(state) for state in states)
    ]


def _list_versions(session: Session, group_key: str) -> list[VersionName]:
    jobs = job_read_store.list_group(session, group_key)
    found = find_versions(session, jobs)
    return [found[job.id] for job in jobs if job.id in found]
