"""The rules of the layout hold: who imports whom, and where SQL may stand."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from worker.programs import COMMANDS, SELF_TESTS, STANDBYS

ROOT = Path(__file__).resolve().parents[1]
STATEMENTS = {"select", "insert", "update", "delete", "text"}


def list_sources(*folders):
    return [path for folder in folders for path in (ROOT / folder).rglob("*.py")]


def test_imports_flow_one_way():
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]

    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stdout


PROGRAMS = [
    command[-1]
    for commands in (COMMANDS, STANDBYS, SELF_TESTS)
    for command in commands.values()
]


@pytest.mark.parametrize("module", [*PROGRAMS, "worker.insight.timed_steps"])
def test_a_program_sets_what_frameworks_read_before_it_imports_them(module):
    """Kernels are chosen at the import: afterwards nobody asks the environment."""
    told = subprocess.run(
        [sys.executable, "-c", f"import sys, {module}; print(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert not {"keras", "tensorflow", "jax"} & set(told.stdout.split())


def test_sql_stands_in_stores_alone():
    at_home = {"database.py", "sql_dialect.py", "tables.py"}
    strays = [
        str(path.relative_to(ROOT))
        for path in list_sources("shared", "web", "worker", "cli")
        if _makes_statements(path)
        and "migrations" not in path.parts
        and not (_lies_in_shared(path) and path.stem.endswith("_store"))
        and path.name not in at_home
    ]

    assert strays == []


def _lies_in_shared(path):
    return path.relative_to(ROOT).parts[0] == "shared"


def _makes_statements(path):
    return any(
        isinstance(node, ast.ImportFrom)
        and node.module == "sqlalchemy"
        and any(alias.name in STATEMENTS for alias in node.names)
        for node in ast.walk(ast.parse(path.read_text()))
    )


def test_no_file_is_called_after_nothing_in_particular():
    vague = {"utils", "util", "helpers", "helper", "manager", "common", "misc"}

    found = list_sources("shared", "web", "worker", "cli")

    assert [str(path) for path in found if path.stem in vague] == []
