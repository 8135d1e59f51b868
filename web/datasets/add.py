"""Adding datasets: what somebody brings becomes a row and an ingest job.

Trace: bytes on shared storage -> one transaction with the dataset and its ingest job
-> a ring. A crash before the transaction leaves a file that garbage collection takes.
"""

import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from shared import (
    audit_store,
    dataset_store,
    job_read_store,
    job_store,
    job_submit_store,
    queue,
    upload_use_store,
)
from shared.errors import ConflictError
from shared.job_status import JobKind
from shared.tables import Job
from shared.upload_use_store import LET_GO
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
from web.datasets.wishes import Wish, dataset_for, find_given_up
from web.installation import Installation, get_database
from web.permissions import require_change
from web.uploads import finish

ADD, REPLACE = "add", "replace"


@dataclass(frozen=True)
class Added:
    """A dataset that is now being read.

    Args:
        dataset_id: Its row.
        job_id: The ingest job that reads it.
        name: What it is called.
        created: False when the same request had already been answered.
        left: How many pictures in quarantine were meant, too, and did not fit.
    """

    dataset_id: int
    job_id: int
    name: str
    created: bool
    left: int = 0


@dataclass(frozen=True)
class Target:
    """Where it goes what somebody brings, and how it is dealt.

    Args:
        name: The dataset's name; empty means after what comes first.
        dataset_id: The dataset that gets a new version; null makes a new dataset.
        mode: Of a new version: `add` to the newest, or `replace` it.
        split: How pictures are dealt, in the words of the ingest spec.
        key: The request's idempotency key, when there is one.
    """

    name: str | None = None
    dataset_id: int | None = None
    mode: str = ADD
    split: dict[str, Any] | None = None
    key: str | None = None

    def asked(self) -> dict[str, Any]:
        """What makes two requests the same, beside what they bring."""
        return {"name": self.name or None, "dataset_id": self.dataset_id, **self.spec()}

    def spec(self) -> dict[str, Any]:
        """Returns what the ingest spec says of it."""
        spec = {} if self.dataset_id is None else {"mode": self.mode}
        return spec | ({"split": self.split} if self.split else {})

    def wish(self, fallback: str) -> "Wish":
        """Returns which dataset is meant; `fallback` is the name when none is asked."""
        name = (self.name or "").strip()
        return Wish(
            name=names.clean_name(name, "dataset") if name else None,
            fallback=fallback,
            dataset_id=self.dataset_id,
        )


@dataclass(frozen=True)
class Incoming:
    """An archive on its way in.

    Args:
        stream: Where the bytes come from.
        filename: What the user's computer calls it; never trusted.
        length_bytes: Announced size, when there is one.
        target: Where it goes.
    """

    stream: Readable
    filename: str
    length_bytes: int | None = None
    target: Target = field(default_factory=Target)


def own_dataset(account: Account, dataset_id: int | None) -> int | None:
    """Returns `dataset_id`, of a dataset that `account` may change.

    Raises:
        NotFoundError: When there is no such dataset.
        NotAllowedError: When it is somebody else's.
    """
    if dataset_id is not None:
        with get_database().reading() as session:
            dataset = dataset_store.get_dataset(session, dataset_id)
        require_change(account, dataset, "dataset")
    return dataset_id


def add_upload(here: Installation, account: Account, incoming: Incoming) -> Added:
    """Writes the archive to shared storage and queues its ingest.

    Raises:
        UserError: For a bad name, file kind, size or a broken transfer.
        ConflictError: When another dataset has the name that was asked for.
        NotAllowedError: When the dataset that is meant is somebody else's.
    """
    target = incoming.target
    own_dataset(account, target.dataset_id)
    key = target.key or secrets.token_urlsafe(16)
    file_name = stored_name(incoming.filename)  # refuses what is no archive, early
    wish = target.wish(names.name_from_file(incoming.filename))
    earlier = find_earlier(here, account, key)
    if earlier:
        return repeat(earlier, _asked(incoming, digest_of(incoming.stream)))
    if wish.name is not None:  # before all of it has come
        with here.database.reading() as session:
            find_given_up(session, account, wish.name)
    file = here.storage.upload(secrets.token_hex(12)) / file_name
    limits = Limits(here.settings.max_upload_bytes, incoming.length_bytes)
    digest = receive(incoming.stream, file, limits)
    asked = _asked(incoming, digest)
    source = {
        "type": "archive",
        # Relative: the machine that reads it may have shared storage elsewhere.
        "path": here.storage.relative(file),
        "name": shown_name(incoming.filename),
        "sha256": digest,
    }
    try:
        spec = {"sources": [source], "asked": asked, **target.spec()}
        added = record_ingest(here, account, wish, spec, key)
    except BaseException:
        shutil.rmtree(file.parent, ignore_errors=True)
        raise
    if not added.created:  # the same request was answered while this one came in
        shutil.rmtree(file.parent, ignore_errors=True)
    return added


