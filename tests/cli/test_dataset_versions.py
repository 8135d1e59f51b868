"""`dataset add --to` and `dataset diff`, asked of a server that keeps what it hears."""

import http.server
import json
import threading

import pytest
from typer.testing import CliRunner

from cli.app import app
from shared.settings import get_settings

DATASET = {"id": 7, "name": "cells", "version": 2, "images": 9, "classes": []}
DIFF = {"parent": {"version": 1}, "sentences": ["3 pictures were added."]}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path = self.path.partition("?")[0]
        if path.endswith("/diff"):
            self.answer(DIFF)
        elif path == "/api/v1/datasets":
            self.answer({"items": [DATASET], "total": 1})
        else:
            self.answer(DATASET)
        self.server.asked.append(self.path)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append(json.loads(body))
        added = {"id": 7, "name": "cells", "job_id": 1, "created": True}
        self.answer({**added, "left": 3, "notes": ["3 pictures stay there."]})

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments):
        """Tests print nothing."""


@pytest.fixture
def asked(monkeypatch):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        monkeypatch.setenv("TRAINYARD_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("TRAINYARD_TOKEN", "secret")
        get_settings.cache_clear()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.asked
        server.shutdown()
        thread.join()
        get_settings.cache_clear()


def call(*arguments):
    return CliRunner().invoke(app, ["dataset", *arguments])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--to", "cells"], {"dataset_id": 7, "mode": "add"}),
        (["--to", "cells", "--replace"], {"dataset_id": 7, "mode": "replace"}),
        (["--group-by", "folder"], {"split_by": "folder"}),
        (
            ["--group-by", "column:patient"],
            {"split_by": "column", "split_column": "patient"},
        ),
    ],
)
def test_what_is_asked_reaches_the_server(asked, options, words):
    address = ["--address", "s3://pictures/"]
    done = call(
        "add",
        "/sets/more.zip",
        "--on-server",
        *address,
        "--together",
        "--no-wait",
        *options,
    )

    assert done.exit_code == 0, done.output
    (sent,) = [body for body in asked if isinstance(body, dict)]
    sources = [{"path": "/sets/more.zip"}, {"address": "s3://pictures/"}]
    assert sent == {"sources": sources, **words}


def test_a_table_and_a_root_become_a_source_beside_the_folders(asked):
    tables = ["--labels", "/sets/list.csv", "--root", "s3://pictures"]
    done = call(
        "add", "/sets/a", "/sets/b", "--on-server", "--together", "--no-wait", *tables
    )  # fmt: skip

    assert done.exit_code == 0, done.output
    (sent,) = [body for body in asked if isinstance(body, dict)]
    table = {"path": "/sets/list.csv", "root": "s3://pictures"}
    assert sent == {"sources": [{"path": "/sets/a"}, {"path": "/sets/b"}, table]}


@pytest.mark.parametrize(
    "options",
    [
        ["--replace"],
        ["--to", "cells", "--name", "other"],
        ["--group-by", "moon"],
        ["--group-by", "column:"],
    ],
)
def test_what_does_not_go_together_is_refused(asked, options):
    assert call("add", "/sets/more.zip", "--on-server", *options).exit_code != 0
    assert not any(isinstance(body, dict) for body in asked)


def test_what_was_set_aside_for_one_reason_is_asked_for_again(asked):
    done = call("decide", "cells", "--restore", "Doubtful labels", "--no-wait")

    assert done.exit_code == 0, done.output
    (sent,) = [body for body in asked if isinstance(body, dict)]
    assert sent == {"version": 2, "restore": "Doubtful labels"}
    assert "3 pictures stay there." in done.output
    assert "Job 1 makes the next version." in done.output
    both = call("decide", "cells", "--restore", "Blurred", "--exclude", "k")
    assert "`--restore` makes a version of its own" in str(both.exception)


def test_a_diff_is_told_in_sentences(asked):
    done = call("diff", "cells")

    assert "version 2 against 1" in done.output
    assert "3 pictures were added." in done.output
    assert "/api/v1/datasets/7/versions/2/diff" in asked
