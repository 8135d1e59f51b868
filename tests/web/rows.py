"""Rows and files for the tests of the web, made through the real stores."""

import hashlib
import io
import json
import random
import uuid
import zipfile

from PIL import Image

from shared import (
    attempt_progress_store,
    attempt_result_store,
    attempt_store,
    dataset_store,
    forecast_store,
    job_store,
    model_store,
    user_store,
    worker_store,
)
from shared.attempt_progress_store import MetricPoint
from shared.notifications import receiver_store
from shared.notifications.delivery_store import Answer, list_due, record_try, take
from shared.notifications.event_store import Channel, EventKind, announce_test
from shared.presets import build_training_spec
from tests.web.forecast_example import make_forecast, write_forecast
from tests.web.report_example import make_diff, make_report

PASSWORD = "a long enough phrase"
LEASE_MS = 3_600_000


class Rows:
    """Makes users, datasets, jobs and models in one installation.

    Args:
        database: Migrated.
        storage: Where the files go.
    """

    def __init__(self, database, storage):
        self.database = database
        self.storage = storage

    def user(self, email="ana@example.org", role="member", password_hash=None):
        """A user; without a hash nobody can sign in as them."""
        with self.database.transaction() as s:
            return user_store.create_user(
                s, email=email, role=role, password_hash=password_hash
            ).id

    def token(self, user_id):
        """The text of a new API token."""
        with self.database.transaction() as s:
            return user_store.create_token(s, user_id, "test")

    def worker(self, name="host cpu", kinds=("train",), queues=("default",), **more):
        """A worker that was seen just now."""
        with self.database.transaction() as s:
            return worker_store.register(
                s, name=name, host="host", slot="cpu", kinds=list(kinds),
                queues=list(queues),
                **{"facts": {"cores": 2, "memory": "4 GiB"}, **more},
            )  # fmt: skip

    def receiver(self, owner_id, address, tries=(503, 200)):
        """A webhook to which two events were sent; one of them waits for its next try.

        Returns its number. Make it before other receivers and their events.
        """
        with self.database.transaction() as s:
            receiver = receiver_store.add(
                s, owner_id=owner_id, channel=Channel.WEBHOOK, address=address,
                kinds=[EventKind.FINISHED], everyones=False,
            )  # fmt: skip
            announce_test(s, receiver)
        for status in tries:
            with self.database.transaction() as s:
                (due,) = take(s, list_due(s, Channel.WEBHOOK, 1), 0)
                record_try(s, due, Answer(status == 200, "told", status, 12), 0)
        with self.database.transaction() as s:
            announce_test(s, receiver)
            (due,) = take(s, list_due(s, Channel.WEBHOOK, 1), 0)
            record_try(s, due, Answer(False, "Service unavailable", 503, 9), 600)
        return receiver.id

    def reading(self, owner_id, name="cells"):
        """A dataset whose ingest waits; returns (dataset, job)."""
        with self.database.transaction() as s:
            dataset = dataset_store.create_dataset(s, name=name, owner_id=owner_id)
            job = job_store.submit(
                s, owner_id=owner_id, kind="ingest", title=name,
                spec={"sources": []}, idempotency_key=uuid.uuid4().hex,
                dataset_id=dataset.id,
            )  # fmt: skip
        return dataset.id, job.job_id

    def dataset(self, owner_id, name="cells", classes=("intact", "defective"), **more):
        """A dataset with one version; returns its id."""
        dataset_id, job_id = self.reading(owner_id, name)
        claim = self.claim("ingest", job_id)
        report = make_report(classes, **more)
        rel_path = f"datasets/{dataset_id}/1"
        self._write_version(rel_path, report)
        with self.database.transaction() as s:
            attempt_result_store.complete_ingest(
                s, job_id, claim.fence, rel_path=rel_path,
                fingerprint=hashlib.sha256(name.encode()).hexdigest(),
                images=report["images"], size_bytes=report["size_bytes"], report=report,
            )  # fmt: skip
        return dataset_id

    def forecast(self, owner_id, dataset_id, findings=None, **changes):
        """A forecast of a dataset's newest version; returns the job that made it."""
        forecast = make_forecast(**changes)
        with self.database.transaction() as s:
            version = dataset_store.latest_version(s, dataset_id)
            asked = forecast_store.ask(s, version.id, owner_id=owner_id, again=True)
        claim = self.claim("forecast", asked.job_id)
        rel_path = f"datasets/{dataset_id}/forecasts/{asked.job_id}-{claim.fence}"
        write_forecast(self.storage.resolve(rel_path), forecast, findings)
        with self.database.transaction() as s:
            attempt_result_store.complete_forecast(
                s, asked.job_id, claim.fence, rel_path=rel_path, summary=forecast,
                result={},
            )  # fmt: skip
        return asked.job_id

    def version(self, owner_id, dataset_id, name="cells", **told):
        """Another version of a dataset, made from its newest; returns its number."""
        with self.database.transaction() as s:
            job_id = job_store.submit(
                s, owner_id=owner_id, kind="ingest", title=name,
                spec={"sources": [], "mode": "add"}, dataset_id=dataset_id,
                idempotency_key=uuid.uuid4().hex,
            ).job_id  # fmt: skip
        return self.finish(job_id, dataset_id, **told)

    def finish(self, job_id, dataset_id, **told):
        """Lets a queued ingest make the next version; returns its number."""
        with self.database.transaction() as s:
            number = dataset_store.latest_version(s, dataset_id).version
        claim = self.claim("ingest", job_id)
        report, diff = make_report(("intact", "defective")), make_diff(number) | told
        rel_path = f"datasets/{dataset_id}/{number + 1}"
        self._write_version(rel_path, report)
        (self.storage.resolve(rel_path) / "diff.json").write_text(json.dumps(diff))
        changes = {"parent_version": number, "counts": diff["counts"]}
        with self.database.transaction() as s:
            return attempt_result_store.complete_ingest(
                s, job_id, claim.fence, rel_path=rel_path, images=report["images"],
                fingerprint=hashlib.sha256(rel_path.encode()).hexdigest(),
                size_bytes=report["size_bytes"], report=report, made_from=number,
                changes=changes | {"sentences": diff["sentences"]},
            ).version  # fmt: skip

    def job(  # noqa: PLR0917 - of whom, on what, called what
        self,
        owner_id,
        dataset_id,
        title="cells",
        group_key=None,
        model=None,
        preset="fast",
        **overrides,
    ):
        """A queued training job; returns its id."""
        with self.database.transaction() as s:
            version = dataset_store.latest_version(s, dataset_id)
            found = model_store.find_or_create_model(s, model or title, owner_id)
            training = build_training_spec(preset, overrides)
            spec = {
                "training": training.model_dump(mode="json"),
                "preset": preset,
                "model_name": found.name,
            }
            return job_store.submit(
                s, owner_id=owner_id, kind="train", title=title, spec=spec,
                idempotency_key=uuid.uuid4().hex, dataset_id=dataset_id,
                dataset_version_id=version.id, model_id=found.id, group_key=group_key,
            ).job_id  # fmt: skip

    def claim(self, kind, job_id):
        """Claims until `job_id` is ours; it is the only eligible one in tests."""
        with self.database.transaction() as s:
            worker_id = worker_store.register(
                s, name=f"claimer {kind}", host="host", slot="cpu", kinds=[kind],
                queues=["default"],
            )  # fmt: skip
            claim = attempt_store.claim(
                s, attempt_uuid=uuid.uuid4().hex, worker_id=worker_id, host="host",
                slot="cpu", kinds=[kind], queues=["default"], gpu_mem_mb=0,
                lease_ms=LEASE_MS,
            )  # fmt: skip
        assert claim is not None
        assert claim.job_id == job_id
        return claim

    def run(self, job_id, epochs=6, phase="frozen"):
        """Claims a training job and lets it report; returns the claim."""
        claim = self.claim("train", job_id)
        key = (job_id, claim.fence)
        with self.database.transaction() as s:
            attempt_progress_store.record_progress(
                s, *key, phase=phase, done=epochs, total=40, unit="epochs",
                eta_seconds=83,
            )  # fmt: skip
            attempt_progress_store.add_metrics(s, *key, make_points(epochs))
            for epoch in range(1, epochs + 1, 2):
                attempt_progress_store.register_checkpoint(
                    s, *key, step=epoch * 20, kind="periodic",
                    rel_path=f"jobs/{job_id}/attempts/x/ckpt/{epoch}",
                    manifest_sha="0" * 64, size_bytes=3_000_000, metric=1 / epoch,
                )  # fmt: skip
            attempt_progress_store.add_note(
                s, *key, "info", "Features were computed with ONNX Runtime."
            )
        return claim

    def publish(self, job_id, classes=("intact", "defective"), content=None, **told):
        """Runs a job to its published version; returns (sha, bytes).

        `epochs` decide its curve, `accuracy` is that of its evaluation.
        """
        claim = self.run(job_id, told.pop("epochs", 6))
        file = self.storage.root / f"made-{job_id}.zip"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content or make_archive(job_id))
        sha, size_bytes = self.storage.publish_artifact(file)
        file.unlink()
        evaluation = make_evaluation(classes) | told
        with self.database.transaction() as s:
            attempt_result_store.complete_train(
                s, job_id, claim.fence, artifact_sha=sha, artifact_bytes=size_bytes,
                files={"saved_model.zip": {"sha256": sha, "bytes": size_bytes}},
                evaluation=evaluation,
                result={
                    name: evaluation[name]
                    for name in ("accuracy", "interval", "loss", "images")
                },
            )  # fmt: skip
        return sha, size_bytes

    def fail(self, job_id, kind="train", reason="The dataset has only one class."):
        """Claims a job and ends it as failed."""
        claim = self.claim(kind, job_id)
        with self.database.transaction() as s:
            attempt_store.end(
                s, job_id, claim.fence, outcome="failed", charge=True, permanent=True,
                reason=reason, failure_code="bad_data", exit_code=64,
            )  # fmt: skip

    def _write_version(self, rel_path, report):
        folder = self.storage.resolve(rel_path)
        (folder / "thumbnails").mkdir(parents=True)
        (folder / "report.json").write_text(json.dumps(report))
        draw = random.Random(0)
        for sample in report["samples"]:
            colour = tuple(draw.randrange(40, 220) for _ in range(3))
            Image.new("RGB", (96, 96), colour).save(folder / sample["path"])


