"""Tells whether the kernel killed something in our control group for lack of memory.

The guardian reads the count before and after: a child that died of SIGKILL while it
rose ran out of memory, one that died while it stood still was killed by somebody.
"""

from pathlib import Path

CONTROL_GROUPS = Path("/sys/fs/cgroup")


def count_memory_kills() -> int:
    """Counts the kernel's out-of-memory kills in our control group so far.

    Reads both generations of control groups: `memory.events` of version 2,
    `memory.oom_control` of version 1. Zero when neither can be read.
    """
    for path in _memory_files():
        try:
            words = path.read_text().split()
        except OSError:
            continue
        if "oom_kill" in words:
            return int(words[words.index("oom_kill") + 1])
    return 0


def _memory_files() -> list[Path]:
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found: list[Path] = []
    for line in groups:
        _, controllers, group = line.split(":", 2)
        inside = group.lstrip("/")
        if "memory" in controllers.split(","):
            # Inside a container the group's own path is not visible: there the
            # mount itself is the group.
            old = CONTROL_GROUPS / "memory"
            found += [old / inside / "memory.oom_control", old / "memory.oom_control"]
        elif not controllers:
            found += [
                CONTROL_GROUPS / inside / "memory.events",
                CONTROL_GROUPS / "memory.events",
            ]
    return found
