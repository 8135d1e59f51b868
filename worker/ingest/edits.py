"""What a user decides about pictures of a version: left out, set aside, named anew.

Nothing is changed in place: the edits say how the pictures of a new version differ
from those of the one that it is made from.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from shared.class_names import clean_label
from shared.edit_actions import EDITS, EXCLUDE, QUARANTINE, RELABEL, RESTORE
from shared.errors import UserError
from worker.ingest.version_source import KeptPicture, Parent, Quarantined

_SHA256 = re.compile(r"[0-9a-f]{64}")
_BY_USER = "You have set it aside."


@dataclass(frozen=True, slots=True)
class Edit:
    """One action on some pictures.

    Args:
        action: `exclude`, `quarantine`, `restore` or `relabel`.
        images: SHA-256 of each picture's original.
        label: The new label, of `relabel`.
        reason: Why, in the user's words.
    """

    action: str
    images: list[str]
    label: str | None = None
    reason: str | None = None


def parse_edits(entries: Any) -> list[Edit]:
    """Reads SPEC.json's `edits`.

    Raises:
        UserError: Naming the field, what came and what is allowed.
    """
    if not isinstance(entries, list):
        raise UserError(
            f"`edits` must be a list. Received: {entries!r}.", field="edits"
        )
    return [_parse_edit(entry) for entry in entries]


def apply_edits(parent: Parent, edits: list[Edit]) -> None:
    """Brings the pictures of `parent` to what the edits say, one after the other.

    A picture that is relabelled in quarantine comes back from it.

    Raises:
        UserError: Naming the first picture that the version does not have, or one that
            cannot be restored before somebody says which of its labels is right.
    """
    desk = _Desk(parent)
    for edit in edits:
        for sha256 in edit.images:
            desk.apply(edit, sha256)
    parent.pictures = sorted(desk.used.values(), key=lambda one: one.sha256)
    parent.quarantine = list(desk.aside.values())


class _Desk:
    """The pictures of one version, by their hashes."""

    def __init__(self, parent: Parent) -> None:
        self._name = parent.name
        self.used = {one.sha256: one for one in parent.pictures}
        self.aside = {one.picture.sha256: one for one in parent.quarantine}

    def apply(self, edit: Edit, sha256: str) -> None:
        if sha256 not in self.used and sha256 not in self.aside:
            raise UserError(
                f"`edits`: {self._name} has no picture {sha256}, so it cannot "
                f"{edit.action} it.",
                field="edits",
            )
        actions = {
            EXCLUDE: self._exclude,
            QUARANTINE: self._quarantine,
            RESTORE: self._restore,
            RELABEL: self._relabel,
        }
        actions[edit.action](edit, sha256)

    def _exclude(self, _edit: Edit, sha256: str) -> None:
        self.used.pop(sha256, None)
        self.aside.pop(sha256, None)

    def _quarantine(self, edit: Edit, sha256: str) -> None:
        picture = self.used.pop(sha256, None)
        if picture is not None:
            reason = edit.reason or _BY_USER
            self.aside[sha256] = Quarantined(picture, [picture.label], reason)

    def _restore(self, _edit: Edit, sha256: str) -> None:
        set_aside = self.aside.get(sha256)
        if set_aside is None:
            return
        if not set_aside.picture.label:
            labels = " and ".join(f"“{label}”" for label in set_aside.labels)
            raise UserError(
                f"`edits`: “{set_aside.picture.name}” is there as {labels}, so it can "
                "come back only under the label that you give it: use relabel.",
                field="edits",
            )
        self._bring_back(set_aside, set_aside.picture.label)

    def _relabel(self, edit: Edit, sha256: str) -> None:
        label = edit.label or ""
        if sha256 in self.used:
            self.used[sha256].label = label
        else:
            self._bring_back(self.aside[sha256], label)

    def _bring_back(self, set_aside: Quarantined[KeptPicture], label: str) -> None:
        picture = set_aside.picture
        picture.label = label
        self.used[picture.sha256] = picture
        del self.aside[picture.sha256]


def _parse_edit(entry: Any) -> Edit:
    if not isinstance(entry, dict):
        raise UserError(
            f"`edits` must list objects. Received: {entry!r}.", field="edits"
        )
    action = entry.get("action")
    if action not in EDITS:
        raise UserError(
            f"`edits.action` must be one of {', '.join(EDITS)}. "
            f"Received: action={action!r}.",
            field="edits",
        )
    label = entry.get("label")
    if action == RELABEL:
        label = clean_label(label) if isinstance(label, str) else ""
        if not label:
            raise UserError(
                "`edits.label` must be the new label of what is relabelled. "
                f"Received: label={entry.get('label')!r}.",
                field="edits",
            )
    reason = entry.get("reason")
    return Edit(
        action,
        list(_parse_images(entry.get("images"))),
        label if action == RELABEL else None,
        reason if isinstance(reason, str) else None,
    )


def _parse_images(images: Any) -> Iterator[str]:
    if not isinstance(images, list) or not images:
        raise UserError(
            "`edits.images` must list the SHA-256 of at least one picture. "
            f"Received: images={images!r}.",
            field="edits",
        )
    for sha256 in images:
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            raise UserError(
                "`edits.images` must list SHA-256 digests (64 hexadecimal digits). "
                f"Received: {sha256!r}.",
                field="edits",
            )
        yield sha256
