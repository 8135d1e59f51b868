"""A place to run jobs with the toy trainer: rows, folders, short timers."""

import sys
import uuid
from pathlib import Path

from sqlalchemy import select

from shared import attempt_store, forecast_store, job_store
from shared.artifacts import Storage
from shared.forecast_tables import Forecast
from shared.settings import Settings
from shared.tables import (
    Attempt,
    Checkpoint,
    Dataset,
    DatasetVersion,
    Job,
    Metric,
    Model,
    ModelVersion,
    Note,
    User,
)
from worker import slots
from worker.slots import Slot
from worker.supervisor import supervise
from worker.workplace import Workplace

TOY = Path(__file__).with_name("toy_trainer.py")
TOY_COMMANDS = {
    "train": (sys.executable, str(TOY)),
    "ingest": (sys.executable, str(TOY.with_name("toy_ingest.py"))),
    "forecast": (sys.executable, "-m", "tests.worker.toy_forecast"),
}
KINDS = ("train", "ingest", "forecast")
TOY_STANDBYS = {"train": (sys.executable, str(TOY.with_name("toy_standby.py")))}
TIMERS = {
    "lease_seconds": 2,
    "heartbeat_seconds": 0.3,
    "stop_grace_seconds": 1.5,
    "unconfirmed_lease_seconds": 30,
    "progress_timeout_seconds": 30,
    "idle_poll_seconds": 0.5,
    "reconcile_seconds": 0.3,
    "retry_backoff_seconds": 0,
    "forecast_on_add": False,
}


class Workshop:
    """An installation with one user, one dataset and one model name, all number 1.

    Args:
        database: Its records, empty unless `furnished`.
        folder: Its data folder.
        furnished: Whether an earlier workshop has made the rows.
        timers: Settings other than `TIMERS`.
    """

    def __init__(self, database, folder, *, furnished=False, **timers):
        self.database = database
        self.settings = Settings(
            data_dir=folder,
            database_url=database.url.render_as_string(hide_password=False),
            **(TIMERS | timers),
        )
        self.storage = Storage(self.settings.storage)
        self.stopping = False
        if not furnished:
            self._furnish(database)

    def _furnish(self, database):
        with database.transaction() as session:
            session.add(
                User(email="a@b.c", role="admin", session_key="k", created_at=0)
            )
            session.flush()
            session.add(Dataset(name="parts", owner_id=1, created_at=0, last_version=1))
            session.add(Model(name="parts", owner_id=1, created_at=0))
            session.flush()
            session.add(
                DatasetVersion(
                    dataset_id=1, version=1, job_id=0, fingerprint="f",
                    rel_path="datasets/1/1", images=1, size_bytes=1, report={},
                    created_at=0,
                )
            )  # fmt: skip
        self.storage.resolve("datasets/1/1").mkdir(parents=True)

    def workplace(self, **changes):
        facts = {
            "database": self.database,
            "settings": self.settings,
            "storage": self.storage,
            "slot": Slot("cpu", KINDS),
            "should_stop": lambda: self.stopping,
            "commands": TOY_COMMANDS,
        }
        return Workplace(**(facts | changes))

    def submit(self, *, steps=20, row=None, **training):
        """Submits a toy training; `row` has further columns of its job."""
        return self._submit(
            "train",
            {"training": {"steps": steps, **training}, "model_name": "parts"},
            dataset_version_id=1,
            model_id=1,
            **(row or {}),
        )

    def submit_ingest(self, **spec):
        return self._submit("ingest", {"sources": [], **spec})

    def submit_forecast(self, version_id=1, **wishes):
        with self.database.transaction() as session:
            return forecast_store.ask(session, version_id, owner_id=1, **wishes).job_id

    def forecasts(self, job_id):
        return self._rows(Forecast, job_id)

    def _submit(self, kind, spec, **rows):
        with self.database.transaction() as session:
            return job_store.submit(
                session,
                owner_id=1,
                kind=kind,
                title="toy",
                spec=spec,
                idempotency_key=uuid.uuid4().hex,
                dataset_id=1,
                **rows,
            ).job_id

    def claim(self, **changes):
        facts = {
            "attempt_uuid": uuid.uuid4().hex,
            "worker_id": 0,
            "host": "here",
            "slot": "cpu",
            "kinds": list(KINDS),
            "queues": ["default"],
            "gpu_mem_mb": 0,
            "lease_ms": int(self.settings.lease_seconds * 1000),
        }
        with self.database.transaction() as session:
            return attempt_store.claim(session, **(facts | changes))

    def run_one(self, claim=None, **changes):
        """Claims the best job and supervises one attempt of it."""
        claim = claim or self.claim()
        place = self.workplace(**changes)
        lock = slots.acquire(self.settings.runtime, place.slot, grace_seconds=1)
        try:
            supervise(place, claim, lock)
        finally:
            lock.release()
        return claim

    def ask(self, change, job_id):
        """Does what a user does: `job_store.cancel` and the like."""
        with self.database.transaction() as session:
            return change(session, job_id, actor="user:1")

    def job(self, job_id):
        with self.database.reading() as session:
            return session.get_one(Job, job_id)

    def attempts(self, job_id):
        return self._rows(Attempt, job_id, Attempt.fence)

    def checkpoints(self, job_id):
        return self._rows(Checkpoint, job_id, Checkpoint.step)

    def metrics(self, job_id):
        return self._rows(Metric, job_id, Metric.fence, Metric.seq)

    def notes(self, job_id):
        return [note.message for note in self._rows(Note, job_id, Note.id)]

    def versions(self, job_id):
        return self._rows(ModelVersion, job_id, ModelVersion.version)

    def folder(self, claim):
        return self.storage.attempt(claim.job_id, claim.fence, claim.attempt_uuid)

    def weights(self, job_id):
        """Digest of the published weights: equal means bit-identical."""
        (version,) = self.versions(job_id)
        return version.evaluation["weights"]

    def _rows(self, table, job_id, *order):
        with self.database.reading() as session:
            query = select(table).where(table.job_id == job_id).order_by(*order)
            return list(session.scalars(query))
