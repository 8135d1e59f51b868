"""A database with a crowd of waiting jobs, for a benchmark."""

import uuid

from sqlalchemy import text

from shared import attempt_store, job_store, model_store, user_store, worker_store
from shared.database import Database
from shared.tables import Dataset, DatasetVersion, Job

LEASE_MS = 60_000


class Records:
    """One database with an owner, a dataset, a model and a worker.

    Args:
        database: Migrated and empty.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        with database.transaction() as s:
            owner = user_store.create_user(s, email="bench@localhost", role="admin")
            self.owner_id = owner.id
            s.add(Dataset(name="set", owner_id=owner.id, created_at=0, last_version=1))
            s.flush()
            s.add(
                DatasetVersion(
                    dataset_id=1, version=1, job_id=0, fingerprint="f",
                    rel_path="datasets/1/1", images=2000, size_bytes=1,
                    report={"classes": ["a", "b"], "counts": {}}, created_at=0,
                )
            )  # fmt: skip
            self.model_id = model_store.find_or_create_model(s, "set", owner.id).id
            self.worker_id = worker_store.register(
                s, name="bench", host="bench", slot="cpu", kinds=["train"],
                queues=["default"],
            )  # fmt: skip

    def submit(self) -> int:
        """Puts one job into the queue."""
        return self.database.tx(
            lambda s: job_store.submit(
                s, owner_id=self.owner_id, kind="train", title="job",
                spec={"training": {"base_model": "EfficientNetLite0"}},
                idempotency_key=uuid.uuid4().hex, dataset_id=1, dataset_version_id=1,
                model_id=self.model_id,
            )
        ).job_id  # fmt: skip

    def claim(self, max_running: int | None = None) -> attempt_store.Claim | None:
        """Takes the next job, if its owner may have one more running."""
        return self.database.tx(
            lambda s: attempt_store.claim(
                s, attempt_uuid=uuid.uuid4().hex, worker_id=self.worker_id,
                host="bench", slot="cpu", kinds=["train"], queues=["default"],
                gpu_mem_mb=0, lease_ms=LEASE_MS, max_running_per_user=max_running,
            )
        )  # fmt: skip

    def finish_one(self) -> None:
        """Lets one job end in a minute, so that durations can be told."""
        claim = self.claim()
        assert claim is not None
        with self.database.transaction() as s:
            s.execute(
                text(
                    "UPDATE jobs SET state = 'succeeded', running_ms = 60000, "
                    "ended_at = started_at WHERE id = :id"
                ),
                {"id": claim.job_id},
            )

    def draw_curves(self, group_key: str, epochs: int) -> None:
        """Gives every job of a submission so many epochs of validation accuracy."""
        with self.database.transaction() as s:
            s.execute(
                text(
                    "WITH RECURSIVE epochs(n) AS "
                    "(SELECT 1 UNION ALL SELECT n + 1 FROM epochs WHERE n < :epochs) "
                    "INSERT INTO metrics "
                    "(job_id, name, fence, seq, step, epoch, phase, value) "
                    "SELECT id, 'val_accuracy', 1, n, 20 * n, n, 'frozen', "
                    "1 - 1.0 / (n + id % 7 + 1) "
                    "FROM jobs CROSS JOIN epochs WHERE group_key = :key"
                ),
                {"epochs": epochs, "key": group_key},
            )
            s.execute(text("UPDATE jobs SET fence = 1 WHERE group_key = :key"),
                      {"key": group_key})  # fmt: skip

    def fill(self, count: int) -> None:
        """Adds waiting jobs until there are so many."""
        with self.database.transaction() as s:
            have = s.query(Job).where(Job.state == "queued").count()
        if not have:
            self.submit()
            have = 1
        names = [c.name for c in Job.__table__.columns]
        copied = [n for n in names if n not in {"id", "idempotency_key", "fair_rank"}]
        columns = ", ".join(copied)
        while have < count:
            more = min(have, count - have)
            with self.database.transaction() as s:
                s.execute(
                    text(
                        f"INSERT INTO jobs (idempotency_key, fair_rank, {columns}) "
                        f"SELECT idempotency_key || '-{have}', fair_rank + {have}, "
                        f"{columns} FROM jobs WHERE state = 'queued' "
                        f"ORDER BY id LIMIT {more}"
                    )
                )
            have += more
        with self.database.engine.connect() as connection:
            connection.execute(text("ANALYZE"))
            connection.commit()
