"""What the page of the submit form shows."""

import secrets
from typing import Any

from flask import request
from pydantic import ValidationError

from shared import worker_store
from shared.errors import UserError
from shared.job_submit_store import DEFAULT_QUEUE, MAX_PRIORITY
from web.datasets.view import MAX_LISTED, list_trainable
from web.installation import get_database, get_installation
from web.jobs import expected, form
from web.jobs.form_request import NotValidError, place_errors
from web.jobs.submit import MAX_JOBS
from web.jobs.sweep_form import HOW, MOST_ROWS, count_trainings, read_sweep
from web.workers.base_models import list_told


def make_form(filled: form.Filled, error: UserError | None = None) -> dict[str, Any]:
    """Returns the values of the form, with what was filled in and what is wrong."""
    with get_database().reading() as session:
        datasets = list_trainable(session, filled.datasets)
        told = list_told(session)
        queues = worker_store.list_queues(session) | {DEFAULT_QUEUE}
        largest_gpu_mb = worker_store.find_largest_gpu_mb(session)
    errors = place_errors(error, filled) if error else {}
    return {
        "datasets": datasets,
        "presets": form.list_presets(),
        "families": form.list_families(told),
        "advanced": form.list_fields(),
        "chosen": filled,
        "queues": sorted(queues | {filled.wishes.get("queue") or DEFAULT_QUEUE}),
        "default_queue": DEFAULT_QUEUE,
        "largest_gpu_mb": largest_gpu_mb,
        "most_priority": MAX_PRIORITY,
        "how": HOW,
        "most_rows": MOST_ROWS,
        "expected": expected.make_expected(get_installation(), filled),
        "key": request.form.get("key") or secrets.token_urlsafe(16),
        "most": MAX_JOBS,
        "most_listed": MAX_LISTED,
        "problem": str(error) if error else None,
        "errors": errors,
        "sweep_is_wrong": any(place.startswith("sweep") for place in errors),
    }


def make_expected() -> dict[str, Any]:
    """Returns the values of what forecasts tell of the form that was sent."""
    filled = form.read(request.form)
    return {"expected": expected.make_expected(get_installation(), filled)}


def count_sweep() -> dict[str, Any]:
    """Returns how many trainings the sweep that was sent makes, or why it does not."""
    try:
        return {"trainings": count_trainings(read_sweep(request.form))}
    except ValidationError as error:
        return {"problem": str(NotValidError(error, within="sweep."))}
    except UserError as error:
        return {"problem": str(error)}
