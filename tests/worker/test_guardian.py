"""The guardian against real processes: whoever dies, nothing is left running."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from tests.worker.processes import ROOT, is_running, seconds_until_gone, wait_until
from worker import machine_memory
from worker.guardian import Guard, describe

# Each child writes its own process id, and those of what it started, into the file
# named by its argument, then does what its name says.
POLITE = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
signal.signal(signal.SIGUSR1, lambda *_: print("dumped", flush=True))
signal.signal(signal.SIGUSR2, lambda *_: print("finishing", flush=True))
pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
while True: time.sleep(0.05)
"""
STUBBORN = POLITE.replace("lambda *_: sys.exit(75)", "signal.SIG_IGN", 1)
DAEMONISING = """
import os, pathlib, sys, time
first = os.fork()
if first == 0:
    os.setsid()
    daemon = os.fork()
    if daemon == 0:
        while True: time.sleep(0.05)
    pathlib.Path(sys.argv[1]).write_text(str(daemon))
    os._exit(0)
os.waitpid(first, 0)
while True: time.sleep(0.05)
"""

# A supervisor that confirms the lease for ever and can be killed or frozen.
SUPERVISOR = """
import os, subprocess, sys, time
lease, grace, script, note = sys.argv[1:]
control_read, control_write = os.pipe()
status_read, status_write = os.pipe()
guardian = subprocess.Popen(
    [sys.executable, "-m", "worker.guardian", "--control-fd", str(control_read),
     "--status-fd", str(status_write), "--lease-seconds", lease,
     "--grace-seconds", grace, "--", sys.executable, "-c", script, note],
    pass_fds=[control_read, status_write], start_new_session=True)
os.close(control_read); os.close(status_write)
print(guardian.pid, flush=True)
while True:
    os.write(control_write, f"L{lease}\\n".encode())
    time.sleep(0.05)
"""


def guardian_command(control_fd, status_fd, lease, grace, command):
    options = (
        f"--control-fd {control_fd} --status-fd {status_fd} "
        f"--lease-seconds {lease} --grace-seconds {grace}"
    )
    return [sys.executable, "-m", "worker.guardian", *options.split(), "--", *command]


class Guarded:
    """A guardian, the pipes to it, and where its child notes a process id."""

    def __init__(self, script, tmp_path, *, lease=30.0, grace=0.5):
        control_read, self.control = os.pipe()
        self.status, status_write = os.pipe()
        self.note = tmp_path / "pid"
        self.output = tmp_path / "output"
        command = [sys.executable, "-c", script, str(self.note)]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                guardian_command(control_read, status_write, lease, grace, command),
                pass_fds=[control_read, status_write],
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd=ROOT,
            )
        os.close(control_read)
        os.close(status_write)

    def say(self, line):
        os.write(self.control, f"{line}\n".encode())

    def report(self, timeout=10):
        self.process.wait(timeout)
        return json.loads(os.read(self.status, 4096))


@pytest.fixture
def guarded(tmp_path):
    started = []

    def start(script, **timers):
        started.append(Guarded(script, tmp_path, **timers))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()
        for descriptor in (each.control, each.status):
            with contextlib.suppress(OSError):
                os.close(descriptor)


@pytest.fixture
def supervised(tmp_path):
    note = tmp_path / "pid"
    started = []

    def start(script, *, lease=30.0, grace=0.5):
        arguments = [str(lease), str(grace), script, str(note)]
        process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR, *arguments],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        started.append(process)
        return process, int(process.stdout.readline()), read_pid(note)

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def read_pid(note, timeout=10):
    wait_until(lambda: note.exists() and note.read_text(), timeout)
    return int(note.read_text())


def test_reports_the_exit_code(guarded):
    assert guarded("raise SystemExit(64)").report() == {
        "exit_code": 64,
        "signal": None,
        "oom": False,
    }


def test_reports_the_signal_that_killed_the_child(guarded):
    guard = guarded(POLITE)
    os.kill(read_pid(guard.note), signal.SIGKILL)

    assert guard.report() == {"exit_code": None, "signal": 9, "oom": False}


def test_stop_lets_the_child_save_and_leave(guarded):
    guard = guarded(POLITE)
    read_pid(guard.note)
    guard.say("S")

    assert guard.report()["exit_code"] == 75


def test_stop_kills_a_stubborn_child_after_the_grace_period(guarded):
    guard = guarded(STUBBORN, grace=0.3)
    read_pid(guard.note)
    guard.say("S")

    assert guard.report()["signal"] == 9


def test_stop_reaches_a_frozen_child(guarded):
    guard = guarded(POLITE)
    os.kill(read_pid(guard.note), signal.SIGSTOP)
    guard.say("S")

    assert guard.report()["exit_code"] == 75


def test_confirmed_lease_moves_the_deadline(guarded):
    guard = guarded(POLITE, lease=0.6)
    child = read_pid(guard.note)
    for _ in range(10):
        guard.say("L0.6")
        time.sleep(0.1)

    assert is_running(child)
    assert guard.report()["exit_code"] == 75


