"""Imported for its effect, by the server process of `child_pool` alone.

The standard library keeps that server alive as long as one of its children is: a
decoder that loops for ever would go on when the ingest has been killed. With this the
kernel ends the server together with the ingest, and the children with the server.
"""

import ctypes
import signal

_PR_SET_PDEATHSIG = 1

ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
