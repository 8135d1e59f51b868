"""A Docker engine: the one that runs here, else one of our own for a while.

An engine of our own keeps everything in one folder, has no service manager and no
cgroups of systemd, and is ended by its process id. Only root can start one.
"""

import contextlib
import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from cli import system_packages
from tests.containers.commands import CommandError, call
from tests.containers.host_network import restored_network
from tests.services import die_softly_with_parent

START_SECONDS = 90
STOP_SECONDS = 60
CONFIGURATION = {
    # Some machines forbid the engine's own default, which is a million.
    "default-ulimits": {"nofile": {"Name": "nofile", "Hard": 20000, "Soft": 20000}},
    "exec-opts": ["native.cgroupdriver=cgroupfs"],
}


class NoEngineError(Exception):
    """No engine can run here; says why in a sentence."""


@dataclass(frozen=True)
class Engine:
    """An engine that answers.

    Attributes:
        host: Its address; None for the one that Docker's own settings name.
        folder: For the client's settings.
        ours: Whether it was started for this run.
    """

    host: str | None
    folder: Path
    ours: bool

    @property
    def environment(self):
        """What `docker` and Compose need to reach it."""
        if self.host is None:
            return dict(os.environ)
        return {
            **os.environ,
            "DOCKER_HOST": self.host,
            "DOCKER_CONFIG": str(self.folder / "client"),
        }

    def docker(self, *arguments, **options):
        """Runs `docker`; returns its standard output."""
        return call(["docker", *arguments], env=self.environment, **options)

    def inspect(self, name, template):
        """Returns what `docker inspect` says of a container or an image."""
        return self.docker("inspect", "--format", template, name).strip()


@contextlib.contextmanager
def running_engine(journal, folder):
    """Yields an engine; one that was started here is stopped afterwards.

    Args:
        journal: Is told the steps.
        folder: Of an engine of our own; images that lie in it are used again.

    Raises:
        NoEngineError: When none answers and none can be started.
    """
    found = _find_engine(folder)
    if found:
        journal.say("A Docker engine runs here already; its images are used")
        yield found
        return
    _install(journal)
    with contextlib.ExitStack() as undo:
        undo.enter_context(restored_network())
        with journal.step("Starting an engine"):
            process = _start(folder)
        undo.callback(_stop, process, journal)
        engine = Engine(f"unix://{_socket(folder)}", folder, ours=True)
        journal.note("engine", _describe(engine))
        yield engine


def _find_engine(folder):
    engine = Engine(None, folder, ours=False)
    with contextlib.suppress(CommandError):
        engine.docker("version", "--format", "{{.Server.Version}}", seconds=20)
        return engine
    return None


def _install(journal):
    if os.geteuid() != 0:
        raise NoEngineError("no Docker engine answers, and only root can start one")
    if not shutil.which("dockerd"):
        if not shutil.which("apt-get"):
            raise NoEngineError("there is no Docker engine, and no apt to install one")
        with journal.step("Installing docker.io"):
            system_packages.install(["docker.io"], "the containers")
        if not shutil.which("dockerd"):
            raise NoEngineError("there is no Docker engine, and none to be installed")


def _start(folder):
    for part in ("data", "exec", "client"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "daemon.json").write_text(json.dumps(CONFIGURATION))
    command = ["dockerd", "--config-file", folder / "daemon.json"]
    command += ["--data-root", folder / "data", "--exec-root", folder / "exec"]
    command += ["-H", f"unix://{_socket(folder)}", "-p", folder / "pid"]
    with (folder / "dockerd.log").open("ab") as log:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdout=log,
            stderr=log,
            preexec_fn=die_softly_with_parent,
        )
    deadline = time.monotonic() + START_SECONDS
    engine = Engine(f"unix://{_socket(folder)}", folder, ours=True)
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(CommandError):
            engine.docker("version", seconds=20)
            return process
        time.sleep(0.5)
    _end(process)
    last = (folder / "dockerd.log").read_text(errors="replace").strip().splitlines()
    raise NoEngineError(f"dockerd does not start here: {(last or ['no word'])[-1]}")


def _socket(folder):
    return folder / "docker.sock"


def _stop(process, journal):
    with journal.step("Stopping the engine"):
        _end(process)


def _end(process):
    process.terminate()
    try:
        process.wait(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout=STOP_SECONDS)


def _describe(engine):
    words = "{{.ServerVersion}}, {{.Driver}}, cgroup v{{.CgroupVersion}}"
    return engine.docker("info", "--format", words).strip()
