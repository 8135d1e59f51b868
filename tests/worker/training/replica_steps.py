"""Trains three steps of the real fine-tune phase on several devices, then two, twice.

`SPEC.json WORKDIR`, like the engine's own program: a process divides its CPU into
devices only once. Prints one line of JSON; `WORKDIR/arrays.npz` holds the weights.
"""

import json
import sys
from pathlib import Path

import numpy as np

from shared.training_spec import parse_training_spec
from tests.worker.training.pictures import build_pack
from worker.training import determinism


def main(arguments):
    spec_path, workdir = map(Path, arguments)
    asked = json.loads(spec_path.read_text())
    determinism.prepare_environment()
    divide_cpu(asked["devices"])
    determinism.fix_randomness(threads=1, deterministic=True)
    told, after = train(asked, workdir.parent)
    arrays = {
        f"{group}/{number:04d}": array.value
        for group, items in after.items()
        for number, array in enumerate(items)
    }
    np.savez(workdir / "arrays.npz", **arrays)
    paths = [array.path for items in after.values() for array in items]
    sys.stdout.write(json.dumps(told | {"paths": paths}) + "\n")
    sys.stdout.flush()
    return 0


def divide_cpu(devices):
    import tensorflow as tf  # noqa: PLC0415 - after its environment is prepared

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_visible_devices([], "GPU")
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * devices
    )


def train(asked, pictures):
    from worker.training import phase_setup, variables  # noqa: PLC0415 - frameworks
    from worker.training.averaging import averaged  # noqa: PLC0415
    from worker.training.best_weights import BestWeights  # noqa: PLC0415
    from worker.training.training_state import TrainingState  # noqa: PLC0415

    spec, state = parse_training_spec(asked["training"]), TrainingState()
    material = phase_setup.Material(spec, build_pack(pictures), [], 1)
    phase = phase_setup.build_fine_tune(material, state, BestWeights(spec, state, []))
    phase.step.halve_to(asked["halvings"])
    if asked["starts"]:
        phase.start()
    phase.train.start_epoch(0)
    rows = count_rows(phase.model, asked["devices"])
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
    exact = digests[0] == digests[1]
    return {"exact": exact, "rows": counted, "logs": logs, "judged": judged}, after


def count_rows(model, devices):
    """Returns a list that counts the images that each device is given."""
    import tensorflow as tf  # noqa: PLC0415 - after its environment is prepared

    rows, compute_loss = [0] * devices, model.compute_loss

    def count(replica, images):
        rows[int(replica)] += int(images)

    def counting(x, y, *rest, **more):
        # A row that was filled in has no label.
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        tf.numpy_function(count, [replica, tf.reduce_sum(y)], [])
        return compute_loss(x, y, *rest, **more)

    model.compute_loss = counting
    return rows
