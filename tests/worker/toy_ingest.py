"""An ingest that ingests nothing: the real events and files, and faults on request."""

import json
import os
import signal
import sys
from pathlib import Path

from shared.artifacts import write_manifest
from worker import events


def main():
    events.take_over_stdout()
    spec_path, workdir = map(Path, sys.argv[1:])
    spec = json.loads(spec_path.read_text())
    events.phase("unpack")
    wishes = {source["name"] for source in spec["sources"]}
    if wishes & {"stop", "refuse", "fine"}:
        for name in ("scratch", ".tmp-final-1", "proofs"):
            (workdir / name).mkdir()
    if "stop" in wishes:
        return 75
    if "refuse" in wishes:
        events.emit("failed", code="rejected", message="No dataset.", permanent=True)
        return 64
    final = workdir / "final"
    final.mkdir()
    told = {
        "sources": spec["sources"],
        "addresses": spec["addresses"],
        "secrets": sorted(name for name in os.environ if name.startswith("AWS_")),
    }
    sha = write_result(final, spec, told=told)
    events.emit(
        "finished", path=str(final), manifest_sha=sha, bytes=7, step=0,
        summary={"images": 1},
    )  # fmt: skip
    if "kill" in wishes:
        os.kill(os.getpid(), signal.SIGKILL)
    return 0


def write_result(final, spec, **more):
    """Writes what an ingest leaves, and returns the digest of its manifest."""
    (final / "images").mkdir()
    (final / "images" / "a.png").write_bytes(b"picture")
    report = {
        "fingerprint": "f" * 64, "classes": ["a", "b"], "images": 1, "size_bytes": 7,
        "counts": {}, "skipped": [{"file": str(n)} for n in range(1000)],
        "skipped_total": 1000, **more,
    }  # fmt: skip
    (final / "report.json").write_text(json.dumps(report))
    (final / "manifest.parquet").write_bytes(b"table")
    for source in spec["sources"]:
        if source["type"] == "version":
            diff = {"parent": {"version": source["version"]}, "counts": {}}
            diff["sentences"] = [f"made from {source['name']}"]
            (final / "diff.json").write_text(json.dumps(diff))
    return write_manifest(final, ["report.json", "manifest.parquet"])


if __name__ == "__main__":
    sys.exit(main())
