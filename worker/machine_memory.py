"""The memory of this machine, or of the control group that we were put in.

How much there is, and how often the kernel killed something for lack of it. The
guardian reads that count before and after: a child that died of SIGKILL while it rose
ran out of memory, one that died while it stood still was killed by somebody.
"""

from collections.abc import Iterator
from pathlib import Path

import psutil

CONTROL_GROUPS = Path("/sys/fs/cgroup")


def find_memory_limit() -> int:
    """Returns how many bytes the processes of our control group may use together.

    The least of the machine's memory and the limits of our group and of those around
    it, in both generations of control groups.
    """
    limits = [psutil.virtual_memory().total]
    for path in _list_files("memory.max", "memory.limit_in_bytes"):
        try:
            limits.append(int(path.read_text()))
        except (OSError, ValueError):  # not there, or "max": no limit
            continue
    return min(limits)


def count_memory_kills() -> int:
    """Counts the kernel's out-of-memory kills in our control group so far.

    Reads both generations of control groups: `memory.events` of version 2,
    `memory.oom_control` of version 1. Zero when neither can be read.
    """
    for path in _list_files("memory.events", "memory.oom_control"):
        try:
            words = path.read_text().split()
        except OSError:
            continue
        if "oom_kill" in words:
            return int(words[words.index("oom_kill") + 1])
    return 0


def _list_files(new_name: str, old_name: str) -> list[Path]:
    """Lists the files of our group, then those of the groups around it."""
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found: list[Path] = []
    for line in groups:
        _, controllers, group = line.split(":", 2)
        if "memory" in controllers.split(","):
            found += _upwards(CONTROL_GROUPS / "memory", group, old_name)
        elif not controllers:
            found += _upwards(CONTROL_GROUPS, group, new_name)
    return found


def _upwards(root: Path, group: str, name: str) -> Iterator[Path]:
    # Inside a container the group's own path is not visible: there the mount itself is
    # the group.
    inside = Path(group.lstrip("/"))
    for folder in (inside, *inside.parents):
        yield root / folder / name
