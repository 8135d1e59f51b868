"""A worker killed at any line of publication publishes once, and trains no more."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import func, select

from shared import reconcile_store
from shared.artifacts import Storage
from shared.database import Database
from shared.forecast_tables import Forecast
from shared.tables import DatasetVersion, ModelVersion
from tests.worker.processes import ROOT
from tests.worker.workshop import Workshop

TABLES = {"train": ModelVersion, "ingest": DatasetVersion, "forecast": Forecast}
FEWEST_LINES = 30  # fewer, and the tracer looks at something else than it should


@pytest.fixture
def database(sqlite_url):
    database = Database(sqlite_url)
    yield database
    database.dispose()


@pytest.fixture
def folder(database):
    """The data folder, beside the database: in memory, where waits for disks are."""
    return Path(database.url.database).parent / "data"


@pytest.fixture
def die_everywhere(database, sqlite_url, folder):
    """What each line's death left and led to; see `dying_publisher`."""
    Workshop(database, folder)
    database.dispose()

    def run(kind):
        answer = subprocess.run(
            [
                *(sys.executable, "-m", "tests.worker.dying_publisher"),
                *(sqlite_url, str(folder), kind),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == 0, answer.stderr[-3000:]
        lines = [line for line in answer.stdout.splitlines() if line.startswith("{")]
        return [json.loads(line) for line in lines]

    return run


@pytest.mark.parametrize("kind", ["train", "ingest", "forecast"])
def test_kill_at_any_line_of_publication_publishes_once(
    database, folder, die_everywhere, kind
):
    deaths = die_everywhere(kind)

    assert len(deaths) > FEWEST_LINES
    assert {death["state"] for death in deaths} == {"succeeded"}
    assert {death["left"] for death in deaths} == {"running", "succeeded"}
    # What is known to be finished is never computed again.
    assert [d for d in deaths if d["made_again"] and d["known"]] == []
    assert {d["attempts"] for d in deaths if d["left"] == "succeeded"} == {1}
    with database.reading() as session:
        assert reconcile_store.find_violations(session) == []
    check_versions(database, Storage(folder / "storage"), kind, len(deaths) + 2)


def check_versions(database, storage, kind, expected):
    """Every job has one version, and every version its files."""
    table = TABLES[kind]
    with database.reading() as session:
        rows = session.scalars(select(table).where(table.job_id > 0)).all()
        per_job = session.scalars(
            select(func.count()).where(table.job_id > 0).group_by(table.job_id)
        ).all()
    assert len(rows) == expected
    assert set(per_job) == {1}
    for row in rows:
        if kind == "train":
            assert storage.artifact(row.artifact_sha).exists()
        elif kind == "ingest":
            assert (storage.resolve(row.rel_path) / "report.json").exists()
        else:
            assert (storage.resolve(row.rel_path) / "findings.parquet").exists()
