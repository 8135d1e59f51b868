"""A trainer that has imported everything and waits for its job.

`python -m worker.training.standby`, started by a worker under a guardian. It imports
what a training needs, waits for one order (`worker/orders.py`), does it as
`worker.training.run` would, and ends: no state of one job can reach another.

It only imports. Nothing here may run an operation or look for a device: the thread
count and the determinism of all operations are fixed by the job, before the first one,
and a GPU's memory belongs to whoever trains.
"""

import importlib

from worker.orders import Orders
from worker.training import determinism, run

# What a training imports on its way, and `run` only when it is needed.
AHEAD = (
    "keras",
    "tensorflow",
    "worker.decode",
    "worker.training.materials",
    "worker.training.phase_setup",
    "worker.training.phases",
    "worker.training.publish",
)


def main() -> int:
    """Returns the training's exit code; 0 when no job came."""
    orders = Orders()
    determinism.prepare_environment()
    for module in AHEAD:
        importlib.import_module(module)
    order = orders.wait()
    if order is None:
        return 0
    return run.main([str(order.spec), str(order.folder)])


if __name__ == "__main__":
    run.leave(main())
