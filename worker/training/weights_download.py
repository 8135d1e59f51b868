"""Fetches a weight file, whole and checked or not at all, whoever else does so too."""

import contextlib
import hashlib
import http.client
import os
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shared.base_models import BaseModel
from shared.errors import RetryableError, UserError
from worker import events

# A machine without a network must say so soon instead of waiting for ever.
_TIMEOUT_SECONDS = 30
_CHUNK_BYTES = 1 << 20
_MD5_LENGTH = 32
# A download that was killed leaves its part; a slow one that lives still writes to it.
_LEFTOVER_SECONDS = 3600
# Answers that another try may better. Source: RFC 9110, 15.5.9; RFC 6585, 4.
_PASSING = (408, 429)
_SERVERS_FAULT = 500
_MEGABYTE = 1e6


def fetch_weights(base_model: BaseModel, url: str, cache: Path, remedy: str) -> Path:
    """Downloads the weights of `base_model` into `cache`.

    Args:
        base_model: Names the file and its digest.
        url: Where it lies.
        cache: The folder to keep it in; made if it is not there.
        remedy: What the user can do instead, as sentences.

    Returns:
        The file, which holds what the digest promises.

    Raises:
        RetryableError: The network or the server failed.
        UserError: The server does not have the file, or it is another one.
        OSError: The folder cannot be written.
    """
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / base_model.weights_file
    _sweep_parts(path)
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
    known = base_model.weights_hash
    digest = hashlib.md5() if len(known or "") == _MD5_LENGTH else hashlib.sha256()  # noqa: S324 - Keras publishes MD5
    try:
        with part.open("xb") as file:
            for chunk in _read(base_model.name, url, remedy):
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        if known is not None and digest.hexdigest() != known:
            raise UserError(
                f"What {url} sends is not the file that Keras publishes for "
                f"{base_model.name}: it has another digest. {remedy}",
                field="weights",
            )
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _read(name: str, url: str, remedy: str) -> Iterator[bytes]:
    """Yields what the server sends, to the last byte that it has promised."""
    sentence = f"The ImageNet weights of {name} could not be fetched"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 - the address is in our table
            promised = _read_length(answer)
            size = f" ({promised / _MEGABYTE:,.0f} MB)" if promised else ""
            events.note("info", f"Fetching the ImageNet weights of {name}{size}.")
            arrived = 0
            while chunk := answer.read(_CHUNK_BYTES):
                arrived += len(chunk)
                yield chunk
    except urllib.error.HTTPError as error:
        if error.code in _PASSING or error.code >= _SERVERS_FAULT:
            raise RetryableError(f"{sentence} ({error}). {remedy}") from error
        raise UserError(f"{sentence} ({error}). {remedy}", field="weights") from error
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise RetryableError(f"{sentence} ({error}). {remedy}") from error
    if promised is not None and arrived != promised:
        raise RetryableError(
            f"{sentence} (the connection ended after {arrived:,} of {promised:,} "
            f"bytes). {remedy}"
        )


def _read_length(answer: Any) -> int | None:
    length = answer.headers.get("Content-Length") or ""
    return int(length) if length.isdecimal() else None


def _sweep_parts(path: Path) -> None:
    for part in path.parent.glob(f"{path.name}.*.part"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - part.stat().st_mtime > _LEFTOVER_SECONDS:
                part.unlink()
