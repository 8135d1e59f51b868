"""What a forecast tells its child: the dataset, what is known, and the worker."""

from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from shared import (
    finding_decision_store,
    training_history_store,
    worker_store,
)
from shared.artifacts import Storage
from shared.attempt_store import Claim
from shared.forecast_base_models import choose_base_models, list_ready
from shared.settings import Settings


def build_forecast_spec(
    session: Session, claim: Claim, storage: Storage, settings: Settings, folder: Path
) -> dict[str, Any]:
    """Returns SPEC.json of a forecast, but for its job.

    Args:
        session: Any session.
        claim: The forecast job.
        storage: Shared storage.
        settings: How many base models are compared, and where weights lie.
        folder: Of the dataset version, absolute.
    """
    dataset_id = claim.dataset_id or 0
    worker = worker_store.find_at_work(session, claim.job_id, claim.fence)
    accepted = finding_decision_store.list_accepted(session, dataset_id)
    return {
        "kind": "forecast",
        "dataset": str(folder),
        "caches": str(storage.caches),
        "weights_dirs": [str(path.absolute()) for path in settings.weights_dirs],
        "download_weights": settings.download_weights,
        "base_models": choose_base_models(
            claim.spec.get("base_models"),
            list_ready(worker),
            settings.forecast_base_models,
        ),
        "accepted": sorted(accepted),
        "history": training_history_store.list_history(
            session, dataset_id=dataset_id, worker_id=worker.id if worker else None
        ),
        "worker": {
            "id": worker.id if worker else None,
            "name": worker.name if worker else None,
        },
    }
