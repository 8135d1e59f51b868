"""Decisions about pictures of a dataset version: they make the next version.

What is decided becomes an ingest job with the newest version as its only source; the
version itself is never changed.
"""

import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy.orm import Session

from shared import dataset_store, job_read_store
from shared.errors import ConflictError, UserError
from shared.job_status import TERMINAL, JobKind, JobStatus
from shared.tables import DatasetVersion, Job
from web.auth.datastore import Account
from web.datasets.add import (
    ADD,
    REPLACE,
    Added,
    Wish,
    find_earlier,
    record_ingest,
    repeat,
)
from web.datasets.decision import MAX_IMAGES, Decisions
from web.datasets.decision_check import refuse_hopeless
from web.datasets.restoring import add_restored
from web.installation import Installation
from web.permissions import require_change

# They are kept with the job, which is read wherever the job is shown.
_UNDER_WAY: list[str] = [state for state in JobStatus if state not in TERMINAL]


def decide(
    here: Installation,
    account: Account,
    wanted: Decisions,
    *,
    also: Callable[[Session], None] = lambda _session: None,
) -> Added:
    """Queues the ingest job that makes the next version by what was decided.

    Args:
        here: The installation.
        account: Who decides.
        wanted: What is decided.
        also: Writes, in the transaction that queues the job, what is true only with it.

    Raises:
        UserError: When nothing or too much is decided, or no version could come of it.
        NotFoundError: When there is no such dataset or version, or its quarantine
            cannot be read.
        NotAllowedError: When it is somebody else's.
        ConflictError: When there is a newer version or one is being made, or the key
            was used for something else.
    """
    with here.database.reading() as session:
        dataset = dataset_store.get_dataset(session, wanted.dataset_id)
        require_change(account, dataset, "dataset")
        version = dataset_store.get_numbered_version(
            session, dataset.id, wanted.version
        )
        _refuse_column(version, wanted.split)
    wanted, left = add_restored(here.storage, version, wanted, most=MAX_IMAGES)
    _refuse_amount(wanted)
    asked = _describe(wanted)
    key = wanted.key or secrets.token_urlsafe(16)
    earlier = find_earlier(here, account, key)
    if earlier:
        return replace(repeat(earlier, asked), left=left)
    with here.database.reading() as session:
        _refuse_late(session, wanted)  # before all that is about that very version
    refuse_hopeless(here.storage, version, wanted)
    added = record_ingest(
        here,
        account,
        Wish(dataset_id=dataset.id),
        _make_spec(wanted, asked),
        key,
        alone=True,
        allow=lambda session: _refuse_late(session, wanted),
        also=also,
    )
    return replace(added, left=left)


def find_making(session: Session, dataset_id: int) -> Job | None:
    """Returns the job that makes a version of what somebody has decided, or None.

    So does an upload that replaces all pictures: what is decided about those would be
    about a version that is none any more. An upload that adds some is none: it may take
    hours, and takes no picture away.
    """
    found = job_read_store.list_jobs(
        session, kind=JobKind.INGEST, dataset_id=dataset_id, states=_UNDER_WAY
    )
    return next((job for job in found.items if _takes_pictures_away(job)), None)


def _takes_pictures_away(job: Job) -> bool:
    return "edits" in job.spec or job.spec.get("mode") == REPLACE


def _refuse_late(session: Session, wanted: Decisions) -> None:
    """Refuses what is about a version that has been, or is being, followed by another.

    Once more in the transaction that queues the job and holds the dataset: of two who
    decide at once, the second would make a version that lacks what the first decided.
    """
    dataset = dataset_store.get_dataset(session, wanted.dataset_id)
    if dataset.last_version != wanted.version:
        raise ConflictError(
            f"Dataset {dataset.name!r} has a version {dataset.last_version} by now: "
            f"decide about that one. Received: version={wanted.version}.",
            field="version",
        )
    making = find_making(session, wanted.dataset_id)
    if making is not None:
        raise ConflictError(
            f"A new version of this dataset is being made (job {making.id}). "
            "Nothing was decided: wait until it is there, then look at what is found "
            "in that one.",
            field="version",
        )


def _refuse_column(version: DatasetVersion, split: dict[str, Any] | None) -> None:
    """Refuses a column that no picture of the version has a value of.

    In any case, as tables are asked for it.
    """
    column = (split or {}).get("column")
    kept = (version.report.get("split") or {}).get("column")
    if column is None or (kept and column.strip().casefold() == kept.casefold()):
        return
    keeps = f"keeps the column “{kept}” alone" if kept else "keeps no column of a table"
    raise UserError(
        f"Version {version.version} {keeps}, so nothing can be dealt by “{column}”. "
        "Add the pictures once more, together with their table, and name the column "
        "there.",
        field="column",
    )


def _refuse_amount(wanted: Decisions) -> None:
    images = sum(len(one.images) for one in wanted.decisions)
    if not images and not wanted.split:
        raise UserError(
            "Nothing is decided: name images, or how to split them.", field="decisions"
        )
    if images > MAX_IMAGES:
        raise UserError(
            f"One request decides about {MAX_IMAGES:,} images at most. "
            f"Received: {images:,}.",
            field="decisions",
        )


def _make_spec(wanted: Decisions, asked: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "sources": [],
        "mode": ADD,
        "edits": [asdict(one) for one in wanted.decisions],
        "asked": asked,
    }
    spec |= {"split": wanted.split} if wanted.split else {}
    return spec | ({"form": wanted.form} if wanted.form else {})


def _describe(wanted: Decisions) -> dict[str, Any]:
    """What makes two requests the same; the images stand in the job's spec anyway.

    Not the clusters, which follow from the newest findings and from what was accepted.
    """
    split = {k: v for k, v in (wanted.split or {}).items() if k != "alike"} or None
    whole = json.dumps([[asdict(one) for one in wanted.decisions], split])
    return {
        "dataset_id": wanted.dataset_id,
        "version": wanted.version,
        "decisions": hashlib.sha256(whole.encode()).hexdigest(),
    }
