"""Loads a downloaded model in a fresh process that has TensorFlow and none of our code.

The process is isolated (`python -I`): no PYTHONPATH, no working folder, no user site.
What it runs is the text below, which knows the SavedModel's signature and nothing else.
"""

import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shared.errors import InternalError

TIMEOUT_SECONDS = 300
PROGRAM = """\
import json, sys, time
start = time.monotonic()
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
classify = model.signatures["serving_default"]
name = next(iter(classify.structured_input_signature[1]))
rows = []
for path in sys.argv[2:]:
    answer = classify(**{name: tf.constant([tf.io.read_file(path).numpy()])})
    rows.append({
        "file": path,
        "label": answer["label"].numpy()[0].decode(),
        "confidence": float(answer["confidence"].numpy()[0]),
    })
ours = sorted({"cli", "shared", "web", "worker"} & set(sys.modules))
print(json.dumps({"rows": rows, "ours": ours}))
"""


def classify(archive: Path, pictures: Sequence[Path]) -> list[dict[str, Any]]:
    """Returns `file`, `label` and `confidence` of each picture.

    Args:
        archive: The downloaded zip.
        pictures: Encoded pictures, as a user has them.

    Raises:
        InternalError: When the model does not load or run by itself.
    """
    with tempfile.TemporaryDirectory(prefix="trainyard-model-") as folder:
        with zipfile.ZipFile(archive) as content:
            content.extractall(folder)
        model = next(Path(folder).rglob("saved_model.pb")).parent
        paths = [str(path) for path in pictures]
        run = subprocess.run(
            [sys.executable, "-I", "-c", PROGRAM, str(model), *paths],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    if run.returncode != 0:
        last = "\n".join(run.stderr.strip().splitlines()[-5:])
        raise InternalError(f"The model did not load in a fresh process:\n{last}")
    answer = json.loads(run.stdout.splitlines()[-1])
    if answer["ours"]:
        raise InternalError(f"The fresh process imported {answer['ours']}.")
    return answer["rows"]
