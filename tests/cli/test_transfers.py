"""Downloads go on where they were cut off; errors of the API become sentences.

The server is a real one that breaks on purpose, as networks do.
"""

import hashlib
import http.server
import json
import threading

import pytest

from cli import downloads
from cli.api_client import ApiClient
from shared.errors import ConflictError, NotFoundError, RetryableError, UserError

CONTENT = bytes(range(256)) * 40_000


class BreakingServer(http.server.ThreadingHTTPServer):
    """Serves CONTENT in pieces: each connection dies after `piece` bytes."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.piece = 4_000_000
        self.content = CONTENT
        self.ranges = []
        self.answers = []
        self.bodies = []

    @property
    def client(self):
        return ApiClient(f"http://127.0.0.1:{self.server_port}", "secret")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        if self.server.answers:
            self.answer(*self.server.answers.pop(0))
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        content = self.server.content
        if start >= len(content):
            self.answer(416, {"detail": "Nothing is left."})
            return
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : start + self.server.piece])
        self.close_connection = True

    def do_POST(self):
        length = int(self.headers["Content-Length"])
        key = self.headers.get("Idempotency-Key")
        self.server.bodies.append((key, self.rfile.read(length)))
        self.answer(*self.server.answers.pop(0))

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments):
        """Tests print nothing."""


@pytest.fixture
def server():
    with BreakingServer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetch(server, target, sha256=None):
    digest = sha256 or hashlib.sha256(CONTENT).hexdigest()
    return downloads.download(server.client, "/file", target, sha256=digest)


def test_a_broken_download_asks_for_the_rest_only(server, tmp_path):
    size_bytes = fetch(server, tmp_path / "model.zip")

    assert size_bytes == len(CONTENT)
    assert (tmp_path / "model.zip").read_bytes() == CONTENT
    assert server.ranges[0] is None
    assert len(server.ranges) == 3
    assert all(asked.startswith("bytes=") for asked in server.ranges[1:])
    assert not (tmp_path / "model.zip.part").exists()


def test_a_whole_part_of_a_killed_download_is_used(server, tmp_path):
    (tmp_path / "model.zip.part").write_bytes(CONTENT)

    fetch(server, tmp_path / "model.zip")

    assert (tmp_path / "model.zip").read_bytes() == CONTENT


def test_a_damaged_download_is_refused_and_removed(server, tmp_path):
    with pytest.raises(UserError, match="arrived damaged"):
        fetch(server, tmp_path / "model.zip", sha256="0" * 64)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, UserError), (401, UserError), (404, NotFoundError), (409, ConflictError)],
)
def test_a_refusal_is_an_error_with_the_servers_sentence(server, status, error):
    server.answers = [(status, {"detail": "The sky is falling.", "field": "sky"})]

    with pytest.raises(error, match=r"The sky is falling\."):
        server.client.get("/jobs/1")


def test_reading_is_repeated_while_the_server_is_away(server):
    server.answers = [(503, {"detail": "Restarting."}), (200, {"id": 7})]

    assert server.client.get_job(7) == {"id": 7}


def test_a_submission_is_repeated_with_the_same_key(server):
    server.answers = [(503, {"detail": "Restarting."}), (201, {"jobs": []})]

    server.client.submit(datasets=[1], specs=[], model_name=None, key="k1")

    assert [key for key, _ in server.bodies] == ["k1", "k1"]
    assert server.bodies[0] == server.bodies[1]


def test_a_request_without_a_key_is_sent_once(server):
    server.answers = [(503, {"detail": "Restarting."})]

    with pytest.raises(RetryableError, match=r"Restarting\."):
        server.client.ask(1, "cancel")

    assert len(server.bodies) == 1


def test_nobody_there_is_said_with_the_address(tmp_path):
    client = ApiClient("http://127.0.0.1:9", "secret")

    with pytest.raises(RetryableError, match="does not answer at http"):
        client.ask(1, "cancel")
