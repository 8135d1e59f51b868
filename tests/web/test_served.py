"""A real gunicorn: uploads of any size leave its memory flat and end up whole."""

import hashlib
import socket

import httpx
import pytest

from shared import job_read_store
from tests.services import wait_until
from tests.web.served import serve

MEBI = 2**20
SIZE_BYTES = 200 * MEBI
BLOCK = bytes(range(256)) * 4096  # 1 MiB
ROOM_BYTES = 24 * MEBI


@pytest.fixture
def served(settings, app, rows, tmp_path):
    """(address, process, headers of an API user)."""
    object.__setattr__(settings, "max_upload_bytes", 2 * SIZE_BYTES)
    token = rows.token(rows.user())
    with serve(settings, tmp_path / "web.log") as (address, process):
        yield address, process, {"Authorization": f"Bearer {token}"}


def blocks():
    for _ in range(SIZE_BYTES // MEBI):
        yield BLOCK


def test_memory_stays_flat_while_an_archive_comes_in(served, rows):
    address, process, headers = served
    httpx.get(f"{address}/api/v1/jobs", headers=headers)
    before = process.memory_info().rss
    peak = before

    def watched():
        nonlocal peak
        for block in blocks():
            yield block
            peak = max(peak, process.memory_info().rss)

    answer = httpx.post(
        f"{address}/api/v1/datasets?filename=big.zip",
        headers={
            **headers,
            "Content-Type": "application/octet-stream",
            "Content-Length": str(SIZE_BYTES),
        },
        content=watched(),
        timeout=120,
    )

    assert answer.status_code == 201, answer.text
    assert peak - before < ROOM_BYTES
    with rows.database.reading() as session:
        job = job_read_store.get_job(session, answer.json()["job_id"])
    path = rows.storage.resolve(job.spec["sources"][0]["path"])
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    wanted = hashlib.sha256()
    for block in blocks():
        wanted.update(block)
    assert found == wanted.hexdigest()


def test_an_upload_that_breaks_off_leaves_nothing(served, rows):
    address, _, headers = served
    host, port = address.removeprefix("http://").split(":")
    head = (
        "POST /api/v1/datasets?filename=a.zip HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: {headers['Authorization']}\r\nContent-Length: 50000000\r\n"
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    uploads = rows.storage.root / "uploads"

    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + BLOCK)
        wait_until(lambda: list(uploads.glob("*/*.part")), 10, "the .part")

    wait_until(lambda: not list(uploads.glob("*/*")), 10, "it to be gone")
    assert not list(uploads.iterdir())
