"""From a child's `final/` folder to what stays of it, published exactly once.

1. The child has written `final/` with a manifest, all of it durable.
2. A row of kind `final` says so: from now on nobody needs to compute it again.
3. The files are copied (model) or renamed (dataset, forecast) to where they stay.
4. One transaction publishes the version or the forecast and ends the job.

Killed before 4, the next attempt finds the row of step 2 and goes on from there; a
second run of step 4 changes nothing and returns the version the first one made.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from shared import attempt_store
from shared.artifacts import (
    APPEAR_SECONDS,
    MANIFEST,
    CorruptFolderError,
    Storage,
    publish_folder,
    remove_tree,
    verify_manifest,
)
from shared.attempt_store import Claim, Completed
from shared.job_status import JobKind

ARCHIVE = "saved_model.zip"
EVALUATION = "evaluation.json"
REPORT = "report.json"
FORECAST = "forecast.json"
FINDINGS = "findings.parquet"
NEEDED = {
    JobKind.TRAIN: (ARCHIVE, EVALUATION),
    JobKind.INGEST: (REPORT,),
    JobKind.FORECAST: (FORECAST, FINDINGS),
}
DIFF = "diff.json"
VERSION = "version"  # type of a source: the dataset version that is changed
SUMMARY = "summary.json"  # beside final/: what the child said when it had finished
MOST_LISTED = 500  # entries of each of a report's lists that the record keeps


@dataclass(frozen=True)
class Result:
    """A finished child's result, as it lies on shared storage.

    Args:
        folder: The `final/` folder.
        manifest_sha: SHA-256 of its manifest.
        size_bytes: Of all its files.
        step: Global step at which it was made; 0 where nothing is trained.
        fence: Of the attempt that made it.
        summary: What the child said about it.
    """

    folder: Path
    manifest_sha: str
    size_bytes: int
    step: int
    fence: int
    summary: dict[str, Any]


def register(session: Session, claim: Claim, storage: Storage, result: Result) -> None:
    """Records that the result exists, so that no later attempt computes it again.

    Raises:
        LostLease: When another attempt owns the job.
    """
    attempt_store.register_checkpoint(
        session,
        claim.job_id,
        claim.fence,
        step=result.step,
        kind="final",
        rel_path=storage.relative(result.folder),
        manifest_sha=result.manifest_sha,
        size_bytes=result.size_bytes,
        metric=None,
    )


def find_result(
    session: Session, claim: Claim, storage: Storage
) -> tuple[Result, str] | None:
    """Returns the result an earlier attempt left, and its row's path, if there is one.

    A folder may have been renamed to its place already. The files are not verified.
    """
    row = attempt_store.find_final_checkpoint(session, claim.job_id, claim.lineage)
    if row is None:
        return None
    folder = storage.resolve(row.rel_path)
    summary = _read_summary(folder)
    moved = _published_folder(claim, storage, row.fence)
    if claim.kind != JobKind.TRAIN and not folder.exists() and moved.exists():
        folder = moved
    result = Result(
        folder, row.manifest_sha, row.size_bytes, row.step, row.fence, summary
    )
    return result, row.rel_path


def verify(claim: Claim, result: Result) -> None:
    """Returns when the result is whole.

    Raises:
        CorruptFolderError: Saying which file is missing or has changed.
    """
    manifest = verify_manifest(
        result.folder, result.manifest_sha, appear_seconds=_patience(claim, result)
    )
    missing = [
        name for name in NEEDED[JobKind(claim.kind)] if name not in manifest["files"]
    ]
    if missing:
        raise CorruptFolderError(f"{result.folder} lacks {', '.join(missing)}.")


def keep_summary(result: Result) -> None:
    """Writes the child's summary beside `final/`, for an attempt that takes over."""
    (result.folder.parent / SUMMARY).write_text(json.dumps(result.summary))


@dataclass(frozen=True)
class Publication:
    """A result in its lasting place, ready for the one transaction that counts.

    Args:
        claim: Whose result.
        fields: What the record takes besides job and fence.
    """

    claim: Claim
    fields: dict[str, Any]

    def complete(self, session: Session) -> Completed:
        """Publishes it and ends the job.

        Raises:
            LostLease: When another attempt owns the job, or the user cancelled it.
            OutdatedError: When the dataset has got another version meanwhile.
        """
        job = (session, self.claim.job_id, self.claim.fence)
        if self.claim.kind == JobKind.INGEST:
            return attempt_store.complete_ingest(*job, **self.fields)
        if self.claim.kind == JobKind.FORECAST:
            return attempt_store.complete_forecast(*job, **self.fields)
        return attempt_store.complete_train(*job, **self.fields)

    @property
    def dataset_path(self) -> str | None:
        """The folder of the dataset version, below shared storage."""
        return self.fields.get("rel_path")


