"""Which program does a job of each kind, and in which environment."""

import os
import sys
from collections.abc import Mapping

from shared.child_environment import environment_without_credentials, store_credentials
from shared.job_status import JobKind
from worker.slots import Slot

Programs = Mapping[str, tuple[str, ...]]  # from a kind of job to a command
# SPEC.json and the attempt's folder are added.
COMMANDS: Programs = {
    JobKind.TRAIN: (sys.executable, "-m", "worker.training.run"),
    JobKind.INGEST: (sys.executable, "-m", "worker.ingest.run"),
    JobKind.FORECAST: (sys.executable, "-m", "worker.insight.run"),
}
# Started before there is a job; they are told both when there is one. An ingest
# imports no framework, so it has nothing to do ahead. A forecast is waited for by
# nobody, and a slot has memory for one that stands by: a training's.
STANDBYS: Programs = {
    JobKind.TRAIN: (sys.executable, "-m", "worker.training.standby"),
}

# What a slot that was taken out of service runs to see whether it is well.
SELF_TESTS: Programs = {
    JobKind.TRAIN: (sys.executable, "-m", "worker.training.self_test"),
}


def build_environment(slot: Slot, *, reads_stores: bool = False) -> dict[str, str]:
    """Returns the whole environment of a child that runs on `slot`.

    Args:
        slot: Where it runs.
        reads_stores: Whether it gets the credentials of object storage.
    """
    return environment_without_credentials(
        CUDA_VISIBLE_DEVICES=slot.visible_devices,
        # What the worker was started with; JAX trains, and TensorFlow publishes.
        KERAS_BACKEND=os.environ.get("KERAS_BACKEND", "tensorflow"),
        TF_FORCE_GPU_ALLOW_GROWTH="true",
        **(store_credentials() if reads_stores else {}),
    )
