"""What the rows of the matrix ask of an arena: jobs, their processes, their records."""

import contextlib
import time
from pathlib import Path

import psutil
from sqlalchemy import select

from shared.tables import Attempt, Checkpoint, Job, Metric, Note
from tests.services import wait_until

TOY, KERAS = "toy", "keras"
PATIENCE_SECONDS = 60
# The real engine takes so many times as long.
ENGINE_PATIENCE = 5
CHECKPOINT_STEPS = {TOY: 5, KERAS: 3}
KERAS_SPEC = {
    "base_model": "MobileNet-0.25",
    "weights": None,
    "image_size_px": 32,
    "batch_size": 8,
    "head": {"units": [8], "dropout": 0.3},
    "head_start": "random",
    "frozen_epochs": 6,
    "fine_tune_epochs": 6,
    "unfreeze_from": 0.8,
    "early_stopping_patience": None,
    "checkpoint_every": {"steps": 3},
}


class Records:
    """Of an arena that has a client, a database, a storage, hosts and an engine."""

    def submit(self, *, steps=60, step_seconds=0.05, faults=(), **more):
        """Submits a job that trains long enough to be interfered with."""
        plan = {
            "steps": steps,
            "step_seconds": step_seconds,
            "checkpoint_every": CHECKPOINT_STEPS[TOY],
            "faults": list(faults),
        }
        overrides = KERAS_SPEC if self.engine == KERAS else {}
        return self.client.submit(overrides=overrides, **(plan | more))

    def submit_and_wait(self, step=8, **more):
        """Submits a job and waits until it has trained `step` steps."""
        promise = self.submit(**more)
        self.wait_for_step(promise, step)
        return promise

    def wait_for_step(self, promise, step, fence=1):
        """Waits until an attempt from `fence` on has recorded that step."""
        self.wait(
            lambda: self.reached(promise, fence) >= step,
            f"step {step} of job {promise.job_id}",
        )

    def wait_for_checkpoint(self, promise, after=0):
        """Waits for a checkpoint beyond step `after`; returns the newest step."""
        self.wait(
            lambda: self.job(promise).last_step > after,
            f"a checkpoint of job {promise.job_id}",
        )
        return self.job(promise).last_step

    def wait_for_attempt(self, promise, fence):
        """Waits until attempt `fence` has been made."""
        self.wait(
            lambda: self.job(promise).fence >= fence,
            f"attempt {fence} of job {promise.job_id}",
        )

    def wait_for_state(self, promise, *states):
        """Waits until the job is in one of these states."""
        self.wait(
            lambda: self.job(promise).state in states,
            f"job {promise.job_id} to be {' or '.join(states)}",
        )

    def wait(self, condition, what):
        """Polls as `wait_until`, for longer where the real engine works."""
        seconds = PATIENCE_SECONDS * (ENGINE_PATIENCE if self.engine == KERAS else 1)
        return wait_until(condition, seconds, what)

    def host_of(self, promise):
        """The host on which the newest attempt runs."""
        name = self.attempts(promise)[-1].host
        return next(host for host in self.hosts if host.name == name)

    def trainer(self, promise):
        """The running trainer of a job, as a process."""
        return self.wait(
            lambda: next(iter(self.trainers(promise)), None),
            f"the trainer of job {promise.job_id}",
        )

    def trainers(self, promise=None):
        """The processes that stand in an attempt's folder, guardians aside."""
        below = self.storage / "jobs"
        if promise:
            below /= str(promise.job_id)
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                is_guardian = "worker.guardian" in process.cmdline()
                if not is_guardian and Path(process.cwd()).is_relative_to(below):
                    found.append(process)
        return found

    def job(self, promise):
        """The job's row."""
        return self._read(lambda s: s.get_one(Job, promise.job_id))

    def attempts(self, promise):
        """Its attempts, oldest first."""
        return self._rows(Attempt, promise, Attempt.fence)

    def checkpoints(self, promise):
        """Its checkpoints, lowest step first."""
        return self._rows(Checkpoint, promise, Checkpoint.step, Checkpoint.fence)

    def notes(self, promise):
        """The sentences on its page."""
        return [note.message for note in self._rows(Note, promise, Note.id)]

    def reached(self, promise, fence=1):
        """The highest step that attempts from `fence` on have recorded."""
        rows = self._rows(Metric, promise, Metric.step)
        return max((row.step for row in rows if row.fence >= fence), default=0)

    def steps(self, promise):
        """All steps that are on its curves."""
        return {row.step for row in self._rows(Metric, promise, Metric.step)}

    def _rows(self, table, promise, *order):
        query = select(table).where(table.job_id == promise.job_id).order_by(*order)
        return self._read(lambda s: list(s.scalars(query)))

    def _read(self, read):
        def look(session):
            return read(session)

        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                with self.database.reading() as session:
                    return look(session)
            except Exception:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
