"""Slots: what a machine offers, and that nobody claims beside an orphan."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from shared.errors import UserError
from tests.worker.processes import ROOT, is_running, wait_until
from worker import slots
from worker.slots import GPUDevice, Slot

CPU = Slot("cpu", ("train",))
GPUS = [GPUDevice(0, "GPU-aaa", 81559), GPUDevice(1, "GPU-bbb", 24564)]

# A worker that takes the slot and starts a child which inherits the lock.
WORKER = """
import pathlib, subprocess, sys, time
from worker import slots
gpus = [slots.GPUDevice(0, "GPU-aaa", 1), slots.GPUDevice(1, "GPU-bbb", 1)]
lock = slots.acquire(pathlib.Path(sys.argv[1]), slots.get_slot(sys.argv[3], gpus),
                     grace_seconds=1)
child = subprocess.Popen([sys.executable, "-c", sys.argv[2]],
                         pass_fds=lock.descriptors, start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""
# A worker that is held up between taking the lock and writing its name into it.
SLOW_TO_SIGN = """
import fcntl, json, os, sys, time
descriptor = os.open(sys.argv[1], os.O_RDWR)
fcntl.flock(descriptor, fcntl.LOCK_EX)
print(flush=True)
time.sleep(0.1)
os.pwrite(descriptor, json.dumps({"worker": os.getpid()}).encode(), 0)
time.sleep(600)
"""
POLITE = "import time; time.sleep(600)"
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"


@pytest.fixture
def start_worker(tmp_path):
    started = []

    def start(child, slot="cpu"):
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path), child, slot],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        started.append(process)
        child_pid = int(process.stdout.readline())
        started.append(child_pid)
        return process, child_pid

    yield start
    for each in started:
        if isinstance(each, int):
            slots.end_processes([each], signal.SIGKILL)
        else:
            each.kill()
            each.wait()
            each.stdout.close()


def test_free_slot_is_taken_and_given_back(tmp_path):
    lock = slots.acquire(tmp_path, CPU, grace_seconds=1)

    assert f'"worker": {os.getpid()}' in lock.path.read_text()
    lock.release()
    slots.acquire(tmp_path, CPU, grace_seconds=1).release()


def test_worker_that_has_not_signed_yet_is_no_orphan(tmp_path):
    path = tmp_path / "slot-cpu.lock"
    path.write_text(json.dumps({"worker": 1}))  # of a predecessor that is gone
    slow = subprocess.Popen(
        [sys.executable, "-c", SLOW_TO_SIGN, str(path)], stdout=subprocess.PIPE
    )
    slow.stdout.readline()

    with pytest.raises(slots.SlotBusyError, match=str(slow.pid)):
        slots.acquire(tmp_path, CPU, grace_seconds=1)
    assert is_running(slow.pid)
    slow.kill()
    slow.communicate()


def test_note_of_a_slot_keeps_its_length_and_its_room_on_the_disk(tmp_path):
    lock = slots.acquire(tmp_path, CPU, grace_seconds=1)
    before = lock.path.stat()
    lock.note_processes(guardian=4_194_304)
    after = lock.path.stat()

    assert json.loads(lock.path.read_text())["guardian"] == 4_194_304
    assert (before.st_size, before.st_blocks) == (after.st_size, after.st_blocks)
    lock.release()


def test_lock_names_the_attempt_that_was_asked_for_last(tmp_path):
    first = slots.acquire(tmp_path, CPU, grace_seconds=1)
    assert first.attempt is None
    first.note_attempt("a" * 32)
    first.note_processes(guardian=4_194_304)
    first.release()

    second = slots.acquire(tmp_path, CPU, grace_seconds=1)
    assert second.attempt == "a" * 32
    second.release()


@pytest.mark.parametrize("note", ['{"attempt": 3}', '{"attempt": ["a"]}', "[]", "\0"])
def test_note_that_is_none_names_no_attempt(tmp_path, note):
    lock = slots.acquire(tmp_path, CPU, grace_seconds=1)
    lock.path.write_text(note)
    lock.release()

    again = slots.acquire(tmp_path, CPU, grace_seconds=1)
    assert again.attempt is None
    again.release()


def test_slot_of_a_live_worker_is_left_alone(tmp_path, start_worker):
    worker, child = start_worker(POLITE)

    with pytest.raises(slots.SlotBusyError, match=str(worker.pid)):
        slots.acquire(tmp_path, CPU, grace_seconds=1)
    assert is_running(child)


def test_slot_of_a_frozen_worker_is_left_alone(tmp_path, start_worker):
    worker, child = start_worker(POLITE)
    worker.send_signal(signal.SIGSTOP)

    with pytest.raises(slots.SlotBusyError):
        slots.acquire(tmp_path, CPU, grace_seconds=1)
    assert is_running(child)


