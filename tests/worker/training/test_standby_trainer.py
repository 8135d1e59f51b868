"""The trainer that stood by does what one that was started with its job does."""

import subprocess
import sys

import pytest

from shared.settings import Settings
from tests.worker.processes import ROOT, wait_until
from tests.worker.training.engine_process import (
    newest_checkpoint,
    read_arrays,
    read_result,
    run_to_end,
    write_spec,
)
from tests.worker.training.pictures import write_pictures
from worker import slots
from worker.programs import STANDBYS, build_environment
from worker.slots import Slot
from worker.standby import Standby

pytestmark = pytest.mark.timeout(300)

CPU = Slot("cpu", ("train",))
TRAINING = {
    "base_model": "MobileNet-0.25",
    "weights": None,
    "image_size_px": 32,
    "batch_size": 4,
    "head": {"units": [8], "dropout": 0.3},
    "frozen_epochs": 2,
    "fine_tune_epochs": 1,
    "early_stopping_patience": None,
}


def run_in_standby(settings, spec, workdir):
    """Has a standby trainer run `spec`; returns how it ended and what it said."""
    lock = slots.acquire(settings.runtime, CPU, grace_seconds=1)
    standby = Standby(settings, CPU, STANDBYS)
    standby.prepare(lock)
    child = standby.take("train", build_environment(CPU))
    said = []
    try:
        child.hand_over(spec, workdir)
        ended = wait_until(
            lambda: said.extend(child.read_events()) or child.poll(), 240
        )
        return ended, said + child.read_events()
    finally:
        child.end_now()
        child.close()
        lock.release()


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_gives_the_same_weights_and_predictions_to_the_bit(
    tmp_path, backend, monkeypatch
):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    write_pictures(tmp_path / "pictures", each=15, side=32)
    spec = write_spec(tmp_path / "SPEC.json", tmp_path / "pictures", TRAINING)
    straight = run_to_end(spec, tmp_path / "straight", cold=True)
    workdir = tmp_path / "stood-by"
    workdir.mkdir()
    settings = Settings(data_dir=tmp_path, lease_seconds=240)
    ended, said = run_in_standby(settings, spec, workdir)

    assert ended.exit_code == 0, (workdir / "stderr.log").read_text()
    assert said[0]["event"] == "began"
    ours, theirs = newest_checkpoint(workdir), newest_checkpoint(straight.workdir)
    assert read_arrays(ours) == read_arrays(theirs)
    assert read_result(workdir) == read_result(straight.workdir)


def test_imports_wake_no_device():
    """A GPU's memory and the thread pools are the job's to take and to size."""
    script = (
        "import importlib\n"
        "from worker.training import determinism, standby\n"
        "determinism.prepare_environment()\n"
        "[importlib.import_module(name) for name in standby.AHEAD]\n"
        "from tensorflow.python.eager import context\n"
        "print(context.context()._initialized)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert ran.stdout == "False\n"
