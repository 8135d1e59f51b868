"""What a claimed job asks of a child: builds its SPEC.json from the records."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from shared import attempt_store, dataset_store, job_read_store
from shared.artifacts import PROOFS, Storage
from shared.attempt_store import Claim
from shared.errors import NotFoundError, UserError
from shared.job_status import JobKind
from shared.settings import Settings
from worker.forecast_plan import build_forecast_spec
from worker.results import VERSION, Result, changes_a_version, find_result


@dataclass(frozen=True)
class Plan:
    """What this attempt has to do.

    Args:
        spec: SPEC.json of the child.
        result: What an earlier attempt had finished and not published, if anything.
        result_path: The path under which the record knows that result.
        resumes_at: Step of the newest checkpoint; None without one.
    """

    spec: dict[str, Any]
    result: Result | None = None
    result_path: str = ""
    resumes_at: int | None = None


def build_plan(
    session: Session, claim: Claim, storage: Storage, settings: Settings
) -> Plan:
    """Builds the plan of one attempt from what the records hold now.

    Raises:
        UserError: When the job cannot run, e.g. its dataset is gone.
    """
    found = find_result(session, claim, storage)
    result, result_path = found or (None, "")
    if claim.kind == JobKind.INGEST:
        spec = _ingest_spec(session, claim, storage, settings)
        spec["earlier"] = _list_earlier(session, claim, storage)
        return Plan(spec, result, result_path)
    if claim.kind == JobKind.FORECAST:
        folder = _dataset_folder(session, claim, storage)
        spec = build_forecast_spec(session, claim, storage, settings, folder)
        spec["job"] = _job(claim)
        return Plan(spec, result, result_path)
    spec = _train_spec(session, claim, storage, settings)
    rows = attempt_store.list_resume_checkpoints(session, claim.job_id, claim.lineage)
    spec["resume_from"] = [
        {"path": str(storage.resolve(row.rel_path)), "manifest_sha": row.manifest_sha}
        for row in rows
    ]
    spec["divergences"] = attempt_store.count_divergences(session, claim.job_id)
    spec["memory_kills"] = attempt_store.count_memory_kills(session, claim.job_id)
    return Plan(spec, result, result_path, rows[0].step if rows else None)


def _train_spec(
    session: Session, claim: Claim, storage: Storage, settings: Settings
) -> dict[str, Any]:
    return {
        "kind": "train",
        "dataset": str(_dataset_folder(session, claim, storage)),
        "training": claim.spec["training"],
        "caches": str(storage.caches),
        "weights_dirs": [str(path.absolute()) for path in settings.weights_dirs],
        "download_weights": settings.download_weights,
        "job": {**_job(claim), "model_name": claim.spec.get("model_name")},
    }


def _dataset_folder(session: Session, claim: Claim, storage: Storage) -> Path:
    try:
        version = dataset_store.get_version(session, claim.dataset_version_id or 0)
    except NotFoundError as error:
        raise UserError(
            "The dataset version that this job works on is gone.", field="dataset"
        ) from error
    return storage.resolve(version.rel_path)


def _ingest_spec(
    session: Session, claim: Claim, storage: Storage, settings: Settings
) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "kind": "ingest",
        "sources": _find_parent(session, claim, storage)
        + [
            _locate(source, storage)
            for source in claim.spec["sources"]
            if source.get("type") != VERSION
        ],
        "limits": {
            "max_files": settings.max_dataset_files,
            "max_unpacked_bytes": settings.max_unpacked_bytes,
        },
        "addresses": {
            "allowed": settings.source_addresses,
            "networks": list(map(str, settings.source_networks)),
            "s3_endpoint": settings.source_s3_endpoint,
        },
        "job": _job(claim),
    }
    wishes = ("split", "mode", "edits")
    return spec | {name: claim.spec[name] for name in wishes if name in claim.spec}


def _find_parent(
    session: Session, claim: Claim, storage: Storage
) -> list[dict[str, Any]]:
    """The version to change: the newest one now, whichever was when it was asked for.

    What others have changed meanwhile is thus kept.
    """
    if not changes_a_version(claim):
        return []
    version = dataset_store.latest_version(session, claim.dataset_id or 0)
    if version is None:
        return []
    return [
        {
            "type": VERSION,
            "path": str(storage.resolve(version.rel_path)),
            "name": f"version {version.version}",
            "version": version.version,
        }
    ]


def _locate(source: dict[str, Any], storage: Storage) -> dict[str, Any]:
    """A path is below shared storage unless it is absolute; an address has none."""
    if "path" not in source:
        return source
    return {**source, "path": str(storage.root / source["path"])}


def _list_earlier(session: Session, claim: Claim, storage: Storage) -> list[str]:
    """Folders of the job's earlier attempts that hold proofs, or what was fetched."""
    folders = [
        storage.attempt(claim.job_id, attempt.fence, attempt.uuid)
        for attempt in job_read_store.list_attempts(session, claim.job_id)
        if attempt.fence < claim.fence
    ]
    return [str(folder) for folder in folders if (folder / PROOFS).is_dir()]


def _job(claim: Claim) -> dict[str, Any]:
    return {
        "id": claim.job_id,
        "fence": claim.fence,
        "attempt": f"{claim.fence}-{claim.attempt_uuid[:8]}",
    }
