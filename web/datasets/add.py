"""Adding datasets: an upload or a place on the server becomes a row and an ingest job.

Trace: bytes on shared storage -> one transaction with the dataset and its ingest job
-> a ring. A crash before the transaction leaves a file that garbage collection takes.
"""

import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from shared import audit_store, dataset_store, job_read_store, job_store, queue
from shared.errors import ConflictError
from shared.job_status import JobKind
from shared.tables import Job
from web.auth.datastore import Account
from web.datasets import names, server_path
from web.datasets.upload import (
    Limits,
    Readable,
    digest_of,
    receive,
    shown_name,
    stored_name,
)
from web.installation import Installation

MAX_NUMBERED = 1000


@dataclass(frozen=True)
class Added:
    """A dataset that is now being read.

    Args:
        dataset_id: Its row.
        job_id: The ingest job that reads it.
        name: What it is called.
        created: False when the same request had already been answered.
    """

    dataset_id: int
    job_id: int
    name: str
    created: bool


@dataclass(frozen=True)
class Incoming:
    """An archive on its way in.

    Args:
        stream: Where the bytes come from.
        filename: What the user's computer calls it; never trusted.
        name: The dataset's name; empty means after the file.
        length_bytes: Announced size, when there is one.
        key: The request's idempotency key, when there is one.
        dataset_id: The dataset that gets a new version; null makes a new dataset.
    """

    stream: Readable
    filename: str
    name: str | None = None
    length_bytes: int | None = None
    key: str | None = None
    dataset_id: int | None = None


def add_upload(here: Installation, account: Account, incoming: Incoming) -> Added:
    """Writes the archive to shared storage and queues its ingest.

    Raises:
        UserError: For a bad name, file kind, size or a broken transfer.
        ConflictError: When another dataset has the name that was asked for.
    """
    key = incoming.key or secrets.token_urlsafe(16)
    file_name = stored_name(incoming.filename)  # refuses what is no archive, early
    wish = _wish(incoming)
    earlier = _find_earlier(here, account, key)
    if earlier:
        return _repeat(earlier, _asked(incoming, digest_of(incoming.stream)))
    _refuse_taken(here, wish)
    target = here.storage.upload(secrets.token_hex(12)) / file_name
    limits = Limits(here.settings.max_upload_bytes, incoming.length_bytes)
    asked = _asked(incoming, receive(incoming.stream, target, limits))
    source = {
        "type": "archive",
        # Relative: the machine that reads it may have shared storage elsewhere.
        "path": here.storage.relative(target),
        "name": shown_name(incoming.filename),
    }
    try:
        added = _record(here, account, wish, _spec(source, asked), key)
    except BaseException:
        shutil.rmtree(target.parent, ignore_errors=True)
        raise
    if not added.created:  # the same request was answered while this one came in
        shutil.rmtree(target.parent, ignore_errors=True)
    return added


def add_server_path(
    here: Installation,
    account: Account,
    *,
    path: str,
    labels: str | None = None,
    name: str | None = None,
    key: str | None = None,
) -> Added:
    """Queues the ingest of a folder, CSV or archive that lies on the server.

    Args:
        here: The installation.
        account: Who adds it.
        path: Absolute path under a configured dataset root.
        labels: Absolute path of a CSV with the labels, when the folders do not say.
        name: The dataset's name. Defaults to the path's last part.
        key: The request's idempotency key.

    Raises:
        UserError: When path or labels may not be read, or the name is no name.
        ConflictError: When another dataset has the name that was asked for.
    """
    key = key or secrets.token_urlsafe(16)
    source = server_path.find_source(here.settings, path)
    labels_path: Path | None = None
    if labels:
        labels_path = server_path.resolve(here.settings, labels, field="labels")
    wish = _Wish(
        name=names.clean_name(name, "dataset") if name else None,
        fallback=names.name_from_text(source.path.stem or source.path.name),
    )
    asked = {"path": path, "labels": labels, "name": name}
    earlier = _find_earlier(here, account, key)
    if earlier:
        return _repeat(earlier, asked)
    spec = _spec(source.as_spec(labels_path), asked)
    return _record(here, account, wish, spec, key)


