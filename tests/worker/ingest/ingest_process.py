"""Runs the real ingest child, as the supervisor starts it, and reads what it says."""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time

import psutil
import pyarrow.parquet as pq

from tests.worker.processes import ROOT, is_running, wait_until

SECONDS = 200


class Ingest:
    """One ingest child in a process group of its own.

    Args:
        folder: SPEC.json and WORKDIR are in it.
        sources: Entries of `sources`, or paths of archives and folders.
        file_bytes: Largest file that the child may write: a disk that is too small.
        program: The module that is run.
        spec: Further keys of SPEC.json.
    """

    def __init__(
        self, folder, *sources, file_bytes=None, program="worker.ingest.run", **spec
    ):
        folder.mkdir(parents=True, exist_ok=True)
        self.workdir = folder / "work"
        path = folder / "spec.json"
        entries = [one if isinstance(one, dict) else source(one) for one in sources]
        path.write_text(json.dumps({"kind": "ingest", "sources": entries, **spec}))
        command = [sys.executable, "-m", program, path, self.workdir]
        self.process = subprocess.Popen(
            [str(part) for part in command],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=lambda: file_bytes and _limit_files(file_bytes),
        )
        self.events, self.stderr, self.peak_bytes = [], [], 0
        self._threads = [
            threading.Thread(target=work, daemon=True)
            for work in (self._read_events, self._read_errors, self._watch_memory)
        ]
        for thread in self._threads:
            thread.start()

    def wait(self):
        """Returns the exit code when all is read."""
        try:
            code = self.process.wait(SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        for thread in self._threads:
            thread.join(20)
        return code

    def wait_for(self, **fields):
        """Returns when an event with these fields was heard."""

        def heard():
            assert self.process.poll() is None, self.events
            return any(fields.items() <= event.items() for event in list(self.events))

        wait_until(heard, SECONDS, f"the event {fields}")

    def family(self):
        """The process and all its descendants."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [self.process.pid, *(child.pid for child in children)]

    def end(self, number):
        """Sends one signal to the child alone; returns when its family is gone."""
        family = self.family()
        self.process.send_signal(number)
        code = self.process.wait(SECONDS)
        wait_until(lambda: not any(map(is_running, family)), 20, "its children's end")
        return code

    @property
    def last(self):
        return self.events[-1]

    @property
    def final(self):
        return self.workdir / "final"

    def report(self):
        return json.loads((self.final / "report.json").read_text(encoding="utf-8"))

    def rows(self):
        """The manifest as {source_name: row}."""
        table = pq.read_table(self.final / "manifest.parquet").to_pylist()
        return {row["source_name"]: row for row in table}

    def leftovers(self):
        """What lies in WORKDIR beside the version."""
        return sorted(
            path.name for path in self.workdir.iterdir() if path != self.final
        )

    def _read_events(self):
        for line in self.process.stdout:
            self.events.append(json.loads(line))

    def _read_errors(self):
        self.stderr.extend(self.process.stderr)

    def _watch_memory(self):
        """The most that any one process of the family held."""
        while self.process.poll() is None:
            with contextlib.suppress(psutil.Error):
                for pid in self.family():
                    held = psutil.Process(pid).memory_info().rss
                    self.peak_bytes = max(self.peak_bytes, held)
            time.sleep(0.05)


def _limit_files(size_bytes):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, size_bytes))


def source(path):
    kind = {".csv": "csv"}.get(path.suffix, "folder" if path.is_dir() else "archive")
    return {"type": kind, "path": str(path), "name": path.name}


def run(folder, *sources, **options):
    """Runs an ingest to its end; it must succeed."""
    ingest = Ingest(folder, *sources, **options)
    assert ingest.wait() == 0, (ingest.events[-1:], b"".join(ingest.stderr)[-2000:])
    return ingest
