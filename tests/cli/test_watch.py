"""What `watch` tells of jobs where no bar can be drawn: lines, now and then."""

import http.server
import json
import threading

import pytest

from cli import watch
from cli.api_client import ApiClient

JOB = {"id": 7, "title": "cells", "state": "running", "phase": "verify"}
STATES = [
    {**JOB, "state": "queued", "phase": None},
    {**JOB, "progress_done": 0, "progress_total": 100, "progress_unit": "images"},
    *(
        {
            **JOB, "progress_done": done, "progress_total": 100,
            "progress_unit": "images", "eta_seconds": (100 - done) / 5,
        }
        for done in (50, 90)
    ),
    {**JOB, "state": "succeeded", "phase": "write"},
]  # fmt: skip


@pytest.fixture
def client(monkeypatch):
    """A client of a server on which the job goes on with each question."""
    monkeypatch.setattr(watch, "POLL_SECONDS", 0)
    left = list(STATES)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps(left.pop(0)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments):
            """Tests print nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield ApiClient(f"http://127.0.0.1:{server.server_port}", "secret")
        server.shutdown()
        thread.join()


def read_lines(capsys):
    # The bar in its last state is printed below them.
    told = capsys.readouterr().err.splitlines()
    return [line for line in told if line.startswith("job ")]


def test_lines_tell_count_rate_and_time_as_pages_do(client, monkeypatch, capsys):
    monkeypatch.setattr(watch, "LINE_SECONDS", 0)

    (ended,) = watch.follow(client, [7])

    assert ended["state"] == "succeeded"
    assert read_lines(capsys) == [
        "job 7 cells: queued",
        "job 7 cells: verify, 0 of 100 images",
        "job 7 cells: verify, 50 of 100 images · 5 images/s · about 10 s left",
        "job 7 cells: verify, 90 of 100 images · 5 images/s · about 2 s left",
        "job 7 cells: succeeded",
    ]


def test_within_a_phase_a_line_comes_now_and_then(client, capsys):
    watch.follow(client, [7])

    assert read_lines(capsys) == [
        "job 7 cells: queued",
        "job 7 cells: verify, 0 of 100 images",
        "job 7 cells: succeeded",
    ]
