"""Imported for its effect, by the server process of `child_pool` alone.

The standard library keeps that server alive as long as one of its children is: a
decoder that loops for ever would go on when the ingest has been killed. With this the
kernel ends the server together with the ingest, and the children with the server. An
ingest that was killed before the kernel was told of this is noticed by the number of
the parent, which is another one then.
"""

import ctypes
import os
import signal

_PARENT = "TRAINYARD_INGEST_PID"
_PR_SET_PDEATHSIG = 1

ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
if os.environ.get(_PARENT) not in (None, str(os.getppid())):
    os._exit(1)
