"""Versions made of others: how SPEC.json asks for them, and what they tell."""

import json

import pyarrow.parquet as pq


def version(parent, number=1):
    return {
        "type": "version", "path": str(parent.final), "name": f"version {number}",
        "version": number,
    }  # fmt: skip


def edit(action, *images, **more):
    return {"action": action, "images": list(images), **more}


def aside(ingest):
    rows = pq.read_table(ingest.final / "quarantine.parquet").to_pylist()
    return {row["source_name"]: row for row in rows}


def diff(ingest):
    return json.loads((ingest.final / "diff.json").read_text(encoding="utf-8"))


def counts(ingest):
    return {kind: n for kind, n in diff(ingest)["counts"].items() if n}


def skipped(ingest):
    return {skip["file"]: skip for skip in ingest.report()["skipped"]}


def shas(ingest, *names):
    rows = ingest.rows()
    return [rows[name]["sha256"] for name in names]
