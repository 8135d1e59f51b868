"""A pass is planned for the machine's memory before it could be killed for it."""

import os
import subprocess
import sys

import pytest

from shared.training_spec import parse_training_spec
from tests.worker.training.engine_process import ROOT, run_to_end, write_spec
from tests.worker.training.pictures import write_pictures
from worker import machine_memory
from worker.training import build_model
from worker.training.pass_memory import count_halvings

GIB = 1 << 30
SPEC = {"base_model": "MobileNet-0.25", "weights": None, "image_size_px": 224}


def halvings_of(limit_bytes, *, images=64, first=0, **fields):
    base = build_model.build_base(parse_training_spec(SPEC | fields))
    return count_halvings(
        base, first_trained=first, images_per_pass=images, limit_bytes=limit_bytes
    )


def test_what_fits_is_not_halved_and_what_does_not_is_halved_until_it_does():
    found = [halvings_of(int(gib * GIB)) for gib in (64, 2.2, 1.8, 1.6, 1.0, 0)]

    assert found[0] == 0
    assert found == sorted(found)
    assert 0 < found[2] < 6
    assert found[-2:] == [6, 6]  # one image at a time: the least that can be tried


def test_frozen_layers_need_memory_for_a_moment_only():
    depth = len(
        build_model.list_depth(build_model.build_base(parse_training_spec(SPEC)))
    )
    learning, frozen = (
        halvings_of(int(1.8 * GIB), images=512, first=first) for first in (0, depth)
    )

    assert 0 < frozen < learning


def test_a_batch_of_one_is_never_halved():
    assert halvings_of(0, images=1) == 0


MEASURED = """
from pathlib import Path
import numpy as np
from worker.training import determinism
determinism.prepare_environment()
determinism.fix_randomness(threads=2, deterministic=True)
from shared.training_spec import parse_training_spec
from worker.training import build_model, pass_memory
from worker.training.replicas import Replicas
from worker.training.train_step import TrainStep

spec = parse_training_spec({"base_model": "MobileNet", "weights": None})
base = build_model.build_base(spec)
model = build_model.join(base, build_model.build_head(spec, 1024, 2))
build_model.set_trainable_from(base, 0)
model.compile(optimizer="adam", loss="categorical_crossentropy")
step = TrainStep(model, images_per_pass=16, replicas=Replicas())
for _ in range(2):
    step.train((np.zeros((16, 224, 224, 3), np.uint8), np.eye(2, dtype="f4")[[0] * 16]))
# Not ru_maxrss: a child inherits that of the process that started it.
status = Path("/proc/self/status").read_text().split()
peak = int(status[status.index("VmHWM:") + 1]) * 1024
limit = int(peak / pass_memory._SHARE_OF_LIMIT)
told = pass_memory.count_halvings(
    base, first_trained=0, images_per_pass=16, limit_bytes=limit
)
roomy = pass_memory.count_halvings(
    base, first_trained=0, images_per_pass=16, limit_bytes=2 * limit
)
print(told, roomy)
"""


def test_the_estimate_is_no_less_than_what_a_step_takes_and_no_more_than_twice():
    done = subprocess.run(
        [sys.executable, "-c", MEASURED],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    told, roomy = map(int, done.stdout.split()[-2:])
    assert told >= 1
    assert roomy == 0


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("memory.max", "123456789\n", 123456789),
        ("memory/memory.limit_in_bytes", "123456789\n", 123456789),
        ("memory.max", "max\n", None),
        ("memory/memory.limit_in_bytes", "9223372036854771712\n", None),
        ("other", "", None),
    ],
)
def test_the_limit_is_the_control_groups_or_the_machines(
    tmp_path, monkeypatch, file, text, expected
):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    monkeypatch.setattr(machine_memory, "CONTROL_GROUPS", tmp_path)
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    found = machine_memory.find_memory_limit()

    assert found == (expected or pytest.approx(physical, rel=0.01))


def make_group(limit_bytes):
    """Makes a control group with a limit; None where this user may not."""
    root = machine_memory.CONTROL_GROUPS
    for folder, name in (
        (root / "memory", "memory.limit_in_bytes"),
        (root, "memory.max"),
    ):
        group = folder / f"trainyard-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / name).write_text(str(limit_bytes))
        except OSError:
            group.rmdir()
            continue
        return group
    return None


@pytest.fixture
def small_machine():
    group = make_group(2 * GIB)
    if group is None:
        pytest.skip("this user may not make a control group")
    yield group
    group.rmdir()


def test_a_training_lives_through_a_limit_that_its_batch_would_break(
    tmp_path, small_machine, monkeypatch
):
    write_pictures(tmp_path / "pictures", each=80, side=64)
    training = SPEC | {
        "base_model": "MobileNet",
        "batch_size": 64,
        "frozen_epochs": 0,
        "fine_tune_epochs": 1,
        "unfreeze_from": 0,
    }
    spec = write_spec(tmp_path / "SPEC.json", tmp_path / "pictures", training)
    python = tmp_path / "python"
    python.write_text(
        f"#!/bin/sh\necho $$ > {small_machine}/cgroup.procs\n"
        f'exec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))

    engine = run_to_end(spec, tmp_path / "work", cold=True)

    notes = [event["message"] for event in engine.named("note")]
    assert any("parts of a batch" in note for note in notes)
    assert not engine.named("failed")
