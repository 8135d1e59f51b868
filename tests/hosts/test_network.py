"""The network of the tests with several hosts does to hosts what it is told to."""

import contextlib
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.hosts import network as networks
from tests.worker.processes import ROOT

ANSWER = b"x" * 40_000
LEAVE_BEHIND = """
import os, signal, subprocess
from tests.hosts.network import Network
line = Network().add_line()
subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL, preexec_fn=line.enter)
print(line.namespace, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def _permission():
    if obstacle := networks.find_obstacle():
        pytest.skip(obstacle)


@pytest.fixture
def network():
    network = networks.Network()
    yield network
    network.close()


@pytest.fixture
def service(network):
    """A port on the bridge that answers whoever connects."""
    with socket.create_server((network.address, 0)) as server:
        threading.Thread(target=answer_all, args=(server,), daemon=True).start()
        yield server.getsockname()
        server.shutdown(socket.SHUT_RDWR)


def answer_all(server):
    with contextlib.suppress(OSError):
        while True:
            client, _ = server.accept()
            with client:
                client.sendall(ANSWER)


def ask(line, service, timeout=5):
    """Returns what the service answers to that host, and the seconds it took."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(line.enter).result()
        return thread.submit(_ask, service, timeout).result()


def _ask(service, timeout):
    began = time.monotonic()
    with socket.create_connection(service, timeout) as connection:
        address = connection.getsockname()[0]
        with connection.makefile("rb") as stream:
            assert stream.read() == ANSWER
    return address, time.monotonic() - began


def test_each_host_has_an_address_of_its_own(network, service):
    lines = [network.add_line() for _ in range(3)]

    addresses = [ask(line, service)[0] for line in lines]

    assert addresses == [line.address for line in lines]
    assert len({*addresses, network.address}) == 4


def test_link_that_is_cut_lets_nothing_through_until_it_is_mended(network, service):
    line = network.add_line()
    line.cut()
    with pytest.raises(TimeoutError):
        ask(line, service, timeout=0.5)
    line.mend()

    assert ask(line, service)[0] == line.address


def test_slow_wire_is_late_and_loses_frames_and_nothing_that_was_sent(network, service):
    line = network.add_line()
    line.wire.slow_down(delay_seconds=0.05, jitter_seconds=0.05, loss=0.1)

    answers = [ask(line, service, timeout=30) for _ in range(3)]

    assert min(seconds for _, seconds in answers) > 0.2  # two round trips
    assert line.wire.lost > 0


def test_what_a_killed_run_leaves_behind_is_removed_by_the_next(network):
    command = [sys.executable, "-c", LEAVE_BEHIND]
    killed = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    namespace = killed.stdout.strip()
    assert namespace in networks._list_namespaces()

    network.close()
    networks.Network().close()

    assert namespace not in networks._list_namespaces()
    assert not any(namespace[:-3] in link["ifname"] for link in networks._show("link"))
