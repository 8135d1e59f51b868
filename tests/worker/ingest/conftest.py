"""Fixtures of several tests of reading uploads."""

import pytest

from tests.file_server import FileServer


@pytest.fixture
def serve():
    """Starts servers of files."""
    servers = []

    def start(files, **options):
        servers.append(FileServer(files, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
