"""Uploads through a real gunicorn: killed, cut off, full, and taken up again."""

import os
import signal
import socket

import httpx
import psutil
import pytest
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError, TusUploadFailed

from shared import job_read_store
from shared.artifacts import sha256_file
from tests.services import wait_until
from tests.web.served import serve
from tests.web.tus import PIECE, VERSION, checksum, metadata

MEBI = 2**20


@pytest.fixture
def headers(rows):
    return {"Authorization": f"Bearer {rows.token(rows.user())}"}


@pytest.fixture
def served(settings, app, tmp_path):
    with serve(settings, tmp_path / "web.log") as (address, process):
        yield address, process


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "cells.zip"
    path.write_bytes(os.urandom(50 * MEBI))
    return path


def uploader(address, headers, path, **more):
    client = TusClient(f"{address}/api/v1/uploads", headers=headers)
    told = {"filename": path.name}
    return client.uploader(
        str(path), chunk_size=4 * MEBI, metadata=told, upload_checksum=True, **more
    )


def add(address, headers, *uploads):
    sources = [{"upload": upload.rsplit("/", 1)[-1]} for upload in uploads]
    return httpx.post(
        f"{address}/api/v1/datasets",
        json={"sources": sources},
        headers=headers,
        timeout=60,
    )


def ask(method, url, headers, **more):
    return httpx.request(method, url, headers={**headers, **VERSION}, **more)


def offset_of(url, headers):
    return int(ask("HEAD", url, headers).headers["Upload-Offset"])


def create(address, headers, length):
    told = {
        **headers, **VERSION, "Upload-Length": str(length),
        "Upload-Metadata": metadata(filename="cells.zip"),
    }  # fmt: skip
    answer = httpx.post(f"{address}/api/v1/uploads", headers=told)
    assert answer.status_code == 201, answer.text
    return address + answer.headers["Location"]


def begin_piece(url, headers, length, content, more=None):
    """Sends the head of a piece and a part of its body; returns the connection."""
    host, port = url.split("/")[2].split(":")
    told = {
        "Host": "x", **headers, **VERSION, **PIECE, "Upload-Offset": "0",
        "Content-Length": str(length), **(more or {}),
    }  # fmt: skip
    head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    path = "/" + url.split("/", 3)[3]
    connection = socket.create_connection((host, int(port)))
    connection.sendall(f"PATCH {path} HTTP/1.1\r\n{head}\r\n".encode() + content)
    return connection


def stored(rows, answer):
    with rows.database.reading() as session:
        job = job_read_store.get_job(session, answer.json()["job_id"])
    return rows.storage.resolve(job.spec["sources"][0]["path"])


def test_an_upload_outlives_the_web_server(settings, rows, headers, archive, tmp_path):
    log = tmp_path / "web.log"
    with serve(settings, log) as (address, process):
        sending = uploader(address, headers, archive)
        sending.upload(stop_at=20 * MEBI)
        upload_id = sending.url.rsplit("/", 1)[-1]
        under_way = archive.read_bytes()[20 * MEBI :][: 3 * MEBI]
        begin_piece(
            sending.url, headers, 8 * MEBI, under_way,
            {"Upload-Offset": str(20 * MEBI)},
        )  # fmt: skip
        for dying in (process.parent(), process):
            dying.send_signal(signal.SIGKILL)
        psutil.wait_procs([process], timeout=10)
        with pytest.raises((TusUploadFailed, TusCommunicationError)):
            sending.upload()

    with serve(settings, log) as (address, process):
        url = f"{address}/api/v1/uploads/{upload_id}"
        before = peak = process.memory_info().rss
        assert offset_of(url, headers) >= 20 * MEBI
        again = uploader(address, headers, archive, url=url)
        while again.offset < archive.stat().st_size:
            again.upload_chunk()
            peak = max(peak, process.memory_info().rss)
        answer = add(address, headers, url)

    assert answer.status_code == 201, answer.text
    assert sha256_file(stored(rows, answer)) == sha256_file(archive)
    assert peak - before < 24 * MEBI


def test_a_connection_that_breaks_keeps_what_has_come(served, headers):
    address, _ = served
    url = create(address, headers, 8 * MEBI)
    content = os.urandom(3 * MEBI)

    with begin_piece(url, headers, 8 * MEBI, content):
        wait_until(lambda: offset_of(url, headers) >= 2 * MEBI, 10, "two pieces")
    wait_until(lambda: offset_of(url, headers) == 3 * MEBI, 10, "all that was sent")

    with begin_piece(
        url, headers, MEBI, content[: MEBI // 2],
        {"Upload-Offset": str(3 * MEBI), **checksum(content[:MEBI])},
    ):  # fmt: skip
        pass
    assert offset_of(url, headers) == 3 * MEBI, (
        "half a checked piece counts for nothing"
    )


def test_a_file_that_may_not_grow_says_so_and_loses_nothing(served, rows, headers):
    address, process = served
    content = os.urandom(12 * MEBI)
    url = create(address, headers, len(content))
    before = process.rlimit(psutil.RLIMIT_FSIZE)

    process.rlimit(psutil.RLIMIT_FSIZE, (5 * MEBI + 1000, before[1]))
    full = ask(
        "PATCH", url, {**headers, **PIECE, "Upload-Offset": "0"}, content=content
    )
    process.rlimit(psutil.RLIMIT_FSIZE, before)
    offset = offset_of(url, headers)
    rest = ask(
        "PATCH", url, {**headers, **PIECE, "Upload-Offset": str(offset)},
        content=content[offset:],
    )  # fmt: skip

    assert full.status_code == 507
    assert "is kept" in full.json()["detail"]
    assert 5 * MEBI <= offset < 6 * MEBI
    assert rest.status_code == 204
    answer = add(address, headers, url)
    assert answer.status_code == 201, answer.text
    assert stored(rows, answer).read_bytes() == content
