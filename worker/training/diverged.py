"""The one thing that a training says of itself by an exception of its own."""


class Diverged(Exception):  # noqa: N818 - control flow: an earlier state may do
    """The loss is no longer a number."""
