"""The table of messy files says what ingest does with every one of them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.worker.processes import ROOT

DATA = ROOT.parent / "shared" / "data" / "messy"
PAGE = ROOT / "docs" / "messy-files.md"
ROW = re.compile(r"\| `(?P<file>[^`]+)` \| (?P<outcome>[^|]+) \| (?P<sentence>.+) \|")


@pytest.fixture(scope="module")
def table():
    rows = (ROW.fullmatch(line) for line in PAGE.read_text().splitlines())
    return {row["file"]: row for row in rows if row}


def test_every_row_has_an_outcome_and_a_whole_sentence(table):
    assert len(table) > 250
    for row in table.values():
        assert re.match(
            r"used as it is|rewritten|left out|kept once|pictures used", row["outcome"]
        )
        assert row["sentence"].endswith("."), row["sentence"]


def test_a_file_that_is_left_out_is_left_out_for_a_reason(table):
    sentences = [row["sentence"] for row in table.values()]

    for sentence in sentences:
        assert "Error" not in sentence
        assert "object at 0x" not in sentence
        assert "None" not in sentence


def test_the_page_names_no_place_of_a_machine():
    assert not re.search(
        r"(?<![\w.])/(tmp|work|home|root|var)/(?!evil)", PAGE.read_text()
    )


@pytest.mark.skipif(not DATA.is_dir(), reason="the messy files are not on this machine")
class TestAgainstTheFiles:
    """With the files at hand, the page is made anew and compared."""

    def test_every_file_has_a_row_and_every_row_a_file(self, table):
        files = {
            path.relative_to(DATA).as_posix()
            for path in DATA.rglob("*")
            if path.is_file()
        }

        assert set(table) == files

    @pytest.mark.timeout(900)  # ten ingests of files that take their time
    def test_ingest_does_what_the_page_says(self):
        script = Path("benchmarks", "messy_files.py")

        done = subprocess.run(
            [sys.executable, "-P", script, "--data", DATA, "--check"],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )

        assert done.returncode == 0, done.stdout + done.stderr
