"""Child processes are started again, stopped in time, and never left behind."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from cli import children
from cli.children import Child

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        " print('ready', flush=True); time.sleep(600)"
    ),
]


@pytest.fixture
def make_child(tmp_path):
    made = []

    def make(command, name="child"):
        child = Child(name, command, dict(os.environ), tmp_path / "logs")
        made.append(child)
        return child

    yield make
    children.stop_all(made, within_seconds=0)


def wait_for(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def test_a_killed_child_is_named_and_started_again(make_child):
    child = make_child(SLEEPER)
    child.start()
    first = child.process.pid
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: not child.running)

    sentence = child.restart_if_dead()
    wait_for(lambda: child.restart_if_dead() is None and child.running)

    assert "signal SIGKILL" in sentence
    assert child.process.pid != first
    assert child.restarts == 1


def test_a_child_that_falls_over_at_once_is_tried_ever_more_slowly(make_child):
    child = make_child([sys.executable, "-c", "print('no luck'); raise SystemExit(3)"])
    child.start()
    pauses, died_at = [], 0.0

    while len(pauses) < 3:
        before = child.restarts
        if child.restart_if_dead():
            died_at = time.monotonic()
        elif child.restarts > before:
            pauses.append(time.monotonic() - died_at)
        time.sleep(0.005)

    assert pauses == pytest.approx([0.5, 1.0, 2.0], abs=0.3)
    assert "no luck" in child.tail()


def test_stop_kills_what_does_not_listen(make_child):
    listening, stubborn = make_child(SLEEPER, "one"), make_child(STUBBORN, "two")
    for child in (listening, stubborn):
        child.start()
    wait_for(lambda: "ready" in stubborn.tail())
    began = time.monotonic()

    children.stop_all([listening, stubborn], within_seconds=1)

    assert time.monotonic() - began < 3
    assert listening.process.returncode == -signal.SIGTERM
    assert stubborn.process.returncode == -signal.SIGKILL


def test_children_end_when_their_parent_is_killed(tmp_path):
    program = (
        "import os, time; from pathlib import Path; from cli.children import Child\n"
        f"child = Child('c', {SLEEPER!r}, dict(os.environ), Path({str(tmp_path)!r}))\n"
        "child.start(); print(child.process.pid, flush=True); time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    )
    pid = int(parent.stdout.readline())

    parent.kill()
    parent.wait()

    wait_for(lambda: not psutil.pid_exists(pid))


def test_leftovers_of_a_killed_parent_are_ended(make_child, tmp_path):
    child = make_child(STUBBORN)
    child.start()
    wait_for(lambda: "ready" in child.tail())
    record = tmp_path / "children.json"
    children.write_record([child], record)

    ended = children.stop_leftovers(record, within_seconds=0.5)

    assert ended == 1
    assert not psutil.pid_exists(child.process.pid)
    assert not record.exists()


def test_another_process_with_the_same_number_is_left_alone(make_child, tmp_path):
    child = make_child(SLEEPER)
    child.start()
    record = tmp_path / "children.json"
    record.write_text(f'[{{"pid": {child.process.pid}, "created": 12345.0}}]')

    ended = children.stop_leftovers(record, within_seconds=0.5)

    assert ended == 0
    assert child.running
