"""Finished uploads as sources of a dataset.

1. Each upload is locked, found whole, and its SHA-256 compared with the client's.
2. One transaction writes the dataset and its ingest job, which names the files
   (`web/datasets/add.py`).
3. The locks are given up.

A crash before 2 leaves the uploads, so the same request can be sent again; after it the
same request is answered with the same dataset. Garbage collection takes the lock before
it removes an upload, so none vanishes between 1 and 2. When the job has failed or was
cancelled, its uploads may be asked for again: for another try with other wishes.
"""

import contextlib
import hashlib
import time
from collections.abc import Iterator
from pathlib import PurePosixPath

from shared.errors import ConflictError, RetryableError, UserError
from web.auth.datastore import Account
from web.datasets.server_path import Source, Wanted, find_root
from web.installation import Installation
from web.uploads import store, tables
from web.uploads.digests import running
from web.uploads.store import Upload
from web.uploads.uses import open_upload, read_uses

# How long one request reads what no running digest has covered; a proxy in between may
# give up after a minute.
READ_SECONDS = 20.0
MIN_READ_SECONDS = 0.1  # of each of several


def key_of(wanted: list[Wanted], after: int | None = None) -> str | None:
    """Returns an idempotency key made of the uploads; None when there are none.

    The same uploads so make the same dataset, whoever died while they were asked for.

    Args:
        wanted: The uploads.
        after: The job that had them before, and failed or was cancelled.
    """
    joined = " ".join(sorted(one.upload or "" for one in wanted))
    if not joined:
        return None
    told = joined if after is None else f"{joined} after {after}"
    return f"uploads-{hashlib.sha256(told.encode()).hexdigest()}"


@contextlib.contextmanager
def hold(
    here: Installation, account: Account, wanted: list[Wanted]
) -> Iterator[dict[Wanted, Upload]]:
    """Opens and locks uploads; in one order, so that no two wait for each other.

    Raises:
        UserError: When one is named twice.
        NotFoundError: When there is no such upload of this user.
        LockedError: When another request does not let go of one.
    """
    ids = [one.upload or "" for one in wanted]
    if len(set(ids)) < len(ids):
        raise UserError("`sources` names one upload twice.", field="sources")
    with contextlib.ExitStack() as locks:
        for upload_id in sorted(ids):
            upload = open_upload(here, account, upload_id)
            locks.enter_context(store.hold(upload))
            store.touch(upload)
        # Opened again: what was read before the lock may have changed.
        yield {
            one: store.open_upload(here.storage, account.id, one.upload or "")
            for one in wanted
        }


def check(
    here: Installation,
    account: Account,
    held: dict[Wanted, Upload],
    *,
    are_alone: bool,
) -> dict[Wanted, Source]:
    """Proves that held uploads are what was sent; returns them in the words of ingest.

    Args:
        here: The installation.
        account: Who asks.
        held: Uploads behind their locks.
        are_alone: Whether no source of another kind comes with them.

    Raises:
        UserError: When there is nothing to read in them, or a digest differs.
        ConflictError: When one is not whole, or belongs to another dataset.
        RetryableError: When their bytes are still being read; asking again goes on.
    """
    _refuse_used(here, account, held)
    for wanted, upload in held.items():
        _require_inside(wanted.labels)
        _require_whole(upload)
    if are_alone:
        _refuse_pictureless(held)
    deadline = time.monotonic() + READ_SECONDS
    sources = {}
    for wanted, upload in held.items():
        digest = _digest(upload, deadline - time.monotonic())
        _compare(upload, digest, wanted.sha256)
        sources[wanted] = _source(here, wanted, upload, digest)
    return sources


def _refuse_pictureless(held: dict[Wanted, Upload]) -> None:
    """Refuses tables that come alone and cannot say where their pictures are.

    Whether what they do say will do is for the ingest to judge, which reads them.
    """
    lost = [
        one.is_table and not wanted.root and not tables.may_name_addresses(one.data)
        for wanted, one in held.items()
    ]
    if lost and all(lost):
        raise UserError(
            "A table of labels alone holds no pictures. Upload the archive with the "
            "pictures, too; or have its lines name addresses; or say with `root` below "
            "which folder of the server or address they lie.",
            field="sources",
        )


def _require_inside(labels: str | None) -> None:
    named = PurePosixPath((labels or "").replace("\\", "/"))
    if named.is_absolute() or ".." in named.parts:
        raise UserError(
            "`labels` must be the name of a table inside the archive, such as "
            "labels.csv.",
            field="labels",
        )


def _refuse_used(
    here: Installation, account: Account, held: dict[Wanted, Upload]
) -> None:
    if not held:
        return
    taken = read_uses(here, account).taken
    for upload in held.values():
        if upload.id in taken:
            raise ConflictError(
                f"{upload.info.filename} belongs to another dataset already (job "
                f"{taken[upload.id]}). Upload it again for a second one.",
                field="sources",
            )


def _require_whole(upload: Upload) -> None:
    offset, length = store.measure(upload), upload.info.length
    if length is None or offset < length:
        raise ConflictError(
            f"{upload.info.filename} is not whole: {offset} of "
            f"{'an unknown number of' if length is None else length} bytes have come. "
            f"Continue its upload.",
            field="sources",
        )
    if length == 0:
        raise UserError(f"{upload.info.filename} is empty.", field="sources")


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


def _compare(upload: Upload, digest: str, sent: str | None) -> None:
    if sent is not None and sent.lower() != digest:
        raise UserError(
            f"{upload.info.filename} is not what was sent: its SHA-256 is {digest} "
            f"here and {sent.lower()} there. Delete the upload and send the file "
            f"again.",
            field="sources",
        )


def _source(here: Installation, wanted: Wanted, upload: Upload, digest: str) -> Source:
    return Source(
        "csv" if upload.is_table else "archive",
        # Relative: the machine that reads it may have shared storage elsewhere.
        here.storage.relative(upload.data),
        upload.info.filename,
        labels=None if upload.is_table else wanted.labels,
        root=find_root(here.settings, wanted.root),
        sha256=digest,
    )
