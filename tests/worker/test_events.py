import json
import os
import subprocess
import sys

SPEAK = """
import sys
from worker import events
events.take_over_stdout()
print("a framework's chatter")
{statements}
"""


def speak(statements, *, pass_fd=False):
    command = [sys.executable, "-c", SPEAK.format(statements=statements)]
    if not pass_fd:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()
    read, write = os.pipe()
    environment = os.environ | {"TRAINYARD_EVENTS_FD": str(write)}
    subprocess.run(
        command, env=environment, pass_fds=[write], check=True, capture_output=True
    )
    os.close(write)
    with os.fdopen(read) as stream:
        return stream.read().splitlines()


def test_standard_output_holds_events_and_nothing_else():
    lines = speak("events.emit('note', level='info', message='hello')")

    (event,) = map(json.loads, lines)
    assert event["event"] == "note"
    assert event["message"] == "hello"
    assert event["at"] > 1e9


def test_events_go_to_the_descriptor_that_the_parent_names():
    lines = speak("events.phase('frozen')", pass_fd=True)

    assert [json.loads(line)["phase"] for line in lines] == ["frozen"]


def test_numbers_that_are_not_finite_become_null():
    (line,) = speak("events.emit('metrics', values={'loss': float('nan'), 'a': 1.5})")

    assert json.loads(line)["values"] == {"loss": None, "a": 1.5}


def test_progress_is_thinned_but_its_end_is_always_told():
    lines = speak(
        "for done in range(1001):\n    events.progress('frozen', done, 1000, 'steps')"
    )

    done = [json.loads(line)["done"] for line in lines]
    assert done[0] == 0
    assert done[-1] == 1000
    assert len(done) < 20


def test_a_reader_that_left_does_not_end_the_speaker():
    read, write = os.pipe()
    os.close(read)
    environment = os.environ | {"TRAINYARD_EVENTS_FD": str(write)}
    code = SPEAK.format(statements="events.phase('frozen'); sys.exit(7)")

    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, pass_fds=[write], check=False
    )
    os.close(write)

    assert done.returncode == 7
