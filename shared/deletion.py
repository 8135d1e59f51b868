"""What a deletion takes with it: told first, done after."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class DeletionPlan:
    """What goes when something is deleted, for the user to confirm.

    Args:
        title: What is to be deleted, in the user's words.
        goes: Sentences about what goes with it.
        stays: Sentences about what one might think goes, and does not.
        counts: The same in numbers, by the name of what is counted.
        size_bytes: Disk space that comes back, as far as the records know.
        paths: Files and folders to remove after the commit, below shared storage.
        blocked: Why it cannot be deleted now, and what to do first; None when it can.
    """

    title: str
    goes: list[str] = field(default_factory=list)
    stays: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    size_bytes: int = 0
    paths: list[str] = field(default_factory=list)
    blocked: str | None = None


def count_of(number: int, singular: str, plural: str | None = None) -> str:
    """Returns `1 job` or `3 jobs`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"