def add_sources(
    here: Installation,
    account: Account,
    wanted: list[server_path.Wanted],
    target: Target,
) -> Added:
    """Queues the ingest of uploads, places on the server and addresses, together.

    Uploads are locked and checked until the job that names them is recorded; see
    `web/uploads/finish.py`.

    Raises:
        UserError: When something may not be read or is not what was sent, or the name
            is no name.
        ConflictError: When another dataset has the name that was asked for, or an
            upload is not whole or belongs to another dataset.
        NotAllowedError: When the dataset that is meant is somebody else's.
        RetryableError: When uploads are still being read; asking again goes on.
    """
    own_dataset(account, target.dataset_id)
    server_path.refuse_senseless(wanted)
    asked = {"sources": [one.asked() for one in wanted], **target.asked()}
    uploads = [one for one in wanted if one.upload is not None]
    key = target.key or _key_of(here, account, uploads)
    earlier = find_earlier(here, account, key)
    if earlier:
        return repeat(earlier, asked)
    found = {
        one: server_path.find(here.settings, one) for one in wanted if not one.upload
    }
    with finish.hold(here, account, uploads) as held:
        # Again, behind the locks: another request with these uploads may have been
        # faster.
        earlier = find_earlier(here, account, key)
        if earlier:
            return repeat(earlier, asked)
        found |= finish.check(here, account, held, are_alone=not found)
        sources = [found[one] for one in wanted]
        spec = {
            "sources": [source.as_spec() for source in sources],
            "asked": asked,
            **target.spec(),
        }
        wish = target.wish(names.name_from_source(_first(sources).name))
        ids = [one.id for one in held.values()]
        return record_ingest(
            here, account, wish, spec, key,
            allow=lambda session: upload_use_store.hold(session, account.id, ids),
        )  # fmt: skip


def _key_of(
    here: Installation, account: Account, uploads: list[server_path.Wanted]
) -> str:
    """Makes a key for a request without one: of its uploads, if it has any.

    A job that failed or was cancelled does not stand in the way of another one with
    the same uploads.
    """
    key = finish.key_of(uploads)
    while key and (earlier := find_earlier(here, account, key)):
        if earlier.state not in LET_GO:
            break
        key = finish.key_of(uploads, after=earlier.id)
    return key or secrets.token_urlsafe(16)


def _first(sources: list[server_path.Source]) -> server_path.Source:
    """The one that the dataset is called after."""
    return next((one for one in sources if one.type != "csv"), sources[0])


def _asked(incoming: Incoming, digest: str) -> dict[str, Any]:
    """What makes two uploads the same request."""
    return {
        "filename": shown_name(incoming.filename),
        "sha256": digest,
        **incoming.target.asked(),
    }


def find_earlier(here: Installation, account: Account, key: str) -> Job | None:
    """Returns the job that an earlier request with this key made, or None."""
    with here.database.reading() as session:
        return job_read_store.find_job_by_key(session, account.id, key)


def repeat(earlier: Job, asked: dict[str, Any]) -> Added:
    """Returns what the earlier request was answered.

    Raises:
        ConflictError: When that one asked for something else.
    """
    if earlier.spec.get("asked") != asked or earlier.dataset_id is None:
        raise ConflictError(
            f"This idempotency key was used for another request (job {earlier.id}). "
            f"Use a new key for a new request.",
            field="idempotency_key",
        )
    return Added(earlier.dataset_id, earlier.id, earlier.title, created=False)


def record_ingest(
    here: Installation,
    account: Account,
    wish: Wish,
    spec: dict[str, Any],
    key: str,
    *,
    alone: bool = False,
    allow: Callable[[Session], None] = lambda _session: None,
    also: Callable[[Session], None] = lambda _session: None,
) -> Added:
    """Queues an ingest of the dataset that is meant, which may be a new one.

    Args:
        here: The installation.
        account: Who asks.
        wish: The dataset.
        spec: Of the job. With a `mode`, the newest version of the dataset becomes a
            source of it.
        key: The request's idempotency key.
        alone: Whether no other may queue what changes the dataset meanwhile; it is
            there already.
        allow: Called in the transaction, unless the request came before; raises where
            the job must not be queued.
        also: Called in the transaction when the job is queued: writes what must not
            be there without it, nor it without that.

    Raises:
        ConflictError: When another dataset has the name that was asked for, or the key
            was used for something else.
        NotFoundError: When there is no such dataset.
    """

    def write(session: Session) -> Added:
        if alone and wish.dataset_id is not None:
            # Before the key is looked up: whoever waits here for its own double finds
            # the job that the double has made.
            job_submit_store.hold_dataset_alone(session, wish.dataset_id)
        earlier = job_read_store.find_job_by_key(session, account.id, key)
        if earlier:
            return repeat(earlier, spec["asked"])
        allow(session)
        dataset = dataset_for(session, account, wish)
        submitted = job_store.submit(
            session,
            owner_id=account.id,
            kind=JobKind.INGEST,
            title=dataset.name,
            spec=_with_parent(session, dataset.id, spec),
            idempotency_key=key,
            dataset_id=dataset.id,
        )
        audit_store.record(
            session, account.actor, "dataset_added", "dataset", str(dataset.id),
            {"job_id": submitted.job_id},
        )  # fmt: skip
        also(session)
        return Added(dataset.id, submitted.job_id, dataset.name, created=True)

    added = here.database.tx(write)
    if added.created:
        queue.ring(JobKind.INGEST)
    return added


def _with_parent(
    session: Session, dataset_id: int, spec: dict[str, Any]
) -> dict[str, Any]:
    version = dataset_store.latest_version(session, dataset_id)
    if "mode" not in spec or version is None:
        return spec
    parent = {
        "type": "version",
        "path": version.rel_path,
        "name": f"version {version.version}",
    }
    return {**spec, "sources": [parent, *spec["sources"]]}
