"""Decisions about pictures of a dataset version: they make the next version.

What is decided becomes an ingest job with the newest version as its only source; the
version itself is never changed.
"""

import hashlib
import json
import secrets
from dataclasses import asdict, dataclass
from typing import Any

from shared import dataset_store
from shared.errors import ConflictError, UserError
from web.auth.datastore import Account
from web.datasets.add import ADD, Added, Wish, find_earlier, record_ingest, repeat
from web.installation import Installation
from web.permissions import require_change

# They are kept with the job, which is read wherever the job is shown.
MAX_IMAGES = 20_000


@dataclass(frozen=True)
class Decision:
    """What is to become of some pictures.

    Args:
        action: `exclude`, `quarantine`, `restore` or `relabel`.
        images: SHA-256 of each.
        label: The new label, of `relabel`.
        reason: Why, in the user's words.
    """

    action: str
    images: list[str]
    label: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Decisions:
    """All that is decided at once about one version.

    Args:
        dataset_id: Whose version.
        version: Its number.
        decisions: What becomes of which pictures.
        split: How they are dealt, in the words of the ingest spec.
        key: The request's idempotency key.
    """

    dataset_id: int
    version: int
    decisions: list[Decision]
    split: dict[str, Any] | None = None
    key: str | None = None


def decide(here: Installation, account: Account, wanted: Decisions) -> Added:
    """Queues the ingest job that makes the next version by what was decided.

    Raises:
        UserError: When nothing or too much is decided.
        NotFoundError: When there is no such dataset or version.
        NotAllowedError: When it is somebody else's.
        ConflictError: When there is a newer version, or the key was used for something
            else.
    """
    _refuse_amount(wanted)
    asked = _describe(wanted)
    key = wanted.key or secrets.token_urlsafe(16)
    with here.database.reading() as session:
        dataset = dataset_store.get_dataset(session, wanted.dataset_id)
        require_change(account, dataset, "dataset")
        dataset_store.get_numbered_version(session, dataset.id, wanted.version)
    earlier = find_earlier(here, account, key)
    if earlier:
        return repeat(earlier, asked)
    if dataset.last_version != wanted.version:
        raise ConflictError(
            f"Dataset {dataset.name!r} has a version {dataset.last_version} by now: "
            f"decide about that one. Received: version={wanted.version}.",
            field="version",
        )
    spec = {
        "sources": [],
        "mode": ADD,
        "edits": [asdict(one) for one in wanted.decisions],
        "asked": asked,
    }
    spec |= {"split": wanted.split} if wanted.split else {}
    return record_ingest(here, account, Wish(dataset_id=dataset.id), spec, key)


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


def _describe(wanted: Decisions) -> dict[str, Any]:
    """What makes two requests the same; the images stand in the job's spec anyway."""
    whole = json.dumps([[asdict(one) for one in wanted.decisions], wanted.split])
    return {
        "dataset_id": wanted.dataset_id,
        "version": wanted.version,
        "decisions": hashlib.sha256(whole.encode()).hexdigest(),
    }
