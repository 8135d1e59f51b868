"""One running platform for all tests of a process that need one."""

import pytest

from tests.end_to_end.running_platform import RunningPlatform


@pytest.fixture(scope="session")
def platform(tmp_path_factory):
    """A platform that was started by `up` and is stopped like it."""
    running = RunningPlatform(tmp_path_factory.mktemp("platform"))
    try:
        yield running.start()
    finally:
        running.stop()
