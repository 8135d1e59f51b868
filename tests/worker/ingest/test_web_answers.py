"""What an answer of a web server means: whether it passes, and how long to wait."""

import pytest

from shared.source_addresses import parse_address
from tests.worker.ingest.test_remote import HERE, QUICK
from worker.ingest.remote.answers import FetchError
from worker.ingest.remote.rules import parse_rules
from worker.ingest.remote.web import WebOpener


def refuse(server, status):
    """What a fetch meets whose server answers so, and asks for seven seconds."""
    server.faults["/a.png"] = [(status, {"retry-after": "7"})]
    rules = {"allowed": [f"{server.url}/"], "networks": HERE, **QUICK}
    opener = WebOpener(parse_rules(rules))
    address = parse_address(f"{server.url}/a.png")
    with (
        pytest.raises(FetchError) as caught,
        opener.open(address, offset=0, tag=None),
    ):
        pass
    opener.close()
    return caught.value


@pytest.mark.parametrize("status", [429, 503, 520, 522, 526, 599])
def test_a_server_that_is_busy_or_out_of_order_is_asked_again(serve, status):
    error = refuse(serve({}), status)

    assert (error.passes, error.wait_seconds) == (True, 7)
    assert str(error).startswith(f"Its server answers {status}")


@pytest.mark.parametrize("status", [404, 410, 418, 450, 600, 999])
def test_an_answer_that_will_stay_the_same_is_believed(serve, status):
    error = refuse(serve({}), status)

    assert not error.passes
    assert str(error).startswith(f"Its server answers {status}")
