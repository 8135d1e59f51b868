"""JAX trains what TensorFlow trains, on one device and on several.

In processes of their own: the backend is chosen, and the CPU divided, only once.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.worker.training.engine_process import ROOT

# In one process, so that what its tests share is made once.
pytestmark = [pytest.mark.xdist_group("jax step"), pytest.mark.timeout(300)]

# Ten images a step; four steps with one pass and with three, four with statistics that
# are learned, then one step twice.
CODE = """
import json, sys
from worker.training import determinism
determinism.prepare_environment()
import keras
import numpy as np
determinism.fix_randomness(threads=1, deterministic=True)
from worker.training import variables
from worker.training.replicas import find_replicas
from worker.training.train_step import TrainStep

replicas = find_replicas()
random = np.random.default_rng(0)
inputs = random.normal(size=(10, 5)).astype(np.float32)
labels = np.eye(3, dtype=np.float32)[random.integers(3, size=10)]
weights = random.uniform(0.5, 2, 10).astype(np.float32)

def build(images_per_pass, dropout, norm=False):
    determinism.start_model(0)
    with replicas.scope():
        features = keras.Input((5,), name="features")
        x = keras.layers.Dense(8, activation="relu", name="hidden")(features)
        if norm:
            x = keras.layers.BatchNormalization(momentum=0.9, name="norm")(x)
        x = keras.layers.Dropout(dropout, seed=1, name="drop")(x)
        x = keras.layers.Dense(3, activation="softmax", name="probabilities")(x)
        model = keras.Model(features, x)
        optimizer = keras.optimizers.AdamW(1e-2, name="adamw")
        model.compile(optimizer, keras.losses.CategoricalCrossentropy())
    first = np.random.default_rng(1)  # each backend draws its own first weights
    for variable in model.trainable_variables:
        variable.assign(first.normal(size=variable.shape))
    return TrainStep(model, images_per_pass=images_per_pass, replicas=replicas)

told = {"devices": replicas.count, "weights": [], "losses": [], "rows": []}
if keras.backend.backend() == "jax":
    from worker.training.jax_step import JaxStep
    lay_out = JaxStep._lay_out
    def count(step, part, *, axis):
        laid_out = lay_out(step, part, axis=axis)
        # Labels of (pass, row); a row that was filled in has none.
        if part.ndim == 3 and part.shape[-1] == labels.shape[-1]:
            shards = getattr(laid_out, "addressable_shards", [])
            received = {s.device.id: float(s.data.sum()) for s in shards}
            told["rows"].append(received or {0: float(laid_out.sum())})
        return laid_out
    JaxStep._lay_out = count
# With BatchNormalization, which sees filled-in rows too, passes are full.
for images_per_pass, images, norm in ((10, 10, False), (4, 10, False), (4, 8, True)):
    step = build(images_per_pass, 0.0, norm)
    if norm:
        step.observe(inputs[:images])
    for _ in range(4):
        logs = step.train((inputs[:images], labels[:images], weights[:images]))
    told["losses"].append(logs["loss"])
    values = variables.read(step.model.weights)
    told["weights"].append([v.value.ravel().tolist() for v in values])
    told["said"] = step.predict(inputs[:7]).tolist()
step = build(4, 0.5)
before, digests = variables.read_all(step.model), []
for _ in range(2):
    variables.write_all(step.model, before)
    step.train((inputs, labels))
    after = variables.read_all(step.model)
    digests.append([a.value.tobytes() for items in after.values() for a in items])
told["exact"] = digests[0] == digests[1]
print(json.dumps(told))
"""


def train(backend, devices=1):
    flags = f"--xla_force_host_platform_device_count={devices}"
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=ROOT,
        env=os.environ | {"KERAS_BACKEND": backend, "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def tensorflow():
    return train("tensorflow")


@pytest.mark.parametrize("devices", [1, 4])
def test_jax_reaches_the_weights_of_tensorflow(tensorflow, devices):
    jax = train("jax", devices)

    assert (tensorflow["devices"], jax["devices"]) == (1, devices)
    images = [10] * 8 + [8] * 4 + [10] * 2  # of every step
    assert [sum(received.values()) for received in jax["rows"]] == images
    assert all(len(received) == devices for received in jax["rows"])
    assert all(max(r.values()) < 2 * 10 / devices + 1 for r in jax["rows"])
    assert jax["exact"], "a step repeated from a snapshot is the same to the bit"
    assert tensorflow["exact"]
    assert jax["losses"] == pytest.approx(tensorflow["losses"], rel=1e-5)
    np.testing.assert_allclose(jax["said"], tensorflow["said"], atol=1e-5)
    for ours, theirs in zip(jax["weights"], tensorflow["weights"], strict=True):
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-5)
