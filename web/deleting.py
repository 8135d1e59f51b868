"""Deleting: what goes is told first; rows go in one transaction, files after it.

A crash in between leaves files that no row names; garbage collection takes those.
"""

from typing import Any

import structlog
from flask import render_template

from shared.deletion import DeletionPlan
from web.display import size
from web.installation import Installation
from web.uploads import uses

log = structlog.get_logger(__name__)

UPLOADS = "uploads/"


def remove_files(here: Installation, plan: DeletionPlan) -> None:
    """Removes what the rows no longer name; what cannot be removed is logged."""
    uploads = [path for path in plan.paths if path.startswith(UPLOADS)]
    try:
        here.storage.remove([path for path in plan.paths if path not in uploads])
        for path in uploads:
            uses.remove_unneeded(here, path)
    except OSError as error:
        log.warning("files_left", title=plan.title, error=str(error))


def show_plan(plan: DeletionPlan, *, back: str, words: str) -> str:
    """Renders the page that asks whether to delete.

    Args:
        plan: What goes and what stays.
        back: Address of the thing's own page.
        words: What that page is called.
    """
    goes = list(plan.goes)
    if plan.size_bytes:
        goes.append(f"About {size(plan.size_bytes)} of disk space come back.")
    return render_template("delete.html", plan=plan, goes=goes, back=back, words=words)


def describe_deleted(plan: DeletionPlan) -> dict[str, Any]:
    """Returns what the API answers to a deletion."""
    return {
        "deleted": plan.title,
        "went": plan.goes,
        "stayed": plan.stays,
        "counts": plan.counts,
        "size_bytes": plan.size_bytes,
    }
