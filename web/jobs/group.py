"""One submission: its jobs, and all its models in one download."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from flask import Response, request
from sqlalchemy.orm import Session

from shared import job_read_store
from shared.errors import ConflictError, NotFoundError
from shared.job_status import TERMINAL, JobStatus
from web.auth.sign_in import current_account
from web.installation import get_database, get_installation
from web.jobs.asks import CANCEL, PAUSE, RESUME, RETRY, Ask
from web.jobs.comparison import MEASURES, Compared, Comparison, load_comparison
from web.jobs.comparison_charts import (
    MAX_CURVES,
    charted_settings,
    list_axes,
    make_points,
)
from web.jobs.submit import show_setting
from web.jobs.view import PAGE_SIZE, VersionName, find_versions
from web.models.archive import archive_name
from web.paging import cut_page
from web.permissions import may_change
from web.zip_stream import Member, measure_zip, stream_zip

LIVE = [state.value for state in JobStatus if state not in TERMINAL]


# What columns are called, and why some are there, beside the settings.
WORDS = {
    "job": "Job",
    "dataset": "Dataset",
    "preset": "Preset",
    "base_model": "Base model",
    "state": "State",
    "val_accuracy": "Val. accuracy",
    "test_accuracy": "Test accuracy",
    "log_loss": "Log-loss",
    "epochs": "Epochs",
    "steps": "Steps",
    "seconds": "Time",
    "size_bytes": "Size",
}
HELP = {
    "val_accuracy": "Best accuracy on the validation split, of any epoch",
    "test_accuracy": "Accuracy of the published version on the test split",
    "log_loss": "Of the published version on the test split; lower is better",
    "seconds": "On workers, over all attempts",
    "size_bytes": "Of the SavedModel archive",
}
BEST_FIRST = ("val_accuracy", "test_accuracy")  # where the first click sorts downwards
SHOWN_NARROW = ("job", *BEST_FIRST)  # the state stands below the job's number there
MANY_JOBS = 200  # from here on the page looks less often: each look compares them all


@dataclass(frozen=True)
class Column:
    """One column of the comparison.

    Args:
        sorted: `ascending` or `descending` where the rows are in its order.
        next_sort: What a click on its head sorts by.
    """

    name: str
    words: str
    help: str
    is_number: bool
    shown_narrow: bool
    sorted: str | None
    next_sort: str


def make_page(group_key: str) -> dict[str, Any]:
    """Returns the values of a submission's page.

    Raises:
        NotFoundError: When no job belongs to it.
    """
    with get_database().reading() as session:
        found = load_comparison(session, group_key)
    wish = request.args.get("sort", "")
    wish = wish if wish.removeprefix("-") in found.columns else ""
    rows, pager = cut_page(found.sort(wish), PAGE_SIZE, endpoint="jobs.group_page")
    summary = Counter(row.state for row in found.rows)
    live = any(summary.get(state) for state in LIVE)
    return {
        "live": live,
        "poll_seconds": (2 if len(found.rows) <= MANY_JOBS else 10) if live else None,
        "allowed": may_change(current_account(), found.rows[0]),
        "asks": list_asks(summary),
        "summary": summary,
        "ended": sum(summary.get(state, 0) for state in TERMINAL),
        "group_key": group_key,
        "rows": [(row, _show_settings(row, found.settings)) for row in rows],
        "columns": _list_columns(found, wish),
        "sort": wish,
        "has_results": found.has_results,
        "has_points": any(row.epochs for row in found.rows),
        "published": sum(row.version is not None for row in found.rows),
        "charted": charted_settings(found),
        "most_curves": MAX_CURVES,
        "pager": pager,
    }


def _list_columns(found: Comparison, wish: str) -> list[Column]:
    by = wish or ("-val_accuracy" if found.has_results else "job")
    first, *measures = MEASURES
    if not any(row.log_loss is not None for row in found.rows):
        measures.remove("log_loss")
    numbers = {*found.list_numeric(), *measures} - {"state"}
    return [
        _make_column(name, by, is_number=name in numbers)
        for name in (first, *found.settings, *measures)
    ]


def _make_column(name: str, by: str, *, is_number: bool) -> Column:
    sorted_by = {name: "ascending", f"-{name}": "descending"}.get(by)
    downwards = name in BEST_FIRST if sorted_by is None else sorted_by == "ascending"
    return Column(
        name=name,
        words=WORDS.get(name, name),
        help=HELP.get(name, ""),
        is_number=is_number,
        shown_narrow=name in SHOWN_NARROW,
        sorted=sorted_by,
        next_sort=f"-{name}" if downwards else name,
    )


def _show_settings(row: Compared, names: list[str]) -> list[tuple[str, str]]:
    return [
        (WORDS.get(name, name), show_setting(name, row.settings.get(name)))
        for name in names
    ]


def read_axes(group_key: str) -> tuple[tuple[str, bool], ...]:
    """Returns the settings that a submission's charts show, and how they are drawn.

    Raises:
        NotFoundError: When no job belongs to it.
    """
    with get_database().reading() as session:
        return list_axes(load_comparison(session, group_key))


def read_points(group_key: str) -> tuple[dict[str, Any], bool]:
    """Returns what a submission's charts show now, and whether more may come.

    Raises:
        NotFoundError: When no job belongs to it.
    """
    with get_database().reading() as session:
        found = load_comparison(session, group_key)
        return make_points(session, found), any(row.state in LIVE for row in found.rows)


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