@pytest.mark.parametrize("child", [POLITE, STUBBORN])
def test_orphan_of_a_dead_worker_is_ended_before_the_slot_is_taken(
    tmp_path, start_worker, child
):
    worker, orphan = start_worker(child)
    time.sleep(0.2)  # the stubborn one needs to have put its handler in place
    worker.kill()
    worker.wait()
    assert is_running(orphan)

    slots.acquire(tmp_path, CPU, grace_seconds=0.5).release()

    assert not is_running(orphan)


def test_waiting_for_an_orphan_gives_up_when_asked_to_stop(tmp_path, start_worker):
    worker, _ = start_worker(STUBBORN)
    time.sleep(0.2)
    worker.kill()
    worker.wait()

    with pytest.raises(slots.SlotBusyError, match="asked to stop"):
        slots.acquire(tmp_path, CPU, grace_seconds=30, should_stop=lambda: True)


def test_two_slots_do_not_disturb_each_other(tmp_path):
    first = slots.acquire(tmp_path, CPU, grace_seconds=1)
    second = slots.acquire(tmp_path, Slot("ingest", ("ingest",)), grace_seconds=1)

    first.release()
    second.release()


def test_held_slot_names_what_still_holds_it(tmp_path):
    lock = slots.acquire(tmp_path, CPU, grace_seconds=1)
    child = subprocess.Popen([sys.executable, "-c", POLITE], pass_fds=[lock.descriptor])

    wait_until(lambda: lock.list_strays() == [child.pid])
    child.kill()
    child.wait()
    assert lock.list_strays() == []
    lock.release()


@pytest.mark.parametrize(
    ("asked", "name", "devices", "memory_mb"),
    [
        ("cpu", "cpu", "-1", 0),
        ("ingest", "ingest", "-1", 0),
        ("gpu-1", "gpu-GPU-bbb", "GPU-bbb", 24564),
        ("gpu-GPU-aaa", "gpu-GPU-aaa", "GPU-aaa", 81559),
        ("gpu-1, gpu-0", "gpus-1-0", "GPU-bbb,GPU-aaa", 24564),
    ],
)
def test_slot_is_found_by_name(asked, name, devices, memory_mb):
    slot = slots.get_slot(asked, GPUS)

    assert (slot.name, slot.visible_devices, slot.gpu_mem_mb) == (
        name,
        devices,
        memory_mb,
    )


def test_unknown_slot_is_refused_with_what_there_is():
    with pytest.raises(UserError, match=r"gpu-7.*Known: cpu, ingest, gpu-0, gpu-1"):
        slots.get_slot("gpu-7", GPUS)


def test_a_gpu_is_not_in_one_slot_twice():
    with pytest.raises(UserError, match="twice"):
        slots.get_slot("gpu-0,gpu-GPU-aaa", GPUS)


def test_a_gpu_is_not_in_two_slots_at_once(tmp_path):
    both, second = (slots.get_slot(name, GPUS) for name in ("gpu-1,gpu-0", "gpu-1"))
    lock = slots.acquire(tmp_path, both, grace_seconds=1)

    for other in (second, slots.get_slot("gpu-0", GPUS)):
        with pytest.raises(slots.SlotBusyError):
            slots.acquire(tmp_path, other, grace_seconds=1)
    assert len(lock.descriptors) == 2
    lock.release()
    only = slots.acquire(tmp_path, second, grace_seconds=1)
    with pytest.raises(slots.SlotBusyError):
        slots.acquire(tmp_path, both, grace_seconds=1)
    # What it had taken before it met the other it has given back.
    slots.acquire(tmp_path, slots.get_slot("gpu-0", GPUS), grace_seconds=1).release()
    only.release()


def test_orphans_hold_every_gpu_of_their_slot(tmp_path, start_worker):
    worker, orphan = start_worker(POLITE, "gpu-0,gpu-1")
    worker.kill()
    worker.wait()

    lock = slots.acquire(tmp_path, slots.get_slot("gpu-1", GPUS), grace_seconds=2)

    assert not is_running(orphan)
    lock.release()


def test_a_machine_without_a_driver_has_no_gpus():
    assert slots.list_gpus("no-such-program") == []


def test_gpus_are_those_that_the_driver_names(tmp_path):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        textwrap.dedent("""\
            #!/bin/sh
            echo "0, GPU-aaa, 81559"
            echo "1, GPU-bbb, 24564"
            """)
    )
    tool.chmod(0o755)

    assert slots.list_gpus(str(tool)) == GPUS


def test_driver_that_lost_a_gpu_names_the_others(tmp_path):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        textwrap.dedent("""\
            #!/bin/sh
            echo "Unable to determine the device handle for GPU0: Unknown Error"
            echo "1, GPU-bbb, 24564"
            exit 15
            """)
    )
    tool.chmod(0o755)

    assert slots.ask_driver(str(tool)) == GPUS[1:]


def test_driver_that_does_not_answer_is_not_taken_at_its_word(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nexec sleep 60\n")
    tool.chmod(0o755)
    monkeypatch.setattr(slots, "NVIDIA_SMI_TIMEOUT_SECONDS", 0.2)

    assert slots.ask_driver(str(tool)) is None
    assert slots.ask_driver("no-such-program") is None
