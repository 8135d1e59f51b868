"""The migrations and the tables say the same, on both databases."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, text

from shared import worker_store
from shared.database import Database, migrate
from shared.migrations import upgrade
from shared.tables import Base


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request, tmp_path):
    """Address of a database in which there is nothing at all."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/empty.sqlite"
        return
    postgres = request.getfixturevalue("postgres")
    name = postgres.create_database()
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.mark.filterwarnings("ignore:autogenerate skipping")  # the test below sees it
def test_the_migrated_schema_is_the_tables_of_the_code(database):
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_every_constraint_and_index_of_the_code_is_migrated(database, empty_url):
    engine = create_engine(empty_url)
    Base.metadata.create_all(engine)
    if database.dialect != Database(empty_url).dialect:
        return  # the other parameter compares like with like

    assert describe(engine) == describe(database.engine)


def describe(engine):
    """Names of everything in a schema that a name can be given to."""
    found = inspect(engine)
    return {
        table: {
            "indexes": sorted(str(i["name"]) for i in found.get_indexes(table)),
            "unique": sorted(
                str(c["name"]) for c in found.get_unique_constraints(table)
            ),
            "checks": sorted(
                str(c["name"]) for c in found.get_check_constraints(table)
            ),
            "foreign": sorted(str(f["name"]) for f in found.get_foreign_keys(table)),
            "columns": [
                (c["name"], str(c["type"]), c["nullable"])
                for c in found.get_columns(table)
            ],
        }
        for table in found.get_table_names()
        if table != "alembic_version"
    }


def test_two_processes_may_migrate_at_once(empty_url):
    with ThreadPoolExecutor(2) as pool:
        list(
            pool.map(
                lambda _: subprocess.run(
                    [sys.executable, "-m", "shared.migrations"],
                    check=True,
                    capture_output=True,
                    cwd=Path(__file__).parents[2],
                    env={"TRAINYARD_DATABASE_URL": empty_url},
                ),
                range(2),
            )
        )

    assert "jobs" in inspect(create_engine(empty_url)).get_table_names()


def test_workers_of_the_first_release_are_kept(empty_url):
    database = Database(empty_url)
    upgrade(database, "0001")
    with database.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO workers (name, host, slot, kinds, queues, gpu_mem_mb, "
                "boot_id, pid, hb, seen_at, status, facts) VALUES ('host/cpu', 'host', "
                "'cpu', '[\"train\"]', '[]', 0, '', 1, 0, 1, 'active', '{}')"
            )
        )
    upgrade(database)

    with database.reading() as session:
        (worker,) = worker_store.list_workers(session)
    database.dispose()
    assert (worker.name, worker.base_models) == ("host/cpu", None)


def test_migrating_again_changes_nothing(database_url):
    migrate(database_url)