def add_sources(
    here: Installation,
    account: Account,
    spec: dict[str, Any],
    *,
    name: str | None,
    fallback: str,
    dataset_id: int | None,
    key: str,
) -> Added:
    """Queues the ingest of what lies on shared storage already.

    Args:
        here: The installation.
        account: Who adds it.
        spec: Of the ingest job; `asked` in it says what makes a request the same.
        name: The dataset's name; null means a free one like `fallback`.
        fallback: A valid name.
        dataset_id: The dataset that gets a new version; null makes a new one.
        key: The request's idempotency key.

    Raises:
        ConflictError: When another dataset has the name that was asked for, or the
            key was used for another request.
    """
    wish = _Wish(
        name=names.clean_name(name, "dataset") if name else None,
        fallback=fallback,
        dataset_id=dataset_id,
    )
    return _record(here, account, wish, spec, key)


def find_added(
    here: Installation, account: Account, key: str, asked: dict[str, Any]
) -> Added | None:
    """Returns what this very request was answered with before; None if it is new.

    Raises:
        ConflictError: When the key was used for another request.
    """
    earlier = _find_earlier(here, account, key)
    return _repeat(earlier, asked) if earlier else None


@dataclass(frozen=True)
class _Wish:
    name: str | None  # asked for: taken or refused
    fallback: str  # made from the file: numbered until it is free
    dataset_id: int | None = None


def _wish(incoming: Incoming) -> _Wish:
    asked = (incoming.name or "").strip()
    return _Wish(
        name=names.clean_name(asked, "dataset") if asked else None,
        fallback=names.name_from_file(incoming.filename),
        dataset_id=incoming.dataset_id,
    )


def _asked(incoming: Incoming, digest: str) -> dict[str, Any]:
    """What makes two uploads the same request."""
    return {
        "filename": shown_name(incoming.filename),
        "name": incoming.name or None,
        "dataset_id": incoming.dataset_id,
        "sha256": digest,
    }


def _spec(source: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    return {"sources": [source], "asked": asked}


def _find_earlier(here: Installation, account: Account, key: str) -> Job | None:
    with here.database.reading() as session:
        return job_read_store.find_job_by_key(session, account.id, key)


def _repeat(earlier: Job, asked: dict[str, Any]) -> Added:
    if earlier.spec.get("asked") != asked or earlier.dataset_id is None:
        raise ConflictError(
            f"This idempotency key was used for another request (job {earlier.id}). "
            f"Use a new key for a new request.",
            field="idempotency_key",
        )
    return Added(earlier.dataset_id, earlier.id, earlier.title, created=False)


def _refuse_taken(here: Installation, wish: _Wish) -> None:
    if wish.name is None:
        return
    with here.database.reading() as session:
        if dataset_store.find_dataset_by_name(session, wish.name):
            raise _taken(wish.name)


def _record(
    here: Installation,
    account: Account,
    wish: _Wish,
    spec: dict[str, Any],
    key: str,
) -> Added:
    def write(session: Session) -> Added:
        earlier = job_read_store.find_job_by_key(session, account.id, key)
        if earlier:
            return _repeat(earlier, spec["asked"])
        dataset = _dataset_for(session, account, wish)
        submitted = job_store.submit(
            session,
            owner_id=account.id,
            kind=JobKind.INGEST,
            title=dataset.name,
            spec=spec,
            idempotency_key=key,
            dataset_id=dataset.id,
        )
        audit_store.record(
            session, account.actor, "dataset_added", "dataset", str(dataset.id),
            {"job_id": submitted.job_id},
        )  # fmt: skip
        return Added(dataset.id, submitted.job_id, dataset.name, created=True)

    added = here.database.tx(write)
    if added.created:
        queue.ring(JobKind.INGEST)
    return added


def _dataset_for(session: Session, account: Account, wish: _Wish):  # noqa: ANN202
    if wish.dataset_id is not None:
        return dataset_store.get_dataset(session, wish.dataset_id)
    if wish.name is not None:
        if dataset_store.find_dataset_by_name(session, wish.name):
            raise _taken(wish.name)
        return dataset_store.create_dataset(
            session, name=wish.name, owner_id=account.id
        )
    return dataset_store.create_dataset(
        session, name=_free_name(session, wish.fallback), owner_id=account.id
    )


def _free_name(session: Session, base: str) -> str:
    if dataset_store.find_dataset_by_name(session, base) is None:
        return base
    for number in range(2, MAX_NUMBERED):
        ending = f" {number}"
        name = base[: names.MAX_CHARACTERS - len(ending)] + ending
        if dataset_store.find_dataset_by_name(session, name) is None:
            return name
    raise _taken(base)


def _taken(name: str) -> ConflictError:
    return ConflictError(
        f"There is already a dataset called {name!r}. Choose another name.",
        field="name",
    )
