"""Downloads an archive: goes on where it was cut off, and proves the digest."""

import hashlib
import os
import time
from pathlib import Path

import httpx

from cli.api_client import ApiClient
from cli.http_client import RangeNotThereError
from cli.output import transfer_progress
from shared.errors import RetryableError, UserError

CHUNK_BYTES = 1 << 20
TRIES = 8
LONGEST_WAIT_SECONDS = 10.0


def download(client: ApiClient, path: str, target: Path, *, sha256: str) -> int:
    """Leaves the file at API path `path` under `target`; returns its size in bytes.

    Bytes go to `<target>.part`. When the connection breaks, or a former call was cut
    off, only the rest is asked for. The file gets its name once its digest is right.

    Raises:
        UserError: When what came is not what was published.
        RetryableError: When the server stays away.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    with transfer_progress() as progress:
        task = progress.add_task(f"Downloading {target.name}", total=None)

        def show(done: int, total: int | None) -> None:
            progress.update(task, completed=done, total=total)

        for attempt in range(TRIES):
            try:
                _fetch_rest(client, path, part, show)
                break
            except RetryableError:
                if attempt == TRIES - 1:
                    raise
                time.sleep(min(2**attempt / 2, LONGEST_WAIT_SECONDS))
    found = _digest(part)
    if found != sha256:
        part.unlink()
        raise UserError(
            f"{target.name} arrived damaged (SHA-256 {found}, published {sha256}): "
            "download it again."
        )
    part.replace(target)
    return target.stat().st_size


def _fetch_rest(client: ApiClient, path: str, part: Path, show) -> None:  # noqa: ANN001
    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    try:
        with client.stream(path, headers) as answer:
            if answer.status_code != httpx.codes.PARTIAL_CONTENT:
                have = 0  # all of it came
            length = answer.headers.get("Content-Length")
            total = have + int(length) if length else None
            with part.open("ab" if have else "wb") as file:
                for chunk in answer.iter_raw(CHUNK_BYTES):
                    file.write(chunk)
                    have += len(chunk)
                    show(have, total)
                file.flush()
                os.fsync(file.fileno())
    except RangeNotThereError:
        return  # nothing is left to ask for: the digest decides
    if total is not None and have < total:
        raise RetryableError(f"{path} was cut off after {have} of {total} bytes.")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
