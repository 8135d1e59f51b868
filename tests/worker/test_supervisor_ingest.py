"""Ingest jobs under the supervisor: published once, uploads removed."""

import json

import pytest

from shared import attempt_store
from shared.artifacts import PROOFS, SCRATCH, write_manifest
from shared.settings import Settings
from shared.tables import DatasetVersion


class TestIngest:
    @pytest.mark.parametrize("named", ["in full", "below shared storage"])
    def test_dataset_version_is_published_and_its_uploads_removed(self, shop, named):
        upload = shop.storage.upload("abc") / "photos.zip"
        upload.parent.mkdir(parents=True)
        upload.write_bytes(b"zip")
        path = upload if named == "in full" else upload.relative_to(shop.storage.root)
        source = {"type": "archive", "path": str(path), "name": "photos.zip"}
        job_id = shop.submit_ingest(sources=[source])
        claim = shop.run_one()

        job = shop.job(job_id)
        assert job.state == "succeeded"
        target = shop.storage.root / "datasets" / "1" / f"{job_id}-{claim.fence}"
        assert (target / "images" / "a.png").exists()
        assert not upload.parent.exists()
        with shop.database.reading() as session:
            row = session.get_one(DatasetVersion, job.dataset_version_id)
        assert shop.storage.resolve(row.rel_path) == target
        assert len(row.report["skipped"]) == 500
        assert row.report["classes"] == ["a", "b"]

    def test_folder_of_the_user_is_left_alone(self, shop, tmp_path):
        mine = tmp_path / "mine"
        mine.mkdir()
        shop.submit_ingest(sources=[{"type": "folder", "path": str(mine), "name": "x"}])
        shop.run_one()

        assert mine.exists()

    @pytest.mark.parametrize(
        ("allowed", "secrets"),
        [
            (["s3://pictures/"], ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]),
            (["https://data.example.org/"], []),
        ],
    )
    def test_child_is_told_what_it_may_fetch_and_no_key_it_needs_not(
        self, shop, monkeypatch, allowed, secrets
    ):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
            monkeypatch.setenv(name, "hidden")
        facts = shop.settings.model_dump()
        settings = Settings(**facts | {"source_addresses": allowed})
        source = {"type": "address", "address": f"{allowed[0]}a.zip", "name": "a.zip"}
        job_id = shop.submit_ingest(sources=[source])
        shop.run_one(settings=settings)

        job = shop.job(job_id)
        assert job.state == "succeeded"
        with shop.database.reading() as session:
            row = session.get_one(DatasetVersion, job.dataset_version_id)
        assert row.report["told"] == {
            "sources": [source],
            "addresses": {"allowed": allowed, "networks": [], "s3_endpoint": None},
            "secrets": secrets,
        }

    def test_renamed_folder_is_published_by_the_next_attempt(self, shop):
        job_id = shop.submit_ingest()
        first = shop.claim()
        target = shop.storage.root / "datasets" / "1" / f"{job_id}-{first.fence}"
        target.mkdir(parents=True)
        (target / "report.json").write_text(
            json.dumps({"fingerprint": "f", "images": 1, "size_bytes": 7})
        )
        sha = write_manifest(target, ["report.json"])
        with shop.database.transaction() as session:
            attempt_store.register_checkpoint(
                session, job_id, first.fence, step=0, kind="final",
                rel_path=shop.storage.relative(shop.folder(first) / "final"),
                manifest_sha=sha, size_bytes=7,
            )  # fmt: skip
            attempt_store.end(session, job_id, 1, outcome="lost", charge=False)
        second = shop.run_one()

        assert shop.job(job_id).state == "succeeded"
        assert not (shop.folder(second) / "spec.json").exists()

    def test_a_version_is_made_from_the_newest_one(self, shop):
        job_id = shop.submit_ingest(mode="add", edits=[{"action": "exclude"}])
        claim = shop.run_one()

        with shop.database.reading() as session:
            row = session.get_one(DatasetVersion, shop.job(job_id).dataset_version_id)
        assert (row.version, row.parent_id) == (2, 1)
        assert row.changes == {
            "parent_version": 1, "counts": {}, "sentences": ["made from version 1"],
        }  # fmt: skip
        assert shop.storage.resolve("datasets/1/1").exists()
        assert shop.attempts(job_id)[-1].fence == claim.fence

    def test_what_another_version_has_overtaken_is_made_again(self, shop):
        job_id = shop.submit_ingest(mode="add")
        first = shop.claim()
        final = shop.folder(first) / "final"
        final.mkdir(parents=True)
        (final / "report.json").write_text(
            json.dumps({"fingerprint": "f", "images": 1, "size_bytes": 7})
        )
        (final / "diff.json").write_text(
            json.dumps({"parent": {"version": 0}, "counts": {}, "sentences": []})
        )
        sha = write_manifest(final, ["report.json"])
        with shop.database.transaction() as session:
            attempt_store.register_checkpoint(
                session, job_id, first.fence, step=0, kind="final",
                rel_path=shop.storage.relative(final), manifest_sha=sha, size_bytes=7,
            )  # fmt: skip
            attempt_store.end(session, job_id, 1, outcome="lost", charge=False)
        shop.run_one()

        assert shop.job(job_id).state == "queued"
        assert shop.attempts(job_id)[-1].outcome == "outdated"
        assert [path.name for path in (shop.storage.dataset(1)).iterdir()] == ["1"]
        shop.run_one()
        with shop.database.reading() as session:
            row = session.get_one(DatasetVersion, shop.job(job_id).dataset_version_id)
        assert (row.version, row.parent_id) == (2, 1)


