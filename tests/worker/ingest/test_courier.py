"""What is fetched is counted, held to limits, and told of while it comes."""

import os

import pytest

from shared.errors import UserError
from shared.source_addresses import parse_address
from tests.worker.ingest.test_remote import BODY, fetch, make_courier


def test_how_much_of_how_much_has_come_is_told(tmp_path, serve):
    server = serve({"/a.zip": BODY})
    server.faults["/a.zip"] = ["slow"]
    told = []
    courier = make_courier(tmp_path, server, tell=lambda *how_far: told.append(how_far))

    courier.fetch_whole(parse_address(f"{server.url}/a.zip"))

    assert {unit for _, _, unit, _ in told} == {"bytes"}
    assert told[-1][1] == len(BODY)


def test_a_large_file_among_others_is_seen_to_come(tmp_path, serve):
    """A job that tells nothing new for a quarter of an hour counts as stalled."""
    server = serve({"/large.png": os.urandom(30)})
    server.faults["/large.png"] = ["slow"]
    told = []
    courier = make_courier(
        tmp_path, server, stall_seconds=30,
        tell=lambda *how_far: told.append(how_far),
    )  # fmt: skip

    list(courier.fetch_all([("1", parse_address(f"{server.url}/large.png"))], 1))

    waiting = [come for done, _, _, come in told if done == 0]
    assert len(set(waiting)) > 1
    assert told[-1] == (1, 1, "files", 30)


def test_too_large_a_file_is_not_even_begun(tmp_path, serve):
    server = serve({"/a.zip": BODY})

    with pytest.raises(UserError, match=r"larger than 97\.7 KiB"):
        fetch(tmp_path, server, limits={"max_unpacked_bytes": 100_000})


def test_all_files_together_are_held_to_the_limits(tmp_path, serve):
    server = serve({f"/{at}.png": BODY for at in range(9)})
    wanted = [(str(at), parse_address(f"{server.url}/{at}.png")) for at in range(9)]

    few = make_courier(tmp_path, server, limits={"max_files": 5})
    with pytest.raises(UserError, match="more than 5 files"):
        list(few.fetch_all(wanted, 9))
    small = make_courier(tmp_path, server, limits={"max_unpacked_bytes": 1_000_000})
    with pytest.raises(UserError, match="larger than"):
        list(small.fetch_all(wanted, 9))
