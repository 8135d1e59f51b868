"""A real platform for a benchmark: started, asked over its API, its logs read."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parent.parent
ENDED = ("succeeded", "failed", "cancelled")


class Platform:
    """A real `trainyard up` in a folder of its own.

    Args:
        folder: Its data folder.
        settings: Further environment variables.
    """

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.env = os.environ | {
            "TRAINYARD_DATA_DIR": str(folder),
            "TRAINYARD_RETRY_BACKOFF_SECONDS": "0",
            **settings,
        }
        port = 20000 + os.getpid() % 20000
        self.url = f"http://127.0.0.1:{port}"
        log = (folder / "up.log").open("ab")
        self.process = subprocess.Popen(
            [ROOT / "trainyard", "up", "--port", str(port)],
            env=self.env,
            stdout=log,
            stderr=log,
        )
        token_path = folder / "local_token"
        try:
            wait_for(lambda: token_path.exists() and self._ready(), 180, "the platform")
        except BaseException:
            self.stop()
            raise
        token = token_path.read_text().strip()
        self.http = httpx.Client(
            base_url=self.url + "/api/v1",
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
            # The web server may be one of those that are killed: `up` starts it again.
            transport=httpx.HTTPTransport(retries=8),
        )

    def _ready(self) -> bool:
        try:
            return httpx.get(self.url + "/readyz", timeout=5).status_code == 200  # noqa: PLR2004
        except httpx.HTTPError:
            return False

    def stop(self) -> None:
        """Ends every process of the platform."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)

    def job(self, job_id: int) -> dict:
        """The job as the API shows it."""
        return self.http.get(f"/jobs/{job_id}").raise_for_status().json()


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Polls `condition` until it holds; raises `TimeoutError` naming `what`."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} was not ready after {seconds:.0f} s")
        time.sleep(0.2)


def add_dataset(platform: Platform, archive: Path) -> int:
    """Uploads the archive and waits until its version is published."""
    with archive.open("rb") as body:
        answer = platform.http.post(
            "/datasets",
            params={"name": "stripes", "filename": archive.name},
            headers={"Content-Type": "application/octet-stream"},
            content=body,
        ).raise_for_status()
    dataset_id = answer.json()["id"]
    wait_for(
        lambda: platform.http.get(f"/datasets/{dataset_id}").json().get("version"),
        180,
        "the dataset",
    )
    return dataset_id


def forget_caches(platform: Platform) -> None:
    """Removes the packs and features that earlier jobs left."""
    for cache in ("packs", "features"):
        shutil.rmtree(platform.folder / "storage" / cache, ignore_errors=True)


def attempt_logs(platform: Platform, job_id: int) -> list[Path]:
    """The event logs of a job's attempts, oldest first."""
    folder = platform.folder / "storage" / "jobs" / str(job_id) / "attempts"
    return sorted(
        folder.glob("*/log.jsonl"), key=lambda p: int(p.parent.name.split("-")[0])
    )


def read_events(path: Path) -> list[dict]:
    """Every whole line of an event log."""
    events = []
    for line in path.read_bytes().split(b"\n"):
        try:
            events.append(json.loads(line))
        except ValueError:
            continue
    return events