def leave_workings(folder):
    """What an ingest that was killed leaves."""
    for name in (SCRATCH, ".tmp-final-1", PROOFS):
        (folder / name).mkdir(parents=True)
        (folder / name / "file").write_bytes(b"x")


class TestResume:
    def lose(self, shop, job_id):
        """An attempt whose host died; returns its folder."""
        claim = shop.claim()
        folder = shop.folder(claim)
        leave_workings(folder)
        with shop.database.transaction() as session:
            attempt_store.end(
                session, job_id, claim.fence, outcome="lost", charge=False
            )
        return folder

    def test_child_is_told_where_earlier_attempts_left_their_proofs(self, shop):
        job_id = shop.submit_ingest()
        folders = [self.lose(shop, job_id) for _ in range(2)]
        with_none = shop.claim()
        shop.folder(with_none).mkdir(parents=True)
        with shop.database.transaction() as session:
            attempt_store.end(
                session, job_id, with_none.fence, outcome="lost", charge=False
            )
        last = shop.run_one()

        spec = json.loads((shop.folder(last) / "spec.json").read_text())
        assert spec["earlier"] == [str(folder) for folder in reversed(folders)]
        assert all((folder / PROOFS / "file").exists() for folder in folders)

    def test_other_jobs_are_not_looked_at(self, shop):
        self.lose(shop, shop.submit_ingest())
        shop.submit_ingest()
        claims = [shop.run_one(), shop.run_one()]

        specs = [
            json.loads((shop.folder(claim) / "spec.json").read_text())
            for claim in claims
        ]
        assert [len(spec["earlier"]) for spec in specs] == [1, 0]

    def test_a_stopped_attempt_keeps_its_proofs_and_gives_back_the_rest(self, shop):
        shop.submit_ingest(sources=[source("stop")])
        claim = shop.run_one()

        kept = {path.name for path in shop.folder(claim).iterdir()}
        assert PROOFS in kept
        assert not kept & {SCRATCH, ".tmp-final-1"}

    @pytest.mark.parametrize("end", ["refuse", "fine"])
    def test_a_job_that_is_over_leaves_nothing_behind(self, shop, end):
        shop.submit_ingest(sources=[source(end)])
        claim = shop.run_one()

        kept = {path.name for path in shop.folder(claim).iterdir()}
        assert not kept & {PROOFS, SCRATCH, ".tmp-final-1"}


def source(name):
    return {"type": "archive", "path": "nowhere", "name": name}
