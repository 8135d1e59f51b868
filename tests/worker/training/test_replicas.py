"""Several devices share a step: each gets its rows, and the weights are one device's.

In processes of their own, since a process divides its CPU into devices only once.
"""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.worker.training.engine_process import ROOT
from tests.worker.training.pictures import build_pack

# In one process, so that what its tests share is made once.
pytestmark = [pytest.mark.xdist_group("replicas"), pytest.mark.timeout(600)]

SPEC = {
    "base_model": "MobileNet-0.25",
    "weights": None,
    "image_size_px": 32,
    "batch_size": 7,
    "frozen_epochs": 0,
    "fine_tune_epochs": 2,
    "fine_tune_learning_rate": 1e-2,
    "unfreeze_from": 0.5,
    "optimizer": "sgd",
    "head": {"units": [8], "dropout": 0},
    "class_weights": "balanced",
    "weight_averaging": 0.9,
}

# Trains three steps of the real fine-tune phase, then two more, twice from a snapshot.
CODE = """
import json, sys
from pathlib import Path
folder, devices, spec = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
from worker.training import determinism
determinism.prepare_environment()
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_visible_devices([], "GPU")
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * devices
)
determinism.fix_randomness(threads=1, deterministic=True)
import numpy as np
from shared.training_spec import parse_training_spec
from tests.worker.training.pictures import build_pack
from worker.training import phase_setup, variables
from worker.training.averaging import averaged
from worker.training.best_weights import BestWeights
from worker.training.training_state import TrainingState

spec, state = parse_training_spec(spec), TrainingState()
material = phase_setup.Material(spec, build_pack(folder), [], 1)
phase = phase_setup.build_fine_tune(material, state, BestWeights(spec, state, []))
phase.step.halve_to(int(sys.argv[4]))
if sys.argv[5] == "starts":
    phase.start()
phase.train.start_epoch(0)
rows, compute_loss = [0] * devices, phase.model.compute_loss
def count(replica, images):
    rows[int(replica)] += int(images)
def counting(x, y, *rest, **more):
    # A row that was filled in has no label.
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    tf.numpy_function(count, [replica, tf.reduce_sum(y)], [])
    return compute_loss(x, y, *rest, **more)
phase.model.compute_loss = counting
for number in range(3):
    phase.step.train(phase.train[number % len(phase.train)])
counted = list(rows)
before = variables.read_all(phase.model)
digests = []
for _ in range(2):
    variables.write_all(phase.model, before)
    logs = [phase.step.train(phase.train[number % 2]) for number in range(2)]
    after = variables.read_all(phase.model)
    digests.append([a.value.tobytes() for group in after.values() for a in group])
with averaged(phase.model):
    judged = phase.validate()
np.savez(folder / f"{devices}-{sys.argv[4]}.npz", **{
    f"{group}/{n:04d}": a.value for group, items in after.items()
    for n, a in enumerate(items)
})
print(json.dumps({
    "exact": digests[0] == digests[1], "rows": counted, "logs": logs, "judged": judged,
    "paths": [a.path for items in after.values() for a in items],
}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("replicas")
    build_pack(folder)  # the pictures, and their pack, for every process
    return folder


@pytest.fixture(scope="module")
def one(folder):
    return train(folder, devices=1)


def train(folder, *, devices, halvings=0, starts=False, **changes):
    spec = json.dumps(SPEC | changes)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            CODE,
            str(folder),
            str(devices),
            spec,
            str(halvings),
            "starts" if starts else "-",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    with np.load(folder / f"{devices}-{halvings}.npz") as arrays:
        told["arrays"] = {name: arrays[name] for name in arrays.files}
    return told


@pytest.mark.parametrize(("devices", "halvings"), [(2, 0), (3, 1)])
def test_devices_share_the_rows_and_reach_the_weights_of_one(
    folder, one, devices, halvings
):
    many = train(folder, devices=devices, halvings=halvings)

    batch = SPEC["batch_size"]
    assert one["rows"] == [3 * batch]
    assert sum(many["rows"]) == 3 * batch, "every image goes to one device"
    assert max(many["rows"]) < 3 * batch * 2 / devices
    assert many["paths"] == one["paths"], "their checkpoints fit one another"
    assert many["exact"], "a step repeated from a snapshot is the same to the bit"
    for name, array in one["arrays"].items():
        np.testing.assert_allclose(many["arrays"][name], array, rtol=1e-3, atol=1e-5)
    assert many["judged"] == pytest.approx(one["judged"], rel=1e-4)


def test_a_batch_smaller_than_half_the_devices_reaches_the_weights_of_one(folder):
    small = {"batch_size": 2, "fine_tune_epochs": 1}
    one, many = (train(folder, devices=n, halvings=1, **small) for n in (1, 5))

    assert sum(many["rows"]) == sum(one["rows"])
    for name, array in one["arrays"].items():
        np.testing.assert_allclose(many["arrays"][name], array, rtol=1e-3, atol=1e-5)


def test_dropout_on_several_devices_repeats_itself_to_the_bit(folder):
    told = train(folder, devices=2, head={"units": [8], "dropout": 0.5})

    assert told["exact"]


def test_statistics_learned_on_several_devices_repeat_themselves_to_the_bit(
    folder, one
):
    told = train(folder, devices=2, batch_norm="trained")

    assert told["exact"]
    moved = [
        name
        for name, array in one["arrays"].items()
        if "moving_" in told["paths"][list(one["arrays"]).index(name)]
        and not np.array_equal(array, told["arrays"][name])
    ]
    assert moved, "BatchNormalization has learned"


def test_the_phase_starts_on_several_devices_at_the_regression(folder):
    told = train(
        folder,
        devices=3,
        starts=True,
        batch_norm="trained",
        head_start="logistic",
        head={"units": [], "dropout": 0},
        frozen_epochs=1,
    )

    assert told["exact"]