def test_a_later_confirmation_does_not_undo_a_stop(guarded):
    guard = guarded(STUBBORN, grace=0.3)
    read_pid(guard.note)
    guard.say("S\nL600")

    assert guard.report()["signal"] == 9


def test_garbage_on_the_control_pipe_is_ignored(guarded):
    guard = guarded(POLITE)
    child = read_pid(guard.note)
    guard.say("Lx\n\nhello\n" + "x" * 5000)
    time.sleep(0.2)

    assert is_running(child)
    guard.say("\nS")
    assert guard.report()["exit_code"] == 75


def test_user_signals_are_passed_on(guarded):
    guard = guarded(POLITE)
    read_pid(guard.note)
    guard.say("D")
    wait_until(lambda: "dumped" in guard.output.read_text())
    guard.say("F")
    wait_until(lambda: "finishing" in guard.output.read_text())


def test_user_signals_do_not_kill_a_child_that_knows_them_not(guarded):
    guard = guarded("import time; time.sleep(0.5)")
    guard.say("D")
    guard.say("F")

    assert guard.report()["exit_code"] == 0


def test_sigterm_to_the_guardian_itself_is_ignored(guarded):
    guard = guarded(POLITE)
    child = read_pid(guard.note)
    guard.process.terminate()
    time.sleep(0.3)

    assert is_running(child)


def test_child_goes_when_the_supervisor_is_killed(supervised):
    supervisor, _, child = supervised(POLITE)
    supervisor.kill()

    assert seconds_until_gone(child) < 0.5


def test_stubborn_child_goes_when_the_supervisor_is_killed(supervised):
    supervisor, guardian, child = supervised(STUBBORN, grace=0.5)
    supervisor.kill()

    assert seconds_until_gone(child) < 2
    assert seconds_until_gone(guardian) < 1


def test_child_goes_at_the_deadline_when_the_supervisor_is_frozen(supervised):
    supervisor, _, child = supervised(POLITE, lease=1.0)
    supervisor.send_signal(signal.SIGSTOP)
    time.sleep(0.5)

    assert is_running(child)
    assert seconds_until_gone(child) < 2


def test_child_goes_when_the_guardian_is_killed(guarded):
    guard = guarded(STUBBORN)
    child = read_pid(guard.note)
    guard.process.kill()

    assert seconds_until_gone(child) < 0.5


def test_daemonised_grandchild_goes_with_the_child(guarded):
    guard = guarded(DAEMONISING)
    daemon = read_pid(guard.note)
    guard.say("S")

    assert guard.report()["signal"] == 15
    assert not is_running(daemon)


def test_daemonised_grandchild_goes_when_the_supervisor_is_killed(supervised):
    supervisor, _, daemon = supervised(DAEMONISING)
    supervisor.kill()

    assert seconds_until_gone(daemon) < 2


def test_command_that_does_not_exist_is_reported(guarded, tmp_path):
    control_read, control = os.pipe()
    status, status_write = os.pipe()
    process = subprocess.run(
        guardian_command(control_read, status_write, 5, 1, ["/no/such/program"]),
        pass_fds=[control_read, status_write],
        capture_output=True,
        check=True,
        cwd=ROOT,
    )

    assert json.loads(os.read(status, 4096))["exit_code"] == 127
    assert b"cannot start /no/such/program" in process.stderr
    for descriptor in (control_read, control, status, status_write):
        os.close(descriptor)


@pytest.mark.parametrize(
    ("status", "out_of_memory", "expected"),
    [
        (64 << 8, True, {"exit_code": 64, "signal": None, "oom": False}),
        (9, True, {"exit_code": None, "signal": 9, "oom": True}),
        (9, False, {"exit_code": None, "signal": 9, "oom": False}),
        (11, True, {"exit_code": None, "signal": 11, "oom": False}),
    ],
)
def test_only_a_kill_while_the_counter_rose_is_out_of_memory(
    status, out_of_memory, expected
):
    assert describe(status, out_of_memory=out_of_memory) == expected


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
        ("memory.events", "low 0\nhigh 0\nmax 7\noom 4\noom_kill 3\n"),
    ],
)
def test_memory_kills_are_read_from_either_generation(
    tmp_path, monkeypatch, file, text
):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    monkeypatch.setattr(machine_memory, "CONTROL_GROUPS", tmp_path)

    assert machine_memory.count_memory_kills() == 3


def test_a_memory_kill_while_a_child_waited_for_its_job_is_not_the_jobs_own(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(machine_memory, "CONTROL_GROUPS", tmp_path)
    counter = tmp_path / "memory.events"
    counter.write_text("oom_kill 3")
    control, speak = os.pipe()
    child = subprocess.Popen(["sleep", "30"])
    guard = Guard(child.pid, 30, 1, memory_kills=3)
    counter.write_text("oom_kill 4")
    assert guard.saw_memory_kill

    os.write(speak, b"J\n")
    threading.Timer(0.3, child.kill).start()
    guard.watch(control)

    assert not guard.saw_memory_kill
    counter.write_text("oom_kill 5")
    assert guard.saw_memory_kill


def test_memory_kills_are_zero_where_nothing_can_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(machine_memory, "CONTROL_GROUPS", tmp_path)

    assert machine_memory.count_memory_kills() == 0
