"""A network of hosts on one machine: namespaces, wires to a bridge, an address each.

Every name begins with a prefix and the number of the process that made it, so that what
a killed test run has left behind is found and removed by the next one.
"""

import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess

import psutil

from cli import system_packages
from tests.hosts.wire import Wire, open_interface

PREFIX = "tyn"  # short: an interface's name has 15 characters at most
NAMES = re.compile(rf"\b{PREFIX}(\d+)-\w+")
CLONE_NEWNET = 0x40000000
NETWORKS = 256  # 10.210.0.0/24 and so on
UPLINK = "eth0"


class Network:
    """A bridge that this machine stands at, too; `close` removes all of it."""

    def __init__(self):
        remove_leftovers()
        self._prefix = f"{PREFIX}{os.getpid()}"
        self.bridge = self.name("br")
        self._subnet = _find_free_subnet()
        self.address = f"{self._subnet}.1"
        self._lines = []
        _ip("link", "add", self.bridge, "type", "bridge")
        _ip("address", "add", f"{self.address}/24", "dev", self.bridge)
        _ip("link", "set", self.bridge, "up")

    def name(self, part):
        """The name of something of this network's."""
        return f"{self._prefix}-{part}"

    def add_line(self):
        """Returns the line to one more host, which is empty yet."""
        number = len(self._lines) + 1
        line = Line(self, number, f"{self._subnet}.{10 + number}")
        self._lines.append(line)
        return line

    def close(self):
        """Removes bridge, wires and namespaces; what still runs there is killed."""
        for line in self._lines:
            line.remove()
        remove_leftovers()


class Line:
    """The way of one host to the bridge, and the namespace that it leads to.

    Args:
        network: Whose.
        number: Of the host, from 1.
        address: Of the host.
    """

    def __init__(self, network, number, address):
        self.address = address
        self.namespace = network.name(f"h{number}")
        self._port, far_end = network.name(f"p{number}"), network.name(f"e{number}")
        _ip("netns", "add", self.namespace)
        self.wire = Wire(self._port, far_end)
        _ip("link", "set", self._port, "master", network.bridge, "up")
        _ip("link", "set", far_end, "netns", self.namespace)
        for words in (
            ["link", "set", far_end, "name", UPLINK],
            ["address", "add", f"{address}/24", "dev", UPLINK],
            ["link", "set", UPLINK, "up"],
            ["link", "set", "lo", "up"],
        ):
            _ip("-n", self.namespace, *words)

    def enter(self):
        """Moves the process that calls it into the namespace, for good."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/run/netns/{self.namespace}") as namespace:  # noqa: PTH123
            if libc.setns(namespace.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"cannot enter {self.namespace}")

    def cut(self):
        """Takes the link down: nothing comes through, and nobody is told."""
        _ip("link", "set", self._port, "down")

    def mend(self):
        """Brings the link up again."""
        _ip("link", "set", self._port, "up")

    def remove(self):
        """Kills all that runs in the namespace, at once, and removes it."""
        if self.namespace in _list_namespaces():
            _remove_namespace(self.namespace)
        self.wire.close()


def find_obstacle():
    """Returns what keeps us from making networks here, in a sentence, or None."""
    if os.geteuid() != 0:
        return "Only root may make network namespaces."
    if not shutil.which("ip"):
        system_packages.install(["iproute2"], "the tests with several hosts")
    if not shutil.which("ip"):
        return "There is no `ip`: the package `iproute2` is needed."
    probe = f"{PREFIX}{os.getpid()}-try"
    try:
        _ip("netns", "add", probe)
        _ip("netns", "delete", probe)
        os.close(open_interface(probe))
    except OSError as error:
        return f"This machine permits no network namespaces: {error}"
    return None


def remove_leftovers():
    """Removes what is left of networks whose process has ended, or was this one."""
    links = " ".join(link["ifname"] for link in _show("link"))
    for namespace in filter(_is_left_over, _list_namespaces()):
        _remove_namespace(namespace)
    for match in NAMES.finditer(links):
        if _is_left_over(match[0]):
            with contextlib.suppress(OSError):  # it went with its other end
                _ip("link", "delete", match[0])


def _is_left_over(name):
    match = NAMES.fullmatch(name)
    if match is None:
        return False
    pid = int(match[1])
    return pid == os.getpid() or not psutil.pid_exists(pid)


def _remove_namespace(namespace):
    # Stopped first: whoever saw another die could still act on it.
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in _ip("netns", "pids", namespace).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), number)
    _ip("netns", "delete", namespace)


def _list_namespaces():
    return [line.split()[0] for line in _ip("netns", "list").splitlines()]


def _find_free_subnet():
    """The first three numbers of addresses that nobody on this machine has."""
    known = {
        address["local"].rpartition(".")[0]
        for link in _show("address")
        for address in link["addr_info"]
    }
    numbers = ((os.getpid() + turn) % NETWORKS for turn in range(NETWORKS))
    return next(s for n in numbers if (s := f"10.210.{n}") not in known)


def _show(what):
    return json.loads(_ip("-json", what, "show"))


def _ip(*words):
    """Runs `ip`; returns what it printed.

    Raises:
        OSError: With its complaint.
    """
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout
