"""A form of decisions, kept with its job: shown again should no version come of it."""

from typing import Any

from werkzeug.datastructures import MultiDict

from shared import job_read_store
from shared.job_status import JobStatus
from shared.tables import Job
from web.form_key import list_content
from web.installation import get_installation

# A page has 24 cards; what has more fields is no page of ours, and not worth keeping.
_MOST_KEPT = 500
_FAILED = (JobStatus.FAILED, JobStatus.CANCELLED)


def keep_form(
    form: MultiDict[str, str], place: dict[str, Any]
) -> dict[str, Any] | None:
    """Returns what a job keeps of a form; None of one that is too long.

    Args:
        form: What was sent.
        place: Which page it was on, as the parameters of its address.
    """
    fields = list_content(form)
    return {"place": place, "fields": fields} if len(fields) <= _MOST_KEPT else None


def read_kept(kept: Any) -> MultiDict[str, str]:
    """Returns a form as it was filled in, of what a job has kept of it."""
    fields = kept.get("fields") if isinstance(kept, dict) else None
    return MultiDict([(str(name), str(value)) for name, value in fields or []])


def find_failed(dataset_id: int, job_id: int | None) -> Job | None:
    """Returns the job whose choices are to be taken up again; None for no such job.

    Raises:
        NotFoundError: When there is no job of that number.
    """
    if job_id is None:
        return None
    with get_installation().database.reading() as session:
        job = job_read_store.get_job(session, job_id)
    is_ours = job.dataset_id == dataset_id and "edits" in job.spec
    return job if is_ours and job.state in _FAILED else None
