"""A slice of the fault campaign, and the campaign's own machinery."""

import json
import random
import subprocess
import sys
from argparse import Namespace
from collections import Counter
from pathlib import Path

import pytest

from tests.chaos import mutants, report
from tests.chaos.campaign import gather
from tests.chaos.draw import draw_batches, draw_rows
from tests.chaos.matrix import ROWS
from tests.worker.processes import ROOT

# Seeded: these faults, in this order, on every machine. Rows that wait for watchdogs
# and clocks are left to whole campaigns.
SLICE_SEED = 20
SLICE_ROWS = (1, 2, 3, 4, 7, 9, 11, 13, 14, 16, 17, 20, 21, 23, 24, 25, 26, 28, 44, 45)
SLICE_SECONDS = 600


@pytest.mark.timeout(SLICE_SECONDS)
@pytest.mark.xdist_group("platform")
def test_a_slice_of_the_matrix_loses_doubles_and_violates_nothing(tmp_path):
    command = [sys.executable, "-m", "tests.chaos", "--json", "--no-mutants"]
    command += ["--faults", str(len(SLICE_ROWS)), "--seed", str(SLICE_SEED)]
    command += ["--engine", "toy", "--keep", str(tmp_path)]
    command += ["--rows", *map(str, SLICE_ROWS)]

    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.stdout, done.stderr[-3000:]
    outcome = json.loads(done.stdout)
    bad = ("lost", "doubled", "violations", "broken", "errors", "skipped")
    assert not any(outcome[name] for name in bad), {n: outcome[n] for n in bad}
    assert outcome["faults"] == len(SLICE_ROWS)
    assert outcome["archives"] >= outcome["faults"] / 2
    assert done.returncode == 0


def test_the_matrix_has_every_row():
    assert sorted(ROWS) == list(range(1, 47))


@pytest.mark.parametrize("count", [46, 50, 100, 500])
def test_any_46_faults_hold_every_row(count):
    for seed in range(20):
        drawn = Counter(
            row for batch in draw_batches(count, seed) for row, _ in batch.faults
        )

        assert sum(drawn.values()) == count
        assert set(drawn) == set(ROWS)
        assert max(drawn.values()) - min(drawn.values()) <= 1


def test_500_faults_hold_every_row_five_times_and_fifty_of_the_real_engine():
    for seed in range(50):
        batches = draw_batches(500, seed)
        drawn = Counter(row for batch in batches for row, _ in batch.faults)
        of_engine = sum(len(b.faults) for b in batches if b.engine == "keras")

        assert min(drawn.values()) >= 5
        assert of_engine >= 50


def test_a_seed_draws_the_same_faults_again():
    assert draw_batches(60, 7) == draw_batches(60, 7)
    assert draw_batches(60, 7) != draw_batches(60, 8)


def test_fewer_faults_draw_no_row_twice():
    drawn = draw_rows(30, random.Random(1))
    assert len(set(drawn)) == 30


def test_the_report_names_what_did_not_hold(tmp_path):
    fault = {
        "row": 46, "seed": 1, "kind": "postgres", "engine": "toy", "skipped": None,
        "broken": "29 steps were redone\nand more", "violations": [],
        "recovery_seconds": 2.5,
    }  # fmt: skip
    end = {"promised": 3, "archives": 2, "lost": [], "doubled": [], "violations": []}
    outcome = gather([fault, end], Namespace(seed=7, rows=None)) | {
        "seconds": 90,
        "mutants": {"slot: one at a time": {"rows": (3,), "caught_by": None}},
    }

    report.write(outcome, tmp_path / "report.md")

    text = (tmp_path / "report.md").read_text()
    assert "- row 46, toy trainer, postgres: 29 steps were redone\n" in text
    assert "| slot: one at a time | 3 | **not missed** |" in text
    assert "3 promises and downloaded 2 archives" in text
    assert "{{" not in text


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name)
def test_every_guard_is_where_its_mutant_looks_for_it(mutant, tmp_path):
    path = tmp_path / mutant.path
    path.parent.mkdir(parents=True)
    path.write_text((Path(ROOT) / mutant.path).read_text())

    mutants.mutate(tmp_path, mutant)

    compile(path.read_text(), mutant.path, "exec")
    assert set(mutant.rows) <= set(ROWS)
