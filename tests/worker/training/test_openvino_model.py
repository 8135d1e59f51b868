"""What OpenVINO's Python bindings must not do to a job."""

import subprocess
import sys

from tests.worker.training.engine_process import ROOT

PROCESSES, SECONDS = 12, 30

# Three lanes ask for the first time, at once, in a process that changes threads often:
# of ten such processes, four hung for good.
CODE = """
import os, sys, threading
import numpy as np
from onnx import TensorProto, helper
from worker.training.openvino_model import build_runner
graph = helper.make_graph(
    [helper.make_node("Cast", ["pixels"], ["features"], to=TensorProto.FLOAT)],
    "identity",
    [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", 4, 4, 3])],
    [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 4, 4, 3])],
)
opset = helper.make_opsetid("", 18)
model = helper.make_model(graph, opset_imports=[opset], ir_version=9)
sys.setswitchinterval(1e-6)
run = build_runner(
    model.SerializeToString(), batch_rows=2, image_size_px=4, bfloat16=False, streams=2
)
gate, pixels = threading.Barrier(3), np.full((2, 4, 4, 3), 7, np.uint8)
said = []
def ask():
    gate.wait()
    said.append(run(pixels))
lanes = [threading.Thread(target=ask) for _ in range(3)]
for lane in lanes:
    lane.start()
for lane in lanes:
    lane.join()
assert len(said) == 3 and all((features == 7).all() for features in said)
print("answered", flush=True)
os._exit(0)
"""


def test_lanes_that_ask_for_the_first_time_at_once_are_all_answered():
    for _ in range(PROCESSES):
        done = subprocess.run(
            [sys.executable, "-c", CODE],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.stdout == "answered\n", done.stderr[-3000:]
