"""What an engine does to the network of its machine, undone when it has gone.

An engine leaves its bridge and its rules behind, and, where it was the first to forward
packets, the policy to forward nobody else's.
"""

import contextlib
import shutil
import subprocess
from pathlib import Path

from tests.containers.commands import CommandError, call

BRIDGE = "docker0"
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


@contextlib.contextmanager
def restored_network():
    """Leaves bridge, rules and forwarding as they were before the block."""
    had_bridge = _has_bridge()
    forwarded = FORWARDING.read_text()
    policy = _read_policy()
    try:
        yield
    finally:
        if not had_bridge:  # else somebody else's engine has been here, and needs them
            _remove_rules(policy)
            if _has_bridge():
                call(["ip", "link", "delete", BRIDGE])
            FORWARDING.write_text(forwarded)


def _has_bridge():
    return Path(f"/sys/class/net/{BRIDGE}").exists()


def _read_policy():
    if not shutil.which("iptables"):
        return "ACCEPT"
    try:
        return call(["iptables", "-S", "FORWARD"]).split()[2]
    except CommandError:
        return "ACCEPT"


def _remove_rules(policy):
    """Loads the rules that are there once more, without those that name Docker."""
    lines = [
        f":FORWARD {policy} [0:0]" if line.startswith(":FORWARD") else line
        for line in call(["iptables-save"]).splitlines()
        if "docker" not in line.lower()
    ]
    subprocess.run(
        ["iptables-restore"], input="\n".join([*lines, ""]), text=True, check=True
    )
