"""Rows for tests: each function makes one real row through the stores."""

import itertools
import uuid

from shared import (
    attempt_store,
    dataset_store,
    forecast_store,
    job_store,
    model_store,
    user_store,
    worker_store,
)
from shared.tables import Job
from tests.web.forecast_example import make_forecast

_numbers = itertools.count(1)


def make_user(session, **fields):
    """A user who may sign in."""
    values = {"email": f"user{next(_numbers)}@example.org", "role": "member", **fields}
    return user_store.create_user(session, **values)


def make_worker(session, name=None, **fields):
    """The number of a registered worker."""
    values = {
        "name": name or f"host/{next(_numbers)}",
        "host": "host",
        "slot": "cpu",
        "kinds": ["train", "ingest"],
        "queues": ["default"],
        **fields,
    }
    return worker_store.register(session, **values)


def make_dataset(session, owner_id, name=None):
    """A dataset without versions."""
    name = name or f"dataset {next(_numbers)}"
    return dataset_store.create_dataset(session, name=name, owner_id=owner_id)


def make_model(session, owner_id, name=None):
    """A name in the registry."""
    name = name or f"model {next(_numbers)}"
    return model_store.find_or_create_model(session, name, owner_id)


def make_job(session, owner_id=None, **fields):
    """The number of a queued job."""
    owner_id = owner_id or make_user(session).id
    values = {
        "owner_id": owner_id,
        "kind": "train",
        "title": "a job",
        "spec": {"training": {"monitor": "val_loss"}},
        "idempotency_key": uuid.uuid4().hex,
        **fields,
    }
    if values["kind"] == "train" and "model_id" not in values:
        values["model_id"] = make_model(session, owner_id).id
    return job_store.submit(session, **values).job_id


def claim(session, **fields):
    """Claims the best job, as a worker without a GPU does."""
    values = {
        "attempt_uuid": uuid.uuid4().hex,
        "worker_id": 0,
        "host": "host",
        "slot": "cpu",
        "kinds": ["train", "ingest"],
        "queues": ["default"],
        "gpu_mem_mb": 0,
        "lease_ms": 60_000,
        **fields,
    }
    return attempt_store.claim(session, **values)


def checkpoint(session, job_id, fence, step, kind="periodic", **fields):
    """Registers a checkpoint of that step."""
    values = {
        "rel_path": f"jobs/{job_id}/attempts/{fence}-x/ckpt/{step:012d}",
        "manifest_sha": "0" * 64,
        "size_bytes": 10,
        "metric": None,
        **fields,
    }
    attempt_store.register_checkpoint(
        session, job_id, fence, step=step, kind=kind, **values
    )


def complete(session, job_id, fence, **fields):
    """Publishes a model version of the job."""
    values = {
        "artifact_sha": "a" * 64,
        "artifact_bytes": 10,
        "files": {"saved_model.zip": {"sha256": "a" * 64, "bytes": 10}},
        "evaluation": {"accuracy": 0.9},
        "result": {"accuracy": 0.9},
        **fields,
    }
    return attempt_store.complete_train(session, job_id, fence, **values)


def complete_ingest(session, job_id, fence, **fields):
    """Publishes a dataset version of the job."""
    values = {
        "rel_path": f"datasets/x/{job_id}-{fence}",
        "fingerprint": f"f{job_id}",
        "images": 4,
        "size_bytes": 100,
        "report": {"classes": ["a", "b"]},
        **fields,
    }
    return attempt_store.complete_ingest(session, job_id, fence, **values)


def complete_forecast(session, job_id, fence, **fields):
    """Publishes a forecast of the job."""
    values = {
        "rel_path": f"datasets/x/forecasts/{job_id}-{fence}",
        "summary": make_forecast(),
        "result": {},
        **fields,
    }
    return attempt_store.complete_forecast(session, job_id, fence, **values)


def make_version(session, owner_id, *, forecasts=False):
    """A dataset version, read in by a job of its own; returns its row's number."""
    dataset = make_dataset(session, owner_id)
    job_id = make_job(session, owner_id, kind="ingest", dataset_id=dataset.id)
    fence = claim(session, kinds=["ingest"]).fence
    complete_ingest(session, job_id, fence, forecasts=forecasts)
    return session.get_one(Job, job_id, populate_existing=True).dataset_version_id


def make_forecast_row(session, version_id, owner_id, **fields):
    """A published forecast of a dataset version; returns its row's number."""
    forecast_store.ask(session, version_id, owner_id=owner_id, again=True)
    found = claim(session, kinds=["forecast"])
    return complete_forecast(session, found.job_id, found.fence, **fields).version
