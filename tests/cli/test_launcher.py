"""The launcher, run as a user runs it: in a folder of its own, with a real pip.

The pinned set is one tiny wheel: a start takes seconds and needs no network.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """\
import json, os, sys
import trainyard_probe
print(json.dumps({
    "arguments": sys.argv[1:], "cwd": os.getcwd(), "python": sys.executable,
    "data": os.environ["TRAINYARD_DATA_DIR"], "probe": trainyard_probe.VERSION,
}))
"""


def build_wheel(folder, version):
    name = f"trainyard_probe-{version}-py3-none-any.whl"
    info = f"trainyard_probe-{version}.dist-info"
    path = folder / name
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("trainyard_probe.py", f"VERSION = {version!r}\n")
        wheel.writestr(
            f"{info}/METADATA",
            f"Metadata-Version: 2.1\nName: trainyard-probe\nVersion: {version}\n",
        )
        wheel.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n"
            "Tag: py3-none-any\n",
        )
        wheel.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Checkout:
    """A copy of the launcher beside a command line that says how it was started."""

    def __init__(self, folder):
        self.folder = folder / "checkout"
        self.wheels = folder / "wheels"
        self.elsewhere = folder / "elsewhere"
        for made in (self.folder / "requirements", self.wheels, self.elsewhere):
            made.mkdir(parents=True)
        shutil.copy(ROOT / "trainyard", self.folder)
        (self.folder / "cli").mkdir()
        (self.folder / "cli" / "__init__.py").touch()
        (self.folder / "cli" / "__main__.py").write_text(PROGRAM)
        self.pin("1.0")

    def pin(self, version):
        digest = build_wheel(self.wheels, version)
        text = f"trainyard-probe=={version} \\\n    --hash=sha256:{digest}\n"
        for name in ("web", "cpu", "demo", "test"):
            (self.folder / "requirements" / f"{name}.txt").write_text(text)

    def environment(self, **more):
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PIP_", "TRAINYARD_", "VIRTUAL_ENV", "PYTHON"))
        }
        pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels)}
        pip["PIP_CONFIG_FILE"] = os.devnull
        return {**kept, **pip, "CUDA_VISIBLE_DEVICES": "", **more}

    def run(self, *arguments, **environment):
        return subprocess.run(
            [sys.executable, str(self.folder / "trainyard"), *arguments],
            cwd=self.elsewhere,
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def run_patched(self, patch):
        """Runs the launcher in a Python in which something is missing."""
        program = f"import sys, runpy; {patch}; sys.argv = ['trainyard', 'jobs']\n"
        program += f"runpy.run_path({str(self.folder / 'trainyard')!r}, "
        program += "run_name='__main__')"
        return subprocess.run(
            [sys.executable, "-c", program],
            env=self.environment(PATH=str(self.elsewhere)),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def test_first_start_installs_and_the_second_runs_at_once(checkout):
    first = checkout.run("jobs", "--json")
    second = checkout.run("jobs", "--json")

    assert "Installing 1 pinned packages" in first.stderr, first.stderr
    answer = json.loads(first.stdout)  # nothing but the command's own output
    assert answer["arguments"] == ["jobs", "--json"]
    assert answer["cwd"] == str(checkout.elsewhere)
    assert answer["python"] == str(checkout.folder / ".venv" / "bin" / "python")
    assert answer["data"] == str(checkout.folder / "data")
    assert second.stderr == ""
    assert json.loads(second.stdout)["probe"] == "1.0"


def test_what_is_installed_is_compiled(checkout):
    checkout.run("jobs", PYTHONDONTWRITEBYTECODE="1")

    folder = checkout.folder / ".venv" / "lib"
    assert list(folder.rglob("__pycache__/trainyard_probe.*.pyc"))


def test_changed_pins_are_installed(checkout):
    checkout.run("jobs")
    checkout.pin("2.0")

    again = checkout.run("jobs")

    assert json.loads(again.stdout)["probe"] == "2.0"


def test_a_half_finished_installation_is_done_again(checkout):
    checkout.run("jobs")
    (checkout.folder / ".venv" / ".trainyard-installed.json").unlink()
    python = checkout.folder / ".venv" / "bin" / "python"
    python.unlink()

    again = checkout.run("jobs")

    assert "Installing" in again.stderr
    assert json.loads(again.stdout)["probe"] == "1.0"


def test_an_environment_that_only_lacks_pip_keeps_what_it_holds(checkout):
    folder = checkout.folder / ".venv"
    made = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
    subprocess.run(made, check=True)
    kept = folder / "lib" / "kept-by-its-owner"
    kept.touch()

    start = checkout.run("jobs")

    assert json.loads(start.stdout)["probe"] == "1.0"
    assert kept.exists()


def test_two_starts_at_once_install_once(checkout):
    command = [sys.executable, str(checkout.folder / "trainyard"), "jobs"]
    starts = [
        subprocess.Popen(
            command,
            cwd=checkout.elsewhere,
            env=checkout.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]

    answers = [start.communicate(timeout=120) for start in starts]

    assert all(json.loads(out)["probe"] == "1.0" for out, _ in answers)
    installing = [err for _, err in answers if "Installing 1 pinned" in err]
    assert len(installing) == 1


def test_without_a_network_it_says_so_in_a_sentence(checkout):
    lost = checkout.run(
        "jobs",
        PIP_NO_INDEX="0",
        PIP_FIND_LINKS="",
        PIP_INDEX_URL="http://127.0.0.1:9/simple",
        PIP_RETRIES="0",
    )

    assert lost.returncode == 1
    assert "package index could not be reached: check the network" in lost.stderr
    assert "Traceback" not in lost.stderr


def test_an_old_python_is_named(checkout):
    old = checkout.run_patched("sys.version_info = (3, 9, 0, 'final', 0)")

    assert old.returncode == 1
    assert "needs Python 3.11, 3.12 or 3.13, and this is Python 3.9" in old.stderr
    assert "Traceback" not in old.stderr


def test_a_machine_that_the_pins_do_not_fit_is_named(checkout):
    other = checkout.run_patched("import platform; platform.machine = lambda: 'armv7l'")

    assert other.returncode == 1
    assert "built for Linux on x86-64. This machine is Linux on armv7l" in other.stderr
    assert "Traceback" not in other.stderr


def test_a_missing_venv_is_named(checkout):
    bare = checkout.run_patched("sys.modules['ensurepip'] = None")

    assert bare.returncode == 1
    assert "Install python3-venv" in bare.stderr
    assert "Traceback" not in bare.stderr


def test_help_needs_no_installation(checkout):
    shown = checkout.run("--help")

    assert shown.returncode == 0
    assert "./trainyard demo" in shown.stdout
    assert not (checkout.folder / ".venv").exists()


def test_containers_are_a_test_of_their_own(checkout):
    run = checkout.run("test", "--containers", "--keep", "images")

    assert run.returncode != 0
    assert "tests.containers" in run.stderr


def test_tests_compile_our_sources_once(checkout):
    (checkout.folder / "cli" / "browser.py").touch()
    (checkout.folder / "pytest.py").write_text(
        "import sys; print(sys.argv[1:], sys.dont_write_bytecode)"
    )

    run = checkout.run("test", "-n2", PYTHONDONTWRITEBYTECODE="1")

    assert run.stdout == "['-n2'] False\n"


def test_arguments_of_test_reach_pytest(checkout):
    # The set is tiny, so pytest is missing: its own complaint shows what was run.
    (checkout.folder / "cli" / "browser.py").touch()

    run = checkout.run("test", "-k", "nothing")

    assert run.returncode != 0
    assert "No module named pytest" in run.stderr
