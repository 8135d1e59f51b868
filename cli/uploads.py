"""Brings datasets to the platform: archives as they are, folders zipped on the way."""

import secrets
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.progress import Progress, TaskID

from cli.api_client import ApiClient
from cli.output import transfer_progress
from shared.errors import UserError

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
CHUNK_BYTES = 1 << 20
LABELS_NAME = "labels.csv"
TABLE_SUFFIXES = (".csv", ".tsv")


def add_local(
    client: ApiClient,
    path: Path,
    *,
    name: str | None,
    labels: Path | None,
    **wishes: Any,
) -> dict[str, Any]:
    """Uploads an archive or a folder; returns the dataset and its ingest job.

    Args:
        client: Of the installation that gets it.
        path: An archive, or a folder that is zipped first.
        name: The dataset's name. Defaults to the path's.
        labels: A CSV of `filename,label[,split]` for a folder; other tables that lie
            in the folder then count for nothing.
        wishes: Further fields of the request: `dataset_id`, `mode`, `split_by`,
            `split_column`.

    Raises:
        UserError: When `path` is neither, or holds nothing.
    """
    path = path.expanduser()
    if not path.exists():
        raise UserError(f"There is nothing at {path}.", field="path")
    with transfer_progress() as progress:
        if path.is_dir():
            with tempfile.TemporaryDirectory(prefix="trainyard-zip-") as folder:
                archive = Path(folder) / f"{path.resolve().name}.zip"
                _zip_folder(path, archive, labels, progress)
                return _upload(client, archive, name, progress, wishes)
        if not path.name.lower().endswith(ARCHIVE_SUFFIXES):
            raise UserError(
                f"{path.name} is neither a folder nor a .zip, .tar or .tar.gz. (A CSV "
                "of labels goes with its folder: `dataset add FOLDER --labels CSV`.)",
                field="path",
            )
        if labels is not None:
            raise UserError(
                "`--labels` goes with a folder: put the CSV into the archive instead.",
                field="labels",
            )
        return _upload(client, path, name, progress, wishes)


def _zip_folder(
    folder: Path, archive: Path, labels: Path | None, progress: Progress
) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if labels is not None:
        labels = _find_labels(labels)
        files = [path for path in files if path.suffix.lower() not in TABLE_SUFFIXES]
    if not files:
        raise UserError(f"The folder {folder} holds no files.", field="path")
    total = sum(path.stat().st_size for path in files)
    task = progress.add_task(f"Packing {folder.name}", total=total)
    # Pictures are compressed already: storing them is as small and much faster.
    # A file from before 1980, which a zip cannot say, is packed as one of 1980.
    with zipfile.ZipFile(
        archive, "w", zipfile.ZIP_STORED, strict_timestamps=False
    ) as content:
        for path in files:
            content.write(path, path.relative_to(folder))
            progress.advance(task, path.stat().st_size)
        if labels is not None:
            content.write(labels, LABELS_NAME)


def _find_labels(labels: Path) -> Path:
    labels = labels.expanduser()
    if not labels.is_file():
        raise UserError(f"`--labels`: there is no file {labels}.", field="labels")
    return labels


def _upload(
    client: ApiClient,
    archive: Path,
    name: str | None,
    progress: Progress,
    wishes: dict[str, Any],
) -> dict[str, Any]:
    size_bytes = archive.stat().st_size
    task = progress.add_task(f"Uploading {archive.name}", total=size_bytes)
    return client.upload_dataset(
        filename=archive.name,
        name=name,
        content=_read(archive, progress, task),
        length_bytes=size_bytes,
        key=secrets.token_urlsafe(16),
        **wishes,
    )


def _read(path: Path, progress: Progress, task: TaskID) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
            progress.advance(task, len(chunk))