def make_told(ready, *, download=False, folder="/srv/trainyard/weights"):
    """What a training worker tells of its base models."""
    return {
        "ready": ready,
        "folders": [folder, "/home/trainyard/.keras/models"],
        "download": download,
    }


def make_points(epochs):
    """Learning curves of `epochs` epochs, as a supervisor hands them over."""
    points = []
    for epoch in range(1, epochs + 1):
        values = {
            "loss": 0.7 / epoch + 0.1,
            "accuracy": 1 - 0.4 / epoch,
            "val_loss": 0.75 / epoch + 0.16,
            "val_accuracy": 1 - 0.45 / epoch,
            "learning_rate": 1e-3,
            "waited_seconds": 0.2,
            "spent_seconds": 14.2,
        }
        phase = "frozen" if epoch <= max(1, epochs * 2 // 3) else "fine_tune"
        points += [
            MetricPoint(
                name=n, seq=epoch, step=epoch * 20, epoch=epoch, phase=phase, value=v
            )
            for n, v in values.items()
        ]
    return points


def make_evaluation(classes):
    """An evaluation as the trainer writes it."""
    n = len(classes)
    confusion = [[17 if i == j else (i + j) % 3 for j in range(n)] for i in range(n)]
    images = sum(map(sum, confusion))
    right = sum(confusion[i][i] for i in range(n))
    return {
        "classes": list(classes),
        "images": images,
        "accuracy": right / images,
        "interval": [right / images - 0.05, min(1.0, right / images + 0.04)],
        "loss": 0.31,
        "per_class": [
            {"label": c, "precision": 0.9, "recall": 0.88, "f1": 0.89, "images": 20}
            for c in classes
        ],
        "confusion": confusion,
        "calibration": {"ece": 0.031, "bins": []},
        "baseline_majority": 0.54,
        "parity": {
            "pixels_max_abs_diff": 3e-7,
            "serving_labels_equal": True,
            "golden_images": 8,
        },
    }


def make_archive(seed=0, files=3):
    """A zip with one folder per class, as bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for label in ("intact", "defective"):
            for i in range(files):
                picture = io.BytesIO()
                Image.new("RGB", (8, 8), (i, len(label), seed % 256)).save(
                    picture, "PNG"
                )
                name = zipfile.ZipInfo(
                    f"{label}/{i}.png"
                )  # of one date, whatever the day
                archive.writestr(name, picture.getvalue())
    return content.getvalue()
