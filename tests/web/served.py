"""The web as it is served: by gunicorn in a process of its own, or by a thread."""

import subprocess
import sys
import threading
from contextlib import contextmanager

import httpx
import psutil
from werkzeug.serving import make_server

from cli.machine import find_free_port
from shared.child_environment import child_environment
from tests.services import die_with_parent, wait_until


@contextmanager
def serve(settings, log_path):
    """Yields (address, process of the one worker), whose parent is gunicorn itself."""
    port = find_free_port("127.0.0.1")
    environment = child_environment(
        settings,
        TRAINYARD_DATABASE_URL=settings.database_address,
        TRAINYARD_SECRET_KEY=settings.secret_key,
    )
    with log_path.open("wb") as log:
        master = subprocess.Popen(
            [
                sys.executable, "-m", "gunicorn", "web.wsgi:app",
                f"--bind=127.0.0.1:{port}", "--worker-class=gthread", "--threads=4",
                "--no-control-socket", "--graceful-timeout=1",
            ],
            env=environment,
            stdout=log,
            stderr=log,
            preexec_fn=die_with_parent,
        )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _answers(address), 60, "the web server")
        yield address, psutil.Process(master.pid).children()[0]
    finally:
        master.terminate()
        master.wait(timeout=20)


@contextmanager
def serve_here(app):
    """Yields the address of the app itself, for tests that ask nothing of gunicorn."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _answers(address):
    try:
        return httpx.get(f"{address}/healthz", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
