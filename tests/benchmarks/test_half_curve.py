import json
import subprocess
import sys

import pytest

from tests.worker.processes import ROOT
from tests.worker.training.pictures import write_pictures

CODE = """
import json, sys
from pathlib import Path
from benchmarks.half_curve import measure_half
root = Path(sys.argv[1])
print(json.dumps(measure_half(root / "pictures", root / "caches")))
"""


@pytest.mark.xdist_group("insight")
def test_standard_output_is_for_the_figures_alone(tmp_path):
    write_pictures(tmp_path / "pictures", classes=3, each=20)

    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert 0 <= told["interval"][0] <= told["reached"] <= 1
    assert told["error_points"] >= 0
