"""A deleted model version gives back every byte that was its own."""

import os
import time

from shared.tables import Checkpoint


def test_the_attempt_s_own_copy_goes_with_the_version(api, ana, rows):
    ask = api(ana.user_id)
    dataset = rows.dataset(ana.user_id, "cells")
    answer = ask("POST", "/jobs", json={"datasets": [dataset]})
    job_id = answer.json["jobs"][0]["id"]
    rel_path = f"jobs/{job_id}/attempts/1-aaaaaaaa/final"
    final = rows.storage.resolve(rel_path)
    final.mkdir(parents=True)
    (final / "saved_model.zip").write_bytes(b"x" * 1000)
    sha, size_bytes = rows.publish(job_id)
    with rows.database.transaction() as session:
        job = {"job_id": job_id, "fence": 1, "lineage": 0, "step": 9}
        register_final(session, rel_path, **job)

    went = ask("DELETE", "/models/cells/versions/1")

    assert went.status_code == 200
    assert went.json["size_bytes"] == size_bytes + 1000
    assert not final.exists()
    assert not rows.storage.artifact(sha).exists()


def test_what_another_job_publishes_at_this_moment_stays(api, ana, rows):
    ask = api(ana.user_id)
    dataset = rows.dataset(ana.user_id, "cells")
    job_id = ask("POST", "/jobs", json={"datasets": [dataset]}).json["jobs"][0]["id"]
    sha, _ = rows.publish(job_id)
    artifact = rows.storage.artifact(sha)
    soon = time.time() + 60  # the other worker has found the file and refreshed it
    os.utime(artifact, (soon, soon))

    assert ask("DELETE", "/models/cells/versions/1").status_code == 200

    assert artifact.exists()


def register_final(session, rel_path, *, job_id, fence, lineage, step):
    session.add(
        Checkpoint(
            job_id=job_id,
            fence=fence,
            lineage=lineage,
            step=step,
            kind="final",
            rel_path=rel_path,
            manifest_sha="0" * 64,
            size_bytes=1000,
            created_at=0,
        )
    )
