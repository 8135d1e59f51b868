"""From the doctor's page to the next version: what is decided is what is made."""

import json
import shutil

import pyarrow.parquet as pq

from shared import attempt_result_store, dataset_store
from tests.web.findings.decided import list_ingests
from tests.web.forecast_example import make_findings
from tests.worker.ingest.ingest_process import run
from tests.worker.ingest.uploads import class_folders, png, write_zip

UPLOAD = {
    **class_folders(each=20),
    "cat/both.png": png(777),
    "dog/both too.png": png(777),
}


def publish(rows, job_id, dataset_id, made, **more):
    """Makes what an ingest child has written a version of the dataset."""
    claim = rows.claim("ingest", job_id)
    rel_path = f"datasets/{dataset_id}/{job_id}"
    shutil.copytree(made.final, rows.storage.resolve(rel_path))
    report = made.report()
    with rows.database.transaction() as s:
        attempt_result_store.complete_ingest(
            s, job_id, claim.fence, rel_path=rel_path,
            fingerprint=report["fingerprint"], images=report["images"], size_bytes=1,
            report=report, **more,
        )  # fmt: skip


def read_table(ingest, name):
    return pq.read_table(ingest.final / name).to_pylist()


def make_rows(made):
    """Findings about real pictures: a doubtful label, two odd ones, the conflict."""
    used = read_table(made, "manifest.parquet")
    cats = [row for row in used if row["label"] == "cat"]
    (aside,) = read_table(made, "quarantine.parquet")
    kinds = ("label_conflict", "suspect_label", "outlier", "blurred")
    found = make_findings(("cat", "dog"), dict.fromkeys(kinds, 1))
    for finding, picture in zip(found, [aside, *cats], strict=False):
        finding["images"] = [picture["sha256"]]
        finding["names"] = [picture["source_name"]]
    found[0]["labels"] = ["cat", "dog"]
    return found


def test_what_is_decided_becomes_a_version_with_a_diff(ana, rows, tmp_path):
    first = run(tmp_path / "1", write_zip(tmp_path / "pets.zip", UPLOAD))
    dataset, job_id = rows.reading(ana.user_id, "pets")
    publish(rows, job_id, dataset, first)
    found = make_rows(first)
    rows.forecast(ana.user_id, dataset, found)
    aside = found[0]["images"][0]
    (forecast,) = rows.storage.forecasts(dataset).iterdir()
    (forecast / "thumbnails" / f"{aside}.jpg").unlink()  # training never sees it
    conflict, suspect, outlier, blurred = (row["key"] for row in found)
    page = f"/datasets/{dataset}/findings"
    shown = ana.get(page).text
    assert f"versions/1/thumbnails/{aside}.jpg" in shown

    answer = ana.send(
        f"{page}/decide", page, version="1", key="k", chosen=suspect, action="relabel",
        **{
            f"do:{conflict}": "as:cat",
            f"do:{outlier}": "exclude",
            f"do:{blurred}": "quarantine",
        },
    )  # fmt: skip
    assert answer.status_code == 302
    (job,) = list_ingests(rows, dataset)
    parent = {
        "type": "version", "path": str(first.final), "name": "version 1", "version": 1,
    }  # fmt: skip
    second = run(tmp_path / "2", parent, mode=job.spec["mode"], edits=job.spec["edits"])

    diff = json.loads((second.final / "diff.json").read_text())
    assert {kind: n for kind, n in diff["counts"].items() if n} == {
        "removed": 1, "relabelled": 1, "quarantined": 1, "restored": 1,
    }  # fmt: skip
    (kept,) = read_table(second, "quarantine.parquet")
    assert (kept["sha256"], kept["reason"]) == (found[3]["images"][0], "Blurred")
    changes = {
        "parent_version": 1, "counts": diff["counts"], "sentences": diff["sentences"],
    }  # fmt: skip
    publish(rows, job.id, dataset, second, made_from=1, changes=changes)
    html = ana.get(f"/datasets/{dataset}").text
    assert "made from version 1" in html
    assert diff["sentences"][0] in html
    assert ana.get(f"{page}?version=1").status_code == 200
    with rows.database.reading() as s:
        versions = dataset_store.list_versions(s, dataset)
    assert [row.version for row in versions] == [2, 1]
    assert len(read_table(first, "manifest.parquet")) == versions[1].images
