"""A clock for what asks one."""


class Clock:
    """Monotonic seconds that pass when told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now
