"""An installation of several hosts: each worker on one with an address of its own.

Postgres and the broker are met at the bridge, with a password; web and reconciler stand
beside them. All that the hosts share with those is the folder of shared storage.
"""

import ctypes
import socket
from concurrent.futures import ThreadPoolExecutor

from tests.chaos.arena import POSTGRES, Arena
from tests.chaos.hosts import Host
from tests.hosts.writers import watch_writers
from tests.services import Broker, Door, PostgresServer, die_with_parent

HOSTS = 3
CLONE_NEWUTS = 0x04000000
TIMERS = {
    # A frame that gets lost three times in a row must not cost the slow host its lease.
    "lease_seconds": 4,
    "unconfirmed_lease_seconds": 6,
    "progress_timeout_seconds": 30,
}


class Site(Arena):
    """An arena whose hosts are met over a network.

    Args:
        folder: Where everything of it lies.
        network: Without hosts yet.
    """

    def __init__(self, folder, network):
        self.network = network
        super().__init__(folder, POSTGRES, **TIMERS)

    def host_at(self, address):
        """The host with this address; None when it is nobody's."""
        return next((h for h in self.hosts if h.line.address == address), None)

    def _build_broker(self):
        return Broker(Door.open(self.network.address))

    def _build_postgres(self):
        return PostgresServer(Door.open(self.network.address))

    def _start_database(self):
        super()._start_database()
        watch_writers(self.database)

    def _build_hosts(self):
        return [
            Machine(f"host-{number}", self, self.network.add_line())
            for number in range(1, HOSTS + 1)
        ]

    def _url(self, _proxy):
        return self.postgres.url(self.name)

    def _proxy(self, _party):
        return None


class Machine(Host):
    """A host with a name, an address, a data folder and a queue of its own.

    Args:
        name: Of the host, and of a queue that it alone serves.
        site: Where it stands.
        line: To the bridge.
    """

    def __init__(self, name, site, line):
        folder = site.folder / name
        super().__init__(
            name, site, TRAINYARD_DATA_DIR=str(folder), TRAINYARD_LOG_JSON="true"
        )
        self.line, self.runtime = line, folder
        self.program = ("tests.worker.toy_worker", "--queues", f"default,{name}")

    def enter(self):
        die_with_parent()
        self.line.enter()
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUTS):
            raise OSError(ctypes.get_errno(), "cannot have a host name of its own")
        socket.sethostname(self.name)

    def run(self, function, *arguments):
        """Returns what a function returns that meets the world from this address."""
        # A namespace is a thread's own, and so are the connections that it opens.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(self.line.enter).result()
            return thread.submit(function, *arguments).result()

    def cut_power(self):
        """Kills every process of the host at once, and takes it off the network."""
        self._arena.log.add("nemesis", "cut_power", host=self.name)
        self.line.remove()
        self.process.wait()
        self.process = None
