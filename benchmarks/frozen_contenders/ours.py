"""Runs the real engine with its imports done first: `SPEC.json WORKDIR`.

The event `clock` says when the imports were over; every event after it is the engine's
own, from `worker.training.run` as it is.
"""

import json
import sys
import time

from worker.training import determinism, run


def import_all() -> None:
    """Imports what the engine would import on its way; nothing of it runs."""
    import onnxruntime  # noqa: F401, PLC0415
    import tensorflow as tf  # noqa: F401, PLC0415
    import tf2onnx  # noqa: F401, PLC0415

    from worker import decode  # noqa: F401, PLC0415
    from worker.training import (  # noqa: F401, PLC0415
        head_start,
        materials,
        phase_setup,
        phases,
        publish,
    )


def main(arguments: list[str]) -> int:
    """Imports, says when, and becomes a training."""
    determinism.prepare_environment()
    import_all()
    print(json.dumps({"event": "clock", "at": time.time()}), flush=True)
    return run.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
