"""What is decided about pictures of a dataset version, all that goes into one job."""

from dataclasses import dataclass
from typing import Any

MAX_IMAGES = 20_000  # that one request decides about


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
        restore: All that lie in quarantine for this reason come back, too, but for
            those that something else is decided about.
        key: The request's idempotency key.
        form: The form that it was filled into, to be shown again should the job fail.
    """

    dataset_id: int
    version: int
    decisions: list[Decision]
    split: dict[str, Any] | None = None
    restore: str | None = None
    key: str | None = None
    form: dict[str, Any] | None = None
