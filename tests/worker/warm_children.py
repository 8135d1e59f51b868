"""Child processes that need not load the frameworks again: forked where they are.

The children are real: processes of their own, with an environment and a standard output
of their own, killed with SIGKILL. The server that forks them is the standard library's,
of which a process has one: what it imports is said before its first child. So all tests
of `tests/worker/` say it here, also those of the ingest, whose children it forks too.
"""

import functools
import importlib
import multiprocessing
import os
import subprocess
import sys
from unittest.mock import patch

from tests.worker.processes import ROOT
from worker.training import determinism, run

PRELOAD = ["worker.ingest.end_with_parent", "tests.worker.warm_modules"]
# What frameworks read from the environment when they are imported.
READ_AT_IMPORT = ("JAX_", "KERAS_", "MKL_", "OMP_", "OPENBLAS_", "XLA_")
READ_AT_IMPORT += (determinism.ONEDNN_VARIABLE,)


def _list_read():
    return {k: v for k, v in os.environ.items() if k.startswith(READ_AT_IMPORT)}


def _describe_start():
    with patch.dict(os.environ):
        determinism.prepare_environment()
        return sys.executable, _list_read()


# Before any test has changed it.
USUAL = _describe_start()


def is_usual():
    """Whether the server's children are like a Python that would be started now."""
    return _describe_start() == USUAL


@functools.cache
def start_server():
    """Returns the context in which to start children, once their server is ready."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    with patch.dict(os.environ, TRAINYARD_INGEST_PID=str(os.getpid())):
        for name in _list_read():
            del os.environ[name]
        os.environ.update(USUAL[1])
        determinism.prepare_environment()
        first = context.Process(target=os.getpid)
        first.start()
    first.join()  # no test's clock shall run while the server imports
    return context


def fork(command, output, errors):
    """Returns a child that does what `python -m COMMAND` does.

    Args:
        command: Module and arguments.
        output: A connection or a path, which its standard output goes to.
        errors: A path, which its standard error goes to.
    """
    process = start_server().Process(
        target=_become,
        args=(command, dict(os.environ), output, errors),
        daemon=True,  # so that none that a failed test has left is waited for
    )
    process.start()
    return process


class WarmProcess:
    """Of a child of the server, what tests use of `Popen`."""

    def __init__(self, command, errors):
        ours, theirs = start_server().Pipe(duplex=False)
        self._process = fork(command, theirs, errors)
        theirs.close()
        self.stdout = os.fdopen(os.dup(ours.fileno()))
        ours.close()
        self.pid = self._process.pid

    def poll(self):
        return self._process.exitcode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def wait(self, timeout):
        self._process.join(timeout)
        if self.poll() is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout)
        return self.poll()


def _become(command, environment, output, errors):
    """The child's whole life, once it is forked."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    for place, number in ((output, 1), (errors, 2)):
        opened = place.fileno() if hasattr(place, "fileno") else _open(place)
        os.dup2(opened, number)
        os.close(opened)
    module, *arguments = command
    run.leave(importlib.import_module(module).main(arguments))


def _open(path):
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
