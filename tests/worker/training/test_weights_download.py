"""Downloads from a real server, on this machine."""

import hashlib
import http.server
import os
import threading
import time
from dataclasses import replace

import pytest

from shared.base_models import get_base_model
from shared.errors import RetryableError, UserError
from worker.training.weights_download import fetch_weights

DATA = b"weights" * 100_000
REMEDY = "Put it there yourself."


class _Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        self.send_response(server.status)
        if server.promised is not None:
            self.send_header("Content-Length", str(server.promised))
        self.end_headers()
        self.wfile.write(server.data)

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as made:
        made.status, made.data, made.promised = 200, DATA, len(DATA)
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def fetch(server, cache):
    base_model = replace(
        get_base_model("ResNet50"),
        weights_hash=hashlib.md5(DATA, usedforsecurity=False).hexdigest(),
    )
    url = f"http://127.0.0.1:{server.server_port}/weights.h5"
    return fetch_weights(base_model, url, cache, REMEDY)


@pytest.mark.parametrize("promised", [len(DATA), None])
def test_fetched_weights_are_checked_and_kept(server, tmp_path, promised, capfd):
    server.promised = promised

    path = fetch(server, tmp_path / "k" / "models")

    assert path.read_bytes() == DATA
    assert path.name == get_base_model("ResNet50").weights_file
    assert list(path.parent.iterdir()) == [path]
    size = " (1 MB)" if promised else ""
    note = f"Fetching the ImageNet weights of ResNet50{size}."
    assert note in capfd.readouterr().out


def test_what_is_not_the_published_file_is_refused_and_not_kept(server, tmp_path):
    server.data = DATA[:-1] + b"S"

    with pytest.raises(UserError, match=r"has another digest\. Put it there") as caught:
        fetch(server, tmp_path)

    assert caught.value.field == "weights"
    assert list(tmp_path.iterdir()) == []


def test_a_connection_that_ends_early_is_worth_another_try(server, tmp_path):
    server.data = DATA[:1000]

    with pytest.raises(RetryableError, match="1,000 of 700,000 bytes"):
        fetch(server, tmp_path)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, UserError), (403, UserError), (429, RetryableError), (503, RetryableError)],
)
def test_what_the_server_answers_decides_whether_to_try_again(
    server, tmp_path, status, kind
):
    server.status = status

    with pytest.raises(kind, match=f"{status}.*Put it there yourself"):
        fetch(server, tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_not_there_is_worth_another_try(server, tmp_path):
    server.shutdown()
    server.server_close()

    with pytest.raises(RetryableError, match="Connection refused"):
        fetch(server, tmp_path)


def test_the_part_of_a_killed_download_is_swept_and_that_of_a_living_one_kept(
    server, tmp_path
):
    name = get_base_model("ResNet50").weights_file
    dead, living = (tmp_path / f"{name}.{what}.part" for what in ("dead", "living"))
    for part in (dead, living):
        part.write_bytes(b"half")
    long_ago = time.time() - 7200
    os.utime(dead, (long_ago, long_ago))

    fetch(server, tmp_path)

    assert not dead.exists()
    assert living.exists()