def publish(
    claim: Claim, storage: Storage, result: Result, *, forecasts: bool = False
) -> Publication:
    """Puts the files of `result` where they stay.

    Args:
        claim: Whose result.
        storage: Shared storage.
        result: What the child made.
        forecasts: Whether a new dataset version shall be forecast.

    Raises:
        OSError: When they cannot be copied; the result itself is untouched.
    """
    if claim.kind == JobKind.INGEST:
        return _publish_dataset(claim, storage, result, forecasts=forecasts)
    if claim.kind == JobKind.FORECAST:
        return _publish_forecast(claim, storage, result)
    return _publish_model(claim, storage, result)


def changes_a_version(claim: Claim) -> bool:
    """Whether an ingest job changes what the dataset holds, not only brings its own."""
    sources = claim.spec.get("sources", [])
    return "mode" in claim.spec or any(one.get("type") == VERSION for one in sources)


def remove_uploads(claim: Claim, storage: Storage) -> None:
    """Removes the raw uploads that a published dataset version was read from."""
    uploads = storage.root / "uploads"
    for source in claim.spec.get("sources", []):
        path = storage.root / source["path"]  # which may be absolute already
        if path.is_relative_to(uploads) and path.parent != uploads:
            remove_tree(uploads / path.relative_to(uploads).parts[0])


def _publish_model(claim: Claim, storage: Storage, result: Result) -> Publication:
    files: dict[str, dict[str, Any]] = {}
    for path in sorted(result.folder.iterdir()):
        if path.is_file() and path.name != MANIFEST:
            sha256, size_bytes = storage.publish_artifact(path)
            files[path.name] = {"sha256": sha256, "bytes": size_bytes}
    evaluation = json.loads((result.folder / EVALUATION).read_text())
    fields = {
        "artifact_sha": files[ARCHIVE]["sha256"],
        "artifact_bytes": files[ARCHIVE]["bytes"],
        "files": files,
        "evaluation": evaluation,
        "result": result.summary or _summarise(evaluation),
    }
    return Publication(claim, fields)


def _publish_dataset(
    claim: Claim, storage: Storage, result: Result, *, forecasts: bool
) -> Publication:
    target = _rename(claim, storage, result)
    report = json.loads((target / REPORT).read_text())
    fields = {
        "rel_path": storage.relative(target),
        "fingerprint": report["fingerprint"],
        "images": report["images"],
        "size_bytes": report["size_bytes"],
        "report": _shorten(report),
        "forecasts": forecasts,
        **_read_changes(claim, target),
    }
    return Publication(claim, fields)


def _publish_forecast(claim: Claim, storage: Storage, result: Result) -> Publication:
    target = _rename(claim, storage, result)
    # Python writes and reads NaN and infinity; PostgreSQL takes neither for JSON.
    forecast = json.loads(
        (target / FORECAST).read_text(), parse_constant=lambda _name: None
    )
    fields = {
        "rel_path": storage.relative(target),
        "summary": _shorten_all(forecast),
        "result": result.summary,
    }
    return Publication(claim, fields)


def _read_changes(claim: Claim, folder: Path) -> dict[str, Any]:
    """What the record is told of the version that this one was made from."""
    if not changes_a_version(claim):
        return {}
    try:
        diff = json.loads((folder / DIFF).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {"made_from": 0}
    number = diff["parent"]["version"]
    changes = {
        "parent_version": number,
        "counts": diff["counts"],
        "sentences": diff["sentences"],
    }
    return {"made_from": number, "changes": changes}


def _rename(claim: Claim, storage: Storage, result: Result) -> Path:
    """Returns the folder in its lasting place, where it may have been put before."""
    target = _published_folder(claim, storage, result.fence)
    if result.folder != target:
        publish_folder(result.folder, target)
    return target


def _published_folder(claim: Claim, storage: Storage, fence: int) -> Path:
    """Where a dataset version or a forecast stays: named by what made it, never twice.

    A version's number is given only inside the transaction that publishes it.
    """
    dataset_id, name = claim.dataset_id or 0, f"{claim.job_id}-{fence}"
    if claim.kind == JobKind.FORECAST:
        return storage.forecast(dataset_id, name)
    return storage.dataset_version(dataset_id, name)


def _shorten(report: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value[:MOST_LISTED]
        if isinstance(value, list) and key != "classes"
        else value
        for key, value in report.items()
    }


def _shorten_all(value: Any) -> Any:
    """Cuts the lists in a document, however deep, but for its classes."""
    if isinstance(value, dict):
        return {
            key: inner if key == "classes" else _shorten_all(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [_shorten_all(inner) for inner in value[:MOST_LISTED]]
    return value


def _summarise(evaluation: dict[str, Any]) -> dict[str, Any]:
    kept = ("accuracy", "interval", "loss", "images", "seconds")
    return {key: evaluation[key] for key in kept if key in evaluation}


def _read_summary(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder.parent / SUMMARY).read_text())
    except (OSError, ValueError):
        return {}


def _patience(claim: Claim, result: Result) -> float:
    """Another host's files may take a while to show; our own child's may not."""
    return 0.0 if result.fence == claim.fence else APPEAR_SECONDS
