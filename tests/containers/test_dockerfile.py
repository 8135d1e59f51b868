"""The Dockerfile: clean by hadolint, built anywhere, and only of what is named."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.containers.compose_file import ROOT, read_compose_file

TEXT = (ROOT / "Dockerfile").read_text()


def find_hadolint():
    beside = str(Path(sys.executable).parent)
    path = shutil.which("hadolint", path=beside) or shutil.which("hadolint")
    assert path, "hadolint is missing: ./trainyard test installs it"
    return path


def test_hadolint_finds_nothing():
    command = [find_hadolint(), "--no-color", str(ROOT / "Dockerfile")]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "")


def test_it_needs_nothing_but_its_base():
    """A `# syntax` line would fetch the builder's front end from a registry."""
    sources = re.findall(r"(?m)^FROM (\S+)", TEXT)
    stages = re.findall(r"(?m)^FROM \S+ AS (\S+)$", TEXT)

    assert not re.search(r"(?mi)^# *syntax *=", TEXT)
    assert set(sources) - set(stages) == {"${BASE_IMAGE}"}
    assert "ARG BASE_IMAGE=python:3.12-slim-bookworm" in TEXT


def test_targets_are_those_of_the_compose_file():
    services = read_compose_file()["services"].values()
    wanted = {one["build"]["target"] for one in services if "build" in one}

    assert wanted == {"web", "worker"}
    assert wanted <= set(re.findall(r"(?m)^FROM \S+ AS (\S+)$", TEXT))


def test_what_is_copied_is_let_through_to_the_builder():
    copied = set(re.findall(r"(?m)^COPY (?!--from)(\w+)/", TEXT))
    let_through = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }

    assert copied == let_through == {"requirements", "cli", "shared", "web", "worker"}


def test_every_image_runs_as_the_user_of_the_compose_file():
    services = read_compose_file()["services"].values()
    users = {one["user"] for one in services if one["image"].startswith("trainyard")}

    assert users == {"10001:10001"}
    for target in ("web", "worker"):
        stage = TEXT.split(f" AS {target}\n")[1].split("\nFROM ")[0]
        assert "\nUSER 10001:10001\n" in stage
