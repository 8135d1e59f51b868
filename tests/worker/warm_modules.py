"""Imported by the server of `warm_children` alone: what its children find imported.

They are forked, and need neither read again nor collect what is here.
"""

import gc
import importlib

from tests.worker import warm_children  # noqa: F401 - for their effect, as the others
from tests.worker.ingest import rough_work  # noqa: F401
from worker.ingest import prove  # noqa: F401
from worker.training.standby import AHEAD

for _name in AHEAD:
    importlib.import_module(_name)
gc.collect()
gc.freeze()
