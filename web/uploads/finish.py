"""One or several finished uploads become a dataset.

1. Each upload is locked, found whole, and its SHA-256 compared with the client's.
2. One transaction writes the dataset and its ingest job, which names the files.
3. The locks are given up.

A crash before 2 leaves the uploads, so the same request can be sent again; after it the
same request is answered with the same dataset. Garbage collection takes the lock before
it removes an upload, so none vanishes between 1 and 2.
"""

import contextlib
import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from shared.errors import ConflictError, RetryableError, UserError
from web.auth.datastore import Account
from web.datasets import names
from web.datasets.add import Added, add_sources, find_added
from web.datasets.upload import ARCHIVE_SUFFIXES, find_suffix
from web.installation import Installation
from web.uploads import protocol, store
from web.uploads.digests import running
from web.uploads.store import Upload

MAX_TOGETHER = 200  # each is held open while the dataset is recorded
# How long one request reads what no running digest has covered; a proxy in between may
# give up after a minute.
READ_SECONDS = 20.0
MIN_READ_SECONDS = 0.1  # of each of several


@dataclass(frozen=True)
class Finished:
    """Uploads that are to be one dataset.

    Args:
        uploads: Their ids; archives, and tables that label what is in them.
        digests: The SHA-256 that the client computed of some of them, by id.
        name: The dataset's name; null means after the first archive.
        labels: The name of the label table inside the archives.
        dataset_id: The dataset that gets a new version; null makes a new one.
        key: The request's idempotency key; null means one made of the ids.
    """

    uploads: list[str]
    digests: dict[str, str] = field(default_factory=dict)
    name: str | None = None
    labels: str | None = None
    dataset_id: int | None = None
    key: str | None = None


def add_uploads(here: Installation, account: Account, finished: Finished) -> Added:
    """Queues the ingest of finished uploads, together.

    Raises:
        UserError: When there is nothing to read in them, or a digest differs.
        ConflictError: When one is not whole, or belongs to another dataset.
        RetryableError: When their bytes are still being read; asking again goes on.
    """
    _require_sensible(finished)
    asked = {
        "uploads": finished.uploads,
        "name": finished.name or None,
        "labels": finished.labels,
        "dataset_id": finished.dataset_id,
    }
    key = finished.key or _key_of(finished.uploads)
    earlier = find_added(here, account, key, asked)
    if earlier is not None:
        return earlier
    with _held(here, account, finished.uploads) as uploads:
        # Again, behind the locks: another request with these uploads may have been
        # faster.
        earlier = find_added(here, account, key, asked)
        if earlier is not None:
            return earlier
        _refuse_used(here, account, uploads)
        sources = [_source(here, one, finished) for one in _verified(uploads, finished)]
        return add_sources(
            here,
            account,
            {"sources": sources, "asked": asked},
            name=(finished.name or "").strip() or None,
            fallback=_fallback(uploads),
            dataset_id=finished.dataset_id,
            key=key,
        )


def _require_sensible(finished: Finished) -> None:
    if not 1 <= len(finished.uploads) <= MAX_TOGETHER:
        raise UserError(
            f"`uploads` must name 1 to {MAX_TOGETHER} uploads. Received: "
            f"{len(finished.uploads)}.",
            field="uploads",
        )
    if len(set(finished.uploads)) < len(finished.uploads):
        raise UserError("`uploads` names one upload twice.", field="uploads")
    labels = PurePosixPath((finished.labels or "").replace("\\", "/"))
    if labels.is_absolute() or ".." in labels.parts:
        raise UserError(
            "`labels` must be the name of a table inside the archive, such as "
            "labels.csv.",
            field="labels",
        )


def _key_of(upload_ids: list[str]) -> str:
    joined = " ".join(sorted(upload_ids))
    return f"uploads-{hashlib.sha256(joined.encode()).hexdigest()}"


@contextlib.contextmanager
def _held(
    here: Installation, account: Account, upload_ids: list[str]
) -> Iterator[list[Upload]]:
    """Opens and locks the uploads; in one order, so that no two wait for each other."""
    with contextlib.ExitStack() as locks:
        for upload_id in sorted(upload_ids):
            upload = store.open_upload(here.storage, account.id, upload_id)
            locks.enter_context(store.hold(upload))
            store.touch(upload)
        # Opened again: what was read before the lock may have changed.
        yield [store.open_upload(here.storage, account.id, one) for one in upload_ids]


def _refuse_used(here: Installation, account: Account, uploads: list[Upload]) -> None:
    for upload in uploads:
        job_id = protocol.find_job(here, account, upload)
        if job_id is not None:
            raise ConflictError(
                f"{upload.info.filename} belongs to another dataset already (job "
                f"{job_id}). Upload it again for a second one.",
                field="uploads",
            )


def _verified(uploads: list[Upload], finished: Finished) -> list[tuple[Upload, str]]:
    if all(upload.is_table for upload in uploads):
        raise UserError(
            "A table of labels alone holds no pictures. Upload the archive with the "
            "pictures, too.",
            field="uploads",
        )
    for upload in uploads:
        _require_whole(upload)
    deadline = time.monotonic() + READ_SECONDS
    digests = [_digest(upload, deadline - time.monotonic()) for upload in uploads]
    for upload, digest in zip(uploads, digests, strict=True):
        sent = finished.digests.get(upload.id, digest).lower()
        if sent != digest:
            raise UserError(
                f"{upload.info.filename} is not what was sent: its SHA-256 is {digest} "
                f"here and {sent} there. Delete the upload and send the file again.",
                field="uploads",
            )
    return list(zip(uploads, digests, strict=True))


def _require_whole(upload: Upload) -> None:
    offset, length = store.measure(upload), upload.info.length
    if length is None or offset < length:
        raise ConflictError(
            f"{upload.info.filename} is not whole: {offset} of "
            f"{'an unknown number of' if length is None else length} bytes have come. "
            f"Continue its upload.",
            field="uploads",
        )
    if length == 0:
        raise UserError(f"{upload.info.filename} is empty.", field="uploads")


def _digest(upload: Upload, seconds: float) -> str:
    if upload.info.sha256:
        return upload.info.sha256
    digest = running.finish(
        upload.id, upload.data, seconds=max(seconds, MIN_READ_SECONDS)
    )
    if digest is None:
        raise RetryableError(
            f"{upload.info.filename} has come and is still being checked."
        )
    store.keep_digest(upload, digest)
    return digest


def _source(
    here: Installation, verified: tuple[Upload, str], finished: Finished
) -> dict[str, Any]:
    upload, digest = verified
    source = {
        "type": "csv" if upload.is_table else "archive",
        # Relative: the machine that reads it may have shared storage elsewhere.
        "path": here.storage.relative(upload.data),
        "name": upload.info.filename,
        "sha256": digest,
    }
    if finished.labels and not upload.is_table:
        source["labels"] = finished.labels
    return source


def _fallback(uploads: list[Upload]) -> str:
    """The name of the first archive, without its ending."""
    shown = next(u.info.filename for u in uploads if not u.is_table)
    suffix = find_suffix(shown, ARCHIVE_SUFFIXES) or ""
    return names.name_from_text(shown[: len(shown) - len(suffix)])
