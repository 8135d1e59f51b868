"""The stack of docker-compose.yml, built and run with secrets of its own."""

import json
import os
import ssl
from pathlib import Path

from cli.machine import find_free_port
from cli.secret_commands import make_secrets
from tests.containers.commands import CommandError, call
from tests.containers.compose_file import COMPOSE, NO_ENV_FILE, ROOT

PROJECT = f"trainyard-test-{os.getpid()}"  # two runs on one engine are two stacks
TAG = "test"
WORKER = "worker-cpu"
BUILDERS = ("web", "ingest")  # build an image each, for the others as well
IMAGES = {"web": f"trainyard-web:{TAG}", "worker": f"trainyard-worker-cpu:{TAG}"}
BUILD_SECONDS = 1500
UP_SECONDS = 300
BUNDLES = (Path("/etc/ssl/certs/ca-certificates.crt"), Path("/etc/pki/tls/cert.pem"))
PIP_FILES = (Path("~/.config/pip/pip.conf"), Path("~/.pip/pip.conf"))


class Stack:
    """One run of the stack, under a project name of its own.

    Args:
        engine: Where it runs.
        folder: For its secrets and for what is added to the compose file.
        base: The image to build on.
    """

    def __init__(self, engine, folder, base):
        self.engine = engine
        self.port = find_free_port("127.0.0.1")
        self.secrets = folder / "secrets"
        make_secrets(self.secrets)
        added = folder / "added.json"
        added.write_text(json.dumps(_describe_build(base)))
        self._files = ["-f", ROOT / "docker-compose.yml", "-f", added]

    @property
    def url(self):
        """Where its web listens."""
        return f"http://127.0.0.1:{self.port}"

    def build(self):
        """Builds the images of web and of the CPU worker."""
        self.compose("build", seconds=BUILD_SECONDS)

    def up(self):
        """Returns when every service is there and well."""
        self.compose("up", "--no-build", "--wait", seconds=UP_SECONDS)

    def down(self):
        """Removes everything of it: containers, networks, volumes."""
        self.compose("down", "--volumes", "--timeout=40", seconds=UP_SECONDS)

    def execute(self, service, *command):
        """Runs a command in the container of a service; returns what it printed."""
        return self.compose("exec", "-T", service, *command)

    def refuses(self, service, *command):
        """Whether a command in the container of a service fails."""
        try:
            self.execute(service, *command)
        except CommandError:
            return True
        return False

    def container(self, service):
        """Returns the number of the container of a service, also of a dead one."""
        return self.compose("ps", "--all", "--quiet", service).strip()

    def services(self):
        """Returns state and health of each service."""
        lines = self.compose("ps", "--all", "--format=json").splitlines()
        return {row["Service"]: row for row in map(json.loads, lines)}

    def tell(self):
        """Returns the last words of all services, for a run that failed."""
        try:
            states = [
                f"{name}: {row['State']} {row['Health']} {row['ExitCode']}"
                for name, row in self.services().items()
            ]
            return "\n".join([*states, self.compose("logs", "--no-color", "--tail=25")])
        except CommandError as error:
            return str(error)

    def compose(self, *arguments, seconds=120):
        """Runs Compose on the stack; returns its standard output."""
        command = [COMPOSE, *NO_ENV_FILE, "-p", PROJECT, *self._files]
        command.append("--progress=plain")
        environment = {
            **_without_ours(self.engine.environment),
            "COMPOSE_PROFILES": "cpu",
            "DOCKER_BUILDKIT": "1",
            "TRAINYARD_IMAGE_TAG": TAG,
            "TRAINYARD_PORT": str(self.port),
            "TRAINYARD_SECRETS_DIR": str(self.secrets),
        }
        return call([*command, *arguments], env=environment, seconds=seconds)


def _without_ours(environment):
    """Leaves out what the user's own installation is set to."""
    ours = ("TRAINYARD_", "COMPOSE_")
    return {k: v for k, v in environment.items() if not k.startswith(ours)}


def _describe_build(base):
    """Returns what a build on this machine needs beside the compose file.

    pip's settings and the certificates come from the machine, as secrets of the build,
    of which nothing stays in the image.
    """
    given = {"ca_bundle": _find_bundle(), "pip_conf": _find_pip_file()}
    files = {name: {"file": str(path)} for name, path in given.items() if path}
    build = {"network": "host", "args": {"BASE_IMAGE": base}, "secrets": list(files)}
    return {
        "services": {service: {"build": build} for service in BUILDERS},
        "secrets": files,
    }


def _find_bundle():
    named = os.environ.get("PIP_CERT") or ssl.get_default_verify_paths().cafile
    candidates = [Path(named)] if named else []
    return next((path for path in [*candidates, *BUNDLES] if path.is_file()), None)


def _find_pip_file():
    named = os.environ.get("PIP_CONFIG_FILE")
    candidates = [Path(named)] if named else []
    files = [path.expanduser() for path in [*candidates, *PIP_FILES]]
    return next((path for path in files if path.is_file()), None)
