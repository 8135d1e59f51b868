"""A real `trainyard up` in a folder of its own, and pictures to feed it."""

import json
import os
import signal
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from cli.api_client import ApiClient
from cli.machine import find_free_port
from tests.services import wait_until

ROOT = Path(__file__).resolve().parents[2]
# Takeovers within seconds instead of minutes; nothing else is unlike an installation.
QUICK = {
    "TRAINYARD_HEARTBEAT_SECONDS": "1",
    "TRAINYARD_LEASE_SECONDS": "8",
    "TRAINYARD_RECONCILE_SECONDS": "1",
    "TRAINYARD_IDLE_POLL_SECONDS": "2",
    "TRAINYARD_RETRY_BACKOFF_SECONDS": "0",
    # A forecast of the real engine takes longer than most tests here: one asks for it.
    "TRAINYARD_FORECAST_ON_ADD": "false",
    "TRAINYARD_FORECAST_BASE_MODELS": "1",
}
# Sixty-four pixels and a few epochs: what is proved here is the path, not the accuracy.
TINY = {"image_size_px": 64, "frozen_epochs": 3, "batch_size": 8}
# Long enough to be interfered with: fine-tuning takes about a second an epoch.
SLOW = {**TINY, "fine_tune_epochs": 15, "early_stopping_patience": None}
START_SECONDS = 120


class RunningPlatform:
    """One `up` process and everything below it."""

    def __init__(self, folder):
        self.data_dir = folder / "data"
        self.port = find_free_port("127.0.0.1")
        self.output = folder / "up.out"
        self.process = None
        self.state = {}

    @property
    def environment(self):
        kept = {k: v for k, v in os.environ.items() if not k.startswith("TRAINYARD_")}
        return {
            **kept,
            **QUICK,
            "PYTHONPATH": str(ROOT),
            "TRAINYARD_DATA_DIR": str(self.data_dir),
            "CUDA_VISIBLE_DEVICES": "-1",
        }

    def start(self):
        """Starts `up` in front, as a user does, and waits until it says it is ready."""
        self.output.unlink(missing_ok=True)
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*self._cli("up"), f"--port={self.port}", "--json"],
                cwd=ROOT,
                env=self.environment,
                stdout=output,
                stderr=output,
            )
        path = self.data_dir / "up.json"

        def ready():
            assert self.process.poll() is None, self.output.read_text()
            if not path.exists():
                return None
            state = json.loads(path.read_text())
            return state if state["pid"] == self.process.pid else None

        self.state = wait_until(ready, START_SECONDS, "the platform")
        return self

    def stop(self):
        """Ends it as Ctrl-C does; returns its exit code."""
        if self.process is None or self.process.poll() is not None:
            return None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=45)

    def run(self, *arguments):
        """Runs a command of the command line and returns what it printed as JSON."""
        done = self.call(*arguments, "--json")
        assert done.returncode == 0, f"{arguments}: {done.stderr}\n{self.tell()}"
        return json.loads(done.stdout)

    def call(self, *arguments):
        """Runs a command of the command line, however it ends."""
        return subprocess.run(
            self._cli(*arguments),
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )

    @property
    def client(self):
        token = (self.data_dir / "local_token").read_text()
        return ApiClient(self.state["local_url"], token)

    def pid_of(self, name):
        """Returns the process that `up` runs under `name`, None while it has none."""
        path = self.data_dir / "run" / "children.json"
        rows = json.loads(path.read_text()) if path.exists() else []
        return next((row["pid"] for row in rows if row["name"] == name), None)

    def processes_of_job(self, job_id):
        """Lists the processes that were told the folder of this job or stand in it."""
        mark = f"/jobs/{job_id}/attempts/"
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            try:
                told = [*process.cmdline(), f"{process.cwd()}/"]
            except psutil.Error:
                continue
            if any(mark in part for part in told):
                found.append(process)
        return found

    def tell(self):
        """Returns the ends of all logs, for the message of a failed test."""
        parts = []
        for path in sorted(self.data_dir.glob("logs/*.log")):
            tail = path.read_text(errors="replace").splitlines()[-12:]
            parts.append("\n".join([f"--- {path.name}", *tail]))
        return "\n".join(parts)

    def _cli(self, *arguments):
        return [sys.executable, "-m", "cli", *arguments]


def draw(label, seed, size_px=72):
    """Draws a picture of one of three things, differently for each seed, as JPEG."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:size_px, 0:size_px]
    period, phase = random.uniform(8, 14), random.uniform(0, 6)
    if label == "stripes":
        pattern = np.sin(x * 2 * np.pi / period + phase)
    elif label == "rings":
        middle = random.uniform(0.3, 0.7, 2) * size_px
        away = np.hypot(x - middle[0], y - middle[1])
        pattern = np.sin(away * 2 * np.pi / period)
    else:
        pattern = random.normal(0, 1, (size_px, size_px))
    colour = random.uniform(80, 170, 3)
    pixels = colour + 60 * pattern[..., None] + random.normal(0, 6, (*x.shape, 3))
    encoded = BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(encoded, "JPEG")
    return encoded.getvalue()


def write_archive(path, labels, images_per_label=20, seed=0):
    """Writes a zip with a folder of pictures for each label."""
    with zipfile.ZipFile(path, "w") as archive:
        for number, label in enumerate(labels):
            for index in range(images_per_label):
                content = draw(label, seed + 1000 * number + index)
                archive.writestr(f"{label}/{index:03d}.jpg", content)
    return path
