"""Runs the real ingest, and reads what it says.

As the child that a supervisor starts (`Ingest`), or within this process (`IngestHere`)
where nothing is asked of a process: pictures are proved in children of their own either
way, and here their server need not import the framework for every ingest.
"""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from unittest.mock import patch

import psutil
import pyarrow.parquet as pq

from tests.worker import warm_children
from tests.worker.processes import ROOT, is_running, wait_until
from worker import events
from worker.ingest.request import load_request
from worker.ingest.run import ingest
from worker.training import failures

SECONDS = 200


class _Attempt:
    """An ingest in a folder, which holds SPEC.json and WORKDIR."""

    def __init__(self, folder, sources, spec):
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.workdir = folder / "spec.json", folder / "work"
        entries = [one if isinstance(one, dict) else source(one) for one in sources]
        self.path.write_text(json.dumps({"kind": "ingest", "sources": entries, **spec}))
        self.events = []

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


class IngestHere(_Attempt):
    """One ingest within this process, from its beginning to its end.

    Args:
        folder: SPEC.json and WORKDIR are in it.
        sources: Entries of `sources`, or paths of archives and folders.
        spec: Further keys of SPEC.json.
    """

    def __init__(self, folder, *sources, **spec):
        super().__init__(folder, sources, spec)
        warm_children.start_server()
        told = folder / "events.jsonl"
        with told.open("wb") as file, _speaking_to(file):
            self._code = self._run()
        self.events = [json.loads(line) for line in told.read_bytes().splitlines()]

    def wait(self):
        """Returns the exit code that a child would have had."""
        return self._code

    def _run(self):
        try:
            self.workdir.mkdir(parents=True, exist_ok=True)
            ingest(load_request(self.path), self.workdir.absolute())
        except Exception as error:  # noqa: BLE001 - as the child's main does it
            return failures.tell(error)
        return 0


class Ingest(_Attempt):
    """One ingest child in a process group of its own.

    Args:
        folder: SPEC.json and WORKDIR are in it.
        sources: Entries of `sources`, or paths of archives and folders.
        file_bytes: Largest file that the child may write: a disk that is too small.
        program: The module that is run.
        measured: Whether `peak_bytes` shall be known.
        spec: Further keys of SPEC.json.
    """

    def __init__(
        self,
        folder,
        *sources,
        file_bytes=None,
        program="worker.ingest.run",
        measured=False,
        **spec,
    ):
        super().__init__(folder, sources, spec)
        command = [sys.executable, "-m", program, self.path, self.workdir]
        self.process = subprocess.Popen(
            [str(part) for part in command],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=lambda: file_bytes and _limit_files(file_bytes),
        )
        self.stderr, self.peak_bytes = [], 0
        works = [self._read_events, self._read_errors]
        works += [self._watch_memory] * measured
        self._threads = [threading.Thread(target=work, daemon=True) for work in works]
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


@contextlib.contextmanager
def _speaking_to(file):
    """Events go to `file`, as in a process that has not said anything yet."""
    begun = {"_last_progress": ("", 0.0), "_stages": set()}
    with patch.multiple(events, _output_fd=file.fileno(), **begun):
        yield


def _limit_files(size_bytes):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, size_bytes))


def source(path):
    kind = {".csv": "csv"}.get(path.suffix, "folder" if path.is_dir() else "archive")
    return {"type": kind, "path": str(path), "name": path.name}


def run(folder, *sources, **spec):
    """Runs an ingest to its end; it must succeed."""
    done = IngestHere(folder, *sources, **spec)
    assert done.wait() == 0, done.events[-1:]
    return done


def run_apart(folder, *sources, **options):
    """Runs an ingest child to its end; it must succeed."""
    child = Ingest(folder, *sources, **options)
    assert child.wait() == 0, (child.events[-1:], b"".join(child.stderr)[-2000:])
    return child
