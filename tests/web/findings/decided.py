"""What tests of findings ask for: keys and pictures, and what was decided."""

from shared import (
    attempt_result_store,
    dataset_store,
    finding_decision_store,
    job_read_store,
    job_store,
)
from shared.job_status import JobKind
from tests.web.forecast_example import digest_of


def key_of(kind, number=0):
    return digest_of(f"{kind} {number}")[:32]


def picture_of(kind, number=0, place=0):
    return digest_of(f"{kind}/{number:03d}-{place}.jpg")


def list_ingests(rows, dataset_id):
    """The ingest jobs that decisions have made, the newest first."""
    with rows.database.reading() as s:
        found = job_read_store.list_jobs(s, kind=JobKind.INGEST, dataset_id=dataset_id)
        return [job for job in found.items if "edits" in job.spec]


def list_edits(rows, dataset_id):
    """What the newest of them changes: (action, label, pictures)."""
    return [
        (edit["action"], edit["label"], edit["images"])
        for edit in list_ingests(rows, dataset_id)[0].spec["edits"]
    ]


def list_accepted(rows, dataset_id):
    with rows.database.reading() as s:
        return finding_decision_store.list_accepted(s, dataset_id)


def add_version(rows, owner_id, dataset_id):
    """Publishes one more version of a dataset."""
    with rows.database.transaction() as s:
        version = dataset_store.latest_version(s, dataset_id)
        job = job_store.submit(
            s, owner_id=owner_id, kind="ingest", title="cells", spec={"sources": []},
            idempotency_key=f"version of {dataset_id}", dataset_id=dataset_id,
        )  # fmt: skip
    claim = rows.claim("ingest", job.job_id)
    with rows.database.transaction() as s:
        attempt_result_store.complete_ingest(
            s, job.job_id, claim.fence, rel_path=version.rel_path, fingerprint="2" * 64,
            images=1, size_bytes=1, report=version.report,
        )  # fmt: skip


def suspects(*numbers):
    """The pictures of these doubtful labels."""
    return [picture_of("suspect_label", number) for number in numbers]
