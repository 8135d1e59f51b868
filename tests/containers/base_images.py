"""The images that ours stand on: pulled, or made here where no registry can be reached.

Those made here have the users, folders and variables of the real ones and the versions
of the system that they are made of; they go into an engine of our own alone.
"""

import json
import shutil
import socket
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from cli import system_packages
from tests.containers.commands import CommandError, call
from tests.containers.compose_file import COMPOSE, read_compose_file

PYTHON = "python:3.12-slim-bookworm"
BASE = "trainyard-base:test"
SUITE = "bookworm"
PACKAGES = "python3,python3-venv,ca-certificates"
# What slim images leave out as well.
UNREAD = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info")
UNREAD += ("var/cache/apt", "var/lib/apt/lists", "var/log", "var/cache/debconf")
CONNECT_SECONDS = 5
PULL_SECONDS = 600


def provide_base(engine, journal, folder):
    """Returns the base image to build on; those of the compose file are there as well.

    Raises:
        CommandError: When neither can be had.
    """
    services = read_compose_file()["services"]
    databases = [services[name]["image"] for name in ("redis", "postgres")]
    if all(_is_there(engine, image) for image in [BASE, *databases]):
        journal.note("base images", "stand-ins of an earlier run")
        return BASE
    if _pull_all(engine, journal, [PYTHON, *databases]):
        journal.note("base images", "pulled")
        return PYTHON
    if not engine.ours:
        raise CommandError(
            "No registry of images can be reached, and stand-ins for "
            f"{', '.join(databases)} have no place in an engine that is in use."
        )
    journal.note("base images", "stand-ins, since no registry can be reached")
    if not _is_there(engine, BASE):
        _make_base(engine, journal, folder / "rootfs")
    with journal.step("Making stand-ins for Redis and Postgres"):
        _make_databases(engine, folder, *databases)
    return BASE


def _is_there(engine, image):
    try:
        engine.docker("image", "inspect", image)
    except CommandError:
        return False
    return True


def _pull_all(engine, journal, images):
    registry = engine.docker("info", "--format", "{{.IndexServerAddress}}").strip()
    try:
        address = (urlsplit(registry).hostname, 443)
        socket.create_connection(address, timeout=CONNECT_SECONDS).close()
        for image in images:
            with journal.step(f"Pulling {image}"):
                engine.docker("pull", "--quiet", image, seconds=PULL_SECONDS)
    except (OSError, CommandError):
        return False
    return True


def _make_base(engine, journal, root):
    if not shutil.which("debootstrap"):
        with journal.step("Installing debootstrap"):
            system_packages.install(["debootstrap"], "the base images")
    with journal.step(f"Making a base image of {SUITE}"):
        shutil.rmtree(root, ignore_errors=True)
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}"]
        call([*command, SUITE, root], seconds=900)
        for part in UNREAD:
            _empty(root / part)
        _import(engine, root)
        shutil.rmtree(root)


def _empty(folder):
    """Removes the files and leaves the folders, which packages expect."""
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            path.unlink()


def _import(engine, root):
    command = ["tar", "--numeric-owner", "-C", str(root), "-c", "."]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as tar:
        engine.docker("import", "-", BASE, stdin=tar.stdout)
    if tar.returncode != 0:
        raise CommandError(f"tar ended with {tar.returncode}")


def _make_databases(engine, folder, redis, postgres):
    context = Path(__file__).parent / "stand_ins"
    services = {
        name: {
            "image": image,
            "build": {
                "context": str(context),
                "target": name,
                "network": "host",
                "args": {"BASE_IMAGE": BASE},
            },
        }
        for name, image in {"redis": redis, "postgres": postgres}.items()
    }
    path = folder / "stand-ins.json"
    path.write_text(json.dumps({"services": services}))
    command = [COMPOSE, "-p", "stand-ins", "-f", path, "build", "--quiet"]
    environment = {**engine.environment, "DOCKER_BUILDKIT": "1"}
    call(command, env=environment, seconds=900)
