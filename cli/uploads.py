"""Brings datasets to the platform: archives as they are, folders zipped on the way.

Everything is sent in pieces, so a connection that breaks costs little; an archive goes
on where it was even when the command is given again.
"""

import hashlib
import os
import secrets
from pathlib import Path
from typing import Any

from rich.progress import Progress

from cli.api_client import ApiClient
from cli.local_files import (
    BLOCK_BYTES,
    explained,
    list_files,
    read_blocks,
    require_readable,
)
from cli.output import transfer_progress
from cli.resumable import Sending, Sent, insist, send
from cli.zip_folder import zip_folder
from shared.errors import UserError
from shared.source_kinds import (
    ARCHIVES,
    ARCHIVES_IN_WORDS,
    TABLES,
    TABLES_IN_WORDS,
)
from shared.source_places import is_table

LABELS_STEM = "labels"
Source = dict[str, str]  # in the words of the API


def send_one(
    client: ApiClient, path: Path, labels: Path | None, root: str | None = None
) -> Source:
    """Uploads an archive, a folder or a table; returns it as a source of a dataset.

    Args:
        client: Of the installation that gets it.
        path: An archive, a folder that is zipped on the way, or a table whose lines
            name addresses or files below `root`.
        labels: A CSV of `filename,label[,split]` for a folder; other tables that lie
            in the folder then count for nothing.
        root: Where the pictures of a table lie: a folder of the server or an address.

    Raises:
        UserError: When `path` is neither, holds nothing or cannot be read.
    """
    path = _find(path)
    _refuse_unreadable(path)
    if labels is not None and not path.is_dir():
        raise UserError(
            "`--labels` goes with a folder: put the CSV into the archive instead, or "
            "name both with `--together`.",
            field="labels",
        )
    return _send_all(client, [path], labels, root)[0]


def send_together(
    client: ApiClient, paths: list[Path], labels: Path | None, root: str | None = None
) -> list[Source]:
    """Uploads archives, folders and tables as sources of one dataset.

    Args:
        client: Of the installation that gets it.
        paths: What is uploaded; tables label the pictures of all of it.
        labels: One more table.
        root: Where the pictures of the tables lie, if they do not come along.

    Raises:
        UserError: When one of `paths` is nothing that can be read.
    """
    found = [_find(path) for path in paths]
    for path in found:
        _refuse_unreadable(path)
    if labels is not None:
        found.append(_find_labels(labels))
    return _send_all(client, found, None, root)


def add(client: ApiClient, sources: list[Source], **wishes: Any) -> dict[str, Any]:
    """Makes one dataset of sources; returns it and its ingest job.

    Args:
        client: Of the installation that has them.
        sources: Uploads, paths of the server, addresses.
        wishes: Further fields of the request: `name`, `dataset_id`, `mode`,
            `split_by`, `split_column`.
    """
    key = secrets.token_urlsafe(16)

    def ask() -> dict[str, Any]:
        return client.add_sources(sources, key=key, **wishes)

    # The server may still be reading what was uploaded.
    return insist(ask) if any("upload" in one for one in sources) else ask()


def _refuse_unreadable(path: Path) -> None:
    readable = ARCHIVES + TABLES
    if not path.is_dir() and not path.name.lower().endswith(readable):
        raise UserError(
            f"{path.name} is neither a folder, a {ARCHIVES_IN_WORDS}, nor a table of "
            f"labels ({TABLES_IN_WORDS}).",
            field="path",
        )


def _send_all(
    client: ApiClient, paths: list[Path], labels: Path | None, root: str | None
) -> list[Source]:
    # What cannot be read is told before anything is sent.
    require_readable(path for path in paths if not path.is_dir())
    folders = {path: _list_files(path, labels) for path in paths if path.is_dir()}
    sources = []
    with transfer_progress() as progress:
        for path in paths:
            if path in folders:
                sent = _send_folder(client, path, folders[path], progress)
            else:
                sent = _send_file(client, path, progress)
            source = {"upload": sent.upload_id, "sha256": sent.sha256}
            sources.append(source | _root_of(path, root))
    return sources


def _root_of(path: Path, root: str | None) -> Source:
    if root is None or path.is_dir() or not is_table(path.name):
        return {}
    return {"root": root}


def _send_file(client: ApiClient, path: Path, progress: Progress) -> Sent:
    with explained(path):
        length, fingerprint = path.stat().st_size, _fingerprint(path)
    task = progress.add_task(f"Uploading {path.name}", total=length)
    return send(
        client,
        Sending(
            filename=path.name,
            length=length,
            fingerprint=fingerprint,
            blocks=read_blocks(path),
            note=lambda done: progress.update(task, completed=done),
        ),
    )


def _send_folder(
    client: ApiClient,
    folder: Path,
    files: list[tuple[str, Path]],
    progress: Progress,
) -> Sent:
    with explained(folder):
        total = sum(path.stat().st_size for _, path in files)
    task = progress.add_task(f"Packing and uploading {folder.name}", total=total)
    return send(
        client,
        Sending(
            filename=f"{folder.resolve().name}.zip",
            length=None,
            fingerprint=None,
            blocks=zip_folder(files, lambda packed: progress.advance(task, packed)),
            note=lambda _: None,
        ),
    )


def _list_files(folder: Path, labels: Path | None) -> list[tuple[str, Path]]:
    """Returns the files of a folder that is sent: what each is called, and its path."""
    files = list_files(folder)
    if labels is not None:
        labels = _find_labels(labels)
        files = [path for path in files if path.suffix.lower() not in TABLES]
    if not files:
        raise UserError(f"The folder {folder} holds no files.", field="path")
    named = [(path.relative_to(folder).as_posix(), path) for path in files]
    if labels is not None:
        # Its ending says how it is read.
        suffix = labels.suffix.lower()
        ending = suffix if suffix in TABLES else ".csv"
        named.append((LABELS_STEM + ending, labels))
    require_readable(path for _, path in named)
    return named


def _fingerprint(path: Path) -> str:
    """By which an upload of this very file is known again."""
    facts = path.stat()
    with path.open("rb") as file:
        start = file.read(BLOCK_BYTES)
    # A name may be in any encoding.
    told = os.fsencode(f"{path.resolve()}|{facts.st_size}|{facts.st_mtime_ns}|")
    return f"cli-{hashlib.sha256(told + start).hexdigest()[:32]}"


def _find(path: Path) -> Path:
    path = path.expanduser()
    if not path.exists():
        raise UserError(f"There is nothing at {path}.", field="path")
    return path


def _find_labels(labels: Path) -> Path:
    labels = labels.expanduser()
    if not labels.is_file():
        raise UserError(f"`--labels`: there is no file {labels}.", field="labels")
    return labels
