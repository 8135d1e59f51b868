"""How tests wait for what other threads and processes do."""

import time

SHORTEST_PAUSE_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 0.2
# A look may be a request, or a walk through all processes: on a machine that is busy
# with what is waited for, looking takes a tenth of one core.
PAUSE_PER_LOOK = 9


def wait_until(condition, seconds=20, what="the condition"):
    """Polls `condition` until it returns something true, and returns that."""
    end = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if answer := condition():
            return answer
        looked = time.monotonic()
        if looked > end:
            raise TimeoutError(f"{what} did not come true within {seconds} s")
        pause = max(SHORTEST_PAUSE_SECONDS, PAUSE_PER_LOOK * (looked - began))
        time.sleep(min(LONGEST_PAUSE_SECONDS, pause))
