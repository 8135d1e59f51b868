"""Several devices share a step: each gets its rows, and the weights are one device's.

In processes of their own, since a process divides its CPU into devices only once.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest

from tests.worker.training.engine_process import run_to_end
from tests.worker.training.pictures import build_pack

# In one process, so that what its tests share is made once.
pytestmark = [pytest.mark.xdist_group("replicas"), pytest.mark.timeout(600)]

STEPS = "tests.worker.training.replica_steps"
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("replicas")
    build_pack(folder)  # the pictures, and their pack, for every process
    return folder


@pytest.fixture(scope="module")
def one(folder):
    return train(folder, devices=1)


def train(folder, *, devices, halvings=0, starts=False, **changes):
    work = Path(tempfile.mkdtemp(dir=folder))
    asked = {"devices": devices, "halvings": halvings, "starts": starts}
    spec = work / "SPEC.json"
    spec.write_text(json.dumps(asked | {"training": SPEC | changes}))
    told = run_to_end(spec, work, module=STEPS).events[-1]
    with np.load(work / "arrays.npz") as arrays:
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
